// SPDX-License-Identifier: BSL-1.0
// Memory that is mapped for a device: pages of our own, or the caller's.
#pragma once

#include <phasebit/backend/vfio/dma_space.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/iova_allocator.hpp>
#include <phasebit/posix/memory_mapping.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace phasebit::backend::vfio {

// Gives each block of memory an I/O address that the kernel allows and maps it there. Memory of its
// own is taken in chunks of 2 MiB, as huge pages where the system has them set aside, and allocated
// in parts: few mappings, and few IOTLB entries. Not for hot paths; one thread at a time.
class dma_pool {
 public:
  // `lowest` keeps the first megabyte free: null pointers and 0 lengths of broken devices land there.
  [[nodiscard]] static result<dma_pool> over(dma_space space) {
    const auto ranges = space.ranges();
    if (!ranges) return ranges.error();
    dma_pool pool{std::move(space)};
    for (const iova_range& range : *ranges) {
      // 48 bits cover all memory; an IOMMU with fewer reports its limit.
      const std::uint64_t first = std::max(range.first, lowest);
      const std::uint64_t last = std::min(range.last, highest);
      if (first >= last || last - first + 1 < page_bytes) continue;
      if (const auto added = pool.addresses_.add(bus_addr{first}, last - first + 1); !added) {
        return added.error();
      }
    }
    if (pool.addresses_.free_bytes() == 0) {
      return failure(errc::exhausted, "the kernel leaves no I/O addresses for mappings");
    }
    return pool;
  }

