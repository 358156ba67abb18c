// SPDX-License-Identifier: BSL-1.0
// x86-64 tables, which VT-d and AMD walk as their first stage (Intel SDM volume 3, chapter 5; VT-d
// specification revision 4.1, section 9.7).
#pragma once

#include <phasebit/iommu/page_table/page_format.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// P0 RW1 US2 PWT3 PCD4 A5 D6 PS7, address 51:12, XD63. Addresses are canonical: bits above the
// highest translated one repeat it. RW and US of all levels are ANDed.
struct x86_first_stage {
  static constexpr unsigned granule_shift = 12;
  static constexpr std::uint64_t present_mask = 1;
  static constexpr bool sign_extended = true;

  bool five_levels = false;
  unsigned address_bits = 52;
  bool pages_1g = true;
  bool track_dirty = false;  // leaves begin clean; without it they begin with A and D set

  [[nodiscard]] constexpr unsigned top_level() const noexcept { return five_levels ? 4 : 3; }
  [[nodiscard]] constexpr unsigned input_bits() const noexcept { return five_levels ? 57 : 48; }

  [[nodiscard]] constexpr bool leaf_allowed(unsigned level) const noexcept {
    return level < 2 || (level == 2 && pages_1g);
  }
  [[nodiscard]] static constexpr bool is_leaf(std::uint64_t e, unsigned level) noexcept {
    return level == 0 || (e & page_size) != 0;
  }
  [[nodiscard]] constexpr unsigned leaf_shift(std::uint64_t e, unsigned level) const noexcept {
    const unsigned shift = 12 + 9 * level;
    std::uint64_t low = (std::uint64_t{1} << shift) - 1;
    if (level != 0) low &= ~std::uint64_t{0x1000};  // bit 12 of a large page is PAT
    return leaf_allowed(level) && (e & address_mask & (beyond() | low)) == 0 ? shift : 0;
  }
  [[nodiscard]] constexpr bool table_valid(std::uint64_t e, unsigned) const noexcept {
    return (e & address_mask & beyond()) == 0;
  }
  [[nodiscard]] constexpr std::uint64_t plain_mask() const noexcept {
    return present | write | user | accessed_bit | page_size | (address_mask & beyond());
  }
  [[nodiscard]] static constexpr std::uint64_t table_address(std::uint64_t e) noexcept {
    return e & address_mask;
  }
  // Requests come with user privilege: what is the supervisor's permits them nothing.
  [[nodiscard]] static constexpr unsigned permissions(std::uint64_t e) noexcept {
    if ((e & user) == 0) return 0;
    return (e & write) != 0 ? 3 : 1;
  }
  [[nodiscard]] static constexpr unsigned passes(std::uint64_t e) noexcept {
    return permissions(e);
  }

  [[nodiscard]] static constexpr std::uint64_t make_table(std::uint64_t at, unsigned) noexcept {
    return at | present | write | user | accessed_bit;
  }
  [[nodiscard]] static constexpr std::uint64_t make_leaf(std::uint64_t at, unsigned level, unsigned,
                                                         std::uint64_t bits) noexcept {
    return at | bits | present | (level == 0 ? 0 : page_size);
  }
  [[nodiscard]] constexpr std::optional<std::uint64_t> attribute_bits(
      page_attributes a) const noexcept {
    if (a.coherent || !reads(a.permission)) return std::nullopt;
    std::uint64_t bits = user | accessed_bit | (track_dirty ? 0 : dirty_bit);
    if (writes(a.permission)) bits |= write;
    if (!a.execute) bits |= execute_disable;
    if (a.memory == memory_type::uncached) bits |= cache_disable;
    if (a.memory == memory_type::device) bits |= cache_disable | write_through;
    return bits;
  }
  [[nodiscard]] static constexpr page_attributes attributes(std::uint64_t e) noexcept {
    return {.permission = static_cast<access>(permissions(e)),
            .execute = (e & execute_disable) == 0,
            .memory = (e & cache_disable) == 0   ? memory_type::write_back
                      : (e & write_through) == 0 ? memory_type::uncached
                                                 : memory_type::device};
  }
  [[nodiscard]] static constexpr std::uint64_t state_bits(std::uint64_t e) noexcept {
    return e & (write | user | write_through | cache_disable | accessed_bit | dirty_bit | global |
                execute_disable);
  }

  // Hardware sets A and D of first-stage tables unconditionally.
  [[nodiscard]] static constexpr bool tracks_dirty() noexcept { return true; }
  [[nodiscard]] static constexpr std::uint64_t table_after_access(std::uint64_t e) noexcept {
    return e | accessed_bit;
  }

  static constexpr std::uint64_t present = 1 << 0;
  static constexpr std::uint64_t write = 1 << 1;
  static constexpr std::uint64_t user = 1 << 2;
  static constexpr std::uint64_t write_through = 1 << 3;
  static constexpr std::uint64_t cache_disable = 1 << 4;
  static constexpr std::uint64_t accessed_bit = 1 << 5;
  static constexpr std::uint64_t dirty_bit = 1 << 6;
  static constexpr std::uint64_t page_size = 1 << 7;
  static constexpr std::uint64_t global = 1 << 8;
  static constexpr std::uint64_t execute_disable = std::uint64_t{1} << 63;
  static constexpr std::uint64_t permission_mask = write | execute_disable;
  static constexpr std::uint64_t address_mask = 0x000f'ffff'ffff'f000;

 private:
  [[nodiscard]] constexpr std::uint64_t beyond() const noexcept {
    return ~((std::uint64_t{1} << address_bits) - 1);
  }
};
static_assert(PageTableFormat<x86_first_stage>);

}  // namespace phasebit::iommu
