// SPDX-License-Identifier: BSL-1.0
// Features: their numbers (NVMe Base 2.0, section 5.27.1) and the fields of the dword that Set
// Features takes in CDW11 and Get Features returns in DW0 of its completion.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

enum class feature_id : std::uint8_t {
  arbitration = 0x01,
  power_management = 0x02,
  lba_range_type = 0x03,
  temperature_threshold = 0x04,
  error_recovery = 0x05,
  volatile_write_cache = 0x06,
  number_of_queues = 0x07,
  interrupt_coalescing = 0x08,
  interrupt_vector_configuration = 0x09,
  write_atomicity = 0x0a,
  async_event_configuration = 0x0b,
  autonomous_power_state_transition = 0x0c,
  host_memory_buffer = 0x0d,
  timestamp = 0x0e,
  keep_alive_timer = 0x0f,
  host_thermal_management = 0x10,
  non_operational_power_state = 0x11,
  read_recovery_level = 0x12,
  predictable_latency_configuration = 0x13,
  predictable_latency_window = 0x14,
  lba_status_interval = 0x15,
  host_behavior_support = 0x16,
  sanitize_configuration = 0x17,
  endurance_group_event_configuration = 0x18,
  io_command_set_profile = 0x19,
  spinup_control = 0x1a,
  enhanced_controller_metadata = 0x7d,
  controller_metadata = 0x7e,
  namespace_metadata = 0x7f,
  software_progress_marker = 0x80,
  host_identifier = 0x81,
  reservation_notification_mask = 0x82,
  reservation_persistence = 0x83,
  namespace_write_protection = 0x84,
};

// Selects the value that Get Features returns: CDW10 bits 10:8.
enum class feature_select : std::uint8_t {
  current = 0,
  default_value = 1,
  saved = 2,
  supported = 3
};

struct arbitration : register_value<arbitration, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<2, 0> ab{};    // commands fetched at a time, 2^ab; 7 is no limit
  static constexpr field<15, 8> lpw{};  // weights, minus one
  static constexpr field<23, 16> mpw{};
  static constexpr field<31, 24> hpw{};
};

struct power_management : register_value<power_management, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<4, 0> ps{};
  static constexpr field<7, 5> wh{};
};

struct temperature_threshold : register_value<temperature_threshold, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<15, 0> tmpth{};    // kelvin
  static constexpr field<19, 16> tmpsel{};  // 0 composite, 1 to 8 a sensor, 15 all (set only)
  static constexpr field<21, 20> thsel{};   // 0 over, 1 under
};

struct error_recovery : register_value<error_recovery, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<15, 0> tler{};  // time limit in 100 ms, 0 is none
  static constexpr field<16> dulbe{};    // reading a deallocated block is an error
};

struct volatile_write_cache : register_value<volatile_write_cache, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> wce{};
};

// Both counts are minus one, in the request and in the answer, which may be lower or higher.
struct number_of_queues : register_value<number_of_queues, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<15, 0> nsqr{};
  static constexpr field<31, 16> ncqr{};

  static constexpr std::uint32_t max_queues = 65'535;  // FFFFh is not allowed
  [[nodiscard]] static constexpr number_of_queues of(std::uint32_t submission,
                                                     std::uint32_t completion) noexcept {
    PHASEBIT_EXPECTS(
        submission >= 1 && submission <= max_queues && completion >= 1 && completion <= max_queues,
        "a controller has 1 to 65535 I/O queues of each kind");
    return number_of_queues{(completion - 1) << ncqr.lo | (submission - 1)};
  }
  [[nodiscard]] constexpr std::uint32_t submission_queues() const noexcept {
    return std::uint32_t{(*this)[nsqr]} + 1;
  }
  [[nodiscard]] constexpr std::uint32_t completion_queues() const noexcept {
    return std::uint32_t{(*this)[ncqr]} + 1;
  }
};

