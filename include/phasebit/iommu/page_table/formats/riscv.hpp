// SPDX-License-Identifier: BSL-1.0
// RISC-V second-stage (G-stage) tables (Privileged specification, section "Two-Stage Address
// Translation"; Svnapot and Svpbmt chapters).
#pragma once

#include <phasebit/iommu/page_table/page_format.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// Highest level of the tables; the number printed in the mode's name is the width less the two bits
// that make the root 16 KiB.
enum class riscv_mode : std::uint8_t { sv39x4 = 2, sv48x4 = 3, sv57x4 = 4 };

// V0 R1 W2 X3 U4 G5 A6 D7, PPN 53:10, PBMT 62:61, N63. U is set in every leaf, as stage 2 demands;
// R = 0 with W = 1 is reserved. Tables permit everything. With N, sixteen equal entries, whose low
// PPN bits are 1000b, form a page of 64 KiB.
struct riscv_second_stage {
  static constexpr unsigned granule_shift = 12;
  static constexpr std::uint64_t present_mask = 1;

  riscv_mode mode = riscv_mode::sv48x4;
  unsigned address_bits = 56;
  bool svnapot = true;
  bool svpbmt = true;
  bool track_dirty = false;  // GADE: hardware sets A and D; without it, A = 0 or a write with D = 0
                             // faults, so leaves begin with both set

  [[nodiscard]] constexpr unsigned top_level() const noexcept {
    return static_cast<unsigned>(mode);
  }
  [[nodiscard]] constexpr unsigned input_bits() const noexcept { return 23 + 9 * top_level(); }

  [[nodiscard]] constexpr bool leaf_allowed(unsigned level) const noexcept {
    return level <= top_level();
  }
  [[nodiscard]] constexpr std::uint32_t orders(unsigned level) const noexcept {
    return level == 0 && svnapot ? 1U << 4 : 0;
  }
  [[nodiscard]] static constexpr bool is_leaf(std::uint64_t e, unsigned) noexcept {
    return (e & (read | write | execute)) != 0;
  }
  [[nodiscard]] constexpr unsigned leaf_shift(std::uint64_t e, unsigned level) const noexcept {
    if ((e & reserved()) != 0 || (e & user) == 0) return 0;
    if ((e & (read | write)) == write || (e & pbmt) == pbmt) return 0;
    if ((e & accessed_bit) == 0 && !track_dirty) return 0;
    const std::uint64_t number = e >> 10 & ppn_mask;
    if ((e & napot) != 0) return level == 0 && svnapot && (number & 15) == 8 ? 16 : 0;
    const unsigned shift = 9 * level;
    return (number & ((std::uint64_t{1} << shift) - 1)) == 0 ? 12 + shift : 0;
  }
  [[nodiscard]] static constexpr bool joined(std::uint64_t e) noexcept { return (e & napot) != 0; }
  [[nodiscard]] constexpr bool table_valid(std::uint64_t e, unsigned) const noexcept {
    return (e & (reserved() | user | accessed_bit | dirty_bit | pbmt | napot)) == 0;
  }
  [[nodiscard]] constexpr std::uint64_t plain_mask() const noexcept {
    return valid | read | write | execute | user | accessed_bit | dirty_bit | pbmt | napot |
           reserved();
  }
  [[nodiscard]] static constexpr std::uint64_t table_address(std::uint64_t e) noexcept {
    return e << 2 & ppn_mask << 12;
  }
  [[nodiscard]] constexpr unsigned permissions(std::uint64_t e) const noexcept {
    const bool writable = (e & write) != 0 && (track_dirty || (e & dirty_bit) != 0);
    return ((e & read) != 0 ? 1U : 0U) | (writable ? 2U : 0U);
  }

  [[nodiscard]] static constexpr std::uint64_t make_table(std::uint64_t at, unsigned) noexcept {
    return at >> 2 | valid;
  }
  [[nodiscard]] static constexpr std::uint64_t make_leaf(std::uint64_t at, unsigned, unsigned order,
                                                         std::uint64_t bits) noexcept {
    return at >> 2 | bits | valid | (order != 0 ? napot | std::uint64_t{8} << 10 : 0);
  }
  [[nodiscard]] constexpr std::optional<std::uint64_t> attribute_bits(
      page_attributes a) const noexcept {
    if (a.coherent || !reads(a.permission)) return std::nullopt;
    if (a.memory != memory_type::write_back && !svpbmt) return std::nullopt;
    return user | accessed_bit | read | (writes(a.permission) ? write : 0) |
           (a.execute ? execute : 0) | (track_dirty ? 0 : dirty_bit) |
           static_cast<std::uint64_t>(a.memory) << 61;
  }
  [[nodiscard]] constexpr page_attributes attributes(std::uint64_t e) const noexcept {
    return {.permission = static_cast<access>(permissions(e)),
            .execute = (e & execute) != 0,
            .memory = static_cast<memory_type>(e >> 61 & 3U)};
  }
  [[nodiscard]] static constexpr std::uint64_t state_bits(std::uint64_t e) noexcept {
    return e & (0xff | pbmt);
  }

  static constexpr std::uint64_t valid = 1 << 0;
  static constexpr std::uint64_t read = 1 << 1;
  static constexpr std::uint64_t write = 1 << 2;
  static constexpr std::uint64_t execute = 1 << 3;
  static constexpr std::uint64_t user = 1 << 4;
  static constexpr std::uint64_t accessed_bit = 1 << 6;
  static constexpr std::uint64_t dirty_bit = 1 << 7;
  static constexpr std::uint64_t permission_mask = read | write | execute;
  static constexpr std::uint64_t pbmt = std::uint64_t{3} << 61;
  static constexpr std::uint64_t napot = std::uint64_t{1} << 63;

 private:
  static constexpr std::uint64_t ppn_mask = (std::uint64_t{1} << 44) - 1;

  [[nodiscard]] constexpr std::uint64_t reserved() const noexcept {
    const std::uint64_t beyond = (ppn_mask << 10) & ~((std::uint64_t{1} << (address_bits - 2)) - 1);
    return std::uint64_t{0x7f} << 54 | beyond | (svpbmt ? 0 : pbmt);
  }
};
static_assert(PageTableFormat<riscv_second_stage>);

}  // namespace phasebit::iommu
