// SPDX-License-Identifier: BSL-1.0
// A PCI function in /sys: its driver, its IOMMU group, and the other functions of that group.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/posix/pci_sysfs.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace phasebit::backend::vfio::sysfs {

using posix::exists;
using posix::for_each_entry;
using posix::link_name;
using posix::name_of;

[[nodiscard]] inline std::string path_of(pcie::function_address function) {
  return posix::pci_path(function);
}

// A file of one line with a 16-bit number; none where it is not there, or holds none.
[[nodiscard]] inline std::optional<std::uint16_t> number(const std::string& path) {
  return posix::read_number<std::uint16_t>(path);
}

// The driver that holds the function; empty where none does.
[[nodiscard]] inline std::string driver_of(pcie::function_address function) {
  return posix::pci_driver(function);
}

// Errors: not_found (no such function), not_supported (no IOMMU group: the IOMMU is off).
[[nodiscard]] inline result<unsigned> group_of(pcie::function_address function) {
  const std::string path = path_of(function);
  if (!exists(path)) {
    return failure(errc::not_found, "there is no such PCI function").of(name_of(function));
  }
  const std::string group = link_name(path + "/iommu_group");
  unsigned number = 0;
  const auto parsed = std::from_chars(group.data(), group.data() + group.size(), number);
  if (group.empty() || parsed.ec != std::errc{}) {
    return failure(errc::not_supported,
                   "the function has no IOMMU group: switch the IOMMU on in the firmware and with "
                   "intel_iommu=on or iommu.passthrough=0 on the kernel's command line")
        .of(name_of(function));
  }
  return number;
}

// The functions of a group that keep it from being given to user space: bound to a driver that is
// neither vfio-pci nor a bridge's. "0000:01:00.0 (nvme), 0000:01:00.1 (e1000e)"
[[nodiscard]] inline std::string in_the_way(unsigned group) {
  std::string names;
  const std::string path = "/sys/kernel/iommu_groups/" + std::to_string(group) + "/devices";
  for_each_entry(path, [&](std::string_view entry) {
    const auto function = pcie::parse_function_address(entry);
    if (!function) return;
    const std::string driver = driver_of(*function);
    if (driver.empty() || driver == "vfio-pci" || driver == "pcieport") return;
    if (!names.empty()) names += ", ";
    names.append(entry).append(" (").append(driver).append(")");
  });
  return names;
}

}  // namespace phasebit::backend::vfio::sysfs
