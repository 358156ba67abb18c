// SPDX-License-Identifier: BSL-1.0
// A stand-in for boost::lockfree::queue in explored code, with no more than its contract: any number of
// threads push, one pops; bounded; what was pushed before a push returned is seen by the thread that pops it. Weaker
// in one thing: a push that has not returned hides those behind it. Boost's own queue writes its free nodes
// plainly where atomics are at other times, which the explorer refuses.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace boost::lockfree {

template <std::size_t Capacity>
struct capacity {
  static constexpr std::size_t value = Capacity;
};

template <class T, class Limit>
class queue {
 public:
  bool bounded_push(const T& value) {
    std::uint32_t at = tail_.load(std::memory_order_relaxed);
    do {
      if (at - head_.load(std::memory_order_acquire) >= Limit::value) return false;
    } while (!tail_.compare_exchange_strong(at, at + 1, std::memory_order_acq_rel,
                                            std::memory_order_acquire));
    values_[at % Limit::value] = value;
    published_[at % Limit::value].store(at + 1, std::memory_order_release);
    return true;
  }
  bool pop(T& value) {
    if (empty()) return false;
    value = values_[taken_ % Limit::value];
    ++taken_;
    head_.store(taken_, std::memory_order_release);
    return true;
  }
  [[nodiscard]] bool empty() const {
    return published_[taken_ % Limit::value].load(std::memory_order_acquire) != taken_ + 1;
  }

 private:
  std::array<T, Limit::value> values_{};
  std::array<std::atomic<std::uint32_t>, Limit::value> published_{};
  std::atomic<std::uint32_t> tail_ = 0;
  std::atomic<std::uint32_t> head_ = 0;
  std::uint32_t taken_ = 0;  // the popping thread's
};

}  // namespace boost::lockfree
