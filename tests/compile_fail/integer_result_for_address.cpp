// SPDX-License-Identifier: BSL-1.0
// The way through a result does not make an address of a number either.
// EXPECT: (could not convert|no viable conversion|cannot convert)
// EXPECT: result<phasebit::address<phasebit::bus_space>|result<bus_addr>|result<.*bus_space
#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>

#include <cstdint>

phasebit::result<phasebit::bus_addr> mistake(std::uint64_t number) {
#ifdef PHASEBIT_FAIL_FIXED
  return phasebit::bus_addr{number};
#else
  return number;
#endif
}
