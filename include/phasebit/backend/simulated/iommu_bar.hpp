// SPDX-License-Identifier: BSL-1.0
// An IOMMU's registers as its driver reaches them: a part of the machine outside of the bus.
#pragma once

#include <phasebit/backend/simulated/detail/bus_node.hpp>
#include <phasebit/backend/simulated/detail/ticket_lock.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>
#include <mutex>

namespace phasebit::backend::simulated {

// One register as a doorbell: a call, not a store.
template <class Device>
class iommu_doorbell {
 public:
  iommu_doorbell() noexcept = default;

  void ring(std::uint32_t value) noexcept {
    const std::lock_guard guard{*lock_};
    device_->write32(offset_, value);
  }

 private:
  friend struct detail::factory;
  iommu_doorbell(detail::ticket_lock& lock, Device& device, std::uint32_t offset) noexcept
      : lock_(&lock), device_(&device), offset_(offset) {}

  detail::ticket_lock* lock_ = nullptr;
  Device* device_ = nullptr;
  std::uint32_t offset_ = 0;
};

// A view; the device (read32, write32, register_bytes) outlives it. Any thread: each access takes the
// device's lock, so that the device sees what a driver wrote to memory before.
template <class Device>
class iommu_bar {
 public:
  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    check(offset, 4);
    const std::lock_guard guard{*lock_};
    return device_->read32(offset);
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    check(offset, 8);
    const std::lock_guard guard{*lock_};
    const std::uint64_t low = device_->read32(offset);
    return low | std::uint64_t{device_->read32(offset + 4)} << 32;
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    check(offset, 4);
    const std::lock_guard guard{*lock_};
    device_->write32(offset, value);
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    check(offset, 8);
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return Device::register_bytes; }
  [[nodiscard]] iommu_doorbell<Device> doorbell(std::uint32_t offset) noexcept {
    check(offset, 4);
    return detail::factory::make<iommu_doorbell<Device>>(*lock_, *device_, offset);
  }

 private:
  friend struct detail::factory;
  iommu_bar(detail::ticket_lock& lock, Device& device) noexcept : lock_(&lock), device_(&device) {}

  static void check(std::uint32_t offset, std::uint32_t width) noexcept {
    PHASEBIT_EXPECTS(offset % width == 0, "a register is accessed at its own alignment");
    PHASEBIT_EXPECTS(offset <= Device::register_bytes - width, "a register beyond the IOMMU's");
  }

  detail::ticket_lock* lock_;
  Device* device_;
};

}  // namespace phasebit::backend::simulated
