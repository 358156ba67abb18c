// SPDX-License-Identifier: BSL-1.0
// Saved driver state: what goes on where it was, what is refused, and that no bytes make it read or write elsewhere.
// Between processes: interop/nvme_handover_test.cpp.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/driver/handover.hpp>

#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include <doctest/doctest.h>

namespace sim = phasebit::backend::simulated;
using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;

namespace {

// Two of these on one simulated function stand for two processes: each may use what the other allocated only
// once it has adopted it.
struct process : sim::function {
  explicit process(const sim::function& f, std::map<std::uint64_t, dma_region>& all)
      : sim::function(f), all_(&all) {}
  result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    const auto region = sim::function::allocate(bytes, alignment);
    if (region) (*all_)[region->bus.value()] = *region;
    return region;
  }
  void release(dma_region region) noexcept {
    all_->erase(region.bus.value());
    sim::function::release(region);
  }
  result<dma_region> adopt(bus_addr begin, std::size_t bytes) noexcept {
    const auto found = all_->find(begin.value());
    if (found == all_->end() || found->second.size() != bytes) {
      return failure(errc::busy, "no such memory", begin.value());
    }
    if (!adopted_.insert(begin.value()).second) return failure(errc::busy, "adopted twice");
    return found->second;
  }

 private:
  std::map<std::uint64_t, dma_region>* all_;
  std::set<std::uint64_t> adopted_;
};
static_assert(AdoptableMemory<process>);
using host_type = controller<process>;

struct machine {
  std::vector<std::byte> bytes = std::vector<std::byte>(1U << 20);
  block::memory_media media{bytes};
  sim::fabric fabric;
  sim::nvme_disk<block::memory_media> disk = *sim::add_nvme_disk(fabric, media);
  std::map<std::uint64_t, dma_region> memory;

  process make_process() { return process{disk, memory}; }
};

constexpr auto kind = tokens<std::uint64_t, 16>;

struct saved_driver {
  std::vector<std::byte> controller = std::vector<std::byte>(4096);
  std::vector<std::byte> queue = std::vector<std::byte>(4096);
};

// Saves a driver with five commands in flight, tokens 100 to 104: writes of 8 KiB and more, so that they have lists.
saved_driver save_one(machine& m, process& p) {
  auto host = attach(p, {.io_queues = 2, .async_events = 3});
  REQUIRE(host);
  auto queue = host->create_queue_pair({.depth = 8}, kind);
  REQUIRE(queue);
  const auto buffer = p.allocate(32768, 4096);
  REQUIRE(buffer);
  for (std::uint64_t i = 0; i != 5; ++i) {
    std::memset(buffer->data(), 0x5a, buffer->size());
    REQUIRE(queue->write({.lba = 64 * i, .blocks = 64}, *buffer, 100 + i));
  }
  saved_driver out;
  CHECK(save_controller(*host, out.controller).error().code == errc::busy);
  CHECK(save_queue(*host, *queue, std::span{out.queue}.first(40)).error().code ==
        errc::out_of_range);
  CHECK_FALSE(queue->closed());
  const auto queue_bytes = save_queue(*host, *queue, out.queue);
  REQUIRE(queue_bytes);
  CHECK(queue->closed());
  CHECK(queue->end_reason() == queue_end::handed_over);
  CHECK(queue->in_flight() == 0);
  CHECK(queue->write({.lba = 0, .blocks = 64}, *buffer, 1U).status == submit_status::closed);
  CHECK(save_controller(*host, std::span{out.controller}.first(100)).error().code ==
        errc::out_of_range);
  CHECK_FALSE(host->detached());
  const auto controller_bytes = save_controller(*host, out.controller);
  REQUIRE(controller_bytes);
  CHECK(host->detached());
  out.queue.resize(*queue_bytes);
  out.controller.resize(*controller_bytes);
  CHECK(m.disk.with_model([](auto& model) noexcept { return model.read32(csts::offset); }) == 1);
  return out;
}

}  // namespace

TEST_CASE("a driver goes on where it was saved, with its commands in flight") {
  machine m;
  auto before = m.make_process();
  const saved_driver saved = save_one(m, before);
  const std::size_t regions = m.memory.size();
  auto after = m.make_process();
  {
    auto host = restore_controller(after, saved.controller, {.io_queues = 2});
    REQUIRE_MESSAGE(host, host.error().what);
    CHECK(host->granted_queues() == 2);
    auto queue = restore_queue(*host, saved.queue, kind);
    REQUIRE_MESSAGE(queue, queue.error().what);
    CHECK(restore_queue(*host, saved.queue, kind).error().code == errc::busy);
    CHECK(queue->in_flight() == 5);
    CHECK(queue->available() == 2);
    std::multiset<std::uint64_t> ended;
    for (int i = 0; i != 1000 && queue->in_flight() != 0; ++i) {
      (void)queue->poll([&](std::uint64_t& t, completion c) noexcept {
        CHECK(c.ok());
        ended.insert(t);
      });
      after.clock().relax();
    }
    CHECK(ended == std::multiset<std::uint64_t>{100, 101, 102, 103, 104});
    for (std::size_t i = 0; i != 5 * 32768; ++i) REQUIRE(m.bytes[i] == std::byte{0x5a});
    // The rings go around, all PRP lists are there, and the controller makes and deletes queues.
    const auto buffer = after.allocate(65536, 4096);
    REQUIRE(buffer);
    for (std::uint64_t i = 0; i != 200; ++i) {
      while (queue->available() == 0) {
        (void)queue->poll([](std::uint64_t&, completion c) noexcept { CHECK(c.ok()); });
        after.clock().relax();
      }
      REQUIRE(queue->read({.lba = i, .blocks = 128}, *buffer, i));
      queue->ring();
    }
    CHECK(queue->health());
    CHECK(host->check());
    auto other = host->create_queue_pair({.depth = 8}, kind);
    REQUIRE(other);
    CHECK(other->qid() != queue->qid());
    CHECK(other->generation() != queue->generation());
    CHECK(other->remove());
    CHECK(queue->remove());
    after.release(*buffer);
  }
  // All but the buffer of the first process has been given back.
  CHECK(regions > 1);
  CHECK(m.memory.size() == 1);
}

