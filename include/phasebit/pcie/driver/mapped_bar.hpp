// SPDX-License-Identifier: BSL-1.0
// Registers that are mapped into this address space: vfio, uio, sysfs resources, bare metal. A
// doorbell is one store, after the barrier that its architecture needs.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::pcie {

// One 32-bit register. Earlier loads and stores of memory are done before the device sees it.
class mmio_doorbell {
 public:
  mmio_doorbell() noexcept = default;
  explicit mmio_doorbell(std::byte* reg) noexcept : register_(reg) {}

  void ring(std::uint32_t value) noexcept {
    before_mmio_write();
    mmio_store<std::uint32_t>(register_, le<std::uint32_t>::to_wire(value));
  }

 private:
  std::byte* register_ = nullptr;
};
static_assert(DoorbellSink<mmio_doorbell>);

// A view of mapped registers; owns nothing. Any number of threads, each register one at a time.
class mapped_bar {
 public:
  mapped_bar() noexcept = default;
  explicit mapped_bar(std::span<std::byte> mapping) noexcept : mapping_(mapping) {}

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    const auto bits = mmio_load<std::uint32_t>(at(offset, 4));
    after_mmio_read();
    return le<std::uint32_t>::from_wire(bits);
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    before_mmio_write();
    mmio_store<std::uint32_t>(at(offset, 4), le<std::uint32_t>::to_wire(value));
  }
  // One 64-bit load where the machine has one, else two of 32 bits, low half first.
  [[nodiscard]] std::uint64_t read64(std::uint32_t offset) noexcept {
    if constexpr (sizeof(void*) >= 8) {
      const auto bits = mmio_load<std::uint64_t>(at(offset, 8));
      after_mmio_read();
      return le<std::uint64_t>::from_wire(bits);
    } else {
      PHASEBIT_EXPECTS(offset % 8 == 0, "a register is accessed at its own alignment");
      const std::uint64_t low = read32(offset);
      return low | std::uint64_t{read32(offset + 4)} << 32;
    }
  }
  // One 64-bit store where the machine has one, else two of 32 bits, low half first. For devices that
  // take a whole register: a bus in between may still split it.
  void write64(std::uint32_t offset, std::uint64_t value) noexcept {
    if constexpr (sizeof(void*) >= 8) {
      before_mmio_write();
      mmio_store<std::uint64_t>(at(offset, 8), le<std::uint64_t>::to_wire(value));
    } else {
      PHASEBIT_EXPECTS(offset % 8 == 0, "a register is accessed at its own alignment");
      write64_lo_hi(offset, value);
    }
  }
  void write64_lo_hi(std::uint32_t offset, std::uint64_t value) noexcept {
    write32(offset, static_cast<std::uint32_t>(value));
    write32(offset + 4, static_cast<std::uint32_t>(value >> 32));
  }
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return mapping_.size(); }
  [[nodiscard]] mmio_doorbell doorbell(std::uint32_t offset) noexcept {
    return mmio_doorbell{at(offset, 4)};
  }

 private:
  [[nodiscard]] std::byte* at(std::uint32_t offset, std::uint32_t width) const noexcept {
    PHASEBIT_EXPECTS(offset % width == 0, "a register is accessed at its own alignment");
    PHASEBIT_EXPECTS(width <= mapping_.size() && offset <= mapping_.size() - width,
                     "a register beyond the mapped BAR");
    return mapping_.data() + offset;
  }
  std::span<std::byte> mapping_;
};
static_assert(Mmio<mapped_bar>);

}  // namespace phasebit::pcie
