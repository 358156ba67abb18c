// SPDX-License-Identifier: BSL-1.0
// VT-d's tables of scalable mode, from a requester id and a PASID to page tables (VT-d specification
// revision 4.1, section 9).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// 9.2, half of a scalable-mode root entry: the lower half is for devices 0-15 of the bus, the upper
// for 16-31. Each is changed by itself, so that it is an entry of its own here.
struct scalable_root_half : table_entry<scalable_root_half, 1> {
  static constexpr entry_field<0> p{};         // LP, UP
  static constexpr entry_field<63, 12> ctp{};  // LCTP, UCTP

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[1] = {decltype(p)::mask | decltype(ctp)::mask};

  [[nodiscard]] static constexpr scalable_root_half at(std::uint64_t context_table) noexcept {
    return scalable_root_half{}.with(p, true).with_address(ctp, context_table);
  }
};
static_assert(WireStruct<scalable_root_half> && sizeof(scalable_root_half) == 8);

// 9.4: 128 of 32 bytes, one per device and function of half a bus.
struct scalable_context_entry : table_entry<scalable_context_entry, 4> {
  static constexpr entry_field<0> p{};
  static constexpr entry_field<1> fpd{};
  static constexpr entry_field<2> dte{};       // device-TLB
  static constexpr entry_field<3> paside{};    // requests with PASID are let in
  static constexpr entry_field<4> pre{};       // page requests
  static constexpr entry_field<11, 9> pdts{};  // the PASID directory has 2^(pdts + 7) entries
  static constexpr entry_field<63, 12> pasiddirptr{};
  static constexpr entry_field<83, 64> rid_pasid{};  // stands for requests without PASID
  static constexpr entry_field<84> rid_priv{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[4] = {
      decltype(p)::mask | decltype(fpd)::mask | decltype(dte)::mask | decltype(paside)::mask |
          decltype(pre)::mask | decltype(pdts)::mask | decltype(pasiddirptr)::mask,
      decltype(rid_pasid)::mask | decltype(rid_priv)::mask, 0, 0};

  // A directory of 2^(7 + pdts_value) entries at `directory`, for PASIDs below 2^(13 + pdts_value).
  [[nodiscard]] static constexpr scalable_context_entry with_directory(
      std::uint64_t directory, std::uint8_t pdts_value, std::uint32_t rid_pasid_value = 0,
      bool pasids = false) noexcept {
    return scalable_context_entry{}
        .with(p, true)
        .with(paside, pasids)
        .with(pdts, pdts_value)
        .with_address(pasiddirptr, directory)
        .with(rid_pasid, rid_pasid_value);
  }
};
static_assert(WireStruct<scalable_context_entry> && sizeof(scalable_context_entry) == 32);

// 9.5: indexed by PASID bits 19:6.
struct pasid_directory_entry : table_entry<pasid_directory_entry, 1> {
  static constexpr entry_field<0> p{};
  static constexpr entry_field<1> fpd{};
  static constexpr entry_field<63, 12> smptblptr{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[1] = {decltype(p)::mask | decltype(fpd)::mask |
                                             decltype(smptblptr)::mask};

  [[nodiscard]] static constexpr pasid_directory_entry at(std::uint64_t table) noexcept {
    return pasid_directory_entry{}.with(p, true).with_address(smptblptr, table);
  }
};
static_assert(WireStruct<pasid_directory_entry> && sizeof(pasid_directory_entry) == 8);

// PASID granular translation type (9.6).
enum class granular_type : std::uint8_t {
  first_stage = 1,
  second_stage = 2,
  nested = 3,
  pass_through = 4,
};

// 9.6: 64 of 64 bytes, indexed by PASID bits 5:0.
struct pasid_entry : table_entry<pasid_entry, 8> {
  static constexpr entry_field<0> p{};
  static constexpr entry_field<1> fpd{};
  static constexpr entry_field<4, 2> aw{};  // of the second stage
  static constexpr entry_field<5> ssee{};   // execute enable, second stage
  static constexpr entry_field<8, 6, granular_type> pgtt{};
  static constexpr entry_field<9> ssade{};  // accessed and dirty bits, second stage
  static constexpr entry_field<63, 12> ssptptr{};
  static constexpr entry_field<79, 64> did{};
  static constexpr entry_field<87> pwsnp{};
  static constexpr entry_field<88> pgsnp{};
  static constexpr entry_field<89> cd{};
  static constexpr entry_field<90> emte{};
  static constexpr entry_field<91, 89> memory_controls{};  // CD, EMTE, and the bit beside them
  static constexpr entry_field<95, 92> pwt_pcd{};
  static constexpr entry_field<127, 96> pat{};
  static constexpr entry_field<128> sre{};
  static constexpr entry_field<129> ere{};
  static constexpr entry_field<131, 130> fspm{};  // first-stage paging: 0 four levels, 1 five
  static constexpr entry_field<132> wpe{};
  static constexpr entry_field<133> nxe{};
  static constexpr entry_field<134> smep{};
  static constexpr entry_field<135> eafe{};
  static constexpr entry_field<191, 140> fsptptr{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[8] = {
      decltype(p)::mask | decltype(fpd)::mask | decltype(aw)::mask | decltype(ssee)::mask |
          decltype(pgtt)::mask | decltype(ssade)::mask | decltype(ssptptr)::mask,
      decltype(did)::mask | decltype(pwsnp)::mask | decltype(pgsnp)::mask |
          decltype(memory_controls)::mask | decltype(pwt_pcd)::mask | decltype(pat)::mask,
      decltype(sre)::mask | decltype(ere)::mask | decltype(fspm)::mask | decltype(wpe)::mask |
          decltype(nxe)::mask | decltype(smep)::mask | decltype(eafe)::mask |
          decltype(fsptptr)::mask,
      0,
      0,
      0,
      0,
      0};

  // `track_dirty`: hardware sets accessed and dirty bits (ECAP.SSADS).
  [[nodiscard]] static constexpr pasid_entry second_stage(std::uint64_t page_table, vtd_width width,
                                                          std::uint16_t domain,
                                                          bool track_dirty = false) noexcept {
    return pasid_entry{}
        .with(ssade, track_dirty)
        .with(p, true)
        .with(pgtt, granular_type::second_stage)
        .with(aw, static_cast<std::uint8_t>(width))
        .with_address(ssptptr, page_table)
        .with(did, domain);
  }
  // AW has the same meaning as FSPM: hardware reads FSPM, QEMU reads AW.
  [[nodiscard]] static constexpr pasid_entry first_stage(std::uint64_t page_table, bool five_levels,
                                                         std::uint16_t domain) noexcept {
    pasid_entry e = pasid_entry{}
                        .with(p, true)
                        .with(pgtt, granular_type::first_stage)
                        .with(aw, static_cast<std::uint8_t>(five_levels ? 3 : 2))
                        .with(did, domain)
                        .with(fspm, static_cast<std::uint8_t>(five_levels ? 1 : 0));
    e.words[2] = e.words[2].get() | page_table;
    return e;
  }
  [[nodiscard]] static constexpr pasid_entry pass_through(std::uint16_t domain) noexcept {
    return pasid_entry{}.with(p, true).with(pgtt, granular_type::pass_through).with(did, domain);
  }
};
static_assert(WireStruct<pasid_entry> && sizeof(pasid_entry) == 64);

}  // namespace phasebit::iommu::vtd
