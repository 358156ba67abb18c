// SPDX-License-Identifier: BSL-1.0
// The emulated machine's RAM, mapped into this process: what its devices reach by DMA.
#pragma once

#include <phasebit/backend/qtest/board.hpp>
#include <phasebit/core/address.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/iova_allocator.hpp>
#include <phasebit/posix/memory_mapping.hpp>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace phasebit::backend::qtest {

// Hands out bus addresses of RAM and the bytes behind them; any number of threads. A region never
// lies in the legacy windows below 1 MiB of a PC, nor across the hole below 4 GiB.
class ram {
 public:
  static constexpr std::size_t granule = 64;
  static constexpr std::size_t max_regions = 8192;
  // The mapping begins at a multiple of this, as RAM does on all boards, so that pointers are aligned
  // wherever bus addresses are.
  static constexpr std::size_t most_alignment = std::size_t{1} << 30;

  // `mapping` is aligned to most_alignment (memory_mapping::shared_aligned).
  ram(posix::memory_mapping mapping, const board& where) noexcept
      : mapping_(std::move(mapping)), board_(where), table_(max_regions), free_(table_, granule) {
    const std::uint64_t total = mapping_.size();
    const std::uint64_t low = low_bytes();
    PHASEBIT_EXPECTS(is_aligned(to_local(mapping_.data()), most_alignment),
                     "the mapping of RAM is aligned to most_alignment");
    PHASEBIT_EXPECTS(low > where.reserved_low, "RAM that ends below the first usable byte");
    const auto added =
        free_.add(bus_addr{where.ram_base + where.reserved_low}, low - where.reserved_low);
    const auto more = total > low ? free_.add(bus_addr{where.high_base}, total - low) : result<>{};
    PHASEBIT_EXPECTS(added && more, "the two parts of RAM are disjoint");
  }
  ram(const ram&) = delete;
  ram& operator=(const ram&) = delete;

  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (alignment > most_alignment) {
      return failure(errc::out_of_range, "regions are aligned to at most 1 GiB", alignment);
    }
    const std::lock_guard lock{mutex_};
    const auto begin = free_.allocate(bytes, alignment);
    if (!begin) {
      return begin.error().code == errc::exhausted
                 ? failure(errc::exhausted,
                           "the emulated machine has no RAM of this size left: give it more memory",
                           bytes)
                 : begin.error();
    }
    const dma_region region{mapping_.bytes().subspan(offset_of(*begin), bytes), *begin};
    clear(region.bytes);
    return region;
  }
  // Memory that another process has allocated and a device uses: not cleared. Errors: busy (taken here already),
  // invalid_argument, misaligned.
  [[nodiscard]] result<dma_region> adopt(bus_addr begin, std::size_t bytes) noexcept {
    const std::lock_guard lock{mutex_};
    if (const auto taken = free_.allocate_at(begin, bytes); !taken) return taken.error();
    return dma_region{mapping_.bytes().subspan(offset_of(begin), bytes), begin};
  }
  void release(dma_region region) noexcept {
    const std::lock_guard lock{mutex_};
    const auto released = free_.release(region.bus, region.size());
    PHASEBIT_EXPECTS(released, "a region is released once, whole, to the memory it came from");
  }

  // All of it, in the order of the file.
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return mapping_.bytes(); }

 private:
  // Whole pages of a large region are given back to the kernel, and come again as zeros when they
  // are touched: unused RAM takes no memory.
  static void clear(std::span<std::byte> bytes) noexcept {
    constexpr std::size_t large = std::size_t{1} << 20;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto at = reinterpret_cast<std::uintptr_t>(bytes.data());
    const std::size_t head = (page - at % page) % page;
    if (bytes.size() >= large) {
      const std::size_t whole = (bytes.size() - head) / page * page;
      if (::madvise(bytes.data() + head, whole, MADV_REMOVE) == 0) {
        __builtin_memset(bytes.data(), 0, head);
        bytes = bytes.subspan(head + whole);
      }
    }
    if (!bytes.empty()) __builtin_memset(bytes.data(), 0, bytes.size());
  }

  [[nodiscard]] std::uint64_t low_bytes() const noexcept {
    return mapping_.size() >= board_.low_limit ? board_.low_bytes : mapping_.size();
  }
  [[nodiscard]] std::size_t offset_of(bus_addr at) const noexcept {
    const std::uint64_t from_base = at.value() - board_.ram_base;
    const bool is_low = from_base < low_bytes();
    return int_cast<std::size_t>(is_low ? from_base
                                        : low_bytes() + (at.value() - board_.high_base));
  }

  std::mutex mutex_;
  posix::memory_mapping mapping_;
  const board& board_;
  std::vector<address_extent<bus_space>> table_;
  iova_allocator<> free_;
};
static_assert(DmaMemory<ram>);

}  // namespace phasebit::backend::qtest
