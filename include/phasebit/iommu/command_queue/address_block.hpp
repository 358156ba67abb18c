// SPDX-License-Identifier: BSL-1.0
// Naturally aligned blocks of addresses, and how commands and ATS messages spell them.
#pragma once

#include <phasebit/core/bit_scan.hpp>
#include <phasebit/core/expects.hpp>

#include <cstdint>

namespace phasebit::iommu {

// 2^shift bytes at a multiple of that; 64 is all addresses.
struct address_block {
  std::uint64_t first = 0;
  unsigned shift = 12;

  [[nodiscard]] constexpr std::uint64_t last() const noexcept {
    return shift >= 64 ? ~std::uint64_t{0} : first | ((std::uint64_t{1} << shift) - 1);
  }
  friend constexpr bool operator==(address_block, address_block) noexcept = default;
};

// The smallest block of at least 2^least bytes that holds [first, last].
[[nodiscard]] constexpr address_block block_around(std::uint64_t first, std::uint64_t last,
                                                   unsigned least = 12) noexcept {
  PHASEBIT_EXPECTS(first <= last, "a range ends before it begins");
  const unsigned differing = bit_width(first ^ last);
  const unsigned shift = differing < least ? least : differing;
  if (shift >= 64) return {0, 64};
  return {first >> shift << shift, shift};
}

// The spelling of PCIe ATS (5.0, 10.2.3.2), VT-d device TLB and AMD, without the S bit: below the
// block's bits a run of ones from bit 12 up, ended by a zero. For blocks of 8 KiB and more.
[[nodiscard]] constexpr std::uint64_t size_in_ones(address_block block) noexcept {
  PHASEBIT_EXPECTS(block.shift >= 13, "a block of one page needs no size");
  const std::uint64_t ones = (std::uint64_t{1} << (block.shift - 1)) - 1;
  return (block.first | ones) & ~std::uint64_t{0xfff};
}
// ... read back. `address` holds bits 63:12. All ones, which no block is spelt as, means everything.
[[nodiscard]] constexpr address_block block_from_ones(std::uint64_t address) noexcept {
  const std::uint64_t filled = address | 0xfff;
  // The lowest zero, by adding one to the ones below it.
  const std::uint64_t lowest_zero = ~filled & (filled + 1);
  if (lowest_zero == 0 || lowest_zero >> 63 != 0) return {0, 64};
  const unsigned shift = bit_width(lowest_zero);
  return {address >> shift << shift, shift};
}

}  // namespace phasebit::iommu
