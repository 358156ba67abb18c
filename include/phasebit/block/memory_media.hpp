// SPDX-License-Identifier: BSL-1.0
// A disk in memory that someone else owns.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/core/int_cast.hpp>

namespace phasebit::block {

// Blocks in a span, which must outlive the media. Bytes beyond the last whole block are not used.
// Different blocks may be accessed by several threads at once; accesses to one block follow the
// rules of plain memory.
class memory_media {
 public:
  // `block_size` is a power of two from min_block_size to max_block_size.
  explicit constexpr memory_media(std::span<std::byte> bytes,
                                  std::uint32_t block_size = min_block_size) noexcept
      : bytes_(bytes), shift_(shift_of(block_size)) {
    PHASEBIT_EXPECTS(is_block_size(block_size), "a block size is a power of two from 512 to 4096");
  }

  [[nodiscard]] constexpr std::uint32_t block_size() const noexcept { return 1U << shift_; }
  [[nodiscard]] constexpr std::uint64_t block_count() const noexcept {
    return bytes_.size() >> shift_;
  }

  [[nodiscard]] media_status read(std::uint64_t lba, std::span<std::byte> to) noexcept {
    std::byte* const at = find(lba, to.size());
    if (at == nullptr) return media_status::out_of_range;
    if (!to.empty()) __builtin_memcpy(to.data(), at, to.size());
    return media_status::good;
  }
  [[nodiscard]] media_status write(std::uint64_t lba, std::span<const std::byte> from) noexcept {
    std::byte* const at = find(lba, from.size());
    if (at == nullptr) return media_status::out_of_range;
    if (!from.empty()) __builtin_memcpy(at, from.data(), from.size());
    return media_status::good;
  }
  [[nodiscard]] static constexpr media_status flush() noexcept { return media_status::good; }

  [[nodiscard]] media_status write_zeroes(std::uint64_t lba, std::uint64_t blocks) noexcept {
    if (!in_range(*this, lba, blocks)) return media_status::out_of_range;
    const auto bytes = int_cast<std::size_t>(blocks << shift_);
    if (bytes != 0) __builtin_memset(find(lba, bytes), 0, bytes);
    return media_status::good;
  }
  // Trimmed blocks read as zeros.
  [[nodiscard]] media_status trim(std::uint64_t lba, std::uint64_t blocks) noexcept {
    return write_zeroes(lba, blocks);
  }

 private:
  [[nodiscard]] std::byte* find(std::uint64_t lba, std::size_t bytes) const noexcept {
    PHASEBIT_EXPECTS(is_aligned(bytes, std::size_t{1} << shift_), "whole blocks are moved");
    if (lba > block_count() || bytes >> shift_ > block_count() - lba) return nullptr;
    return bytes_.data() + (int_cast<std::size_t>(lba) << shift_);
  }

  std::span<std::byte> bytes_;
  unsigned shift_;
};
static_assert(BlockMedia<memory_media>);
static_assert(TrimmableMedia<memory_media> && ZeroableMedia<memory_media>);

}  // namespace phasebit::block
