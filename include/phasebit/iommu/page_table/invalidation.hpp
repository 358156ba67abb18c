// SPDX-License-Identifier: BSL-1.0
// The result of changing page tables: address ranges to invalidate in hardware's caches, and tables
// that may still be walked until that is done.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::iommu {

// Input addresses whose cached translations are stale. The end is inclusive, so that the last byte
// of a 64-bit space can be named. page_sizes: bit n is set if pages of 2^n bytes may have been
// touched (needed for Arm's TTL hint and VT-d's address mask); tables: entries that pointed at
// tables were touched too, so that caches of upper levels must be invalidated (VT-d IH = 0, Arm
// Leaf = 0).
template <class Space>
struct invalidation_range {
  address<Space> first;
  address<Space> last;
  std::uint64_t page_sizes = 0;
  bool tables = false;

  friend constexpr bool operator==(const invalidation_range&,
                                   const invalidation_range&) noexcept = default;
};

// Gathers the ranges of any number of changes in bounded space: where there are more than
// `capacity`, those that lie closest together become one, which invalidates more, never less.
// Belongs to one thread. After the hardware (and every software walker) has carried the
// invalidation out, page_table::complete() releases the retired tables and empties this; it must
// not end before.
//
// `flush`, where given, carries out the invalidation of ranges() and returns when it is done. Only
// a change that needs break-before-make calls it, in the middle of its work.
template <class Space>
class invalidations {
 public:
  static constexpr std::size_t capacity = 8;
  using range = invalidation_range<Space>;
  using flush_function = void (*)(void* context, std::span<const range> ranges) noexcept;

  invalidations() noexcept {}
  invalidations(flush_function function, void* context) noexcept
      : flush_(function), context_(context) {}
  invalidations(const invalidations&) = delete;
  invalidations& operator=(const invalidations&) = delete;
  ~invalidations() {
    PHASEBIT_EXPECTS(retired_ == 0,
                     "retired page tables were never released: call complete() when the "
                     "invalidation is done");
  }

  [[nodiscard]] std::span<const range> ranges() const noexcept { return {ranges_.data(), count_}; }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0 && retired_ == 0; }
  [[nodiscard]] bool can_flush() const noexcept { return flush_ != nullptr; }
  // Tables that wait for complete().
  [[nodiscard]] std::size_t retired_tables() const noexcept { return retired_; }

  PHASEBIT_ALWAYS_INLINE void add(address<Space> first, address<Space> last,
                                  std::uint64_t page_sizes, bool tables) noexcept {
    if (count_ != 0) [[unlikely]] {
      join(first, last, page_sizes, tables);
      return;
    }
    // Member by member: a copy of the whole would wait for the stores that it is made of.
    range& only = ranges_[0];
    only.first = first;
    only.last = last;
    only.page_sizes = page_sizes;
    only.tables = tables;
    count_ = 1;
  }

  // Carries the gathered ranges out now. There is a flush function.
  void flush() noexcept {
    PHASEBIT_EXPECTS(flush_ != nullptr, "invalidations without a flush function cannot flush");
    if (count_ != 0) flush_(context_, ranges());
    count_ = 0;
  }

  // The list of retired tables: the page table that filled it empties it. It is threaded through
  // word 0 of each table, as an address with no present bit, so that a walker that is still inside
  // sees an absent entry.
  void retire(table_word* words, std::uint64_t at) noexcept {
    detail::store_entry_relaxed(words, retired_ == 0 ? 0 : head_);
    head_ = at;
    ++retired_;
  }
  [[nodiscard]] std::uint64_t first_retired() const noexcept { return head_; }
  void forget() noexcept {
    count_ = 0;
    retired_ = 0;
  }

 private:
  // Beside the ranges that are there already.
  [[gnu::noinline]] void join(address<Space> first, address<Space> last, std::uint64_t page_sizes,
                              bool tables) noexcept {
    const range added{first, last, page_sizes, tables};
    for (std::size_t i = 0; i != count_; ++i) {
      range& r = ranges_[i];
      // Touching or overlapping; the differences do not wrap where the comparison before holds.
      const bool below = added.last < r.first && r.first - added.last > 1;
      const bool above = added.first > r.last && added.first - r.last > 1;
      if (below || above) continue;
      widen(r, added);
      return;
    }
    if (count_ == capacity) make_room();
    ranges_[count_++] = added;
  }
  static void widen(range& r, const range& by) noexcept {
    if (by.first < r.first) r.first = by.first;
    if (by.last > r.last) r.last = by.last;
    r.page_sizes |= by.page_sizes;
    r.tables |= by.tables;
  }
  // Joins the two neighbours with the smallest gap between them.
  void make_room() noexcept {
    std::size_t low = 0;
    std::size_t high = 1;
    std::uint64_t least = ~std::uint64_t{0};
    for (std::size_t i = 0; i != count_; ++i) {
      for (std::size_t j = 0; j != count_; ++j) {
        if (i == j || ranges_[j].first < ranges_[i].last) continue;
        const std::uint64_t gap = ranges_[j].first - ranges_[i].last;
        if (gap < least) {
          least = gap;
          low = i;
          high = j;
        }
      }
    }
    widen(ranges_[low], ranges_[high]);
    ranges_[high] = ranges_[--count_];
  }

  flush_function flush_ = nullptr;
  void* context_ = nullptr;
  std::size_t count_ = 0;
  std::size_t retired_ = 0;
  std::uint64_t head_ = 0;
  std::array<range, capacity> ranges_;
};

}  // namespace phasebit::iommu
