// SPDX-License-Identifier: BSL-1.0
// VT-d as a remapper's architecture (VT-d specification revision 4.1, chapters 3, 5 and 9).
#pragma once

#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>
#include <phasebit/iommu/page_table/page_table_view.hpp>
#include <phasebit/iommu/translation/remapper_architecture.hpp>
#include <phasebit/iommu/vtd/device_table.hpp>
#include <phasebit/iommu/vtd/device_table_scalable.hpp>
#include <phasebit/iommu/vtd/fault_codes.hpp>
#include <phasebit/iommu/vtd/spec/interrupt_tables.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// The features of the IOMMU: CAP and ECAP.
struct features {
  unsigned address_bits = 46;   // of the host: bits above are reserved everywhere
  unsigned input_bits = 48;     // CAP.MGAW + 1
  std::uint8_t widths = 0b110;  // CAP.SAGAW: bit n is tables of n + 2 levels
  bool pages_2m = true;         // CAP.SSLPS
  bool pages_1g = true;
  bool snoop_control = false;  // ECAP.SC
  bool pass_through = true;    // ECAP.PT
  bool scalable = true;        // ECAP.SMTS with SSTS
  bool first_stage = true;     // ECAP.FSTS
  bool five_levels = false;    // CAP.FS5LP
  bool set_dirty = false;      // ECAP.SSADS: without it, SSADE of a PASID entry is reserved

  // ECAP.FSTS. The first stage exists in scalable mode only.
  [[nodiscard]] constexpr bool walks_first_stage() const noexcept {
    return scalable && first_stage;
  }
};

// Legacy mode: second-stage tables and pass-through. Scalable mode: PASID tables with first stage,
// second stage or pass-through; nested translation is not there, nor are device TLBs, so that
// entries that request them are refused as the specification has it. Posted interrupts are not
// there either (CAP.PI = 0).
struct remapping {
  struct context : device_state {
    fault_domain faults = fault_domain::legacy;
    std::uint64_t root = 0;
    bool track_dirty = false;  // SSADE
    std::uint8_t width = 0;    // vtd_width, or with first_stage whether there are five levels
  };
  static constexpr bool interrupts_by_device = false;

  features capabilities{};
  bool enabled = false;  // GSTS.TES
  table_mode mode = table_mode::legacy;
  std::uint64_t root = 0;
  bool remap_interrupts = false;  // GSTS.IRES
  bool compatibility = false;     // GSTS.CFIS
  bool extended = false;          // IRTA.EIME
  std::uint64_t interrupt_table = 0;
  unsigned log2_interrupts = 1;  // IRTA.S + 1

  [[nodiscard]] bool translates() const noexcept { return enabled; }
  [[nodiscard]] unsigned output_bits() const noexcept { return capabilities.address_bits; }

  template <TableReader Tables>
  [[nodiscard]] refusal resolve(Tables& tables, const dma_request& request,
                                context& state) const noexcept {
    switch (mode) {
      case table_mode::legacy:
        return resolve_legacy(tables, request, state);
      case table_mode::scalable:
        return resolve_scalable(tables, request, state);
      default:
        // All requests are blocked, and none is recorded (11.4.5, TTM).
        state.report = false;
        return {fault_reason::all_blocked};
    }
  }

  template <TableReader Tables>
  [[nodiscard]] page_lookup<typename Tables::space> lookup(Tables& tables, const context& state,
                                                           std::uint64_t a,
                                                           access wanted) const noexcept {
    using space = typename Tables::space;
    if (state.faults == fault_domain::first_stage) {
      const x86_first_stage format{.five_levels = state.width != 0,
                                   .address_bits = capabilities.address_bits,
                                   .pages_1g = capabilities.pages_1g};
      return page_table_view<x86_first_stage, Tables>{format, tables, address<space>{state.root}}
          .access_page(bus_addr{a}, wanted);
    }
    const vtd_second_stage format{.width = static_cast<vtd_width>(state.width),
                                  .address_bits = capabilities.address_bits,
                                  .pages_2m = capabilities.pages_2m,
                                  .pages_1g = capabilities.pages_1g,
                                  .snoop_control = capabilities.snoop_control,
                                  .track_dirty = state.track_dirty};
    if (capabilities.input_bits < format.input_bits() && a >> capabilities.input_bits != 0) {
      page_lookup<space> beyond;
      beyond.status = walk_status::beyond_width;
      return beyond;
    }
    return page_table_view<vtd_second_stage, Tables>{format, tables, address<space>{state.root}}
        .access_page(bus_addr{a}, wanted);
  }

  template <class Space>
  [[nodiscard]] static fault_reason reason_of(const page_lookup<Space>& page, const context&,
                                              std::uint64_t) noexcept {
    return iommu::reason_of(page.status);
  }
  [[nodiscard]] static bool finish(translation_fault& fault, const context& state) noexcept {
    const fault_code code = code_of(fault, state.faults);
    fault.code = static_cast<std::uint16_t>(code);
    return state.report && fault.code != 0;
  }