TEST_CASE("saved state is refused where it is cut, of another version, or does not fit") {
  machine m;
  auto before = m.make_process();
  const saved_driver saved = save_one(m, before);
  const auto refused = [&](std::span<const std::byte> bytes) {
    auto p = m.make_process();
    const auto host = restore_controller(p, bytes);
    return host ? errc::cancelled : host.error().code;
  };
  for (std::size_t n = 0; n != saved.controller.size(); ++n) {
    CHECK(refused(std::span{saved.controller}.first(n)) == errc::invalid_argument);
  }
  auto changed = saved.controller;
  changed.push_back({});
  CHECK(refused(changed) == errc::invalid_argument);
  changed = saved.controller;
  changed[4] = std::byte{2};
  CHECK(refused(changed) == errc::not_supported);
  changed = saved.controller;
  changed[8] ^= std::byte{1};  // CAP
  CHECK(refused(changed) == errc::invalid_argument);
  CHECK(refused(saved.queue) == errc::invalid_argument);

  auto after = m.make_process();
  auto host = restore_controller(after, saved.controller);
  REQUIRE(host);
  for (std::size_t n = 0; n != saved.queue.size(); ++n) {
    const auto queue = restore_queue(*host, std::span{saved.queue}.first(n), kind);
    REQUIRE_FALSE(queue);
    CHECK(queue.error().code == errc::invalid_argument);
  }
  CHECK(restore_queue(*host, saved.controller, kind).error().code == errc::invalid_argument);
  CHECK(restore_queue(*host, saved.queue, tokens<std::uint32_t, 16>).error().code ==
        errc::invalid_argument);
  CHECK(restore_queue(*host, saved.queue, tokens<std::uint64_t, 4>).error().code ==
        errc::out_of_range);
  CHECK(restore_queue(*host, saved.queue, kind));
}

TEST_CASE("no byte of a saved queue makes the driver use memory that is not its own") {
  machine m;
  auto before = m.make_process();
  const saved_driver saved = save_one(m, before);
  auto after = m.make_process();
  auto host = restore_controller(after, saved.controller);
  REQUIRE(host);
  std::mt19937 random{9};
  unsigned taken = 0;
  for (unsigned i = 0; i != 3000; ++i) {
    auto changed = saved.queue;
    changed[random() % changed.size()] = static_cast<std::byte>(random());
    {
      auto queue = restore_queue(*host, changed, kind);
      if (!queue) continue;
      ++taken;
      CHECK(queue->in_flight() <= 7);
      // Let go of it again without the device's help.
      std::vector<std::byte> again(4096);
      CHECK(save_queue(*host, *queue, again));
    }
  }
  CHECK(taken != 0);
}

TEST_CASE("a controller that was disabled meanwhile is not taken up") {
  machine m;
  auto before = m.make_process();
  const saved_driver saved = save_one(m, before);
  auto after = m.make_process();
  auto bar = after.map_bar(0);
  REQUIRE(bar);
  write_register(*bar, read_register<cc>(*bar).with(cc::en, false));
  const auto host = restore_controller(after, saved.controller);
  REQUIRE_FALSE(host);
  CHECK(host.error().code == errc::not_ready);
  CHECK(after.claim());  // and the function is free for attach()
}

TEST_CASE("events that were not looked at, and event requests, are handed over") {
  machine m;
  auto before = m.make_process();
  saved_driver saved;
  {
    auto host = attach(before, {.io_queues = 1, .async_events = 2});
    REQUIRE(host);
    // A doorbell beyond the queue: an error event.
    auto queue = host->create_queue_pair({.depth = 8}, kind);
    REQUIRE(queue);
    host->registers().write32(static_cast<std::uint32_t>(submission_doorbell_offset(1, 0)), 9);
    for (int i = 0; i != 100; ++i) before.clock().relax();
    host->poll();
    REQUIRE(save_queue(*host, *queue, saved.queue));
    const auto bytes = save_controller(*host, saved.controller);
    REQUIRE(bytes);
    saved.controller.resize(*bytes);
  }
  auto after = m.make_process();
  auto host = restore_controller(after, saved.controller);
  REQUIRE(host);
  const auto event = host->next_event();
  REQUIRE(event);
  CHECK(event->type() == async_event_type::error);
}
