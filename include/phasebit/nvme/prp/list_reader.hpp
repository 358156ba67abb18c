// SPDX-License-Identifier: BSL-1.0
// Reads a PRP list that the other side wrote, and may be writing still.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::prp {

enum class list_end : std::uint8_t {
  complete,    // all entries were visited
  stopped,     // ended by a visitor
  misaligned,  // an entry or a link with a page offset, or a list that begins off an entry
  unreadable,  // the list lies where nothing can be read
};

struct list_outcome {
  list_end end = list_end::complete;
  std::uint64_t entries_read = 0;  // data entries before the fault
};

// Whether the entries of a command's second field are a list: more than two pages in all.
// `entries` counts those after PRP1.
[[nodiscard]] constexpr bool has_list(std::uint64_t entries) noexcept { return entries > 1; }

// The pages of `bytes` > 0 bytes beside the one that PRP1 is in. The sum does not wrap for any
// length: it is the difference that is counted.
[[nodiscard]] constexpr std::uint64_t entries_after_first(std::uint64_t prp1, std::uint64_t bytes,
                                                          unsigned page_shift) noexcept {
  const std::uint64_t page = std::uint64_t{1} << page_shift;
  const std::uint64_t in_first = page - (prp1 & (page - 1));
  return bytes <= in_first ? 0 : ((bytes - in_first - 1) >> page_shift) + 1;
}

// Visits `entries` data entries, from the list at `begin` on. Every slot is read exactly once, into
// a copy; what lies behind the last entry is not read at all. on_entries(where, copies) is called
// for up to a few dozen at a time, all with page offset 0; on_link(where, next) before each step to
// a further list page. Both return false to end the walk.
//
// Ends for any content of the memory: each page but the first yields 511 entries at least, so that a
// page that links to itself is read as often as a list of this length has pages, and no more.
template <LocalTranslator Lists, class OnEntries, class OnLink>
[[nodiscard]] list_outcome read_list(Lists& lists, std::uint64_t begin, std::uint64_t entries,
                                     unsigned page_shift, OnEntries&& on_entries,
                                     OnLink&& on_link) noexcept {
  using where = address<typename Lists::from>;
  constexpr std::size_t chunk_entries = 64;
  const std::uint64_t mask = (std::uint64_t{1} << page_shift) - 1;
  std::array<entry, chunk_entries> chunk;
  list_outcome outcome;
  // NVMe Base 2.0, 4.1.1: the first list may begin at any entry of a page, further ones with one.
  if ((begin & (sizeof(entry) - 1)) != 0) return {list_end::misaligned, 0};
  std::uint64_t at = begin;
  for (;;) {
    const std::uint64_t slots = (mask + 1 - (at & mask)) / sizeof(entry);
    const bool links = entries > slots;
    std::uint64_t here = links ? slots - 1 : entries;
    entries -= here;
    while (here != 0) {
      const auto now = static_cast<std::size_t>(here < chunk_entries ? here : chunk_entries);
      const auto copies = std::span{chunk}.first(now);
      if (!dma_read(lists, where{at}, std::as_writable_bytes(copies))) {
        outcome.end = list_end::unreadable;
        return outcome;
      }
      // Checks all entries together, which vectorises well; a second pass finds the entry at fault.
      std::uint64_t offsets = 0;
      for (const entry& e : copies) offsets |= e.get();
      if ((offsets & mask) != 0) [[unlikely]] {
        for (const entry& e : copies) {
          if ((e.get() & mask) != 0) break;
          ++outcome.entries_read;
        }
        outcome.end = list_end::misaligned;
        return outcome;
      }
      outcome.entries_read += now;
      if (!on_entries(where{at}, copies)) {
        outcome.end = list_end::stopped;
        return outcome;
      }
      at += now * sizeof(entry);
      here -= now;
    }
    if (!links) return outcome;
    const auto next = dma_read<entry>(lists, where{at});
    if (!next || (next->get() & mask) != 0) {
      outcome.end = next ? list_end::misaligned : list_end::unreadable;
      return outcome;
    }
    if (!on_link(where{at}, where{next->get()})) {
      outcome.end = list_end::stopped;
      return outcome;
    }
    at = next->get();
  }
}

}  // namespace phasebit::nvme::prp
