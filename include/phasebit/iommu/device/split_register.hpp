// SPDX-License-Identifier: BSL-1.0
// A register of 64 bits that is accessed in halves.
#pragma once

#include <cstdint>

namespace phasebit::iommu::device {

struct split_register {
  std::uint64_t value = 0;

  // Bit 2 of `offset` selects the upper half.
  [[nodiscard]] static constexpr std::uint32_t half(std::uint64_t v,
                                                    std::uint32_t offset) noexcept {
    return static_cast<std::uint32_t>((offset & 4) != 0 ? v >> 32 : v);
  }
  [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const noexcept {
    return half(value, offset);
  }
  constexpr void write(std::uint32_t offset, std::uint32_t v) noexcept {
    value = (offset & 4) != 0 ? (value & 0xffff'ffff) | std::uint64_t{v} << 32
                              : (value >> 32 << 32) | v;
  }
};

}  // namespace phasebit::iommu::device
