// SPDX-License-Identifier: BSL-1.0
// Many DMA allocations out of one region: a huge page, a mapped file, firmware's RAM.
#pragma once

#include <phasebit/core/cacheline.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/iova_allocator.hpp>

#include <cstddef>
#include <span>

namespace phasebit {

// Suballocates a region that the caller mapped and keeps mapped. Regions are zeroed and begin on
// a cache line, so that a device's write never shares one with a neighbour. Capacity bounds the
// number of extents, free and used; std::dynamic_extent takes a table from the caller. Errors of
// allocate(): invalid_argument (no bytes), misaligned (see below), exhausted. One thread at a time.
template <std::size_t Capacity = 64>
class dma_arena {
 public:
  using extent = address_extent<bus_space>;

  explicit dma_arena(dma_region whole) noexcept
    requires(Capacity != std::dynamic_extent)
      : free_(cache_line), whole_(whole) {
    adopt();
  }
  dma_arena(dma_region whole, std::span<extent> table) noexcept
    requires(Capacity == std::dynamic_extent)
      : free_(table, cache_line), whole_(whole) {
    adopt();
  }

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    PHASEBIT_EXPECTS(is_power_of_two(alignment), "an alignment is a power of two");
    // Pointer and bus address differ by a constant; no offset can align both if that is not aligned.
    if (!is_aligned(to_local(whole_.data()).value() - whole_.bus.value(), alignment)) {
      return failure(errc::misaligned,
                     "the arena's pointer and bus address cannot both have this alignment",
                     alignment);
    }
    const auto at = free_.allocate(bytes, alignment);
    if (!at) return at.error();
    const dma_region region = whole_.subregion(static_cast<std::size_t>(*at - whole_.bus), bytes);
    __builtin_memset(region.data(), 0, bytes);
    return region;
  }

  // Precondition: the region was allocated here and not released since.
  void release(dma_region region) noexcept {
    const bool known = free_.release(region.bus, region.size()).has_value();
    PHASEBIT_EXPECTS(known, "the region was released twice, or is not of this arena");
  }

  [[nodiscard]] const dma_region& whole() const noexcept { return whole_; }
  [[nodiscard]] std::size_t free_bytes() const noexcept {
    return static_cast<std::size_t>(free_.free_bytes());
  }
  [[nodiscard]] std::size_t largest_free() const noexcept {
    return static_cast<std::size_t>(free_.largest_free());
  }

 private:
  void adopt() noexcept {
    const bool usable = free_.add(whole_.bus, whole_.size()).has_value();
    PHASEBIT_EXPECTS(usable, "an arena's region holds a cache line at least, and does not wrap");
  }

  iova_allocator<Capacity> free_;
  dma_region whole_;
};
static_assert(DmaMemory<dma_arena<>>);
static_assert(DmaMemory<dma_arena<std::dynamic_extent>>);

// An arena with its own bytes, for firmware. In static storage it takes no space in the image. The bus
// address of the bytes is their address unless the caller passes one, aligned to Alignment, for a
// machine with an IOMMU or with an offset between processor and bus.
template <std::size_t Bytes, std::size_t Capacity = 32, std::size_t Alignment = 4096>
class static_arena {
  static_assert(is_power_of_two(Alignment) && Alignment >= cache_line);
  static_assert(Bytes >= cache_line);

 public:
  static_arena() noexcept : arena_({storage_, bus_addr{to_local(storage_).value()}}) {}
  explicit static_arena(bus_addr begin) noexcept : arena_({storage_, begin}) {
    PHASEBIT_EXPECTS(is_aligned(begin, Alignment),
                     "the bus address is less aligned than the arena");
  }
  static_arena(const static_arena&) = delete;
  static_arena& operator=(const static_arena&) = delete;

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return arena_.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { arena_.release(region); }

  [[nodiscard]] const dma_region& whole() const noexcept { return arena_.whole(); }
  [[nodiscard]] std::size_t free_bytes() const noexcept { return arena_.free_bytes(); }

 private:
  alignas(Alignment) std::byte storage_[Bytes];
  dma_arena<Capacity> arena_;
};
static_assert(DmaMemory<static_arena<4096>>);

}  // namespace phasebit
