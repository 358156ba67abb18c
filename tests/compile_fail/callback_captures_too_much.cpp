// SPDX-License-Identifier: BSL-1.0
// A callback lives inside its command: it has three words and allocates nothing.
// EXPECT: the callback captures more than three words: capture a pointer to a struct
#include <phasebit/core/callback.hpp>

struct request {
  char bytes[64];
};

#ifdef PHASEBIT_FAIL_FIXED
phasebit::inplace_callback<int> later(request& r) {
  return {[&r](int) noexcept { r.bytes[0] = 1; }};
}
#else
phasebit::inplace_callback<int> later(request& r) {
  return {[r](int) mutable noexcept { r.bytes[0] = 1; }};
}
#endif
