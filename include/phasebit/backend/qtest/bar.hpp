// SPDX-License-Identifier: BSL-1.0
// Registers of a device model inside QEMU: each access is a line on the qtest connection.
#pragma once

#include <phasebit/backend/qtest/connection.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/ecam.hpp>

#include <cstdint>

namespace phasebit::backend::qtest {

// Earlier stores to the shared memory are done before the line is sent.
class doorbell {
 public:
  doorbell() noexcept = default;
  doorbell(connection& qemu, std::uint64_t at) noexcept : qemu_(&qemu), at_(at) {}

  void ring(std::uint32_t value) noexcept {
    before_mmio_write();
    qemu_->write(bus_space_kind::memory, at_, 4, value);
  }

 private:
  connection* qemu_ = nullptr;
  std::uint64_t at_ = 0;
};
static_assert(DoorbellSink<doorbell>);

// A range of QEMU's memory or port space: a BAR, or a configuration window. Owns nothing; any number
// of threads. The accesses have the widths they are asked in, except that 64 bits of port space are
// two times 32.
class bar {
 public:
  bar() noexcept = default;
  bar(connection& qemu, bus_space_kind space, std::uint64_t base, std::uint64_t size) noexcept
      : qemu_(&qemu), space_(space), base_(base), size_(size) {}

  [[nodiscard]] std::uint8_t read8(std::uint32_t offset) noexcept {
    return static_cast<std::uint8_t>(read(offset, 1));
  }
  [[nodiscard]] std::uint16_t read16(std::uint32_t offset) noexcept {
    return static_cast<std::uint16_t>(read(offset, 2));
  }
  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    return static_cast<std::uint32_t>(read(offset, 4));
  }
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    if (space_ == bus_space_kind::memory) return read(offset, 8);
    const std::uint64_t low = read32(offset);
    return low | std::uint64_t{read32(offset + 4)} << 32;
  }
  void write8(std::uint32_t offset, std::uint8_t value) noexcept { write(offset, 1, value); }
  void write16(std::uint32_t offset, std::uint16_t value) noexcept { write(offset, 2, value); }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept { write(offset, 4, value); }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_; }
  // Memory space only.
  [[nodiscard]] qtest::doorbell doorbell(std::uint32_t offset) noexcept {
    PHASEBIT_EXPECTS(space_ == bus_space_kind::memory, "a doorbell lies in a memory BAR");
    return qtest::doorbell{*qemu_, place(offset, 4)};
  }

 private:
  [[nodiscard]] std::uint64_t read(std::uint32_t offset, unsigned bytes) noexcept {
    const std::uint64_t value = qemu_->read(space_, place(offset, bytes), bytes);
    after_mmio_read();
    return value;
  }
  void write(std::uint32_t offset, unsigned bytes, std::uint64_t value) noexcept {
    before_mmio_write();
    qemu_->write(space_, place(offset, bytes), bytes, value);
  }
  [[nodiscard]] std::uint64_t place(std::uint32_t offset, unsigned bytes) const noexcept {
    PHASEBIT_EXPECTS(offset % bytes == 0, "a register is accessed at its own alignment");
    PHASEBIT_EXPECTS(bytes <= size_ && offset <= size_ - bytes, "a register beyond the BAR");
    return base_ + offset;
  }

  connection* qemu_ = nullptr;
  bus_space_kind space_ = bus_space_kind::memory;
  std::uint64_t base_ = 0;
  std::uint64_t size_ = 0;
};
static_assert(Mmio<bar>);
static_assert(pcie::ConfigWindow<bar>);

}  // namespace phasebit::backend::qtest
