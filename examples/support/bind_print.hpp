// SPDX-License-Identifier: BSL-1.0
// The output of `bind`: a few lines for each function, or JSON for programs.
#pragma once

#include "support/bind_functions.hpp"
#include "support/bind_plan.hpp"
#include "support/units.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace example::binding {

using json = nlohmann::ordered_json;

namespace detail {

inline void print_line(std::string_view name, const std::string& text) {
  fmt::print("    {:<12} {}\n", name, text);
}

[[nodiscard]] inline std::string driver_text(const pci_function& f) {
  std::string text = f.driver.empty() ? "none" : f.driver;
  if (!f.driver_override.empty()) text += " (driver_override " + f.driver_override + ")";
  return text;
}

[[nodiscard]] inline std::string group_text(const pci_function& f) {
  if (!f.group) return "off, or not for this function";
  std::string text = "group " + f.group->number;
  if (!f.group->type.empty()) text += ", " + f.group->type;
  const char* before = ", with ";
  for (const auto& [address, driver] : f.group->others) {
    text += fmt::format("{}{} ({})", before, address, or_none(driver));
    before = ", ";
  }
  return text;
}

[[nodiscard]] inline std::string sr_iov_text(const sr_iov& s) {
  if (s.physical_function.empty()) {
    return fmt::format("{} of {} virtual functions on", s.on, s.total);
  }
  return fmt::format("virtual function {}of {}", s.index ? fmt::format("{} ", *s.index) : "",
                     s.physical_function);
}

[[nodiscard]] inline std::string disk_text(const block_device& d) {
  std::string text = size_text(d.bytes);
  for (const auto& place : d.mounts) text += ", mounted on " + place;
  for (const auto& holder : d.holders) text += ", part of " + holder;
  if (d.swap) text += ", swap space";
  return text;
}

}  // namespace detail

inline void print(const pci_function& f) {
  using detail::print_line;
  fmt::print("{} [{:04x}:{:04x}] {}\n", f.address, f.vendor, f.device, f.kind());
  print_line("driver", detail::driver_text(f));
  print_line("IOMMU", detail::group_text(f));
  if (f.numa_node) print_line("NUMA node", std::to_string(*f.numa_node));
  const sr_iov& s = f.virtual_functions;
  if (s.total != 0 || !s.physical_function.empty()) print_line("SR-IOV", detail::sr_iov_text(s));
  for (const auto& d : f.disks) print_line((d.part ? "  " : "") + d.name, detail::disk_text(d));
  for (const auto& i : f.interfaces) print_line(i.name, i.up ? "up" : "down");
  for (const auto& o : f.open) {
    print_line("open", fmt::format("{} in process {} ({})", o.path, o.pid, o.program));
  }
}

[[nodiscard]] inline json json_of(const pci_function& f) {
  const auto or_null = [](const std::string& text) { return text.empty() ? json{} : json(text); };
  json out = {{"address", f.address},
              {"vendor", fmt::format("{:04x}", f.vendor)},
              {"device", fmt::format("{:04x}", f.device)},
              {"class", fmt::format("{:06x}", f.class_code)},
              {"kind", f.kind()},
              {"driver", or_null(f.driver)},
              {"driver_override", or_null(f.driver_override)},
              {"iommu_group", nullptr},
              {"numa_node", nullptr},
              {"sriov", nullptr},
              {"disks", json::array()},
              {"interfaces", json::array()},
              {"in_use", f.in_use()}};
  if (f.group) {
    json others = json::array();
    for (const auto& [address, driver] : f.group->others) {
      others.push_back({{"address", address}, {"driver", or_null(driver)}});
    }
    out["iommu_group"] = {
        {"number", f.group->number}, {"type", or_null(f.group->type)}, {"others", others}};
  }
  if (f.numa_node) out["numa_node"] = *f.numa_node;
  const sr_iov& s = f.virtual_functions;
  if (!s.physical_function.empty()) {
    out["sriov"] = {{"physical_function", s.physical_function}, {"index", nullptr}};
    if (s.index) out["sriov"]["index"] = *s.index;
  } else if (s.total != 0) {
    out["sriov"] = {{"on", s.on}, {"total", s.total}};
  }
  for (const auto& d : f.disks) {
    out["disks"].push_back({{"name", d.name},
                            {"bytes", d.bytes},
                            {"part", d.part},
                            {"mounts", d.mounts},
                            {"holders", d.holders},
                            {"swap", d.swap}});
  }
  for (const auto& i : f.interfaces) out["interfaces"].push_back({{"name", i.name}, {"up", i.up}});
  return out;
}

[[nodiscard]] inline json json_of(const change& c, bool done, const std::string& driver_now) {
  json writes = json::array();
  for (const auto& step : c.steps) writes.push_back({{"path", step.path}, {"text", step.text}});
  return {{"address", c.function.address},
          {"target", c.target},
          {"driver_before", c.function.driver.empty() ? json{} : json(c.function.driver)},
          {"driver", driver_now.empty() ? json{} : json(driver_now)},
          {"modprobe", c.missing_module.empty() ? json{} : json(c.missing_module)},
          {"writes", writes},
          {"done", done},
          {"notes", c.notes}};
}

// The commands by which a shell does the same.
inline void print_plan(const change& c) {
  if (c.steps.empty()) {
    fmt::print("{}: is with {} already\n", c.function.address, or_none(c.function.driver));
    return;
  }
  fmt::print("{}: from {} to {}\n", c.function.address, or_none(c.function.driver),
             c.target == "kernel" ? "the kernel's own driver"
             : c.target == "none" ? "no driver"
                                  : c.target);
  if (!c.missing_module.empty()) fmt::print("  modprobe {}\n", c.missing_module);
  for (const auto& step : c.steps) fmt::print("  {}\n", step.as_command());
  for (const auto& note : c.notes) fmt::print("  note: {}\n", note);
}

}  // namespace example::binding
