// SPDX-License-Identifier: BSL-1.0
// The driver's side of PRPs: from buffers to the two fields of a command and its list.
#pragma once

#include <phasebit/config.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/prp/list_writer.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::nvme::prp {

namespace detail {

[[nodiscard, gnu::cold, gnu::noinline]] inline build_result refuse_contiguous(
    std::uint64_t begin, std::size_t bytes) noexcept {
  if (bytes == 0) return build_result::refused(errc::invalid_argument, "a transfer of no bytes");
  if ((begin & 3U) != 0) {
    return build_result::refused(errc::misaligned, "the buffer does not begin on a dword");
  }
  return build_result::refused(errc::overflow, "the buffer wraps around the address space");
}

// A list of more than one page, or one that does not fit: rare, hence kept out of the caller.
template <ListSource More>
[[nodiscard, gnu::cold, gnu::noinline]] build_result build_chained(std::uint64_t second,
                                                                   std::size_t entries,
                                                                   unsigned page_shift,
                                                                   list_memory list,
                                                                   More& more) noexcept {
  list_writer<More> writer{list, entries, page_shift, more};
  return writer.put_run(second, entries) ? build_result{} : too_few_lists();
}

}  // namespace detail

namespace detail {

// build_contiguous() with the list requested where one is needed.
template <class List, ListSource More>
PHASEBIT_ALWAYS_INLINE build_result build_contiguous(bus_addr begin, std::size_t bytes,
                                                     unsigned page_shift, List&& list_at_hand,
                                                     pointers& out, More& more) noexcept {
  const std::uint64_t first = begin.value();
  // Three faults and one branch: none of them ever happens to a program that works.
  if (((first & 3U) != 0) | (bytes == 0) | (first + bytes < first)) [[unlikely]] {
    return refuse_contiguous(first, bytes);
  }
  const std::uint64_t page = std::uint64_t{1} << page_shift;
  const std::uint64_t second = (first | (page - 1)) + 1;
  const auto in_first = int_cast<std::size_t>(second - first);
  out.prp1 = first;
  if (bytes <= in_first) {
    out.prp2 = 0;
    return {};
  }
  const std::size_t remaining = bytes - in_first;
  if (remaining <= page) {
    out.prp2 = second;
    return {};
  }
  const list_memory list = list_at_hand();
  out.prp2 = list.bus.value();
  const std::size_t entries = ((remaining - 1) >> page_shift) + 1;
  const std::size_t need = align_up(entries * sizeof(entry), cache_line);
  const auto until_page_end = int_cast<std::size_t>(page - (list.bus.value() & (page - 1)));
  if ((need > list.size()) | (need > until_page_end)) [[unlikely]] {
    return build_chained(second, entries, page_shift, list, more);
  }
  fill_lines(list.data(), second, page_shift, entries);
  return {};
}

}  // namespace detail

// Describes `bytes` contiguous bytes at `begin`. The list is touched only for more than two pages;
// then up to a cache line's worth of its slots beyond the last entry is written too. Refuses with
// invalid_argument (no bytes), misaligned (not on a dword), overflow (wraps), exhausted (lists too
// short). `page_shift` is that of CC.MPS; `list` must be free of the device until the command has
// completed. Touches nothing else: threads with lists of their own do not meet.
template <class More = no_more_lists>
  requires ListSource<std::remove_reference_t<More>>
PHASEBIT_ALWAYS_INLINE build_result build_contiguous(bus_addr begin, std::size_t bytes,
                                                     unsigned page_shift, const list_memory& list,
                                                     pointers& out, More&& more = {}) noexcept {
  return detail::build_contiguous(
      begin, bytes, page_shift, [&]() noexcept { return list; }, out, more);
}
// The same with list() called for the list where one is needed.
template <class List>
  requires std::is_nothrow_invocable_r_v<list_memory, List&>
PHASEBIT_ALWAYS_INLINE build_result build_contiguous(bus_addr begin, std::size_t bytes,
                                                     unsigned page_shift, List&& list,
                                                     pointers& out) noexcept {
  no_more_lists none;
  return detail::build_contiguous(begin, bytes, page_shift, list, out, none);
}

