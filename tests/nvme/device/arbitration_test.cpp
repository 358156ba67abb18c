// SPDX-License-Identifier: BSL-1.0
// Weighted round robin with an urgent class, and interrupts that wait for several completions.
#include <phasebit/nvme/device/arbitration.hpp>
#include <phasebit/nvme/device/interrupt_coalescing.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct weighted_policy : device::default_policy {
  using arbitration = device::weighted_round_robin;
};
struct coalescing_policy : device::default_policy {
  using coalescing = device::interrupt_coalescing_of<9>;
};

// Queue q of 1 to 8 has the priority (q - 1) / 2; all complete to queue 1's completion queue.
struct weighted : machine<weighted_policy> {
  weighted() {
    enable(32, enabled_cc().with(cc::ams, arbitration_mechanism::weighted));
    REQUIRE(reg<csts>()[csts::rdy]);
    const bus_addr cq = allocate(256 * 16, 1U << 16);
    REQUIRE(admin_code(nvme::admin::create_io_cq(
                {.qid = 1, .entries = 256, .memory = cq, .vector = 1})) == success);
    for (std::uint16_t q = 1; q <= 8; ++q) {
      const bus_addr sq = allocate(64 * 64, 1U << 16);
      REQUIRE(admin_code(nvme::admin::create_io_sq(
                  {.qid = q,
                   .entries = 64,
                   .memory = sq,
                   .cqid = 1,
                   .priority = static_cast<queue_priority>((q - 1) / 2)})) == success);
      pairs[q] = {.id = q, .sq = sq, .cq = cq, .depth = 64};
    }
    pairs[1].depth = 256;
  }
  void weights(unsigned burst, unsigned high, unsigned medium, unsigned low) {
    REQUIRE(admin_code(nvme::admin::set_features(
                {.fid = feature_id::arbitration,
                 .cdw11 = burst | (low - 1) << 8 | (medium - 1) << 16 | (high - 1) << 24})) ==
            success);
  }
  void load(std::uint16_t q, unsigned commands) {
    pairs[q].depth = 64;
    while (commands-- != 0) push(q, nvm::flush(1), 0);
    ring_tail(q, pairs[q].tail);
  }
  // Commands of each queue that one round has completed.
  std::array<unsigned, 9> round() {
    pairs[1].depth = 256;
    std::array<unsigned, 9> served{};
    controller.poll();
    while (const auto c = reap(1)) ++served[c->sq_id.get()];
    return served;
  }
};

}  // namespace

TEST_CASE("each class has as many commands a round as its weight, shared among its queues") {
  weighted m;
  CHECK(m.reg<cap>()[cap::ams_wrr]);
  m.weights(1, 8, 4, 2);
  for (std::uint16_t q = 3; q <= 8; ++q) m.load(q, 40);
  std::array<unsigned, 9> sum{};
  for (int i = 0; i != 4; ++i) {
    const auto served = m.round();
    CHECK(served[3] + served[4] <= 8);
    CHECK(served[5] + served[6] == 4);
    CHECK(served[7] + served[8] == 2);
    for (std::size_t q = 0; q != 9; ++q) sum[q] += served[q];
  }
  // Within a class both queues have the same.
  CHECK(sum[3] == sum[4]);
  CHECK(sum[5] == sum[6]);
  CHECK(sum[7] == sum[8]);
}

TEST_CASE("nothing else is served while an urgent queue holds commands") {
  weighted m;
  m.weights(2, 1, 1, 1);
  m.load(1, 10);
  m.load(3, 3);
  m.load(7, 3);
  unsigned urgent = 0;
  for (int i = 0; i != 2; ++i) {
    const auto served = m.round();
    CHECK(served[1] == 4);
    CHECK(served[3] + served[7] == 0);
    urgent += served[1];
  }
  CHECK(urgent == 8);
  // The round that empties it goes on to the others.
  const auto served = m.round();
  CHECK(served[1] == 2);
  CHECK(served[3] == 1);
  CHECK(served[7] == 1);
}

TEST_CASE("without CC.AMS, and without the policy, every queue has a burst") {
  machine<weighted_policy> m;
  m.enable();
  m.create(1, 16);
  CHECK(m.io_code(nvm::flush(1)) == success);
  machine<> plain;
  CHECK_FALSE(plain.reg<cap>()[cap::ams_wrr]);
  plain.enable(32, machine<>::enabled_cc().with(cc::ams, arbitration_mechanism::weighted));
  CHECK(plain.reg<csts>()[csts::cfs]);
}

TEST_CASE("priorities survive a restore") {
  weighted m;
  m.controller.quiesce();
  const auto state = m.controller.save();
  CHECK(state.sq[8].priority == 3);
  std::vector<std::uint32_t> words(m.words.size());
  weighted::controller_type next{m.ram, m.irq, m.spaces, words, m.config, m.pending()};
  REQUIRE(next.restore(state));
  next.quiesce();
  CHECK(next.save().sq[8].priority == 3);
}

TEST_CASE("a vector waits for its threshold, for its time, or until there is nothing to do") {
  machine<coalescing_policy> m;
  m.enable();
  m.create(1, 64, 1);
  m.create(2, 64, 2);
  const auto set = [&](feature_id id, std::uint32_t v) {
    REQUIRE(m.admin_code(admin::set_features({.fid = id, .cdw11 = v})) == success);
  };
  const auto get = [&](std::uint32_t vector) {
    return m
        .admin(admin::get_features(
            {.fid = feature_id::interrupt_vector_configuration, .cdw11 = vector}))
        .dw0.get();
  };
  // Five completions, or 10 ms; vector 2 is not coalesced.
  set(feature_id::interrupt_coalescing, 4U | 100U << 8);
  set(feature_id::interrupt_vector_configuration, 2U | 1U << 16);
  CHECK(get(0) == (0U | 1U << 16));
  CHECK(get(1) == 1U);
  CHECK(get(2) == (2U | 1U << 16));
  m.controller.poll();
  m.irq.raised.clear();
  const auto flush = [&](std::uint16_t q, unsigned count) {
    for (unsigned i = 0; i != count; ++i) m.push(q, nvm::flush(1), static_cast<std::uint16_t>(i));
    m.ring_tail(q, m.pairs[q].tail);
    m.controller.poll();
    while (m.reap(q)) {
    }
  };
  flush(2, 1);
  CHECK(m.irq.raised[2] == 1);
  flush(1, 4);
  CHECK(m.irq.raised[1] == 0);
  flush(1, 1);
  CHECK(m.irq.raised[1] == 1);
  flush(1, 1);
  CHECK(m.irq.raised[1] == 1);
  m.controller.advance(10);
  flush(2, 1);
  CHECK(m.irq.raised[1] == 2);
  // The remaining commands, when a round is idle.
  flush(1, 2);
  CHECK(m.irq.raised[1] == 2);
  m.controller.poll();
  CHECK(m.irq.raised[1] == 3);
  // The admin queue never waits.
  const auto before = m.irq.raised[0];
  REQUIRE(m.admin_code(admin::keep_alive()) == success);
  CHECK(m.irq.raised[0] == before + 1);
  // A time of 0 is no coalescing.
  set(feature_id::interrupt_coalescing, 4);
  m.controller.poll();
  m.irq.raised.clear();
  flush(1, 1);
  CHECK(m.irq.raised[1] == 1);
}
