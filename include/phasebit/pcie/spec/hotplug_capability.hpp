// SPDX-License-Identifier: BSL-1.0
// The slot registers of the PCI Express capability: hot-plug as software sees it. PCIe 5.0, 7.5.3.9 to
// 7.5.3.11 and 6.7. Offsets are in express.hpp.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::pcie {

// 7.5.3.9
struct slot_capabilities : register_value<slot_capabilities, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> attention_button{};
  static constexpr field<1> power_controller{};
  static constexpr field<2> mrl_sensor{};
  static constexpr field<3> attention_indicator{};
  static constexpr field<4> power_indicator{};
  static constexpr field<5> hot_plug_surprise{};
  static constexpr field<6> hot_plug_capable{};
  static constexpr field<14, 7> power_limit_value{};
  static constexpr field<16, 15> power_limit_scale{};
  static constexpr field<17> electromechanical_interlock{};
  static constexpr field<18> no_command_completed{};
  static constexpr field<31, 19> physical_slot_number{};
};

enum class slot_indicator : std::uint8_t { reserved = 0, on = 1, blink = 2, off = 3 };

// 7.5.3.10
struct slot_control : register_value<slot_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> attention_button_enable{};
  static constexpr field<1> power_fault_enable{};
  static constexpr field<2> mrl_sensor_enable{};
  static constexpr field<3> presence_enable{};
  static constexpr field<4> command_completed_enable{};
  static constexpr field<5> hot_plug_interrupt_enable{};
  static constexpr field<7, 6, slot_indicator> attention_indicator{};
  static constexpr field<9, 8, slot_indicator> power_indicator{};
  static constexpr field<10> power_off{};
  static constexpr field<11> interlock{};
  static constexpr field<12> link_state_enable{};
};

// 7.5.3.11. Bits 4:0 and 8 are cleared by writing ones.
struct slot_status : register_value<slot_status, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> attention_button_pressed{};
  static constexpr field<1> power_fault{};
  static constexpr field<2> mrl_sensor_changed{};
  static constexpr field<3> presence_changed{};
  static constexpr field<4> command_completed{};
  static constexpr field<5> mrl_open{};
  static constexpr field<6> present{};
  static constexpr field<7> interlock_engaged{};
  static constexpr field<8> link_state_changed{};
  static constexpr std::uint16_t write_one_to_clear = 0x011f;
};

}  // namespace phasebit::pcie
