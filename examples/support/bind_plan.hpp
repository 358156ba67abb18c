// SPDX-License-Identifier: BSL-1.0
// How a function comes from one driver to another: the writes to /sys, made one by one, and taken back
// where they lead nowhere.
#pragma once

#include "support/bind_functions.hpp"

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace example::binding {

struct write_step {
  std::string path;
  std::string text;  // empty: an empty line

  [[nodiscard]] std::string as_command() const {
    return text.empty() ? "echo > " + path : "echo " + text + " > " + path;
  }
};

// The steps that bring one function to its new driver. No steps: it is bound already.
struct change {
  pci_function function{};
  std::string target{};
  std::vector<write_step> steps{};
  std::vector<std::string> notes{};  // warnings to read before it is done
  std::string missing_module{};
  bool leaves = false;  // the driver that it has now
};

// The drivers that leave a function to user space. All others are the kernel's own.
[[nodiscard]] inline bool is_user_space_driver(std::string_view name) {
  for (const std::string_view known :
       {"vfio-pci", "uio_pci_generic", "igb_uio", "pci-stub", "pci_stub"}) {
    if (name == known) return true;
  }
  return name.starts_with("vfio");
}

[[nodiscard]] inline std::string or_none(const std::string& driver) {
  return driver.empty() ? "no driver" : driver;
}

namespace detail {

[[nodiscard]] inline bool reached(const std::string& target, const std::string& driver) {
  if (target == "none") return driver.empty();
  if (target == "kernel") return !driver.empty() && !is_user_space_driver(driver);
  return driver == target;
}

// Throws for obstacles that the user cannot override; notes the others.
inline void look_ahead(const roots& where, change& c) {
  const pci_function& f = c.function;
  const bool bridge = f.class_code >> 8 == 0x0604;
  if (c.target == "kernel" || c.target == "none") return;
  if (bridge) {
    throw complaint(fmt::format("{}: is a bridge; {} takes none", f.address, c.target));
  }
  if (!exists(where.driver(c.target))) c.missing_module = c.target;
  if (c.target == "vfio-pci") {
    const std::string unsafe = where.sysfs + "/module/vfio/parameters/enable_unsafe_noiommu_mode";
    if (!f.group && read_line(unsafe) != "Y") {
      throw complaint(fmt::format(
          "{}: has no IOMMU group, without which vfio-pci does not take it: switch the IOMMU on in "
          "the firmware and with intel_iommu=on or iommu.passthrough=0 on the kernel's command "
          "line",
          f.address));
    }
    if (!f.group) return;
    std::string others;
    for (const auto& [address, driver] : f.group->others) {
      if (driver.empty() || driver == "vfio-pci" || driver == "pcieport") continue;
      others += fmt::format("{}{} ({})", others.empty() ? "" : ", ", address, driver);
    }
    if (!others.empty()) {
      c.notes.push_back(fmt::format("vfio gives out whole IOMMU groups, and group {} has also {}",
                                    f.group->number, others));
    }
  } else if (f.group && f.group->translates()) {
    c.notes.push_back(
        fmt::format("IOMMU group {} is of type {}: without vfio the function's DMA will be stopped "
                    "(lets it pass: iommu=pt on the kernel's command line, or identity written to "
                    "iommu_group/type while no driver has the function)",
                    f.group->number, f.group->type));
  }
}

}  // namespace detail

// To vfio-pci, uio_pci_generic, "kernel" (the driver that lists the function's ids) or "none".
[[nodiscard]] inline change plan_change(const roots& where, pci_function function,
                                        const std::string& target) {
  change c{.function = std::move(function), .target = target};
  const pci_function& f = c.function;
  const std::string wanted = target == "kernel" || target == "none" ? std::string{} : target;
  const bool there = detail::reached(target, f.driver);
  if (!there) detail::look_ahead(where, c);
  if (f.driver_override != wanted && (!there || wanted.empty())) {
    c.steps.push_back({where.device(f.address) + "/driver_override", wanted});
  }
  if (there) return c;
  c.leaves = !f.driver.empty();
  if (c.leaves) c.steps.push_back({where.driver(f.driver) + "/unbind", f.address});
  if (target != "none") c.steps.push_back({where.pci() + "/drivers_probe", f.address});
  return c;
}

// Makes changes one after the other. Each is looked at when it is done, and the first that fails takes
// those before it back.
class transaction {
 public:
  explicit transaction(const roots& where) : where_(where) {}

  void make(const change& c) {
    begun_.push_back(&c);
    for (const auto& step : c.steps) {
      if (const auto why = write_line(step.path, step.text)) {
        const bool probing = step.path.ends_with("/drivers_probe");
        fail(probing ? not_reached(c, *why)
                     : fmt::format("{}: cannot be written: {}", step.path, *why));
      }
      if (step.path.ends_with("/unbind") && !comes_true([&] { return driver(c).empty(); })) {
        fail(fmt::format("{}: {} does not let go of it", c.function.address, c.function.driver));
      }
    }
    if (!comes_true([&] { return detail::reached(c.target, driver(c)); })) {
      fail(not_reached(c, {}));
    }
  }

  // The driver that has the function now.
  [[nodiscard]] std::string driver(const change& c) const {
    return detail::driver_at(where_, c.function.address);
  }

 private:
  // `why` is what the kernel answered, where it answered.
  [[nodiscard]] std::string not_reached(const change& c, const std::string& why) const {
    const std::string now = driver(c);
    const std::string& whose = c.function.address;
    if (c.target != "kernel") {
      if (!now.empty()) return fmt::format("{}: {} took it in place of {}", whose, now, c.target);
      return fmt::format("{}: {} did not take it: {}", whose, c.target,
                         why.empty() ? "see dmesg" : why);
    }
    if (!now.empty()) {
      return fmt::format(
          "{}: {} took it again: its ids are in the driver's table, see {}/remove_id", whose, now,
          where_.driver(now));
    }
    return fmt::format(
        "{}: no driver of the kernel took it: {}", whose,
        why.empty() ? "modprobe " + read_line(where_.device(whose) + "/modalias") : why);
  }

  [[noreturn]] void fail(std::string sentence) {
    for (auto i = begun_.rbegin(); i != begun_.rend(); ++i) sentence += put_back(**i);
    throw complaint(sentence);
  }

  // By bind, and not by drivers_probe: the former driver gets it, whichever else would like it.
  [[nodiscard]] std::string put_back(const change& c) {
    const pci_function& f = c.function;
    const std::string override_path = where_.device(f.address) + "/driver_override";
    const std::string now = driver(c);
    std::optional<std::string> why;
    const auto write = [&](const std::string& path, const std::string& text) {
      if (!why) {
        if (const auto said = write_line(path, text)) why = path + ": " + *said;
      }
    };
    if (now != f.driver) {
      if (!now.empty()) write(where_.driver(now) + "/unbind", f.address);
      if (!f.driver.empty()) {
        write(override_path, f.driver);
        write(where_.driver(f.driver) + "/bind", f.address);
      }
    }
    const bool back = !why && comes_true([&] { return driver(c) == f.driver; });
    if (detail::override_at(where_, f.address) != f.driver_override) {
      write(override_path, f.driver_override);
    }
    if (back && !why) return fmt::format("; {} is back with {}", f.address, or_none(f.driver));
    return fmt::format("; {} had {} and is now with {}{}", f.address, or_none(f.driver),
                       or_none(driver(c)), why ? " (" + *why + ")" : "");
  }

  roots where_;
  std::vector<const change*> begun_;
};

}  // namespace example::binding
