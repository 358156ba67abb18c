// SPDX-License-Identifier: BSL-1.0
// The PCI Express capability, as far as functions and ports of storage need it, and ARI.
// PCIe 5.0, 7.5.3 and 7.8.7.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Offsets from the capability.
namespace express {

inline constexpr std::uint16_t capabilities = 0x02;
inline constexpr std::uint16_t device_capabilities = 0x04;
inline constexpr std::uint16_t device_control = 0x08;
inline constexpr std::uint16_t device_status = 0x0a;
inline constexpr std::uint16_t link_capabilities = 0x0c;
inline constexpr std::uint16_t link_control = 0x10;
inline constexpr std::uint16_t link_status = 0x12;
inline constexpr std::uint16_t slot_capabilities = 0x14;
inline constexpr std::uint16_t slot_control = 0x18;
inline constexpr std::uint16_t slot_status = 0x1a;
inline constexpr std::uint16_t root_control = 0x1c;
inline constexpr std::uint16_t device_capabilities_2 = 0x24;
inline constexpr std::uint16_t device_control_2 = 0x28;
inline constexpr std::uint16_t link_capabilities_2 = 0x2c;
inline constexpr std::uint16_t link_control_2 = 0x30;
inline constexpr std::uint16_t link_status_2 = 0x32;
inline constexpr std::uint16_t capability_bytes = 0x3c;  // version 2, every function

}  // namespace express

// 7.5.3.2, table 7-13: what kind of function or port this is.
enum class port_type : std::uint8_t {
  endpoint = 0,
  legacy_endpoint = 1,
  root_port = 4,
  upstream_port = 5,
  downstream_port = 6,
  pcie_to_pci_bridge = 7,
  pci_to_pcie_bridge = 8,
  integrated_endpoint = 9,
  event_collector = 10,
};

struct express_capabilities : register_value<express_capabilities, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<3, 0> version{};
  static constexpr field<7, 4, port_type> type{};
  static constexpr field<8> slot_implemented{};
};

// 7.5.3.3
struct device_capabilities : register_value<device_capabilities, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<2, 0> max_payload_size{};  // 128 bytes << value
  static constexpr field<5> extended_tag{};
  static constexpr field<15> role_based_error_reporting{};
  static constexpr field<28> function_level_reset{};
};

// 7.5.3.4
struct device_control : register_value<device_control, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<4> relaxed_ordering{};
  static constexpr field<7, 5> max_payload_size{};
  static constexpr field<8> extended_tag{};
  static constexpr field<11> no_snoop{};
  static constexpr field<14, 12> max_read_request_size{};
  static constexpr field<15> initiate_function_level_reset{};
};

// 7.5.3.5. Bits 3:0 are cleared by writing ones.
struct device_status : register_value<device_status, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<5> transactions_pending{};
  static constexpr std::uint16_t write_one_to_clear = 0x000f;
};

// 7.5.3.6 and 7.5.3.8; speed 1 is 2.5 GT/s, 2 is 5, 3 is 8, 4 is 16, 5 is 32.
struct link_capabilities : register_value<link_capabilities, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<3, 0> max_speed{};
  static constexpr field<9, 4> max_width{};
  static constexpr field<31, 24> port_number{};
};
struct link_status : register_value<link_status, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<3, 0> speed{};
  static constexpr field<9, 4> width{};
};

// 7.5.3.15 and 7.5.3.16
struct device_capabilities_2 : register_value<device_capabilities_2, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<4> completion_timeout_disable{};
  static constexpr field<5> ari_forwarding{};
};
struct device_control_2 : register_value<device_control_2, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<3, 0> completion_timeout{};
  static constexpr field<4> completion_timeout_disable{};
  static constexpr field<5> ari_forwarding{};
};

// The ARI extended capability, 7.8.7, offsets from it.
namespace ari {

inline constexpr std::uint16_t capability = 0x04;
inline constexpr std::uint16_t control = 0x06;
inline constexpr std::uint16_t capability_bytes = 8;

}  // namespace ari

struct ari_capability : register_value<ari_capability, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<15, 8> next_function{};
};

// Whether only device number 0 can be behind this bridge: the far end of a link is one device
// (7.3.1). A bridge without the capability leads to a bus where any of 32 may answer.
[[nodiscard]] constexpr bool leads_to_a_link(port_type type) noexcept {
  return type == port_type::root_port || type == port_type::downstream_port ||
         type == port_type::pci_to_pcie_bridge;
}

}  // namespace phasebit::pcie
