// SPDX-License-Identifier: BSL-1.0
// Claims a PCI function through its files in /sys; errors name the driver or process that prevents
// it.
#pragma once

#include <phasebit/backend/mmio_linux/pci_resources.hpp>
#include <phasebit/backend/mmio_linux/system_paths.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/posix/config_file.hpp>
#include <phasebit/posix/pci_sysfs.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

namespace phasebit::backend::mmio_linux {

// Drivers that leave their function to user space.
[[nodiscard]] constexpr bool leaves_to_user_space(std::string_view driver) noexcept {
  return driver.empty() || driver == "uio_pci_generic" || driver == "igb_uio" ||
         driver == "pci-stub";
}

// Whether the function's DMA uses physical addresses. Errors: not_supported, where an IOMMU
// translates them, or the kernel does not report it.
[[nodiscard]] inline result<> sees_physical_addresses(pcie::function_address function,
                                                      const system_paths& paths = {}) {
  const std::string group = posix::pci_path(function, paths.sys) + "/iommu_group";
  if (!posix::exists(group)) return {};  // no IOMMU, or it is off
  const std::string type = posix::read_line(group + "/type");
  if (type == "identity") return {};
  return failure(errc::not_supported,
                 "the IOMMU translates the addresses of this function, so that physical ones lead "
                 "nowhere: boot with iommu=pt, or unbind the function and write identity to its "
                 "iommu_group/type in /sys, or use vfio")
      .of(posix::name_of(function) + " (IOMMU group of type " + (type.empty() ? "?" : type) + ")");
}

// The function's configuration space, locked against another process that uses this backend too. Ends
// with what it began with: the command register, and whether the kernel has the function enabled.
class held_function {
 public:
  held_function(held_function&& other) noexcept
      : address_(other.address_),
        paths_(std::move(other.paths_)),
        file_(std::move(other.file_)),
        config_bytes_(other.config_bytes_),
        bars_(other.bars_),
        before_(other.before_),
        forced_(other.forced_),
        enabled_(std::exchange(other.enabled_, false)) {}
  held_function& operator=(held_function&&) = delete;
  ~held_function() { let_go(); }

  // `forced`: also where a driver of the kernel's uses the function. Errors: not_found, busy (a driver
  // has it, or another process), permission, protocol, removed, not_ready, io.
  [[nodiscard]] static result<held_function> take(pcie::function_address address, bool forced,
                                                  const system_paths& paths) {
    const std::string name = posix::name_of(address);
    const std::string path = posix::pci_path(address, paths.sys);
    if (!posix::exists(path)) {
      return failure(errc::not_found, "there is no such PCI function").of(name);
    }
    const std::string driver = posix::pci_driver(address, paths.sys);
    if (!forced && !leaves_to_user_space(driver)) {
      return failure(errc::busy,
                     "a driver of the kernel's uses the function: unbind it by writing its address "
                     "to driver/unbind in its folder of /sys (examples/bind does it)")
          .of(name + " (" + driver + ")");
    }
    held_function made{address, paths};
    made.forced_ = forced;
    const std::string config = path + "/config";
    auto file = posix::open_file(config.c_str(), O_RDWR);
    if (!file) return explain(file.error(), paths, config);
    if (::flock(file->get(), LOCK_EX | LOCK_NB) != 0) {
      return failure(errc::busy, "another process uses the function").of(name);
    }
    struct ::stat about {};
    if (::fstat(file->get(), &about) != 0) return posix::os_error("its size is unknown").of(config);
    made.config_bytes_ = about.st_size >= ::off_t{pcie::extended_config_bytes}
                             ? pcie::extended_config_bytes
                             : pcie::conventional_config_bytes;
    made.file_ = std::move(*file);
    const auto bars = read_resources(address, paths);
    if (!bars) return bars.error();
    made.bars_ = *bars;
    if (const auto on = made.enable(driver); !on) return on.error();
    if (const auto there = made.start(); !there) return there.error();
    return made;
  }

  // Enables memory space and bus mastering, and verifies both.
  [[nodiscard]] result<> start() noexcept {
    auto space = config();
    if (pcie::is_removed(space)) {
      return failure(errc::removed,
                     "the function does not answer: it was pulled out, or has no power")
          .of(posix::name_of(address_));
    }
    pcie::set_command(space, pcie::read_command(space)
                                 .with(pcie::command_register::memory_space, true)
                                 .with(pcie::command_register::bus_master, true));
    const auto now = pcie::read_command(space);
    if (now[pcie::command_register::memory_space]) return {};
    if (is_locked_down(paths_)) {
      return explain(failure(errc::permission, ""), paths_, posix::name_of(address_));
    }
    return failure(errc::not_ready, "the function's memory space cannot be switched on")
        .of(posix::name_of(address_));
  }

  [[nodiscard]] pcie::function_address address() const noexcept { return address_; }
  [[nodiscard]] const system_paths& paths() const noexcept { return paths_; }
  [[nodiscard]] const pcie::bar_array& bars() const noexcept { return bars_; }
  [[nodiscard]] posix::config_file config() const noexcept {
    return {file_.get(), 0, config_bytes_};
  }

 private:
  held_function(pcie::function_address address, system_paths paths)
      : address_(address), paths_(std::move(paths)) {}

  // Powers the function up and gives its BARs to it, where no driver has: a driver does that itself.
  [[nodiscard]] result<> enable(const std::string& driver) {
    auto space = config();
    before_ = pcie::read_command(space);
    const std::string path = posix::pci_path(address_, paths_.sys) + "/enable";
    if (!driver.empty() || posix::read_line(path) != "0") return {};
    if (const auto on = posix::write_text(path, "1", "the kernel does not enable it"); !on) {
      return explain(on.error(), paths_, path);
    }
    enabled_ = true;
    return {};
  }
  // No DMA after this: its target memory is about to be released. Bus mastering that
  // was on before, a program's that ended badly, is not switched on again.
  void let_go() noexcept {
    if (!file_) return;
    auto space = config();
    if (!pcie::is_removed(space)) {
      pcie::set_command(
          space, forced_ ? before_ : before_.with(pcie::command_register::bus_master, false));
    }
    if (enabled_) (void)posix::write_text(posix::pci_path(address_, paths_.sys) + "/enable", "0");
  }

  pcie::function_address address_;
  system_paths paths_;
  posix::unique_fd file_;
  std::uint32_t config_bytes_ = 0;
  pcie::bar_array bars_{};
  pcie::command_register before_{};
  bool forced_ = false;
  bool enabled_ = false;
};

}  // namespace phasebit::backend::mmio_linux
