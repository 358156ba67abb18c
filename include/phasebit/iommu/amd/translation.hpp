// SPDX-License-Identifier: BSL-1.0
// AMD's IOMMU as a remapper's architecture (AMD 48882 revision 3.08, 2.2).
#pragma once

#include <phasebit/iommu/amd/device_table.hpp>
#include <phasebit/iommu/amd/fault_codec.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/page_table/formats/amdv1.hpp>
#include <phasebit/iommu/page_table/page_table_view.hpp>
#include <phasebit/iommu/translation/remapper_architecture.hpp>

#include <cstdint>

namespace phasebit::iommu::amd {

// Host translation with tables of one to six levels, and interrupt remapping. Guest translation
// (GV) and IOTLBs of devices are not there: entries that request them are illegal. A requester
// beyond the table's size gets ILLEGAL_DEV_TABLE_ENTRY, because it has no entry that could be legal.
struct remapping {
  struct context : device_state {
    std::uint64_t root = 0;
    std::uint64_t interrupts = 0;  // word 2 of the entry
    std::uint8_t mode = 0;
    std::uint8_t had = 0;
    bool first_only = false;  // SE
    bool quiet = false;       // SA
    bool told = false;        // SE, and there was a fault
  };
  static constexpr bool interrupts_by_device = true;

  unsigned address_bits = 48;
  bool enabled = false;  // Control.IommuEn
  std::uint64_t device_table = 0;
  std::uint32_t size_field = 0;  // of the device table's base register
  bool set_dirty = false;        // EFR.HASup and HDSup: without them, DTE.HAD is not looked at
  bool wide_interrupts = false;  // Control.GAEn: interrupt entries of 128 bits

  [[nodiscard]] bool translates() const noexcept { return enabled; }
  [[nodiscard]] unsigned output_bits() const noexcept { return address_bits; }

  template <TableReader Tables>
  [[nodiscard]] refusal resolve(Tables& tables, const dma_request& request,
                                context& state) const noexcept {
    const std::uint32_t id = request.requester.raw();
    if (id >= device_table_entries(size_field)) return {fault_reason::id_beyond};
    const entry_place place = find_device_entry(linear_device_table{}, tables,
                                                address<typename Tables::space>{device_table}, id);
    if (place.status != walk_status::mapped) {
      return {fault_reason::entry_unreadable, 0, place.at};
    }
    using dte = device_table_entry;
    const auto e = load_entry_words<dte>(place.entry);
    state.interrupts = e.words[2].get();
    if (e[dte::iv] && ((state.interrupts & dte::reserved_interrupt) != 0 ||
                       e[dte::inttablen] > 11 || static_cast<unsigned>(e[dte::intctl]) == 3)) {
      return {fault_reason::entry_malformed};
    }
    if (!e[dte::v]) {
      // Not valid: the access passes, and the other fields of the entry are ignored (table 7).
      state.kind = translation_kind::untranslated;
      return {};
    }
    state.domain = e[dte::domain_id];
    state.quiet = e[dte::sa];
    state.first_only = e[dte::se];
    if ((e.words[0].get() & dte::reserved_translation) != 0) {
      return {fault_reason::entry_malformed};
    }
    if (!e[dte::tv] || request.has_pasid) return {fault_reason::request_refused};
    if (e[dte::mode] == 7 || e[dte::gv] || e[dte::i]) return {fault_reason::entry_unsupported};
    state.permissions = static_cast<std::uint8_t>((e[dte::ir] ? 1U : 0U) | (e[dte::iw] ? 2U : 0U));
    state.mode = e[dte::mode];
    if (set_dirty) {
      state.had = e[dte::had];
      if (state.had == 2) return {fault_reason::entry_malformed};
    }
    state.root = e.address(dte::root);
    state.kind = state.mode == 0 ? translation_kind::untranslated : translation_kind::tables;
    return {};
  }

