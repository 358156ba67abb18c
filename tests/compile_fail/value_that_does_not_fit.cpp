// SPDX-License-Identifier: BSL-1.0
// Where the value is known at compile time, so is that it does not fit.
// EXPECT: expects_failed
#include <phasebit/core/field.hpp>

#include <cstdint>

using queue_size = phasebit::field<19, 16>;

#ifdef PHASEBIT_FAIL_FIXED
constexpr auto word = queue_size::of(15);
#else
constexpr auto word = queue_size::of(16);
#endif
