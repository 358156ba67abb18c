// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/submission_queue.hpp>

#include <deque>
#include <set>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using device::doorbell_update;
using device::ring_side;

// Every interleaving of "submit one", "poll" and "reap one" up to a length, against a count of what
// the two rings can hold. Small depths wrap several times.
struct ring_walk {
  explicit ring_walk(std::uint32_t sq_depth, std::uint32_t cq_depth)
      : sq_entries(sq_depth), cq_entries(cq_depth) {
    auto s = machine<>::small();
    s.fetch_burst = 3;
    m.emplace(s);
    m->enable();
    sq = m->allocate(4096);
    cq = m->allocate(4096);
  }

  void begin() {
    m->enable();
    REQUIRE(m->admin_code(admin::create_io_cq(
                {.qid = 1, .entries = cq_entries, .memory = cq, .interrupts = false})) ==
            status_code::success);
    REQUIRE(m->admin_code(
                admin::create_io_sq({.qid = 1, .entries = sq_entries, .memory = sq, .cqid = 1})) ==
            status_code::success);
    std::memset(m->ram.at(cq), 0, 4096);
    tail = head = 0;
    phase = true;
    next = 0;
    known_sq_head = 0;
    waiting.clear();
    posted.clear();
  }

  // Each returns false where the host may not do it now.
  bool submit() {
    const std::uint32_t after = tail + 1 == sq_entries ? 0 : tail + 1;
    if (after == known_sq_head) return false;
    auto e = nvm::flush(1);
    e.set_command_id(next);
    std::memcpy(m->ram.at(sq + tail * 64), &e, sizeof e);
    tail = after;
    m->ring_tail(1, tail);
    waiting.push_back(next++);
    return true;
  }
  void poll() {
    std::size_t store = cq_entries - 1 - posted.size();
    std::size_t expected = waiting.size() < 3 ? waiting.size() : 3;
    if (expected > store) expected = store;
    CHECK(m->controller.poll() == expected);
    for (; expected != 0; --expected) {
      posted.push_back(waiting.front());
      waiting.pop_front();
    }
  }
  bool reap() {
    completion_entry e;
    std::memcpy(&e, m->ram.at(cq + head * 16), sizeof e);
    REQUIRE((e.phase() == phase) == !posted.empty());
    if (posted.empty()) return false;
    REQUIRE(e.command_id() == posted.front());
    REQUIRE(e.status().ok());
    REQUIRE(e.sq_id == 1);
    posted.pop_front();
    known_sq_head = e.sq_head;
    REQUIRE(known_sq_head < sq_entries);
    if (++head == cq_entries) {
      head = 0;
      phase = !phase;
    }
    m->ring_head(1, head);
    return true;
  }

  std::optional<machine<>> m;
  std::uint32_t sq_entries;
  std::uint32_t cq_entries;
  bus_addr sq{};
  bus_addr cq{};
  std::uint32_t tail = 0;
  std::uint32_t head = 0;
  std::uint32_t known_sq_head = 0;
  bool phase = true;
  std::uint16_t next = 0;
  std::deque<std::uint16_t> waiting;
  std::deque<std::uint16_t> posted;
};

}  // namespace

TEST_CASE(
    "rings of 2 to 8 entries keep order, phase and back-pressure through every interleaving") {
  for (std::uint32_t sq = 2; sq <= 8; ++sq) {
    for (std::uint32_t cq = 2; cq <= 8; ++cq) {
      ring_walk walk{sq, cq};
      // Every sequence of seven steps, from a ring that has gone round once.
      for (unsigned path = 0; path < 2187; path += (sq == cq ? 1 : 13)) {
        walk.begin();
        for (std::uint32_t i = 0; i + 1 < 2 * sq; ++i) {
          REQUIRE(walk.submit());
          walk.poll();
          REQUIRE(walk.reap());
        }
        unsigned remaining = path;
        for (int step = 0; step != 7; ++step, remaining /= 3) {
          if (remaining % 3 == 0) {
            walk.submit();
          } else if (remaining % 3 == 1) {
            walk.poll();
          } else {
            walk.reap();
          }
        }
        while (!walk.waiting.empty() || !walk.posted.empty()) {
          walk.poll();
          while (walk.reap()) {
          }
        }
      }
    }
  }
}

