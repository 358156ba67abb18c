// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/region_map.hpp>

#include <atomic>
#include <cstdint>
#include <thread>

#include <doctest/doctest.h>

using namespace phasebit;

TEST_CASE("threads that ask one map each get their own answer") {
  static std::byte store[16 * 64];
  guest_memory<16> map;
  for (std::uint64_t i = 0; i != 16; ++i) {
    REQUIRE(map.add({guest_addr{i * 0x1000}, 64, store + i * 64}));
  }
  std::atomic<int> wrong{0};
  const auto ask = [&](std::uint64_t stride) {
    for (std::uint64_t i = 0; i != 200000; ++i) {
      const std::uint64_t region = i * stride % 16;
      const auto got = map.translate(guest_addr{region * 0x1000 + 8}, 8, phasebit::access::read);
      if (!got || got->begin != to_local(store + region * 64 + 8)) ++wrong;
    }
  };
  std::thread other{ask, 3};
  ask(5);
  other.join();
  CHECK(wrong == 0);
}
