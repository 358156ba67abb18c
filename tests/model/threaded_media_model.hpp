// SPDX-License-Identifier: BSL-1.0
// hosted::threaded_media with a mutex, a condition variable, threads and containers of the explorer's: weaken.py puts
// these types in place of those of the standard library; nothing else changes.
#pragma once

#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/word.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

namespace model {

struct model_mutex {
  void lock() {
    phasebit::testing::explorer::await([this] {
      unsigned expected = 0;
      return held.compare_exchange(expected, 1U, phasebit::testing::explorer::strength::acquire);
    });
  }
  void unlock() { held.store(0U, phasebit::testing::explorer::strength::release); }

  phasebit::testing::explorer::word<unsigned> held;
};

// notify_one() wakes all, which it may.
struct model_condition {
  template <class Lock, class Until>
  void wait(Lock& lock, Until until) {
    while (!until()) {
      const unsigned seen = calls.load(phasebit::testing::explorer::strength::relaxed);
      lock.unlock();
      phasebit::testing::explorer::await([this, seen] {
        return calls.load(phasebit::testing::explorer::strength::relaxed) != seen;
      });
      lock.lock();
    }
  }
  // Its time does not pass: a wake-up that is missed is missed for ever.
  template <class Lock, class Time, class Until>
  bool wait_until(Lock& lock, Time, Until until) {
    wait(lock, until);
    return true;
  }
  void notify_one() { calls.fetch_add(1U, phasebit::testing::explorer::strength::relaxed); }
  void notify_all() { notify_one(); }

  phasebit::testing::explorer::word<unsigned> calls;
};

// Made in the setup: a service of the program that is set up.
struct model_thread {
  static inline phasebit::testing::explorer::program* starting = nullptr;

  model_thread() = default;
  explicit model_thread(std::function<void()> body) {
    starting->service("worker", std::move(body));
  }
  void join() {}
};

// A few elements in place, whose accesses the explorer sees.
template <class T>
class model_list {
 public:
  void reserve(std::size_t) {}
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] T* begin() { return items_.data(); }
  [[nodiscard]] T* end() { return items_.data() + count_; }
  [[nodiscard]] T& front() { return items_[0]; }
  void push_back(T item) { items_[count_++] = std::move(item); }
  template <class F>
  void emplace_back(F&& f) {
    push_back(T{std::forward<F>(f)});
  }
  void erase(T* at) {
    for (; at + 1 != end(); ++at) *at = *(at + 1);
    --count_;
  }
  void pop_front() { erase(begin()); }
  void clear() { count_ = 0; }

 private:
  std::array<T, 4> items_{};
  std::size_t count_ = 0;
};

}  // namespace model
