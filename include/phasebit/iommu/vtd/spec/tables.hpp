// SPDX-License-Identifier: BSL-1.0
// VT-d's tables from a requester id to page tables (VT-d specification revision 4.1, section 9).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// RTADDR_REG.TTM (11.4.5): how the root table is read.
enum class table_mode : std::uint8_t { legacy = 0, scalable = 1, abort_dma = 3 };

// 9.1: 256 of 16 bytes, one per bus. Legacy mode: one context table for all functions of the bus.
struct root_entry : table_entry<root_entry, 2> {
  static constexpr entry_field<0> p{};
  static constexpr entry_field<63, 12> ctp{};  // context-table pointer

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[2] = {decltype(p)::mask | decltype(ctp)::mask, 0};

  // `context_table` is 4 KiB, aligned so.
  [[nodiscard]] static constexpr root_entry at(std::uint64_t context_table) noexcept {
    return root_entry{}.with(p, true).with_address(ctp, context_table);
  }
};
static_assert(WireStruct<root_entry> && sizeof(root_entry) == 16);

// Context entry TT (9.3).
enum class translation_type : std::uint8_t {
  untranslated = 0,  // only untranslated requests, through the tables
  device_tlb = 1,    // translation requests and translated requests, too (ECAP.DT)
  pass_through = 2,  // untranslated requests are not translated (ECAP.PT)
};

// 9.3: 256 of 16 bytes, one per device and function.
struct context_entry : table_entry<context_entry, 2> {
  static constexpr entry_field<0> p{};
  static constexpr entry_field<1> fpd{};  // faults are not recorded
  static constexpr entry_field<3, 2, translation_type> tt{};
  static constexpr entry_field<63, 12> ssptptr{};  // second-stage page-table pointer
  static constexpr entry_field<66, 64> aw{};       // vtd_width
  static constexpr entry_field<70, 67> avail{};    // software's
  static constexpr entry_field<87, 72> did{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[2] = {
      decltype(p)::mask | decltype(fpd)::mask | decltype(tt)::mask | decltype(ssptptr)::mask,
      decltype(aw)::mask | decltype(avail)::mask | decltype(did)::mask};

  [[nodiscard]] static constexpr context_entry translated(
      std::uint64_t page_table, vtd_width width, std::uint16_t domain,
      translation_type type = translation_type::untranslated) noexcept {
    return context_entry{}
        .with(p, true)
        .with(tt, type)
        .with_address(ssptptr, page_table)
        .with(aw, static_cast<std::uint8_t>(width))
        .with(did, domain);
  }
  // `widest` is the widest that CAP.SAGAW has: AW must be it where nothing is translated.
  [[nodiscard]] static constexpr context_entry pass_through(vtd_width widest,
                                                            std::uint16_t domain) noexcept {
    return translated(0, widest, domain, translation_type::pass_through);
  }
};
static_assert(WireStruct<context_entry> && sizeof(context_entry) == 16);

}  // namespace phasebit::iommu::vtd
