// SPDX-License-Identifier: BSL-1.0
// Enables and disables virtual functions through the Linux driver of the physical function.
#pragma once

#include <phasebit/backend/vfio/iommu_group.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace phasebit::backend::vfio {

// A physical function that stays with its own Linux driver (nvme, or vfio-pci with enable_sriov=1),
// seen through /sys. Needs root for every change. A value; holds nothing open.
class physical_function {
 public:
  // Errors: not_found, not_supported (the function has no SR-IOV capability).
  [[nodiscard]] static result<physical_function> find(pcie::function_address address) {
    const std::string path = posix::pci_path(address);
    if (!posix::exists(path)) {
      return failure(errc::not_found, "there is no such PCI function").of(posix::name_of(address));
    }
    if (!posix::exists(path + "/sriov_totalvfs")) {
      return failure(errc::not_supported, "the function has no virtual functions (SR-IOV)")
          .of(posix::name_of(address));
    }
    return physical_function{address};
  }

  [[nodiscard]] pcie::function_address address() const noexcept { return address_; }
  [[nodiscard]] std::uint16_t total_virtual_functions() const noexcept {
    return posix::read_number<std::uint16_t>(posix::pci_path(address_) + "/sriov_totalvfs")
        .value_or(0);
  }
  [[nodiscard]] std::uint16_t virtual_functions() const noexcept {
    return posix::read_number<std::uint16_t>(posix::pci_path(address_) + "/sriov_numvfs")
        .value_or(0);
  }
  // Disables the present virtual functions before it enables another number, as the kernel requires. With
  // `probe` false no driver binds to them. Errors: out_of_range (value: how many the function has),
  // not_supported (its driver has no SR-IOV support), permission, busy.
  [[nodiscard]] result<> set_virtual_functions(std::uint16_t count, bool probe) noexcept {
    if (count > total_virtual_functions()) {
      return failure(errc::out_of_range, "the function has not so many virtual functions, but",
                     total_virtual_functions())
          .of(posix::name_of(address_));
    }
    const std::string path = posix::pci_path(address_);
    if (virtual_functions() == count) return {};
    if (const auto done = write(path + "/sriov_drivers_autoprobe", probe ? "1" : "0"); !done) {
      return done;
    }
    if (virtual_functions() != 0) {
      if (const auto done = write(path + "/sriov_numvfs", "0"); !done) return done;
    }
    if (count == 0) return {};
    const auto done = write(path + "/sriov_numvfs", std::to_string(count));
    if (!done && done.error().code == errc::not_found) {
      return failure(errc::not_supported, "the function's driver switches no virtual functions on")
          .of(posix::name_of(address_) + " (" + posix::pci_driver(address_) + ")");
    }
    return done;
  }
  [[nodiscard]] result<> set_virtual_functions(std::uint16_t count) noexcept {
    return set_virtual_functions(count, false);
  }

  // The addresses of the enabled virtual functions, in order.
  [[nodiscard]] std::vector<pcie::function_address> addresses() const {
    std::vector<pcie::function_address> found;
    for (std::uint16_t i = 0; i != virtual_functions(); ++i) {
      const std::string name =
          posix::link_name(posix::pci_path(address_) + "/virtfn" + std::to_string(i));
      if (const auto address = pcie::parse_function_address(name)) found.push_back(*address);
    }
    return found;
  }

 private:
  explicit physical_function(pcie::function_address address) noexcept : address_(address) {}

  [[nodiscard]] static result<> write(const std::string& path, std::string_view text) noexcept {
    return posix::write_text(path, text,
                             "the kernel does not take this number of virtual functions");
  }

  pcie::function_address address_;
};
static_assert(SriovCapable<physical_function>);

}  // namespace phasebit::backend::vfio