TEST_CASE("a full completion queue holds commands back, and loses none") {
  machine m;
  m.enable();
  const bus_addr sq = m.page();
  const bus_addr cq = m.page();
  REQUIRE(m.admin_code(admin::create_io_cq({.qid = 1, .entries = 4, .memory = cq})) ==
          status_code::success);
  REQUIRE(m.admin_code(admin::create_io_sq({.qid = 1, .entries = 16, .memory = sq, .cqid = 1})) ==
          status_code::success);
  m.pairs[1] = {.id = 1, .sq = sq, .cq = cq, .depth = 16};
  for (std::uint16_t i = 0; i != 6; ++i) m.push(1, nvm::flush(1), i);
  m.ring_tail(1, 6);
  CHECK(m.controller.poll() == 3);
  CHECK(m.controller.poll() == 0);
  m.pairs[1].depth = 4;
  CHECK(m.reap(1)->command_id() == 0);
  CHECK(m.controller.poll() == 1);
  std::set<unsigned> ids{0};
  for (int turn = 0; turn != 4; ++turn) {
    while (const auto c = m.reap(1)) ids.insert(c->command_id());
    m.controller.poll();
  }
  CHECK(ids.size() == 6);
}

TEST_CASE("two submission queues share a completion queue, and each entry names its queue") {
  machine m;
  m.enable();
  m.create(1, 16);
  const bus_addr sq = m.page();
  REQUIRE(m.admin_code(admin::create_io_sq({.qid = 2, .entries = 4, .memory = sq, .cqid = 1})) ==
          status_code::success);
  m.pairs[2] = {.id = 2, .sq = sq, .depth = 4};
  m.submit(1, nvm::flush(1), 10);
  m.submit(2, nvm::flush(1), 20);
  m.submit(2, nvm::flush(1), 21);
  CHECK(m.controller.poll() == 3);
  const auto first = m.reap(1);
  const auto second = m.reap(1);
  const auto third = m.reap(1);
  CHECK(first->command_id() == 10);
  CHECK(first->sq_id == 1);
  CHECK(first->sq_head == 1);
  CHECK(second->command_id() == 20);
  CHECK(second->sq_id == 2);
  CHECK(second->sq_head == 1);
  CHECK(third->command_id() == 21);
  CHECK(third->sq_head == 2);
}

