// SPDX-License-Identifier: BSL-1.0
// A conversion between integer types whose widths differ on some machines and not on others.
#pragma once

#include <concepts>

namespace phasebit {

// static_cast<To>(value), without the warning -Wuseless-cast where both are the same type: std::size_t and
// std::uint64_t are on 64-bit machines. The caller has checked that the value fits.
template <std::integral To, std::integral From>
[[nodiscard]] constexpr To int_cast(From value) noexcept {
  if constexpr (std::same_as<To, From>) {
    return value;
  } else {
    return static_cast<To>(value);
  }
}

}  // namespace phasebit
