// SPDX-License-Identifier: BSL-1.0
// AMD IOMMU host tables, "version 1" (AMD I/O Virtualization Technology specification 48882,
// revision 3.08, section 2.2.3).
#pragma once

#include <phasebit/core/bit_scan.hpp>
#include <phasebit/iommu/page_table/page_format.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// PR0 A5 D6 NextLevel 11:9, address 51:12, FC60 IR61 IW62. NextLevel 0 is a page of the level's own
// size; 7 is a page whose size is encoded by the run of ones at the bottom of the address, and
// whose entry is repeated in every slot it covers. Level n here is the specification's level n + 1.
// A table entry may skip levels (never written, always understood); IR and IW of all levels are
// ANDed.
struct amd_v1 {
  static constexpr unsigned granule_shift = 12;
  static constexpr std::uint64_t present_mask = 1;

  unsigned mode = 4;            // levels, 1 to 6, as in the device table entry
  unsigned address_bits = 52;   // the host's: bits above are reserved
  bool track_accessed = false;  // DTE.HAD = 1: hardware sets A
  bool track_dirty = false;     // DTE.HAD = 3: hardware sets A and D
  bool pages_512g = false;  // map pages of 512 GiB and more; they are always understood. Processors
                            // have errata about them

  [[nodiscard]] constexpr unsigned top_level() const noexcept { return mode - 1; }
  [[nodiscard]] constexpr unsigned input_bits() const noexcept {
    return mode == 6 ? 64 : 12 + 9 * mode;
  }

  [[nodiscard]] constexpr bool leaf_allowed(unsigned level) const noexcept {
    return level <= (pages_512g ? 3U : 2U);
  }
  [[nodiscard]] static constexpr std::uint32_t orders(unsigned) noexcept { return 0x1fe; }
  [[nodiscard]] static constexpr bool is_leaf(std::uint64_t e, unsigned) noexcept {
    return next(e) == 0 || next(e) == 7;
  }
  [[nodiscard]] constexpr unsigned leaf_shift(std::uint64_t e, unsigned level) const noexcept {
    const unsigned own = 12 + 9 * level;
    if ((e & beyond()) != 0 || level > 3) return 0;
    if (next(e) == 0) return (e & address_mask & ((std::uint64_t{1} << own) - 1)) == 0 ? own : 0;
    const auto shift = 13 + lowest_bit(~((e & address_mask) >> 12));
    return shift >= own && shift < own + 9 ? shift : 0;
  }
  [[nodiscard]] static constexpr bool joined(std::uint64_t e) noexcept { return next(e) != 0; }
  [[nodiscard]] constexpr bool table_valid(std::uint64_t e, unsigned level) const noexcept {
    return (e & beyond()) == 0 && next(e) <= level;
  }
  [[nodiscard]] constexpr std::uint64_t plain_mask() const noexcept {
    return present | std::uint64_t{7} << 9 | read | write | beyond();
  }
  [[nodiscard]] static constexpr unsigned next_level(std::uint64_t e, unsigned) noexcept {
    return next(e) - 1;
  }
  [[nodiscard]] static constexpr std::uint64_t table_address(std::uint64_t e) noexcept {
    return e & address_mask;
  }
  [[nodiscard]] static constexpr unsigned permissions(std::uint64_t e) noexcept {
    return static_cast<unsigned>(e >> 61) & 3U;
  }
  [[nodiscard]] static constexpr unsigned passes(std::uint64_t e) noexcept {
    return permissions(e);
  }

  [[nodiscard]] static constexpr std::uint64_t make_table(std::uint64_t at,
                                                          unsigned level) noexcept {
    return at | present | std::uint64_t{level} << 9 | read | write;
  }
  [[nodiscard]] static constexpr std::uint64_t make_leaf(std::uint64_t at, unsigned level,
                                                         unsigned order,
                                                         std::uint64_t bits) noexcept {
    if (order == 0) return at | bits | present;
    const std::uint64_t half = std::uint64_t{1} << (12 + 9 * level + order - 1);
    return at | (half - 0x1000) | bits | present | std::uint64_t{7} << 9;
  }
  [[nodiscard]] static constexpr std::optional<std::uint64_t> attribute_bits(
      page_attributes a) noexcept {
    if (a.execute || a.memory != memory_type::write_back) return std::nullopt;
    return static_cast<std::uint64_t>(a.permission) << 61 | (a.coherent ? force_coherent : 0);
  }
  [[nodiscard]] static constexpr page_attributes attributes(std::uint64_t e) noexcept {
    return {.permission = static_cast<access>(permissions(e)),
            .coherent = (e & force_coherent) != 0};
  }
  [[nodiscard]] static constexpr std::uint64_t state_bits(std::uint64_t e) noexcept {
    return e & (accessed_bit | dirty_bit | force_coherent | read | write);
  }

  [[nodiscard]] constexpr std::uint64_t after_access(std::uint64_t e, bool written) const noexcept {
    return e | (track_accessed || track_dirty ? accessed_bit : 0) |
           (track_dirty && written ? dirty_bit : 0);
  }

  static constexpr std::uint64_t present = 1;
  static constexpr std::uint64_t accessed_bit = 1 << 5;
  static constexpr std::uint64_t dirty_bit = 1 << 6;
  static constexpr std::uint64_t force_coherent = std::uint64_t{1} << 60;
  static constexpr std::uint64_t read = std::uint64_t{1} << 61;
  static constexpr std::uint64_t write = std::uint64_t{1} << 62;
  static constexpr std::uint64_t permission_mask = read | write;
  static constexpr std::uint64_t address_mask = 0x000f'ffff'ffff'f000;

 private:
  [[nodiscard]] static constexpr unsigned next(std::uint64_t e) noexcept {
    return static_cast<unsigned>(e >> 9) & 7U;
  }
  [[nodiscard]] constexpr std::uint64_t beyond() const noexcept {
    return address_mask & ~((std::uint64_t{1} << address_bits) - 1);
  }
};
static_assert(PageTableFormat<amd_v1>);

}  // namespace phasebit::iommu
