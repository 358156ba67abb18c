// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/registers.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

TEST_CASE("capabilities report the settings, in either width") {
  device::settings s;
  s.max_queue_entries = 65536;
  s.doorbell_stride = 2;
  s.largest_page = 3;
  s.ready_timeout = 9;
  s.io_queue_pairs = 2;
  machine m{s};
  const auto caps = m.reg<cap>();
  CHECK(caps[cap::mqes] == 0xffff);
  CHECK(caps[cap::dstrd] == 2);
  CHECK(caps[cap::mpsmin] == 0);
  CHECK(caps[cap::mpsmax] == 3);
  CHECK(caps[cap::to] == 9);
  CHECK(caps[cap::css_nvm]);
  CHECK_FALSE(caps[cap::cmbs]);
  CHECK(m.controller.read32(4) == static_cast<std::uint32_t>(caps.raw >> 32));
}

TEST_CASE("a page size beyond what CAP offers is a fatal status, and a reset heals it") {
  auto s = machine<>::small();
  s.largest_page = 2;
  machine m{s};
  for (std::uint8_t mps = 0; mps != 16; ++mps) {
    m.enable(8, machine<>::enabled_cc().with(cc::mps, mps));
    CHECK(m.reg<csts>()[csts::cfs] == (mps > 2));
    CHECK(m.reg<csts>()[csts::rdy] == (mps <= 2));
    CHECK(m.controller.poll() == 0);
  }
  m.enable();
  CHECK(m.reg<csts>() == csts{}.with(csts::rdy, true));
}

TEST_CASE("an admin queue off its page is a fatal status, for the page size that was chosen") {
  machine m;
  for (const auto& [offset, mps, fatal] : {std::tuple{4, 0, true},
                                           {2048, 0, true},
                                           {4096, 0, false},
                                           {4096, 1, true},
                                           {8192, 1, false}}) {
    for (const auto reg : {asq::offset, acq::offset}) {
      m.controller.write32(cc::offset, 0);
      m.write64(asq::offset, memory::base);
      m.write64(acq::offset, memory::base + (1U << 16));
      m.write64(reg, memory::base + static_cast<unsigned>(offset));
      m.controller.write32(aqa::offset, aqa::for_entries(4, 4).raw);
      m.controller.write32(
          cc::offset, machine<>::enabled_cc().with(cc::mps, static_cast<std::uint8_t>(mps)).raw);
      CHECK(m.reg<csts>()[csts::cfs] == fatal);
    }
  }
}

