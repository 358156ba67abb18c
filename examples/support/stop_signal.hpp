// SPDX-License-Identifier: BSL-1.0
// SIGINT (Ctrl-C) and SIGTERM as requests: a program ends what it has in flight, then its controller or its server.
#pragma once

#include <phasebit/core/result.hpp>

#include <atomic>
#include <csignal>
#include <cstdint>

namespace example {

namespace detail {

inline std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

}  // namespace detail

// A second signal ends the process at once, or changes nothing: for servers, which end within a limit of their own.
enum class second_signal : std::uint8_t { ends_process, ignored };

inline void handle_stop_signals(second_signal second = second_signal::ends_process) noexcept {
  void (*handler)(int) = [](int which) {
    detail::stop_requested = true;
    std::signal(which, SIG_DFL);
  };
  if (second == second_signal::ignored) handler = [](int) { detail::stop_requested = true; };
  std::signal(SIGINT, handler);
  std::signal(SIGTERM, handler);
}
[[nodiscard]] inline bool stop_requested() noexcept { return detail::stop_requested; }

// The error of a program that was stopped before its work was complete.
[[nodiscard]] inline phasebit::error stopped_by_signal(const char* consequence) {
  return phasebit::failure(phasebit::errc::cancelled, consequence).of("stopped by a signal");
}

}  // namespace example
