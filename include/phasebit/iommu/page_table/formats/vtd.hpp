// SPDX-License-Identifier: BSL-1.0
// Intel VT-d second-stage tables (VT-d specification revision 4.1, section 9.8).
#pragma once

#include <phasebit/iommu/page_table/page_format.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// Width of the input addresses, as the context entry's AW field encodes it.
enum class vtd_width : std::uint8_t { bits_39 = 1, bits_48 = 2, bits_57 = 3 };

// R0 W1 PS7 A8 D9 SNP11, address 51:12. There is no present bit: an entry that allows nothing is
// absent. R and W of table entries are ANDed with the leaf's.
struct vtd_second_stage {
  static constexpr unsigned granule_shift = 12;
  static constexpr std::uint64_t present_mask = 3;

  vtd_width width = vtd_width::bits_48;
  unsigned address_bits = 52;  // CAP.MGAW / the host's width: bits above it are reserved
  bool pages_2m = true;        // CAP.SSLPS bit 0
  bool pages_1g = true;        // CAP.SSLPS bit 1
  bool snoop_control = false;  // ECAP.SC: SNP is reserved without it
  bool track_dirty = false;    // SSADE of a PASID entry: hardware sets A and D

  [[nodiscard]] constexpr unsigned top_level() const noexcept {
    return static_cast<unsigned>(width) + 1;
  }
  [[nodiscard]] constexpr unsigned input_bits() const noexcept { return 21 + 9 * top_level(); }

  [[nodiscard]] constexpr bool leaf_allowed(unsigned level) const noexcept {
    return level == 0 || (level == 1 && pages_2m) || (level == 2 && pages_1g);
  }
  [[nodiscard]] static constexpr bool is_leaf(std::uint64_t e, unsigned level) noexcept {
    return level == 0 || (e & page_size) != 0;
  }
  [[nodiscard]] constexpr unsigned leaf_shift(std::uint64_t e, unsigned level) const noexcept {
    const unsigned shift = 12 + 9 * level;
    std::uint64_t reserved = beyond();
    reserved |= ((std::uint64_t{1} << shift) - 1) & address_mask;
    if (!snoop_control) reserved |= snoop;
    return leaf_allowed(level) && (e & reserved) == 0 ? shift : 0;
  }
  [[nodiscard]] constexpr bool table_valid(std::uint64_t e, unsigned) const noexcept {
    return (e & beyond()) == 0;
  }
  [[nodiscard]] constexpr std::uint64_t plain_mask() const noexcept {
    return read | write | page_size | beyond();
  }
  [[nodiscard]] static constexpr std::uint64_t table_address(std::uint64_t e) noexcept {
    return e & address_mask;
  }
  [[nodiscard]] static constexpr unsigned permissions(std::uint64_t e) noexcept {
    return static_cast<unsigned>(e & 3U);
  }
  [[nodiscard]] static constexpr unsigned passes(std::uint64_t e) noexcept {
    return permissions(e);
  }

  [[nodiscard]] static constexpr std::uint64_t make_table(std::uint64_t at, unsigned) noexcept {
    return at | read | write;
  }
  [[nodiscard]] static constexpr std::uint64_t make_leaf(std::uint64_t at, unsigned level, unsigned,
                                                         std::uint64_t bits) noexcept {
    return at | bits | (level == 0 ? 0 : page_size);
  }
  [[nodiscard]] constexpr std::optional<std::uint64_t> attribute_bits(
      page_attributes a) const noexcept {
    if (a.execute || a.memory != memory_type::write_back) return std::nullopt;
    if (a.coherent && !snoop_control) return std::nullopt;
    return static_cast<std::uint64_t>(a.permission) | (a.coherent ? snoop : 0);
  }
  [[nodiscard]] static constexpr page_attributes attributes(std::uint64_t e) noexcept {
    return {.permission = static_cast<access>(e & 3U), .coherent = (e & snoop) != 0};
  }
  [[nodiscard]] static constexpr std::uint64_t state_bits(std::uint64_t e) noexcept {
    return e & (read | write | accessed_bit | dirty_bit | snoop);
  }

  [[nodiscard]] constexpr std::uint64_t table_after_access(std::uint64_t e) const noexcept {
    return track_dirty ? e | accessed_bit : e;
  }

  static constexpr std::uint64_t read = 1;
  static constexpr std::uint64_t write = 1 << 1;
  static constexpr std::uint64_t page_size = 1 << 7;
  static constexpr std::uint64_t accessed_bit = 1 << 8;
  static constexpr std::uint64_t dirty_bit = 1 << 9;
  static constexpr std::uint64_t snoop = 1 << 11;
  static constexpr std::uint64_t permission_mask = read | write;
  static constexpr std::uint64_t address_mask = 0x000f'ffff'ffff'f000;

 private:
  [[nodiscard]] constexpr std::uint64_t beyond() const noexcept {
    return address_mask & ~((std::uint64_t{1} << address_bits) - 1);
  }
};
static_assert(PageTableFormat<vtd_second_stage>);

}  // namespace phasebit::iommu
