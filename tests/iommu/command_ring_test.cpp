// SPDX-License-Identifier: BSL-1.0
#include "command_ring_harness.hpp"

namespace phasebit::command_ring_harness {

namespace {

using range = invalidation_range<bus_space>;

}  // namespace

TEST_CASE_TEMPLATE("a sync is done when the unit has carried out what came before it", Dialect,
                   vtd_commands, amd_commands, smmuv3_commands, riscv_commands) {
  rig<Dialect> r{8};
  CHECK(r.producer.post(command::whole_domain(5)) == posted::posted);
  sync_token token;
  REQUIRE(r.producer.sync(token) == posted::posted);
  CHECK(r.rings == 1);
  CHECK_FALSE(r.producer.done(token));
  CHECK(r.poll() == 2);
  CHECK(r.producer.done(token));
  REQUIRE(r.handler.seen.size() == 2);
  CHECK(r.handler.seen[0].kind == command_kind::invalidate_translations);
  CHECK(r.handler.seen[0].domain == 5);
  CHECK(r.handler.seen[0].tables);
  CHECK(r.handler.seen[1].kind == command_kind::wait);
}

TEST_CASE_TEMPLATE("a ring wraps at every position of small rings, at every fill", Dialect,
                   vtd_commands, amd_commands, smmuv3_commands, riscv_commands) {
  for (std::uint32_t entries : {2U, 4U, 8U}) {
    for (std::uint32_t start = 0; start != 2 * entries; ++start) {
      for (std::uint32_t fill = 1; fill <= entries; ++fill) {
        rig<Dialect> r{entries};
        const std::uint32_t capacity = r.producer.ring().capacity();
        CHECK(capacity == (Dialect::wraps ? entries : entries - 1));
        for (std::uint32_t i = 0; i != start; ++i) {
          REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
          r.producer.submit();
          REQUIRE(r.poll() == 1);
        }
        r.handler.seen.clear();
        for (std::uint32_t i = 0; i != fill; ++i) {
          const auto how = r.producer.post(command::whole_domain(static_cast<std::uint16_t>(i)));
          REQUIRE(how == (i < capacity ? posted::posted : posted::full));
        }
        r.producer.submit();
        const std::uint32_t posted_count = fill < capacity ? fill : capacity;
        REQUIRE(r.poll() == posted_count);
        REQUIRE(r.handler.seen.size() == posted_count);
        for (std::uint32_t i = 0; i != posted_count; ++i) CHECK(r.handler.seen[i].domain == i);
        CHECK(r.producer.room(capacity) == capacity);
        CHECK(r.producer.health());
      }
    }
  }
}

TEST_CASE("what the registers hold is what each architecture says") {
  rig<vtd_commands> vtd{8};
  rig<vtd_commands> wide{8, {.wide = true}};
  rig<amd_commands> amd{8};
  rig<smmuv3_commands> smmu{8};
  rig<riscv_commands> riscv{8};
  const auto go = [](auto& r, unsigned count) {
    for (unsigned i = 0; i != count; ++i) {
      REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
      r.producer.submit();
      r.poll();
    }
    CHECK(r.head == r.tail);
    return r.tail;
  };
  CHECK(go(vtd, 3) == 3 << 4);
  CHECK(go(wide, 3) == 3 << 5);
  CHECK(go(amd, 3) == 3 << 4);
  CHECK(go(smmu, 3) == 3);
  CHECK(go(riscv, 3) == 3);
  // The eighth brings them back to the beginning; SMMUv3 tells the laps apart.
  CHECK(go(vtd, 5) == 0);
  CHECK(go(wide, 5) == 0);
  CHECK(go(amd, 5) == 0);
  CHECK(go(smmu, 5) == 8);
  CHECK(go(riscv, 5) == 0);
  CHECK(go(smmu, 8) == 0);
}

}  // namespace phasebit::command_ring_harness
