// SPDX-License-Identifier: BSL-1.0
// SIGINT (Ctrl-C) and SIGTERM as requests: a program ends what it has in flight and shuts its controller down. A
// second signal ends the process at once.
#pragma once

#include <phasebit/core/result.hpp>

#include <atomic>
#include <csignal>

namespace example {

namespace detail {

inline std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

}  // namespace detail

inline void handle_stop_signals() noexcept {
  const auto handler = [](int which) {
    detail::stop_requested = true;
    std::signal(which, SIG_DFL);
  };
  std::signal(SIGINT, handler);
  std::signal(SIGTERM, handler);
}
[[nodiscard]] inline bool stop_requested() noexcept { return detail::stop_requested; }

// The error of a program that was stopped before its work was complete.
[[nodiscard]] inline phasebit::error stopped_by_signal(const char* consequence) {
  return phasebit::failure(phasebit::errc::cancelled, consequence).of("stopped by a signal");
}

}  // namespace example
