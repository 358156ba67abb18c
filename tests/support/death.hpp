// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <csignal>
#include <cstdio>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

namespace phasebit_test {

struct ending {
  bool aborted = false;  // by SIGABRT, and by nothing else
  std::string said;      // on stderr
};

/// Runs `mistake` in a process of its own, for what must end the process.
template <class F>
[[nodiscard]] ending end_of(F&& mistake) {
  int ends[2];
  if (::pipe(ends) != 0) return {};
  std::fflush(nullptr);
  const ::pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    ::dup2(ends[1], STDERR_FILENO);
    // doctest's own handler would report a failed test where none has failed.
    std::signal(SIGABRT, SIG_DFL);
    mistake();
    ::_exit(0);
  }
  ::close(ends[1]);
  ending how;
  char buffer[512];
  for (::ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) {
    how.said.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  how.aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  return how;
}

/// Whether `mistake` ends the process by a broken precondition with the text `sentence`.
template <class F>
[[nodiscard]] bool breaks(const char* sentence, F&& mistake) {
  const ending how = end_of(static_cast<F&&>(mistake));
  return how.aborted &&
         how.said.find(std::string{"broken precondition: "} + sentence) != std::string::npos;
}

}  // namespace phasebit_test
