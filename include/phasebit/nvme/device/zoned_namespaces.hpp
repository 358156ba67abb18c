// SPDX-License-Identifier: BSL-1.0
// A namespace set some of whose namespaces are zoned.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/nvme/device/concepts.hpp>
#include <phasebit/nvme/device/zones.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::device {

// A set that has zones(nsid): the zones of a namespace of the zoned namespace command set, or null for one of
// the NVM command set. Zoned namespaces are active for a host that has selected all command sets (CC.CSS =
// 110b). They have no metadata, and Format NVM leaves them their LBA format.
template <class T>
concept ZonedNamespaces = NamespaceSet<T> && requires(T& set, std::uint32_t nsid) {
  { set.zones(nsid) } noexcept -> std::same_as<zone_table*>;
  { set.detach_zones(nsid) } noexcept;
};

// `Set` with zones for namespaces of numbers up to Capacity. Made as `Set` is.
template <NamespaceSet Set, std::size_t Capacity>
class zoned_namespaces : public Set {
 public:
  using Set::Set;

  // The namespace has at least the blocks of the zones. Keeps a reference.
  void attach_zones(std::uint32_t nsid, zone_table& zones) noexcept {
    PHASEBIT_EXPECTS(nsid >= 1 && nsid <= Capacity, "a namespace number beyond the set");
    tables_[nsid - 1] = &zones;
  }
  // The namespace is one of the NVM command set again.
  void detach_zones(std::uint32_t nsid) noexcept {
    if (nsid >= 1 && nsid <= Capacity) tables_[nsid - 1] = nullptr;
  }
  [[nodiscard]] zone_table* zones(std::uint32_t nsid) noexcept {
    return nsid >= 1 && nsid <= Capacity ? tables_[nsid - 1] : nullptr;
  }

 private:
  std::array<zone_table*, Capacity> tables_{};
};

}  // namespace phasebit::nvme::device
