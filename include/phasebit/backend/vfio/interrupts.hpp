// SPDX-License-Identifier: BSL-1.0
// Interrupts of a vfio device as eventfds.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace phasebit::backend::vfio {

// The eventfds of one of a device's interrupt kinds (MSI-X, the request to release it ...). Set-up
// by one thread; poll() and wait() by one thread per vector. Move-only.
class event_set {
 public:
  event_set() noexcept = default;

  // How many vectors the device has of the kind `index` (VFIO_PCI_MSIX_IRQ_INDEX ...).
  [[nodiscard]] static unsigned count_of(int device, unsigned index) noexcept {
    ::vfio_irq_info info{};
    info.argsz = sizeof info;
    info.index = index;
    return ::ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info) == 0 ? info.count : 0;
  }

  // Errors: out_of_range (more than the device has), exhausted (descriptors), io.
  [[nodiscard]] static result<event_set> enable(int device, unsigned index, unsigned count) {
    if (count == 0 || count > count_of(device, index)) {
      return failure(errc::out_of_range, "the function has another number of vectors",
                     count_of(device, index));
    }
    event_set made;
    std::vector<std::byte> request(sizeof(::vfio_irq_set) + count * sizeof(std::int32_t));
    ::vfio_irq_set header{};
    header.argsz = static_cast<std::uint32_t>(request.size());
    header.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    header.index = index;
    header.start = 0;
    header.count = count;
    std::memcpy(request.data(), &header, sizeof header);
    for (unsigned v = 0; v != count; ++v) {
      posix::unique_fd fd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
      if (!fd) return posix::os_error("an eventfd cannot be made");
      const std::int32_t number = fd.get();
      std::memcpy(request.data() + sizeof header + v * sizeof number, &number, sizeof number);
      made.events_.push_back(std::move(fd));
    }
    if (::ioctl(device, VFIO_DEVICE_SET_IRQS, request.data()) != 0) {
      return posix::os_error("the interrupts cannot be enabled");
    }
    made.device_ = device;
    made.index_ = index;
    return made;
  }

  // No event arrives afterwards. Does nothing if none is enabled.
  [[nodiscard]] result<> disable() noexcept {
    if (events_.empty()) return {};
    ::vfio_irq_set request{};
    request.argsz = sizeof request;
    request.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    request.index = index_;
    const int failed = ::ioctl(device_, VFIO_DEVICE_SET_IRQS, &request);
    events_.clear();
    if (failed != 0) return posix::os_error("the interrupts cannot be disabled");
    return {};
  }

  // Removes and restores the vector's eventfd. The kernel masks the vector in the device meanwhile, and an
  // interrupt raised then is pending until the unmask. (vfio cannot mask MSI-X vectors directly.)
  [[nodiscard]] result<> mask(unsigned vector) noexcept { return attach(vector, -1); }
  [[nodiscard]] result<> unmask(unsigned vector) noexcept {
    return attach(vector, descriptor(vector));
  }

  [[nodiscard]] unsigned count() const noexcept { return static_cast<unsigned>(events_.size()); }
  [[nodiscard]] int descriptor(unsigned vector) const noexcept {
    PHASEBIT_EXPECTS(vector < events_.size(), "the vector was not enabled");
    return events_[vector].get();
  }

  // Consumes pending events; several interrupts since the last call count as one.
  [[nodiscard]] bool poll(unsigned vector) const noexcept {
    std::uint64_t count = 0;
    return ::read(descriptor(vector), &count, sizeof count) == sizeof count && count != 0;
  }
  [[nodiscard]] bool wait(unsigned vector, std::uint64_t nanoseconds) const noexcept {
    if (poll(vector)) return true;
    const auto ready = posix::wait_readable(descriptor(vector), to_milliseconds(nanoseconds));
    return ready && *ready && poll(vector);
  }

 private:
  [[nodiscard]] result<> attach(unsigned vector, std::int32_t fd) noexcept {
    PHASEBIT_EXPECTS(vector < events_.size(), "the vector was not enabled");
    std::array<std::byte, sizeof(::vfio_irq_set) + sizeof fd> request{};
    ::vfio_irq_set header{};
    header.argsz = request.size();
    header.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    header.index = index_;
    header.start = vector;
    header.count = 1;
    std::memcpy(request.data(), &header, sizeof header);
    std::memcpy(request.data() + sizeof header, &fd, sizeof fd);
    if (::ioctl(device_, VFIO_DEVICE_SET_IRQS, request.data()) != 0) {
      return posix::os_error("the interrupt cannot be masked or unmasked").at(vector);
    }
    return {};
  }

  int device_ = -1;
  unsigned index_ = 0;
  std::vector<posix::unique_fd> events_;
};

}  // namespace phasebit::backend::vfio
