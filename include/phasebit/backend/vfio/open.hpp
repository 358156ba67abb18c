// SPDX-License-Identifier: BSL-1.0
// Opens a device and its I/O address space by its PCI address, through iommufd or a container.
// Errors name the obstacle and the remaining step.
#pragma once

#include <phasebit/backend/vfio/dma_space.hpp>
#include <phasebit/backend/vfio/iommu_group.hpp>

#include <cstdint>
#include <string>
#include <utility>

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>

namespace phasebit::backend::vfio {

// The kernel's two interfaces to the same hardware.
enum class kernel_interface : std::uint8_t {
  automatic,  // iommufd where the kernel and the device have it, else a container
  container,  // /dev/vfio/<group>: every kernel since 3.6
  iommufd,    // /dev/vfio/devices/vfio<n> and /dev/iommu: Linux 6.6
};

struct opened_device {
  posix::unique_fd group;  // none with iommufd; open as long as the device is used
  unsigned group_number = 0;
  posix::unique_fd device;
  dma_space space;
};

namespace detail {

[[nodiscard]] inline error not_viable(unsigned group) {
  return failure(errc::busy,
                 "the IOMMU group is not viable: these functions are in it and bound to other "
                 "drivers")
      .of(group_conflicts(group));
}

[[nodiscard]] inline result<opened_device> open_container(pcie::function_address function,
                                                          unsigned group) {
  const std::string name = posix::name_of(function);
  opened_device made;
  auto container = posix::open_file("/dev/vfio/vfio", O_RDWR);
  if (!container) {
    if (container.error().code == errc::not_found) {
      return failure(errc::not_supported, "the kernel module vfio is not loaded: modprobe vfio-pci")
          .of("/dev/vfio/vfio");
    }
    return container.error();
  }
  if (::ioctl(container->get(), VFIO_GET_API_VERSION) != VFIO_API_VERSION) {
    return failure(errc::not_supported, "the kernel's vfio has another version");
  }
  const bool v2 = ::ioctl(container->get(), VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) == 1;
  if (!v2 && ::ioctl(container->get(), VFIO_CHECK_EXTENSION, VFIO_TYPE1_IOMMU) != 1) {
    return failure(errc::not_supported,
                   "the kernel's vfio has no type 1 IOMMU: modprobe vfio_iommu_type1");
  }
  const std::string path = "/dev/vfio/" + std::to_string(group);
  auto file = posix::open_file(path.c_str(), O_RDWR);
  if (!file) {
    if (file.error().code == errc::busy) {
      return failure(errc::busy, "another process holds the function's IOMMU group").of(path);
    }
    if (file.error().code == errc::permission) {
      return failure(errc::permission, "no permission for the IOMMU group: chown or a udev rule")
          .of(path);
    }
    return file.error();
  }
  made.group = std::move(*file);
  made.group_number = group;
  ::vfio_group_status status{};
  status.argsz = sizeof status;
  if (::ioctl(made.group.get(), VFIO_GROUP_GET_STATUS, &status) != 0) {
    return posix::os_error("the IOMMU group does not answer").of(path);
  }
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0) {
    return not_viable(group);
  }
  const int container_number = container->get();
  if (::ioctl(made.group.get(), VFIO_GROUP_SET_CONTAINER, &container_number) != 0) {
    return posix::os_error("the IOMMU group cannot be used").of(path);
  }
  if (::ioctl(container->get(), VFIO_SET_IOMMU, v2 ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU) != 0) {
    return posix::os_error("the IOMMU cannot be set").of(path);
  }
  made.device = posix::unique_fd{::ioctl(made.group.get(), VFIO_GROUP_GET_DEVICE_FD, name.c_str())};
  if (!made.device) return posix::os_error("the device cannot be opened").of(name);
  made.space = dma_space::of_container(std::move(*container));
  return made;
}

// The function's character device, or empty.
[[nodiscard]] inline std::string character_device(pcie::function_address function) {
  std::string found;
  posix::for_each_entry(posix::pci_path(function) + "/vfio-dev", [&](std::string_view entry) {
    found = "/dev/vfio/devices/" + std::string{entry};
  });
  return found;
}

// Opens the two files that iommufd needs; the error explains how to get a missing permission.
[[nodiscard]] inline result<posix::unique_fd> open_for_iommufd(const std::string& path) {
  auto file = posix::open_file(path.c_str(), O_RDWR);
  if (!file && file.error().code == errc::permission) {
    return failure(errc::permission, "no permission for this file: chown or a udev rule").of(path);
  }
  return file;
}

[[nodiscard]] inline result<opened_device> open_iommufd(pcie::function_address function,
                                                        unsigned group) {
  const std::string path = character_device(function);
  if (path.empty()) {
    return failure(errc::not_supported,
                   "the kernel has no character device for the function (CONFIG_VFIO_DEVICE_CDEV)")
        .of(posix::name_of(function));
  }
  opened_device made;
  auto device = open_for_iommufd(path);
  if (!device) return device.error();
  auto iommufd = open_for_iommufd("/dev/iommu");
  if (!iommufd) return iommufd.error();
  kernel::bind_iommufd bind{
      .argsz = sizeof(kernel::bind_iommufd), .flags = 0, .iommufd = iommufd->get(), .out_devid = 0};
  if (::ioctl(device->get(), kernel::bind_iommufd_request, &bind) != 0) {
    // EINVAL: opened already; EBUSY: through the group's file; EPERM: other drivers in the group.
    const int why = errno;
    if (why == EINVAL || why == EBUSY) {
      return failure(errc::busy, "another process holds the function").of(path);
    }
    if (why == EPERM) return not_viable(group);
    return posix::os_error("the function cannot be bound to an iommufd", why).of(path);
  }
  kernel::ioas_alloc ioas{.size = sizeof(kernel::ioas_alloc), .flags = 0, .out_ioas_id = 0};
  if (::ioctl(iommufd->get(), kernel::ioas_alloc_request, &ioas) != 0) {
    return posix::os_error("the kernel has no I/O address space left").of(path);
  }
  kernel::attach_iommufd attach{
      .argsz = sizeof(kernel::attach_iommufd), .flags = 0, .pt_id = ioas.out_ioas_id};
  if (::ioctl(device->get(), kernel::attach_iommufd_request, &attach) != 0) {
    return posix::os_error("the function cannot be attached to its address space").of(path);
  }
  made.device = std::move(*device);
  made.space = dma_space::of_iommufd(std::move(*iommufd), ioas.out_ioas_id);
  return made;
}

}  // namespace detail

