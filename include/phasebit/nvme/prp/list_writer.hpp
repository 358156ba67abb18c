// SPDX-License-Identifier: BSL-1.0
// Writes the entries of a PRP list, and the links from each list page to the next.
#pragma once

#include <phasebit/config.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::prp {

namespace detail {

// Vectors as wide as the target's registers; what is wider gets split, and then spilled.
#if defined(__AVX2__)
using lanes [[gnu::vector_size(32)]] = std::uint64_t;
inline constexpr lanes lane_index{0, 1, 2, 3};
#else
using lanes [[gnu::vector_size(16)]] = std::uint64_t;
inline constexpr lanes lane_index{0, 1};
#endif

// Writes n > 0 consecutive pages, rounded up to whole cache lines: nothing is left over that would
// need a branch per entry. What lies beyond entry n is not part of the list; a device stops at the
// command's length. The vectors are spelt out, for left to themselves compilers unroll the outer
// loop and transpose.
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
      : more_(more), left_(entries), page_shift_(page_shift) {
    if (begin_memory(first)) open_page();
  }

  // False where the lists do not suffice. What was written is then of no use.
  [[nodiscard]] bool put(std::uint64_t page) noexcept {
    if (room_ == 0 && !next_page()) return false;
    *to_++ = page;
    --room_;
    --left_;
    return true;
  }

  [[nodiscard]] bool put_run(std::uint64_t page, std::size_t count) noexcept {
    while (count != 0) {
      if (room_ == 0 && !next_page()) return false;
      const std::size_t now = count < room_ ? count : room_;
      for (std::size_t i = 0; i != now; ++i) {
        to_[i] = page + (std::uint64_t{i} << page_shift_);
      }
      to_ += now;
      room_ -= now;
      left_ -= now;
      page += std::uint64_t{now} << page_shift_;
      count -= now;
    }
    return true;
  }

 private:
  [[nodiscard]] bool begin_memory(const list_memory& list) noexcept {
    if (list.size() < cache_line) return false;
    PHASEBIT_EXPECTS(is_aligned(list.bus, cache_line) &&
                         is_aligned(to_local(list.data()).value(), cache_line) &&
                         is_aligned(list.size(), cache_line),
                     "a PRP list is made of whole cache lines");
    memory_ = list;
    return true;
  }

  // The part of the memory up to the end of this memory page. It takes all entries that are left,
  // or all but the link's slot, for a link can stand in a page's very last slot only.
  void open_page() noexcept {
    const std::size_t page = std::size_t{1} << page_shift_;
    const std::size_t until_end =
        page - (static_cast<std::size_t>(memory_.bus.value()) & (page - 1));
    const bool links = memory_.size() >= until_end;
    const std::size_t bytes = links ? until_end : memory_.size();
    const std::size_t slots = bytes / sizeof(entry);
    to_ = reinterpret_cast<entry*>(memory_.data());
    room_ = left_ <= slots ? left_ : links ? slots - 1 : 0;
    memory_ = memory_.part(bytes, memory_.size() - bytes);
    links_ = links;
  }

  [[nodiscard]] bool next_page() noexcept {
    if (!links_) return false;
    if (memory_.size() == 0 && !begin_memory(more_())) return false;
    const std::uint64_t begin = memory_.bus.value();
    PHASEBIT_EXPECTS(is_aligned(begin, std::uint64_t{1} << page_shift_),
                     "a list that another one leads to begins on a memory page");
    *to_ = begin;
    open_page();
    return room_ != 0;
  }

  More& more_;
  list_memory memory_{};  // what follows the open page
  entry* to_ = nullptr;
  std::size_t room_ = 0;  // entries that the open page still takes
  std::size_t left_;      // entries to come
  unsigned page_shift_;
  bool links_ = false;  // the open part ends where its memory page does
};

}  // namespace phasebit::nvme::prp
