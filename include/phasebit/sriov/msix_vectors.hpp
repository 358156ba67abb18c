// SPDX-License-Identifier: BSL-1.0
// MSI-X tables and pending bits of many functions in one block of memory. PCIe 5.0, 6.1.4 and 7.7.2.
#pragma once

#include <phasebit/pcie/spec/msi_message.hpp>
#include <phasebit/pcie/spec/msix.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// Functions times Vectors entries, 16 bytes each, and 8 bytes of pending bits a function. Entries are
// masked after a reset. A vector that is raised while it or its function is masked becomes pending,
// and its message leaves when both are unmasked; while MSI-X is disabled nothing leaves and nothing
// becomes pending. Doublewords beyond the table read as zero and take no writes. One thread at a time.
template <std::size_t Functions, std::size_t Vectors>
class msix_vectors {
  static_assert(Vectors <= 64, "a function's pending bits are one 64-bit word");

 public:
  constexpr msix_vectors() noexcept {
    for (std::size_t f = 0; f != Functions; ++f) reset(f);
  }
  [[nodiscard]] static constexpr std::size_t vectors() noexcept { return Vectors; }

  constexpr void reset(std::size_t function) noexcept {
    pending_[function] = 0;
    for (entry& e : entries_[function]) e = entry{{0, 0, 0, masked_bit}};
  }
  [[nodiscard]] constexpr std::uint32_t read_table(std::size_t function,
                                                   std::uint32_t dword) const noexcept {
    return dword / 4 < Vectors ? entries_[function][dword / 4].words[dword % 4] : 0;
  }
  [[nodiscard]] constexpr std::uint32_t read_pending(std::size_t function,
                                                     std::uint32_t dword) const noexcept {
    return dword < 2 ? static_cast<std::uint32_t>(pending_[function] >> dword * 32) : 0;
  }
  // `control` is the function's MSI-X control register; `send(message)` is called where the write
  // unmasks a pending vector.
  template <class Send>
  constexpr void write_table(std::size_t function, std::uint32_t dword, std::uint32_t value,
                             pcie::msix_control control, Send&& send) noexcept {
    if (dword / 4 >= Vectors) return;
    // Address bits 1:0 and all of the control but the mask are reserved (7.7.2.6, 7.7.2.9).
    constexpr std::uint32_t writable[4] = {0xffff'fffc, 0xffff'ffff, 0xffff'ffff, masked_bit};
    entries_[function][dword / 4].words[dword % 4] = value & writable[dword % 4];
    flush(function, dword / 4, control, send);
  }
  // Called when the control register has changed.
  template <class Send>
  constexpr void control_changed(std::size_t function, pcie::msix_control control,
                                 Send&& send) noexcept {
    for (std::size_t v = 0; v != Vectors; ++v) flush(function, v, control, send);
  }
  // Vectors that the function does not have send nothing.
  template <class Send>
  constexpr void raise(std::size_t function, std::size_t vector, pcie::msix_control control,
                       Send&& send) noexcept {
    if (vector >= Vectors || !control[pcie::msix_control::enable]) return;
    pending_[function] |= std::uint64_t{1} << vector;
    flush(function, vector, control, send);
  }

 private:
  static constexpr std::uint32_t masked_bit = pcie::msix_entry::masked.mask<std::uint32_t>;
  struct entry {
    std::uint32_t words[4];  // address low and high, data, control
  };

  template <class Send>
  constexpr void flush(std::size_t function, std::size_t vector, pcie::msix_control control,
                       Send&& send) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << vector;
    const entry& e = entries_[function][vector];
    if ((pending_[function] & bit) == 0 || !control[pcie::msix_control::enable] ||
        control[pcie::msix_control::function_mask] || (e.words[3] & masked_bit) != 0) {
      return;
    }
    pending_[function] &= ~bit;
    send(pcie::msi_message{bus_addr{e.words[0] | std::uint64_t{e.words[1]} << 32}, e.words[2]});
  }

  std::array<std::array<entry, Vectors>, Functions> entries_{};
  std::array<std::uint64_t, Functions> pending_{};
};

// Functions whose tables are kept elsewhere.
template <std::size_t Functions>
class msix_vectors<Functions, 0> {
 public:
  [[nodiscard]] static constexpr std::size_t vectors() noexcept { return 0; }
  constexpr void reset(std::size_t) noexcept {}
};

}  // namespace phasebit::sriov
