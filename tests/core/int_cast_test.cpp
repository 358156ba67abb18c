// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/int_cast.hpp>

#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>

TEST_CASE("converts between integer types and keeps the value that fits") {
  static_assert(phasebit::int_cast<std::uint8_t>(std::uint64_t{255}) == 255);
  static_assert(phasebit::int_cast<std::size_t>(std::uint64_t{1} << 31) == std::size_t{1} << 31);
  static_assert(std::same_as<decltype(phasebit::int_cast<std::int16_t>(1L)), std::int16_t>);
  CHECK(phasebit::int_cast<std::int8_t>(-5) == -5);
}
