// SPDX-License-Identifier: BSL-1.0
// Hosts before controllers over a namespace_pool, with media that are done at once and media that
// complete later.
#pragma once

#include <phasebit/nvme/device/namespace_pool.hpp>

#include <nvme/device/async_host.hpp>

namespace test_host {

inline constexpr std::size_t pool_media_bytes = 1U << 20;

template <class Media>
struct pool_parts {
  using pool_type = device::namespace_pool<4>;
  using namespaces = device::pooled_namespaces<Media, 4>;

  std::vector<std::byte> store = std::vector<std::byte>(pool_media_bytes);
  std::vector<std::byte> metadata =
      std::vector<std::byte>(pool_media_bytes / 512 * 64, std::byte{0xff});
  std::vector<std::uint8_t> marks = std::vector<std::uint8_t>(pool_media_bytes / 512 / 8);
  pool_type pool{pool_media_bytes / 512, 512, {metadata, 64, marks}};
};

struct pooled_memory : pool_parts<block::memory_media> {
  using media_type = block::memory_media;
  explicit pooled_memory(std::uint32_t) : media(store, 512), spaces(pool, media) {}
  device::pending_memory pending() noexcept { return {}; }
  media_type media;
  namespaces spaces;
};
struct pooled_later : pool_parts<block::planned_media<block::memory_media, steered_plan>> {
  using media_type = block::planned_media<block::memory_media, steered_plan>;
  explicit pooled_later(std::uint32_t)
      : blocks(store, 512),
        operations(64),
        media(blocks, operations),
        spaces(pool, media),
        commands(32),
        segments(32 * 4),
        bounce_memory(4 * 8192),
        bounce(bounce_memory, 8192) {
    media.plan().fixed = {.delay = 1};
  }
  device::pending_memory pending() noexcept { return {commands, segments, &bounce}; }
  block::memory_media blocks;
  std::vector<block::planned_operation> operations;
  media_type media;
  namespaces spaces;
  std::vector<device::pending_command> commands;
  std::vector<block::media_segment> segments;
  std::vector<std::byte> bounce_memory;
  block::bounce_pool bounce;
};

}  // namespace test_host
