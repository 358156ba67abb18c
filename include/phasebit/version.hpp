// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/config.hpp>

#include <compare>
#include <cstdint>

namespace phasebit {

/// A release of the library, ordered by precedence.
struct library_version {
  std::uint16_t major_number;
  std::uint16_t minor_number;
  std::uint16_t patch_number;

  friend constexpr auto operator<=>(const library_version&, const library_version&) = default;
};

/// The version of the headers that this translation unit sees; the package's version is read from
/// the same numbers. Below 1.0.0 a new minor number may break what compiled before.
inline constexpr library_version version{PHASEBIT_VERSION_MAJOR, PHASEBIT_VERSION_MINOR,
                                         PHASEBIT_VERSION_PATCH};

}  // namespace phasebit
