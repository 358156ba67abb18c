// SPDX-License-Identifier: BSL-1.0
// An allocator of address ranges: I/O virtual addresses, parts of a DMA region, a memory window.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

namespace phasebit {

// One entry of an allocator's table: a free range, or one that was allocated.
template <class Space>
struct address_extent {
  address<Space> begin{};
  std::uint64_t bytes = 0;
  bool used = false;
};

// Best fit over any number of disjoint ranges; neighbours merge when they become free. No heap: the
// table of extents is a member (Capacity entries) or, with std::dynamic_extent, the caller's.
// Everything is counted in granules, a power of two: sizes are rounded up to it. Linear in the
// number of extents; not for hot paths, and for one thread at a time.
template <std::size_t Capacity = std::dynamic_extent, class Space = bus_space>
class iova_allocator {
  static constexpr bool owns_table = Capacity != std::dynamic_extent;

 public:
  using extent = address_extent<Space>;

  constexpr explicit iova_allocator(std::uint64_t granule) noexcept
    requires owns_table
      : granule_(granule) {
    PHASEBIT_EXPECTS(is_power_of_two(granule), "a granule is a power of two");
  }
  // `table` outlives the allocator and belongs to it alone.
  constexpr iova_allocator(std::span<extent> table, std::uint64_t granule) noexcept
    requires(!owns_table)
      : table_(table), granule_(granule) {
    PHASEBIT_EXPECTS(is_power_of_two(granule), "a granule is a power of two");
  }
  // Two allocators of the same addresses would hand each of them out twice.
  iova_allocator(const iova_allocator&) = delete;
  iova_allocator& operator=(const iova_allocator&) = delete;
  constexpr iova_allocator(iova_allocator&&) noexcept = default;
  constexpr iova_allocator& operator=(iova_allocator&&) noexcept = default;
  ~iova_allocator() = default;

  // Makes [begin, begin + bytes) available, less what is not a whole granule at either end.
  // Errors: overflow, invalid_argument (no whole granule), overlap, exhausted (table full).
  constexpr result<> add(address<Space> begin, std::uint64_t bytes) noexcept {
    const auto end = range_end(begin, bytes);
    if (!end) return failure(errc::overflow, "the range wraps around the address space", bytes);
    const std::uint64_t skipped = distance_up(begin, granule_);
    if (bytes < skipped || bytes - skipped < granule_) {
      return failure(errc::invalid_argument, "the range holds no whole granule", begin.value());
    }
    const extent added{begin + skipped, align_down(bytes - skipped, granule_), false};
    const std::size_t at = first_ending_after(added.begin);
    if (at != count_ && table_[at].begin - added.begin < added.bytes) {
      return failure(errc::overlap, "the range was added before", begin.value());
    }
    if (at != count_ && table_[at].begin <= added.begin) {
      return failure(errc::overlap, "the range was added before", begin.value());
    }
    if (count_ == table_.size()) return table_full();
    insert(at, added);
    merge_around(at);
    return {};
  }

  // Takes [begin, begin + bytes), rounded outwards to granules, out of what can be allocated, for
  // ever: an interrupt window, a hole. Parts that were never added are no error.
  // Errors: overflow, busy (part of it is allocated), exhausted (table full).
  constexpr result<> reserve(address<Space> begin, std::uint64_t bytes) noexcept {
    const auto end = range_end(begin, bytes);
    if (!end) return failure(errc::overflow, "the range wraps around the address space", bytes);
    if (bytes == 0) return {};
    const address<Space> from = align_down(begin, granule_);
    const address<Space> last = align_down(*end - 1, granule_) + (granule_ - 1);
    std::size_t i = first_ending_after(from);
    const std::size_t first = i;
    bool splits = false;
    for (; i != count_ && table_[i].begin <= last; ++i) {
      if (table_[i].used) {
        return failure(errc::busy, "part of the range is in use", table_[i].begin.value());
      }
      splits = splits || (table_[i].begin < from && last < last_of(table_[i]));
    }
    if (splits && count_ == table_.size()) return table_full();
    i = first;
    while (i != count_ && table_[i].begin <= last) {
      const extent whole = table_[i];
      erase(i);
      if (whole.begin < from) insert(i++, {whole.begin, from - whole.begin, false});
      if (last < last_of(whole)) insert(i++, {last + 1, last_of(whole) - last, false});
    }
    return {};
  }

  // The lowest suitable address within the smallest free range that will do. `alignment` is a
  // power of two. Errors: invalid_argument (no bytes), exhausted.
  [[nodiscard]] constexpr result<address<Space>> allocate(std::uint64_t bytes,
                                                          std::uint64_t alignment = 1) noexcept {
    PHASEBIT_EXPECTS(is_power_of_two(alignment), "an alignment is a power of two");
    if (bytes == 0) return failure(errc::invalid_argument, "an allocation of no bytes");
    if (bytes > std::numeric_limits<std::uint64_t>::max() - granule_) return no_room(bytes);
    const std::uint64_t size = align_up(bytes, granule_);
    std::size_t best = count_;
    for (std::size_t i = 0; i != count_; ++i) {
      const extent& e = table_[i];
      if (e.used || e.bytes < size || e.bytes - size < distance_up(e.begin, alignment)) continue;
      if (best == count_ || e.bytes < table_[best].bytes) best = i;
    }
    if (best == count_) return no_room(bytes);
    return take(best, distance_up(table_[best].begin, alignment), size);
  }

