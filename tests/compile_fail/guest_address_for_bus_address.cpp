// SPDX-License-Identifier: BSL-1.0
// A guest address means nothing on the bus before it was translated.
// EXPECT: guest_space
// EXPECT: bus_space
#include <phasebit/core/address.hpp>

void program_the_device(phasebit::bus_addr where);

void mistake(phasebit::guest_addr buffer) {
#ifdef PHASEBIT_FAIL_FIXED
  program_the_device(phasebit::bus_addr{buffer.value()});
#else
  program_the_device(buffer);
#endif
}
