// SPDX-License-Identifier: BSL-1.0
// Log pages: their numbers (NVMe Base 2.0, section 5.16.1) and the layouts that a host or a
// controller cannot do without.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/wide.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

enum class log_page_id : std::uint8_t {
  supported_log_pages = 0x00,
  error_information = 0x01,
  health = 0x02,
  firmware_slots = 0x03,
  changed_namespaces = 0x04,
  commands_supported = 0x05,
  device_self_test = 0x06,
  telemetry_host = 0x07,
  telemetry_controller = 0x08,
  endurance_group = 0x09,
  predictable_latency_per_set = 0x0a,
  predictable_latency_events = 0x0b,
  asymmetric_namespace_access = 0x0c,
  persistent_events = 0x0d,
  lba_status = 0x0e,
  endurance_group_events = 0x0f,
  media_unit_status = 0x10,
  supported_capacity_configurations = 0x11,
  feature_identifiers_supported = 0x12,
  nvme_mi_commands_supported = 0x13,
  lockdown = 0x14,
  boot_partition = 0x15,
  rotational_media = 0x16,
  discovery = 0x70,
  reservation_notification = 0x80,
  sanitize_status = 0x81,
  changed_zones = 0xbf,  // Zoned Namespace Command Set 1.1, 4.1.4
};

// One entry of the Error Information log: figure 206. Newest first; error_count 0 is an empty one.
struct error_information {
  le<std::uint64_t> error_count;
  le<std::uint16_t> sqid;
  le<std::uint16_t> command_id;
  le<std::uint16_t> status_field;  // phase in bit 0, status in 15:1
  le<std::uint16_t> parameter_location;
  le<std::uint64_t> lba;
  le<std::uint32_t> nsid;
  std::uint8_t vendor_log_page;
  std::uint8_t transport_type;
  std::uint8_t reserved30[2];
  le<std::uint64_t> command_specific;
  le<std::uint16_t> transport_specific;
  std::uint8_t reserved42[22];

  static constexpr field<7, 0> location_byte{};  // of parameter_location, in the command
  static constexpr field<10, 8> location_bit{};
  static constexpr std::uint16_t no_location = 0xffff;
};
static_assert(WireStruct<error_information> && sizeof(error_information) == 64);
static_assert(offsetof(error_information, error_count) == 0 &&
              offsetof(error_information, sqid) == 8 &&
              offsetof(error_information, command_id) == 10 &&
              offsetof(error_information, status_field) == 12 &&
              offsetof(error_information, parameter_location) == 14 &&
              offsetof(error_information, lba) == 16 && offsetof(error_information, nsid) == 24 &&
              offsetof(error_information, vendor_log_page) == 28);
static_assert(offsetof(error_information, transport_type) == 29 &&
              offsetof(error_information, command_specific) == 32 &&
              offsetof(error_information, transport_specific) == 40 &&
              offsetof(error_information, reserved42) == 42);

// SMART / Health Information: figure 208.
struct health_log {
  std::uint8_t critical_warning;
  std::uint8_t composite_temperature[2];  // kelvin; at an odd offset, least significant byte first
  std::uint8_t available_spare;           // percent
  std::uint8_t available_spare_threshold;
  std::uint8_t percentage_used;  // may exceed 100
  std::uint8_t endurance_group_critical_warning;
  std::uint8_t reserved7[25];
  le_u128 data_units_read;  // of 1000 x 512 bytes
  le_u128 data_units_written;
  le_u128 host_read_commands;
  le_u128 host_write_commands;
  le_u128 controller_busy_time;  // minutes
  le_u128 power_cycles;
  le_u128 power_on_hours;
  le_u128 unsafe_shutdowns;
  le_u128 media_errors;
  le_u128 error_log_entries;
  le<std::uint32_t> warning_temperature_time;  // minutes
  le<std::uint32_t> critical_temperature_time;
  le<std::uint16_t> temperature_sensor[8];  // kelvin, 0 is not there
  le<std::uint32_t> thermal_transitions[2];
  le<std::uint32_t> thermal_time[2];  // seconds
  std::uint8_t reserved232[280];

