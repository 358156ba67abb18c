// SPDX-License-Identifier: BSL-1.0
// A field of a 64-bit register is not read from half of it.
// EXPECT: the field lies outside this word
#include <phasebit/core/field.hpp>

#include <cstdint>

using memory_page_size_max = phasebit::field<55, 52>;

#ifdef PHASEBIT_FAIL_FIXED
using word = std::uint64_t;
#else
using word = std::uint32_t;
#endif

unsigned mistake(word cap) { return memory_page_size_max::get(cap); }
