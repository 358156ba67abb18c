// SPDX-License-Identifier: BSL-1.0
// What one queue pair needs of a device's memory.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::driver {

// Three regions, each contiguous (CAP.CQR): both rings, and one PRP list per command. Owns nothing:
// the controller gives it back when the device has let go of it.
struct queue_memory {
  dma_region submission;
  dma_region completion;
  dma_region lists;
  std::uint32_t entries = 0;
  std::uint32_t list_bytes = 0;

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return entries != 0; }

  // Memory for `entries` entries and as many lists, each long enough for `max_transfer` bytes at any
  // offset. A list shorter than a page takes a power of two, so that it never crosses one; such lists
  // lie side by side, for with one page each they would all fall into the same few cache sets.
  template <DmaMemory Memory>
  [[nodiscard]] static result<queue_memory> allocate(Memory& memory, std::uint32_t entries,
                                                     std::uint32_t max_transfer,
                                                     unsigned page_shift) noexcept {
    const std::size_t page = std::size_t{1} << page_shift;
    const std::size_t most = ((std::size_t{max_transfer} - 1) >> page_shift) + 1;
    const std::size_t least = prp::list_bytes_for(most, page_shift);
    // Not std::bit_ceil, which is a call of the compiler's library where bits are not counted in
    // hardware.
    std::size_t list = 1;
    while (list < least && list < page) list <<= 1;
    if (least > page) list = align_up(least, page);
    queue_memory made;
    made.entries = entries;
    made.list_bytes = static_cast<std::uint32_t>(list);
    struct {
      dma_region& region;
      std::size_t bytes;
    } const wanted[] = {
        {made.submission, align_up(entries * sizeof(submission_entry), page)},
        {made.completion, align_up(entries * sizeof(completion_entry), page)},
        {made.lists, align_up(entries * list, page)},
    };
    for (const auto& [region, bytes] : wanted) {
      const auto got = memory.allocate(bytes, page);
      if (!got) {
        made.release(memory);
        return got.error();
      }
      region = *got;
    }
    return made;
  }

  // Only after the device has let go of it.
  template <DmaMemory Memory>
  void release(Memory& memory) noexcept {
    for (dma_region* region : {&submission, &completion, &lists}) {
      if (region->size() != 0) memory.release(*region);
      *region = {};
    }
    entries = 0;
  }

  [[nodiscard]] queue_layout layout(std::uint16_t qid, std::uint32_t max_transfer,
                                    std::uint8_t page_shift,
                                    std::uint8_t block_shift) const noexcept {
    return {.qid = qid,
            .submission = {reinterpret_cast<submission_entry*>(submission.data()), entries},
            .completion = {reinterpret_cast<completion_entry*>(completion.data()), entries},
            .lists = lists,
            .list_bytes = list_bytes,
            .page_shift = page_shift,
            .block_shift = block_shift,
            .max_transfer = max_transfer};
  }
};

}  // namespace phasebit::nvme::driver
