// SPDX-License-Identifier: BSL-1.0
// The memory that one queue pair shares with its device.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::driver {

// Regions that are each contiguous (CAP.CQR): both rings, one PRP list per command, and optional
// metadata buffers. Owns nothing: the controller releases it when the device does not use it any
// more.
struct queue_memory {
  dma_region submission;
  dma_region completion;
  dma_region lists;
  dma_region metadata;
  std::uint32_t entries = 0;
  std::uint32_t list_bytes = 0;
  std::uint32_t metadata_bytes = 0;  // of one command
  std::uint8_t entry_shift = 6;

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return entries != 0; }

  struct options {
    std::uint32_t metadata_bytes = 0;  // per command, a multiple of a cache line; 0: no buffers
    std::uint8_t entry_shift = 6;      // log2 of the submission entries' distance
    std::uint16_t list_alignment = 0;  // of PRP lists, a power of two
  };

  // Memory for `entries` entries and as many lists, each long enough for `max_transfer` bytes at any
  // offset. A list shorter than a page takes a power of two, so that it never crosses one; such lists
  // lie side by side, because lists of one page each would all fall into the same few cache sets.
  template <DmaMemory Memory>
  [[nodiscard]] static result<queue_memory> allocate(Memory& memory, std::uint32_t entries,
                                                     std::uint32_t max_transfer,
                                                     unsigned page_shift,
                                                     const options& wanted) noexcept {
    const std::size_t page = std::size_t{1} << page_shift;
    const std::size_t most = ((std::size_t{max_transfer} - 1) >> page_shift) + 1;
    const std::size_t least = prp::list_bytes_for(most, page_shift);
    // Not std::bit_ceil, which is a call of the compiler's library where bits are not counted in
    // hardware.
    std::size_t list = 1;
    while (list < least && list < page) list <<= 1;
    if (list < wanted.list_alignment) list = wanted.list_alignment;
    if (least > page) list = align_up(least, page);
    // Metadata buffers are counted by the slots of command ids: a power of two.
    std::size_t slots = 2;
    while (slots < entries) slots <<= 1;
    queue_memory made;
    made.entries = entries;
    made.list_bytes = static_cast<std::uint32_t>(list);
    made.metadata_bytes = wanted.metadata_bytes;
    made.entry_shift = wanted.entry_shift;
    struct {
      dma_region& region;
      std::size_t bytes;
    } const regions[] = {
        {made.submission, align_up(std::size_t{entries} << wanted.entry_shift, page)},
        {made.completion, align_up(entries * sizeof(completion_entry), page)},
        {made.lists, align_up(entries * list, page)},
        {made.metadata, slots * wanted.metadata_bytes},
    };
    for (const auto& [region, bytes] : regions) {
      if (bytes == 0) continue;
      const auto got = memory.allocate(bytes, page);
      if (!got) {
        made.release(memory);
        return got.error();
      }
      region = *got;
    }
    return made;
  }
  template <DmaMemory Memory>
  [[nodiscard]] static result<queue_memory> allocate(Memory& memory, std::uint32_t entries,
                                                     std::uint32_t max_transfer,
                                                     unsigned page_shift) noexcept {
    return allocate(memory, entries, max_transfer, page_shift, options{});
  }

  // Only after the device has released it.
  template <DmaMemory Memory>
  void release(Memory& memory) noexcept {
    for (dma_region* region : {&submission, &completion, &lists, &metadata}) {
      if (region->size() != 0) memory.release(*region);
      *region = {};
    }
    entries = 0;
  }

  [[nodiscard]] queue_layout layout(std::uint16_t qid, std::uint32_t max_transfer,
                                    std::uint8_t page_shift,
                                    const namespace_info& format) const noexcept {
    const std::size_t slots = std::size_t{entries} << (entry_shift - 6U);
    return {.qid = qid,
            .submission = {reinterpret_cast<submission_entry*>(submission.data()), slots},
            .completion = {reinterpret_cast<completion_entry*>(completion.data()), entries},
            .lists = lists,
            .list_bytes = list_bytes,
            .metadata = metadata,
            .metadata_bytes = metadata_bytes,
            .page_shift = page_shift,
            .entry_shift = entry_shift,
            .max_transfer = max_transfer,
            .format = format};
  }
};

}  // namespace phasebit::nvme::driver