namespace detail {

// The pages that begin in a segment, of which PRP1's is none: each is an entry.
struct page_run {
  std::uint64_t first;
  std::size_t count;
};
[[nodiscard]] PHASEBIT_ALWAYS_INLINE page_run pages_beginning(const segment<bus_space>& p,
                                                              bool is_first,
                                                              unsigned page_shift) noexcept {
  const std::uint64_t mask = (std::uint64_t{1} << page_shift) - 1;
  const std::uint64_t begin = p.begin.value() + (is_first ? 1 : 0);
  const std::uint64_t end = p.begin.value() + p.bytes;
  const std::uint64_t page = (begin + mask) & ~mask;
  // Where rounding up wraps, no page begins behind.
  if (page >= end || page < begin) return {page, 0};
  return {page, int_cast<std::size_t>((end - 1 - page) >> page_shift) + 1};
}

// The number of the segment, and the error. At least one is at fault.
[[nodiscard, gnu::cold, gnu::noinline]] inline build_result refuse_segments(
    std::span<const segment<bus_space>> segments, unsigned page_shift,
    std::size_t max_bytes) noexcept {
  const std::uint64_t page = std::uint64_t{1} << page_shift;
  std::size_t total = 0;
  for (std::size_t i = 0; i != segments.size(); ++i) {
    const auto& [begin, bytes] = segments[i];
    if (bytes == 0)
      return build_result::refused(errc::invalid_argument, "a segment of no bytes", i);
    if (!range_end(begin, bytes)) {
      return build_result::refused(errc::overflow, "the segment wraps around the address space", i);
    }
    if (bytes > max_bytes - total) {
      return build_result::refused(errc::out_of_range,
                                   "the segments are longer than a transfer may be", i);
    }
    total += int_cast<std::size_t>(bytes);
    if (i == 0) {
      if (is_aligned(begin, 4)) continue;
      return build_result::refused(errc::misaligned, "the first segment does not begin on a dword",
                                   i);
    }
    const bus_addr before = segments[i - 1].begin + segments[i - 1].bytes;
    if (begin != before && !is_aligned(before, page)) {
      return build_result::refused(errc::misaligned,
                                   "a segment before the last does not end on a page", i - 1);
    }
    if (begin != before && !is_aligned(begin, page)) {
      return build_result::refused(errc::misaligned,
                                   "a segment after the first does not begin on a page", i);
    }
  }
  return build_result::refused(errc::invalid_argument, "a transfer of no segments");
}

}  // namespace detail

// Describes segments that the device reads or writes one after another. PRPs have no lengths, so that
// every segment but the first begins on a memory page and every segment but the last ends on one; a
// segment that merely continues its predecessor counts as a part of it. Refuses as above, naming the
// segment at fault, and with out_of_range where the sum is beyond `max_bytes`.
template <class More = no_more_lists>
  requires ListSource<std::remove_reference_t<More>>
[[nodiscard]] build_result build(std::span<const segment<bus_space>> segments, unsigned page_shift,
                                 std::size_t max_bytes, const list_memory& list, pointers& out,
                                 More&& more = {}) noexcept {
  PHASEBIT_EXPECTS(page_shift >= min_page_shift && page_shift <= max_page_shift,
                   "a memory page is 4 KiB to 128 MiB");
  // First everything is looked at, without a branch for each of the faults that do not happen.
  const std::uint64_t mask = (std::uint64_t{1} << page_shift) - 1;
  bool fault = segments.empty() || (segments.front().begin.value() & 3U) != 0;
  std::size_t total = 0;
  std::size_t entries = 0;
  std::uint64_t before = fault ? 0 : segments.front().begin.value();
  for (const segment<bus_space>& p : segments) {
    const std::uint64_t begin = p.begin.value();
    fault |= (p.bytes == 0) | (begin + p.bytes < begin) | (p.bytes > max_bytes - total);
    fault |= (begin != before) & (((begin | before) & mask) != 0);
    entries += detail::pages_beginning(p, &p == segments.data(), page_shift).count;
    total += int_cast<std::size_t>(p.bytes);
    before = begin + p.bytes;
  }
  if (fault) [[unlikely]] {
    return detail::refuse_segments(segments, page_shift, max_bytes);
  }

  pointers made{.prp1 = segments.front().begin.value(), .prp2 = 0};
  if (entries == 1) {
    std::size_t i = 0;
    while (detail::pages_beginning(segments[i], i == 0, page_shift).count == 0) ++i;
    made.prp2 = detail::pages_beginning(segments[i], i == 0, page_shift).first;
  } else if (entries > 1) {
    made.prp2 = list.bus.value();
    list_writer<std::remove_reference_t<More>> writer{list, entries, page_shift, more};
    for (const segment<bus_space>& p : segments) {
      const detail::page_run run = detail::pages_beginning(p, &p == segments.data(), page_shift);
      const bool fits =
          run.count == 1 ? writer.put(run.first) : writer.put_run(run.first, run.count);
      if (!fits) return detail::too_few_lists();
    }
  }
  out = made;
  return {};
}

}  // namespace phasebit::nvme::prp
