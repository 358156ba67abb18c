// SPDX-License-Identifier: BSL-1.0
// Configuration space of the functions inside a QEMU: through the ECAM window, or the two ports of
// PCI Local Bus 3.0, 3.2.2.3.2, where the board has no window.
#pragma once

#include <phasebit/backend/qtest/board.hpp>
#include <phasebit/backend/qtest/connection.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstdint>

namespace phasebit::backend::qtest {

inline constexpr std::uint16_t config_address_port = 0xcf8;
inline constexpr std::uint16_t config_data_port = 0xcfc;

// One function's space. Cheap to copy; any number of threads, each access is whole.
class config_function {
 public:
  config_function(connection& qemu, const board& where, pcie::requester_id id) noexcept
      : qemu_(&qemu),
        window_(where.ecam_base == 0
                    ? 0
                    : where.ecam_base + std::uint64_t{id.raw()} * pcie::extended_config_bytes),
        id_(id) {}

  [[nodiscard]] std::uint8_t read8(std::uint16_t offset) noexcept {
    return static_cast<std::uint8_t>(read(offset, 1));
  }
  [[nodiscard]] std::uint16_t read16(std::uint16_t offset) noexcept {
    return static_cast<std::uint16_t>(read(offset, 2));
  }
  [[nodiscard]] std::uint32_t read32(std::uint16_t offset) noexcept {
    return static_cast<std::uint32_t>(read(offset, 4));
  }
  void write8(std::uint16_t offset, std::uint8_t value) noexcept { write(offset, 1, value); }
  void write16(std::uint16_t offset, std::uint16_t value) noexcept { write(offset, 2, value); }
  void write32(std::uint16_t offset, std::uint32_t value) noexcept { write(offset, 4, value); }

  [[nodiscard]] std::uint32_t size_bytes() const noexcept {
    return window_ != 0 ? pcie::extended_config_bytes : pcie::conventional_config_bytes;
  }

 private:
  [[nodiscard]] std::uint64_t read(std::uint16_t offset, unsigned bytes) noexcept {
    if (offset >= size_bytes()) return ~std::uint64_t{0};
    if (window_ != 0) return qemu_->read(bus_space_kind::memory, window_ + offset, bytes);
    return qemu_->read_indexed(config_address_port, index(offset), data_port(offset), bytes);
  }
  void write(std::uint16_t offset, unsigned bytes, std::uint32_t value) noexcept {
    if (offset >= size_bytes()) return;
    if (window_ != 0) {
      qemu_->write(bus_space_kind::memory, window_ + offset, bytes, value);
    } else {
      qemu_->write_indexed(config_address_port, index(offset), data_port(offset), bytes, value);
    }
  }
  [[nodiscard]] std::uint32_t index(std::uint16_t offset) const noexcept {
    return 0x8000'0000U | std::uint32_t{id_.raw()} << 8 | (offset & 0xfcU);
  }
  [[nodiscard]] static std::uint16_t data_port(std::uint16_t offset) noexcept {
    return static_cast<std::uint16_t>(config_data_port + (offset & 3U));
  }

  connection* qemu_;
  std::uint64_t window_;
  pcie::requester_id id_;
};
static_assert(ConfigSpace<config_function>);

// All functions of the machine.
class config_root {
 public:
  config_root(connection& qemu, const board& where) noexcept : qemu_(&qemu), board_(&where) {}

  [[nodiscard]] config_function function(pcie::requester_id id) const noexcept {
    return {*qemu_, *board_, id};
  }

 private:
  connection* qemu_;
  const board* board_;
};
static_assert(ConfigAccess<config_root>);

}  // namespace phasebit::backend::qtest
