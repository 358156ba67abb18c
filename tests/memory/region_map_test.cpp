// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/region_map.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;

namespace {

alignas(4096) std::byte store[1_MiB];

guest_addr at(std::uint64_t a) { return guest_addr{a}; }
guest_region region(std::uint64_t begin, std::uint64_t bytes, std::size_t offset,
                    phasebit::access granted = phasebit::access::read_write) {
  return {at(begin), bytes, store + offset, granted};
}
local_addr local(std::size_t offset) { return to_local(store + offset); }

}  // namespace

TEST_CASE("an address is found in its region, and nowhere else") {
  guest_memory<> map;
  // Out of order on purpose.
  REQUIRE(map.add(region(0x1'0000'0000, 64_KiB, 0x20000)));
  REQUIRE(map.add(region(0, 0xa0000, 0x40000)));
  REQUIRE(map.add(region(0xfffc0000, 0x40000, 0)));
  CHECK(map.regions()[1].begin == at(0xfffc0000));

  CHECK(*map.translate(at(0), 1, phasebit::access::read) ==
        segment<local_space>{local(0x40000), 1});
  CHECK(*map.translate(at(0x9ffff), 1, phasebit::access::write) ==
        segment<local_space>{local(0xdffff), 1});
  CHECK(map.translate(at(0xa0000), 1, phasebit::access::read).error().code == errc::not_mapped);
  CHECK(map.translate(at(0xfffbffff), 1, phasebit::access::read).error().value == 0xfffbffff);
  CHECK(map.translate(at(0x1'0001'0000), 1, phasebit::access::read).error().code ==
        errc::not_mapped);
  CHECK(map.translate(at(~0ULL), 1, phasebit::access::read).error().code == errc::not_mapped);
}

TEST_CASE("a range across adjacent regions is split, because their pointers are not adjacent") {
  guest_memory<> map;
  REQUIRE(map.add(region(0x1000, 0x1000, 0x8000)));
  REQUIRE(map.add(region(0x2000, 0x1000, 0x4000)));
  std::vector<segment<local_space>> parts;
  const auto collect = [&](segment<local_space> s) { parts.push_back(s); };
  REQUIRE(for_each_segment(map, at(0x1800), 0x1000, phasebit::access::read, collect));
  REQUIRE(parts.size() == 2);
  CHECK(parts[0] == segment<local_space>{local(0x8800), 0x800});
  CHECK(parts[1] == segment<local_space>{local(0x4000), 0x800});

  const auto beyond = for_each_segment(map, at(0x1800), 0x1801, phasebit::access::read, collect);
  REQUIRE(!beyond);
  CHECK(beyond.error().code == errc::not_mapped);
  CHECK(beyond.error().value == 0x3000);
  CHECK(for_each_segment(map, at(~0ULL - 1), 16, phasebit::access::read, collect).error().code ==
        errc::overflow);
}

TEST_CASE("permission is part of the question") {
  guest_memory<> map;
  REQUIRE(map.add(region(0x1000, 0x1000, 0, phasebit::access::read)));
  REQUIRE(map.add(region(0x2000, 0x1000, 0x1000, phasebit::access::write)));
  CHECK(map.translate(at(0x1000), 8, phasebit::access::read));
  CHECK(map.translate(at(0x1000), 8, phasebit::access::write).error().code == errc::access_denied);
  CHECK(map.translate(at(0x1000), 8, phasebit::access::read_write).error().code ==
        errc::access_denied);
  CHECK(map.translate(at(0x2000), 8, phasebit::access::write));
  CHECK(map.translate(at(0x2000), 8, phasebit::access::read).error().code == errc::access_denied);
}

TEST_CASE("overlapping, empty, wrapping and unmapped regions are refused") {
  guest_memory<4> map;
  REQUIRE(map.add(region(0x2000, 0x1000, 0)));
  const auto code = [&](const guest_region& r) { return map.add(r).error().code; };
  CHECK(code(region(0x2000, 0x1000, 0)) == errc::overlap);
  CHECK(code(region(0x1000, 0x1001, 0)) == errc::overlap);
  CHECK(code(region(0x2fff, 1, 0)) == errc::overlap);
  CHECK(code(region(0x1000, 0x3000, 0)) == errc::overlap);
  CHECK(map.add(region(0x2800, 0x10, 0)).error().value == 0x2000);
  CHECK(code(region(0x9000, 0, 0)) == errc::invalid_argument);
  CHECK(code({at(0x9000), 0x1000, nullptr, phasebit::access::read}) == errc::invalid_argument);
  CHECK(code(region(~0ULL - 0xfff, 0x2000, 0)) == errc::overflow);
  CHECK(code(region(0, ~0ULL, 0)) == errc::overflow);
  REQUIRE(map.add(region(0x1000, 0x1000, 0)));
  REQUIRE(map.add(region(0x3000, 0x1000, 0)));
  REQUIRE(map.add(region(0x4000, 0x1000, 0)));
  CHECK(code(region(0x8000, 0x1000, 0)) == errc::exhausted);
}

