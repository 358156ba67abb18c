// SPDX-License-Identifier: BSL-1.0
#include <phasebit/sriov/bar_remap.hpp>
#include <phasebit/sriov/detail/exact_match.hpp>
#include <phasebit/sriov/id_remap.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::sriov;

TEST_CASE("an exact match index agrees with a map, also when it has more keys than places") {
  std::mt19937_64 random{5};
  sriov::detail::exact_match<1000> large;
  CHECK(large.insert(7, 999));
  CHECK(large.find(7, [](std::uint32_t) { return false; }) == large.none);
  // 32 places; numbers are keys as well, of which there are more. Hashes of some keys are the same.
  sriov::detail::exact_match<16> index;
  std::array<std::uint64_t, 16> keys{};
  std::map<std::uint64_t, std::uint32_t> expected;
  const auto hash = [](std::uint64_t key) { return sriov::detail::mix(key / 2); };
  unsigned refused = 0;
  for (int i = 0; i != 200000; ++i) {
    const std::uint64_t key = random() % 40;
    const auto found = index.find(hash(key), [&](std::uint32_t n) { return keys[n] == key; });
    const auto it = expected.find(key);
    REQUIRE(found == (it == expected.end() ? index.none : it->second));
    if (it == expected.end()) {
      std::uint32_t free = 0;
      for (const auto& [k, n] : expected) free |= 1U << n;
      if (free == 0xffff) continue;
      std::uint32_t number = 0;
      while ((free >> number & 1) != 0) ++number;
      if (index.insert(hash(key), number)) {
        expected[key] = number;
        keys[number] = key;
      } else {
        ++refused;
      }
    } else if (random() % 3 == 0) {
      REQUIRE(index.erase(hash(key), it->second));
      REQUIRE_FALSE(index.erase(hash(key), it->second));
      expected.erase(it);
    }
    if (i % 64 != 0) continue;
    for (const auto& [k, n] : expected) {
      REQUIRE(index.find(hash(k), [&](std::uint32_t m) { return keys[m] == k; }) == n);
    }
  }
  CHECK(refused < 100);  // half full, a place is nearly always found

  // Nine keys of one hash do not fit into two buckets of four: the ninth is refused, the others stay.
  sriov::detail::exact_match<1000> same;
  for (std::uint32_t n = 0; n != 8; ++n) REQUIRE(same.insert(0x1234'5678'9abc'def0, n));
  CHECK_FALSE(same.insert(0x1234'5678'9abc'def0, 8));
  for (std::uint32_t n = 0; n != 9; ++n) {
    const auto found = same.find(0x1234'5678'9abc'def0, [&](std::uint32_t m) { return m == n; });
    CHECK(found == (n == 8 ? same.none : n));
  }
}

TEST_CASE("every one of 1024 functions is found from both sides, for many roots") {
  auto remap = std::make_unique<id_remap<1024>>();
  for (std::uint16_t vf = 0; vf != 1024; ++vf) {
    // Roots call their functions alike: bus 2, device by device.
    const id_assignment a{.root = static_cast<std::uint16_t>(vf % 300),
                          .vf = vf,
                          .slave = pcie::requester_id{static_cast<std::uint16_t>(0x200 + vf / 300)},
                          .master = pcie::requester_id{static_cast<std::uint16_t>(0x4001 + vf)}};
    REQUIRE(remap->assign(a));
  }
  for (std::uint32_t root = 0; root != 301; ++root) {
    for (std::uint16_t id = 0x1f0; id != 0x210; ++id) {
      const auto found = remap->to_master(static_cast<std::uint16_t>(root), pcie::requester_id{id});
      const std::uint32_t vf = (id - 0x200U) * 300 + root;
      if (root < 300 && id >= 0x200 && vf < 1024) {
        REQUIRE(found.exists());
        REQUIRE(found.vf == vf);
        REQUIRE(found.master.raw() == 0x4001 + vf);
        REQUIRE(remap->to_slave(static_cast<std::uint16_t>(vf)) == found);
      } else {
        REQUIRE_FALSE(found.exists());
      }
    }
  }
}

TEST_CASE("an assignment that collides is refused, and a removed one is gone from both sides") {
  id_remap<4> remap;
  const id_assignment a{.root = 1, .vf = 2, .slave = pcie::requester_id{2, 0, 0}};
  REQUIRE(remap.assign(a));
  CHECK(remap.assign(a).error().code == errc::already_exists);
  auto other = a;
  other.vf = 3;
  CHECK(remap.assign(other).error().code == errc::already_exists);  // the same requester id
  other.root = 2;
  CHECK(remap.assign(other));
  other = {.root = 1, .vf = 4};
  CHECK(remap.assign(other).error().code == errc::out_of_range);
  CHECK(remap.assign({.vf = 1}).error().code == errc::out_of_range);
  CHECK(remap.remove(2));
  CHECK_FALSE(remap.remove(2));
  CHECK_FALSE(remap.remove(4));
  CHECK_FALSE(remap.to_slave(2).exists());
  CHECK_FALSE(remap.to_slave(9).exists());
  CHECK_FALSE(remap.to_master(1, pcie::requester_id{2, 0, 0}).exists());
  CHECK(remap.to_master(2, pcie::requester_id{2, 0, 0}).vf == 3);
  CHECK(remap.assign(a));
}

TEST_CASE("removed assignments leave their places free") {
  id_remap<4> ids;
  for (std::uint16_t i = 0; i != 1000; ++i) {
    REQUIRE(ids.assign({.root = static_cast<std::uint16_t>(i % 7),
                        .vf = 0,
                        .slave = phasebit::pcie::requester_id{i},
                        .master = phasebit::pcie::requester_id{1}}));
    REQUIRE(ids.remove(0));
  }
}

TEST_CASE("addresses go through windows as a search of all windows finds, both ways") {
  std::mt19937_64 random{9};
  constexpr std::uint16_t functions = 64;
  constexpr std::uint16_t roots = 5;
  auto remap = std::make_unique<bar_remap<functions>>();
  std::map<std::pair<std::uint16_t, unsigned>, remap_window> open;
  for (int round = 0; round != 4000; ++round) {
    const auto vf = static_cast<std::uint16_t>(random() % functions);
    const auto which = static_cast<unsigned>(random() % remap_windows);
    const auto it = open.find({vf, which});
    if (it != open.end()) {
      if (random() % 2 == 0) {
        REQUIRE(remap->close(vf, which));
        REQUIRE_FALSE(remap->close(vf, which));
        open.erase(it);
      }
    } else {
      remap_window w{.root = static_cast<std::uint16_t>(vf % roots),
                     .shift = static_cast<std::uint8_t>(12 + random() % 3 * 2)};
      // Each function has a stripe of its own on the device's side.
      w.master = 0x80'0000'0000 + (vf * 8ULL + which) * 0x1'0000;
      w.slave = 0xc000'0000 + random() % 64 * 0x1'0000;
      bool overlaps = false;
      for (const auto& [where, o] : open) {
        overlaps = overlaps || (which != message_window && where.second != message_window &&
                                o.root == w.root && o.slave == w.slave);
      }
      const auto opened = remap->open(vf, which, w);
      if (!overlaps) {
        REQUIRE(opened);
        open[{vf, which}] = w;
      } else if (opened) {
        REQUIRE(remap->close(vf, which));  // another size at the same place
      }
    }
    for (int i = 0; i != 20; ++i) {
      const auto root = static_cast<std::uint16_t>(random() % (roots + 1));
      const std::uint64_t address = 0xc000'0000 + random() % 0x50'0000;
      remapped_address expected{};
      for (const auto& [where, w] : open) {
        if (where.second != message_window && w.root == root && address - w.slave < w.bytes()) {
          expected = {w.master + (address - w.slave), where.first,
                      static_cast<std::uint8_t>(where.second)};
        }
      }
      const auto found = remap->to_master(root, address);
      REQUIRE(found.exists() == expected.exists());
      if (!found.exists()) continue;
      REQUIRE(found.vf == expected.vf);
      REQUIRE(found.window == expected.window);
      REQUIRE(found.master == expected.master);
      REQUIRE(remap->to_slave(found.vf, found.master) == address);
    }
  }
  // An address of the host's own memory passes as it is; a message is translated.
  remap->close_all(0);
  CHECK(remap->to_slave(0, 0x1234'5678) == 0x1234'5678);
  REQUIRE(
      remap->open(0, message_window, {.slave = 0xfee0'0000, .master = 0x7000'0000, .shift = 12}));
  CHECK(remap->to_slave(0, 0x7000'0ffc) == 0xfee0'0ffc);
  CHECK(remap->to_slave(0, 0x7000'1000) == 0x7000'1000);
  CHECK(remap->to_slave(1, 0x7000'0ffc) == 0x7000'0ffc);
  CHECK_FALSE(remap->to_master(0, 0xfee0'0000).exists());
}

TEST_CASE("windows that are none are refused") {
  bar_remap<2> remap;
  CHECK(remap.open(2, 0, {.shift = 12}).error().code == errc::out_of_range);
  CHECK(remap.open(0, 7, {.shift = 12}).error().code == errc::out_of_range);
  CHECK(remap.open(0, 0, {.shift = 11}).error().code == errc::out_of_range);
  CHECK(remap.open(0, 0, {.shift = 64}).error().code == errc::out_of_range);
  CHECK(remap.open(0, 0, {.slave = 0x800, .shift = 12}).error().code == errc::misaligned);
  CHECK(remap.open(0, 0, {.master = 0x1000, .shift = 13}).error().code == errc::misaligned);
  REQUIRE(remap.open(0, 0, {.slave = 0x1000, .shift = 12}));
  CHECK(remap.open(0, 0, {.slave = 0x2000, .shift = 12}).error().code == errc::already_exists);
  CHECK(remap.open(1, 0, {.slave = 0x1000, .shift = 12}).error().code == errc::already_exists);
  REQUIRE(remap.open(1, 0, {.slave = 0x1000, .root = 1, .shift = 12}));
  CHECK(remap.to_master(0, 0x1fff).vf == 0);
  CHECK(remap.to_master(1, 0x1fff).vf == 1);
  CHECK_FALSE(remap.to_master(2, 0x1fff).exists());
  // The smaller of two windows that a root laid over one another is meant.
  REQUIRE(remap.open(0, 1, {.slave = 0, .master = 0x10'0000, .shift = 16}));
  CHECK(remap.to_master(0, 0x1234).window == 0);
  CHECK(remap.to_master(0, 0x2234).window == 1);
}
