// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/async_events.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using device::ring_side;

std::optional<completion_entry> poll_for(machine<>& m, int turns = 4) {
  for (int i = 0; i != turns; ++i) {
    m.controller.poll();
    if (const auto c = m.reap(0)) return c;
  }
  return std::nullopt;
}

status_code read_errors(machine<>& m, bool retain = false) {
  const bus_addr page = m.ram.bus(m.ram.size - 4096);
  return m.admin_code(
      with_data(admin::get_log_page(
                    {.lid = log_page_id::error_information, .bytes = 64, .retain_event = retain}),
                page));
}

}  // namespace

TEST_CASE("a doorbell value beyond the queue is an event with its own number") {
  for (const auto side : {ring_side::submission, ring_side::completion}) {
    machine m;
    m.enable();
    m.create(1, 8);
    m.submit(0, admin::async_event_request(), 5);
    m.controller.poll();
    m.word(1, side) = 8;
    const auto c = poll_for(m);
    REQUIRE(c);
    CHECK(c->command_id() == 5);
    CHECK(c->status().ok());
    CHECK(c->dw0 == 0x0001'0100);
  }
}

TEST_CASE("a doorbell of a queue that does not exist is an event with another number") {
  for (const auto side : {ring_side::submission, ring_side::completion}) {
    for (const std::uint16_t qid : {std::uint16_t{1}, std::uint16_t{8}}) {
      machine m;
      m.enable();
      m.submit(0, admin::async_event_request(), 5);
      m.controller.poll();
      m.word(qid, side) = 3;
      const auto c = poll_for(m);
      REQUIRE(c);
      CHECK(c->dw0 == 0x0001'0000);
      CHECK(m.word(qid, side) == 0);
    }
  }
}

TEST_CASE("a second event of a type waits until the log page was read, and is gone with it") {
  machine m;
  m.enable();
  m.create(1, 8);
  for (std::uint16_t i = 0; i != 3; ++i) m.submit(0, admin::async_event_request(), i);
  m.ring_tail(1, 100);
  REQUIRE(poll_for(m));
  m.ring_tail(1, 101);
  CHECK_FALSE(poll_for(m));
  // Read with Retain Asynchronous Event: still masked.
  CHECK(read_errors(m, true) == status_code::success);
  CHECK(m.strays.empty());
  m.ring_tail(1, 103);
  CHECK_FALSE(poll_for(m));
  CHECK(read_errors(m) == status_code::success);
  CHECK_FALSE(poll_for(m));
  m.ring_tail(1, 102);
  const auto c = poll_for(m);
  REQUIRE(c);
  CHECK(c->command_id() == 1);
}

TEST_CASE("an event that finds no request waits for one") {
  machine m;
  m.enable();
  m.create(1, 8);
  m.ring_tail(1, 100);
  CHECK_FALSE(poll_for(m));
  m.submit(0, admin::async_event_request(), 9);
  const auto c = poll_for(m);
  REQUIRE(c);
  CHECK(c->command_id() == 9);
  CHECK(c->dw0 == 0x0001'0100);
}

TEST_CASE("the aborted event request and the abort are both completed") {
  machine m;
  m.enable();
  m.submit(0, admin::async_event_request(), 9);
  m.submit(0, admin::async_event_request(), 10);
  m.controller.poll();
  const auto abort = m.admin(admin::abort(0, 9));
  CHECK(abort.status().ok());
  CHECK(abort.dw0 == 0);
  std::optional<completion_entry> other;
  if (m.strays.empty()) {
    other = poll_for(m);
  } else {
    other = m.strays.front();
  }
  REQUIRE(other);
  CHECK(other->command_id() == 9);
  CHECK(other->status() == status_code::abort_requested);
  // The other request is still there, the aborted one is not.
  CHECK(m.admin(admin::abort(0, 9)).dw0 == 1);
  m.ring_tail(3, 7);
  const auto event = poll_for(m);
  REQUIRE(event);
  CHECK(event->command_id() == 10);
}

TEST_CASE("a new namespace is reported if the host has enabled the event") {
  for (const bool wanted : {false, true}) {
    machine m;
    m.enable();
    m.admin(admin::set_features(
        {.fid = feature_id::async_event_configuration, .cdw11 = wanted ? 0x100U : 0U}));
    m.submit(0, admin::async_event_request(), 9);
    m.controller.poll();
    std::vector<std::byte> disk(4096);
    block::memory_media media{disk};
    m.spaces.attach(3, media);
    m.controller.namespace_changed(3);
    m.controller.namespace_changed(2);
    m.controller.namespace_changed(3);
    const auto c = poll_for(m);
    CHECK(c.has_value() == wanted);
    if (c) CHECK(c->dw0 == 0x0004'0002);
    const bus_addr page = m.page();
    CHECK(m.admin_code(with_data(
              admin::get_log_page({.lid = log_page_id::changed_namespaces, .bytes = 4096}),
              page)) == status_code::success);
    const auto log = load_wire<changed_namespace_log>(m.ram.bytes(page, 4096));
    CHECK(log.nsid[0] == 2);
    CHECK(log.nsid[1] == 3);
    CHECK(log.nsid[2] == 0);
    m.spaces.detach(3);
  }
}

TEST_CASE("events of different types are reported independently") {
  device::async_events<4> events;
  events.raise(async_event::of(error_event::invalid_doorbell));
  events.raise(async_event::of(health_event::temperature));
  events.raise(async_event::of(error_event::invalid_doorbell_value));
  CHECK_FALSE(events.next());
  for (std::uint16_t i = 0; i != 4; ++i) CHECK(events.add_request(i));
  CHECK_FALSE(events.add_request(4));
  CHECK(events.next()->dw0 == 0x0001'0000);
  CHECK(events.next()->dw0 == 0x0002'0101);
  CHECK_FALSE(events.next());
  events.acknowledge(async_event_type::error);
  CHECK_FALSE(events.next());
  events.raise(async_event::of(error_event::invalid_doorbell_value));
  CHECK(events.next()->dw0 == 0x0001'0100);
}

TEST_CASE("a full completion queue keeps an event waiting, and does not lose it") {
  machine m;
  m.enable(4);
  m.submit(0, admin::async_event_request(), 1);
  m.controller.poll();
  for (std::uint16_t i = 2; i != 5; ++i) {
    m.push(0, admin::keep_alive(), i);
    m.ring_tail(0, m.pairs[0].tail);
    m.controller.poll();
  }
  m.ring_tail(5, 1);
  m.controller.poll();
  m.controller.poll();
  for (std::uint16_t i = 2; i != 5; ++i) CHECK(m.reap(0)->command_id() == i);
  const auto c = poll_for(m);
  REQUIRE(c);
  CHECK(c->command_id() == 1);
}
