// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/bit_scan.hpp>

#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;

TEST_CASE("highest and lowest set bit of every pair of bits") {
  for (unsigned low = 0; low != 64; ++low) {
    for (unsigned high = low; high != 64; ++high) {
      const std::uint64_t value = std::uint64_t{1} << high | std::uint64_t{1} << low;
      CHECK(highest_bit(value) == high);
      CHECK(lowest_bit(value) == low);
      CHECK(bit_width(value) == high + 1);
      CHECK(highest_bit(~std::uint64_t{0} >> (63 - high)) == high);
    }
  }
  CHECK(bit_width(0) == 0);
}
