// SPDX-License-Identifier: BSL-1.0
// A host before a controller of several poll groups, whose media share their storage.
#pragma once

#include <phasebit/block/planned_media.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <nvme/device/test_host.hpp>

namespace test_host {

struct grouped_policy : device::default_policy {
  static constexpr std::size_t poll_groups = 2;
  using lock = std::mutex;
};

// Each group has media, a table of pending commands and bounce buffers of its own.
struct grouped_backing {
  using media_type = block::planned_media<block::memory_media, block::random_media_plan>;
  using namespaces = device::namespace_table<media_type, 4>;

  struct group {
    group(std::span<std::byte> store, std::uint32_t block_size, block::random_media_plan plan)
        : blocks(store, block_size), operations(80), media(blocks, operations, plan) {
      spaces.attach(1, media);
    }

    block::memory_media blocks;
    std::vector<block::planned_operation> operations;
    media_type media;
    namespaces spaces;
    std::vector<device::pending_command> commands{64};
    std::vector<block::media_segment> segments{64 * 4};
    std::unique_ptr<std::byte, void (*)(void*)> bounce_memory{
        static_cast<std::byte*>(std::aligned_alloc(4096, 4 * 8192)), &std::free};
    block::bounce_pool bounce{{bounce_memory.get(), 4 * 8192}, 8192};
  };

  explicit grouped_backing(std::uint32_t block_size, block::random_media_plan plan = {})
      : store(1U << 20), first(store, block_size, plan), second(store, block_size, plan) {}

  std::array<device::poll_group_resources<namespaces>, 2> groups() noexcept {
    return {{{&first.spaces, {first.commands, first.segments, &first.bounce}},
             {&second.spaces, {second.commands, second.segments, &second.bounce}}}};
  }

  std::vector<std::byte> store;
  group first;
  group second;
};

}  // namespace test_host
