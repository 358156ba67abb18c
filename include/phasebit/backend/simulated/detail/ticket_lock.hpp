// SPDX-License-Identifier: BSL-1.0
// A fair spin lock: for models and tables that driver threads and device threads share.
#pragma once

#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/ordering.hpp>

#include <atomic>
#include <cstdint>
#include <thread>

namespace phasebit::backend::simulated::detail {

// Serves in the order of arrival, so that a device thread that locks again and again cannot keep a
// driver's register access out. Models Lockable; never allocates and never fails.
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
  // Fails where the lock is held or waited for.
  [[nodiscard]] bool try_lock() noexcept {
    // The load orders everything that the last holder did: only unlock() stores there.
    std::uint32_t free = serving_->load(std::memory_order_acquire);
    return next_->compare_exchange_strong(free, free + 1, std::memory_order_relaxed);
  }
  void unlock() noexcept {
    serving_->store(serving_->load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

 private:
  static constexpr unsigned spins = 64;

  own_line<std::atomic<std::uint32_t>> next_{};
  own_line<std::atomic<std::uint32_t>> serving_{};
};

}  // namespace phasebit::backend::simulated::detail
