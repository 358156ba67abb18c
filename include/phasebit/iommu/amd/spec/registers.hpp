// SPDX-License-Identifier: BSL-1.0
// Registers of an AMD IOMMU (AMD I/O Virtualization Technology specification 48882, revision 3.08,
// sections 3.3 and 3.4). Each is a value snapshot; reading and writing the IOMMU is the caller's.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::iommu::amd {

// 3.3: the capability in the configuration space of the function that is the IOMMU (class 08_06_00).
struct capability {
  static constexpr std::uint8_t id = 0x0f;
  static constexpr field<18, 16> type{};  // 3: an IOMMU
  static constexpr field<24> iotlbsup{};  // device TLBs
  static constexpr field<26> npcache{};   // absent entries may be cached, too
  static constexpr field<27> efrsup{};    // the extended feature register is there
  static constexpr std::uint16_t base_low =
      4;  // bits 31:14 of the registers' address, bit 0 enable
  static constexpr std::uint16_t base_high = 8;
  static constexpr std::uint32_t registers_bytes = 0x4000;
};

// 3.4.1
struct device_table_base : register_value<device_table_base, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x0000;
  using register_value::register_value;
  static constexpr field<8, 0> size{};  // 4 KiB pages, minus one
};
// 3.4.2, 3.4.3: 2^len entries of 16 bytes, len 8 to 15.
struct command_buffer_base : register_value<command_buffer_base, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x0008;
  using register_value::register_value;
  static constexpr field<59, 56> len{};
};
struct event_log_base : register_value<event_log_base, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x0010;
  using register_value::register_value;
  static constexpr field<59, 56> len{};
};

// 3.4.4
struct control : register_value<control, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x0018;
  using register_value::register_value;

  static constexpr field<0> iommuen{};
  static constexpr field<2> eventlogen{};
  static constexpr field<3> eventinten{};
  static constexpr field<4> comwaitinten{};
  static constexpr field<10> coherent{};  // device table reads snoop caches
  static constexpr field<12> cmdbufen{};
  static constexpr field<16> gten{};  // guest translation
  static constexpr field<17> gaen{};  // interrupt entries of 128 bits
};

// 3.4.8
struct extended_feature : register_value<extended_feature, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x0030;
  using register_value::register_value;

  static constexpr field<0> prefsup{};
  static constexpr field<1> pprsup{};
  static constexpr field<2> xtsup{};
  static constexpr field<4> gtsup{};
  static constexpr field<6> iasup{};  // INVALIDATE_IOMMU_ALL
  static constexpr field<7> gasup{};
  static constexpr field<11, 10> hats{};  // host tables of at most hats + 4 levels
  static constexpr field<13, 12> gats{};
  static constexpr field<49> hasup{};  // host accessed bits
  static constexpr field<52> hdsup{};  // host dirty bits
};

// 3.4.13: bits 18:4 of a byte offset into the buffer.
inline constexpr std::uint32_t command_head_offset = 0x2000;
inline constexpr std::uint32_t command_tail_offset = 0x2008;
inline constexpr std::uint32_t event_head_offset = 0x2010;
inline constexpr std::uint32_t event_tail_offset = 0x2018;
inline constexpr std::uint32_t pointer_mask = 0x7'fff0;

// 3.4.14. Bits 6:0 but for the two Run bits are cleared by writing one.
struct status : register_value<status, std::uint64_t> {
  static constexpr std::uint32_t offset = 0x2020;
  using register_value::register_value;

  static constexpr field<0> eventoverflow{};
  static constexpr field<1> eventlogint{};
  static constexpr field<2> comwaitint{};
  static constexpr field<3> eventlogrun{};
  static constexpr field<4> cmdbufrun{};
};

}  // namespace phasebit::iommu::amd
