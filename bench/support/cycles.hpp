// SPDX-License-Identifier: BSL-1.0
// The processor's clock, for benches.
#pragma once

#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#  include <x86intrin.h>
#endif

namespace phasebit_bench {

// TSC ticks, which pass at a constant rate whatever the core's frequency is; 0 where there is none.
inline std::uint64_t cycles() noexcept {
#if defined(__x86_64__)
  unsigned core = 0;
  return __rdtscp(&core);
#else
  return 0;
#endif
}

inline double seconds() noexcept {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Ticks per second, measured once over 50 ms.
inline double cycles_per_second() noexcept {
  static const double rate = [] {
    const double begin = seconds();
    const std::uint64_t first = cycles();
    while (seconds() - begin < 0.05) {
    }
    return static_cast<double>(cycles() - first) / (seconds() - begin);
  }();
  return rate;
}

}  // namespace phasebit_bench
