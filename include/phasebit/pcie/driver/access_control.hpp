// SPDX-License-Identifier: BSL-1.0
// Enables access control: ports send requests between peers upstream, where an IOMMU translates them.
// PCIe 5.0, 7.7.8.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/acs_capability.hpp>
#include <phasebit/pcie/spec/capability.hpp>

#include <cstdint>

namespace phasebit::pcie {

// What keeps the functions behind a port apart: validated sources, and no requests between peers.
[[nodiscard]] constexpr acs_capability acs_isolation() noexcept {
  return acs_capability{}
      .with(acs_capability::source_validation, true)
      .with(acs_capability::request_redirect, true)
      .with(acs_capability::completion_redirect, true)
      .with(acs_capability::upstream_forwarding, true);
}

// Enables as much of acs_isolation() as the port has, and disables direct translated requests. Returns the
// enabled services; the port isolates if they equal acs_isolation(). Errors: those of find_capability (not_found:
// the port has no access control, and may send requests from peer to peer).
template <ConfigSpace Config>
[[nodiscard]] result<acs_capability> isolate(Config& config) noexcept {
  const auto at = find_capability(config, extended_capability_id::access_control_services);
  if (!at) return at.error();
  const auto control = static_cast<std::uint16_t>(*at + acs::control);
  const std::uint16_t can = config.read16(static_cast<std::uint16_t>(*at + acs::capability));
  const auto wanted = static_cast<std::uint16_t>(acs_isolation().raw & can);
  config.write16(control, wanted);
  return acs_capability{config.read16(control)};
}

}  // namespace phasebit::pcie
