// SPDX-License-Identifier: BSL-1.0
// A type that is narrower than the field would truncate its value.
// EXPECT: the type is too narrow for the field
#include <phasebit/core/field.hpp>

#include <cstdint>

#ifdef PHASEBIT_FAIL_FIXED
using entries = std::uint16_t;
#else
using entries = std::uint8_t;
#endif

unsigned mistake(std::uint64_t cap) { return phasebit::field<15, 0, entries>::get(cap); }
