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

TEST_CASE("a condition is checked once more after the deadline") {
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

TEST_CASE("time limits are converted without wrapping, and no limit stays no limit") {
  constexpr std::uint64_t never = ~std::uint64_t{0};
  static_assert(to_nanoseconds(0) == 0 && to_nanoseconds(1) == 1'000'000);
  std::uint64_t last = never / 1'000'000;
  CHECK(to_nanoseconds(last) == last * 1'000'000);
  // One more wraps to a moment.
  CHECK(to_nanoseconds(last + 1) == never);
  CHECK(to_nanoseconds(never) == never);

  static_assert(to_milliseconds(0) == 0 && to_milliseconds(1) == 1);
  CHECK(to_milliseconds(1'000'000) == 1);
  CHECK(to_milliseconds(1'000'001) == 2);
  CHECK(to_milliseconds(never - 1) == last + 1);
  CHECK(to_milliseconds(never) == never);

  CHECK(deadline_after(5, 7) == 12);
  CHECK(deadline_after(5, never - 5) == never);
  CHECK(deadline_after(6, never - 5) == never);
  CHECK(deadline_after(never, 1) == never);
  CHECK(deadline_after(1, never) == never);
}
