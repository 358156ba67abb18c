// SPDX-License-Identifier: BSL-1.0
// The descriptor that a reactor sleeps on, and the end of its thread, as the explorer sees them: weaken.py puts them in
// place of the system's calls. Nothing ends a sleep but a write.
#pragma once

#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/word.hpp>

#include <atomic>
#include <cstdint>

namespace model {

struct reactor_access;

// An eventfd: the kernel's lock of it orders each call.
struct descriptor {
  static inline phasebit::testing::explorer::word<std::uint32_t>* count = nullptr;

  static void write(std::uint64_t n) {
    count->fetch_add(static_cast<std::uint32_t>(n),
                     phasebit::testing::explorer::strength::acquire_release);
  }
  static void sleep() {
    phasebit::testing::explorer::await(
        [] { return count->load(phasebit::testing::explorer::strength::acquire) != 0; });
  }
  static void read() {
    static_cast<void>(count->exchange(0, phasebit::testing::explorer::strength::acquire_release));
  }
};

inline void joined(const std::atomic<bool>& stopped) {
  phasebit::testing::explorer::await([&] { return stopped.load(std::memory_order_acquire); });
}

}  // namespace model
