// SPDX-License-Identifier: BSL-1.0
// Cuts a transfer into commands: at the device's limits (MDTS, an optimal I/O boundary), and where
// PRPs cannot express a buffer in one.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/nvme/driver/submitted.hpp>
#include <phasebit/nvme/prp/types.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::driver {

// The limits of a single command.
struct split_limits {
  std::uint64_t max_bytes = 0;        // of one command
  std::uint64_t boundary_blocks = 0;  // no command crosses a multiple of this (NOIOB); 0: none
  std::uint32_t block_bytes = 512;    // of the buffer: with the metadata, where it lies inline
  std::uint8_t page_shift = 12;
};

// One command's share: so many blocks at this LBA, and where their bytes lie.
template <std::size_t MaxSegments>
struct split_part {
  std::uint64_t lba = 0;
  std::uint32_t blocks = 0;
  std::uint32_t segment_count = 0;
  std::array<segment<bus_space>, MaxSegments> segments{};

  [[nodiscard]] constexpr std::span<const segment<bus_space>> used() const noexcept {
    return {segments.data(), segment_count};
  }
};

// Walks through a scatter list once and returns parts in order, each as long as it may be. The list
// stays the caller's until the last part was taken. Bounded: each part has at least one block.
template <std::size_t MaxSegments = 32>
class splitter {
 public:
  constexpr splitter() noexcept = default;
  constexpr splitter(std::uint64_t lba, std::span<const segment<bus_space>> segments,
                     const split_limits& limits) noexcept
      : limits_(limits), segments_(segments), lba_(lba) {}

  // Whether everything was returned.
  [[nodiscard]] constexpr bool done() const noexcept { return index_ == segments_.size(); }
  [[nodiscard]] constexpr std::size_t segment_index() const noexcept { return index_; }

  // The next part; refused where a cut would have to fall inside of a block, or the part would begin
  // off a dword. There must be something left.
  [[nodiscard]] constexpr prp::build_result next(split_part<MaxSegments>& out) noexcept {
    const std::size_t at = index_;
    const std::uint64_t skip = offset_;
    const std::uint64_t most = transfer_limit();
    std::uint64_t bytes = gather(out, most);
    // A part is made of whole blocks; what was gathered beyond goes back.
    const std::uint64_t extra = remainder(bytes, limits_.block_bytes);
    if (extra != 0) {
      index_ = at;
      offset_ = skip;
      bytes = bytes == extra ? 0 : gather(out, bytes - extra);
    }
    if (bytes == 0) {
      return prp::build_result::refused(
          errc::misaligned, "PRPs cannot express the buffer, and a cut would split a block",
          index_);
    }
    if ((out.segments[0].begin.value() & 3U) != 0) {
      return prp::build_result::refused(errc::misaligned, "the buffer does not begin on a dword",
                                        at);
    }
    out.lba = lba_;
    out.blocks = blocks_of(bytes);
    lba_ += out.blocks;
    return {};
  }

 private:
  static constexpr std::uint32_t most_blocks = 65'536;  // NLB is 16 bits, zero-based

  // The whole blocks in at most 4 GiB of one command; no more than most_blocks.
  [[nodiscard]] constexpr std::uint32_t blocks_of(std::uint64_t bytes) const noexcept {
    const std::uint64_t all = std::uint64_t{most_blocks} * limits_.block_bytes;
    if (bytes >= all) return static_cast<std::uint32_t>(most_blocks);
    // Not a division, which machines of 32 bits call a support function for.
    std::uint32_t blocks = 0;
    for (std::uint32_t bit = most_blocks; bit != 0; bit >>= 1) {
      if (std::uint64_t{blocks + bit} * limits_.block_bytes <= bytes) blocks += bit;
    }
    return blocks;
  }
  [[nodiscard]] constexpr std::uint64_t transfer_limit() const noexcept {
    std::uint64_t blocks = blocks_of(limits_.max_bytes);
    if (limits_.boundary_blocks != 0) {
      const std::uint64_t to_boundary =
          limits_.boundary_blocks - remainder(lba_, limits_.boundary_blocks);
      if (to_boundary < blocks) blocks = to_boundary;
    }
    return blocks * limits_.block_bytes;
  }

  // Takes up to `most` bytes, as long as PRPs can express them; returns how many.
  constexpr std::uint64_t gather(split_part<MaxSegments>& out, std::uint64_t most) noexcept {
    const std::uint64_t page_mask = (std::uint64_t{1} << limits_.page_shift) - 1;
    std::uint64_t bytes = 0;
    out.segment_count = 0;
    while (bytes != most && index_ != segments_.size()) {
      const segment<bus_space>& from = segments_[index_];
      const std::uint64_t begin = from.begin.value() + offset_;
      if (out.segment_count != 0) {
        auto& last = out.segments[out.segment_count - 1];
        const std::uint64_t end = last.begin.value() + last.bytes;
        const bool continues = begin == end;
        if (!continues && (((begin | end) & page_mask) != 0 || out.segment_count == MaxSegments))
          break;
        const std::uint64_t now = take(from, most - bytes);
        if (continues) {
          last.bytes += now;
        } else {
          out.segments[out.segment_count++] = {bus_addr{begin}, now};
        }
        bytes += now;
      } else {
        const std::uint64_t now = take(from, most);
        if (now == 0) continue;
        out.segments[out.segment_count++] = {bus_addr{begin}, now};
        bytes += now;
      }
    }
    return bytes;
  }
  constexpr std::uint64_t take(const segment<bus_space>& from, std::uint64_t most) noexcept {
    const std::uint64_t left = from.bytes - offset_;
    const std::uint64_t now = left < most ? left : most;
    offset_ += now;
    if (offset_ == from.bytes) {
      ++index_;
      offset_ = 0;
    }
    return now;
  }

  split_limits limits_{};
  std::span<const segment<bus_space>> segments_;
  std::uint64_t lba_ = 0;
  std::size_t index_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace phasebit::nvme::driver
