// SPDX-License-Identifier: BSL-1.0
// Interrupts of the simulated machine as the driver sees them: events that are polled and waited for.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/cacheline.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace phasebit::backend::simulated {

// Where messages go that are interrupts, as on x86; a message to another address is a DMA write.
inline constexpr bus_addr interrupt_window{0xfee0'0000};
inline constexpr std::uint64_t interrupt_window_bytes = 0x10'0000;

// One vector's event. Any thread may signal; one thread at a time polls or waits. Several signals
// before a poll count as one, as messages do before the interrupt handler runs.
class alignas(cache_line) interrupt_event {
 public:
  // Takes a lock only while a thread sleeps. Stores before signal() are visible after poll() or
  // wait().
  void signal() noexcept {
    // An exchange, not a store: what an earlier signaller did stays visible through a later one.
    // Where it comes behind a sleeper's exchange it acquires that the sleeper is counted; else the sleeper
    // finds it pending.
    pending_.exchange(true, std::memory_order_acq_rel);
    if (sleepers_.load(std::memory_order_relaxed) != 0) {
      const std::lock_guard guard{mutex_};
      wake_.notify_all();
    }
  }
  [[nodiscard]] bool poll() noexcept {
    return pending_.load(std::memory_order_relaxed) &&
           pending_.exchange(false, std::memory_order_acquire);
  }
  // Sleeps until there is an event (-> true) or the time has passed (-> false).
  [[nodiscard]] bool wait(std::uint64_t nanoseconds) noexcept {
    if (poll()) return true;
    // 36 years at most: longer ones would overflow the clock.
    constexpr std::uint64_t longest = std::uint64_t{1} << 60;
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::nanoseconds{static_cast<std::int64_t>(
                                               nanoseconds < longest ? nanoseconds : longest)};
    std::unique_lock guard{mutex_};
    sleepers_.fetch_add(1, std::memory_order_relaxed);
    const bool woken = wake_.wait_until(guard, deadline, [this]() noexcept {
      return pending_.exchange(false, std::memory_order_acq_rel);
    });
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    return woken;
  }

 private:
  std::atomic<bool> pending_{false};
  std::atomic<std::uint32_t> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace phasebit::backend::simulated