// Errors: not_found, busy (bound to another driver, held by another process, group not viable),
// not_supported (IOMMU off, modules missing), permission, io.
[[nodiscard]] inline result<opened_device> open_device(pcie::function_address function,
                                                       kernel_interface which) {
  const std::string name = posix::name_of(function);
  if (!posix::exists(posix::pci_path(function))) {
    return failure(errc::not_found, "there is no such PCI function").of(name);
  }
  // Checked first: without an IOMMU the function cannot be bound to vfio-pci either.
  const auto group = iommu_group_of(function);
  if (!group) return group.error();
  const std::string driver = posix::pci_driver(function);
  if (driver != "vfio-pci") {
    return failure(errc::busy,
                   "the function is not bound to vfio-pci: write vfio-pci to its driver_override "
                   "in /sys, unbind it, and write its address to /sys/bus/pci/drivers_probe "
                   "(examples/bind does it)")
        .of(driver.empty() ? name + " (no driver)" : name + " (" + driver + ")");
  }
  const bool has_cdev = posix::exists("/dev/iommu") && !detail::character_device(function).empty();
  if (which == kernel_interface::iommufd || (which == kernel_interface::automatic && has_cdev)) {
    return detail::open_iommufd(function, *group);
  }
  return detail::open_container(function, *group);
}

}  // namespace phasebit::backend::vfio