TEST_CASE("a table of regions is taken whole or not at all") {
  guest_memory<> map;
  REQUIRE(map.add(region(0x1000, 0x1000, 0)));
  const guest_region bad[] = {region(0x5000, 0x1000, 0), region(0x9000, 0x1000, 0),
                              region(0x9800, 0x1000, 0)};
  const auto refused = map.add_all(bad);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::overlap);
  CHECK(refused.error().index == 2);
  CHECK(map.regions().size() == 1);
  CHECK(map.add_all(std::span{bad}.first(2)));
  CHECK(map.regions().size() == 3);
}

TEST_CASE("a removed region is gone, even where it answered last") {
  guest_memory<> map;
  REQUIRE(map.add(region(0x1000, 0x1000, 0)));
  REQUIRE(map.add(region(0x2000, 0x1000, 0x1000)));
  REQUIRE(map.translate(at(0x2000), 8, phasebit::access::read));
  CHECK(map.remove(at(0x2000), 0x800).error().code == errc::not_found);
  CHECK(map.remove(at(0x2800), 0x1000).error().code == errc::not_found);
  REQUIRE(map.remove(at(0x2000), 0x1000));
  CHECK(!map.translate(at(0x2000), 8, phasebit::access::read));
  CHECK(map.translate(at(0x1000), 8, phasebit::access::read));
  map.clear();
  CHECK(!map.translate(at(0x1000), 8, phasebit::access::read));
}

TEST_CASE("the caller's table serves as well, and a copy is a map of its own") {
  std::array<guest_region, 2> table;
  region_map<guest_space> over{std::span{table}};
  REQUIRE(over.add(region(0x1000, 0x1000, 0)));
  CHECK(over.translate(at(0x1fff), 1, phasebit::access::read));

  guest_memory<> map;
  REQUIRE(map.add(region(0x1000, 0x1000, 0)));
  guest_memory<> copy{map};
  map.clear();
  CHECK(copy.translate(at(0x1000), 1, phasebit::access::read));
  map = copy;
  CHECK(map.translate(at(0x1000), 1, phasebit::access::read));
}

TEST_CASE("many regions, asked at random, agree with a linear search") {
  static guest_memory<512> map;
  std::mt19937_64 random{3};
  std::vector<guest_region> all;
  std::uint64_t next = 0;
  while (all.size() != 512) {
    next += random() % 3 * 0x1000;
    const std::uint64_t bytes = 0x1000 * (1 + random() % 4);
    all.push_back(region(next, bytes, random() % 200 * 0x1000));
    next += bytes;
  }
  std::shuffle(all.begin(), all.end(), random);
  for (const auto& r : all) REQUIRE(map.add(r));
  for (int i = 0; i != 50000; ++i) {
    const guest_addr a{random() % (next + 0x4000)};
    const auto got = map.translate(a, 0x100000, phasebit::access::read);
    const guest_region* expected = nullptr;
    for (const auto& r : all) {
      if (a >= r.begin && a < r.begin + r.bytes) expected = &r;
    }
    REQUIRE(got.has_value() == (expected != nullptr));
    if (expected == nullptr) continue;
    REQUIRE(got->begin == to_local(expected->local) + (a - expected->begin));
    REQUIRE(got->bytes == expected->bytes - (a - expected->begin));
  }
}

TEST_CASE("a device's view is made of the regions that its driver allocated") {
  local_dma<> dma;
  const dma_region r{{store, 0x1000}, bus_addr{0x8000'0000}};
  REQUIRE(dma.add(r, phasebit::access::read));
  CHECK(dma.translate(bus_addr{0x8000'0ffc}, 4, phasebit::access::read)->begin == local(0xffc));
  CHECK(!dma.translate(bus_addr{0x8000'0ffc}, 4, phasebit::access::write));
}
