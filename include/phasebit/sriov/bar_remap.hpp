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
    remap_window& mine = functions_[vf].windows[window];
    if (mine.exists()) return failure(errc::already_exists, "the window is open", window);
    if (window != message_window) {
      if (find(w.root, w.slave, w.shift) != by_slave_.none) {
        return failure(errc::already_exists, "the root has another window there", w.slave);
      }
      if (!use(w.shift)) {
        return failure(errc::exhausted, "windows of too many different sizes", w.shift);
      }
      if (!by_slave_.insert(hash_of(w.root, w.slave, w.shift), vf * remap_windows + window)) {
        release(w.shift);
        return failure(errc::exhausted, "no place is left for the window", w.slave);
      }
    }
    mine = w;
    bound(functions_[vf]);
    return {};
  }
  // False where the window was closed.
  constexpr bool close(std::uint16_t vf, unsigned window) noexcept {
    if (vf >= Count || window >= remap_windows) return false;
    remap_window& w = functions_[vf].windows[window];
    if (!w.exists()) return false;
    if (window != message_window) {
      by_slave_.erase(hash_of(w.root, w.slave, w.shift), vf * remap_windows + window);
      release(w.shift);
    }
    w = {};
    bound(functions_[vf]);
    return true;
  }
  constexpr void close_all(std::uint16_t vf) noexcept {
    for (unsigned w = 0; w != remap_windows; ++w) close(vf, w);
  }

  // Translates a root's address to the device's. Where a root has overlapping windows of different
  // sizes, the smallest applies.
  [[nodiscard]] constexpr remapped_address to_master(std::uint16_t root,
                                                     std::uint64_t address) const noexcept {
    for (std::size_t i = 0; i != sizes_; ++i) {
      const std::uint32_t found = find(root, address, shifts_[i].shift);
      if (found == by_slave_.none) continue;
      const auto vf = static_cast<std::uint16_t>(found / remap_windows);
      const auto window = static_cast<std::uint8_t>(found % remap_windows);
      const remap_window& w = functions_[vf].windows[window];
      return {w.master + (address - w.slave), vf, window};
    }
    return {};
  }
  // Translates an address of the device to the root that has the function: unchanged outside of the
  // function's windows, because a driver gives its device addresses of its own memory.
  [[nodiscard]] constexpr std::uint64_t to_slave(std::uint16_t vf,
                                                 std::uint64_t address) const noexcept {
    PHASEBIT_EXPECTS(vf < Count, "no such virtual function");
    const function_windows& f = functions_[vf];
    if (address - f.low > f.last) return address;
    for (const remap_window& w : f.windows) {
      if (w.exists() && address - w.master < w.bytes()) return w.slave + (address - w.master);
    }
    return address;
  }
  [[nodiscard]] constexpr const remap_window& window(std::uint16_t vf,
                                                     unsigned which) const noexcept {
    PHASEBIT_EXPECTS(vf < Count && which < remap_windows, "no such window");
    return functions_[vf].windows[which];
  }

 private:
  // All windows of a function lie within low to low + last on the device's side.
  struct function_windows {
    std::uint64_t low = ~std::uint64_t{0};
    std::uint64_t last = 0;
    std::array<remap_window, remap_windows> windows{};
  };
  static constexpr void bound(function_windows& f) noexcept {
    std::uint64_t low = ~std::uint64_t{0};
    std::uint64_t high = 0;
    for (const remap_window& w : f.windows) {
      if (!w.exists()) continue;
      low = w.master < low ? w.master : low;
      const std::uint64_t end = w.master + (w.bytes() - 1);
      high = end > high ? end : high;
    }
    f.low = low;
    f.last = high < low ? 0 : high - low;
  }
  [[nodiscard]] static constexpr std::uint64_t hash_of(std::uint16_t root, std::uint64_t address,
                                                       std::uint8_t shift) noexcept {
    return detail::mix(address >> shift ^ std::uint64_t{root} << 48 ^ std::uint64_t{shift} << 42);
  }
  // The window of this size that has the address, as vf * remap_windows + window; none otherwise.
  [[nodiscard]] constexpr std::uint32_t find(std::uint16_t root, std::uint64_t address,
                                             std::uint8_t shift) const noexcept {
    return by_slave_.find(hash_of(root, address, shift), [&](std::uint32_t number) noexcept {
      const remap_window& w = functions_[number / remap_windows].windows[number % remap_windows];
      return w.root == root && w.shift == shift && address - w.slave < w.bytes();
    });
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

  std::array<function_windows, Count> functions_{};
  detail::exact_match<Count * std::size_t{remap_windows}> by_slave_{};
  std::array<size_in_use, max_sizes> shifts_{};
  std::size_t sizes_ = 0;
};

}  // namespace phasebit::sriov