  // 5.1.2: the index of a remappable request, or what becomes of one in compatibility format.
  [[nodiscard]] interrupt_slot locate_interrupt(const context&, pcie::requester_id,
                                                const pcie::msi_message& message) const noexcept {
    interrupt_slot slot;
    if (!remap_interrupts) return slot;
    const remappable_address form{static_cast<std::uint32_t>(message.address.value())};
    if (!form[remappable_address::format]) {
      if (compatibility && !extended) return slot;
      slot.action = interrupt_action::refuse;
      slot.reason = fault_reason::interrupt_refused;
      return slot;
    }
    slot.index = form.handle();
    if (form[remappable_address::shv]) {
      slot.index += message.data & 0xffff;
      if (message.data >> 16 != 0) {
        slot.action = interrupt_action::refuse;
        slot.reason = fault_reason::interrupt_malformed_request;
        return slot;
      }
    }
    if (slot.index >> log2_interrupts != 0) {
      slot.action = interrupt_action::refuse;
      slot.reason = fault_reason::interrupt_beyond;
      return slot;
    }
    slot.action = interrupt_action::lookup;
    slot.at = interrupt_table + std::uint64_t{slot.index} * sizeof(interrupt_entry);
    return slot;
  }

  [[nodiscard]] fault_reason check_interrupt(interrupt_slot& slot, const interrupt_words& words,
                                             pcie::requester_id requester,
                                             remapped_interrupt& out) const noexcept {
    const interrupt_entry e{{{words.word[0], words.word[1]}}};
    slot.report = !e[interrupt_entry::fpd];  // looked at whether the entry is present or not
    if (!e[interrupt_entry::p]) return fault_reason::interrupt_absent;
    const unsigned mode_field = e[interrupt_entry::dlm];
    const std::uint32_t dst = e[interrupt_entry::dst];
    if (e[interrupt_entry::im] || e.has_other_bits(interrupt_entry::known_remapped) ||
        mode_field == 3 || mode_field == 6 || static_cast<unsigned>(e[interrupt_entry::svt]) == 3 ||
        (!extended && (dst & ~std::uint32_t{0xff00}) != 0)) {
      return fault_reason::interrupt_malformed;
    }
    if (!is_source(e, requester.raw())) return fault_reason::interrupt_source;
    out = {.vector = e[interrupt_entry::v],
           .delivery_mode = static_cast<std::uint8_t>(mode_field),
           .logical = e[interrupt_entry::dm],
           .level = e[interrupt_entry::tm],
           .redirection_hint = e[interrupt_entry::rh],
           .destination = extended ? dst : dst >> 8 & 0xff};
    return fault_reason::none;
  }

 private:
  // 9.9, SVT and SQ.
  [[nodiscard]] static bool is_source(const interrupt_entry& e, std::uint16_t id) noexcept {
    const std::uint16_t sid = e[interrupt_entry::sid];
    switch (e[interrupt_entry::svt]) {
      case source_validation::requester: {
        // How many of the function number's bits count: all; not 2; not 2 and 1; none.
        constexpr std::uint16_t ignored[] = {0, 4, 6, 7};
        return ((sid ^ id) & static_cast<std::uint16_t>(~ignored[e[interrupt_entry::sq]])) == 0;
      }
      case source_validation::bus_range:
        return id >> 8 >= sid >> 8 && id >> 8 <= (sid & 0xff);
      default:
        return true;
    }
  }

  [[nodiscard]] bool has_width(unsigned aw) const noexcept {
    return aw >= 1 && aw <= 3 && (widths_of(capabilities) >> aw & 1U) != 0;
  }
  [[nodiscard]] static constexpr unsigned widths_of(const features& f) noexcept { return f.widths; }
  // Addresses of tables have bits that the host does not have.
  [[nodiscard]] bool beyond(std::uint64_t a) const noexcept {
    return a >> capabilities.address_bits != 0;
  }

  [[nodiscard]] static refusal link_refusal(const entry_place& place) noexcept {
    switch (place.status) {
      case walk_status::absent:
        return {fault_reason::link_absent, place.level, place.at};
      case walk_status::malformed:
        return {fault_reason::link_malformed, place.level, place.at};
      default:
        return {place.level != 0 ? fault_reason::link_unreadable : fault_reason::entry_unreadable,
                place.level, place.at};
    }
  }

