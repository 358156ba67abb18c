// SPDX-License-Identifier: BSL-1.0
// A PCI function in /sys, for every way to access it. `root` is the path of /sys.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <array>
#include <string>
#include <string_view>

namespace phasebit::posix {

[[nodiscard]] inline std::string name_of(pcie::function_address function) {
  std::array<char, 16> text{};
  return std::string{function.print(text)};
}

// "0000:01:00.0" or "01:00.0" as a function's address. Error: invalid_argument.
[[nodiscard]] inline result<pcie::function_address> parse_pci_address(
    std::string_view text) noexcept {
  const auto parsed = pcie::parse_function_address(text);
  if (!parsed) {
    return failure(errc::invalid_argument, "a PCI function is written 0000:01:00.0").of(text);
  }
  return *parsed;
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
