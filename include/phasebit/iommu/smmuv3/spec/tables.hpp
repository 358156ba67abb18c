// SPDX-License-Identifier: BSL-1.0
// SMMUv3's stream table (Arm SMMU architecture specification, IHI 0070, chapter 5): from a StreamID,
// which is the requester id of a PCIe function, to stage 2 tables.
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::smmuv3 {

// STE.Config (5.2).
enum class stream_config : std::uint8_t {
  abort = 0,  // nothing is let through, and no event is recorded
  bypass = 4,
  stage1 = 5,
  stage2 = 6,
  nested = 7,
};

// STE.S2TG: granule of the stage 2 tables.
enum class granule : std::uint8_t { kib_4 = 0, kib_64 = 1, kib_16 = 2 };

// STE.S2PS: width of the output address.
[[nodiscard]] constexpr unsigned output_bits(unsigned s2ps) noexcept {
  constexpr unsigned bits[] = {32, 36, 40, 42, 44, 48, 52, 52};
  return bits[s2ps & 7U];
}
[[nodiscard]] constexpr std::uint8_t s2ps_of(unsigned address_bits) noexcept {
  std::uint8_t code = 0;
  while (code != 5 && output_bits(code) < address_bits) ++code;
  return code;
}

// The stage 2 configuration of a stream: the part of VTCR_EL2 that an STE contains.
struct stage2_tables {
  std::uint64_t root = 0;
  std::uint16_t vmid = 0;
  granule page = granule::kib_4;
  unsigned ipa_bits = 48;        // 64 - S2T0SZ
  unsigned address_bits = 48;    // S2PS
  unsigned start_level = 0;      // the architecture's: 0 is the highest
  bool hardware_access = false;  // S2HA
  bool track_dirty = false;      // S2HD, which needs S2HA
};

// The encoding of tables in this format in an STE.
template <unsigned GranuleShift>
[[nodiscard]] constexpr stage2_tables stage2_of(const arm_stage2<GranuleShift>& format,
                                                std::uint64_t root, std::uint16_t vmid) noexcept {
  return {.root = root,
          .vmid = vmid,
          .page = GranuleShift == 12   ? granule::kib_4
                  : GranuleShift == 14 ? granule::kib_16
                                       : granule::kib_64,
          .ipa_bits = format.ipa_bits,
          .address_bits = format.address_bits,
          .start_level = 3 - format.top_level(),
          .hardware_access = format.hardware_access,
          .track_dirty = format.track_dirty};
}

// 5.2, stream table entry: 64 bytes.
struct stream_table_entry : table_entry<stream_table_entry, 8> {
  static constexpr entry_field<0> v{};
  static constexpr entry_field<3, 1, stream_config> config{};
  static constexpr entry_field<5, 4> s1fmt{};
  static constexpr entry_field<55, 6> s1contextptr{};
  static constexpr entry_field<63, 59> s1cdmax{};
  static constexpr entry_field<65, 64> s1dss{};
  static constexpr entry_field<67, 66> s1cir{};
  static constexpr entry_field<69, 68> s1cor{};
  static constexpr entry_field<71, 70> s1csh{};
  static constexpr entry_field<91> s1stalld{};
  static constexpr entry_field<93, 92> eats{};
  static constexpr entry_field<95, 94> strw{};
  static constexpr entry_field<109, 108> shcfg{};  // 1: incoming
  static constexpr entry_field<143, 128> s2vmid{};
  static constexpr entry_field<165, 160> s2t0sz{};
  static constexpr entry_field<167, 166> s2sl0{};
  static constexpr entry_field<169, 168> s2ir0{};
  static constexpr entry_field<171, 170> s2or0{};
  static constexpr entry_field<173, 172> s2sh0{};
  static constexpr entry_field<175, 174> s2tg{};
  static constexpr entry_field<178, 176> s2ps{};
  static constexpr entry_field<179> s2aa64{};
  static constexpr entry_field<180> s2endi{};  // big-endian tables
  static constexpr entry_field<181> s2affd{};  // access flag faults are disabled
  static constexpr entry_field<182> s2ptw{};
  static constexpr entry_field<183> s2hd{};
  static constexpr entry_field<184> s2ha{};
  static constexpr entry_field<185> s2s{};  // stall on faults
  static constexpr entry_field<186> s2r{};  // record faults
  static constexpr entry_field<243, 196> s2ttb{};

  // Closed: valid, and aborting. V = 0 would abort as well, and record an event for each access.
  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = false;
  static constexpr std::uint64_t closed = decltype(v)::mask;
  static constexpr std::uint64_t gate_mask = decltype(config)::mask;

  // Stage 2 only, walks inner-shareable and write-back, faults recorded and never stalled.
  [[nodiscard]] static constexpr stream_table_entry translated(const stage2_tables& t) noexcept {
    // S2SL0 counts up from a granule's own lowest start (5.2, table of S2SL0).
    const unsigned highest = t.page == granule::kib_4 ? 2 : 3;
    return stream_table_entry{}
        .with(v, true)
        .with(config, stream_config::stage2)
        .with(shcfg, 1)
        .with(s2vmid, t.vmid)
        .with(s2t0sz, static_cast<std::uint8_t>(64 - t.ipa_bits))
        .with(s2sl0, static_cast<std::uint8_t>(highest - t.start_level))
        .with(s2ir0, 1)
        .with(s2or0, 1)
        .with(s2sh0, 3)
        .with(s2tg, static_cast<std::uint8_t>(t.page))
        .with(s2ps, s2ps_of(t.address_bits))
        .with(s2aa64, true)
        .with(s2ptw, true)
        .with(s2ha, t.hardware_access || t.track_dirty)
        .with(s2hd, t.track_dirty)
        .with(s2r, true)
        .with_address(s2ttb, t.root);
  }
  [[nodiscard]] static constexpr stream_table_entry bypass() noexcept {
    return stream_table_entry{}.with(v, true).with(config, stream_config::bypass).with(shcfg, 1);
  }
  [[nodiscard]] static constexpr stream_table_entry aborted() noexcept {
    return stream_table_entry{}.with(v, true);
  }
};
static_assert(WireStruct<stream_table_entry> && sizeof(stream_table_entry) == 64);
static_assert(decltype(stream_table_entry::s2ttb)::mask == 0x000f'ffff'ffff'fff0);

// 5.1, level 1 stream table descriptor: points at 2^(span - 1) entries; span 0 at none.
struct level1_descriptor : table_entry<level1_descriptor, 1> {
  static constexpr entry_field<4, 0> span{};
  static constexpr entry_field<55, 6> l2ptr{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = false;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = decltype(span)::mask;

  // 2^log2_entries entries at `table`, aligned to their size.
  [[nodiscard]] static constexpr level1_descriptor at(std::uint64_t table,
                                                      unsigned log2_entries) noexcept {
    return level1_descriptor{}
        .with(span, static_cast<std::uint8_t>(log2_entries + 1))
        .with_address(l2ptr, table);
  }
};
static_assert(WireStruct<level1_descriptor> && sizeof(level1_descriptor) == 8);

}  // namespace phasebit::iommu::smmuv3
