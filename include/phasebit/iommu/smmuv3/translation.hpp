// SPDX-License-Identifier: BSL-1.0
// SMMUv3 as a remapper's architecture: stage 2 only (Arm IHI 0070, chapters 3 and 5).
#pragma once

#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>
#include <phasebit/iommu/page_table/page_table_view.hpp>
#include <phasebit/iommu/smmuv3/device_table.hpp>
#include <phasebit/iommu/smmuv3/fault_codec.hpp>
#include <phasebit/iommu/translation/remapper_architecture.hpp>

#include <cstdint>

namespace phasebit::iommu::smmuv3 {

// An SMMU with IDR0.S1P = 0: entries that request stage 1 are bad ones, as are those that stall, or
// whose tables are big-endian. Interrupts of devices are writes like any other.
struct remapping {
  struct context : device_state {
    std::uint64_t root = 0;
    granule page = granule::kib_4;
    std::uint8_t ipa_bits = 0;
    std::uint8_t address_bits = 0;
    bool concatenate = false;
    bool any_age = false;      // S2AFFD: the access flag is not looked at
    bool set_access = false;   // S2HA
    bool set_dirty = false;    // S2HD
    bool record_pages = true;  // S2R
  };

  unsigned address_bits = 48;   // IDR5.OAS, at most 48
  bool enabled = false;         // CR0.SMMUEN
  bool abort_when_off = false;  // GBPA.ABORT
  std::uint64_t stream_table = 0;
  unsigned log2_streams = 16;  // STRTAB_BASE_CFG.LOG2SIZE
  unsigned split = 0;          // 0: a linear table
  unsigned httu = 0;           // IDR0.HTTU: 1 hardware sets the access flag, 2 the dirty state, too

  [[nodiscard]] bool translates() const noexcept { return enabled || abort_when_off; }
  [[nodiscard]] unsigned output_bits() const noexcept { return address_bits; }

  template <TableReader Tables>
  [[nodiscard]] refusal resolve(Tables& tables, const dma_request& request,
                                context& state) const noexcept {
    if (!enabled) {
      state.report = false;
      return {fault_reason::all_blocked};
    }
    const address<typename Tables::space> base{stream_table};
    const std::uint32_t id = request.requester.raw();
    const entry_place place =
        split == 0 || split >= log2_streams
            ? find_device_entry(linear_stream_table{log2_streams}, tables, base, id)
            : find_device_entry(two_level_stream_table{log2_streams, split}, tables, base, id);
    switch (place.status) {
      case walk_status::mapped:
        break;
      case walk_status::unreadable:
        return {fault_reason::entry_unreadable, place.level, place.at};
      case walk_status::beyond_width:
        return {fault_reason::id_beyond};
      default:
        return {fault_reason::link_absent};
    }
    using ste = stream_table_entry;
    const auto e = load_entry_words<ste>(place.entry);
    if (!e[ste::v]) return {fault_reason::entry_absent};
    switch (static_cast<unsigned>(e[ste::config])) {
      case static_cast<unsigned>(stream_config::bypass):
        state.kind = translation_kind::untranslated;
        break;
      case static_cast<unsigned>(stream_config::stage2):
        if (!read_stage2(e, state)) return {fault_reason::entry_unsupported};
        break;
      case static_cast<unsigned>(stream_config::stage1):
      case static_cast<unsigned>(stream_config::nested):
        return {fault_reason::entry_unsupported};
      default:
        state.kind = translation_kind::silent;
        return {};
    }
    if (request.has_pasid) return {fault_reason::request_refused};
    return {};
  }

