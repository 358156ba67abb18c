// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/iova_allocator.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;

namespace {

bus_addr at(std::uint64_t a) { return bus_addr{a}; }

template <class R>
bool failed(const R& r, errc why) {
  return !r && r.error().code == why;
}

}  // namespace

TEST_CASE("addresses come from the smallest range that fits, lowest first") {
  iova_allocator<16> a{4096};
  REQUIRE(a.add(at(0x100000), 64_KiB));
  REQUIRE(a.add(at(0x200000), 16_KiB));
  REQUIRE(a.add(at(0x300000), 32_KiB));
  CHECK(*a.allocate(12_KiB) == at(0x200000));
  CHECK(*a.allocate(12_KiB) == at(0x300000));
  CHECK(*a.allocate(40_KiB) == at(0x100000));
  CHECK(*a.allocate(1) == at(0x203000));
  CHECK(a.free_bytes() == 20_KiB + 24_KiB);
  CHECK(a.largest_free() == 24_KiB);
}

TEST_CASE("sizes are rounded up to granules, of any power of two") {
  for (std::uint64_t granule : {1ULL, 64ULL, 512ULL, 4096ULL, 65536ULL, 1ULL << 21}) {
    iova_allocator<8> a{granule};
    REQUIRE(a.add(at(granule), granule * 4));
    CHECK(*a.allocate(1) == at(granule));
    CHECK(*a.allocate(granule) == at(granule * 2));
    CHECK(*a.allocate(granule + 1) == at(granule * 3));
    CHECK(failed(a.allocate(granule), errc::exhausted));
    CHECK(a.release(at(granule * 3), granule + 1));
    CHECK(a.free_bytes() == granule * 2);
  }
}

TEST_CASE("an added range loses what is no whole granule at either end") {
  iova_allocator<4> a{4096};
  REQUIRE(a.add(at(0x1001), 0x2fff));
  CHECK(a.free_bytes() == 0x2000);
  CHECK(*a.allocate(0x2000) == at(0x2000));
  CHECK(failed(a.add(at(0x9001), 0x1000), errc::invalid_argument));
  CHECK(failed(a.add(at(0x9000), 0), errc::invalid_argument));
  CHECK(failed(a.add(at(~0ULL - 0xfff), 0x2000), errc::overflow));
}

TEST_CASE("ranges that overlap what is there are refused; neighbours merge") {
  iova_allocator<4> a{4096};
  REQUIRE(a.add(at(0x10000), 0x10000));
  CHECK(failed(a.add(at(0x10000), 0x1000), errc::overlap));
  CHECK(failed(a.add(at(0x1f000), 0x2000), errc::overlap));
  CHECK(failed(a.add(at(0xf000), 0x2000), errc::overlap));
  CHECK(failed(a.add(at(0x8000), 0x20000), errc::overlap));
  REQUIRE(a.add(at(0x20000), 0x1000));
  REQUIRE(a.add(at(0xf000), 0x1000));
  CHECK(a.extents().size() == 1);
  CHECK(*a.allocate(0x12000) == at(0xf000));
}

TEST_CASE("alignment skips what is below, which stays usable") {
  iova_allocator<8> a{4096};
  REQUIRE(a.add(at(0x1000), 4_GiB));
  CHECK(*a.allocate(2_MiB, 2_MiB) == at(2_MiB));
  CHECK(*a.allocate(1_GiB, 1_GiB) == at(1_GiB));
  CHECK(*a.allocate(4_KiB) == at(0x1000));
  CHECK(*a.allocate(2_GiB, 2_GiB) == at(2_GiB));
  CHECK(failed(a.allocate(2_GiB, 2_GiB), errc::exhausted));
}

