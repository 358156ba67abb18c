// SPDX-License-Identifier: BSL-1.0
// Table pages out of one contiguous block of memory: a static array in firmware, a huge page,
// on-chip RAM.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/bit_scan.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::iommu {

// At most Pages pages of 2^GranuleShift bytes. Guarantees: allocate and release are lock-free and
// may be called by any number of threads and, like find, take what they are given with suspicion: a
// table released twice is kept once. Costs one bit per page beside the memory itself; allocate is
// constant-time while free pages are plentiful, and looks at Pages / 32 words at worst.
template <std::size_t Pages, unsigned GranuleShift = 12, class Space = host_space>
class table_arena {
  static_assert(Pages % 32 == 0, "pages are kept in words of 32");

 public:
  using space = Space;
  static constexpr std::size_t granule = std::size_t{1} << GranuleShift;

  // `bytes` is the memory that walkers address as `at`; both are aligned to the granule, and to 16
  // granules if a root of several pages is needed (RISC-V, concatenated Arm tables). Fills it with
  // zeros.
  table_arena(std::span<std::byte> bytes, address<Space> at) noexcept
      : bytes_(bytes.data()), at_(at), bias_(to_local(bytes.data()).value() - at.value()) {
    PHASEBIT_EXPECTS(is_aligned(at, granule) && is_aligned(to_local(bytes.data()), granule),
                     "the memory of a table arena is aligned to its granule");
    const std::size_t pages = bytes.size() / granule;
    count_ = pages < Pages ? pages : Pages;
    if (count_ != 0) __builtin_memset(bytes.data(), 0, count_ * granule);
    for (std::size_t page = count_; page < Pages; ++page) {
      word(page) |= std::uint32_t{1} << page % 32;
    }
  }
  table_arena(const table_arena&) = delete;
  table_arena& operator=(const table_arena&) = delete;

  // At most 32 granules at once. Fails with exhausted.
  [[nodiscard]] result<table_page<Space>> allocate(std::size_t bytes) noexcept {
    PHASEBIT_EXPECTS((bytes & (bytes - 1)) == 0 && bytes >= granule && bytes <= 32 * granule,
                     "a table is one to 32 granules, a power of two of them");
    const auto pages = static_cast<unsigned>(bytes >> GranuleShift);
    constexpr std::size_t words = Pages / 32;
    const std::size_t start = hint_.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i != words; ++i) {
      const std::size_t at = start + i < words ? start + i : start + i - words;
      const int bit = take(at, pages);
      if (bit < 0) continue;
      if (at != start) hint_.store(at, std::memory_order_relaxed);
      const std::size_t offset = (at * 32 + static_cast<unsigned>(bit)) << GranuleShift;
      return table_page<Space>{reinterpret_cast<table_word*>(bytes_ + offset), at_ + offset};
    }
    return failure(errc::exhausted, "the arena has no page left for a table");
  }

  void release(table_page<Space> page, std::size_t bytes) noexcept {
    const std::uint64_t offset = page.at - at_;
    if (!inside(offset, bytes)) return;
    const auto first = int_cast<std::size_t>(offset >> GranuleShift);
    const std::uint32_t mask = mask_of(static_cast<unsigned>(bytes >> GranuleShift)) << first % 32;
    std::atomic_ref{word(first)}.fetch_and(~mask, std::memory_order_release);
    hint_.store(first / 32, std::memory_order_relaxed);
  }

  [[nodiscard]] table_word* find(address<Space> at, std::size_t bytes) const noexcept {
    const std::uint64_t offset = at - at_;
    if (!inside(offset, bytes)) return nullptr;
    return reinterpret_cast<table_word*>(pointer_of(local_addr{at.value() + bias_}));
  }

  // Pages that are allocated now; exact while no other thread allocates.
  [[nodiscard]] std::size_t used() const noexcept {
    std::size_t sum = 0;
    for (auto& w : used_) {
      std::uint32_t bits = std::atomic_ref{w}.load(std::memory_order_relaxed);
      for (; bits != 0; bits &= bits - 1) ++sum;
    }
    return sum - (Pages - count_);
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return count_; }

 private:
  static constexpr std::uint32_t mask_of(unsigned pages) noexcept {
    return ~std::uint32_t{0} >> (32 - pages);
  }
  [[nodiscard]] bool inside(std::uint64_t offset, std::size_t bytes) const noexcept {
    // Rotated, bits below the granule make the number too large.
    const std::uint64_t page = std::rotr(offset, static_cast<int>(GranuleShift));
    return page < count_ && (bytes <= granule || bytes >> GranuleShift <= count_ - page);
  }
  std::uint32_t& word(std::size_t page) noexcept { return used_[page / 32]; }

  // Sets `pages` clear bits of a word, aligned to their number; the first one's place, or -1.
  int take(std::size_t at, unsigned pages) noexcept {
    std::atomic_ref<std::uint32_t> bits{used_[at]};
    std::uint32_t seen = bits.load(std::memory_order_relaxed);
    while (seen != ~std::uint32_t{0}) {
      int place = -1;
      for (unsigned bit = lowest_bit(~seen) & ~(pages - 1); bit < 32; bit += pages) {
        if ((seen >> bit & mask_of(pages)) == 0) {
          place = static_cast<int>(bit);
          break;
        }
      }
      if (place < 0) return -1;
      if (bits.compare_exchange_weak(seen, seen | mask_of(pages) << place,
                                     std::memory_order_acquire, std::memory_order_relaxed)) {
        return place;
      }
    }
    return -1;
  }

  std::byte* bytes_;
  address<Space> at_;
  std::uint64_t bias_;  // from where a table lies for walkers to where it lies here
  std::size_t count_ = 0;
  std::atomic<std::size_t> hint_{0};
  mutable std::array<std::uint32_t, Pages / 32> used_{};
};
static_assert(TableMemory<table_arena<32>>);

}  // namespace phasebit::iommu
