// SPDX-License-Identifier: BSL-1.0
// Powers of two and sizes.
#pragma once

#include <phasebit/core/expects.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace phasebit {

// std::has_single_bit is a library call on processors without a population count instruction.
template <std::unsigned_integral T>
[[nodiscard]] constexpr bool is_power_of_two(T value) noexcept {
  return value != 0 && (value & (value - 1)) == 0;
}

// `alignment` is a power of two in all three.
template <std::unsigned_integral T>
[[nodiscard]] constexpr bool is_aligned(T value, std::type_identity_t<T> alignment) noexcept {
  PHASEBIT_EXPECTS(is_power_of_two(alignment), "an alignment is a power of two");
  return (value & (alignment - 1)) == 0;
}
template <std::unsigned_integral T>
[[nodiscard]] constexpr T align_down(T value, std::type_identity_t<T> alignment) noexcept {
  PHASEBIT_EXPECTS(is_power_of_two(alignment), "an alignment is a power of two");
  return static_cast<T>(value & ~(alignment - 1));
}
// The sum must not wrap.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T align_up(T value, std::type_identity_t<T> alignment) noexcept {
  const T rounded = align_down(static_cast<T>(value + (alignment - 1)), alignment);
  PHASEBIT_EXPECTS(rounded >= value, "rounding up wraps");
  return rounded;
}

namespace detail {

consteval std::size_t scaled_size(unsigned long long n, int shift) noexcept {
  PHASEBIT_EXPECTS(n <= ~std::size_t{0} >> shift, "a size beyond size_t");
  return static_cast<std::size_t>(n << shift);
}

// Long division, bit by bit: the divisor is moved up below the dividend and then down again.
[[nodiscard]] constexpr std::uint64_t long_remainder(std::uint64_t a, std::uint64_t b) noexcept {
  unsigned shift = 0;
  while ((b << shift) <= (a >> 1) && (b << shift) >> 63 == 0) ++shift;
  for (++shift; shift-- != 0;) {
    if (a >= (b << shift)) a -= b << shift;
  }
  return a;
}

}  // namespace detail

// a modulo b; b is not 0. On 32-bit machines the operator calls a support function, which
// freestanding firmware does not have.
[[nodiscard]] constexpr std::uint64_t remainder(std::uint64_t a, std::uint64_t b) noexcept {
  PHASEBIT_EXPECTS(b != 0, "a division by zero");
  if constexpr (sizeof(void*) >= 8) {
    return a % b;
  } else {
    return detail::long_remainder(a, b);
  }
}

namespace literals {

// A size that std::size_t cannot hold does not compile.
consteval std::size_t operator""_KiB(unsigned long long n) noexcept {
  return detail::scaled_size(n, 10);
}
consteval std::size_t operator""_MiB(unsigned long long n) noexcept {
  return detail::scaled_size(n, 20);
}
consteval std::size_t operator""_GiB(unsigned long long n) noexcept {
  return detail::scaled_size(n, 30);
}

}  // namespace literals

}  // namespace phasebit
