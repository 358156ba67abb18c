// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/mmio/clocks.hpp>

#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;
namespace mmio = phasebit::backend::mmio;

namespace {

std::uint64_t counter = 0;
std::uint64_t wide() noexcept { return counter; }
std::uint32_t narrow() noexcept { return static_cast<std::uint32_t>(counter); }

}  // namespace

TEST_CASE(
    "a clock without a timer counts the turns of the waiting loop, so that no wait is endless") {
  mmio::turn_clock<1000> clock;
  int asked = 0;
  CHECK_FALSE(poll_until(clock, 10'000, [&] {
    ++asked;
    return false;
  }));
  CHECK(asked == 13);  // at 0, 1000 ... 10000 and 11000, and once more when time is up
  CHECK(clock.now() == 11'000);
}

TEST_CASE("ticks become nanoseconds whatever the counter's frequency") {
  counter = 1000;
  mmio::tick_clock<wide, 1'000'000'000> nanoseconds;
  mmio::tick_clock<wide, 32'768> crystal;
  mmio::tick_clock<wide, 62'500'000> timer;
  mmio::tick_clock<wide, 3'000'000'000> cycles;
  mmio::tick_clock<wide, ~std::uint64_t{0}> fastest;
  CHECK(nanoseconds.now() == 0);
  counter += 32'768;
  CHECK(nanoseconds.now() == 32'768);
  CHECK(crystal.now() >= 999'999'990);
  CHECK(crystal.now() <= 1'000'000'000);
  CHECK(timer.now() == 32'768 * 16);
  CHECK(cycles.now() == 10'922);
  CHECK(fastest.now() == 0);
  counter += 3'000'000'000ULL * 3600 * 24;  // a day of cycles
  const std::uint64_t day = 86'400'000'000'000;
  CHECK(cycles.now() >= day - day / 1'000'000'000);
  CHECK(cycles.now() <= day + 20'000);
}

TEST_CASE("a counter of 32 bits may wrap") {
  counter = 0xffff'ff00;
  mmio::tick_clock<narrow, 1'000'000'000> clock;
  counter += 0x200;
  CHECK(clock.now() == 0x200);
  counter += 0xffff'ffff;
  CHECK(clock.now() == 0x200 + 0xffff'ffffULL);
}

TEST_CASE("a clock that reads a counter ends a wait when its time is up") {
  counter = 0;
  const auto tick = []() noexcept -> std::uint32_t {
    counter += 10;
    return static_cast<std::uint32_t>(counter);
  };
  mmio::tick_clock<tick, 1'000'000> clock;
  CHECK_FALSE(poll_until(clock, 1'000'000, [] { return false; }));
  CHECK(counter > 1000);
}
