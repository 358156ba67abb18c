// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace phasebit_test {

/// Ends a peer test as skipped (exit status 77, shown by ctest) and prints the reason. Only for
/// what the machine lacks, never for a failure of the library. Call it before the first check.
[[noreturn]] inline void skip(std::string_view reason) {
  std::printf("skipped: %.*s\n", static_cast<int>(reason.size()), reason.data());
  std::fflush(stdout);
  std::_Exit(77);
}

}  // namespace phasebit_test
