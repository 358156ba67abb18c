// SPDX-License-Identifier: BSL-1.0
// Clocks, and waiting for hardware with a time limit.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace phasebit {

// now() is monotonic, in nanoseconds from any origin. relax() is called once per turn of a polling
// loop: a pause instruction, a yield, or one step of a simulated device. Neither fails; both are
// called by one thread at a time.
template <class T>
concept PollClock = requires(T& clock) {
  { clock.now() } noexcept -> std::same_as<std::uint64_t>;
  { clock.relax() } noexcept;
};

inline constexpr std::uint64_t nanoseconds_per_ms = 1'000'000;

// Conversions for time limits; ~0, no limit, stays ~0. Milliseconds are rounded up.
[[nodiscard]] constexpr std::uint64_t to_nanoseconds(std::uint64_t milliseconds) noexcept {
  constexpr std::uint64_t never = ~std::uint64_t{0};
  return milliseconds > never / nanoseconds_per_ms ? never : milliseconds * nanoseconds_per_ms;
}
[[nodiscard]] constexpr std::uint64_t to_milliseconds(std::uint64_t nanoseconds) noexcept {
  if (nanoseconds == ~std::uint64_t{0}) return nanoseconds;
  return nanoseconds / nanoseconds_per_ms + (nanoseconds % nanoseconds_per_ms != 0 ? 1 : 0);
}
// The time `nanoseconds` after `now`; ~0 where that lies beyond what a clock can show.
[[nodiscard]] constexpr std::uint64_t deadline_after(std::uint64_t now,
                                                     std::uint64_t nanoseconds) noexcept {
  return nanoseconds > ~now ? ~std::uint64_t{0} : now + nanoseconds;
}

// Calls `done` until it returns true (returns true) or `nanoseconds` have passed (returns false). `done`
// is called at least once, and once more after the time is over, so that a preempted caller does not
// report a time-out for a condition that holds. `done` is noexcept. ~0 nanoseconds is no limit.
template <PollClock Clock, class Done>
  requires std::is_invocable_r_v<bool, Done&>
[[nodiscard]] bool poll_until(Clock&& clock, std::uint64_t nanoseconds, Done&& done) noexcept {
  const std::uint64_t begin = clock.now();
  for (;;) {
    if (done()) return true;
    if (clock.now() - begin > nanoseconds) return done();
    clock.relax();
  }
}

}  // namespace phasebit
