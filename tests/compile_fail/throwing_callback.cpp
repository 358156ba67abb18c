// SPDX-License-Identifier: BSL-1.0
// A callback runs between two entries of a queue, where an exception would lose the second.
// EXPECT: a completion callback takes a completion and is noexcept
#include <phasebit/core/callback.hpp>

int last = 0;

#ifdef PHASEBIT_FAIL_FIXED
phasebit::inplace_callback<int> callback{[](int v) noexcept { last = v; }};
#else
phasebit::inplace_callback<int> callback{[](int v) { last = v; }};
#endif
