// SPDX-License-Identifier: BSL-1.0
// The storage behind the device side of a disk. NVMe controllers and virtio-blk devices require
// BlockMedia and are independent of the files, memory or other disks behind it.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/expects.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::block {

// How an access ended. Data, not an error: a device turns it into the status of its protocol.
enum class media_status : std::uint8_t {
  good,
  out_of_range,   // a block beyond the end; nothing was touched
  read_only,      // the media takes no writes
  no_space,       // thinly provisioned, and the provision is used up
  read_failed,    // what comes back is not what was stored
  write_failed,   // what is stored now is unknown
  not_supported,  // an optional access that this media lacks
  cancelled,      // ended early on request, without effect
};

// The status' name as it is spelt above.
[[nodiscard]] constexpr std::string_view name(media_status status) noexcept {
  constexpr std::string_view names[] = {"good",          "out_of_range", "read_only",
                                        "no_space",      "read_failed",  "write_failed",
                                        "not_supported", "cancelled"};
  return names[static_cast<std::size_t>(status)];
}

// Block sizes that media may have: what NVMe and virtio-blk hosts are able to use.
inline constexpr std::uint32_t min_block_size = 512;
inline constexpr std::uint32_t max_block_size = 4096;

// Numbered blocks of one size, a power of two from min_block_size to max_block_size. read and write
// move bytes.size() / block_size() blocks starting at `lba`; the size is a multiple of
// block_size(), which the caller guarantees, and the range may be out of bounds, which the media
// checks. A write that failed half-way has written some of its blocks. flush() returns when all
// written data survives a loss of power. Both sizes are constant while the media is in use. Called
// by one thread at a time unless the model documents otherwise; may block.
template <class T>
concept BlockMedia = requires(T& media, const T& constant, std::uint64_t lba,
                              std::span<std::byte> to, std::span<const std::byte> from) {
  { constant.block_size() } noexcept -> std::same_as<std::uint32_t>;
  { constant.block_count() } noexcept -> std::same_as<std::uint64_t>;
  { media.read(lba, to) } noexcept -> std::same_as<media_status>;
  { media.write(lba, from) } noexcept -> std::same_as<media_status>;
  { media.flush() } noexcept -> std::same_as<media_status>;
};

// Blocks whose content is no longer needed; they read as zeros or as before until written again.
template <class T>
concept TrimmableMedia = BlockMedia<T> && requires(T& media, std::uint64_t lba) {
  { media.trim(lba, std::uint64_t{}) } noexcept -> std::same_as<media_status>;
};

// Zeros without a buffer of zeros; the blocks read as zeros afterwards.
template <class T>
concept ZeroableMedia = BlockMedia<T> && requires(T& media, std::uint64_t lba) {
  { media.write_zeroes(lba, std::uint64_t{}) } noexcept -> std::same_as<media_status>;
};

// Media that may have been opened for reading only.
template <class T>
concept ProtectableMedia = BlockMedia<T> && requires(const T& media) {
  { media.read_only() } noexcept -> std::same_as<bool>;
};

template <BlockMedia Media>
[[nodiscard]] constexpr bool read_only(const Media& media) noexcept {
  if constexpr (ProtectableMedia<Media>) {
    return media.read_only();
  } else {
    return false;
  }
}

// Whether blocks [lba, lba + blocks) exist. The sum is never formed, so it cannot wrap.
template <BlockMedia Media>
[[nodiscard]] constexpr bool in_range(const Media& media, std::uint64_t lba,
                                      std::uint64_t blocks) noexcept {
  const std::uint64_t count = media.block_count();
  return lba <= count && blocks <= count - lba;
}

// log2 of a block size. Blocks are multiplied and divided by shifting, for 32-bit machines have no
// division of 64-bit numbers; and there are too few sizes for a bit-counting routine.
[[nodiscard]] constexpr unsigned shift_of(std::uint32_t block_size) noexcept {
  unsigned shift = 9;
  while (shift != 12 && std::uint32_t{1} << shift < block_size) ++shift;
  return shift;
}
template <BlockMedia Media>
[[nodiscard]] constexpr unsigned block_shift(const Media& media) noexcept {
  return shift_of(media.block_size());
}

// Returns whether a block may have `bytes` bytes.
[[nodiscard]] constexpr bool is_block_size(std::uint32_t bytes) noexcept {
  return bytes >= min_block_size && bytes <= max_block_size && (bytes & (bytes - 1)) == 0;
}

namespace detail {

alignas(16) inline constexpr std::byte zeros[max_block_size]{};

}  // namespace detail

// Writes zeros to `blocks` blocks, by the media's own means where it has some.
template <BlockMedia Media>
[[nodiscard]] media_status write_zeroes(Media& media, std::uint64_t lba,
                                        std::uint64_t blocks) noexcept {
  if (!in_range(media, lba, blocks)) return media_status::out_of_range;
  if constexpr (ZeroableMedia<Media>) {
    const media_status done = media.write_zeroes(lba, blocks);
    if (done != media_status::not_supported) return done;
  }
  const std::uint64_t at_once = max_block_size >> block_shift(media);
  while (blocks != 0) {
    const std::uint64_t now = blocks < at_once ? blocks : at_once;
    const auto bytes = static_cast<std::size_t>(now << block_shift(media));
    const media_status done = media.write(lba, std::span{detail::zeros}.first(bytes));
    if (done != media_status::good) return done;
    lba += now;
    blocks -= now;
  }
  return media_status::good;
}

// Hints that blocks are no longer needed; media that cannot use the hint ignore it.
template <BlockMedia Media>
[[nodiscard]] media_status trim(Media& media, std::uint64_t lba, std::uint64_t blocks) noexcept {
  if (!in_range(media, lba, blocks)) return media_status::out_of_range;
  if constexpr (TrimmableMedia<Media>) {
    const media_status done = media.trim(lba, blocks);
    if (done != media_status::not_supported) return done;
  }
  return read_only(media) ? media_status::read_only : media_status::good;
}

}  // namespace phasebit::block
