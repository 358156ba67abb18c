// SPDX-License-Identifier: BSL-1.0
// Enables access control: ports send requests between peers upstream, where an IOMMU translates them.
// PCIe 5.0, 7.7.8.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/topology.hpp>
#include <phasebit/pcie/spec/acs_capability.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::pcie {

// The isolation of the functions behind a port: validated sources, and no requests between peers.
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

// isolate() for every port of the list of enumerate() that leads to a link, and for functions of
// devices that have several. Afterwards `isolated` of each function is true if its requests reach
// the IOMMU without passing a peer: every port above it isolates, no conventional bridge is above
// it, and of several functions of one device each isolates. Functions that are not isolated are
// given to one user together.
template <ConfigAccess Root>
void isolate_all(Root& root, std::span<enumerated_function> all) noexcept {
  const auto shares_device = [&](const enumerated_function& f) {
    for (const enumerated_function& o : all) {
      if (&o != &f && o.bridge == f.bridge && o.id.bus() == f.id.bus() &&
          o.id.device() == f.id.device()) {
        return true;
      }
    }
    return false;
  };
  // Requests of virtual functions, and with ARI of functions above 7, come with other device numbers.
  const auto has_peers = [&](const enumerated_function& f) {
    return f.sriov.offset != 0 || shares_device(f);
  };
  for (enumerated_function& f : all) {
    f.isolated = false;
    if (f.fault) continue;
    auto&& config = root.function(f.id);
    const auto express_at = find_capability(config, capability_id::pci_express);
    bool link = false;
    bool upstream = false;
    if (express_at) {
      const express_capabilities e{
          config.read16(static_cast<std::uint16_t>(*express_at + express::capabilities))};
      const port_type type = e[express_capabilities::type];
      link = type == port_type::root_port || type == port_type::downstream_port;
      upstream = type == port_type::upstream_port;
    }
    bool apart = true;
    if (link) {
      const auto now = isolate(config);
      apart = now && now->raw == acs_isolation().raw;
    } else if (f.is_bridge()) {
      apart = upstream && !shares_device(f);
    } else if (has_peers(f)) {
      // 7.7.8.2: functions of one device implement what concerns requests between them.
      constexpr std::uint16_t between = acs_capability{}
                                            .with(acs_capability::request_redirect, true)
                                            .with(acs_capability::completion_redirect, true)
                                            .raw;
      const auto now = isolate(config);
      apart = now && (now->raw & between) == between;
    }
    const bool above = f.bridge == enumerated_function::on_root_bus || all[f.bridge].isolated;
    f.isolated = apart && above;
  }
}

}  // namespace phasebit::pcie
