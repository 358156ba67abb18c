// SPDX-License-Identifier: BSL-1.0
// A failure that nobody looks at is lost: a result is nodiscard, and our own code takes the warning
// for the error it is.
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
