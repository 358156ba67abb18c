// SPDX-License-Identifier: BSL-1.0
// A contiguous part of a media as a media of its own, with the same block size or a larger one.
#pragma once

#include <phasebit/block/async_media.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// Blocks of 2^shift bytes over the media's blocks from `first` on. Keeps a reference; the media has
// all of the range. Operations in flight are the media's: poll() of any slice delivers those of all.
template <block::AnyBlockMedia Media>
class media_slice {
 public:
  constexpr media_slice() noexcept = default;
  constexpr media_slice(Media& media, std::uint64_t first, std::uint64_t blocks,
                        unsigned shift) noexcept
      : media_(&media),
        first_(first),
        blocks_(blocks),
        shift_(static_cast<std::uint8_t>(shift)),
        ratio_(static_cast<std::uint8_t>(shift - block::block_shift(media))) {}

  [[nodiscard]] constexpr std::uint32_t block_size() const noexcept {
    return std::uint32_t{1} << shift_;
  }
  [[nodiscard]] constexpr std::uint64_t block_count() const noexcept { return blocks_; }
  [[nodiscard]] constexpr bool read_only() const noexcept { return block::read_only(*media_); }

  // -- BlockMedia --
  [[nodiscard]] block::media_status read(std::uint64_t lba, std::span<std::byte> to) noexcept
    requires block::BlockMedia<Media>
  {
    if (!holds(lba, to.size() >> shift_)) return block::media_status::out_of_range;
    return media_->read(there(lba), to);
  }
  [[nodiscard]] block::media_status write(std::uint64_t lba,
                                          std::span<const std::byte> from) noexcept
    requires block::BlockMedia<Media>
  {
    if (!holds(lba, from.size() >> shift_)) return block::media_status::out_of_range;
    return media_->write(there(lba), from);
  }
  [[nodiscard]] block::media_status flush() noexcept
    requires block::BlockMedia<Media>
  {
    return media_->flush();
  }
  [[nodiscard]] block::media_status write_zeroes(std::uint64_t lba, std::uint64_t blocks) noexcept
    requires block::BlockMedia<Media>
  {
    if (!holds(lba, blocks)) return block::media_status::out_of_range;
    return block::write_zeroes(*media_, there(lba), blocks << ratio_);
  }
  [[nodiscard]] block::media_status trim(std::uint64_t lba, std::uint64_t blocks) noexcept
    requires block::BlockMedia<Media>
  {
    if (!holds(lba, blocks)) return block::media_status::out_of_range;
    return block::trim(*media_, there(lba), blocks << ratio_);
  }

  // -- AsyncBlockMedia --
  [[nodiscard]] block::media_answer submit(const block::media_request& r,
                                           block::media_tag tag) noexcept
    requires block::AsyncBlockMedia<Media>
  {
    if (!holds(r.lba, r.blocks)) {
      return block::media_answer::done(block::media_status::out_of_range);
    }
    block::media_request moved = r;
    if (r.operation != block::media_operation::flush) {
      moved.lba = there(r.lba);
      moved.blocks = r.blocks << ratio_;
    }
    return media_->submit(moved, tag);
  }
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept
    requires block::AsyncBlockMedia<Media>
  {
    return media_->poll(sink);
  }
  void cancel(block::media_tag tag) noexcept
    requires block::AsyncBlockMedia<Media>
  {
    media_->cancel(tag);
  }
  [[nodiscard]] bool drained() const noexcept
    requires block::AsyncBlockMedia<Media>
  {
    return media_->drained();
  }
  [[nodiscard]] bool reaches(memory_domain domain) const noexcept
    requires block::AsyncBlockMedia<Media>
  {
    return media_->reaches(domain);
  }
  [[nodiscard]] std::uint32_t segment_alignment() const noexcept
    requires block::AsyncBlockMedia<Media>
  {
    return block::segment_alignment(*media_);
  }

 private:
  [[nodiscard]] constexpr bool holds(std::uint64_t lba, std::uint64_t blocks) const noexcept {
    return lba <= blocks_ && blocks <= blocks_ - lba;
  }
  [[nodiscard]] constexpr std::uint64_t there(std::uint64_t lba) const noexcept {
    return first_ + (lba << ratio_);
  }

  Media* media_ = nullptr;
  std::uint64_t first_ = 0;
  std::uint64_t blocks_ = 0;
  std::uint8_t shift_ = 9;
  std::uint8_t ratio_ = 0;
};

}  // namespace phasebit::nvme::device
