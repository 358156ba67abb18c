// SPDX-License-Identifier: BSL-1.0
// VT-d's tables from a requester id, and a PASID, to page tables, and its interrupt remapping
// table (VT-d specification revision 4.1, section 9).
#pragma once

#include <phasebit/iommu/device_table_entry.hpp>
#include <phasebit/iommu/formats/vtd.hpp>

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

  [[nodiscard]] static constexpr pasid_entry second_stage(std::uint64_t page_table, vtd_width width,
                                                          std::uint16_t domain) noexcept {
    return pasid_entry{}
        .with(p, true)
        .with(pgtt, granular_type::second_stage)
        .with(aw, static_cast<std::uint8_t>(width))
        .with_address(ssptptr, page_table)
        .with(did, domain);
  }
  [[nodiscard]] static constexpr pasid_entry first_stage(std::uint64_t page_table, bool five_levels,
                                                         std::uint16_t domain) noexcept {
    pasid_entry e = pasid_entry{}
                        .with(p, true)
                        .with(pgtt, granular_type::first_stage)
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

// How an interrupt's source is verified (9.9, SVT) and how much of the id is compared (SQ).
enum class source_validation : std::uint8_t { none = 0, requester = 1, bus_range = 2 };

// 9.9 (remapped) and 9.10 (posted): up to 65536 of 16 bytes.
struct interrupt_entry : table_entry<interrupt_entry, 2> {
  static constexpr entry_field<0> p{};
  static constexpr entry_field<1> fpd{};
  static constexpr entry_field<2> dm{};      // destination mode: 1 logical
  static constexpr entry_field<3> rh{};      // redirection hint
  static constexpr entry_field<4> tm{};      // trigger mode: 1 level
  static constexpr entry_field<7, 5> dlm{};  // delivery mode
  static constexpr entry_field<11, 8> avail{};
  static constexpr entry_field<14> urg{};  // posted only
  static constexpr entry_field<15> im{};   // 0 remapped, 1 posted
  static constexpr entry_field<23, 16> v{};
  static constexpr entry_field<63, 32> dst{};
  static constexpr entry_field<63, 38> pda_low{};  // posted only: descriptor address 31:6
  static constexpr entry_field<79, 64> sid{};
  static constexpr entry_field<81, 80> sq{};
  static constexpr entry_field<83, 82, source_validation> svt{};
  static constexpr entry_field<127, 96> pda_high{};  // posted only

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t source =
      decltype(sid)::mask | decltype(sq)::mask | decltype(svt)::mask;
  static constexpr std::uint64_t known_remapped[2] = {
      decltype(p)::mask | decltype(fpd)::mask | decltype(dm)::mask | decltype(rh)::mask |
          decltype(tm)::mask | decltype(dlm)::mask | decltype(avail)::mask | decltype(im)::mask |
          decltype(v)::mask | decltype(dst)::mask,
      source};
  static constexpr std::uint64_t known_posted[2] = {
      decltype(p)::mask | decltype(fpd)::mask | decltype(avail)::mask | decltype(urg)::mask |
          decltype(im)::mask | decltype(v)::mask | decltype(pda_low)::mask,
      source | decltype(pda_high)::mask};

  // A fixed, edge-triggered interrupt to one processor, from one function only. `destination` is
  // the APIC id: with extended mode (EIME) all 32 bits, else bits 15:8 of the field.
  [[nodiscard]] static constexpr interrupt_entry fixed(std::uint8_t vector,
                                                       std::uint32_t destination,
                                                       std::uint16_t requester,
                                                       bool extended = false) noexcept {
    return interrupt_entry{}
        .with(p, true)
        .with(v, vector)
        .with(dst, extended ? destination : (destination & 0xff) << 8)
        .with(sid, requester)
        .with(svt, source_validation::requester);
  }
};
static_assert(WireStruct<interrupt_entry> && sizeof(interrupt_entry) == 16);

// A message whose address says "remappable" (5.1.2.2): the handle in address bits 19:5 and 2, SHV in
// bit 3, the format in bit 4; the subhandle, where SHV is set, in data bits 15:0.
struct remappable_address : register_value<remappable_address, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<2> handle_15{};
  static constexpr field<3> shv{};
  static constexpr field<4> format{};
  static constexpr field<19, 5> handle_14_0{};
  static constexpr field<31, 20> prefix{};  // FEEh

  [[nodiscard]] static constexpr remappable_address of(std::uint16_t handle,
                                                       bool subhandles) noexcept {
    return remappable_address{}
        .with(prefix, 0xfee)
        .with(format, true)
        .with(shv, subhandles)
        .with(handle_15, (handle >> 15) != 0)
        .with(handle_14_0, static_cast<std::uint16_t>(handle & 0x7fff));
  }
  [[nodiscard]] constexpr std::uint16_t handle() const noexcept {
    return static_cast<std::uint16_t>((*this)[handle_14_0] | ((*this)[handle_15] ? 0x8000 : 0));
  }
};

}  // namespace phasebit::iommu::vtd
