// SPDX-License-Identifier: BSL-1.0
// The device side of MSI-X: a function's table and pending bits, and which messages leave it.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>
#include <phasebit/pcie/spec/msix.hpp>

#include <cstdint>
#include <span>

namespace phasebit::pcie::device {

// The state of one vector. Zeroed storage is a vector that was never reset.
struct msix_vector {
  std::uint32_t words[4] = {};  // address low and high, data, control
  bool pending = false;
};

// PCIe 5.0, 6.1.4 and 7.7.2. Vectors are masked after a reset. A vector that is raised while it, or
// the function, is masked becomes pending, and its message leaves when both are unmasked. While
// MSI-X is disabled nothing leaves and nothing becomes pending.
//
// The sink gets each message with the number of its vector. Models InterruptSink. Keeps references
// to the sink and to the vectors, of which there are at most 2048. One thread at a time.
template <MessageSink Sink>
class msix_table {
 public:
  constexpr msix_table(std::span<msix_vector> vectors, Sink& sink) noexcept
      : vectors_(vectors), sink_(&sink) {
    PHASEBIT_EXPECTS(vectors.size() <= msix::max_vectors, "MSI-X has at most 2048 vectors");
    reset();
  }

  [[nodiscard]] constexpr unsigned vectors() const noexcept {
    return static_cast<unsigned>(vectors_.size());
  }

  constexpr void reset() noexcept {
    control_ = {};
    for (msix_vector& v : vectors_) v = {.words = {0, 0, 0, masked_bit}, .pending = false};
  }

  // Table and pending bits by dword, as the BAR shows them. Dwords beyond read as zero, and writes
  // there are ignored.
  [[nodiscard]] constexpr std::uint32_t read_table(std::uint32_t dword) const noexcept {
    return dword / 4 < vectors_.size() ? vectors_[dword / 4].words[dword % 4] : 0;
  }
  [[nodiscard]] constexpr std::uint32_t read_pending(std::uint32_t dword) const noexcept {
    std::uint32_t bits = 0;
    if (dword > msix::max_vectors / 32) return 0;
    for (unsigned i = 0; i != 32 && dword * 32 + i < vectors_.size(); ++i) {
      bits |= std::uint32_t{vectors_[dword * 32 + i].pending} << i;
    }
    return bits;
  }
  // Sends the message of a pending vector that the write unmasks.
  constexpr void write_table(std::uint32_t dword, std::uint32_t value) noexcept {
    if (dword / 4 >= vectors_.size()) return;
    // Address bits 1:0 and all of the control but the mask are reserved (7.7.2.6, 7.7.2.9).
    constexpr std::uint32_t writable[4] = {0xffff'fffc, 0xffff'ffff, 0xffff'ffff, masked_bit};
    vectors_[dword / 4].words[dword % 4] = value & writable[dword % 4];
    deliver(dword / 4);
  }
  // The Message Control register was written. Sends what is pending and not masked any more.
  constexpr void set_control(msix_control control) noexcept {
    control_ = control;
    for (unsigned i = 0; i != vectors(); ++i) deliver(i);
  }
  // Vectors that the function does not have send nothing.
  constexpr void raise(std::uint16_t vector) noexcept {
    if (vector >= vectors_.size() || !control_[msix_control::enable]) return;
    vectors_[vector].pending = true;
    deliver(vector);
  }

 private:
  static constexpr std::uint32_t masked_bit = msix_entry::masked.mask<std::uint32_t>;

  constexpr void deliver(unsigned vector) noexcept {
    msix_vector& v = vectors_[vector];
    if (!v.pending || !control_[msix_control::enable] || control_[msix_control::function_mask] ||
        (v.words[3] & masked_bit) != 0) {
      return;
    }
    v.pending = false;
    sink_->send(static_cast<std::uint16_t>(vector),
                msi_message{bus_addr{v.words[0] | std::uint64_t{v.words[1]} << 32}, v.words[2]});
  }

  std::span<msix_vector> vectors_;
  Sink* sink_;
  msix_control control_{};
};
static_assert(InterruptSink<msix_table<no_interrupts>>);

}  // namespace phasebit::pcie::device
