// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/controller.hpp>

#include <cstdint>
#include <cstring>
#include <optional>

#include <doctest/doctest.h>
#include <nvme/device/grouped_host.hpp>

using namespace test_host;

namespace {

using machine_type = machine<grouped_policy, grouped_backing>;

struct rig : machine_type {
  explicit rig(block::random_media_plan plan = {.longest = 0})
      : machine_type(small(), 512, 8U << 20, plan) {
    enable();
    for (std::uint16_t q = 1; q != 5; ++q) create(q, 16, q);
    data = page();
  }
  submission_entry write(std::uint64_t lba) {
    return with_data(nvm::write({.nsid = 1, .lba = lba, .blocks = 1}), data);
  }
  submission_entry read(std::uint64_t lba) {
    return with_data(nvm::read({.nsid = 1, .lba = lba, .blocks = 1}), data);
  }

  bus_addr data{};
};

}  // namespace

TEST_CASE("each poll group serves its own queues") {
  rig r;
  for (std::uint16_t q = 1; q != 5; ++q) r.submit(q, r.read(q), q);
  for (int i = 0; i != 4; ++i) r.controller.poll_group(0);
  CHECK(r.peek(1));
  CHECK_FALSE(r.peek(2));
  CHECK(r.peek(3));
  CHECK_FALSE(r.peek(4));
  for (int i = 0; i != 4; ++i) CHECK(r.controller.poll_admin() == 0);
  CHECK_FALSE(r.peek(2));
  for (int i = 0; i != 4; ++i) r.controller.poll_group(1);
  CHECK(r.peek(2));
  CHECK(r.peek(4));
  CHECK(r.irq.raised[1] == 1);
  CHECK(r.irq.raised[4] == 1);
}

TEST_CASE("a submission queue belongs to the group of its completion queue") {
  rig r;
  const bus_addr sq = r.allocate(16 * 64, 1U << 16);
  REQUIRE(r.admin_code(nvme::admin::create_io_sq(
              {.qid = 6, .entries = 16, .memory = sq, .cqid = 1})) == status_code::success);
  r.pairs[6] = r.pairs[1];
  r.pairs[6].id = 6;
  r.pairs[6].sq = sq;
  r.submit(6, r.read(0), 9);
  for (int i = 0; i != 4; ++i) r.controller.poll_group(1);
  CHECK_FALSE(r.peek(1));
  for (int i = 0; i != 4; ++i) r.controller.poll_group(0);
  const auto c = r.reap(1);
  REQUIRE(c);
  CHECK(c->sq_id == 6);
}

TEST_CASE("an abort, a deletion and a reset reach commands of every group") {
  rig r{{.longest = 0, .hold_one_in = 1}};
  for (std::uint16_t q = 1; q != 5; ++q) {
    r.submit(q, r.read(q), 1);
    r.submit(q, r.read(q), 2);
  }
  for (std::size_t g = 0; g != 2; ++g) r.controller.poll_group(g);
  REQUIRE(r.controller.in_flight() == 8);
  CHECK_FALSE(r.controller.drained());
  for (std::uint16_t q = 1; q != 3; ++q) {
    const auto aborted = r.admin(nvme::admin::abort(q, 1));
    CHECK(aborted.status().ok());
    CHECK((aborted.dw0 & 1) == 0);
    const auto c = r.reap(q);
    REQUIRE(c);
    CHECK(c->status() == status_code::abort_requested);
    CHECK(r.admin_code(nvme::admin::delete_io_sq(q)) == status_code::success);
    CHECK(r.reap(q)->status() == status_code::aborted_queue_deletion);
  }
  CHECK(r.controller.in_flight() == 4);
  r.controller.write32(nvme::cc::offset, 0);
  CHECK(r.reg<csts>()[csts::rdy]);
  for (int i = 0; i != 4; ++i) r.controller.poll();
  CHECK(r.controller.drained());
  CHECK_FALSE(r.reg<csts>()[csts::rdy]);
  CHECK_FALSE(r.peek(3));
  CHECK_FALSE(r.peek(4));
}

TEST_CASE("a ring that a group cannot reach is a fatal status of the controller") {
  for (const std::uint16_t q : {std::uint16_t{1}, std::uint16_t{2}}) {
    rig r;
    r.ram.hole_begin = r.pairs[q].sq.value() - memory::base;
    r.ram.hole_end = r.ram.hole_begin + 64;
    r.submit(q, r.read(0), 1);
    r.controller.poll_group((q - 1U) % 2);
    CHECK_FALSE(r.reg<csts>()[csts::cfs]);  // the thread of the admin queue reports it
    CHECK(r.controller.poll_group((q - 1U) % 2) == 0);
    r.controller.poll_admin();
    CHECK(r.reg<csts>()[csts::cfs]);
  }
}

TEST_CASE("an invalid doorbell value found by a group is an event") {
  rig r;
  r.submit(0, nvme::admin::async_event_request(), 7);
  r.controller.poll();
  r.ring_tail(2, 99);
  r.controller.poll_group(1);
  r.controller.poll_admin();
  const auto c = r.reap(0);
  REQUIRE(c);
  CHECK(c->command_id() == 7);
}

TEST_CASE("the health log counts the commands of all groups") {
  rig r;
  for (std::uint16_t q = 1; q != 5; ++q) r.submit(q, r.write(q), q);
  for (int i = 0; i != 4; ++i) r.controller.poll();
  const bus_addr page = r.page();
  REQUIRE(r.admin_code(with_data(
              nvme::admin::get_log_page({.lid = log_page_id::health, .bytes = 512}), page)) ==
          status_code::success);
  health_log log;
  std::memcpy(&log, r.ram.at(page), sizeof log);
  CHECK(log.host_write_commands.low.get() == 4);
}

TEST_CASE("groups are saved and restored with their queues") {
  rig r;
  r.submit(2, r.read(0), 1);
  r.controller.poll_group(1);
  r.controller.quiesce();
  for (int i = 0; i != 4; ++i) r.controller.poll();
  REQUIRE(r.controller.quiesced());
  const auto saved = r.controller.save();
  r.controller.resume();
  r.controller.write32(nvme::cc::offset, 0);
  r.controller.poll();
  REQUIRE(r.controller.restore(saved));
  CHECK(r.io_code(r.read(1), 1) == status_code::success);
  CHECK(r.strays.empty());
  CHECK(r.io_code(r.read(1), 2) == status_code::success);
}
