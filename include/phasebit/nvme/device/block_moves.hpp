// SPDX-License-Identifier: BSL-1.0
// Moves blocks between the media and the segments of host memory that a command names. Segments end
// at page boundaries, blocks at multiples of the block size: a block that spans two segments goes
// through a buffer.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/nvme/device/command_result.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// One block, or as many as fit.
struct block_buffer {
  alignas(16) std::array<std::byte, block::max_block_size> bytes;
};

// Each of the three classes is created for one command, called with its segments in order, and
// moves their bytes starting at `lba`. The segments together are whole blocks. If the host changes
// a segment meanwhile, the content of its blocks is undefined and nothing else is affected.
template <block::BlockMedia Media>
class block_read {
 public:
  block_read(Media& media, block_buffer& buffer, std::uint64_t lba) noexcept
      : media_(&media), buffer_(std::span{buffer.bytes}.first(media.block_size())), lba_(lba) {}

  [[nodiscard]] status_code operator()(std::span<std::byte> part) noexcept {
    while (!part.empty()) {
      if (left_ == 0 && part.size() >= buffer_.size()) {
        const auto whole = part.first(align_down(part.size(), buffer_.size()));
        if (const auto done = read(whole); done != status_code::success) return done;
        part = part.subspan(whole.size());
        continue;
      }
      if (left_ == 0) {
        if (const auto done = read(buffer_); done != status_code::success) return done;
        left_ = buffer_.size();
      }
      const std::size_t count = part.size() < left_ ? part.size() : left_;
      __builtin_memcpy(part.data(), buffer_.data() + (buffer_.size() - left_), count);
      left_ -= count;
      part = part.subspan(count);
    }
    return status_code::success;
  }

  // Skips the next `bytes`. Reads at most the block in which they end.
  [[nodiscard]] status_code skip(std::uint64_t bytes) noexcept {
    if (bytes < left_) {
      left_ -= int_cast<std::size_t>(bytes);
      return status_code::success;
    }
    bytes -= left_;
    left_ = 0;
    lba_ += bytes >> block::block_shift(*media_);
    const std::size_t in_last = int_cast<std::size_t>(bytes) & (buffer_.size() - 1);
    if (in_last == 0) return status_code::success;
    const auto done = read(buffer_);
    left_ = buffer_.size() - in_last;
    return done;
  }

 private:
  [[nodiscard]] status_code read(std::span<std::byte> to) noexcept {
    const std::uint64_t from = lba_;
    lba_ += to.size() >> block::block_shift(*media_);
    return status_of(media_->read(from, to));
  }

  Media* media_;
  std::span<std::byte> buffer_;
  std::uint64_t lba_;
  std::size_t left_ = 0;  // bytes at the buffer's end that belong to the next segment
};

template <block::BlockMedia Media>
class block_write {
 public:
  block_write(Media& media, block_buffer& buffer, std::uint64_t lba) noexcept
      : media_(&media), buffer_(std::span{buffer.bytes}.first(media.block_size())), lba_(lba) {}

  [[nodiscard]] status_code operator()(std::span<const std::byte> part) noexcept {
    while (!part.empty()) {
      if (filled_ == 0 && part.size() >= buffer_.size()) {
        const auto whole = part.first(align_down(part.size(), buffer_.size()));
        if (const auto done = write(whole); done != status_code::success) return done;
        part = part.subspan(whole.size());
        continue;
      }
      const std::size_t space = buffer_.size() - filled_;
      const std::size_t count = part.size() < space ? part.size() : space;
      __builtin_memcpy(buffer_.data() + filled_, part.data(), count);
      filled_ += count;
      part = part.subspan(count);
      if (filled_ == buffer_.size()) {
        filled_ = 0;
        if (const auto done = write(buffer_); done != status_code::success) return done;
      }
    }
    return status_code::success;
  }

 private:
  [[nodiscard]] status_code write(std::span<const std::byte> from) noexcept {
    const std::uint64_t to = lba_;
    lba_ += from.size() >> block::block_shift(*media_);
    return status_of(media_->write(to, from));
  }

  Media* media_;
  std::span<std::byte> buffer_;
  std::uint64_t lba_;
  std::size_t filled_ = 0;  // bytes at the buffer's start whose block is not complete yet
};

template <block::BlockMedia Media>
class block_compare {
 public:
  block_compare(Media& media, block_buffer& buffer, std::uint64_t lba) noexcept
      : media_(&media), buffer_(std::span{buffer.bytes}.first(media.block_size())), lba_(lba) {}

  [[nodiscard]] status_code operator()(std::span<const std::byte> part) noexcept {
    while (!part.empty()) {
      if (left_ == 0) {
        const auto done = status_of(media_->read(lba_++, buffer_));
        if (done != status_code::success) return done;
        left_ = buffer_.size();
      }
      const std::size_t count = part.size() < left_ ? part.size() : left_;
      const auto* const stored = buffer_.data() + (buffer_.size() - left_);
      if (__builtin_memcmp(part.data(), stored, count) != 0) return status_code::compare_failure;
      left_ -= count;
      part = part.subspan(count);
    }
    return status_code::success;
  }

 private:
  Media* media_;
  std::span<std::byte> buffer_;
  std::uint64_t lba_;
  std::size_t left_ = 0;
};

}  // namespace phasebit::nvme::device
