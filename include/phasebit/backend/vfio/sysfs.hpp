// SPDX-License-Identifier: BSL-1.0
// What Linux says of a PCI function in /sys: its driver, its IOMMU group, who else is in that group.
#pragma once

#include <phasebit/backend/posix/unique_fd.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/requester_id.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace phasebit::backend::vfio::sysfs {

[[nodiscard]] inline std::string name_of(pcie::function_address function) {
  std::array<char, 16> text{};
  return std::string{function.print(text)};
}
[[nodiscard]] inline std::string path_of(pcie::function_address function) {
  return "/sys/bus/pci/devices/" + name_of(function);
}

// Where a symbolic link ends: the last component of its target; empty where there is no such link.
[[nodiscard]] inline std::string link_name(const std::string& path) {
  std::array<char, 512> target{};
  const auto length = ::readlink(path.c_str(), target.data(), target.size());
  if (length <= 0) return {};
  const std::string_view whole{target.data(), static_cast<std::size_t>(length)};
  return std::string{whole.substr(whole.rfind('/') + 1)};
}

[[nodiscard]] inline bool exists(const std::string& path) noexcept {
  return ::access(path.c_str(), F_OK) == 0;
}

// The number in a file of one line; none where there is no such file, or it holds no 16-bit number.
[[nodiscard]] inline std::optional<std::uint16_t> number(const std::string& path) noexcept {
  const auto file = posix::open_file(path.c_str(), O_RDONLY);
  if (!file) return std::nullopt;
  std::array<char, 32> text{};
  const auto length = ::read(file->get(), text.data(), text.size());
  std::uint16_t value = 0;
  if (length <= 0 || std::from_chars(text.data(), text.data() + length, value).ec != std::errc{}) {
    return std::nullopt;
  }
  return value;
}

// The names in a directory, without . and ..; none where it is not there.
template <class Each>
void for_each_entry(const std::string& path, Each&& each) {
  ::DIR* const directory = ::opendir(path.c_str());
  if (directory == nullptr) return;
  while (const ::dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.') each(std::string_view{entry->d_name});
  }
  ::closedir(directory);
}

// The driver that holds the function; empty where none does.
[[nodiscard]] inline std::string driver_of(pcie::function_address function) {
  return link_name(path_of(function) + "/driver");
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