  template <TableReader Tables>
  [[nodiscard]] refusal resolve_legacy(Tables& tables, const dma_request& request,
                                       context& state) const noexcept {
    state.faults = fault_domain::legacy;
    if (request.has_pasid) return {fault_reason::request_refused};
    const entry_place place = find_device_entry(
        legacy_tables{}, tables, address<typename Tables::space>{root}, request.requester.raw());
    if (place.status != walk_status::mapped) return link_refusal(place);
    const auto e = load_entry_words<context_entry>(place.entry);
    state.report = !e[context_entry::fpd];  // looked at whether the entry is present or not (9.3)
    if (!e[context_entry::p]) return {fault_reason::entry_absent, 0, place.at};
    const std::uint64_t table = e.address(context_entry::ssptptr);
    if (e.has_other_bits(context_entry::known)) return {fault_reason::entry_malformed};
    state.domain = e[context_entry::did];
    state.width = e[context_entry::aw];
    if (!has_width(state.width)) return {fault_reason::entry_unsupported};
    if (e[context_entry::tt] == translation_type::pass_through && capabilities.pass_through) {
      state.kind = translation_kind::untranslated;
      return {};
    }
    if (e[context_entry::tt] != translation_type::untranslated) {
      return {fault_reason::entry_unsupported};
    }
    if (beyond(table)) return {fault_reason::entry_malformed};
    state.kind = translation_kind::tables;
    state.root = table;
    return {};
  }

  template <TableReader Tables>
  [[nodiscard]] refusal resolve_scalable(Tables& tables, const dma_request& request,
                                         context& state) const noexcept {
    using space = typename Tables::space;
    state.faults = fault_domain::second_stage;
    const entry_place place =
        find_device_entry(scalable_tables{}, tables, address<space>{root}, request.requester.raw());
    if (place.status != walk_status::mapped) return link_refusal(place);
    const auto e = load_entry_words<scalable_context_entry>(place.entry);
    state.report = !e[scalable_context_entry::fpd];
    if (!e[scalable_context_entry::p]) return {fault_reason::entry_absent, 0, place.at};
    if (e.has_other_bits(scalable_context_entry::known)) return {fault_reason::entry_malformed};
    if (e[scalable_context_entry::dte] || e[scalable_context_entry::pre] ||
        !capabilities.scalable) {
      return {fault_reason::entry_unsupported};
    }
    if (request.has_pasid && !e[scalable_context_entry::paside]) {
      return {fault_reason::request_refused};
    }
    const std::uint32_t pasid =
        request.has_pasid ? request.pasid : e[scalable_context_entry::rid_pasid];
    const pasid_tables layout{.directory_bits = e[scalable_context_entry::pdts] + 7U};
    const entry_place leaf = find_device_entry(
        layout, tables, address<space>{e.address(scalable_context_entry::pasiddirptr)}, pasid);
    return resolve_pasid(leaf, pasid, state);
  }

  [[nodiscard]] refusal resolve_pasid(const entry_place& leaf, std::uint32_t pasid,
                                      context& state) const noexcept {
    switch (leaf.status) {
      case walk_status::mapped:
        break;
      case walk_status::beyond_width:
        return {fault_reason::pasid_beyond};
      case walk_status::absent:
        return {fault_reason::pasid_link_absent, leaf.level, leaf.at};
      case walk_status::malformed:
        return {fault_reason::pasid_link_malformed, leaf.level, leaf.at};
      default:
        return {leaf.level != 0 ? fault_reason::pasid_link_unreadable
                                : fault_reason::pasid_entry_unreadable,
                leaf.level, leaf.at};
    }
    const auto e = load_entry_words<pasid_entry>(leaf.entry);
    if (e[pasid_entry::fpd]) state.report = false;
    if (!e[pasid_entry::p]) return {fault_reason::pasid_entry_absent, 0, leaf.at};
    if (e.has_other_bits(pasid_entry::known)) return {fault_reason::pasid_entry_malformed};
    state.domain = e[pasid_entry::did];
    switch (e[pasid_entry::pgtt]) {
      case granular_type::pass_through:
        if (!capabilities.pass_through) return {fault_reason::pasid_entry_unsupported};
        state.kind = translation_kind::untranslated;
        return {};
      case granular_type::second_stage:
        if (e[pasid_entry::ssade] && !capabilities.set_dirty)
          return {fault_reason::pasid_entry_malformed};
        state.track_dirty = e[pasid_entry::ssade];
        state.width = e[pasid_entry::aw];
        state.root = e.address(pasid_entry::ssptptr);
        if (!has_width(state.width)) return {fault_reason::pasid_entry_unsupported};
        break;
      case granular_type::first_stage: {
        const unsigned levels = e[pasid_entry::fspm];
        if (!capabilities.first_stage || levels > (capabilities.five_levels ? 1U : 0U)) {
          return {fault_reason::pasid_entry_unsupported};
        }
        state.faults = fault_domain::first_stage;
        state.width = static_cast<std::uint8_t>(levels);
        state.root = e.address(pasid_entry::fsptptr);
        state.pasid = pasid;
        break;
      }
      default:
        return {fault_reason::pasid_entry_unsupported};
    }
    if (beyond(state.root)) return {fault_reason::pasid_entry_malformed};
    state.kind = translation_kind::tables;
    return {};
  }
};
static_assert(IommuArchitecture<remapping, table_window<>>);
static_assert(RemapsInterrupts<remapping>);

}  // namespace phasebit::iommu::vtd
