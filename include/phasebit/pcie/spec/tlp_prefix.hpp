// SPDX-License-Identifier: BSL-1.0
// TLP prefixes: doublewords in front of a header. PCIe 5.0, 2.2.10 and 6.20.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::pcie {

// A local prefix concerns one link, an end-end prefix travels with its packet; local ones come first.
// The low four bits of the type, tables 2-37 and 2-38.
enum class tlp_local_prefix : std::uint8_t { multi_root = 0x0, vendor0 = 0xe, vendor1 = 0xf };
enum class tlp_end_end_prefix : std::uint8_t {
  extended_tph = 0x0,
  pasid = 0x1,
  vendor0 = 0xe,
  vendor1 = 0xf,
};

struct tlp_prefix : register_value<tlp_prefix, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<31, 29> format{};  // 100b
  static constexpr field<28> end_end{};
  static constexpr field<27, 24> type{};
  static constexpr field<23, 0> body{};
  static constexpr std::uint8_t prefix_format = 4;

  [[nodiscard]] constexpr bool is_end_end() const noexcept { return end_end.get(raw); }
  [[nodiscard]] constexpr bool is(tlp_end_end_prefix which) const noexcept {
    return is_end_end() && type.get(raw) == static_cast<std::uint8_t>(which);
  }
};

// The limit on end-end prefixes of a receiver that does not report another one (2.2.10.2).
inline constexpr unsigned tlp_max_end_end_prefixes = 4;

// PASID prefix, 6.20.2: whose address space a memory request is in.
struct pasid_prefix {
  std::uint32_t pasid = 0;  // 20 bits
  bool execute = false;
  bool privileged = false;

  static constexpr field<23> privileged_bit{};
  static constexpr field<22> execute_bit{};
  static constexpr field<19, 0> pasid_bits{};

  [[nodiscard]] constexpr tlp_prefix encode() const noexcept {
    tlp_prefix p{std::uint32_t{tlp_prefix::prefix_format} << 29};
    p = p.with(tlp_prefix::end_end, true)
            .with(tlp_prefix::type, static_cast<std::uint8_t>(tlp_end_end_prefix::pasid));
    return tlp_prefix{p.raw | pasid_bits.of(pasid) | execute_bit.of(execute) |
                      privileged_bit.of(privileged)};
  }
  // Nothing where the prefix is another one.
  [[nodiscard]] static constexpr std::optional<pasid_prefix> decode(tlp_prefix p) noexcept {
    if (!p.is(tlp_end_end_prefix::pasid)) return std::nullopt;
    return pasid_prefix{pasid_bits.get(p.raw), execute_bit.get(p.raw), privileged_bit.get(p.raw)};
  }
  friend constexpr bool operator==(const pasid_prefix&, const pasid_prefix&) noexcept = default;
};

}  // namespace phasebit::pcie
