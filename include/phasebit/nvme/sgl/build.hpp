// SPDX-License-Identifier: BSL-1.0
// The driver's side of scatter gather lists: from buffers to a command's data pointer.
#pragma once

#include <phasebit/nvme/sgl/segment_writer.hpp>
#include <phasebit/nvme/sgl/types.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

namespace phasebit::nvme::sgl {

// Describes data blocks of any address and length, in their order, and sets the command's PSDT. One
// block, or several that follow each other in memory, need no segment. Refuses with
// invalid_argument (no blocks, or one of no bytes), overflow (wraps), out_of_range (the sum is
// beyond `max_bytes` or 4 GiB), misaligned (off a dword, where `dwords_only`, as SGLS bits 1:0 = 10b
// request) and exhausted (segments too short), naming the block; the command is then as it was.
template <class More = no_more_lists>
  requires ListSource<std::remove_reference_t<More>>
[[nodiscard]] build_result build(std::span<const segment<bus_space>> blocks, std::size_t max_bytes,
                                 bool dwords_only, const segment_memory& list,
                                 submission_entry& command, More&& more = {}) noexcept {
  if (blocks.empty())
    return build_result::refused(errc::invalid_argument, "a transfer of no blocks");
  const std::uint64_t most = max_bytes < std::numeric_limits<std::uint32_t>::max()
                                 ? max_bytes
                                 : std::numeric_limits<std::uint32_t>::max();
  segment_writer<std::remove_reference_t<More>> writer{list, more};
  std::uint64_t total = 0;
  for (std::size_t i = 0; i != blocks.size(); ++i) {
    const auto& [begin, bytes] = blocks[i];
    if (bytes == 0) return build_result::refused(errc::invalid_argument, "a block of no bytes", i);
    if (!range_end(begin, bytes)) {
      return build_result::refused(errc::overflow, "the block wraps around the address space", i);
    }
    if (bytes > most - total) {
      return build_result::refused(errc::out_of_range,
                                   "the blocks are longer than a transfer may be", i);
    }
    if (dwords_only && ((begin.value() | bytes) & 3U) != 0) {
      return build_result::refused(errc::misaligned, "a block is not made of dwords", i);
    }
    total += bytes;
    if (!writer.put(sgl_type::data_block, begin, static_cast<std::uint32_t>(bytes))) {
      return build_result::refused(errc::exhausted,
                                   "there are more blocks than the segments can hold", i);
    }
  }
  if (!writer.finish(command)) {
    return build_result::refused(
        errc::exhausted, "there are more blocks than the segments can hold", blocks.size() - 1);
  }
  return {};
}

}  // namespace phasebit::nvme::sgl
