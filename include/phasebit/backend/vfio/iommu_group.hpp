// SPDX-License-Identifier: BSL-1.0
// IOMMU groups in /sys: the group of a function, and the drivers that prevent its use by vfio.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/posix/pci_sysfs.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace phasebit::backend::vfio {

// The number of the IOMMU group of a function.
// Errors: not_found (no such function), not_supported (no IOMMU group: the IOMMU is off).
[[nodiscard]] inline result<unsigned> iommu_group_of(pcie::function_address function) {
  const std::string path = posix::pci_path(function);
  if (!posix::exists(path)) {
    return failure(errc::not_found, "there is no such PCI function").of(posix::name_of(function));
  }
  const std::string group = posix::link_name(path + "/iommu_group");
  unsigned number = 0;
  const auto parsed = std::from_chars(group.data(), group.data() + group.size(), number);
  if (group.empty() || parsed.ec != std::errc{}) {
    return failure(errc::not_supported,
                   "the function has no IOMMU group: switch the IOMMU on in the firmware and with "
                   "intel_iommu=on or iommu.passthrough=0 on the kernel's command line")
        .of(posix::name_of(function));
  }
  return number;
}

// The functions of a group whose drivers prevent its use by vfio: neither vfio-pci nor a bridge driver.
// "0000:01:00.0 (nvme), 0000:01:00.1 (e1000e)"
[[nodiscard]] inline std::string group_conflicts(unsigned group) {
  std::string names;
  const std::string path = "/sys/kernel/iommu_groups/" + std::to_string(group) + "/devices";
  posix::for_each_entry(path, [&](std::string_view entry) {
    const auto function = pcie::parse_function_address(entry);
    if (!function) return;
    const std::string driver = posix::pci_driver(*function);
    if (driver.empty() || driver == "vfio-pci" || driver == "pcieport") return;
    if (!names.empty()) names += ", ";
    names.append(entry).append(" (").append(driver).append(")");
  });
  return names;
}

}  // namespace phasebit::backend::vfio
