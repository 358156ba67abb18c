// SPDX-License-Identifier: BSL-1.0
// A host in front of a controller whose media complete later, as a plan specifies.
#pragma once

#include <phasebit/block/planned_media.hpp>

#include <memory>

#include <nvme/device/test_host.hpp>

namespace test_host {

// Settings that a test changes while it runs: a fixed outcome, or random ones.
struct steered_plan {
  block::media_fate fixed{};
  std::optional<block::random_media_plan> random{};

  block::media_fate operator()(const block::media_request& r, std::uint64_t n) noexcept {
    return random ? (*random)(r, n) : fixed;
  }
};
static_assert(block::MediaPlan<steered_plan>);

struct async_limits {
  std::size_t commands = 64;
  std::size_t segments = 8;  // for each of them
  std::size_t buffers = 4;
  std::uint32_t buffer_bytes = 8192;
  memory_domain domain = memory_domain::local;
};

// Namespaces 1 and 3; 2 and 4 are not attached.
struct async_backing {
  using media_type = block::planned_media<block::memory_media, steered_plan>;
  using namespaces = device::namespace_table<media_type, 4>;

  explicit async_backing(std::uint32_t block_size, const async_limits& l = {})
      : store(1U << 20),
        blocks(store, block_size),
        operations(l.commands + 8),
        media(blocks, operations),
        other_store(1U << 16),
        other_blocks(other_store, block_size),
        other_operations(l.commands + 8),
        other(other_blocks, other_operations),
        commands(l.commands),
        segments(l.commands * l.segments),
        bounce_memory(static_cast<std::byte*>(std::aligned_alloc(4096, l.buffers * l.buffer_bytes)),
                      &std::free),
        bounce({bounce_memory.get(), l.buffers * l.buffer_bytes}, l.buffer_bytes, l.domain) {
    spaces.attach(1, media);
    spaces.attach(3, other);
  }
  device::pending_memory pending() noexcept { return {commands, segments, &bounce}; }

  std::vector<std::byte> store;
  block::memory_media blocks;
  std::vector<block::planned_operation> operations;
  media_type media;
  std::vector<std::byte> other_store;
  block::memory_media other_blocks;
  std::vector<block::planned_operation> other_operations;
  media_type other;
  namespaces spaces;
  std::vector<device::pending_command> commands;
  std::vector<block::media_segment> segments;
  std::unique_ptr<std::byte, void (*)(void*)> bounce_memory;
  block::bounce_pool bounce;
};

template <class Policy = device::default_policy, class Port = memory>
struct async_machine : machine<Policy, async_backing, Port> {
  using base = machine<Policy, async_backing, Port>;

  explicit async_machine(const async_limits& l = {}, const device::settings& s = base::small(),
                         std::uint32_t block_size = 512, std::size_t memory_bytes = 8U << 20)
      : base(s, block_size, memory_bytes, l) {}

  void hold() { this->media.plan().fixed = {.delay = block::media_fate::held}; }
  void hold_firmly() {
    this->media.plan().fixed = {.delay = block::media_fate::held, .ignores_cancel = true};
  }
  void go() {
    this->media.plan().fixed = {};
    this->media.release_all();
  }
  void poll(unsigned times = 1) {
    while (times-- != 0) this->controller.poll();
  }
  bool ready() { return this->template reg<csts>()[csts::rdy]; }
};

}  // namespace test_host
