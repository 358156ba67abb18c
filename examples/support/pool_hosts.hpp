// SPDX-License-Identifier: BSL-1.0
// The hosts of a pool, and a load of reads and writes whose data is checked.
#pragma once

#include <phasebit/block/memory_media.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>
#include <phasebit/systems/pool.hpp>
#include <phasebit/systems/pool/root.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

namespace example {

using namespace phasebit;

struct pool_sizes : systems::pool_policy {
  static constexpr std::uint16_t roots = 3;
  static constexpr std::uint16_t slots = 6;  // every function has a slot at each root
  static constexpr std::uint16_t functions = 6;
};

struct pooled_drive {
  using pool_type = systems::pool<block::memory_media, pool_sizes>;
  using root_type = systems::pool_root<pool_type>;
  using function_type = root_type::function_type;
  static constexpr unsigned depth = 8;
  static constexpr unsigned places = 64;  // blocks of 4 KiB
  struct slot {
    std::optional<dma_buffer<function_type>> data;
    bool busy = false;
    bool writing = false;
    unsigned place = 0;
  };

  std::uint16_t vf = 0;
  std::uint16_t root = 0;
  std::uint64_t bytes = 0;
  std::optional<function_type> function{};
  std::optional<nvme::controller<function_type>> controller{};
  std::optional<nvme::controller<function_type>::io_queue<>> queue{};
  std::array<slot, depth> slots{};
  // The contents of each place: a number that each of its words has. 0 before the first write; no
  // other command is in flight on a place while it is written.
  std::array<std::uint64_t, places> content{};
  std::array<bool, places> taken{};
  std::array<bool, places> unknown{};  // a write ended with an error
  std::uint64_t next = 1;
};

struct pool_machine {
  using pool_type = pooled_drive::pool_type;
  static constexpr std::size_t root_bytes = std::size_t{4} << 20;

  std::vector<std::vector<std::byte>> disks =
      std::vector(pool_sizes::functions, std::vector<std::byte>(std::size_t{512} << 10));
  std::deque<block::memory_media> media{};
  std::unique_ptr<pool_type> pool = std::make_unique<pool_type>();
  std::vector<std::unique_ptr<std::byte, void (*)(void*)>> memory{};
  std::deque<pooled_drive::root_type> roots{};
  std::deque<pooled_drive> drives{};
  std::uint64_t checked = 0;
  std::uint64_t written = 0;
  std::uint64_t with_error = 0;
  bool wrong = false;

  result<> start() {
    if (auto r = pool->start(); !r) return r;
    for (std::uint16_t r = 0; r != pool_sizes::roots; ++r) {
      memory.emplace_back(static_cast<std::byte*>(std::aligned_alloc(4096, root_bytes)),
                          &std::free);
      roots.emplace_back(*pool, r,
                         dma_region{{memory[r].get(), root_bytes}, bus_addr{0x1'0000'0000}});
      if (auto done = roots[r].enumerate(); !done) return done;
    }
    for (std::uint16_t vf = 0; vf != pool_sizes::functions; ++vf) {
      media.emplace_back(disks[vf]);
      if (auto r = pool->add(vf, media.back()); !r) return r;
      pooled_drive& d = drives.emplace_back();
      d.vf = vf;
      d.root = static_cast<std::uint16_t>(vf % pool_sizes::roots);
      if (auto r = pool->attach(vf, d.root, vf); !r) return r;
      if (auto r = bring_up(d); !r) return r;
    }
    return {};
  }
  // The host's hot-plug software: places the BAR, attaches the driver.
  result<> bring_up(pooled_drive& d) {
    auto found = roots[d.root].attach(d.vf);
    if (!found) return found.error();
    d.function.emplace(*found);
    auto attached = nvme::attach(*d.function);
    if (!attached) return attached.error();
    d.controller.emplace(std::move(*attached));
    auto made = d.controller->create_queue_pair({.depth = pooled_drive::depth + 1});
    if (!made) return made.error();
    d.queue.emplace(std::move(*made));
    for (auto& s : d.slots) {
      auto data = allocate(*d.function, 4096);
      if (!data) return data.error();
      s.data.emplace(std::move(*data));
    }
    return {};
  }
  // Returns how many commands ended with an error.
  result<std::uint64_t> move(std::uint16_t vf, std::uint16_t to) {
    pooled_drive& d = drives[vf];
    const std::uint64_t before = with_error;
    if (d.root == to) return failure(errc::invalid_argument, "the function is at this root", to);
    if (auto r = pool->move(vf, to, vf); !r) return r.error();
    (void)d.controller->check();  // the old host finds it gone
    while (d.queue->poll() != 0) {
    }
    for (auto& s : d.slots) s.data.reset();
    d.queue.reset();
    d.controller.reset();
    d.root = to;
    if (auto r = bring_up(d); !r) return r.error();
    return with_error - before;
  }

  // Keeps every function busy for so long, in virtual time.
  result<> work(std::uint64_t ns) {
    const std::uint64_t until = pool->now_ns() + ns;
    while (pool->now_ns() < until) {
      for (pooled_drive& d : drives) {
        d.queue->poll();
        bool posted = false;
        for (auto& s : d.slots) posted |= !s.busy && submit(d, s);
        if (posted) d.queue->ring();
      }
      for (unsigned i = 0; i != 2 * pool_sizes::functions; ++i) (void)pool->step();
      if (wrong) return failure(errc::protocol, "a host read other data than it wrote");
    }
    return {};
  }

 private:
  bool submit(pooled_drive& d, pooled_drive::slot& s) {
    const auto place = static_cast<unsigned>((d.next * 29) % pooled_drive::places);
    if (d.taken[place]) {
      ++d.next;
      return false;
    }
    s.place = place;
    s.writing = d.next % 2 == 0 || d.unknown[place];
    const std::uint64_t value = d.next++ << 8 | d.vf;
    if (s.writing) {
      for (std::size_t i = 0; i != 4096; i += 8) std::memcpy(s.data->data() + i, &value, 8);
    }
    const nvme::block_range at{.lba = place * std::uint64_t{8}, .blocks = 8};
    const auto done = [this, &d, &s](nvme::completion c) noexcept { finish(d, s, c.ok()); };
    const auto posted =
        s.writing ? d.queue->write(at, *s.data, done) : d.queue->read(at, *s.data, done);
    if (!posted) return false;
    s.busy = d.taken[place] = true;
    if (s.writing) d.content[place] = value;
    return true;
  }
  void finish(pooled_drive& d, pooled_drive::slot& s, bool good) noexcept {
    s.busy = d.taken[s.place] = false;
    if (!good) {
      ++with_error;
      if (s.writing) d.unknown[s.place] = true;
      return;
    }
    d.bytes += 4096;
    if (s.writing) {
      d.unknown[s.place] = false;
      ++written;
      return;
    }
    ++checked;
    for (std::size_t i = 0; i != 4096; i += 8) {
      std::uint64_t found = 0;
      std::memcpy(&found, s.data->data() + i, 8);
      wrong |= found != d.content[s.place];
    }
  }
};

}  // namespace example