  template <TableReader Tables>
  [[nodiscard]] page_lookup<typename Tables::space> lookup(Tables& tables, const context& state,
                                                           std::uint64_t a,
                                                           access wanted) const noexcept {
    switch (state.page) {
      case granule::kib_4:
        return walk<12>(tables, state, a, wanted);
      case granule::kib_16:
        return walk<14>(tables, state, a, wanted);
      default:
        return walk<16>(tables, state, a, wanted);
    }
  }
  // An entry that the format calls malformed has no access flag, or an address that is too wide, or
  // is of a kind that its level does not have, which is the same as an invalid one (DDI 0487, D8.3).
  template <class Space>
  [[nodiscard]] fault_reason reason_of(const page_lookup<Space>& page, const context& state,
                                       std::uint64_t a) const noexcept {
    // Where stage 1 is bypassed, its output is the input, which memory may not have (3.4.1).
    if (a >> address_bits != 0) return fault_reason::page_beyond;
    if (page.status != walk_status::malformed) return iommu::reason_of(page.status);
    using format = arm_stage2<12>;
    const bool leaf = format::is_leaf(page.entry, page.level);
    constexpr std::uint64_t addresses = 0x0000'ffff'ffff'f000;
    if (state.address_bits < 48 && (page.entry & addresses) >> state.address_bits != 0) {
      return fault_reason::page_beyond;
    }
    if (leaf && !state.any_age && !state.set_access && (page.entry & format::access_flag) == 0) {
      return fault_reason::not_accessed;
    }
    return fault_reason::page_malformed;
  }
  // S2R = 0 leaves faults of translation unrecorded (5.2).
  [[nodiscard]] static bool finish(translation_fault& fault, const context& state) noexcept {
    if (state.kind == translation_kind::untranslated &&
        fault.reason == fault_reason::beyond_width) {
      fault.reason = fault_reason::page_beyond;
    }
    const event_code code = code_of(fault.reason);
    fault.code = static_cast<std::uint16_t>(code);
    if (fault.reason == fault_reason::all_blocked || !state.report) return false;
    return state.record_pages || code < event_code::f_translation;
  }

 private:
  [[nodiscard]] bool read_stage2(const stream_table_entry& e, context& state) const noexcept {
    using ste = stream_table_entry;
    const unsigned t0sz = e[ste::s2t0sz];
    if (!e[ste::s2aa64] || e[ste::s2endi] || e[ste::s2s] || e[ste::s2tg] == 3) return false;
    if (t0sz < 16 || t0sz > 39) return false;
    state.kind = translation_kind::tables;
    state.domain = e[ste::s2vmid];
    state.page = static_cast<granule>(e[ste::s2tg]);
    state.ipa_bits = static_cast<std::uint8_t>(64 - t0sz);
    // A width above the SMMU's own is taken for that.
    const unsigned bits = smmuv3::output_bits(e[ste::s2ps]);
    state.address_bits = static_cast<std::uint8_t>(bits < address_bits ? bits : address_bits);
    state.root = e.address(ste::s2ttb);
    state.any_age = e[ste::s2affd];
    state.set_access = e[ste::s2ha] && httu >= 1;
    state.set_dirty = state.set_access && e[ste::s2hd] && httu >= 2;
    state.record_pages = e[ste::s2r];
    // The start level must be the one of the width, or the one below with concatenated tables.
    const unsigned highest = state.page == granule::kib_4 ? 2 : 3;
    if (e[ste::s2sl0] > highest || e[ste::s2sl0] == 3) return false;
    const unsigned top = 3 - (highest - e[ste::s2sl0]);
    for (const bool concatenate : {false, true}) {
      if (top_level(state, concatenate) != top) continue;
      state.concatenate = concatenate;
      return true;
    }
    return false;
  }
  [[nodiscard]] static unsigned top_level(const context& state, bool concatenate) noexcept {
    switch (state.page) {
      case granule::kib_4:
        return arm_stage2<12>{.ipa_bits = state.ipa_bits, .concatenate = concatenate}.top_level();
      case granule::kib_16:
        return arm_stage2<14>{.ipa_bits = state.ipa_bits, .concatenate = concatenate}.top_level();
      default:
        return arm_stage2<16>{.ipa_bits = state.ipa_bits, .concatenate = concatenate}.top_level();
    }
  }
  template <unsigned GranuleShift, TableReader Tables>
  [[nodiscard]] static page_lookup<typename Tables::space> walk(Tables& tables,
                                                                const context& state,
                                                                std::uint64_t a,
                                                                access wanted) noexcept {
    using format = arm_stage2<GranuleShift>;
    const format f{.ipa_bits = state.ipa_bits,
                   .address_bits = state.address_bits,
                   .concatenate = state.concatenate,
                   .hardware_access = state.set_access,
                   .track_dirty = state.set_dirty,
                   .ignore_access = state.any_age};
    const std::uint64_t root =
        state.root & ~std::uint64_t{table_geometry<format>::root_entries(f) * 8U - 1U};
    return page_table_view<format, Tables>{f, tables, address<typename Tables::space>{root}}
        .access_page(bus_addr{a}, wanted);
  }
};
static_assert(IommuArchitecture<remapping, table_window<>>);
static_assert(!RemapsInterrupts<remapping>);

}  // namespace phasebit::iommu::smmuv3
