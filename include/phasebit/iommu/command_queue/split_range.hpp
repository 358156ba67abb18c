// SPDX-License-Identifier: BSL-1.0
// Ranges into commands: the smallest number that covers them, and never too little.
#pragma once

#include <phasebit/iommu/command_queue/address_block.hpp>
#include <phasebit/iommu/command_queue/codec.hpp>
#include <phasebit/iommu/page_table/invalidation.hpp>

#include <cstdint>
#include <span>

namespace phasebit::iommu {

namespace detail {

// One block around [first, last] where that is at most four times as large, else the block around
// the part below the highest address bit in which the two differ: so two blocks at most, each less
// than twice its part. No block is larger than 2^most.
[[nodiscard]] constexpr address_block next_block(std::uint64_t first, std::uint64_t last,
                                                 unsigned most) noexcept {
  first &= ~std::uint64_t{0xfff};
  last |= 0xfff;
  address_block block = block_around(first, last);
  if (std::uint64_t{1} << (block.shift - 2) > last - first + 1) {
    const std::uint64_t middle = last >> (block.shift - 1) << (block.shift - 1);
    block = block_around(first, middle - 1);
  }
  if (block.shift > most) block = {first >> most << most, most};
  return block;
}

// The largest step that visits every page: the smallest page size touched, but a level's own size and
// not one of a run of joined entries, of which hardware may keep any part.
[[nodiscard]] constexpr unsigned step_shift(std::uint64_t page_sizes, unsigned granule,
                                            unsigned index_bits) noexcept {
  if (page_sizes == 0) return granule;
  unsigned smallest = 0;
  while ((page_sizes >> smallest & 1) == 0) ++smallest;
  unsigned shift = granule;
  while (shift + index_bits <= smallest) shift += index_bits;
  return shift;
}

}  // namespace detail

// Calls emit(command) for each command that a domain's ranges require; returns the number of
// commands. More than `limit` commands are replaced by one for the whole domain, or for the PASID's
// whole address space if `like` names one. `like` carries domain, PASID, stage and drains; `limit`
// is at least 1.
template <CommandCodec Codec, class Space, class Emit>
constexpr unsigned for_each_invalidation(const Codec& codec, command like,
                                         std::span<const invalidation_range<Space>> ranges,
                                         unsigned limit, Emit&& emit) noexcept {
  like.kind = command_kind::invalidate_translations;
  const auto walk = [&](auto&& each) {
    unsigned count = 0;
    for (const auto& range : ranges) {
      std::uint64_t at = range.first.value();
      for (;;) {
        command c = like;
        c.by_range = true;
        c.tables = range.tables;
        c.page_sizes = range.page_sizes;
        const std::uint64_t covered = codec.split_range(c, at, range.last.value());
        if (!c.by_range) return limit + 1;
        if (++count > limit) return count;
        each(c);
        if (covered >= range.last.value()) break;
        at = covered + 1;
      }
    }
    return count;
  };
  const unsigned count = walk([](const command&) noexcept {});
  if (count <= limit) return walk(emit);
  like.by_range = false;
  like.tables = true;
  emit(like);
  return 1;
}

}  // namespace phasebit::iommu
