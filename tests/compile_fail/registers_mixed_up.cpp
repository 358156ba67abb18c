// SPDX-License-Identifier: BSL-1.0
// Two registers of one width are two types.
// EXPECT: csts
// EXPECT: (could not convert|no matching function|cannot convert|invalid initialization|no viable conversion|no known conversion)
#include <phasebit/core/field.hpp>

#include <cstdint>

struct cc : phasebit::register_value<cc, std::uint32_t> {
  using register_value::register_value;
};
struct csts : phasebit::register_value<csts, std::uint32_t> {
  using register_value::register_value;
};

void enable(cc value);

void mistake() {
#ifdef PHASEBIT_FAIL_FIXED
  enable(cc{1});
#else
  enable(csts{1});
#endif
}
