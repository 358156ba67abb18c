// SPDX-License-Identifier: BSL-1.0
// The places of bits, on processors without an instruction for it too: there, <bit> would call a
// routine of the compiler's library, which firmware need not have.
#pragma once

#include <bit>
#include <cstdint>

namespace phasebit::iommu::detail {

#if defined(__x86_64__) || defined(__aarch64__) || defined(__riscv_zbb)
inline constexpr bool scans_bits = true;
#else
inline constexpr bool scans_bits = false;
#endif

// Place of the highest set bit; `value` is not 0.
[[nodiscard]] constexpr unsigned highest_bit(std::uint64_t value) noexcept {
  if constexpr (scans_bits) {
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

// Place of the lowest set bit; `value` is not 0.
[[nodiscard]] constexpr unsigned lowest_bit(std::uint64_t value) noexcept {
  if constexpr (scans_bits) {
    return static_cast<unsigned>(std::countr_zero(value));
  } else {
    return highest_bit(value & (~value + 1));
  }
}

}  // namespace phasebit::iommu::detail