struct interrupt_coalescing : register_value<interrupt_coalescing, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<7, 0> thr{};    // completions, minus one
  static constexpr field<15, 8> time{};  // in 100 us
};

struct interrupt_vector_configuration
    : register_value<interrupt_vector_configuration, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<15, 0> iv{};
  static constexpr field<16> cd{};  // this vector is not coalesced
};

struct write_atomicity : register_value<write_atomicity, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> dn{};
};

struct async_event_configuration : register_value<async_event_configuration, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<7, 0> critical{};  // one bit per bit of the health log's critical warning
  static constexpr field<8> namespace_attributes{};
  static constexpr field<9> firmware_activation{};
  static constexpr field<10> telemetry{};
  static constexpr field<11> ana_change{};
  static constexpr field<12> predictable_latency{};
  static constexpr field<13> lba_status{};
  static constexpr field<14> endurance_group{};
  static constexpr field<15> normal_shutdown{};
  static constexpr field<27> zone_descriptor_changed{};
  static constexpr field<31> discovery_log{};
};

struct autonomous_power_state_transition
    : register_value<autonomous_power_state_transition, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> apste{};
};

// CDW11 of Host Memory Buffer. CDW12 is its size in pages of CC.MPS, CDW13 and CDW14 the address of
// the descriptor list, CDW15 the number of descriptors.
struct host_memory_buffer : register_value<host_memory_buffer, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> ehm{};  // the controller may use it
  static constexpr field<1> mr{};   // it is the memory that the controller had before
};

struct host_memory_descriptor {
  le<std::uint64_t> address;  // page aligned
  le<std::uint32_t> pages;    // of CC.MPS
  le<std::uint32_t> reserved12;
};
static_assert(WireStruct<host_memory_descriptor> && sizeof(host_memory_descriptor) == 16);
static_assert(offsetof(host_memory_descriptor, address) == 0 &&
              offsetof(host_memory_descriptor, pages) == 8 &&
              offsetof(host_memory_descriptor, reserved12) == 12);

// Data of Timestamp: section 5.27.1.11.
struct timestamp {
  std::uint8_t milliseconds[6];  // since 1970, least significant byte first
  std::uint8_t attributes;
  std::uint8_t reserved7;

  static constexpr field<0> stopped{};    // the count may have stood still for a while
  static constexpr field<3, 1> origin{};  // 0: zero at a reset, 1: set by the host

  [[nodiscard]] constexpr std::uint64_t value() const noexcept {
    std::uint64_t v = 0;
    for (unsigned i = 0; i != 6; ++i) v |= std::uint64_t{milliseconds[i]} << (8 * i);
    return v;
  }
  [[nodiscard]] static constexpr timestamp of(std::uint64_t ms) noexcept {
    timestamp t{};
    for (unsigned i = 0; i != 6; ++i) t.milliseconds[i] = static_cast<std::uint8_t>(ms >> (8 * i));
    return t;
  }
};
static_assert(WireStruct<timestamp> && sizeof(timestamp) == 8);
static_assert(offsetof(timestamp, attributes) == 6 && offsetof(timestamp, reserved7) == 7);

// Keep Alive Timer: the dword is the time-out in milliseconds, 0 is off.
struct keep_alive_timer : register_value<keep_alive_timer, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<31, 0> kato{};
};

struct host_thermal_management : register_value<host_thermal_management, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<15, 0> tmt2{};  // kelvin
  static constexpr field<31, 16> tmt1{};
};

// Data of Host Behavior Support: section 5.27.1.18.
struct host_behavior_support {
  std::uint8_t acre;    // the host understands command retry delays
  std::uint8_t etdas;   // extended telemetry
  std::uint8_t lbafee;  // LBA formats with storage tags
  std::uint8_t reserved3[509];
};
static_assert(WireStruct<host_behavior_support> && sizeof(host_behavior_support) == 512);
static_assert(offsetof(host_behavior_support, etdas) == 1 &&
              offsetof(host_behavior_support, lbafee) == 2);

}  // namespace phasebit::nvme