  dma_pool(dma_pool&&) noexcept = default;
  dma_pool& operator=(dma_pool&&) noexcept = default;
  ~dma_pool() = default;  // the mappings end with the space

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) {
    PHASEBIT_EXPECTS(bytes != 0 && is_power_of_two(alignment), "an allocation has a size");
    for (chunk& c : chunks_) {
      if (const auto got = c.take(bytes, alignment)) return *got;
    }
    auto added = add_chunk(bytes, alignment);
    if (!added) return added.error();
    const auto got = (*added)->take(bytes, alignment);
    if (!got) return got.error();
    return *got;
  }

  void release(dma_region region) {
    for (chunk& c : chunks_) {
      if (!c.holds(region)) continue;
      const auto freed = c.parts.release(region.bus, region.size());
      PHASEBIT_EXPECTS(freed.has_value(),
                       "a region that was not allocated here, or is free already");
      return;
    }
    PHASEBIT_EXPECTS(false, "a region that was not allocated here");
  }

  // Maps whole pages of the caller for the device. It stays mapped until unmap() gets
  // exactly this region.
  [[nodiscard]] result<dma_region> map(std::span<std::byte> memory) {
    if (memory.empty() || !is_aligned(to_local(memory.data()).value(), page_bytes) ||
        !is_aligned(memory.size(), page_bytes)) {
      return failure(errc::misaligned, "only whole pages can be mapped for a device",
                     to_local(memory.data()).value());
    }
    const auto at = addresses_.allocate(memory.size(), page_bytes);
    if (!at) return at.error();
    if (const auto done = space_.map(memory, *at); !done) {
      (void)addresses_.release(*at, memory.size());
      return done.error();
    }
    mapped_.push_back({memory, *at});
    return mapped_.back();
  }
  [[nodiscard]] result<> unmap(dma_region region) {
    const auto at = std::find_if(mapped_.begin(), mapped_.end(), [&](const dma_region& m) {
      return m.bus == region.bus && m.size() == region.size();
    });
    if (at == mapped_.end()) {
      return failure(errc::not_found, "this region was not mapped as one", region.bus.value());
    }
    if (const auto done = space_.unmap(region.bus, region.size()); !done) return done.error();
    mapped_.erase(at);
    return addresses_.release(region.bus, region.size());
  }

  // Whether the device may reach all of the region and the pointers belong to its bus addresses. Call it
  // before posting commands of code that is untrusted or not yet debugged: an IOMMU stops wrong
  // accesses too, but few devices report it. Linear in the number of mappings.
  [[nodiscard]] bool covers(const dma_region& region) const noexcept {
    const auto within = [&](const dma_region& whole) {
      return region.bus >= whole.bus && region.bus - whole.bus <= whole.size() &&
             region.size() <= whole.size() - (region.bus - whole.bus) &&
             region.data() == whole.data() + (region.bus - whole.bus);
    };
    return std::any_of(mapped_.begin(), mapped_.end(), within) ||
           std::any_of(chunks_.begin(), chunks_.end(), [&](const chunk& c) {
             return within({c.bytes, c.begin});
           });
  }

 private:
  static constexpr std::uint64_t lowest = 1ULL << 20;
  static constexpr std::uint64_t highest = (1ULL << 48) - 1;
  static constexpr std::uint64_t page_bytes = 4096;
  static constexpr std::size_t chunk_bytes = 2U << 20;

  // One mapping, allocated in parts.
  struct chunk {
    posix::memory_mapping memory;
    std::span<std::byte> bytes;  // the aligned part of the mapping, which the device reaches
    bus_addr begin;
    iova_allocator<512> parts{64};

    [[nodiscard]] bool holds(const dma_region& region) const noexcept {
      return region.bus >= begin && region.bus - begin < bytes.size();
    }
    [[nodiscard]] result<dma_region> take(std::size_t count, std::size_t alignment) noexcept {
      // Pointer and bus address differ by a constant: both are aligned, or neither can be.
      if (!is_aligned(to_local(bytes.data()).value() - begin.value(), alignment)) {
        return failure(errc::misaligned, "this chunk has another alignment", alignment);
      }
      const auto at = parts.allocate(count, alignment);
      if (!at) return at.error();
      const dma_region whole{bytes, begin};
      const dma_region got = whole.subregion(int_cast<std::size_t>(*at - begin), count);
      __builtin_memset(got.data(), 0, got.size());
      return got;
    }
  };

  explicit dma_pool(dma_space space) noexcept : space_(std::move(space)) {}

  [[nodiscard]] result<chunk*> add_chunk(std::size_t bytes, std::size_t alignment) {
    // No address space has as much, and the sums below wrap.
    constexpr std::size_t most = ~std::size_t{0} >> 2;
    if (bytes > most || alignment > most) {
      return failure(errc::exhausted, "the system has no memory of this size", bytes);
    }
    const std::size_t size = align_up(std::max(bytes, alignment), chunk_bytes);
    auto memory = huge(size);
    if (!memory) memory = ordinary(size);
    if (!memory) return memory.error();
    // The system aligns a mapping to its pages. A larger alignment gets an aligned part of a larger
    // mapping.
    const auto misaligned = [&]() noexcept {
      return !is_aligned(to_local(memory->data()).value(), alignment);
    };
    if (misaligned()) memory = ordinary(size + alignment);
    if (!memory) return memory.error();
    const std::size_t skip = int_cast<std::size_t>(
        align_up(std::uint64_t{to_local(memory->data()).value()}, std::uint64_t{alignment}) -
        to_local(memory->data()).value());
    const auto part = memory->bytes().subspan(skip, size);
    // The bus address has the same offset as the pointer within any requested alignment.
    const auto at = addresses_.allocate(size, std::max(alignment, chunk_bytes));
    if (!at) return at.error();
    if (const auto mapped = space_.map(part, *at); !mapped) {
      (void)addresses_.release(*at, size);
      return mapped.error();
    }
    chunk made{.memory = std::move(*memory), .bytes = part, .begin = *at};
    if (const auto added = made.parts.add(*at, size); !added) return added.error();
    chunks_.push_back(std::move(made));
    return &chunks_.back();
  }

  // Pages of 1 GiB where the size is a multiple of that, else the system's default, 2 MiB on x86-64.
  [[nodiscard]] static result<posix::memory_mapping> huge(std::size_t size) {
    constexpr std::size_t gibibyte = 1U << 30;
    if (is_aligned(size, gibibyte)) {
      auto memory = posix::memory_mapping::anonymous(size, MAP_HUGETLB | 30 << MAP_HUGE_SHIFT);
      if (memory) return memory;
    }
    return posix::memory_mapping::anonymous(size, MAP_HUGETLB);
  }
  // Ordinary pages at an address that is suitable for transparent huge pages.
  [[nodiscard]] static result<posix::memory_mapping> ordinary(std::size_t size) {
    auto memory = posix::memory_mapping::anonymous(size);
    if (memory) ::madvise(memory->data(), memory->size(), MADV_HUGEPAGE);
    return memory;
  }

  dma_space space_;
  iova_allocator<4096> addresses_{page_bytes};
  std::vector<chunk> chunks_;
  std::vector<dma_region> mapped_;  // the caller's
};

}  // namespace phasebit::backend::vfio
