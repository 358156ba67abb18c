// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/translation/flat_table.hpp>

#include <array>
#include <map>
#include <random>

#include <doctest/doctest.h>

namespace phasebit::iommu {

namespace {

constexpr std::uint64_t page = 2 << 20;
constexpr std::uint64_t gib = 1 << 30;

struct table_of_one_gib {
  alignas(8) std::array<std::byte, 4096> memory{};
  flat_table<> table{memory};
};

}  // namespace

TEST_CASE("4 KiB of on-chip memory translate 1 GiB in pages of 2 MiB") {
  table_of_one_gib t;
  CHECK(t.table.reach() == gib);
  REQUIRE(t.table.map(guest_addr{0}, host_phys{1ULL << 40}, gib, access::read_write));
  for (std::uint64_t a = 0; a < gib; a += page / 2 + 4096) {
    const auto got = t.table.translate(guest_addr{a}, 64, access::write);
    REQUIRE(got);
    CHECK(got->begin == host_phys{(1ULL << 40) + a});
    CHECK(got->bytes == 64);
  }
  CHECK(t.memory[0] == std::byte{3});
  CHECK(t.memory[5] == std::byte{1});
}

TEST_CASE("a segment ends where its page does") {
  table_of_one_gib t;
  REQUIRE(t.table.map(guest_addr{0}, host_phys{page}, 2 * page, access::read));
  CHECK(t.table.translate(guest_addr{page - 1}, 100, access::read)->bytes == 1);
  CHECK(t.table.translate(guest_addr{page}, page * 2, access::read)->bytes == page);
  CHECK(t.table.translate(guest_addr{5}, ~0ULL, access::read)->bytes == page - 5);
}

TEST_CASE("absent pages, missing permissions and addresses beyond the table are distinguished") {
  table_of_one_gib t;
  REQUIRE(t.table.map(guest_addr{page}, host_phys{0}, page, access::read));
  REQUIRE(t.table.map(guest_addr{2 * page}, host_phys{0}, page, access::write));
  const auto code = [&](std::uint64_t a, access wanted) {
    const auto got = t.table.translate(guest_addr{a}, 1, wanted);
    REQUIRE_FALSE(got);
    CHECK(got.error().value == a);
    return got.error().code;
  };
  CHECK(code(0, access::read) == errc::not_mapped);
  CHECK(code(page, access::write) == errc::access_denied);
  CHECK(code(page + 1, access::read_write) == errc::access_denied);
  CHECK(code(2 * page, access::read) == errc::access_denied);
  CHECK(code(gib, access::read) == errc::not_mapped);
  CHECK(code(~0ULL, access::read) == errc::not_mapped);
}

TEST_CASE("what lies behind the table is no entry of it") {
  alignas(8) std::array<std::byte, 72> memory{};
  memory[64] = std::byte{3};
  const flat_table<> table{std::span{memory}.first(64)};
  CHECK(table.reach() == 8 * page);
  const auto got = table.translate(guest_addr{8 * page}, 1, access::read);
  REQUIRE_FALSE(got);
  CHECK(got.error().code == errc::not_mapped);
}

TEST_CASE("bad ranges are refused, and nothing has changed") {
  table_of_one_gib t;
  const auto map = [&](std::uint64_t a, std::uint64_t target, std::uint64_t bytes) {
    const auto done = t.table.map(guest_addr{a}, host_phys{target}, bytes, access::read);
    REQUIRE_FALSE(done);
    return done.error().code;
  };
  CHECK(map(4096, 0, page) == errc::misaligned);
  CHECK(map(0, 4096, page) == errc::misaligned);
  CHECK(map(0, 0, page + 1) == errc::misaligned);
  CHECK(map(gib, 0, page) == errc::out_of_range);
  CHECK(map(gib - page, 0, 2 * page) == errc::out_of_range);
  CHECK(map(page, 0, ~0ULL << 21) == errc::out_of_range);
  CHECK(map(0, ~0ULL << 21, 2 * page) == errc::overflow);
  CHECK(t.table.unmap(guest_addr{1}, page).error().code == errc::misaligned);
  CHECK(t.table.unmap(guest_addr{gib}, page).error().code == errc::out_of_range);
  for (const std::byte b : t.memory) REQUIRE(b == std::byte{0});

  REQUIRE(t.table.map(guest_addr{4 * page}, host_phys{0}, page, access::read));
  const auto before = t.memory;
  const auto overlap = t.table.map(guest_addr{0}, host_phys{0}, 8 * page, access::read);
  REQUIRE_FALSE(overlap);
  CHECK(overlap.error().code == errc::overlap);
  CHECK(overlap.error().value == 4 * page);
  CHECK(t.memory == before);
  CHECK(t.table.map(guest_addr{0}, host_phys{0}, 0, access::read));
}

TEST_CASE("random changes agree with a map") {
  table_of_one_gib t;
  std::map<std::uint64_t, std::pair<std::uint64_t, access>> oracle;
  std::mt19937_64 random(1);
  for (int step = 0; step != 100000; ++step) {
    const std::uint64_t first = random() % 512;
    const std::uint64_t count = random() % 4 + 1;
    if (random() % 2 == 0) {
      bool fits = first + count <= 512;
      for (auto i = first; i != first + count; ++i) fits &= oracle.count(i) == 0;
      const std::uint64_t target = random() % (1 << 20);
      const auto permission = static_cast<access>(random() % 3 + 1);
      const auto done =
          t.table.map(guest_addr{first * page}, host_phys{target * page}, count * page, permission);
      REQUIRE(done.has_value() == fits);
      for (std::uint64_t i = 0; fits && i != count; ++i) {
        oracle[first + i] = {(target + i) * page, permission};
      }
    } else {
      REQUIRE(t.table.unmap(guest_addr{first * page}, count * page).has_value() ==
              (first + count <= 512));
      for (auto i = first; first + count <= 512 && i != first + count; ++i) oracle.erase(i);
    }
    const std::uint64_t at = random() % 512;
    const std::uint64_t offset = random() % page;
    for (const access wanted : {access::read, access::write, access::read_write}) {
      const auto got = t.table.translate(guest_addr{at * page + offset}, 1, wanted);
      const auto there = oracle.find(at);
      const bool expected = there != oracle.end() && allows(there->second.second, wanted);
      REQUIRE(got.has_value() == expected);
      if (expected) REQUIRE(got->begin.value() == there->second.first + offset);
    }
  }
  t.table.clear();
  for (const std::byte b : t.memory) REQUIRE(b == std::byte{0});
}

TEST_CASE("small geometries, exhaustively") {
  alignas(8) std::array<std::byte, 8 * 8> memory{};
  flat_table<2, guest_space, host_space> table{memory};
  CHECK(table.reach() == 32);
  for (std::uint64_t first = 0; first != 8; ++first) {
    for (std::uint64_t count = 0; first + count <= 8; ++count) {
      REQUIRE(table.map(guest_addr{first * 4}, host_phys{400}, count * 4, access::read));
      for (std::uint64_t a = 0; a != 40; ++a) {
        for (std::uint64_t bytes = 1; bytes != 12; ++bytes) {
          const auto got = table.translate(guest_addr{a}, bytes, access::read);
          const bool inside = a >= first * 4 && a < (first + count) * 4;
          REQUIRE(got.has_value() == inside);
          if (!inside) continue;
          REQUIRE(got->begin.value() == 400 + a - first * 4);
          REQUIRE(got->bytes == (bytes < 4 - a % 4 ? bytes : 4 - a % 4));
        }
      }
      REQUIRE(table.unmap(guest_addr{0}, 32));
    }
  }
}

}  // namespace phasebit::iommu