  static constexpr field<0> spare_low{};
  static constexpr field<1> temperature_crossed{};
  static constexpr field<2> reliability_degraded{};
  static constexpr field<3> read_only{};
  static constexpr field<4> backup_failed{};
  static constexpr field<5> pmr_unreliable{};

  [[nodiscard]] constexpr std::uint16_t temperature_kelvin() const noexcept {
    return static_cast<std::uint16_t>(composite_temperature[0] | composite_temperature[1] << 8);
  }
};
static_assert(WireStruct<health_log> && sizeof(health_log) == 512);
static_assert(offsetof(health_log, critical_warning) == 0 &&
              offsetof(health_log, composite_temperature) == 1 &&
              offsetof(health_log, available_spare) == 3 &&
              offsetof(health_log, available_spare_threshold) == 4 &&
              offsetof(health_log, percentage_used) == 5 &&
              offsetof(health_log, endurance_group_critical_warning) == 6 &&
              offsetof(health_log, data_units_read) == 32 &&
              offsetof(health_log, data_units_written) == 48);
static_assert(offsetof(health_log, host_read_commands) == 64 &&
              offsetof(health_log, host_write_commands) == 80 &&
              offsetof(health_log, controller_busy_time) == 96 &&
              offsetof(health_log, power_cycles) == 112 &&
              offsetof(health_log, power_on_hours) == 128 &&
              offsetof(health_log, unsafe_shutdowns) == 144 &&
              offsetof(health_log, media_errors) == 160 &&
              offsetof(health_log, error_log_entries) == 176);
static_assert(offsetof(health_log, warning_temperature_time) == 192 &&
              offsetof(health_log, critical_temperature_time) == 196 &&
              offsetof(health_log, temperature_sensor) == 200 &&
              offsetof(health_log, thermal_transitions) == 216 &&
              offsetof(health_log, thermal_time) == 224 &&
              offsetof(health_log, reserved232) == 232);

// Firmware Slot Information: figure 209.
struct firmware_slot_log {
  std::uint8_t afi;
  std::uint8_t reserved1[7];
  std::array<std::array<char, 8>, 7> frs;  // revision in slots 1 to 7; zeros where empty
  std::uint8_t reserved64[448];

  static constexpr field<2, 0> active_slot{};
  static constexpr field<6, 4> next_slot{};  // active after the next reset; 0 is no change
};
static_assert(WireStruct<firmware_slot_log> && sizeof(firmware_slot_log) == 512);
static_assert(offsetof(firmware_slot_log, afi) == 0 && offsetof(firmware_slot_log, frs) == 8 &&
              offsetof(firmware_slot_log, reserved64) == 64);

// Changed Namespace List: up to 1024 ids, ascending, ends at the first 0; FFFFFFFFh alone is "more
// than fit". Section 5.16.1.5.
struct changed_namespace_log {
  std::array<le<std::uint32_t>, 1024> nsid;
};
static_assert(WireStruct<changed_namespace_log> && sizeof(changed_namespace_log) == 4096);

// Commands Supported and Effects: section 5.16.1.6. Indexed by opcode.
struct commands_supported_log {
  std::array<le<std::uint32_t>, 256> acs;   // admin
  std::array<le<std::uint32_t>, 256> iocs;  // I/O
  std::uint8_t reserved2048[2048];

  static constexpr field<0> csupp{};     // supported
  static constexpr field<1> lbcc{};      // changes logical block content
  static constexpr field<2> ncc{};       // changes namespace capability
  static constexpr field<3> nic{};       // changes the inventory of namespaces
  static constexpr field<4> ccc{};       // changes controller capability
  static constexpr field<18, 16> cse{};  // 1: alone in its namespace, 2: alone in the controller
  static constexpr field<19> uss{};      // a UUID may select a variant
  static constexpr field<31, 20> csp{};  // scope
};
static_assert(WireStruct<commands_supported_log> && sizeof(commands_supported_log) == 4096);
static_assert(offsetof(commands_supported_log, iocs) == 1024 &&
              offsetof(commands_supported_log, reserved2048) == 2048);

}  // namespace phasebit::nvme
