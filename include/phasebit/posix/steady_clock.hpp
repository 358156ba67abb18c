// SPDX-License-Identifier: BSL-1.0
// The clock of the operating system.
#pragma once

#include <phasebit/core/clock.hpp>

#include <cstdint>

#include <sched.h>
#include <time.h>

namespace phasebit::posix {

// CLOCK_MONOTONIC, in nanoseconds. relax() yields: the wait may be for a device
// model on another thread of the same machine. Stateless; any number of threads.
struct steady_clock {
  [[nodiscard]] static std::uint64_t now() noexcept {
    ::timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(t.tv_nsec);
  }
  static void relax() noexcept { ::sched_yield(); }
};
static_assert(PollClock<steady_clock>);

}  // namespace phasebit::posix
