// SPDX-License-Identifier: BSL-1.0
// PCI functions as Linux has them: who drives each, what it is part of, what hangs on it.
#pragma once

#include "support/bind_classes.hpp"
#include "support/bind_users.hpp"

#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace example::binding {

struct group_member {
  std::string address{};
  std::string driver{};
};
struct iommu_group {
  std::string number{};
  std::string type{};  // DMA, DMA-FQ, identity; empty where an old kernel does not report it
  std::vector<group_member> others{};

  // Whether a device that Linux does not drive by DMA API may reach the machine's memory.
  [[nodiscard]] bool translates() const { return type.starts_with("DMA"); }
};

struct sr_iov {
  std::uint16_t on = 0;
  std::uint16_t total = 0;          // of a physical function
  std::string physical_function{};  // of a virtual one
  std::optional<unsigned> index{};
};

struct pci_function {
  std::string address{};
  std::uint16_t vendor = 0;
  std::uint16_t device = 0;
  std::uint32_t class_code = 0;
  std::string driver{};           // empty: none
  std::string driver_override{};  // empty: the driver that lists the function's ids
  std::optional<iommu_group> group{};
  std::optional<int> numa_node{};
  sr_iov virtual_functions{};
  std::vector<block_device> disks{};
  std::vector<network_interface> interfaces{};
  std::vector<open_file> open{};

  [[nodiscard]] bool is_storage() const { return is_nvme(class_code) || is_virtio(vendor, device); }
  [[nodiscard]] std::string kind() const {
    return is_virtio(vendor, device) ? std::string{virtio_name(device)}
                                     : class_in_words(class_code);
  }
  // Why taking the function from its driver would hurt; none of it does when this is empty.
  [[nodiscard]] std::vector<std::string> in_use() const {
    std::vector<std::string> why;
    for (const auto& d : disks) {
      for (const auto& place : d.mounts) why.push_back(d.name + " is mounted on " + place);
      for (const auto& holder : d.holders) why.push_back(d.name + " is part of " + holder);
      if (d.swap) why.push_back(d.name + " is swap space");
    }
    for (const auto& i : interfaces) {
      if (i.up) why.push_back(i.name + " is up");
    }
    for (const auto& f : open) {
      why.push_back(fmt::format("{} is open in process {} ({})", f.path, f.pid, f.program));
    }
    if (virtual_functions.on != 0) {
      why.push_back(fmt::format("{} of its virtual functions are on", virtual_functions.on));
    }
    return why;
  }
};

namespace detail {

[[nodiscard]] inline std::string driver_at(const roots& where, const std::string& address) {
  return link_name(where.device(address) + "/driver");
}

[[nodiscard]] inline std::string override_at(const roots& where, const std::string& address) {
  const std::string text = read_line(where.device(address) + "/driver_override");
  return text == "(null)" ? std::string{} : text;
}

[[nodiscard]] inline std::optional<iommu_group> group_at(const roots& where,
                                                         const std::string& address) {
  const std::string link = where.device(address) + "/iommu_group";
  iommu_group g{.number = link_name(link)};
  if (g.number.empty()) return std::nullopt;
  g.type = read_line(link + "/type");
  for (const auto& other : names_in(link + "/devices")) {
    if (other != address) g.others.push_back({other, driver_at(where, other)});
  }
  return g;
}

[[nodiscard]] inline sr_iov sr_iov_at(const roots& where, const std::string& address) {
  const std::string at = where.device(address);
  sr_iov s;
  s.on = read_number<std::uint16_t>(at + "/sriov_numvfs", 10).value_or(0);
  s.total = read_number<std::uint16_t>(at + "/sriov_totalvfs", 10).value_or(0);
  s.physical_function = link_name(at + "/physfn");
  if (s.physical_function.empty()) return s;
  const std::string parent = where.device(s.physical_function);
  for (unsigned i = 0; exists(parent + "/virtfn" + std::to_string(i)); ++i) {
    if (link_name(parent + "/virtfn" + std::to_string(i)) == address) s.index = i;
  }
  return s;
}

// The files in /dev by which a process may have hold of the function.
[[nodiscard]] inline std::set<std::string> device_files(const roots& where, const pci_function& f) {
  const std::string at = where.device(f.address);
  std::set<std::string> files;
  for (const auto& d : f.disks) files.insert("/dev/" + d.name);
  for (const auto& name : names_in(at + "/nvme")) files.insert("/dev/" + name);
  for (const auto& name : names_in(at + "/uio")) files.insert("/dev/" + name);
  for (const auto& name : names_in(at + "/vfio-dev")) files.insert("/dev/vfio/devices/" + name);
  if (f.driver == "vfio-pci" && f.group) {
    files.insert("/dev/vfio/" + f.group->number);
    files.insert("/dev/vfio/noiommu-" + f.group->number);
  }
  return files;
}

}  // namespace detail

