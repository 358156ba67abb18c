// SPDX-License-Identifier: BSL-1.0
// The locks of poll groups, on machines without <mutex> too.
#pragma once

#include <concepts>

namespace phasebit::nvme::device {

// lock() and unlock(), as of std::mutex or of a spin lock of the firmware.
template <class T>
concept PollLock = requires(T& lock) {
  lock.lock();
  lock.unlock();
};

// The lock of a controller that one thread polls.
struct no_lock {
  static constexpr void lock() noexcept {}
  static constexpr void unlock() noexcept {}
};

// Holds a lock while it lives.
template <PollLock Lock>
class lock_guard {
 public:
  explicit constexpr lock_guard(Lock& lock) noexcept : lock_(&lock) { lock_->lock(); }
  constexpr ~lock_guard() { lock_->unlock(); }
  lock_guard(const lock_guard&) = delete;
  lock_guard& operator=(const lock_guard&) = delete;

 private:
  Lock* lock_;
};

}  // namespace phasebit::nvme::device
