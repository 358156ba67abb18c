// SPDX-License-Identifier: BSL-1.0
// The Access Control Services extended capability: which requests between peers a port or function lets
// pass. PCIe 5.0, 7.7.8 and 6.12.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Offsets from the capability.
namespace acs {

inline constexpr std::uint16_t capability = 0x04;
inline constexpr std::uint16_t control = 0x06;
inline constexpr std::uint16_t egress_control_vector = 0x08;
inline constexpr std::uint16_t capability_bytes = 8;  // without a vector

}  // namespace acs

// 7.7.8.2. Bits 6:0 are at the same places in the control register (7.7.8.3).
struct acs_capability : register_value<acs_capability, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> source_validation{};
  static constexpr field<1> translation_blocking{};
  static constexpr field<2> request_redirect{};
  static constexpr field<3> completion_redirect{};
  static constexpr field<4> upstream_forwarding{};
  static constexpr field<5> egress_control{};
  static constexpr field<6> direct_translated{};
  static constexpr field<15, 8> egress_vector_size{};  // in bits; 0 is 256
  static constexpr std::uint16_t services = 0x7f;
};

}  // namespace phasebit::pcie
