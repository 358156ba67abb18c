// SPDX-License-Identifier: BSL-1.0
#include "page_table_harness.hpp"

#include <phasebit/iommu/page_table/formats/amdv1.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>

#include <map>

namespace phasebit::page_table_harness {

namespace {

page_lookup<host_space> page_at(std::uint64_t target, unsigned shift, unsigned permissions = 3) {
  return {walk_status::mapped,
          0,
          static_cast<std::uint8_t>(shift),
          static_cast<std::uint8_t>(permissions),
          host_phys{target},
          0};
}

std::optional<std::uint64_t> ask(const auto& cache, iotlb_tag tag, std::uint64_t a) {
  iotlb_hit<host_space> hit;
  if (!cache.find(tag, bus_addr{a}, hit)) return std::nullopt;
  return hit.target.value();
}

}  // namespace

TEST_CASE("a translation is found from every address of its page, for its own tag only") {
  for (const unsigned shift : {12U, 21U, 30U}) {
    iotlb<> cache;
    const std::uint64_t size = 1ULL << shift;
    cache.insert({1, 2}, bus_addr{5 * size + 77}, page_at(9 * size, shift, 1));
    for (const std::uint64_t offset : {std::uint64_t{0}, size / 2 + 3, size - 1}) {
      iotlb_hit<host_space> hit;
      REQUIRE(cache.find({1, 2}, bus_addr{5 * size + offset}, hit));
      CHECK(hit.target == host_phys{9 * size + offset});
      CHECK(hit.bytes == size - offset);
      CHECK(hit.permissions == 1);
    }
    CHECK_FALSE(ask(cache, {1, 2}, 5 * size - 1));
    CHECK_FALSE(ask(cache, {1, 2}, 6 * size));
    CHECK_FALSE(ask(cache, {1, 3}, 5 * size));
    CHECK_FALSE(ask(cache, {2, 2}, 5 * size));
  }
}

TEST_CASE("what a walk did not find is not kept") {
  iotlb<> cache;
  cache.insert({}, bus_addr{0}, {});
  CHECK_FALSE(ask(cache, {}, 0));
}

TEST_CASE("a page of another size is cached in parts, and invalidated whole") {
  iotlb<> cache;
  for (const std::uint64_t a : {0x10000ULL, 0x13000ULL, 0x1f000ULL}) {
    cache.insert({7}, bus_addr{a + 5}, page_at(0x50000, 16));
    CHECK(ask(cache, {7}, a + 9) == 0x50000 + a - 0x10000 + 9);
  }
  CHECK_FALSE(ask(cache, {7}, 0x11000));
  // One address of the page is named; hardware forgets the page.
  cache.invalidate(7, bus_addr{0x18000}, bus_addr{0x18000});
  for (const std::uint64_t a : {0x10000ULL, 0x13000ULL, 0x1f000ULL}) {
    CHECK_FALSE(ask(cache, {7}, a));
  }
}

TEST_CASE("invalidation by range, domain, address space and as a whole") {
  iotlb<> cache;
  const auto fill = [&] {
    for (const std::uint16_t domain : {std::uint16_t{1}, std::uint16_t{2}}) {
      for (std::uint32_t pasid : {0U, 5U}) {
        cache.insert({domain, pasid}, bus_addr{0x1000}, page_at(0x1000, 12));
        cache.insert({domain, pasid}, bus_addr{0x2000}, page_at(0x2000, 12));
        cache.insert({domain, pasid}, bus_addr{1 << 30}, page_at(1 << 30, 30));
      }
    }
  };
  fill();
  cache.invalidate(1, bus_addr{0x2fff}, bus_addr{0x2fff});
  CHECK(ask(cache, {1, 0}, 0x1000));
  CHECK_FALSE(ask(cache, {1, 0}, 0x2000));
  CHECK_FALSE(ask(cache, {1, 5}, 0x2000));
  CHECK(ask(cache, {2, 0}, 0x2000));
  CHECK(ask(cache, {1, 0}, 1 << 30));
  cache.invalidate(1, bus_addr{0}, bus_addr{~0ULL});
  CHECK_FALSE(ask(cache, {1, 0}, 0x1000));
  CHECK_FALSE(ask(cache, {1, 5}, 1 << 30));
  CHECK(ask(cache, {2, 5}, 1 << 30));

  fill();
  cache.invalidate_domain(2);
  CHECK(ask(cache, {1, 0}, 0x1000));
  CHECK_FALSE(ask(cache, {2, 0}, 0x1000));
  CHECK_FALSE(ask(cache, {2, 5}, 1 << 30));

  cache.invalidate_pasid({1, 5});
  CHECK(ask(cache, {1, 0}, 0x1000));
  CHECK_FALSE(ask(cache, {1, 5}, 0x1000));

  fill();
  cache.invalidate_all();
  for (const std::uint16_t domain : {std::uint16_t{1}, std::uint16_t{2}})
    CHECK_FALSE(ask(cache, {domain, 0}, 0x1000));
  fill();
  CHECK(ask(cache, {2, 5}, 0x2000));
}

TEST_CASE("entries are replaced by others of their set") {
  iotlb<1, 2> cache;
  for (std::uint64_t i = 0; i != 100; ++i) {
    cache.insert({}, bus_addr{i << 12}, page_at(i << 12, 12));
    CHECK(ask(cache, {}, i << 12) == i << 12);
    std::size_t held = 0;
    for (std::uint64_t j = 0; j <= i; ++j) held += ask(cache, {}, j << 12).has_value() ? 1U : 0U;
    CHECK(held == (i == 0 ? 1 : 2));
  }
}

TEST_CASE(
    "what the cache answers is what was mapped at the last invalidation, for random changes") {
  table_store<amd_v1> store;
  auto made = page_table<amd_v1, table_store<amd_v1>::arena_type>::create(
      {}, store.arena, {.cut = large_pages::split});
  REQUIRE(made);
  auto& table = *made;
  iotlb<8, 2> cache;
  cached_translator through{table, cache, iotlb_tag{3, 4}};
  static_assert(AddressTranslator<decltype(through)>);
  std::mt19937_64 random(5);
  for (int step = 0; step != 30000; ++step) {
    const std::uint64_t begin = random() % 1024 << 12;
    const std::uint64_t bytes = (1 + random() % 64) << 12;
    invalidations<bus_space> changes;
    if (random() % 2 == 0) {
      static_cast<void>(table.map(bus_addr{begin}, host_phys{begin + (random() % 3 << 24)}, bytes,
                                  {.permission = random() % 2 ? access::read : access::read_write},
                                  changes));
    } else {
      REQUIRE(table.unmap(bus_addr{begin}, bytes, changes));
    }
    cache.invalidate(3, changes);
    table.complete(changes);
    for (int i = 0; i != 8; ++i) {
      const std::uint64_t a = (random() % 1100 << 12) + random() % 4096;
      const access wanted = random() % 2 == 0 ? access::read : access::write;
      const auto direct = table.translate(bus_addr{a}, 1, wanted);
      const auto cached = through.translate(bus_addr{a}, 1, wanted);
      REQUIRE(direct.has_value() == cached.has_value());
      if (direct) REQUIRE(*direct == *cached);
    }
  }
}

TEST_CASE("without an invalidation the old translation stays, as it does in hardware") {
  table_store<vtd_second_stage, 64> store;
  auto table = page_table<vtd_second_stage, table_arena<64>>::create({}, store.arena);
  REQUIRE(table);
  iotlb<> cache;
  cached_translator through{*table, cache, iotlb_tag{1}};
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x5000}, 0x1000));
  CHECK(through.translate(bus_addr{0x1000}, 1, access::write)->begin == host_phys{0x5000});
  invalidations<bus_space> changes;
  REQUIRE(table->unmap(bus_addr{0x1000}, 0x1000, changes));
  CHECK(through.translate(bus_addr{0x1000}, 1, access::write)->begin == host_phys{0x5000});
  cache.invalidate(1, changes);
  CHECK(through.translate(bus_addr{0x1000}, 1, access::write).error().code == errc::not_mapped);
  table->complete(changes);
}

}  // namespace phasebit::page_table_harness
