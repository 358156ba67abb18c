// SPDX-License-Identifier: BSL-1.0
// A RISC-V IOMMU as a remapper's architecture: second stage and MSI page tables (RISC-V IOMMU
// architecture specification 1.0, chapter 2).
#pragma once

#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/page_table/formats/riscv.hpp>
#include <phasebit/iommu/page_table/page_table_view.hpp>
#include <phasebit/iommu/riscv/device_table.hpp>
#include <phasebit/iommu/riscv/fault_codec.hpp>
#include <phasebit/iommu/translation/remapper_architecture.hpp>

#include <cstdint>

namespace phasebit::iommu::riscv {

// Capabilities: Sv39x4, Sv48x4, Sv57x4, optionally MSI_FLAT; no first stage, no process directory,
// no ATS, no MRIF, little-endian. Contexts that enable these are misconfigured (2.1.4). Interrupts
// are writes: a write to an interrupt file in the MSI page table goes to the address in its entry.
struct remapping {
  struct context : device_state {
    gatp_mode mode = gatp_mode::bare;
    bool track_dirty = false;
    std::uint64_t root = 0;
    msi_table_mode msi = msi_table_mode::off;
    std::uint64_t msi_table = 0;
    std::uint64_t msi_mask = 0;
    std::uint64_t msi_pattern = 0;
  };

  unsigned address_bits = 56;
  directory_mode mode = directory_mode::off;
  bool msi_flat = true;  // capabilities.MSI_FLAT: contexts of 64 bytes
  bool svnapot = true;
  bool svpbmt = true;
  bool set_dirty = false;  // capabilities.AMO_HWAD
  bool qosid = false;      // capabilities.QOSID: without it, RCID and MCID are reserved
  std::uint64_t directory = 0;

  [[nodiscard]] bool translates() const noexcept { return mode != directory_mode::bare; }
  [[nodiscard]] unsigned output_bits() const noexcept { return address_bits; }

  template <TableReader Tables>
  [[nodiscard]] refusal resolve(Tables& tables, const dma_request& request,
                                context& state) const noexcept {
    if (mode < directory_mode::one_level || mode > directory_mode::three_levels) {
      return {fault_reason::all_blocked};
    }
    const address<typename Tables::space> base{directory};
    const std::uint32_t id = request.requester.raw();
    const entry_place place = msi_flat
                                  ? find_device_entry(extended_directory{mode}, tables, base, id)
                                  : find_device_entry(base_directory{mode}, tables, base, id);
    switch (place.status) {
      case walk_status::mapped:
        break;
      case walk_status::unreadable:
        return {place.level != 0 ? fault_reason::link_unreadable : fault_reason::entry_unreadable,
                place.level, place.at};
      case walk_status::beyond_width:
        return {fault_reason::id_beyond};
      case walk_status::malformed:
        return {fault_reason::link_malformed, place.level, place.at};
      default:
        return {fault_reason::link_absent, place.level, place.at};
    }
    using dc = device_context;
    const dc c = msi_flat ? load_entry_words<dc>(place.entry)
                          : load_entry_words<base_device_context>(place.entry).extended();
    state.report = !c[dc::dtf];
    if (!c[dc::v]) return {fault_reason::entry_absent, 0, place.at};
    if (c.has_other_bits(dc::known)) return {fault_reason::entry_malformed};
    if (!qosid && (c[dc::rcid] != 0 || c[dc::mcid] != 0)) return {fault_reason::entry_malformed};
    // 2.1.4: what this IOMMU does not have. A process directory in bare mode (fsc_mode 0) is none.
    if (c[dc::en_ats] || c[dc::en_pri] || c[dc::t2gpa] || c[dc::prpr] ||
        (c[dc::dpe] && !c[dc::pdtv]) || c[dc::sbe] || c[dc::sxl] || c[dc::fsc_mode] != 0 ||
        c[dc::sade] || (c[dc::gade] && !set_dirty)) {
      return {fault_reason::entry_unsupported};
    }
    state.mode = c[dc::iohgatp_mode];
    state.domain = c[dc::gscid];
    state.track_dirty = c[dc::gade];
    state.root = c[dc::iohgatp_ppn] << 12;
    switch (state.mode) {
      case gatp_mode::bare:
        state.domain = 0;
        state.cacheable = false;
        break;
      case gatp_mode::sv39x4:
      case gatp_mode::sv48x4:
      case gatp_mode::sv57x4:
        if ((state.root & 0x3fff) != 0) return {fault_reason::entry_malformed};
        break;
      default:
        return {fault_reason::entry_unsupported};
    }
    state.msi = c[dc::msiptp_mode];
    if (static_cast<unsigned>(state.msi) > 1) return {fault_reason::entry_unsupported};
    state.msi_table = c[dc::msiptp_ppn] << 12;
    state.msi_mask = c[dc::msi_addr_mask];
    state.msi_pattern = c[dc::msi_addr_pattern];
    if (request.has_pasid && !c[dc::pdtv]) return {fault_reason::request_refused};
    state.kind = state.mode == gatp_mode::bare && state.msi == msi_table_mode::off
                     ? translation_kind::untranslated
                     : translation_kind::tables;
    return {};
  }

