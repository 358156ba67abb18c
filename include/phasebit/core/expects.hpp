// SPDX-License-Identifier: BSL-1.0
// The handler of broken preconditions. It does not return: a precondition is reported where it was
// broken.
#pragma once

#include <phasebit/config.hpp>

#if PHASEBIT_HOSTED
#  include <cstdio>
#  include <cstdlib>
#endif

namespace phasebit::detail {

#if PHASEBIT_HOSTED
// Prints where and what to stderr, then aborts.
[[noreturn, gnu::cold, gnu::noinline]] inline void expects_failed(const char* message,
                                                                  const char* file,
                                                                  int line) noexcept {
  std::fprintf(stderr, "%s:%d: phasebit: broken precondition: %s\n", file, line, message);
  std::abort();
}
#else
// A trap needs no symbol; a debugger or the fault handler shows the place.
[[noreturn, gnu::cold]] inline void expects_failed(const char*, const char*, int) noexcept {
  __builtin_trap();
}
#endif

}  // namespace phasebit::detail