  // Exactly this range, which begins on a granule. Errors: invalid_argument, misaligned, busy (not
  // all of it is free, or it was never added), exhausted (table full).
  constexpr result<> allocate_at(address<Space> begin, std::uint64_t bytes) noexcept {
    if (bytes == 0) return failure(errc::invalid_argument, "an allocation of no bytes");
    if (!is_aligned(begin, granule_)) {
      return failure(errc::misaligned, "the address does not begin a granule", begin.value());
    }
    const std::size_t at = first_ending_after(begin);
    if (at == count_ || table_[at].used || begin < table_[at].begin ||
        bytes > table_[at].bytes - (begin - table_[at].begin)) {
      return failure(errc::busy, "part of the range is not free", begin.value());
    }
    const auto taken = take(at, begin - table_[at].begin, align_up(bytes, granule_));
    if (!taken) return taken.error();
    return {};
  }

  // Gives back exactly what was allocated. Needs no table entry, so that it fails only with
  // not_found: freed twice, never allocated, or another size.
  constexpr result<> release(address<Space> begin, std::uint64_t bytes) noexcept {
    const std::size_t at = first_ending_after(begin);
    if (at == count_ || begin < table_[at].begin) {
      return failure(errc::not_found, "the range was never handed out", begin.value());
    }
    if (!table_[at].used) {
      return failure(errc::not_found, "the range is free already", begin.value());
    }
    if (table_[at].begin != begin || bytes == 0 || bytes > table_[at].bytes ||
        table_[at].bytes - bytes >= granule_) {
      return failure(errc::not_found, "the range is not one that was handed out", begin.value());
    }
    table_[at].used = false;
    merge_around(at);
    return {};
  }

  [[nodiscard]] constexpr std::uint64_t granule() const noexcept { return granule_; }
  [[nodiscard]] constexpr std::uint64_t free_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const extent& e : extents()) sum += e.used ? 0 : e.bytes;
    return sum;
  }
  [[nodiscard]] constexpr std::uint64_t largest_free() const noexcept {
    std::uint64_t most = 0;
    for (const extent& e : extents()) most = !e.used && e.bytes > most ? e.bytes : most;
    return most;
  }
  // All extents, sorted by address.
  [[nodiscard]] constexpr std::span<const extent> extents() const noexcept {
    return std::span<const extent>{table_.data(), count_};
  }

 private:
  // Not a subtraction from align_up: the last aligned address may lie beyond the space.
  [[nodiscard]] static constexpr std::uint64_t distance_up(address<Space> a,
                                                           std::uint64_t alignment) noexcept {
    return (0 - a.value()) & (alignment - 1);
  }
  [[nodiscard]] static constexpr address<Space> last_of(const extent& e) noexcept {
    return e.begin + (e.bytes - 1);
  }
  [[nodiscard]] static constexpr error no_room(std::uint64_t bytes) noexcept {
    return failure(errc::exhausted, "no free range has this size and alignment", bytes);
  }
  [[nodiscard]] constexpr error table_full() const noexcept {
    return failure(errc::exhausted, "the allocator's table of extents is full", table_.size());
  }

  // The extent that holds `a`, or the next one above it, or count_.
  [[nodiscard]] constexpr std::size_t first_ending_after(address<Space> a) const noexcept {
    std::size_t i = 0;
    while (i != count_ && last_of(table_[i]) < a) ++i;
    return i;
  }
  constexpr result<address<Space>> take(std::size_t at, std::uint64_t skip,
                                        std::uint64_t size) noexcept {
    const extent whole = table_[at];
    const std::uint64_t behind = whole.bytes - skip - size;
    const std::size_t more = (skip != 0 ? 1U : 0U) + (behind != 0 ? 1U : 0U);
    if (table_.size() - count_ < more) return table_full();
    table_[at] = {whole.begin + skip, size, true};
    if (behind != 0) insert(at + 1, {whole.begin + skip + size, behind, false});
    if (skip != 0) insert(at, {whole.begin, skip, false});
    return whole.begin + skip;
  }
  constexpr void merge_around(std::size_t at) noexcept {
    if (at + 1 != count_) merge(at, at + 1);
    if (at != 0) merge(at - 1, at);
  }
  constexpr void merge(std::size_t low, std::size_t high) noexcept {
    if (table_[low].used || table_[high].used) return;
    if (table_[low].begin + table_[low].bytes != table_[high].begin) return;
    table_[low].bytes += table_[high].bytes;
    erase(high);
  }
  constexpr void insert(std::size_t at, const extent& added) noexcept {
    for (std::size_t i = count_++; i != at; --i) table_[i] = table_[i - 1];
    table_[at] = added;
  }
  constexpr void erase(std::size_t at) noexcept {
    --count_;
    for (std::size_t i = at; i != count_; ++i) table_[i] = table_[i + 1];
  }

  std::conditional_t<owns_table, std::array<extent, owns_table ? Capacity : 1>, std::span<extent>>
      table_{};
  std::size_t count_ = 0;
  std::uint64_t granule_;
};

}  // namespace phasebit
