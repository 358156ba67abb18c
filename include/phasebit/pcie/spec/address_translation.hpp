// SPDX-License-Identifier: BSL-1.0
// The capabilities of functions that cache translations, request pages and use several address
// spaces: ATS, PRI and PASID. PCIe 5.0, 10.5.1, 10.5.2 and 7.8.8.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Offsets from the capability. 10.5.1.
namespace ats {

inline constexpr std::uint16_t capability = 0x04;
inline constexpr std::uint16_t control = 0x06;
inline constexpr std::uint16_t capability_bytes = 8;

}  // namespace ats

// 10.5.1.2
struct ats_capability : register_value<ats_capability, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<4, 0> invalidate_queue_depth{};  // 0 is 32
  static constexpr field<5> page_aligned_request{};
  static constexpr field<6> global_invalidate{};
};
// 10.5.1.3
struct ats_control : register_value<ats_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<4, 0> smallest_translation_unit{};  // 4 KiB << value
  static constexpr field<15> enable{};
};

// 10.5.2
namespace page_request {

inline constexpr std::uint16_t control = 0x04;
inline constexpr std::uint16_t status = 0x06;
inline constexpr std::uint16_t capacity = 0x08;
inline constexpr std::uint16_t allocation = 0x0c;
inline constexpr std::uint16_t capability_bytes = 16;

}  // namespace page_request

// 10.5.2.2
struct page_request_control : register_value<page_request_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> enable{};
  static constexpr field<1> reset{};
};
// 10.5.2.3
struct page_request_status : register_value<page_request_status, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> response_failure{};
  static constexpr field<1> unexpected_group{};
  static constexpr field<8> stopped{};
  static constexpr field<15> response_pasid_required{};
};

// 7.8.8
namespace pasid {

inline constexpr std::uint16_t capability = 0x04;
inline constexpr std::uint16_t control = 0x06;
inline constexpr std::uint16_t capability_bytes = 8;

}  // namespace pasid

struct pasid_capability : register_value<pasid_capability, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<1> execute{};
  static constexpr field<2> privileged{};
  static constexpr field<12, 8> width{};  // bits of a PASID
};
struct pasid_control : register_value<pasid_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<0> enable{};
  static constexpr field<1> execute{};
  static constexpr field<2> privileged{};
};

}  // namespace phasebit::pcie
