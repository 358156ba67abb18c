// SPDX-License-Identifier: BSL-1.0
// Where the six BARs of each virtual function are: in the address space of the root that has it
// (slave), and in the device's own (master).
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/sriov/detail/exact_match.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// The windows of a function: its BARs by number, and where its interrupt messages go.
inline constexpr unsigned message_window = pcie::type0_bars;
inline constexpr unsigned remap_windows = pcie::type0_bars + 1;

// A window of 1 << shift bytes at a multiple of its size on both sides.
struct remap_window {
  std::uint64_t slave = 0;
  std::uint64_t master = 0;
  std::uint16_t root = 0;
  std::uint8_t shift = 0;  // 0: there is none

  [[nodiscard]] constexpr bool exists() const noexcept { return shift != 0; }
  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return std::uint64_t{1} << shift; }
};

// An address of a root, translated. `window` is remap_windows where no function has the address.
struct remapped_address {
  std::uint64_t master = 0;
  std::uint16_t vf = 0;
  std::uint8_t window = remap_windows;

  [[nodiscard]] constexpr bool exists() const noexcept { return window != remap_windows; }
};

// Windows of Count functions. From a root's address by content, once for each size of window that is
// in use; the sizes are few, for functions of one kind have BARs of the same sizes. Back by index.
// Neither depends on the number of functions or of roots. One thread changes windows at a time, without
// look-ups meanwhile.
template <std::size_t Count>
class bar_remap {
  static_assert(Count >= 1 && Count <= 65535);
  static constexpr std::size_t max_sizes = 12;

 public:
  // Opens a window; messages are translated from master to slave only. Errors: out_of_range (function,
  // window, size below 4 KiB), misaligned, already_exists (the window, or the root has another one at
  // the same place), exhausted.
  [[nodiscard]] result<> open(std::uint16_t vf, unsigned window, const remap_window& w) noexcept {
    if (vf >= Count) return failure(errc::out_of_range, "no such virtual function", vf);
    if (window >= remap_windows) return failure(errc::out_of_range, "no such window", window);
    if (w.shift < 12 || w.shift > 63) {
      return failure(errc::out_of_range, "a window has 4 KiB or more", w.shift);
    }
    if (((w.slave | w.master) & (w.bytes() - 1)) != 0) {
      return failure(errc::misaligned, "a window lies at a multiple of its size",
                     w.slave | w.master);
    }
    remap_window& mine = windows_[vf][window];
    if (mine.exists()) return failure(errc::already_exists, "the window is open", window);
    if (window != message_window) {
      const key k = key_of(w.root, w.slave, w.shift);
      if (by_slave_.find(k) != 0) {
        return failure(errc::already_exists, "the root has another window there", w.slave);
      }
      if (!use(w.shift)) {
        return failure(errc::exhausted, "windows of too many different sizes", w.shift);
      }
      if (!by_slave_.insert(k, vf * remap_windows + window + 1)) {
        release(w.shift);
        return failure(errc::exhausted, "no place is left for the window", w.slave);
      }
    }
    mine = w;
    return {};
  }
  // False where the window was closed.
  constexpr bool close(std::uint16_t vf, unsigned window) noexcept {
    if (vf >= Count || window >= remap_windows || !windows_[vf][window].exists()) return false;
    remap_window& w = windows_[vf][window];
    if (window != message_window) {
      by_slave_.erase(key_of(w.root, w.slave, w.shift));
      release(w.shift);
    }
    w = {};
    return true;
  }
  constexpr void close_all(std::uint16_t vf) noexcept {
    for (unsigned w = 0; w != remap_windows; ++w) close(vf, w);
  }

  // What a root's address is to the device. Where a root laid windows of different sizes over one
  // another, the smallest is meant.
  [[nodiscard]] constexpr remapped_address to_master(std::uint16_t root,
                                                     std::uint64_t address) const noexcept {
    for (std::size_t i = 0; i != sizes_; ++i) {
      const std::uint8_t shift = shifts_[i].shift;
      const std::uint32_t found = by_slave_.find(key_of(root, address, shift));
      if (found == 0) continue;
      const auto vf = static_cast<std::uint16_t>((found - 1) / remap_windows);
      const auto window = static_cast<std::uint8_t>((found - 1) % remap_windows);
      const remap_window& w = windows_[vf][window];
      return {w.master + (address - w.slave), vf, window};
    }
    return {};
  }
  // What an address of the device is to the root that has the function: the same where it is in none of
  // the function's windows, for a driver gives its device addresses of its own memory.
  [[nodiscard]] constexpr std::uint64_t to_slave(std::uint16_t vf,
                                                 std::uint64_t address) const noexcept {
    PHASEBIT_EXPECTS(vf < Count, "no such virtual function");
    for (const remap_window& w : windows_[vf]) {
      if (w.exists() && address - w.master < w.bytes()) return w.slave + (address - w.master);
    }
    return address;
  }
  [[nodiscard]] constexpr const remap_window& window(std::uint16_t vf,
                                                     unsigned which) const noexcept {
    PHASEBIT_EXPECTS(vf < Count && which < remap_windows, "no such window");
    return windows_[vf][which];
  }

 private:
  struct key {
    std::uint64_t block = 0;  // the address in windows of its size, and the size
    std::uint64_t root = 0;
    friend constexpr bool operator==(const key&, const key&) noexcept = default;
    friend constexpr std::uint64_t mix(const key& k) noexcept {
      return detail::mix(k.block ^ (k.root + 1) * 0xff51'afd7'ed55'8ccd);
    }
  };
  [[nodiscard]] static constexpr key key_of(std::uint16_t root, std::uint64_t address,
                                            std::uint8_t shift) noexcept {
    return {(address >> shift) << 6 | shift, root};
  }
  struct size_in_use {
    std::uint32_t windows;
    std::uint8_t shift;
  };
  // Sizes in use, the smallest first.
  constexpr bool use(std::uint8_t shift) noexcept {
    std::size_t at = 0;
    while (at != sizes_ && shifts_[at].shift < shift) ++at;
    if (at == sizes_ || shifts_[at].shift != shift) {
      if (sizes_ == max_sizes) return false;
      for (std::size_t i = sizes_++; i != at; --i) shifts_[i] = shifts_[i - 1];
      shifts_[at] = {0, shift};
    }
    ++shifts_[at].windows;
    return true;
  }
  constexpr void release(std::uint8_t shift) noexcept {
    std::size_t at = 0;
    while (shifts_[at].shift != shift) ++at;
    if (--shifts_[at].windows != 0) return;
    for (--sizes_; at != sizes_; ++at) shifts_[at] = shifts_[at + 1];
  }

  std::array<std::array<remap_window, remap_windows>, Count> windows_{};
  detail::exact_match<key, std::uint32_t, Count * pcie::type0_bars> by_slave_{};
  std::array<size_in_use, max_sizes> shifts_{};
  std::size_t sizes_ = 0;
};

}  // namespace phasebit::sriov
