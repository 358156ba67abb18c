// SPDX-License-Identifier: BSL-1.0
// Walks over the two lists of capabilities. A device wrote the links, so each step is checked: it lies
// inside its space and where no step has been before. The low two bits of a link are reserved, and are
// masked (7.5.1.1.11). PCIe 5.0, 7.5.3 and 7.6.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::pcie {

// Those that this library or its users are likely to request; any other value may be met.
enum class capability_id : std::uint8_t {
  power_management = 0x01,
  vital_product_data = 0x03,
  msi = 0x05,
  vendor_specific = 0x09,
  bridge_subsystem = 0x0d,
  pci_express = 0x10,
  msix = 0x11,
  advanced_features = 0x13,
  enhanced_allocation = 0x14,
};

enum class extended_capability_id : std::uint16_t {
  advanced_error_reporting = 0x01,
  virtual_channel = 0x02,
  device_serial_number = 0x03,
  vendor_specific = 0x0b,
  access_control_services = 0x0d,
  alternative_routing_id = 0x0e,
  address_translation_services = 0x0f,
  sriov = 0x10,
  page_request = 0x13,
  resizable_bar = 0x15,
  tph_requester = 0x17,
  secondary_pci_express = 0x19,
  pasid = 0x1b,
  designated_vendor_specific = 0x23,
  vf_resizable_bar = 0x24,
};

// 7.5.3.2: id, then the next one's offset.
struct capability_header : register_value<capability_header, std::uint16_t> {
  using register_value::register_value;
  static constexpr field<7, 0, capability_id> id{};
  static constexpr field<15, 8> next{};
};

// 7.6.3
struct extended_capability_header : register_value<extended_capability_header, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<15, 0, extended_capability_id> id{};
  static constexpr field<19, 16> version{};
  static constexpr field<31, 20> next{};
};

inline constexpr std::uint32_t conventional_config_bytes = 256;
inline constexpr std::uint32_t extended_config_bytes = 4096;
inline constexpr std::uint16_t first_extended_capability = 0x100;

namespace detail {

// The dwords that a walk has been to: an exact test for a loop, whatever its shape.
template <std::size_t Bytes>
class visited_dwords {
 public:
  // False where the walk was there already.
  [[nodiscard]] constexpr bool enter(std::uint32_t offset) noexcept {
    std::uint32_t& word = seen_[offset / 128];
    const std::uint32_t bit = 1U << (offset / 4 % 32);
    if ((word & bit) != 0) return false;
    word |= bit;
    return true;
  }

 private:
  std::array<std::uint32_t, Bytes / 128> seen_{};
};

template <ConfigSpace Config>
[[nodiscard]] error broken_or_removed(Config& config, errc code, const char* what,
                                      std::uint64_t value) noexcept {
  if (is_removed(config)) return failure(errc::removed, "the function reads as all ones");
  return failure(code, what, value);
}

}  // namespace detail

// Calls `visit(id, offset)` for each capability in the order of the list, until it returns false.
// The offset is on a dword in [40h, FCh]. Errors: protocol (a link into the header), loop, removed;
// error::value is the link. At most 48 steps, three reads each.
template <ConfigSpace Config, class Visit>
  requires std::predicate<Visit&, capability_id, std::uint16_t>
[[nodiscard]] result<> for_each_capability(Config& config, Visit&& visit) noexcept {
  if (is_removed(config)) return failure(errc::removed, "the function reads as all ones");
  const status_register status{config.read16(header::status)};
  if (!status[status_register::capabilities_list]) return {};

  detail::visited_dwords<conventional_config_bytes> visited;
  const header_type_register type{config.read8(header::header_type)};
  const bool cardbus = type[header_type_register::layout] == header_layout::cardbus;
  std::uint16_t offset =
      config.read8(cardbus ? header::cardbus_capabilities : header::capabilities) & 0xfc;
  while (offset != 0) {
    if (offset < header::end || offset >= conventional_config_bytes) {
      return detail::broken_or_removed(config, errc::protocol,
                                       "a capability link points into the header", offset);
    }
    if (!visited.enter(offset)) {
      return failure(errc::loop, "the capability list comes back to itself", offset);
    }
    const capability_header found{config.read16(offset)};
    if (found.raw == 0xffff) {
      return detail::broken_or_removed(config, errc::protocol,
                                       "a capability link points where nothing is", offset);
    }
    if (!visit(found[capability_header::id], offset)) return {};
    offset = found[capability_header::next] & 0xfc;
  }
  return {};
}

// The same for the list at 100h; `visit(id, offset)`, the offset in [100h, FFCh]. Where there is no
// extended configuration space (256 bytes, or all ones at 100h) the list is empty.
template <ConfigSpace Config, class Visit>
  requires std::predicate<Visit&, extended_capability_id, std::uint16_t>
[[nodiscard]] result<> for_each_extended_capability(Config& config, Visit&& visit) noexcept {
  if (is_removed(config)) return failure(errc::removed, "the function reads as all ones");
  if (config.size_bytes() < extended_config_bytes) return {};

  detail::visited_dwords<extended_config_bytes> visited;
  std::uint16_t offset = first_extended_capability;
  while (offset != 0) {
    if (offset < first_extended_capability) {
      return failure(errc::protocol, "an extended capability link points below the extended space",
                     offset);
    }
    if (!visited.enter(offset)) {
      return failure(errc::loop, "the extended capability list comes back to itself", offset);
    }
    const extended_capability_header found{config.read32(offset)};
    if (found.raw == 0xffff'ffff) {
      if (offset == first_extended_capability && !is_removed(config)) return {};
      return detail::broken_or_removed(
          config, errc::protocol, "an extended capability link points where nothing is", offset);
    }
    // All zeros at 100h is how an empty list is written (7.6.2). Elsewhere id 0 is the null
    // capability (7.9.18), which has a link like any other.
    if (found.raw == 0) return {};
    if (!visit(found[extended_capability_header::id], offset)) return {};
    offset = found[extended_capability_header::next] & 0xffc;
  }
  return {};
}

// The offset of the first capability with this id; errors as above, and not_found.
template <ConfigSpace Config>
[[nodiscard]] result<std::uint16_t> find_capability(Config& config, capability_id id) noexcept {
  std::uint16_t at = 0;
  const auto walked = for_each_capability(config, [&](capability_id met, std::uint16_t offset) {
    if (met == id) at = offset;
    return met != id;
  });
  if (!walked) return walked.error();
  if (at == 0) {
    return failure(errc::not_found, "the function has no such capability",
                   static_cast<std::uint64_t>(id));
  }
  return at;
}

template <ConfigSpace Config>
[[nodiscard]] result<std::uint16_t> find_capability(Config& config,
                                                    extended_capability_id id) noexcept {
  std::uint16_t at = 0;
  const auto walked =
      for_each_extended_capability(config, [&](extended_capability_id met, std::uint16_t offset) {
        if (met == id) at = offset;
        return met != id;
      });
  if (!walked) return walked.error();
  if (at == 0) {
    return failure(errc::not_found, "the function has no such extended capability",
                   static_cast<std::uint64_t>(id));
  }
  return at;
}

}  // namespace phasebit::pcie