  template <TableReader Tables>
  [[nodiscard]] page_lookup<typename Tables::space> lookup(Tables& tables, const context& state,
                                                           std::uint64_t a,
                                                           access wanted) const noexcept {
    using space = typename Tables::space;
    if (is_msi(state, a)) return lookup_msi(tables, state, a);
    if (state.mode == gatp_mode::bare) {
      page_lookup<space> same;
      const bool inside = a >> address_bits == 0;
      same.status = inside ? walk_status::mapped : walk_status::beyond_width;
      same.page_shift = 12;
      same.permissions = 3;
      same.page = address<space>{a & ~std::uint64_t{0xfff}};
      return same;
    }
    const riscv_second_stage format{
        .mode = static_cast<riscv_mode>(static_cast<unsigned>(state.mode) - 6),
        .address_bits = 56,  // a page number is not reserved because memory does not have it
        .svnapot = svnapot,
        .svpbmt = svpbmt,
        .track_dirty = state.track_dirty};
    return page_table_view<riscv_second_stage, Tables>{format, tables, address<space>{state.root}}
        .access_page(bus_addr{a}, wanted);
  }
  template <class Space>
  [[nodiscard]] static fault_reason reason_of(const page_lookup<Space>& page, const context& state,
                                              std::uint64_t a) noexcept {
    if (!is_msi(state, a)) return iommu::reason_of(page.status);
    switch (page.status) {
      case walk_status::unreadable:
        return fault_reason::interrupt_unreadable;
      case walk_status::malformed:
        return fault_reason::interrupt_malformed;
      default:
        return fault_reason::interrupt_absent;
    }
  }
  // 2.3: the MSI page table comes before the second stage, and translates writes to interrupt files
  // alone. They are not cached under the domain, because each device has a table of its own; and a
  // segment of another page does not run into one of them.
  [[nodiscard]] static bool bypasses_cache(const context& state, std::uint64_t a) noexcept {
    return is_msi(state, a);
  }
  [[nodiscard]] static std::uint64_t bytes_alike(const context& state, std::uint64_t a) noexcept {
    if (state.msi != msi_table_mode::flat) return ~std::uint64_t{0};
    const std::uint64_t first = state.msi_pattern & ~state.msi_mask;
    const std::uint64_t last = state.msi_pattern | state.msi_mask;
    const std::uint64_t page = a >> 12;
    if (page > last) return ~std::uint64_t{0};
    if (page < first) return (first << 12) - a;
    return 0x1000 - (a & 0xfff);
  }
  [[nodiscard]] static bool finish(translation_fault& fault, const context& state) noexcept {
    fault_cause cause = code_of(fault);
    if (fault.reason == fault_reason::beyond_width && state.mode == gatp_mode::bare) {
      cause = writes(fault.wanted) ? fault_cause::write_access : fault_cause::read_access;
    }
    fault.code = static_cast<std::uint16_t>(cause);
    return state.report || reported_with_dtf(cause);
  }

 private:
  // 2.3.3: equal to the pattern wherever the mask is zero.
  [[nodiscard]] static bool is_msi(const context& state, std::uint64_t a) noexcept {
    return state.msi == msi_table_mode::flat &&
           ((a >> 12 ^ state.msi_pattern) & ~state.msi_mask) == 0;
  }
  // The bits of the page number that are under the mask, put side by side.
  [[nodiscard]] static std::uint64_t file_of(const context& state, std::uint64_t a) noexcept {
    std::uint64_t number = 0;
    unsigned bit = 0;
    const std::uint64_t page = a >> 12;
    for (std::uint64_t mask = state.msi_mask; mask != 0; mask &= mask - 1, ++bit) {
      const std::uint64_t lowest = mask & (~mask + 1);
      if ((page & lowest) != 0) number |= std::uint64_t{1} << bit;
    }
    return number;
  }
  // An entry in basic mode is a leaf that permits reads and writes (AIA 9.5.1).
  template <TableReader Tables>
  [[nodiscard]] page_lookup<typename Tables::space> lookup_msi(Tables& tables, const context& state,
                                                               std::uint64_t a) const noexcept {
    using space = typename Tables::space;
    page_lookup<space> found;
    const std::uint64_t at = state.msi_table | file_of(state, a) * sizeof(msi_entry);
    const table_word* const words = iommu::detail::find_inside(tables, at, sizeof(msi_entry));
    found.entry = at;
    if (words == nullptr) {
      found.status = walk_status::unreadable;
      return found;
    }
    const auto e = load_entry_words<msi_entry>(words);
    if (!e[msi_entry::v]) return found;
    const std::uint64_t target = e[msi_entry::ppn] << 12;
    // Without MRIF its mode is reserved, as is C.
    if (e[msi_entry::m] != msi_entry::basic || (e.words[0].get() & ~msi_entry::known_basic) != 0) {
      found.status = walk_status::malformed;
      return found;
    }
    found.status = walk_status::mapped;
    found.page_shift = 12;
    found.permissions = 3;
    found.page = address<space>{target};
    return found;
  }
};
static_assert(IommuArchitecture<remapping, table_window<>>);
static_assert(!RemapsInterrupts<remapping>);

}  // namespace phasebit::iommu::riscv
