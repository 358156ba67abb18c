// SPDX-License-Identifier: BSL-1.0
// A bare number has no address space.
// EXPECT: (cannot convert|could not convert|no viable conversion|no matching function)
// EXPECT: bus_addr|address<.*bus_space>
#include <phasebit/core/address.hpp>

#include <cstdint>

phasebit::bus_addr mistake(std::uint64_t number) {
#ifdef PHASEBIT_FAIL_FIXED
  return phasebit::bus_addr{number};
#else
  return number;
#endif
}
