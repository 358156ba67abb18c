// SPDX-License-Identifier: BSL-1.0
// A PCI function in /sys, for every way to access it. `root` is the path of /sys.
#pragma once

#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <array>
#include <string>

namespace phasebit::posix {

[[nodiscard]] inline std::string name_of(pcie::function_address function) {
  std::array<char, 16> text{};
  return std::string{function.print(text)};
}

// The function's folder.
[[nodiscard]] inline std::string pci_path(pcie::function_address function,
                                          const std::string& root = "/sys") {
  return root + "/bus/pci/devices/" + name_of(function);
}

// The driver that holds the function; empty if none does.
[[nodiscard]] inline std::string pci_driver(pcie::function_address function,
                                            const std::string& root = "/sys") {
  return link_name(pci_path(function, root) + "/driver");
}

}  // namespace phasebit::posix
