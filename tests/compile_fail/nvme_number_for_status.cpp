// SPDX-License-Identifier: BSL-1.0
// A status is compared with a code that has a name, not with a number whose meaning depends on
// whether the phase bit was shifted out.
// EXPECT: (no match for|invalid operands to)
#include <phasebit/nvme/spec/status.hpp>

bool mistake(phasebit::nvme::status s) {
#ifdef PHASEBIT_FAIL_FIXED
  return s == phasebit::nvme::status_code::invalid_field;
#else
  return s == 0x4004;
#endif
}
