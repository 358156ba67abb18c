// SPDX-License-Identifier: BSL-1.0
// Blocks of the media to and from the pieces of host memory that a command names. Pieces end where
// pages do, blocks where the media says: a block that lies in two pieces goes through a buffer.
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

// Each of the three is made for one command, called with its pieces in order, and moves their bytes
// from `lba` on. The pieces together are whole blocks. The host may change a piece meanwhile: then
// the content of its blocks is what it deserves, and nothing else depends on it.
template <block::BlockMedia Media>
class block_read {
 public:
  block_read(Media& media, block_buffer& buffer, std::uint64_t lba) noexcept
      : media_(&media), buffer_(std::span{buffer.bytes}.first(media.block_size())), lba_(lba) {}

  [[nodiscard]] status_code operator()(std::span<std::byte> piece) noexcept {
    while (!piece.empty()) {
      if (left_ == 0 && piece.size() >= buffer_.size()) {
        const auto whole = piece.first(align_down(piece.size(), buffer_.size()));
        if (const auto done = read(whole); done != status_code::success) return done;
        piece = piece.subspan(whole.size());
        continue;
      }
      if (left_ == 0) {
        if (const auto done = read(buffer_); done != status_code::success) return done;
        left_ = buffer_.size();
      }
      const std::size_t count = piece.size() < left_ ? piece.size() : left_;
      __builtin_memcpy(piece.data(), buffer_.data() + (buffer_.size() - left_), count);
      left_ -= count;
      piece = piece.subspan(count);
    }
    return status_code::success;
  }

  // The next `bytes` are not wanted. Nothing is read but the block in which that ends.
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
  std::size_t left_ = 0;  // bytes at the buffer's end that belong to the next piece
};

template <block::BlockMedia Media>
class block_write {
 public:
  block_write(Media& media, block_buffer& buffer, std::uint64_t lba) noexcept
      : media_(&media), buffer_(std::span{buffer.bytes}.first(media.block_size())), lba_(lba) {}

  [[nodiscard]] status_code operator()(std::span<const std::byte> piece) noexcept {
    while (!piece.empty()) {
      if (filled_ == 0 && piece.size() >= buffer_.size()) {
        const auto whole = piece.first(align_down(piece.size(), buffer_.size()));
        if (const auto done = write(whole); done != status_code::success) return done;
        piece = piece.subspan(whole.size());
        continue;
      }
      const std::size_t room = buffer_.size() - filled_;
      const std::size_t count = piece.size() < room ? piece.size() : room;
      __builtin_memcpy(buffer_.data() + filled_, piece.data(), count);
      filled_ += count;
      piece = piece.subspan(count);
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
  std::size_t filled_ = 0;  // bytes at the buffer's start that wait for the rest of their block
};

template <block::BlockMedia Media>
class block_compare {
 public:
  block_compare(Media& media, block_buffer& buffer, std::uint64_t lba) noexcept
      : media_(&media), buffer_(std::span{buffer.bytes}.first(media.block_size())), lba_(lba) {}

  [[nodiscard]] status_code operator()(std::span<const std::byte> piece) noexcept {
    while (!piece.empty()) {
      if (left_ == 0) {
        const auto done = status_of(media_->read(lba_++, buffer_));
        if (done != status_code::success) return done;
        left_ = buffer_.size();
      }
      const std::size_t count = piece.size() < left_ ? piece.size() : left_;
      const auto* const stored = buffer_.data() + (buffer_.size() - left_);
      if (__builtin_memcmp(piece.data(), stored, count) != 0) return status_code::compare_failure;
      left_ -= count;
      piece = piece.subspan(count);
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
