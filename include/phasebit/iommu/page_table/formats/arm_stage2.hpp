// SPDX-License-Identifier: BSL-1.0
// Arm VMSAv8-64 stage 2 tables, as SMMUv3 walks them (Arm ARM DDI 0487, chapter D8).
#pragma once

#include <phasebit/iommu/page_table/page_format.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// Granules of 4, 16 or 64 KiB. Valid0 type1 MemAttr 5:2 S2AP 7:6 SH 9:8 AF10 DBM51 Contiguous52
// XN 54:53. Level n here is the architecture's level 3 - n. Output addresses have at most 48 bits
// (no FEAT_LPA). Neighbouring entries with the Contiguous hint form one page of 16, 32 or 128.
template <unsigned GranuleShift>
  requires(GranuleShift == 12 || GranuleShift == 14 || GranuleShift == 16)
struct arm_stage2 {
  static constexpr unsigned granule_shift = GranuleShift;
  static constexpr std::uint64_t present_mask = 1;
  static constexpr bool items_differ = true;

  unsigned ipa_bits = 48;        // 64 - VTCR.T0SZ
  unsigned address_bits = 48;    // VTCR.PS: bits above are an address size fault
  bool concatenate = true;       // up to 16 root tables side by side save the highest level
  bool contiguous_hint = true;   // write it; it is always understood
  bool hardware_access = false;  // HA: hardware sets AF; without it, AF = 0 faults
  bool track_dirty = false;      // HA and HD: writable pages begin clean (DBM = 1, S2AP[1] = 0)
  bool ignore_access = false;    // S2AFFD: AF is not looked at
  unsigned bbm_level = 0;  // SMMU_IDR3.BBML: 2 lets page sizes change without break-before-make

  [[nodiscard]] constexpr unsigned top_level() const noexcept {
    const unsigned top = (ipa_bits - granule_shift - 1) / index_bits;
    // With 4 KiB granules, level 3 is no start level (DDI 0487, VTCR_EL2.SL0), so that 25 bits begin at
    // level 2.
    const unsigned lowest_start = granule_shift == 12 ? 1 : 0;
    const bool fits = top > lowest_start && ipa_bits - (granule_shift + top * index_bits) <= 4;
    return concatenate && fits ? top - 1 : top;
  }
  [[nodiscard]] constexpr unsigned input_bits() const noexcept { return ipa_bits; }

  [[nodiscard]] static constexpr bool leaf_allowed(unsigned level) noexcept {
    return level <= (granule_shift == 12 ? 2U : 1U);
  }
  [[nodiscard]] constexpr std::uint32_t orders(unsigned level) const noexcept {
    return contiguous_hint ? 1U << hint_order(level) : 0;
  }
  [[nodiscard]] static constexpr bool is_leaf(std::uint64_t e, unsigned level) noexcept {
    return ((e & 2) != 0) == (level == 0);
  }
  [[nodiscard]] constexpr unsigned leaf_shift(std::uint64_t e, unsigned level) const noexcept {
    const unsigned own = granule_shift + level * index_bits;
    const bool any_age = hardware_access || track_dirty || ignore_access;
    if (!leaf_allowed(level) || ((e & access_flag) == 0 && !any_age)) return 0;
    if ((e & address_mask & (beyond() | ((std::uint64_t{1} << own) - 1))) != 0) return 0;
    return (e & contiguous_bit) != 0 ? own + hint_order(level) : own;
  }
  [[nodiscard]] static constexpr bool joined(std::uint64_t e) noexcept {
    return (e & contiguous_bit) != 0;
  }
  [[nodiscard]] constexpr bool table_valid(std::uint64_t e, unsigned) const noexcept {
    return (e & address_mask & beyond()) == 0;
  }
  [[nodiscard]] constexpr std::uint64_t plain_mask() const noexcept {
    return 3 | (address_mask & beyond());
  }
  [[nodiscard]] static constexpr std::uint64_t table_address(std::uint64_t e) noexcept {
    return e & address_mask;
  }
  [[nodiscard]] constexpr unsigned permissions(std::uint64_t e) const noexcept {
    return (static_cast<unsigned>(e >> 6) & 3U) |
           (track_dirty && (e & dirty_modifier) != 0 ? 2U : 0U);
  }

