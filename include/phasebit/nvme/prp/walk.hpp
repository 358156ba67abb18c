// SPDX-License-Identifier: BSL-1.0
// The device's side of PRPs: from a command's two fields to the segments of its data.
#pragma once

#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/nvme/prp/list_reader.hpp>
#include <phasebit/nvme/prp/types.hpp>
#include <phasebit/nvme/spec/status.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace phasebit::nvme::prp {

// Receives a segment of a command's data, and returns success or the status with which the command
// ends.
template <class T, class Space>
concept PieceSink = requires(T& sink, address<Space> begin, std::uint64_t bytes) {
  { sink(begin, bytes) } noexcept -> std::same_as<status_code>;
};

namespace detail {

// Passes on segments that follow one another in memory as one: most buffers are contiguous, and each
// segment costs a translation and a copy of its own.
template <class Space, PieceSink<Space> Each>
class merged_segments {
 public:
  explicit merged_segments(Each& each) noexcept : each_(each) {}

  [[nodiscard]] status_code add(std::uint64_t begin, std::uint64_t bytes) noexcept {
    // The page at address 0 does not continue the last one of the address space.
    if (begin == begin_ + bytes_ && bytes_ != 0 && begin != 0) {
      bytes_ += bytes;
      return status_code::success;
    }
    const status_code so_far = finish();
    begin_ = begin;
    bytes_ = bytes;
    return so_far;
  }
  [[nodiscard]] status_code finish() noexcept {
    return bytes_ == 0 ? status_code::success : hand_out(begin_, std::exchange(bytes_, 0));
  }

 private:
  // A segment whose end is no address any more cannot be read or written.
  [[nodiscard]] status_code hand_out(std::uint64_t begin, std::uint64_t bytes) noexcept {
    if (begin + bytes < begin) return status_code::data_transfer_error;
    return each_(address<Space>{begin}, bytes);
  }

  Each& each_;
  std::uint64_t begin_ = 0;
  std::uint64_t bytes_ = 0;
};

// Whether the pages follow one another, as those of most buffers do; without a branch per entry.
[[nodiscard]] inline bool consecutive(std::span<const entry> pages, unsigned page_shift) noexcept {
  const std::uint64_t first = pages.front();
  std::uint64_t difference = 0;
  for (std::size_t i = 0; i != pages.size(); ++i) {
    difference |= pages[i].get() ^ (first + (std::uint64_t{i} << page_shift));
  }
  return difference == 0 && pages.back().get() >= first;
}

[[nodiscard]] constexpr status_code status_of(list_end end, status_code stopped) noexcept {
  switch (end) {
    case list_end::complete:
      return status_code::success;
    case list_end::stopped:
      return stopped;
    case list_end::misaligned:
      return status_code::prp_offset_invalid;
    case list_end::unreadable:
      return status_code::data_transfer_error;
  }
  return status_code::internal_error;
}

}  // namespace detail

// Calls each(begin, bytes) for the segments of a command's data, in order; together they are
// exactly `bytes` long. Lists are read through `lists`, in whose address space the pointers are.
// All input is untrusted: see read_list for how a walk ends. PRP Offset Invalid for PRP1 off a
// dword, for PRP2 or an entry with a page offset, and for a list off an entry; Data Transfer Error
// for a list that cannot be read, and for a segment that wraps around the address space; else the
// status that `each` returned. Segments before a fault may have been visited.
template <LocalTranslator Lists, PieceSink<typename Lists::from> Each>
[[nodiscard]] status_code walk(Lists& lists, pointers p, std::uint64_t bytes, unsigned page_shift,
                               Each&& each) noexcept {
  using space = typename Lists::from;
  if (bytes == 0) return status_code::success;
  if ((p.prp1 & 3U) != 0) return status_code::prp_offset_invalid;
  const std::uint64_t page = std::uint64_t{1} << page_shift;
  const std::uint64_t in_first = page - (p.prp1 & (page - 1));
  if (bytes <= in_first) {
    if (p.prp1 + bytes < p.prp1) return status_code::data_transfer_error;
    return each(address<space>{p.prp1}, bytes);
  }

  detail::merged_segments<space, std::remove_reference_t<Each>> segments{each};
  status_code last = segments.add(p.prp1, in_first);
  std::uint64_t left = bytes - in_first;
  const std::uint64_t entries = entries_after_first(p.prp1, bytes, page_shift);
  if (!has_list(entries)) {
    if ((p.prp2 & (page - 1)) != 0) return status_code::prp_offset_invalid;
    last = segments.add(p.prp2, left);
    return last != status_code::success ? last : segments.finish();
  }
  const list_outcome walked = read_list(
      lists, p.prp2, entries, page_shift,
      [&](address<space>, std::span<const entry> copies) noexcept {
        if (detail::consecutive(copies, page_shift)) {
          const std::uint64_t all = std::uint64_t{copies.size()} << page_shift;
          const std::uint64_t now = left < all ? left : all;
          left -= now;
          last = segments.add(copies.front(), now);
          return last == status_code::success;
        }
        for (const entry& e : copies) {
          const std::uint64_t now = left < page ? left : page;
          left -= now;
          last = segments.add(e, now);
          if (last != status_code::success) return false;
        }
        return true;
      },
      [](address<space>, address<space>) noexcept { return true; });
  if (walked.end != list_end::complete) return detail::status_of(walked.end, last);
  return segments.finish();
}

}  // namespace phasebit::nvme::prp