[[nodiscard]] inline pci_function read_function(const roots& where, const users& who,
                                                const std::string& address) {
  const std::string at = where.device(address);
  pci_function f{.address = address};
  f.vendor = read_number<std::uint16_t>(at + "/vendor", 16).value_or(0xffff);
  f.device = read_number<std::uint16_t>(at + "/device", 16).value_or(0xffff);
  f.class_code = read_number<std::uint32_t>(at + "/class", 16).value_or(0xff'0000);
  f.driver = detail::driver_at(where, address);
  f.driver_override = detail::override_at(where, address);
  f.group = detail::group_at(where, address);
  const auto node = read_number<int>(at + "/numa_node", 10);
  if (node && *node >= 0) f.numa_node = node;
  f.virtual_functions = detail::sr_iov_at(where, address);
  f.disks = who.disks_of(address);
  f.interfaces = who.interfaces_of(address);
  f.open = who.open_of(detail::device_files(where, f));
  return f;
}

// The address as /sys has it, of "01:00.0" too.
[[nodiscard]] inline std::string find_function(const roots& where, const std::string& text) {
  if (text.find('/') == std::string::npos && !text.empty()) {
    for (const auto& name : {text, "0000:" + text}) {
      if (name.find(':') != std::string::npos && exists(where.device(name))) return name;
    }
  }
  if (!phasebit::pcie::parse_function_address(text)) {
    throw complaint(text + ": is no PCI address; write it as 0000:01:00.0");
  }
  throw complaint(text + ": there is no such PCI function; bind --all lists those there are");
}

struct selection {
  std::vector<std::string> addresses;  // these only
  std::string class_filter;            // "nvme", "virtio", or the beginning of a class code, "0108"
  bool all = false;
};

// Those that were asked for; else all NVMe and virtio functions.
[[nodiscard]] inline std::vector<pci_function> read_functions(const roots& where,
                                                              const selection& wanted) {
  const std::string folder = where.pci() + "/devices";
  if (!exists(folder)) {
    throw complaint(folder + ": is not there; without it nothing is known of PCI functions");
  }
  std::vector<std::string> addresses;
  for (const auto& text : wanted.addresses) addresses.push_back(find_function(where, text));
  const bool named = !addresses.empty();
  if (!named) addresses = names_in(folder);

  const users who{where};
  std::vector<pci_function> found;
  for (const auto& address : addresses) {
    const bool twice = std::any_of(found.begin(), found.end(),
                                   [&](const auto& f) { return f.address == address; });
    if (twice) continue;
    auto f = read_function(where, who, address);
    const std::string& filter = wanted.class_filter;
    bool fits = named || wanted.all || f.is_storage();
    if (filter == "nvme") {
      fits = is_nvme(f.class_code);
    } else if (filter == "virtio") {
      fits = is_virtio(f.vendor, f.device);
    } else if (!filter.empty()) {
      fits = fmt::format("{:06x}", f.class_code).starts_with(filter);
    }
    if (fits) found.push_back(std::move(f));
  }
  return found;
}

}  // namespace example::binding
