// SPDX-License-Identifier: BSL-1.0
// The sink of a block pipeline over other media, such as a queue pair of ours (nvme::driver::queue_media).
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// A StoredBlockSink. Buffers are parts of a region that the media reaches under `domain`. Media, and the
// region, outlive the sink. One thread.
template <block::AsyncBlockMedia Media, std::size_t Slots = 8>
class media_sink {
 public:
  // Errors: misaligned: a stored block is not a whole number of the media's blocks. Protection information
  // of 8 bytes beside a block of 512 has no place on such media.
  [[nodiscard]] static result<media_sink> make(Media& media, const dma_region& buffers,
                                               memory_domain domain,
                                               std::uint32_t stored_bytes) noexcept {
    if (stored_bytes == 0 || stored_bytes % media.block_size() != 0) {
      return failure(errc::misaligned, "a stored block is not a whole number of the media's blocks",
                     stored_bytes);
    }
    return media_sink{media, buffers, domain, stored_bytes / media.block_size()};
  }

  [[nodiscard]] std::uint64_t block_count() const noexcept {
    return media_->block_count() / per_block_;
  }
  [[nodiscard]] static constexpr std::size_t slots() noexcept { return Slots; }
  [[nodiscard]] std::span<std::byte> buffer(std::size_t slot) noexcept {
    return {buffers_.data() + slot * each(), each()};
  }

  [[nodiscard]] block::media_answer write(std::size_t slot, std::uint64_t block,
                                          std::size_t bytes) noexcept {
    return ask(block::media_operation::write, slot, block, bytes);
  }
  [[nodiscard]] block::media_answer read(std::size_t slot, std::uint64_t block,
                                         std::size_t bytes) noexcept {
    return ask(block::media_operation::read, slot, block, bytes);
  }
  [[nodiscard]] block::media_answer flush(std::size_t slot) noexcept {
    return media_->submit({.operation = block::media_operation::flush}, slot);
  }
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    return media_->poll([&sink](block::media_tag tag, block::media_status status) noexcept {
      sink(int_cast<std::size_t>(tag), status);
    });
  }

 private:
  media_sink(Media& media, const dma_region& buffers, memory_domain domain,
             std::uint32_t per_block) noexcept
      : media_(&media), buffers_(buffers), domain_(domain), per_block_(per_block) {}

  // Whole media blocks.
  [[nodiscard]] std::size_t each() const noexcept {
    const std::size_t share = buffers_.size() / Slots;
    return share - share % media_->block_size();
  }
  [[nodiscard]] block::media_answer ask(block::media_operation op, std::size_t slot,
                                        std::uint64_t block, std::size_t bytes) noexcept {
    const bool local = domain_ == memory_domain::local;
    const std::uint64_t at = local ? reinterpret_cast<std::uintptr_t>(buffer(slot).data())
                                   : buffers_.bus.value() + std::uint64_t{slot} * each();
    segments_[slot] = {at, static_cast<std::uint32_t>(bytes), domain_, 0};
    return media_->submit({.operation = op,
                           .lba = block * per_block_,
                           .blocks = bytes / media_->block_size(),
                           .segments = std::span{&segments_[slot], 1}},
                          slot);
  }

  Media* media_;
  dma_region buffers_;
  memory_domain domain_;
  std::uint32_t per_block_;
  std::array<block::media_segment, Slots> segments_{};
};

}  // namespace phasebit::systems
