// SPDX-License-Identifier: BSL-1.0
// Writes the entries of a PRP list, and the links from each list page to the next.
#pragma once

#include <phasebit/config.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::prp {

namespace detail {

[[nodiscard]] constexpr build_result too_few_lists() noexcept {
  return build_result::refused(errc::exhausted,
                               "the transfer has more pages than its lists can hold");
}

// Vectors as wide as the target's registers; what is wider gets split, and then spilled.
#if defined(__AVX2__)
using lanes [[gnu::vector_size(32)]] = std::uint64_t;
inline constexpr lanes lane_index{0, 1, 2, 3};
#else
using lanes [[gnu::vector_size(16)]] = std::uint64_t;
inline constexpr lanes lane_index{0, 1};
#endif

// Writes n > 0 consecutive pages, rounded up to whole cache lines, so that no entry needs a branch
// of its own. Slots beyond entry n are not part of the list; a device stops at the command's
// length. The vectors are written out because compilers otherwise unroll the outer loop and
// transpose.
PHASEBIT_ALWAYS_INLINE void fill_lines(std::byte* line, std::uint64_t first_page,
                                       unsigned page_shift, std::size_t n) noexcept {
  auto* to = static_cast<std::byte*>(__builtin_assume_aligned(line, cache_line));
  const std::byte* const end = to + n * sizeof(entry);
  if constexpr (std::endian::native == std::endian::little && sizeof(void*) == 8) {
    const lanes step = lanes{} + (std::uint64_t{sizeof(lanes) / sizeof(entry)} << page_shift);
    lanes pages = (lane_index << page_shift) + first_page;
    do {
      for (std::size_t i = 0; i != cache_line; i += sizeof(lanes)) {
        __builtin_memcpy(to + i, &pages, sizeof(lanes));
        pages += step;
      }
      to += cache_line;
    } while (to < end);
  } else {
    do {
      for (std::size_t i = 0; i != entries_per_line; ++i) {
        const entry e = first_page + (std::uint64_t{i} << page_shift);
        __builtin_memcpy(to + i * sizeof(entry), &e, sizeof e);
      }
      first_page += std::uint64_t{entries_per_line} << page_shift;
      to += cache_line;
    } while (to < end);
  }
}

}  // namespace detail

// Takes entries one after another, or in runs of consecutive pages, and puts them into the first
// list and those that follow. The number of entries is known beforehand, because the last slot of a
// page is an entry if it is the last, and the link otherwise.
template <ListSource More>
class list_writer {
 public:
  list_writer(const list_memory& first, std::size_t entries, unsigned page_shift,
              More& more) noexcept
      : more_(more), page_(open(first, entries, page_shift)), page_shift_(page_shift) {}

  // All three return false if the lists are too short. The entries written so far are then
  // unusable.
  [[nodiscard]] bool put(std::uint64_t page) noexcept {
    if (page_.space == 0 && !next_page()) [[unlikely]] {
      return false;
    }
    *page_.to++ = page;
    --page_.space;
    return true;
  }
  [[nodiscard]] bool put_run(std::uint64_t page, std::size_t count) noexcept {
    while (count != 0) {
      if (page_.space == 0 && !next_page()) return false;
      const std::size_t now = count < page_.space ? count : page_.space;
      entry* const to = page_.to;
      for (std::size_t i = 0; i != now; ++i) to[i] = page + (std::uint64_t{i} << page_shift_);
      page_.to += now;
      page_.space -= now;
      page += std::uint64_t{now} << page_shift_;
      count -= now;
    }
    return true;
  }
  [[nodiscard]] bool put_all(std::span<const entry> entries) noexcept {
    while (!entries.empty()) {
      if (page_.space == 0 && !next_page()) return false;
      const std::size_t now = entries.size() < page_.space ? entries.size() : page_.space;
      __builtin_memcpy(page_.to, entries.data(), now * sizeof(entry));
      page_.to += now;
      page_.space -= now;
      entries = entries.subspan(now);
    }
    return true;
  }

 private:
  struct open_page {
    entry* to = nullptr;
    std::size_t space = 0;    // entries that this page still takes
    std::size_t later = 0;    // entries that come in further pages
    list_memory remaining{};  // the list memory behind this page
    bool links = false;       // the slot behind the last entry is the last of a memory page
  };

  // The part of the memory up to the end of its first memory page. It takes all entries, or all but
  // the link's slot, because a link can stand in a page's very last slot only.
  [[nodiscard]] static open_page open(const list_memory& memory, std::size_t entries,
                                      unsigned page_shift) noexcept {
    if (memory.size() < cache_line) return {};
    PHASEBIT_EXPECTS(is_aligned(memory.bus, cache_line) &&
                         is_aligned(to_local(memory.data()).value(), cache_line) &&
                         is_aligned(memory.size(), cache_line),
                     "a PRP list is made of whole cache lines");
    const std::size_t page = std::size_t{1} << page_shift;
    const std::size_t until_end = page - (int_cast<std::size_t>(memory.bus.value()) & (page - 1));
    open_page p;
    p.links = memory.size() >= until_end;
    const std::size_t bytes = p.links ? until_end : memory.size();
    const std::size_t slots = bytes / sizeof(entry);
    p.to = reinterpret_cast<entry*>(memory.data());
    p.space = entries <= slots ? entries : p.links ? slots - 1 : 0;
    p.later = entries - p.space;
    p.remaining = memory.subregion(bytes, memory.size() - bytes);
    return p;
  }

  [[nodiscard]] bool next_page() noexcept {
    page_ = following(page_, more_, page_shift_);
    return page_.space != 0;
  }
  // By value: were this object's address known elsewhere, every entry that is written would have
  // its members read again.
  [[nodiscard, gnu::cold, gnu::noinline]] static open_page following(open_page full, More& more,
                                                                     unsigned page_shift) noexcept {
    if (!full.links) return {};
    const list_memory next = full.remaining.size() != 0 ? full.remaining : more();
    const open_page p = open(next, full.later, page_shift);
    if (p.space == 0) return {};
    PHASEBIT_EXPECTS(is_aligned(next.bus, std::uint64_t{1} << page_shift),
                     "a list that another one leads to begins on a memory page");
    *full.to = next.bus.value();
    return p;
  }

  More& more_;
  open_page page_;
  unsigned page_shift_;
};

}  // namespace phasebit::nvme::prp
