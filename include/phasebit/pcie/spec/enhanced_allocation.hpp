// SPDX-License-Identifier: BSL-1.0
// The Enhanced Allocation capability: resources at addresses that the device fixes. PCIe 5.0, 7.8.5.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::pcie {

// Offsets from the capability, 7.8.5.1 and 7.8.5.2.
namespace enhanced_allocation {

inline constexpr std::uint16_t entries = 0x02;  // bits 5:0: how many
inline constexpr std::uint16_t first = 0x04;
inline constexpr std::uint16_t bridge_buses = 0x04;  // of a type 1 header: secondary, subordinate
inline constexpr std::uint16_t bridge_first = 0x08;

}  // namespace enhanced_allocation

// The resource of an entry, 7.8.5.3, BAR Equivalent Indicator. 0 to 5 are BARs, 9 to 14 BARs of
// virtual functions.
enum class allocation_target : std::uint8_t {
  bar0 = 0,
  bar5 = 5,
  behind_bridge = 6,
  not_indicated = 7,
  expansion_rom = 8,
  vf_bar0 = 9,
  vf_bar5 = 14,
  reserved = 15,  // treated like not_indicated
};

// Table 7-86: properties of the range.
enum class allocation_properties : std::uint8_t {
  memory = 0x00,
  prefetchable_memory = 0x01,
  io = 0x02,
  vf_prefetchable_memory = 0x03,
  vf_memory = 0x04,
  bridge_memory = 0x05,
  bridge_prefetchable_memory = 0x06,
  bridge_io = 0x07,
  reserved_memory = 0xfd,
  reserved_io = 0xfe,
  unavailable = 0xff,
};

// The first doubleword of an entry.
struct allocation_entry : register_value<allocation_entry, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<2, 0> size{};  // doublewords that follow
  static constexpr field<7, 4, allocation_target> target{};
  static constexpr field<15, 8, allocation_properties> primary{};
  static constexpr field<23, 16, allocation_properties> secondary{};
  static constexpr field<30> writable{};
  static constexpr field<31> enable{};
};

// Base and MaxOffset: bits 1:0 are flags, and count as zeros of the base and as ones of the offset.
struct allocation_address : register_value<allocation_address, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<1> wide{};  // an upper half follows
  static constexpr std::uint32_t flags = 3;
};

// One entry as it is read. The range is [base, last].
struct allocation {
  allocation_target target = allocation_target::not_indicated;
  allocation_properties primary = allocation_properties::unavailable;
  allocation_properties secondary =
      allocation_properties::unavailable;  // where the primary is not understood
  bool enabled = false;
  bool writable = false;
  std::uint64_t base = 0;
  std::uint64_t last = 0;

  friend constexpr bool operator==(const allocation&, const allocation&) noexcept = default;
};

// The bus numbers that a bridge has fixed; zeros where it has not.
struct allocation_buses {
  std::uint8_t secondary = 0;
  std::uint8_t subordinate = 0;

  friend constexpr bool operator==(const allocation_buses&,
                                   const allocation_buses&) noexcept = default;
};

// Calls `visit(allocation)` for each entry until it returns false. Reads at most 63 entries. Errors: those of
// find_capability (not_found: nothing is fixed), protocol (an entry that runs over the end of the space, is
// shorter than its fields, or whose range wraps); error::index is the entry.
template <ConfigSpace Config, class Visit>
  requires std::predicate<Visit&, const allocation&>
[[nodiscard]] result<> for_each_allocation(Config& config, Visit&& visit) noexcept {
  const auto found = find_capability(config, capability_id::enhanced_allocation);
  if (!found) return found.error();
  const header_type_register type{config.read8(header::header_type)};
  const bool bridge = type[header_type_register::layout] == header_layout::type1;
  std::uint32_t at = *found + std::uint32_t{bridge ? enhanced_allocation::bridge_first
                                                   : enhanced_allocation::first};
  const unsigned count =
      config.read8(static_cast<std::uint16_t>(*found + enhanced_allocation::entries)) & 63U;
  const auto dword = [&](std::uint32_t n) {
    return config.read32(static_cast<std::uint16_t>(at + 4 * n));
  };
  for (std::uint32_t i = 0; i != count; ++i) {
    if (at + 4 > conventional_config_bytes) {
      return failure(errc::protocol, "an Enhanced Allocation entry runs over the end of its space",
                     at)
          .at(i);
    }
    const allocation_entry entry{dword(0)};
    const std::uint32_t size = entry[allocation_entry::size];
    if (at + 4 + 4 * size > conventional_config_bytes) {
      return failure(errc::protocol, "an Enhanced Allocation entry runs over the end of its space",
                     at)
          .at(i);
    }
    if (size < 2) {
      return failure(errc::protocol, "an Enhanced Allocation entry has no base and offset",
                     entry.raw)
          .at(i);
    }
    const allocation_address low{dword(1)};
    const allocation_address reach{dword(2)};
    const bool wide_base = low[allocation_address::wide];
    const bool wide_reach = reach[allocation_address::wide];
    if (size < 2U + (wide_base ? 1U : 0U) + (wide_reach ? 1U : 0U)) {
      return failure(errc::protocol, "an Enhanced Allocation entry is shorter than its addresses",
                     entry.raw)
          .at(i);
    }
    allocation a{.target = entry[allocation_entry::target],
                 .primary = entry[allocation_entry::primary],
                 .secondary = entry[allocation_entry::secondary],
                 .enabled = entry[allocation_entry::enable],
                 .writable = entry[allocation_entry::writable]};
    a.base = low.raw & ~allocation_address::flags;
    std::uint64_t offset = reach.raw | allocation_address::flags;
    if (wide_base) a.base |= std::uint64_t{dword(3)} << 32;
    if (wide_reach) offset |= std::uint64_t{dword(wide_base ? 4 : 3)} << 32;
    a.last = a.base + offset;
    if (a.last < a.base) {
      return failure(errc::protocol, "an Enhanced Allocation range wraps", a.base).at(i);
    }
    if (!visit(static_cast<const allocation&>(a))) return {};
    at += 4 + 4 * size;
  }
  return {};
}

// Of a bridge. Errors: those of find_capability.
template <ConfigSpace Config>
[[nodiscard]] result<allocation_buses> read_allocation_buses(Config& config) noexcept {
  const auto found = find_capability(config, capability_id::enhanced_allocation);
  if (!found) return found.error();
  const header_type_register type{config.read8(header::header_type)};
  if (type[header_type_register::layout] != header_layout::type1 ||
      *found + 8U > conventional_config_bytes) {
    return allocation_buses{};
  }
  const std::uint32_t buses =
      config.read32(static_cast<std::uint16_t>(*found + enhanced_allocation::bridge_buses));
  return allocation_buses{static_cast<std::uint8_t>(buses), static_cast<std::uint8_t>(buses >> 8)};
}

}  // namespace phasebit::pcie
