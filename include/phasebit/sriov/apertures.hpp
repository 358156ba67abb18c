// SPDX-License-Identifier: BSL-1.0
// The memory that the functions of a device claim, by address: a physical function's BARs, and for
// each VF BAR one aperture with a slice for every virtual function (PCIe 5.0, 9.2.1.1.1 and 9.3.3.14).
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/sriov/function_ref.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// A place in a BAR. `function` does not exist where the address is claimed by none.
struct bar_hit {
  function_ref function{};
  std::uint8_t bar = 0;
  std::uint64_t offset = 0;

  friend constexpr bool operator==(const bar_hit&, const bar_hit&) noexcept = default;
};

// `count` slices of 1 << shift bytes from `base` on. The first one is of `first`, the next of the next
// virtual function.
struct aperture {
  std::uint64_t base = 0;
  std::uint32_t count = 0;
  std::uint8_t shift = 0;
  std::uint8_t bar = 0;
  function_ref first{};
};

// At most Count apertures. A look-up costs the same whatever number of virtual functions there is: it
// compares the bases of all apertures, or where there are many halves the list, and divides by a shift. Where a host has placed two over one another,
// an address is of the one that begins last at or below it, or of none. One thread changes the set at
// a time, without look-ups meanwhile.
template <std::size_t Count>
class aperture_map {
 public:
  constexpr void clear() noexcept {
    used_ = 0;
    for (std::uint64_t& b : bases_) b = unused;
    for (slice& s : slices_) s = {};
  }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return used_; }

  // Apertures that are empty or run over the end of the address space claim nothing.
  constexpr void insert(const aperture& a) noexcept {
    PHASEBIT_EXPECTS(used_ != Count, "more apertures than the functions have BARs");
    PHASEBIT_EXPECTS(a.shift < 64, "a BAR of 2^64 bytes");
    const std::uint64_t most = (~std::uint64_t{0} - a.base) >> a.shift;
    if (a.count == 0 || a.count - 1 > most) return;
    std::size_t at = used_++;
    for (; at != 0 && bases_[at - 1] > a.base; --at) {
      bases_[at] = bases_[at - 1];
      slices_[at] = slices_[at - 1];
    }
    bases_[at] = a.base;
    slices_[at] = {a.count, a.first, a.shift, a.bar};
  }

  [[nodiscard]] constexpr bar_hit find(std::uint64_t address) const noexcept {
    std::size_t at = 0;  // how many begin at or below the address
    if (used_ <= few) {
      for (std::size_t i = 0; i != few; ++i) at += bases_[i] <= address ? 1U : 0U;
      at = at < used_ ? at : used_;
    } else {
      for (std::size_t left = used_; left != 0;) {
        const std::size_t half = left - left / 2;
        at = bases_[at + half - 1] <= address ? at + half : at;
        left -= half;
      }
    }
    if (at == 0) return {};
    const slice& s = slices_[at - 1];
    const std::uint64_t offset = address - bases_[at - 1];
    const std::uint64_t index = offset >> s.shift;
    if (index >= s.count) return {};
    return {{s.first.physical, static_cast<std::uint16_t>(s.first.vf + index)},
            s.bar,
            offset & ((std::uint64_t{1} << s.shift) - 1)};
  }

 private:
  struct slice {
    std::uint32_t count;
    function_ref first;
    std::uint8_t shift;
    std::uint8_t bar;
  };
  // Up to so many are compared without a branch; those that are unused begin at the last address and
  // have no slices.
  static constexpr std::size_t few = 4;
  static constexpr std::uint64_t unused = ~std::uint64_t{0};
  static constexpr std::size_t places = Count < few ? few : Count;

  [[nodiscard]] static constexpr std::array<std::uint64_t, places> no_bases() noexcept {
    std::array<std::uint64_t, places> bases{};
    for (std::uint64_t& b : bases) b = unused;
    return bases;
  }

  std::array<std::uint64_t, places> bases_ = no_bases();
  std::array<slice, places> slices_{};
  std::size_t used_ = 0;
};

}  // namespace phasebit::sriov
