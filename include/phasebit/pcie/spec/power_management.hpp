// SPDX-License-Identifier: BSL-1.0
// The power management capability: D0 and D3hot, which every function has. PCIe 5.0, 7.5.2.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Offsets from the capability.
namespace power {

inline constexpr std::uint16_t capabilities = 0x02;
inline constexpr std::uint16_t control_status = 0x04;
inline constexpr std::uint16_t capability_bytes = 8;

}  // namespace power

// 7.5.2.1; version 3 is the one that the specification prescribes.
struct power_capabilities : register_value<power_capabilities, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<2, 0> version{};
};

enum class power_state : std::uint8_t { d0 = 0, d1 = 1, d2 = 2, d3hot = 3 };

// 7.5.2.2
struct power_control : register_value<power_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<1, 0, power_state> state{};
  static constexpr field<3> no_soft_reset{};
};

}  // namespace phasebit::pcie
