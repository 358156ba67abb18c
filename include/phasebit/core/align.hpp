// SPDX-License-Identifier: BSL-1.0
// Powers of two and sizes.
#pragma once

#include <phasebit/core/expects.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit {

// `alignment` is a power of two in all three.
template <std::unsigned_integral T>
[[nodiscard]] constexpr bool is_aligned(T value, std::type_identity_t<T> alignment) noexcept {
  PHASEBIT_EXPECTS(std::has_single_bit(alignment), "an alignment is a power of two");
  return (value & (alignment - 1)) == 0;
}
template <std::unsigned_integral T>
[[nodiscard]] constexpr T align_down(T value, std::type_identity_t<T> alignment) noexcept {
  PHASEBIT_EXPECTS(std::has_single_bit(alignment), "an alignment is a power of two");
  return static_cast<T>(value & ~(alignment - 1));
}
// The sum must not wrap.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T align_up(T value, std::type_identity_t<T> alignment) noexcept {
  const T rounded = align_down(static_cast<T>(value + (alignment - 1)), alignment);
  PHASEBIT_EXPECTS(rounded >= value, "rounding up wraps");
  return rounded;
}

namespace literals {

consteval std::size_t operator""_KiB(unsigned long long n) { return std::size_t(n) << 10; }
consteval std::size_t operator""_MiB(unsigned long long n) { return std::size_t(n) << 20; }
consteval std::size_t operator""_GiB(unsigned long long n) { return std::size_t(n) << 30; }

}  // namespace literals

}  // namespace phasebit
