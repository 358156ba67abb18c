// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/doorbells.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using device::ring_side;

struct shadowed : machine<> {
  explicit shadowed(bool configured = true) {
    enable();
    shadow = page();
    events = page();
    if (configured) configure();
  }
  void configure() {
    REQUIRE(admin_code(admin::doorbell_buffer_config(shadow, events)) == status_code::success);
  }
  le<std::uint32_t>& shadow_word(std::uint16_t qid, ring_side side) {
    return *reinterpret_cast<le<std::uint32_t>*>(
        ram.at(shadow + (qid * 2U + static_cast<unsigned>(side)) * 4));
  }
  le<std::uint32_t>& event_word(std::uint16_t qid, ring_side side) {
    return *reinterpret_cast<le<std::uint32_t>*>(
        ram.at(events + (qid * 2U + static_cast<unsigned>(side)) * 4));
  }
  bus_addr shadow{};
  bus_addr events{};
};

// Writes the register of one doorbell and counts.
struct register_sink {
  std::uint32_t* word = nullptr;
  unsigned* writes = nullptr;
  void ring(std::uint32_t value) noexcept {
    thread_order::store(*word, value);
    ++*writes;
  }
};

}  // namespace

TEST_CASE("a shadow alone moves nothing; a kick makes it count, over the register's value") {
  shadowed m;
  m.create(1, 8);
  m.push(1, nvm::flush(1), 1);
  m.push(1, nvm::flush(1), 2);
  m.shadow_word(1, ring_side::submission) = 2;
  CHECK(m.controller.poll() == 0);
  CHECK_FALSE(m.peek(1));
  CHECK(m.event_word(1, ring_side::submission) == 0);
  m.ring_tail(1, 1);
  CHECK(m.controller.poll() == 2);
  CHECK(m.reap(1)->command_id() == 1);
  CHECK(m.reap(1)->command_id() == 2);
  CHECK(m.event_word(1, ring_side::submission) == 2);
}

TEST_CASE("the same value kicked twice is noticed twice") {
  shadowed m;
  m.create(1, 4);
  for (int lap = 0; lap != 12; ++lap) {
    m.push(1, nvm::flush(1), static_cast<std::uint16_t>(lap));
    m.shadow_word(1, ring_side::submission) = m.pairs[1].tail;
    m.ring_tail(1, 1);
    REQUIRE(m.controller.poll() == 1);
    REQUIRE(m.reap(1)->command_id() == lap);
    m.shadow_word(1, ring_side::completion) = m.pairs[1].head;
  }
}

TEST_CASE("our own driver side sleeps where it may, and is never left alone") {
  // A seeded walk of submissions, polls and reaps; at the end the queue must be idle and empty.
  for (std::uint32_t seed = 1; seed != 40; ++seed) {
    for (const std::uint32_t depth : {2U, 3U, 8U}) {
      shadowed m;
      m.create(1, depth);
      unsigned kicks = 0;
      ring::shadow_doorbell<register_sink, thread_order> tail_bell{
          m.shadow_word(1, ring_side::submission), m.event_word(1, ring_side::submission),
          register_sink{&m.word(1, ring_side::submission), &kicks}};
      ring::shadow_doorbell<register_sink, thread_order> head_bell{
          m.shadow_word(1, ring_side::completion), m.event_word(1, ring_side::completion),
          register_sink{&m.word(1, ring_side::completion), &kicks}};
      std::uint32_t random = seed * 2654435761U;
      std::uint16_t next = 0;
      unsigned outstanding = 0;
      unsigned ended = 0;
      const auto reap = [&] {
        auto& q = m.pairs[1];
        if (!m.peek(1)) return false;
        if (++q.head == q.depth) {
          q.head = 0;
          q.phase = !q.phase;
        }
        head_bell.ring(q.head);
        --outstanding;
        ++ended;
        return true;
      };
      for (int step = 0; step != 300; ++step) {
        random = random * 1664525U + 1013904223U;
        switch (random >> 29 & 3U) {
          case 0:
          case 1:
            if (outstanding + 1 < depth) {
              m.push(1, nvm::flush(1), next++);
              tail_bell.ring(m.pairs[1].tail);
              ++outstanding;
            }
            break;
          case 2:
            m.controller.poll();
            break;
          default:
            reap();
            break;
        }
      }
      while (m.controller.poll() != 0 || reap()) {
      }
      CHECK(outstanding == 0);
      CHECK(ended == next);
    }
  }
}

TEST_CASE("queues that existed before the buffers go on from where they were") {
  shadowed m{false};
  m.create(1, 8);
  for (int i = 0; i != 3; ++i) CHECK(m.io_code(nvm::flush(1)) == status_code::success);
  m.configure();
  CHECK(m.shadow_word(1, ring_side::submission) == 3);
  CHECK(m.event_word(1, ring_side::submission) == 3);
  CHECK(m.shadow_word(1, ring_side::completion) == m.word(1, ring_side::completion));
  m.push(1, nvm::flush(1), 50);
  m.shadow_word(1, ring_side::submission) = 4;
  m.ring_tail(1, 4);
  CHECK(m.controller.poll() == 1);
  CHECK(m.reap(1)->command_id() == 50);
}

TEST_CASE("the admin queue stays with its registers") {
  shadowed m;
  m.shadow_word(0, ring_side::submission) = 31;
  CHECK(m.admin_code(admin::keep_alive()) == status_code::success);
}

TEST_CASE("a shadow with an impossible index is an event and nothing else") {
  shadowed m;
  m.create(1, 8);
  m.submit(0, admin::async_event_request(), 5);
  m.controller.poll();
  m.shadow_word(1, ring_side::submission) = 0x1234'5678;
  m.ring_tail(1, 1);
  std::optional<completion_entry> c;
  for (int i = 0; i != 4 && !c; ++i) {
    m.controller.poll();
    c = m.reap(0);
  }
  REQUIRE(c);
  CHECK(c->dw0 == 0x0001'0100);
  CHECK_FALSE(m.peek(1));
}

TEST_CASE("buffers that cannot be reached fail the command, and registers stay in force") {
  shadowed m{false};
  m.create(1, 8);
  CHECK(m.admin_code(admin::doorbell_buffer_config(bus_addr{0x1000}, bus_addr{0x2000})) ==
        status_code::data_transfer_error);
  CHECK(m.io_code(nvm::flush(1)) == status_code::success);
}

TEST_CASE("shadow doorbells end with the controller's reset") {
  shadowed m;
  m.create(1, 8);
  m.enable();
  m.create(1, 8);
  CHECK(m.io_code(nvm::flush(1)) == status_code::success);
}

TEST_CASE("without shadow doorbells the command does not exist") {
  auto s = machine<>::small();
  s.shadow_doorbells = false;
  machine m{s};
  m.enable();
  CHECK(m.admin_code(admin::doorbell_buffer_config(m.page(), m.page())) ==
        status_code::invalid_opcode);
  const bus_addr page = m.page();
  m.admin(with_data(admin::identify({}), page));
  const auto id = load_wire<identify_controller>(m.ram.bytes(page, 4096));
  CHECK_FALSE(identify_controller::oacs_doorbell_buffer.get(id.oacs.get()));
}
