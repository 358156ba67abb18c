// SPDX-License-Identifier: BSL-1.0
// A word that is shared has to be read whole; what is aligned to half of it may lie across two
// cache lines.
// EXPECT: SharedWord
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/ordering.hpp>

#ifdef PHASEBIT_FAIL_FIXED
struct alignas(4) flags_and_index {
#else
struct flags_and_index {
#endif
  phasebit::le<std::uint16_t> flags, index;
};

unsigned mistake(const flags_and_index& shared) {
  return phasebit::thread_order::load(shared).index;
}
