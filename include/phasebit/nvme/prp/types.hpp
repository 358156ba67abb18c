// SPDX-License-Identifier: BSL-1.0
// Physical region pages: the addresses of a command's data (NVMe Base 2.0, section 4.1.1). PRP1 may
// begin anywhere in a memory page; every other entry is a whole page. PRP2 is the second page, or
// the address of a list of pages if there are more than two.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::prp {

// An entry as it lies in a list.
using entry = le<std::uint64_t>;

inline constexpr std::size_t entries_per_line = cache_line / sizeof(entry);

// log2 of the memory page: 12 + CC.MPS, hence 4 KiB to 128 MiB.
inline constexpr unsigned min_page_shift = 12;
inline constexpr unsigned max_page_shift = 27;

// The two fields of a command, as numbers.
struct pointers {
  std::uint64_t prp1 = 0;
  std::uint64_t prp2 = 0;

  friend constexpr bool operator==(pointers, pointers) noexcept = default;
};

// Where a list may be written: contiguous for processor and device, begins on a cache line, and is a
// whole number of lines. It may be a part of a memory page, or as many whole pages as one likes
// beginning on a page: the list then continues from each into the next.
using list_memory = dma_region;

// Whether pointers were made; if not, the reason and the index of the segment or entry at fault. A
// refusal has written nothing that a device looks at. Small: it is returned once per command.
struct [[nodiscard]] build_result {
  const char* what = nullptr;  // a sentence; null if all went well
  errc reason = errc::invalid_argument;
  std::uint32_t index = 0;  // of the segment or entry at fault

  [[nodiscard]] static constexpr build_result refused(errc reason, const char* what,
                                                      std::size_t index = 0) noexcept {
    return {what, reason, static_cast<std::uint32_t>(index)};
  }
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return what == nullptr; }

  // Of a refusal only.
  [[nodiscard]] constexpr error as_error() const noexcept {
    PHASEBIT_EXPECTS(what != nullptr, "a build_result without a fault is no error");
    return failure(reason, what).at(index);
  }
};

// Hands out one more list memory, beginning on a memory page, each time that it is called; an empty
// one when there are no more. Called only where the list in use is too short.
template <class T>
concept ListSource = requires(T& source) {
  { source() } noexcept -> std::same_as<list_memory>;
};

struct no_more_lists {
  [[nodiscard]] constexpr list_memory operator()() const noexcept { return {}; }
};
static_assert(ListSource<no_more_lists>);

// Lists that were set aside beforehand, first to last.
class lists_of {
 public:
  constexpr explicit lists_of(std::span<const list_memory> lists) noexcept : rest_(lists) {}
  [[nodiscard]] constexpr list_memory operator()() noexcept {
    if (rest_.empty()) return {};
    const list_memory next = rest_.front();
    rest_ = rest_.subspan(1);
    return next;
  }

 private:
  std::span<const list_memory> rest_;
};
static_assert(ListSource<lists_of>);

// How many entries a contiguous transfer has beside PRP1. `bytes` is not 0 and the range does not
// wrap.
[[nodiscard]] constexpr std::size_t entries_after_first(bus_addr begin, std::size_t bytes,
                                                        unsigned page_shift) noexcept {
  const std::size_t page = std::size_t{1} << page_shift;
  const std::size_t offset = int_cast<std::size_t>(begin.value()) & (page - 1);
  const std::size_t first = page - offset;
  return bytes <= first ? 0 : ((bytes - first - 1) >> page_shift) + 1;
}

// The bytes of a list memory, beginning on a page, that holds so many entries and the links that
// they need: of each page's slots one is lost to the link unless it is the last page.
[[nodiscard]] constexpr std::size_t list_bytes_for(std::size_t entries,
                                                   unsigned page_shift) noexcept {
  const std::size_t slots = (std::size_t{1} << page_shift) / sizeof(entry);
  std::size_t pages = 0;
  for (; entries > slots; entries -= slots - 1) ++pages;
  const std::size_t remaining = align_up(entries * sizeof(entry), cache_line);
  return (pages << page_shift) + remaining;
}

}  // namespace phasebit::nvme::prp