  template <TableReader Tables>
  [[nodiscard]] page_lookup<typename Tables::space> lookup(Tables& tables, const context& state,
                                                           std::uint64_t a,
                                                           access wanted) const noexcept {
    const amd_v1 format{.mode = state.mode,
                        .address_bits = address_bits,
                        .track_accessed = (state.had & 1) != 0,
                        .track_dirty = state.had == 3};
    return page_table_view<amd_v1, Tables>{format, tables,
                                           address<typename Tables::space>{state.root}}
        .access_page(bus_addr{a}, wanted);
  }
  template <class Space>
  [[nodiscard]] static fault_reason reason_of(const page_lookup<Space>& page, const context&,
                                              std::uint64_t) noexcept {
    return iommu::reason_of(page.status);
  }
  // SA suppresses page faults, SE all but the first until the entry is invalidated; other events
  // are always logged (table 7).
  [[nodiscard]] static bool finish(translation_fault& fault, context& state) noexcept {
    const event_code code = code_of(fault.reason);
    fault.code = static_cast<std::uint16_t>(code);
    if (code != event_code::io_page_fault || fault.interrupt) return true;
    if (state.quiet || (state.first_only && state.told)) return false;
    state.told = true;
    return true;
  }

  [[nodiscard]] interrupt_slot locate_interrupt(const context& state, pcie::requester_id requester,
                                                const pcie::msi_message& message) const noexcept {
    using dte = device_table_entry;
    dte e{};
    e.words[2] = state.interrupts;
    interrupt_slot slot;
    if (!e[dte::iv]) return slot;
    slot.report = !e[dte::ig];
    slot.owner = requester.raw();
    slot.index = message.data & 0x7ff;
    if (e[dte::intctl] == interrupt_control::forward) return slot;
    slot.action = interrupt_action::refuse;
    if (e[dte::intctl] == interrupt_control::abort) {
      slot.reason = fault_reason::interrupt_refused;
    } else if (slot.index >> e[dte::inttablen] != 0) {
      slot.reason = fault_reason::interrupt_beyond;
    } else {
      slot.action = interrupt_action::lookup;
      slot.bytes = wide_interrupts ? 16 : 4;
      slot.at = e.address(dte::introot) + std::uint64_t{slot.index} * slot.bytes;
    }
    return slot;
  }

  [[nodiscard]] fault_reason check_interrupt(interrupt_slot& slot, const interrupt_words& words,
                                             pcie::requester_id,
                                             remapped_interrupt& out) const noexcept {
    return slot.bytes == 4 ? check_narrow(slot, words, out) : check_wide(slot, words, out);
  }

 private:
  [[nodiscard]] static fault_reason check_narrow(interrupt_slot& slot, const interrupt_words& words,
                                                 remapped_interrupt& out) noexcept {
    const interrupt_entry e{static_cast<std::uint32_t>(words.word[0])};
    if (e[interrupt_entry::supiopf]) slot.report = false;
    if (!e[interrupt_entry::remapen]) return fault_reason::interrupt_absent;
    if ((e.raw & interrupt_entry::reserved) != 0 || e[interrupt_entry::guestmode] ||
        e[interrupt_entry::inttype] > 1) {
      return fault_reason::interrupt_malformed;
    }
    out = {.vector = e[interrupt_entry::vector],
           .delivery_mode = e[interrupt_entry::inttype],
           .logical = e[interrupt_entry::dm],
           .destination = e[interrupt_entry::destination]};
    return fault_reason::none;
  }
  [[nodiscard]] static fault_reason check_wide(interrupt_slot& slot, const interrupt_words& words,
                                               remapped_interrupt& out) noexcept {
    using wide = wide_interrupt_entry;
    const wide e{{{words.word[0], words.word[1]}}};
    if (e[wide::supiopf]) slot.report = false;
    if (!e[wide::remapen]) return fault_reason::interrupt_absent;
    if (e.has_other_bits(wide::known) || e[wide::guestmode] || e[wide::inttype] > 1) {
      return fault_reason::interrupt_malformed;
    }
    out = {
        .vector = e[wide::vector],
        .delivery_mode = e[wide::inttype],
        .logical = e[wide::dm],
        .destination = e[wide::destination_low] | std::uint32_t{e[wide::destination_high]} << 24};
    return fault_reason::none;
  }
};
static_assert(IommuArchitecture<remapping, table_window<>>);
static_assert(RemapsInterrupts<remapping>);

}  // namespace phasebit::iommu::amd
