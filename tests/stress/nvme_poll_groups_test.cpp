// SPDX-License-Identifier: BSL-1.0
// A controller of two poll groups: a thread polls each, a third polls the admin queue, and two threads
// of the host write, read and verify while a fourth aborts commands, deletes and creates queues and resets the
// controller. Media delay and reorder.
#include <phasebit/nvme/device/controller.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nvme/device/grouped_host.hpp>

using namespace test_host;

namespace {

constexpr std::uint32_t depth = 16;
constexpr std::uint16_t queues = 4;

struct rig : machine<grouped_policy, grouped_backing> {
  // The phase is loaded as a driver loads it.
  bool has_entry(std::uint16_t qid) {
    auto& q = pairs.at(qid);
    const auto* const entry = reinterpret_cast<const completion_entry*>(ram.at(q.cq + q.head * 16));
    return completion_dw3{thread_order::load(entry->dw3)}[completion_dw3::phase_bit] == q.phase;
  }
  // An admin command while the threads of the controller run.
  status_code admin_answer(const submission_entry& e) {
    submit(0, e, next_cid++);
    while (!has_entry(0)) std::this_thread::yield();
    return reap(0)->status().code();
  }
  void create_again(queue_pair old) {
    std::memset(ram.at(old.cq), 0, std::size_t{old.depth} * 16);
    REQUIRE(admin_answer(nvme::admin::create_io_cq(
                {.qid = old.id, .entries = old.depth, .memory = old.cq, .vector = old.id})) ==
            status_code::success);
    REQUIRE(admin_answer(nvme::admin::create_io_sq(
                {.qid = old.id, .entries = old.depth, .memory = old.sq, .cqid = old.id})) ==
            status_code::success);
    pairs[old.id] = {.id = old.id, .sq = old.sq, .cq = old.cq, .depth = old.depth};
  }

  rig()
      : machine(
            small(), 512, 8U << 20,
            block::random_media_plan{
                .longest = 12, .busy_one_in = 9, .at_once_one_in = 7, .ignore_cancel_one_in = 5}) {}
};

// The host's state of one queue. Commands use blocks and buffers by their id, so that no two
// commands share data.
struct host_queue {
  rig* r = nullptr;
  std::uint16_t id = 0;
  bus_addr buffers{};
  std::array<bool, depth> used{};
  std::array<bool, depth> writes{};
  std::array<std::uint8_t, depth> stored{};
  std::array<std::uint8_t, depth> sent{};
  std::array<bool, depth> known{};
  std::array<bool, depth> invalid{};  // beyond the namespace: an entry of the error log
  std::minstd_rand random{1};
  std::uint64_t completed = 0;
  std::uint64_t ended_early = 0;
  std::uint64_t wrong = 0;

  [[nodiscard]] std::uint64_t lba_of(unsigned slot) const { return id * 64U + slot; }
  [[nodiscard]] bus_addr buffer_of(unsigned slot) const { return buffers + slot * 512U; }
  void forget() {
    used.fill(false);
    known.fill(false);
  }

  void submit_some() {
    for (unsigned slot = 0; slot != depth - 1; ++slot) {
      if (used[slot] || random() % 3 == 0) continue;
      used[slot] = true;
      invalid[slot] = random() % 8 == 0;
      writes[slot] = !invalid[slot] && (!known[slot] || random() % 2 == 0);
      const block_range where{
          .nsid = 1, .lba = invalid[slot] ? 1U << 20 : lba_of(slot), .blocks = 1};
      if (writes[slot]) sent[slot] = static_cast<std::uint8_t>(random());
      std::memset(r->ram.at(buffer_of(slot)), writes[slot] ? sent[slot] : 0xee, 512);
      r->submit(id, with_data(writes[slot] ? nvm::write(where) : nvm::read(where), buffer_of(slot)),
                static_cast<std::uint16_t>(slot));
    }
  }
  void reap_all() {
    while (r->has_entry(id)) {
      const auto c = r->reap(id);
      const unsigned slot = c->command_id();
      if (slot >= depth || !used[slot]) {
        ++wrong;
        continue;
      }
      used[slot] = false;
      if (c->status() == status_code::abort_requested) {
        ++ended_early;
        known[slot] = known[slot] && !writes[slot];
        continue;
      }
      ++completed;
      if (invalid[slot]) {
        wrong += c->status() != status_code::lba_out_of_range;
      } else if (!c->status().ok()) {
        ++wrong;
      } else if (writes[slot]) {
        stored[slot] = sent[slot];
        known[slot] = true;
      } else {
        const auto* const bytes = r->ram.at(buffer_of(slot));
        for (unsigned i = 0; i != 512; ++i) wrong += bytes[i] != std::byte{stored[slot]};
      }
    }
  }
};

}  // namespace

