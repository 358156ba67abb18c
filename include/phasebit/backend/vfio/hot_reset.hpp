// SPDX-License-Identifier: BSL-1.0
// A reset of the bus that a function is on, for functions that have none of their own.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/posix/os_error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <linux/vfio.h>
#include <sys/ioctl.h>

namespace phasebit::backend::vfio {

// A function that a hot reset of another resets too.
struct hot_reset_victim {
  pcie::function_address function;
  std::uint32_t group = 0;
};

// Errors: not_supported (no bus of its own, such as a function of the root complex), io.
[[nodiscard]] inline result<std::vector<hot_reset_victim>> hot_reset_victims(int device) {
  std::vector<std::byte> bytes(sizeof(::vfio_pci_hot_reset_info));
  ::vfio_pci_hot_reset_info info;  // ends in an array of no size, which no {} may fill
  for (int round = 0;; ++round) {
    std::memset(&info, 0, sizeof info);
    info.argsz = static_cast<std::uint32_t>(bytes.size());
    std::memcpy(bytes.data(), &info, sizeof info);
    const int failed = ::ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes.data());
    // The first call returns the count; more functions may have been added before the second.
    if (failed != 0 && (errno != ENOSPC || round == 4)) {
      if (errno == ENODEV || errno == ENOTTY) {
        return failure(errc::not_supported, "the function's bus cannot be reset");
      }
      return posix::os_error("the kernel does not report the devices of a hot reset");
    }
    std::memcpy(&info, bytes.data(), sizeof info);
    if (failed == 0) break;
    bytes.resize(sizeof info + (std::size_t{info.count} + 1) * sizeof(::vfio_pci_dependent_device));
  }
  std::vector<hot_reset_victim> victims;
  const std::size_t count = std::min<std::size_t>(
      info.count, (bytes.size() - sizeof info) / sizeof(::vfio_pci_dependent_device));
  for (std::size_t i = 0; i != count; ++i) {
    ::vfio_pci_dependent_device entry{};
    std::memcpy(&entry, bytes.data() + sizeof info + i * sizeof entry, sizeof entry);
    const auto id = static_cast<std::uint16_t>(entry.bus << 8 | entry.devfn);
    victims.push_back({{entry.segment, pcie::requester_id{id}}, entry.group_id});
  }
  return victims;
}

// Resets the bus. `group` is the file of the function's IOMMU group, -1 with iommufd, where the
// kernel looks at who owns the address space instead. Errors: busy (a function outside of the group
// would be reset too, and is named), those of hot_reset_victims().
[[nodiscard]] inline result<> hot_reset(int device, int group, std::uint32_t group_number) {
  const auto victims = hot_reset_victims(device);
  if (!victims) return victims.error();
  if (group >= 0) {
    for (const hot_reset_victim& v : *victims) {
      if (v.group == group_number) continue;
      std::array<char, 16> name{};
      return failure(errc::busy, "it would be reset too, and is in another IOMMU group; group",
                     v.group)
          .of(v.function.print(name));
    }
  }
  std::vector<std::byte> bytes(sizeof(::vfio_pci_hot_reset) + sizeof(std::int32_t));
  ::vfio_pci_hot_reset request{};
  request.argsz = static_cast<std::uint32_t>(bytes.size());
  request.count = group >= 0 ? 1 : 0;
  std::memcpy(bytes.data(), &request, sizeof request);
  std::memcpy(bytes.data() + sizeof request, &group, sizeof group);
  if (::ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, bytes.data()) != 0) {
    return posix::os_error("the hot reset failed");
  }
  return {};
}

}  // namespace phasebit::backend::vfio
