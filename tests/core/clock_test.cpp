// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/clock.hpp>

#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

// Time passes only in relax(), so many nanoseconds a turn.
struct fake_clock {
  std::uint64_t time = 0;
  std::uint64_t step = 10;
  int relaxed = 0;

  [[nodiscard]] std::uint64_t now() const noexcept { return time; }
  void relax() noexcept {
    time += step;
    ++relaxed;
  }
};
static_assert(PollClock<fake_clock>);
static_assert(!PollClock<int>);

}  // namespace

TEST_CASE("what is done already is asked once and costs no time") {
  fake_clock clock;
  int asked = 0;
  CHECK(poll_until(clock, 0, [&] { return ++asked == 1; }));
  CHECK(asked == 1);
  CHECK(clock.relaxed == 0);
}

TEST_CASE("polling ends at the answer, or when the time is over") {
  fake_clock clock;
  CHECK(poll_until(clock, 100, [&] { return clock.time >= 50; }));
  CHECK(clock.time == 50);
  int asked = 0;
  CHECK_FALSE(poll_until(clock, 100, [&] {
    ++asked;
    return false;
  }));
  // At 0, 10, .. 110 ns, and once more when the time was seen to be over.
  CHECK(clock.time == 160);
  CHECK(asked == 13);
}

TEST_CASE("whoever slept through the whole time still gets one true answer") {
  fake_clock clock{.step = 1'000'000};
  bool ready = false;
  CHECK(poll_until(clock, 1000, [&] {
    // It becomes true between the question and the look at the clock.
    const bool was = ready;
    if (clock.time > 1000) ready = true;
    return was;
  }));
}

TEST_CASE("the origin of time does not matter, even where it wraps") {
  fake_clock clock{.time = ~std::uint64_t{0} - 20};
  int asked = 0;
  CHECK_FALSE(poll_until(clock, 50, [&] {
    ++asked;
    return false;
  }));
  CHECK(asked == 8);
}
