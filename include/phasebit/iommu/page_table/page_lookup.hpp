// SPDX-License-Identifier: BSL-1.0
// The result of a walk through page tables.
#pragma once

#include <phasebit/core/address.hpp>

#include <cstdint>

namespace phasebit::iommu {

// How a walk ended: what an IOMMU would report.
enum class walk_status : std::uint8_t {
  mapped,
  absent,        // an entry without a present bit
  malformed,     // reserved bits, a misaligned large page, a level that makes no sense
  beyond_width,  // the address has more bits than the tables translate
  unreadable,    // an entry points at memory that holds no table
};

// Result of one walk. `level` is where it ended and `entry` the entry read there; the other members
// are meaningful for `mapped` only: the page's base and size, and the permissions of all levels
// combined.
template <class Space>
struct page_lookup {
  walk_status status = walk_status::absent;
  std::uint8_t level = 0;
  std::uint8_t page_shift = 0;
  std::uint8_t permissions = 0;  // bit 0 read, bit 1 write
  address<Space> page;
  std::uint64_t entry = 0;
};

}  // namespace phasebit::iommu
