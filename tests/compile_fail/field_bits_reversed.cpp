// SPDX-License-Identifier: BSL-1.0
// Specifications print the high bit first, and so do fields.
// EXPECT: a field is written field<Hi, Lo>, as specifications do
#include <phasebit/core/field.hpp>

#ifdef PHASEBIT_FAIL_FIXED
using act = phasebit::field<3, 0>;
#else
using act = phasebit::field<0, 3>;
#endif

constexpr auto mask = act::mask<unsigned>;
