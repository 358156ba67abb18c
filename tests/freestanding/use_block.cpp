// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

using namespace phasebit;

extern "C" std::uint64_t use_block(std::byte* disk, std::size_t bytes, std::byte* buffer) {
  block::memory_media memory{{disk, bytes}};
  block::immediate_media immediate{memory};
  const std::array segments{block::media_segment::of({buffer, 512})};
  const block::media_request read{.lba = 1, .blocks = 1, .segments = segments};
  if (!immediate.submit(read, 0).is_done()) return 0;
  std::array<block::planned_operation, 2> operations;
  block::planned_media planned{memory, std::span{operations}, block::random_media_plan{}};
  if (!planned.submit(read, 7).is_pending()) return 0;
  planned.cancel(7);
  std::uint64_t delivered = 0;
  while (!planned.drained()) {
    planned.poll([&](block::media_tag tag, block::media_status) noexcept { delivered += tag; });
  }
  return delivered;
}
