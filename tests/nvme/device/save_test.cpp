// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/saved_state.hpp>

#include <cstring>
#include <random>

#include <doctest/doctest.h>
#include <nvme/device/async_host.hpp>

using namespace test_host;

namespace {

using enum status_code;
using saved = device::saved_controller<device::default_policy>;

// A second controller over the same host memory, media and doorbell words.
template <class Machine>
struct successor {
  explicit successor(Machine& m)
      : words(m.words.size()), controller(m.ram, m.irq, m.spaces, words, m.config, m.pending()) {}
  std::vector<std::uint32_t> words;
  typename Machine::controller_type controller;
};

}  // namespace

TEST_CASE("a saved controller goes on in another, with queues, features and event requests") {
  machine m;
  m.enable();
  m.create(1, 4);
  m.create(3, 8, 5);
  m.submit(0, admin::async_event_request(), 0x55);
  REQUIRE(m.admin_code(admin::set_features({.fid = feature_id::arbitration, .cdw11 = 3})) ==
          success);
  // Once around the ring, so that the phase is another.
  for (int i = 0; i != 6; ++i) REQUIRE(m.io_code(nvm::flush(1), 1) == success);
  m.controller.quiesce();
  CHECK(m.controller.quiesced());
  m.submit(1, nvm::flush(1), 0x77);
  CHECK(m.controller.poll() == 0);
  const saved state = m.controller.save();
  CHECK(state.version == 2);

  successor next{m};
  m.irq.raised.clear();
  REQUIRE(next.controller.restore(state));
  CHECK(next.controller.read32(csts::offset) == csts{}.with(csts::rdy, true).raw);
  CHECK(next.controller.read64(asq::offset) == m.reg<asq>().raw);
  // The command that was rung before the save is served, and every queue has interrupted once.
  next.controller.poll();
  CHECK(m.irq.raised[0] == 1);
  CHECK(m.irq.raised[1] == 1);
  CHECK(m.irq.raised[5] == 1);
  const auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 0x77);
  CHECK_FALSE(m.peek(0));
  // The event request is still there.
  next.words[2 * 3] = 0x1234;
  next.controller.poll();
  const auto event = m.reap(0);
  REQUIRE(event);
  CHECK(event->command_id() == 0x55);
  CHECK(event->dw0 == 0x0001'0100);
}

TEST_CASE("quiescing waits for commands in flight, and resuming fetches what came meanwhile") {
  async_machine<> m;
  m.enable();
  m.create(1, 8);
  m.hold_firmly();
  m.submit(1, nvm::flush(1), 1);
  m.poll();
  m.controller.quiesce();
  m.submit(1, nvm::flush(1), 2);
  m.poll(2);
  CHECK_FALSE(m.controller.quiesced());
  m.go();
  m.poll();
  CHECK(m.controller.quiesced());
  CHECK(m.reap(1)->command_id() == 1);
  m.poll(3);
  CHECK_FALSE(m.peek(1));
  m.controller.resume();
  CHECK_FALSE(m.controller.quiesced());
  m.poll(2);
  CHECK(m.reap(1)->command_id() == 2);
}

TEST_CASE("shadow doorbells are read again after a restore") {
  machine m;
  m.enable();
  const bus_addr shadow = m.page();
  const bus_addr events = m.page();
  REQUIRE(m.admin_code(admin::doorbell_buffer_config(shadow, events)) == success);
  m.create(1, 8);
  m.controller.quiesce();
  const saved state = m.controller.save();
  // The host only moves the shadow: it was not asked for more.
  m.push(1, nvm::flush(1), 9);
  store_wire(m.ram.bytes(shadow + 8, 4), le<std::uint32_t>{1U});
  successor next{m};
  REQUIRE(next.controller.restore(state));
  next.controller.poll();
  const auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 9);
}

TEST_CASE("words that the host went on writing are not overwritten by a restore") {
  machine m;
  m.enable();
  m.create(1, 8);
  m.controller.quiesce();
  const saved state = m.controller.save();
  m.submit(1, nvm::flush(1), 4);
  machine<>::controller_type next{m.ram, m.irq, m.spaces, m.words, m.config, m.pending()};
  REQUIRE(next.restore(state, device::doorbell_memory::is_shared));
  next.poll();
  CHECK(m.reap(1)->command_id() == 4);
}

TEST_CASE("states that no controller has are refused, and leave it as after power-on") {
  machine m;
  m.enable();
  m.create(1, 4);
  m.controller.quiesce();
  const saved good = m.controller.save();
  const auto refused = [&](auto change, errc expected = errc::invalid_argument) {
    saved bad = good;
    change(bad);
    successor next{m};
    const auto done = next.controller.restore(bad);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == expected);
    CHECK(next.controller.read32(csts::offset) == 0);
    CHECK(next.controller.read32(cc::offset) == 0);
    CHECK(next.controller.poll() == 0);
  };
  refused([](saved& s) { s.version = 99; }, errc::not_supported);
  refused([](saved& s) { s.sq[1].head = 4; });
  refused([](saved& s) { s.sq[1].tail = 0xffff'ffff; });
  refused([](saved& s) { s.cq[1].tail = 4; });
  refused([](saved& s) { s.cq[1].vector = 9; });
  refused([](saved& s) { s.cq[1].entries = 1; });
  refused([](saved& s) { s.sq[1].completion_queue = 2; });
  refused([](saved& s) { s.sq[1].completion_queue = 0; });
  refused([](saved& s) { s.sq[1].completion_queue = 999; });
  refused([](saved& s) { s.sq[1].base += 8; });
  refused([](saved& s) {
    s.cq[1].base = ~std::uint64_t{0} << 12;
    s.cq[1].entries = 4096;
  });
  refused([](saved& s) { s.sq[64] = s.sq[1]; });
  refused([](saved& s) { s.granted_sq = 9; });
  refused([](saved& s) { s.asq += 1; });
  refused([](saved& s) { s.cc = 0; });
  refused([](saved& s) { s.csts |= 1U << 2; });
}

TEST_CASE("a hostile state ends no process, whatever it holds") {
  machine m;
  m.enable();
  m.create(1, 4);
  m.controller.quiesce();
  const saved good = m.controller.save();
  std::mt19937 random{77};
  for (int round = 0; round != 3000; ++round) {
    saved bad = good;
    auto* const bytes = reinterpret_cast<unsigned char*>(&bad);
    // bool members stay bools.
    const std::size_t most = offsetof(saved, shadow_enabled);
    for (unsigned n = 1 + static_cast<unsigned>(random() % 3); n != 0; --n) {
      const std::size_t at = 4 + random() % (most - 4);
      const std::size_t in_cq = at - offsetof(saved, cq);
      if (at >= offsetof(saved, cq) && in_cq % sizeof(device::saved_completion_queue) >= 26)
        continue;
      bytes[at] = static_cast<unsigned char>(random());
    }
    for (auto& id : bad.event_request_ids) id = static_cast<std::uint16_t>(random());
    bad.event_requests = static_cast<std::uint16_t>(random() % 9);
    for (auto& w : bad.events_waiting) w = static_cast<std::uint32_t>(random());
    for (auto& f : bad.features) f = static_cast<std::uint32_t>(random());
    successor next{m};
    static_cast<void>(next.controller.restore(bad));
    for (int i = 0; i != 4; ++i) {
      for (auto& w : next.words) w = random() % 8 == 0 ? static_cast<std::uint32_t>(random()) : w;
      next.controller.poll();
      next.controller.advance(3);
    }
  }
}
