// SPDX-License-Identifier: BSL-1.0
// Access Control Services: whether a port or function sends peer requests upstream, where an IOMMU
// sees them. PCIe 5.0, 7.7.8.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Capability register at +4 and control register at +6 have the same bits.
struct access_control : register_value<access_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> source_validation{};
  static constexpr field<1> translation_blocking{};
  static constexpr field<2> request_redirect{};
  static constexpr field<3> completion_redirect{};
  static constexpr field<4> upstream_forwarding{};
  static constexpr field<5> egress_control{};
  static constexpr field<6> direct_translated{};
  static constexpr std::uint16_t capability_offset = 4;
  static constexpr std::uint16_t control_offset = 6;

  // What keeps functions behind a port apart: validated sources, and nothing from peer to peer.
  [[nodiscard]] static constexpr access_control isolation() noexcept {
    return access_control{}
        .with(source_validation, true)
        .with(request_redirect, true)
        .with(completion_redirect, true)
        .with(upstream_forwarding, true);
  }
};

// Enables as much of isolation() as the port has, and switches direct translated requests off; returns
// what is enabled. Isolated is what equals isolation(). Errors: those of find_capability (not_found:
// the port has no access control, and may send requests from peer to peer).
template <ConfigSpace Config>
[[nodiscard]] result<access_control> isolate(Config& config) noexcept {
  const auto at = find_capability(config, extended_capability_id::access_control_services);
  if (!at) return at.error();
  const auto control = static_cast<std::uint16_t>(*at + access_control::control_offset);
  const std::uint16_t can =
      config.read16(static_cast<std::uint16_t>(*at + access_control::capability_offset));
  const auto wanted = static_cast<std::uint16_t>(access_control::isolation().raw & can);
  config.write16(control, wanted);
  return access_control{config.read16(control)};
}

}  // namespace phasebit::pcie