TEST_CASE("invalid doorbell values are refused, and reported once") {
  device::submission_queue sq;
  sq.entries = 8;
  CHECK(sq.set_tail(8) == doorbell_update::invalid);
  CHECK(sq.set_tail(8) == doorbell_update::unchanged);
  CHECK(sq.set_tail(0xffff'ffff) == doorbell_update::invalid);
  CHECK(sq.set_tail(8) == doorbell_update::invalid);
  CHECK(sq.tail == 0);
  CHECK(sq.set_tail(7) == doorbell_update::moved);
  // Full: no further value is possible.
  for (std::uint32_t v = 0; v != 7; ++v) CHECK(sq.set_tail(v) == doorbell_update::invalid);
  CHECK(sq.tail == 7);

  device::completion_queue cq;
  cq.entries = 8;
  CHECK(cq.set_head(1) == doorbell_update::invalid);
  cq.advance();
  cq.advance();
  CHECK(cq.set_head(0) == doorbell_update::unchanged);
  CHECK(cq.set_head(3) == doorbell_update::invalid);
  CHECK(cq.set_head(8) == doorbell_update::invalid);
  CHECK(cq.set_head(2) == doorbell_update::moved);
  CHECK(cq.set_head(1) == doorbell_update::invalid);
  CHECK(cq.set_head(0) == doorbell_update::invalid);
  CHECK(cq.used() == 0);
}

TEST_CASE("a tail is accepted exactly when the ring could hold that many commands") {
  for (std::uint32_t entries = 2; entries <= 8; ++entries) {
    for (std::uint32_t head = 0; head != entries; ++head) {
      for (std::uint32_t waiting = 0; waiting != entries; ++waiting) {
        for (std::uint32_t value = 0; value != 2 * entries; ++value) {
          device::submission_queue q;
          q.entries = entries;
          q.head = head;
          q.tail = (head + waiting) % entries;
          std::uint32_t added = 0;
          while (added != entries && (q.tail + added) % entries != value) ++added;
          const auto expected = added == 0                      ? doorbell_update::unchanged
                                : added + waiting > entries - 1 ? doorbell_update::invalid
                                                                : doorbell_update::moved;
          REQUIRE(q.set_tail(value) == expected);
          REQUIRE(q.tail ==
                  (expected == doorbell_update::moved ? value : (head + waiting) % entries));
        }
      }
    }
  }
}

TEST_CASE("a head is accepted exactly when that many entries were posted") {
  for (std::uint32_t entries = 2; entries <= 8; ++entries) {
    for (std::uint32_t head = 0; head != entries; ++head) {
      for (std::uint32_t used = 0; used != entries; ++used) {
        for (std::uint32_t value = 0; value != 2 * entries; ++value) {
          device::completion_queue q;
          q.entries = entries;
          q.head = head;
          q.tail = (head + used) % entries;
          std::uint32_t read = 0;
          while (read != entries && (head + read) % entries != value) ++read;
          const auto expected = read == 0     ? doorbell_update::unchanged
                                : read > used ? doorbell_update::invalid
                                              : doorbell_update::moved;
          REQUIRE(q.set_head(value) == expected);
        }
      }
    }
  }
}

TEST_CASE(
    "commands of a deleted queue that were not fetched are gone, and the queue can come back") {
  auto s = machine<>::small();
  s.fetch_burst = 1;
  machine m{s};
  m.enable();
  m.create(1, 8);
  for (std::uint16_t i = 0; i != 5; ++i) m.push(1, nvm::flush(1), i);
  // The admin queue is served first: the deletion precedes the commands.
  m.ring_tail(1, 5);
  CHECK(m.admin_code(admin::delete_io_sq(1)) == status_code::success);
  CHECK(m.word(1, ring_side::submission) == 0);
  m.controller.poll();
  CHECK(m.admin_code(admin::delete_io_cq(1)) == status_code::success);
  m.create(1, 8);
  CHECK(m.io_code(nvm::flush(1)) == status_code::success);
}

TEST_CASE("a ring that cannot be reached is a fatal status, not a loop and not a crash") {
  {
    machine m;
    m.enable();
    auto e = admin::create_io_cq({.qid = 1, .entries = 8, .memory = bus_addr{0x10000}});
    REQUIRE(m.admin_code(e) == status_code::success);
    e = admin::create_io_sq({.qid = 1, .entries = 8, .memory = bus_addr{0x20000}, .cqid = 1});
    REQUIRE(m.admin_code(e) == status_code::success);
    m.ring_tail(1, 1);
    CHECK(m.controller.poll() == 0);
    CHECK(m.reg<csts>()[csts::cfs]);
    CHECK(m.controller.poll() == 0);
    m.enable();
    CHECK(m.admin_code(admin::keep_alive()) == status_code::success);
  }
  {
    machine m;
    m.enable();
    const bus_addr sq = m.page();
    REQUIRE(m.admin_code(admin::create_io_cq(
                {.qid = 1, .entries = 8, .memory = bus_addr{0x10000}})) == status_code::success);
    REQUIRE(m.admin_code(admin::create_io_sq({.qid = 1, .entries = 8, .memory = sq, .cqid = 1})) ==
            status_code::success);
    m.pairs[1] = {.id = 1, .sq = sq, .depth = 8};
    m.submit(1, nvm::flush(1), 1);
    CHECK(m.controller.poll() == 1);
    CHECK(m.reg<csts>()[csts::cfs]);
  }
}

TEST_CASE(
    "the work of one round is bounded, and so are the DMA accesses of a queue full of commands") {
  auto s = machine<>::small();
  s.fetch_burst = 4;
  machine m{s};
  m.enable();
  m.create(1, 64);
  m.create(2, 64);
  for (std::uint16_t i = 0; i != 63; ++i) {
    m.push(1, nvm::flush(1), i);
    m.push(2, nvm::flush(1), i);
  }
  m.ring_tail(1, 63);
  m.ring_tail(2, 63);
  m.ram.translations = 0;
  CHECK(m.controller.poll() == 8);
  // One for each entry fetched, one for each posted.
  CHECK(m.ram.translations == 16);
}

TEST_CASE("doorbells keep their stride") {
  for (const unsigned stride : {0U, 1U, 4U}) {
    auto s = machine<>::small();
    s.doorbell_stride = static_cast<std::uint8_t>(stride);
    machine m{s};
    m.enable();
    m.create(1, 8);
    m.create(8, 8);
    CHECK(m.io_code(nvm::flush(1), 8) == status_code::success);
  }
}

TEST_CASE("fewer doorbells than queues are fewer queues") {
  memory ram{1U << 16};
  interrupts irq;
  std::vector<std::byte> disk(4096);
  block::memory_media media{disk};
  device::single_namespace<block::memory_media> spaces{media};
  std::vector<std::uint32_t> words(7);
  device::controller c{ram, irq, spaces, std::span{words}};
  c.write32(aqa::offset, aqa::for_entries(4, 4).raw);
  c.write32(asq::offset, static_cast<std::uint32_t>(memory::base));
  c.write32(asq::offset + 4, static_cast<std::uint32_t>(memory::base >> 32));
  c.write32(acq::offset, static_cast<std::uint32_t>(memory::base + 4096));
  c.write32(acq::offset + 4, static_cast<std::uint32_t>(memory::base >> 32));
  c.write32(cc::offset, machine<>::enabled_cc().raw);
  auto e = admin::set_features({.fid = feature_id::number_of_queues, .cdw11 = 0x003f'003f});
  store_wire(ram.bytes(ram.bus(0), 64), e);
  words[0] = 1;
  CHECK(c.poll() == 1);
  CHECK(load_wire<completion_entry>(ram.bytes(ram.bus(4096), 16)).dw0 ==
        number_of_queues::of(2, 2).raw);
}
