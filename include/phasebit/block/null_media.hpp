// SPDX-License-Identifier: BSL-1.0
// A disk that keeps nothing: what remains to be measured is the path to it.
#pragma once

#include <phasebit/block/media.hpp>

namespace phasebit::block {

// Writes vanish, and reads leave the buffer as it is: never give it to a guest that must not see
// what a buffer held before. Checks ranges like any other media. Any number of threads.
class null_media {
 public:
  // `block_size` is a power of two from min_block_size to max_block_size.
  explicit constexpr null_media(std::uint64_t blocks,
                                std::uint32_t block_size = min_block_size) noexcept
      : blocks_(blocks), shift_(shift_of(block_size)) {
    PHASEBIT_EXPECTS(is_block_size(block_size), "a block size is a power of two from 512 to 4096");
  }

  [[nodiscard]] constexpr std::uint32_t block_size() const noexcept { return 1U << shift_; }
  [[nodiscard]] constexpr std::uint64_t block_count() const noexcept { return blocks_; }

  [[nodiscard]] constexpr media_status read(std::uint64_t lba,
                                            std::span<std::byte> to) const noexcept {
    return check(lba, to.size() >> shift_);
  }
  [[nodiscard]] constexpr media_status write(std::uint64_t lba,
                                             std::span<const std::byte> from) const noexcept {
    return check(lba, from.size() >> shift_);
  }
  [[nodiscard]] static constexpr media_status flush() noexcept { return media_status::good; }
  [[nodiscard]] constexpr media_status write_zeroes(std::uint64_t lba,
                                                    std::uint64_t blocks) const noexcept {
    return check(lba, blocks);
  }

 private:
  [[nodiscard]] constexpr media_status check(std::uint64_t lba,
                                             std::uint64_t blocks) const noexcept {
    return in_range(*this, lba, blocks) ? media_status::good : media_status::out_of_range;
  }

  std::uint64_t blocks_;
  unsigned shift_;
};
static_assert(BlockMedia<null_media> && ZeroableMedia<null_media>);

}  // namespace phasebit::block
