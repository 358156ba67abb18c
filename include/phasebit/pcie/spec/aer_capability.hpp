// SPDX-License-Identifier: BSL-1.0
// The Advanced Error Reporting extended capability. PCIe 5.0, 7.8.4 and 6.2.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Offsets from the capability.
namespace aer {

inline constexpr std::uint16_t uncorrectable_status = 0x04;
inline constexpr std::uint16_t uncorrectable_mask = 0x08;
inline constexpr std::uint16_t uncorrectable_severity = 0x0c;
inline constexpr std::uint16_t correctable_status = 0x10;
inline constexpr std::uint16_t correctable_mask = 0x14;
inline constexpr std::uint16_t control = 0x18;
inline constexpr std::uint16_t header_log = 0x1c;    // four doublewords
inline constexpr std::uint16_t root_command = 0x2c;  // root ports only, as the next two
inline constexpr std::uint16_t root_status = 0x30;
inline constexpr std::uint16_t error_source = 0x34;
inline constexpr std::uint16_t tlp_prefix_log = 0x38;    // four doublewords
inline constexpr std::uint16_t capability_bytes = 0x48;  // version 2

}  // namespace aer

// 7.8.4.2 to 7.8.4.4: status, mask and severity have the same bits. Status is cleared by writing ones.
struct uncorrectable_errors : register_value<uncorrectable_errors, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<4> data_link_protocol{};
  static constexpr field<5> surprise_down{};
  static constexpr field<12> poisoned_tlp{};
  static constexpr field<13> flow_control_protocol{};
  static constexpr field<14> completion_timeout{};
  static constexpr field<15> completer_abort{};
  static constexpr field<16> unexpected_completion{};
  static constexpr field<17> receiver_overflow{};
  static constexpr field<18> malformed_tlp{};
  static constexpr field<19> ecrc{};
  static constexpr field<20> unsupported_request{};
  static constexpr field<21> acs_violation{};
  static constexpr field<22> internal{};
  static constexpr field<23> mc_blocked_tlp{};
  static constexpr field<24> atomic_op_egress_blocked{};
  static constexpr field<25> tlp_prefix_blocked{};
  // Default of the severity register: ones are fatal (7.8.4.4).
  static constexpr std::uint32_t default_severity = 0x0046'2030;
};

// 7.8.4.5 and 7.8.4.6
struct correctable_errors : register_value<correctable_errors, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> receiver{};
  static constexpr field<6> bad_tlp{};
  static constexpr field<7> bad_dllp{};
  static constexpr field<8> replay_num_rollover{};
  static constexpr field<12> replay_timer_timeout{};
  static constexpr field<13> advisory_nonfatal{};
  static constexpr field<14> corrected_internal{};
  static constexpr field<15> header_log_overflow{};
};

// 7.8.4.7
struct aer_control : register_value<aer_control, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<4, 0> first_error_pointer{};
  static constexpr field<5> ecrc_generation_capable{};
  static constexpr field<6> ecrc_generation_enable{};
  static constexpr field<7> ecrc_check_capable{};
  static constexpr field<8> ecrc_check_enable{};
  static constexpr field<11> tlp_prefix_log_present{};
};

}  // namespace phasebit::pcie
