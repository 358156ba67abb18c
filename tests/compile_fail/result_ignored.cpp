// SPDX-License-Identifier: BSL-1.0
// An ignored failure is lost: a result is nodiscard, and the project's own code turns the warning
// into an error.
// EXPECT: (ignoring|nodiscard)
#include <phasebit/core/result.hpp>

#ifdef __clang__
#  pragma clang diagnostic error "-Wunused-result"
#else
#  pragma GCC diagnostic error "-Wunused-result"
#endif

phasebit::result<> bind_to_vfio();

void mistake() {
#ifdef PHASEBIT_FAIL_FIXED
  if (!bind_to_vfio()) return;
#else
  bind_to_vfio();
#endif
}