TEST_CASE("an admin queue of one entry, another command set or arbitration cannot be enabled") {
  machine m;
  const auto start = [&](std::uint32_t sizes, cc how) {
    m.controller.write32(cc::offset, 0);
    m.write64(asq::offset, memory::base);
    m.write64(acq::offset, memory::base);
    m.controller.write32(aqa::offset, sizes);
    m.controller.write32(cc::offset, how.raw);
    return m.reg<csts>()[csts::rdy];
  };
  const auto good = machine<>::enabled_cc();
  CHECK(start(0x0001'0001, good));
  CHECK_FALSE(start(0x0001'0000, good));
  CHECK_FALSE(start(0x0000'0001, good));
  CHECK_FALSE(start(0x0001'0001, good.with(cc::css, command_set_selected::admin_only)));
  CHECK_FALSE(start(0x0001'0001, good.with(cc::ams, arbitration_mechanism::weighted)));
  CHECK(start(0x0fff'0fff, good));
}

TEST_CASE("the admin queue's registers do not move under a running controller") {
  machine m;
  m.enable();
  const auto before = m.reg<asq>();
  m.write64(asq::offset, 0x1000);
  m.write64(acq::offset, 0x1000);
  m.controller.write32(aqa::offset, 0);
  CHECK(m.reg<asq>() == before);
  CHECK(m.reg<aqa>().raw == aqa::for_entries(32, 32).raw);
  m.controller.write32(cc::offset, 0);
  m.write64(asq::offset, 0x1234'5678'9abc'd000);
  CHECK(m.reg<asq>().raw == 0x1234'5678'9abc'd000);
}

TEST_CASE("what is not there reads as 0 and takes no writes") {
  machine m;
  for (std::uint32_t offset = 0; offset < 0x1000; offset += 4) {
    if (offset == cc::offset || offset == aqa::offset ||
        (offset >= intms::offset && offset <= intmc::offset) ||
        (offset >= asq::offset && offset < acq::offset + 8)) {
      continue;
    }
    const auto before = m.controller.read32(offset);
    m.controller.write32(offset, 0xffff'ffff);
    CHECK(m.controller.read32(offset) == before);
  }
  CHECK(m.controller.read32(0xffff'fffc) == 0);
  CHECK(m.controller.read32(0x800) == 0);
}

TEST_CASE("disabling forgets queues, requests and features, and keeps the admin queue's place") {
  machine m;
  m.enable();
  m.create(1, 8);
  m.submit(0, admin::async_event_request(), 1);
  CHECK(m.admin_code(admin::set_features({.fid = feature_id::arbitration, .cdw11 = 3})) ==
        status_code::success);
  m.ring_tail(1, 3);
  const auto place = m.reg<asq>();
  m.controller.write32(cc::offset, 0);
  CHECK(m.reg<csts>().raw == 0);
  CHECK(m.reg<asq>() == place);
  for (const auto w : m.words) CHECK(w == 0);
  CHECK(m.controller.poll() == 0);

  m.enable();
  CHECK(m.admin(admin::get_features({.fid = feature_id::arbitration})).dw0 == 7);
  CHECK(m.admin_code(admin::delete_io_sq(1)) == status_code::invalid_queue_id);
  // The same id is free again.
  m.submit(0, admin::async_event_request(), 1);
  m.controller.poll();
  CHECK_FALSE(m.peek(0));
}

TEST_CASE("a function-level reset is as after power-on") {
  machine m;
  m.enable();
  m.create(1, 8);
  m.controller.write32(intms::offset, 5);
  m.controller.reset();
  CHECK(m.reg<csts>().raw == 0);
  CHECK(m.reg<cc>().raw == 0);
  CHECK(m.reg<asq>().raw == 0);
  CHECK(m.reg<aqa>().raw == 0);
  CHECK(m.reg<intms>().raw == 0);
  CHECK(m.controller.poll() == 0);
  m.enable();
  m.create(1, 8);
  CHECK(m.io_code(nvm::flush(1)) == status_code::success);
}

TEST_CASE("after a shutdown notification nothing is fetched until the controller is reset") {
  for (const auto how : {shutdown_notification::normal, shutdown_notification::abrupt}) {
    machine m;
    m.enable();
    m.create(1, 8);
    m.controller.write32(cc::offset, machine<>::enabled_cc().with(cc::shn, how).raw);
    CHECK(m.reg<csts>()[csts::shst] == shutdown_status::complete);
    m.submit(1, nvm::flush(1), 1);
    CHECK(m.controller.poll() == 0);
    CHECK_FALSE(m.peek(1));
    m.enable();
    CHECK(m.reg<csts>()[csts::shst] == shutdown_status::normal_operation);
    CHECK(m.admin_code(admin::keep_alive()) == status_code::success);
  }
}

TEST_CASE("masked interrupts wait, and come when they are unmasked, each for itself") {
  machine m;
  m.enable();
  m.create(1, 8, 1);
  m.create(2, 8, 2);
  m.irq.raised.clear();
  m.controller.write32(intms::offset, 1U << 1);
  CHECK(m.controller.read32(intms::offset) == 2);
  CHECK(m.controller.read32(intmc::offset) == 2);
  m.io_code(nvm::flush(1), 1);
  m.io_code(nvm::flush(1), 2);
  CHECK(m.irq.raised[1] == 0);
  CHECK(m.irq.raised[2] == 1);
  m.controller.write32(intmc::offset, 1U << 1);
  CHECK(m.irq.raised[1] == 1);
  CHECK(m.irq.raised[2] == 1);
  m.io_code(nvm::flush(1), 1);
  CHECK(m.irq.raised[1] == 2);
}

TEST_CASE("one interrupt is raised for all completions of a round") {
  machine m;
  m.enable();
  m.create(1, 16, 3);
  m.irq.raised.clear();
  for (std::uint16_t i = 0; i != 10; ++i) m.push(1, nvm::flush(1), i);
  m.ring_tail(1, m.pairs[1].tail);
  CHECK(m.controller.poll() == 10);
  CHECK(m.irq.raised[3] == 1);
  CHECK(m.controller.poll() == 0);
  CHECK(m.irq.raised[3] == 1);
}

TEST_CASE("a queue created without interrupts raises none") {
  machine m;
  m.enable();
  m.create(1, 8, 1);
  const bus_addr cq = m.page();
  REQUIRE(m.admin_code(admin::create_io_cq(
              {.qid = 2, .entries = 8, .memory = cq, .vector = 4, .interrupts = false})) ==
          status_code::success);
  const bus_addr sq = m.page();
  REQUIRE(m.admin_code(admin::create_io_sq({.qid = 2, .entries = 8, .memory = sq, .cqid = 2})) ==
          status_code::success);
  m.pairs[2] = {.id = 2, .sq = sq, .cq = cq, .depth = 8};
  CHECK(m.io_code(nvm::flush(1), 2) == status_code::success);
  CHECK(m.irq.raised[4] == 0);
}