TEST_CASE("neighbours merge when they become free, whatever the order") {
  std::array<int, 4> order{0, 1, 2, 3};
  do {
    iova_allocator<8> a{4096};
    REQUIRE(a.add(at(0), 16_KiB));
    std::array<bus_addr, 4> pages;
    for (auto& page : pages) page = *a.allocate(4_KiB);
    for (int i : order) REQUIRE(a.release(pages[static_cast<std::size_t>(i)], 4_KiB));
    CHECK(a.extents().size() == 1);
    CHECK(*a.allocate(16_KiB) == at(0));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("what was not handed out like that cannot be given back") {
  iova_allocator<8> a{4096};
  REQUIRE(a.add(at(0x10000), 64_KiB));
  const auto got = a.allocate(8_KiB);
  REQUIRE(got);
  CHECK(failed(a.release(*got, 4_KiB), errc::not_found));
  CHECK(failed(a.release(*got, 12_KiB), errc::not_found));
  CHECK(failed(a.release(*got, 0), errc::not_found));
  CHECK(failed(a.release(*got + 4096, 4_KiB), errc::not_found));
  CHECK(failed(a.release(at(0), 4_KiB), errc::not_found));
  CHECK(failed(a.release(at(0x20000), 4_KiB), errc::not_found));
  CHECK(a.release(*got, 8_KiB));
  CHECK(failed(a.release(*got, 8_KiB), errc::not_found));
}

TEST_CASE("a reserved range is never handed out") {
  iova_allocator<8> a{4096};
  REQUIRE(a.add(at(0xfed00000), 2_MiB));
  REQUIRE(a.reserve(at(0xfee00001), 1_MiB - 2));  // the interrupt window, and rounded outwards
  REQUIRE(a.reserve(at(0), 4096));                // was never there
  CHECK(a.extents().size() == 1);
  CHECK(*a.allocate(1_MiB) == at(0xfed00000));
  CHECK(failed(a.allocate(4_KiB), errc::exhausted));
  CHECK(failed(a.reserve(at(0xfed0'8000), 1), errc::busy));
}

TEST_CASE("reserving splits a range, trims several, and takes whole ones out") {
  iova_allocator<4> a{4096};
  REQUIRE(a.add(at(0x10000), 0x4000));
  REQUIRE(a.add(at(0x20000), 0x4000));
  REQUIRE(a.add(at(0x30000), 0x4000));
  REQUIRE(a.reserve(at(0x12000), 0x20000));
  CHECK(a.free_bytes() == 0x4000);
  REQUIRE(a.extents().size() == 2);
  CHECK(a.extents()[0].begin == at(0x10000));
  CHECK(a.extents()[1].begin == at(0x32000));
  REQUIRE(a.reserve(at(0x11000), 1));
  REQUIRE(a.add(at(0x40000), 0x4000));
  REQUIRE(a.add(at(0x50000), 0x4000));
  CHECK(failed(a.reserve(at(0x41000), 0x1000), errc::exhausted));
  CHECK(a.free_bytes() == 0x1000 + 0x2000 + 0x8000);
}

TEST_CASE("a given address can be taken where it is free") {
  iova_allocator<8> a{4096};
  REQUIRE(a.add(at(0x10000), 64_KiB));
  REQUIRE(a.allocate_at(at(0x14000), 0x2000));
  CHECK(failed(a.allocate_at(at(0x15000), 0x1000), errc::busy));
  CHECK(failed(a.allocate_at(at(0x13000), 0x2000), errc::busy));
  CHECK(failed(a.allocate_at(at(0x1f000), 0x2000), errc::busy));
  CHECK(failed(a.allocate_at(at(0x20000), 0x1000), errc::busy));
  CHECK(failed(a.allocate_at(at(0x1000), 0x1000), errc::busy));
  CHECK(failed(a.allocate_at(at(0x10800), 0x1000), errc::misaligned));
  CHECK(failed(a.allocate_at(at(0x10000), 0), errc::invalid_argument));
  CHECK(failed(a.allocate_at(at(0x10000), ~0ULL), errc::busy));
  REQUIRE(a.release(at(0x14000), 0x2000));
  CHECK(a.extents().size() == 1);
}

TEST_CASE("a full table is an error that changes nothing") {
  std::array<address_extent<bus_space>, 2> table;
  iova_allocator<> a{table, 4096};
  REQUIRE(a.add(at(0x10000), 64_KiB));
  CHECK(failed(a.allocate(4_KiB, 32_KiB), errc::exhausted) == false);  // one side is left over
  CHECK(failed(a.allocate(4_KiB), errc::exhausted));
  CHECK(a.free_bytes() == 60_KiB);
  CHECK(*a.allocate(60_KiB) == at(0x11000));
  CHECK(failed(a.add(at(0x100000), 4_KiB), errc::exhausted));
}

TEST_CASE("the end of the address space is no special place") {
  iova_allocator<8> a{4096};
  REQUIRE(a.add(at(~0ULL - 0x2fff), 0x2fff));
  CHECK(a.free_bytes() == 0x2000);
  CHECK(failed(a.allocate(4096, 1ULL << 63), errc::exhausted));
  CHECK(failed(a.allocate(~0ULL), errc::exhausted));
  CHECK(failed(a.allocate(0), errc::invalid_argument));
  CHECK(*a.allocate(8_KiB) == at(~0ULL - 0x2fff));
}

TEST_CASE("random use keeps ranges apart and loses none, against a bitmap") {
  std::mt19937 random{7};
  constexpr std::size_t pages = 256;
  iova_allocator<300> a{4096};
  REQUIRE(a.add(at(0x100000), pages * 4096));
  std::array<bool, pages> used{};
  std::vector<std::pair<bus_addr, std::uint64_t>> live;
  for (int step = 0; step != 20000; ++step) {
    if (live.empty() || random() % 2 != 0) {
      const std::uint64_t bytes = (1 + random() % 20) * 4096;
      const std::uint64_t alignment = 4096ULL << (random() % 5);
      const auto got = a.allocate(bytes, alignment);
      if (!got) {
        // Only if the bitmap agrees that there is no such gap.
        for (std::size_t i = 0; i + bytes / 4096 <= pages; ++i) {
          if ((0x100000 + i * 4096) % alignment != 0) continue;
          bool gap = true;
          for (std::size_t k = 0; k != bytes / 4096; ++k) gap = gap && !used[i + k];
          REQUIRE(!gap);
        }
        continue;
      }
      REQUIRE(is_aligned(*got, alignment));
      const auto first = static_cast<std::size_t>((*got - at(0x100000)) / 4096);
      for (std::size_t k = 0; k != bytes / 4096; ++k)
        REQUIRE(!std::exchange(used[first + k], true));
      live.emplace_back(*got, bytes);
    } else {
      const std::size_t i = random() % live.size();
      const auto [begin, bytes] = live[i];
      REQUIRE(a.release(begin, bytes));
      const auto first = static_cast<std::size_t>((begin - at(0x100000)) / 4096);
      for (std::size_t k = 0; k != bytes / 4096; ++k) used[first + k] = false;
      live[i] = live.back();
      live.pop_back();
    }
  }
  for (const auto& [begin, bytes] : live) REQUIRE(a.release(begin, bytes));
  CHECK(a.extents().size() == 1);
  CHECK(a.free_bytes() == pages * 4096);
}