  [[nodiscard]] static constexpr std::uint64_t make_table(std::uint64_t at, unsigned) noexcept {
    return at | 3;
  }
  [[nodiscard]] static constexpr std::uint64_t make_leaf(std::uint64_t at, unsigned level,
                                                         unsigned order,
                                                         std::uint64_t bits) noexcept {
    return at | bits | (level == 0 ? 3 : 1) | (order != 0 ? contiguous_bit : 0);
  }
  [[nodiscard]] constexpr std::optional<std::uint64_t> attribute_bits(
      page_attributes a) const noexcept {
    if (a.coherent) return std::nullopt;
    std::uint64_t bits = access_flag;
    switch (a.memory) {
      case memory_type::write_back:
        bits |= 15U << 2 | 3U << 8;  // inner and outer write-back, inner shareable
        break;
      case memory_type::uncached:
        bits |= 5U << 2 | 2U << 8;  // normal non-cacheable, outer shareable
        break;
      case memory_type::device:
        bits |= 1U << 2 | 2U << 8;  // Device-nGnRE
        break;
    }
    if (reads(a.permission)) bits |= read;
    if (writes(a.permission)) bits |= track_dirty ? dirty_modifier : write;
    if (!a.execute) bits |= execute_never;
    return bits;
  }
  [[nodiscard]] constexpr page_attributes attributes(std::uint64_t e) const noexcept {
    const auto kind = static_cast<unsigned>(e >> 2) & 15U;
    return {.permission = static_cast<access>(permissions(e)),
            .execute = (e & execute_never) == 0,
            .memory = kind < 4                             ? memory_type::device
                      : (kind & 3U) == 1 || kind >> 2 == 1 ? memory_type::uncached
                                                           : memory_type::write_back};
  }
  // A page that was written to and stays writable stays dirty.
  [[nodiscard]] static constexpr std::uint64_t with_permissions(std::uint64_t e,
                                                                std::uint64_t bits) noexcept {
    constexpr std::uint64_t mask = read | write | dirty_modifier | execute_never;
    const bool keep = dirty(e) && (bits & dirty_modifier) != 0;
    return (e & ~mask) | (bits & mask) | (keep ? write : 0);
  }
  [[nodiscard]] static constexpr std::uint64_t state_bits(std::uint64_t e) noexcept {
    return e & ~(address_mask | contiguous_bit | 3);
  }
  [[nodiscard]] static constexpr bool dirty(std::uint64_t e) noexcept {
    return (e & dirty_modifier) != 0 && (e & write) != 0;
  }
  [[nodiscard]] static constexpr std::uint64_t cleaned(std::uint64_t e) noexcept {
    return (e & dirty_modifier) != 0 ? e & ~write : e;
  }
  [[nodiscard]] constexpr std::uint64_t after_access(std::uint64_t e, bool written) const noexcept {
    if (hardware_access || track_dirty) e |= access_flag;
    return track_dirty && written && (e & dirty_modifier) != 0 ? e | write : e;
  }
  [[nodiscard]] constexpr bool break_before_make() const noexcept { return bbm_level < 2; }

  static constexpr std::uint64_t read = 1 << 6;
  static constexpr std::uint64_t write = 1 << 7;
  static constexpr std::uint64_t access_flag = 1 << 10;
  static constexpr std::uint64_t dirty_modifier = std::uint64_t{1} << 51;
  static constexpr std::uint64_t contiguous_bit = std::uint64_t{1} << 52;
  static constexpr std::uint64_t execute_never = std::uint64_t{1} << 54;
  static constexpr std::uint64_t address_mask =
      0x0000'ffff'ffff'ffff & ~((std::uint64_t{1} << GranuleShift) - 1);

 private:
  static constexpr unsigned index_bits = GranuleShift - 3;

  [[nodiscard]] static constexpr unsigned hint_order(unsigned level) noexcept {
    if (granule_shift == 12) return 4;
    return granule_shift == 14 && level == 0 ? 7 : 5;
  }
  [[nodiscard]] constexpr std::uint64_t beyond() const noexcept {
    return ~((std::uint64_t{1} << address_bits) - 1);
  }
};
static_assert(PageTableFormat<arm_stage2<12>>);

}  // namespace phasebit::iommu
