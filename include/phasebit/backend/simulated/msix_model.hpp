// SPDX-License-Identifier: BSL-1.0
// The device side of MSI-X: a function's table and pending bits, and which messages leave it.
#pragma once

#include <phasebit/pcie/spec/msix.hpp>

#include <cstdint>
#include <memory>
#include <new>
#include <optional>

namespace phasebit::backend::simulated {

// PCIe 5.0, 6.1.4 and 7.7.2. Vectors are masked after a reset. A vector that is raised while it, or
// the function, is masked becomes pending, and its message leaves when both are unmasked. While
// MSI-X is disabled nothing leaves and nothing becomes pending. One thread at a time.
class msix_model {
 public:
  msix_model() noexcept = default;
  // Fails (operator bool) where there is no memory. At most 2048 vectors.
  explicit msix_model(unsigned vectors) noexcept
      : entries_(new(std::nothrow) entry[vectors == 0 ? 1 : vectors]()), vectors_(vectors) {
    reset();
  }

  explicit operator bool() const noexcept { return entries_ != nullptr; }
  [[nodiscard]] unsigned vectors() const noexcept { return vectors_; }

  void reset() noexcept {
    control_ = {};
    for (unsigned i = 0; entries_ && i != vectors_; ++i) {
      entries_[i] = {};
      entries_[i].words[3] = masked_bit;
    }
  }

  // Table and pending bits by dword, as the BAR shows them. Dwords beyond read as zero.
  [[nodiscard]] std::uint32_t read_table(std::uint32_t dword) const noexcept {
    return dword / 4 < vectors_ ? entries_[dword / 4].words[dword % 4] : 0;
  }
  [[nodiscard]] std::uint32_t read_pending(std::uint32_t dword) const noexcept {
    std::uint32_t bits = 0;
    for (unsigned i = 0; i != 32 && dword * 32 + i < vectors_; ++i) {
      bits |= std::uint32_t{entries_[dword * 32 + i].pending} << i;
    }
    return bits;
  }
  // `send(message)` is called where the write unmasks a pending vector.
  template <class Send>
  void write_table(std::uint32_t dword, std::uint32_t value, Send&& send) noexcept {
    if (dword / 4 >= vectors_) return;
    // Address bits 1:0 and all of the control but the mask are reserved (7.7.2.6, 7.7.2.9).
    constexpr std::uint32_t writable[4] = {0xffff'fffc, 0xffff'ffff, 0xffff'ffff, masked_bit};
    entries_[dword / 4].words[dword % 4] = value & writable[dword % 4];
    flush(dword / 4, send);
  }
  template <class Send>
  void set_control(pcie::msix_control control, Send&& send) noexcept {
    control_ = control;
    for (unsigned i = 0; i != vectors_; ++i) flush(i, send);
  }
  // Vectors that the function does not have send nothing.
  template <class Send>
  void raise(unsigned vector, Send&& send) noexcept {
    if (vector >= vectors_ || !control_[pcie::msix_control::enable]) return;
    entries_[vector].pending = true;
    flush(vector, send);
  }

 private:
  static constexpr std::uint32_t masked_bit = pcie::msix_entry::masked.mask<std::uint32_t>;

  struct entry {
    std::uint32_t words[4];  // address low and high, data, control
    bool pending;
  };

  template <class Send>
  void flush(unsigned vector, Send&& send) noexcept {
    entry& e = entries_[vector];
    if (!e.pending || !control_[pcie::msix_control::enable] ||
        control_[pcie::msix_control::function_mask] || (e.words[3] & masked_bit) != 0) {
      return;
    }
    e.pending = false;
    send(pcie::msi_message{bus_addr{e.words[0] | std::uint64_t{e.words[1]} << 32}, e.words[2]});
  }

  std::unique_ptr<entry[]> entries_;
  unsigned vectors_ = 0;
  pcie::msix_control control_{};
};

}  // namespace phasebit::backend::simulated
