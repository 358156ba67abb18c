// SPDX-License-Identifier: BSL-1.0
// The configuration header: offsets and registers. PCIe 5.0, 7.5.1. Offsets are in bytes, and names
// are the specification's; accesses go through any ConfigSpace.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Both header types, 7.5.1.1, and what only type 0 has, 7.5.1.2.
namespace header {

inline constexpr std::uint16_t vendor_id = 0x00;
inline constexpr std::uint16_t device_id = 0x02;
inline constexpr std::uint16_t command = 0x04;
inline constexpr std::uint16_t status = 0x06;
inline constexpr std::uint16_t revision_id = 0x08;
inline constexpr std::uint16_t class_code = 0x09;  // 24 bits: programming interface, sub, base
inline constexpr std::uint16_t cache_line_size = 0x0c;
inline constexpr std::uint16_t latency_timer = 0x0d;
inline constexpr std::uint16_t header_type = 0x0e;
inline constexpr std::uint16_t bist = 0x0f;
inline constexpr std::uint16_t bar0 = 0x10;
inline constexpr std::uint16_t capabilities = 0x34;
inline constexpr std::uint16_t cardbus_capabilities = 0x14;  // of header type 2 (CardBus bridges)
inline constexpr std::uint16_t interrupt_line = 0x3c;
inline constexpr std::uint16_t interrupt_pin = 0x3d;

inline constexpr std::uint16_t cardbus_cis = 0x28;
inline constexpr std::uint16_t subsystem_vendor_id = 0x2c;
inline constexpr std::uint16_t subsystem_id = 0x2e;
inline constexpr std::uint16_t expansion_rom = 0x30;

inline constexpr std::uint16_t end = 0x40;  // device specific from here: the capability list

}  // namespace header

// Registers of type 1 headers only, 7.5.1.3.
namespace bridge_header {

inline constexpr std::uint16_t primary_bus = 0x18;
inline constexpr std::uint16_t secondary_bus = 0x19;
inline constexpr std::uint16_t subordinate_bus = 0x1a;
inline constexpr std::uint16_t secondary_latency_timer = 0x1b;
inline constexpr std::uint16_t io_base = 0x1c;
inline constexpr std::uint16_t io_limit = 0x1d;
inline constexpr std::uint16_t secondary_status = 0x1e;
inline constexpr std::uint16_t memory_base = 0x20;
inline constexpr std::uint16_t memory_limit = 0x22;
inline constexpr std::uint16_t prefetchable_base = 0x24;
inline constexpr std::uint16_t prefetchable_limit = 0x26;
inline constexpr std::uint16_t prefetchable_base_upper = 0x28;
inline constexpr std::uint16_t prefetchable_limit_upper = 0x2c;
inline constexpr std::uint16_t io_base_upper = 0x30;
inline constexpr std::uint16_t io_limit_upper = 0x32;
inline constexpr std::uint16_t expansion_rom = 0x38;
inline constexpr std::uint16_t bridge_control = 0x3e;

// The granularity of a window's base and limit registers: 7.5.1.3.6, 7.5.1.3.8, 7.5.1.3.9.
inline constexpr std::uint64_t io_granularity = 0x1000;
inline constexpr std::uint64_t memory_granularity = 0x10'0000;

}  // namespace bridge_header

inline constexpr std::uint16_t no_vendor = 0xffff;  // what an absent function reads as
// Vendor and device id of a function that is not ready yet, where the root complex shows it (2.3.1).
inline constexpr std::uint32_t retry_ids = 0xffff'0001;
inline constexpr unsigned type0_bars = 6;
inline constexpr unsigned type1_bars = 2;

// 7.5.1.1.3
struct command_register : register_value<command_register, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> io_space{};
  static constexpr field<1> memory_space{};
  static constexpr field<2> bus_master{};
  static constexpr field<6> parity_error_response{};
  static constexpr field<8> serr_enable{};
  static constexpr field<10> interrupt_disable{};
};

// 7.5.1.1.4. Bits 8 and 11 to 15 are cleared by writing ones.
struct status_register : register_value<status_register, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<3> interrupt_status{};
  static constexpr field<4> capabilities_list{};
  static constexpr field<8> master_data_parity_error{};
  static constexpr field<11> signaled_target_abort{};
  static constexpr field<12> received_target_abort{};
  static constexpr field<13> received_master_abort{};
  static constexpr field<14> signaled_system_error{};
  static constexpr field<15> detected_parity_error{};
  static constexpr std::uint16_t write_one_to_clear = 0xf900;
};

enum class header_layout : std::uint8_t { type0 = 0, type1 = 1, cardbus = 2 };

// 7.5.1.1.9
struct header_type_register : register_value<header_type_register, std::uint8_t> {
  using register_value::register_value;
  static constexpr field<6, 0, header_layout> layout{};
  static constexpr field<7> multi_function{};
};

// 7.5.1.2.1. Address bits follow the flags: from bit 4 for memory, from bit 2 for I/O.
struct bar_register : register_value<bar_register, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> io{};
  static constexpr field<2, 1> memory_type{};
  static constexpr field<3> prefetchable{};
  static constexpr std::uint8_t type_32 = 0;
  static constexpr std::uint8_t type_64 = 2;
  static constexpr std::uint32_t memory_flags = 0xf;
  static constexpr std::uint32_t io_flags = 0x3;
};

// 7.5.1.2.4
struct expansion_rom_register : register_value<expansion_rom_register, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> enable{};
};

// A window's base and limit registers have the width of their addresses in the low four bits.
struct bridge_window_register : register_value<bridge_window_register, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<3, 0> width{};
  static constexpr field<15, 4> address{};
  static constexpr std::uint8_t wide = 1;  // 32 bits of I/O, 64 bits of prefetchable memory
};

// Returns whether the function was removed. Its vendor id is not sufficient (a virtual function's
// is FFFFh by rule, PCIe 5.0, 9.3.4.1.1), but command and status have reserved bits that read as
// zero.
template <ConfigSpace Config>
[[nodiscard]] bool is_removed(Config& config) noexcept {
  return config.read32(header::command) == 0xffff'ffff;
}

// 16 bits wide, because the status bits beside it are cleared by writing ones.
template <ConfigSpace Config>
void set_command(Config& config, command_register value) noexcept {
  config.write16(header::command, value.raw);
}
template <ConfigSpace Config>
[[nodiscard]] command_register read_command(Config& config) noexcept {
  return command_register{config.read16(header::command)};
}

// Base class, sub class and programming interface in bits 23:0.
template <ConfigSpace Config>
[[nodiscard]] std::uint32_t read_class_code(Config& config) noexcept {
  return config.read32(header::revision_id) >> 8;
}

}  // namespace phasebit::pcie