TEST_CASE("two poll groups serve queues while commands are aborted and the controller is reset") {
  rig r;
  r.enable();
  std::array<host_queue, queues> hosts;
  for (std::uint16_t q = 1; q <= queues; ++q) {
    r.create(q, depth, q);
    hosts[q - 1].r = &r;
    hosts[q - 1].id = q;
    hosts[q - 1].buffers = r.allocate(depth * 512);
    hosts[q - 1].random.seed(q);
  }
  std::atomic<bool> stop{false};
  std::shared_mutex running;
  std::vector<std::thread> threads;
  for (std::size_t g = 0; g != 2; ++g) {
    threads.emplace_back([&, g] {
      while (!stop) {
        if (r.controller.poll_group(g) == 0) std::this_thread::yield();
      }
    });
  }
  threads.emplace_back([&] {
    while (!stop) {
      if (r.controller.poll_admin() == 0) std::this_thread::yield();
    }
  });
  for (unsigned h = 0; h != 2; ++h) {
    threads.emplace_back([&, h] {
      while (!stop) {
        {
          const std::shared_lock lock{running};
          // One thread drives queues of both groups.
          for (const unsigned q : {h, 3 - h}) {
            hosts[q].submit_some();
            hosts[q].reap_all();
          }
        }
        std::this_thread::yield();
      }
    });
  }

  std::minstd_rand random{7};
  unsigned resets = 0;
  unsigned deletions = 0;
  for (unsigned round = 0; round != 60; ++round) {
    for (unsigned n = 0; n != 10; ++n) {
      const auto sqid = static_cast<std::uint16_t>(1 + random() % queues);
      CHECK(r.admin_answer(nvme::admin::abort(
                sqid, static_cast<std::uint16_t>(random() % depth))) == status_code::success);
    }
    const std::unique_lock lock{running};
    if (round % 3 == 0) {
      const auto q = static_cast<std::uint16_t>(1 + random() % queues);
      CHECK(r.admin_answer(nvme::admin::delete_io_sq(q)) == status_code::success);
      CHECK(r.admin_answer(nvme::admin::delete_io_cq(q)) == status_code::success);
      r.create_again(r.pairs.at(q));
      hosts[q - 1].forget();
      ++deletions;
    } else {
      r.controller.write32(nvme::cc::offset, 0);
      while (r.template reg<csts>()[csts::rdy]) r.controller.poll_admin();
      CHECK(r.controller.drained());
      // Nothing is the controller's now: neither rings nor buffers change.
      const auto was = std::vector<std::byte>(r.ram.bytes_at, r.ram.bytes_at + r.ram.size);
      for (int i = 0; i != 50; ++i) std::this_thread::yield();
      CHECK(std::memcmp(was.data(), r.ram.bytes_at, r.ram.size) == 0);
      const auto rings = r.pairs;
      r.enable();
      for (std::uint16_t q = 1; q <= queues; ++q) {
        r.create_again(rings.at(q));
        hosts[q - 1].forget();
      }
      ++resets;
    }
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  CHECK(resets == 40);
  CHECK(deletions == 20);
  CHECK_FALSE(r.template reg<csts>()[csts::cfs]);
  std::uint64_t completed = 0;
  for (const host_queue& h : hosts) {
    CHECK(h.wrong == 0);
    CHECK(h.completed != 0);
    completed += h.completed;
  }
  MESSAGE(completed);
}
