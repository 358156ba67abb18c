// SPDX-License-Identifier: BSL-1.0
// An IOMMU's registers as its driver reaches them: a part of the machine outside of the bus.
#pragma once

#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

namespace phasebit::backend::simulated {

// One register as a doorbell: a call, not a store.
template <class Device>
class iommu_doorbell {
 public:
  iommu_doorbell() noexcept = default;
  iommu_doorbell(fabric& machine, Device& device, std::uint32_t offset) noexcept
      : fabric_(&machine), device_(&device), offset_(offset) {}

  void ring(std::uint32_t value) noexcept {
    fabric_->with_devices_held([&]() noexcept { device_->write32(offset_, value); });
  }

 private:
  fabric* fabric_ = nullptr;
  Device* device_ = nullptr;
  std::uint32_t offset_ = 0;
};

// A view; the device (read32, write32, register_bytes) and the fabric outlive it. Any thread. What a
// driver wrote to memory before it writes a register is visible to the device: the write takes a
// lock, or is the same thread's.
template <class Device>
class iommu_bar {
 public:
  iommu_bar(fabric& machine, Device& device) noexcept : fabric_(&machine), device_(&device) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    check(offset, 4);
    return fabric_->with_devices_held([&]() noexcept { return device_->read32(offset); });
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    check(offset, 8);
    return fabric_->with_devices_held([&]() noexcept {
      const std::uint64_t low = device_->read32(offset);
      return low | std::uint64_t{device_->read32(offset + 4)} << 32;
    });
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    check(offset, 4);
    fabric_->with_devices_held([&]() noexcept { device_->write32(offset, value); });
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    check(offset, 8);
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return Device::register_bytes; }
  [[nodiscard]] iommu_doorbell<Device> doorbell(std::uint32_t offset) noexcept {
    check(offset, 4);
    return {*fabric_, *device_, offset};
  }

 private:
  static void check(std::uint32_t offset, std::uint32_t width) noexcept {
    PHASEBIT_EXPECTS(offset % width == 0, "a register is accessed at its own alignment");
    PHASEBIT_EXPECTS(offset <= Device::register_bytes - width, "a register beyond the IOMMU's");
  }

  fabric* fabric_;
  Device* device_;
};

}  // namespace phasebit::backend::simulated
