// SPDX-License-Identifier: BSL-1.0
// The Resizable BAR and VF Resizable BAR extended capabilities: a host chooses the size of BARs.
// PCIe 5.0, 7.8.6 and 9.3.7.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Offsets from the capability: a pair of registers for each BAR.
namespace resizable_bar {

inline constexpr std::uint16_t capability = 0x04;
inline constexpr std::uint16_t control = 0x08;
inline constexpr std::uint16_t stride = 8;
inline constexpr std::uint8_t least_shift = 20;  // size 0 is 1 MiB

[[nodiscard]] constexpr std::uint16_t capability_bytes(unsigned bars) noexcept {
  return static_cast<std::uint16_t>(4 + stride * bars);
}

}  // namespace resizable_bar

// 7.8.6.2: bit n + 4 is set where the BAR may have 1 MiB << n, up to 128 TiB.
struct resizable_bar_capability : register_value<resizable_bar_capability, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<31, 4> sizes{};
};

// 7.8.6.3
struct resizable_bar_control : register_value<resizable_bar_control, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<2, 0> bar_index{};
  static constexpr field<7, 5> bars{};            // how many pairs there are; in the first one only
  static constexpr field<13, 8> size{};           // 1 MiB << value
  static constexpr field<31, 16> larger_sizes{};  // bit n: the BAR may have 256 TiB << n
};

}  // namespace phasebit::pcie
