// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/align.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;
using namespace phasebit::literals;

static_assert(32_KiB == 32768 && 4_MiB == 4194304 && 1_GiB == 1073741824 && 0_KiB == 0);
static_assert(std::is_same_v<decltype(1_KiB), std::size_t>);
static_assert(is_power_of_two(1U) && is_power_of_two(0x80000000U) && !is_power_of_two(0U));

TEST_CASE("rounding agrees with division, for every 8-bit value and alignment") {
  for (unsigned alignment = 1; alignment <= 128; alignment *= 2) {
    for (unsigned v = 0; v != 256; ++v) {
      const auto value = static_cast<std::uint8_t>(v);
      const auto a = static_cast<std::uint8_t>(alignment);
      REQUIRE(is_aligned(value, a) == (v % alignment == 0));
      REQUIRE(align_down(value, a) == v / alignment * alignment);
      const unsigned up = (v + alignment - 1) / alignment * alignment;
      if (up < 256) REQUIRE(align_up(value, a) == up);
    }
  }
}

TEST_CASE("rounding works at the top of 64 bits") {
  constexpr std::uint64_t top = ~std::uint64_t{0};
  CHECK(align_down(top, 4096) == top - 4095);
  CHECK(align_up(top - 4095, 4096) == top - 4095);
  CHECK(align_up(std::uint64_t{0}, 4096) == 0);
  CHECK(is_aligned(std::uint64_t{0}, std::uint64_t{1} << 63));
}

TEST_CASE("rounding up beyond the type is the caller's mistake") {
  CHECK(phasebit_test::breaks("rounding up wraps",
                              [] { (void)align_up(~std::uint64_t{0} - 4094, 4096); }));
  CHECK(phasebit_test::breaks("rounding up wraps", [] { (void)align_up(std::uint8_t{129}, 128); }));
}

TEST_CASE("an alignment that is no power of two is the caller's mistake") {
  for (const std::uint32_t wrong : {0U, 3U, 6U, 4097U}) {
    CHECK(phasebit_test::breaks("an alignment is a power of two",
                                [&] { (void)align_up(100U, wrong); }));
  }
}

TEST_CASE("the remainder without a division agrees with the one that divides") {
  for (std::uint64_t a = 0; a != 300; ++a) {
    for (std::uint64_t b = 1; b != 300; ++b) {
      REQUIRE(detail::long_remainder(a, b) == a % b);
      REQUIRE(detail::long_remainder(~a, b) == ~a % b);
      REQUIRE(detail::long_remainder(~a, ~b) == ~a % ~b);
      REQUIRE(detail::long_remainder(a << 55, b << 40) == (a << 55) % (b << 40));
      REQUIRE(remainder(~a, b) == ~a % b);
    }
  }
  constexpr std::uint64_t half = std::uint64_t{1} << 63;
  CHECK(detail::long_remainder(half, half) == 0);
  CHECK(detail::long_remainder(~std::uint64_t{0}, half) == half - 1);
  CHECK(phasebit_test::breaks("a division by zero", [] { (void)remainder(1, 0); }));
}
