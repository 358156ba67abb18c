// SPDX-License-Identifier: BSL-1.0
// Registers of a part of the machine that is no function of a bus: an IOMMU's.
#pragma once

#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

namespace phasebit::backend::simulated {

// One register of it, as a doorbell: a call, not a store.
template <class Unit>
class unit_doorbell {
 public:
  unit_doorbell() noexcept = default;
  unit_doorbell(fabric& machine, Unit& unit, std::uint32_t offset) noexcept
      : fabric_(&machine), unit_(&unit), offset_(offset) {}

  void ring(std::uint32_t value) noexcept {
    fabric_->with_devices_held([&]() noexcept { unit_->write32(offset_, value); });
  }

 private:
  fabric* fabric_ = nullptr;
  Unit* unit_ = nullptr;
  std::uint32_t offset_ = 0;
};

// A view; the unit (read32, write32, register_bytes) and the fabric outlive it. Any thread. What a
// driver has written to memory before it writes a register is seen by the unit: the write takes
// the fabric's lock, or is the same thread's.
template <class Unit>
class unit_bar {
 public:
  unit_bar(fabric& machine, Unit& unit) noexcept : fabric_(&machine), unit_(&unit) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    check(offset, 4);
    return fabric_->with_devices_held([&]() noexcept { return unit_->read32(offset); });
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    check(offset, 8);
    return fabric_->with_devices_held([&]() noexcept {
      const std::uint64_t low = unit_->read32(offset);
      return low | std::uint64_t{unit_->read32(offset + 4)} << 32;
    });
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    check(offset, 4);
    fabric_->with_devices_held([&]() noexcept { unit_->write32(offset, value); });
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    check(offset, 8);
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return Unit::register_bytes; }
  [[nodiscard]] unit_doorbell<Unit> doorbell(std::uint32_t offset) noexcept {
    check(offset, 4);
    return {*fabric_, *unit_, offset};
  }

 private:
  static void check(std::uint32_t offset, std::uint32_t width) noexcept {
    PHASEBIT_EXPECTS(offset % width == 0, "a register is accessed at its own alignment");
    PHASEBIT_EXPECTS(offset <= Unit::register_bytes - width, "a register beyond the unit's");
  }

  fabric* fabric_;
  Unit* unit_;
};

}  // namespace phasebit::backend::simulated
