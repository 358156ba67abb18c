// SPDX-License-Identifier: BSL-1.0
// One line that is rewritten in place, on a terminal only.
#pragma once

#include <chrono>
#include <cstdio>
#include <string_view>

#include <fmt/format.h>
#include <unistd.h>

namespace example {

class progress_line {
 public:
  progress_line() noexcept : shown_(::isatty(STDERR_FILENO) == 1) {}
  progress_line(const progress_line&) = delete;
  progress_line& operator=(const progress_line&) = delete;
  ~progress_line() { clear(); }

  // Calls `text()` for what to show, five times a second at most.
  template <class Text>
  void show(Text&& text) {
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || now - last_ < std::chrono::milliseconds{200}) return;
    last_ = now;
    fmt::print(stderr, "\r\033[K{}", text());
    std::fflush(stderr);
    dirty_ = true;
  }
  void clear() noexcept {
    if (dirty_) std::fputs("\r\033[K", stderr);
    dirty_ = false;
  }

 private:
  bool shown_;
  bool dirty_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace example
