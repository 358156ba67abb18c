// SPDX-License-Identifier: BSL-1.0
// Positions of the highest and lowest set bit, without the library routine that <bit> calls on
// processors that have no instruction for it.
#pragma once

#include <bit>
#include <cstdint>

namespace phasebit {

namespace detail {
#if defined(__x86_64__) || defined(__aarch64__) || defined(__riscv_zbb)
inline constexpr bool scans_bits = true;
#else
inline constexpr bool scans_bits = false;
#endif
}  // namespace detail

// Position of the highest set bit; `value` is not 0.
[[nodiscard]] constexpr unsigned highest_bit(std::uint64_t value) noexcept {
  if constexpr (detail::scans_bits) {
    return static_cast<unsigned>(63 - std::countl_zero(value));
  } else {
    unsigned place = 0;
    for (unsigned step = 32; step != 0; step /= 2) {
      if (value >> step == 0) continue;
      value >>= step;
      place += step;
    }
    return place;
  }
}

// Position of the lowest set bit; `value` is not 0.
[[nodiscard]] constexpr unsigned lowest_bit(std::uint64_t value) noexcept {
  if constexpr (detail::scans_bits) {
    return static_cast<unsigned>(std::countr_zero(value));
  } else {
    return highest_bit(value & (~value + 1));
  }
}

// How many bits `value` needs: 0 for 0.
[[nodiscard]] constexpr unsigned bit_width(std::uint64_t value) noexcept {
  return value == 0 ? 0 : highest_bit(value) + 1;
}

}  // namespace phasebit
