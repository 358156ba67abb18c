// SPDX-License-Identifier: BSL-1.0
// What the register accesses of a driver and the device thread of a simulated fabric share.
#pragma once

#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/ordering.hpp>

#include <atomic>
#include <cstdint>
#include <thread>

namespace phasebit::backend::simulated {

// A fair lock: whoever came first is served first. The device thread takes it again as soon as it
// gave it back, and with an unfair lock a driver's register read could wait for ever.
// Models Lockable's lock() and unlock(); never allocates and never fails.
class ticket_lock {
 public:
  void lock() noexcept {
    const std::uint32_t mine = next_->fetch_add(1, std::memory_order_relaxed);
    for (unsigned turns = 0; serving_->load(std::memory_order_acquire) != mine; ++turns) {
      // Few cores: the holder may be waiting for ours.
      if (turns < spins) {
        cpu_relax();
      } else {
        std::this_thread::yield();
      }
    }
  }
  void unlock() noexcept {
    serving_->store(serving_->load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

 private:
  static constexpr unsigned spins = 64;

  own_line<std::atomic<std::uint32_t>> next_{};
  own_line<std::atomic<std::uint32_t>> serving_{};
};

}  // namespace phasebit::backend::simulated
