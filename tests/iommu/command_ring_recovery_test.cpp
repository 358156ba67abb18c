// SPDX-License-Identifier: BSL-1.0
// Restart of a ring, interrupts of waits, rings off their alignment, and caches over two stages.
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>
#include <phasebit/iommu/vtd/command_codec.hpp>

#include <vector>

#include <doctest/doctest.h>
#include <iommu/command_ring_harness.hpp>

namespace phasebit::command_ring_harness {

TEST_CASE("a sync after a restart is done by the head, whatever was under way before") {
  rig<riscv::command_codec> r{16, {}, false};
  for (int i = 0; i != 5; ++i) {
    CHECK(r.producer.post(command::all_translations()) == posted::posted);
  }
  r.producer.submit();
  // The IOMMU dropped them; the ring begins anew.
  r.head = r.tail = 0;
  r.consumer.enable(host_phys{flat_memory::base}, 16);
  r.producer.restart();
  sync_token token;
  CHECK(r.producer.sync(token) == posted::posted);
  CHECK_FALSE(r.producer.done(token));
  CHECK(r.poll() == 1);
  CHECK(r.producer.done(token));
}

TEST_CASE("a wait raises its interrupt where it asks for one") {
  rig<vtd::command_codec> r{16};
  sync_token token;
  CHECK(r.producer.sync(token) == posted::posted);
  CHECK(r.poll() == 1);
  CHECK(r.handler.interrupts == 0);
  command like;
  like.interrupt = true;
  CHECK(r.producer.sync(token, like) == posted::posted);
  CHECK(r.poll() == 1);
  CHECK(r.handler.interrupts == 1);
}

TEST_CASE("a ring that is not aligned to 8 bytes is not fetched from") {
  rig<vtd::command_codec> r{16};
  r.consumer.enable(host_phys{flat_memory::base + 4}, 16);
  r.consumer.write_tail(16);
  CHECK(r.consumer.poll(r.handler).commands == 0);
  CHECK(r.consumer.stopped());
  CHECK(r.consumer.fault().what == ring_fault::fetch_failed);
}

namespace {

struct noted_cache {
  using from = bus_space;
  unsigned all = 0;
  unsigned domains = 0;
  unsigned ranges = 0;
  unsigned pasids = 0;
  void invalidate_all() noexcept { ++all; }
  void invalidate_domain(std::uint16_t) noexcept { ++domains; }
  void invalidate(std::uint16_t, bus_addr, bus_addr) noexcept { ++ranges; }
  void invalidate_pasid(iotlb_tag) noexcept { ++pasids; }
};

}  // namespace

TEST_CASE("a cache over two stages forgets the domain for a range of the second stage") {
  command c = command::whole_domain(3);
  c.by_range = true;
  c.stage = translation_stage::second;
  noted_cache one_stage;
  CHECK(invalidate_cache(one_stage, c));
  CHECK(one_stage.ranges == 1);
  CHECK(one_stage.domains == 0);
  noted_cache two_stages;
  CHECK(invalidate_cache(two_stages, c, true));
  CHECK(two_stages.ranges == 0);
  CHECK(two_stages.domains == 1);
  c.stage = translation_stage::first;
  CHECK(invalidate_cache(two_stages, c, true));
  CHECK(two_stages.ranges == 1);
}

}  // namespace phasebit::command_ring_harness
