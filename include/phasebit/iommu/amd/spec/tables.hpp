// SPDX-License-Identifier: BSL-1.0
// AMD's device table and interrupt remapping tables (AMD I/O Virtualization Technology
// specification 48882, revision 3.08, sections 2.2.2 and 2.2.5).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::amd {

// DTE[IntCtl] (table 22): what happens to fixed and arbitrated interrupts.
enum class interrupt_control : std::uint8_t { abort = 0, forward = 1, remap = 2 };

// One per requester id, 32 bytes (figure 7, table 7). An entry that is all zeros lets every access
// pass untranslated (V = 0); what shuts a device out is blocked().
struct device_table_entry : table_entry<device_table_entry, 4> {
  static constexpr entry_field<0> v{};
  static constexpr entry_field<1> tv{};         // translation information is valid
  static constexpr entry_field<8, 7> had{};     // host accessed and dirty
  static constexpr entry_field<11, 9> mode{};   // levels of the table; 0 translates nothing
  static constexpr entry_field<51, 12> root{};  // host page table root pointer
  static constexpr entry_field<52> ppr{};
  static constexpr entry_field<53> gprp{};
  static constexpr entry_field<54> giov{};
  static constexpr entry_field<55> gv{};  // guest translation is valid
  static constexpr entry_field<57, 56> glx{};
  static constexpr entry_field<60, 58> gcr3_14_12{};
  static constexpr entry_field<61> ir{};  // reads are permitted
  static constexpr entry_field<62> iw{};  // writes are permitted
  static constexpr entry_field<79, 64> domain_id{};
  static constexpr entry_field<95, 80> gcr3_30_15{};
  static constexpr entry_field<96> i{};   // IOTLB (ATS) is enabled
  static constexpr entry_field<97> se{};  // only the first page fault event is logged
  static constexpr entry_field<98> sa{};  // no page fault event is logged
  static constexpr entry_field<100, 99> ioctl{};
  static constexpr entry_field<101> cache{};
  static constexpr entry_field<102> sd{};
  static constexpr entry_field<103> ex{};
  static constexpr entry_field<105, 104> sysmgt{};
  static constexpr entry_field<106> sats{};
  static constexpr entry_field<127, 107> gcr3_51_31{};
  static constexpr entry_field<128> iv{};              // interrupt information is valid
  static constexpr entry_field<132, 129> inttablen{};  // 2^n entries, n at most 11
  static constexpr entry_field<133> ig{};              // interrupt faults are not logged
  static constexpr entry_field<179, 134> introot{};    // bits 51:6
  static constexpr entry_field<184> initpass{};
  static constexpr entry_field<185> eintpass{};
  static constexpr entry_field<186> nmipass{};
  static constexpr entry_field<189, 188, interrupt_control> intctl{};
  static constexpr entry_field<190> lint0pass{};
  static constexpr entry_field<191> lint1pass{};

  // Bits that no revision up to 3.08 defines. Word 3 belongs to guest virtualization.
  static constexpr std::uint64_t reserved_translation = 0x8000'0000'0000'007c;
  static constexpr std::uint64_t reserved_interrupt = std::uint64_t{0xf} << 52;

  // Closed: valid, translated by no table, neither read nor write permitted. Word 2 changes in one
  // store, independent of the gate.
  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = false;
  static constexpr std::uint64_t closed = decltype(v)::mask | decltype(tv)::mask;
  static constexpr std::uint64_t gate_mask = decltype(v)::mask | decltype(tv)::mask |
                                             decltype(mode)::mask | decltype(gv)::mask |
                                             decltype(ir)::mask | decltype(iw)::mask;

  // Through host tables of `levels` (amd_v1::mode).
  [[nodiscard]] static constexpr device_table_entry translated(std::uint64_t page_table,
                                                               unsigned levels,
                                                               std::uint16_t domain) noexcept {
    return blocked(domain)
        .with(mode, static_cast<std::uint8_t>(levels))
        .with_address(root, page_table)
        .with(ir, true)
        .with(iw, true);
  }
  // Not translated, permissions as given; faults name the domain.
  [[nodiscard]] static constexpr device_table_entry pass_through(std::uint16_t domain,
                                                                 bool reads = true,
                                                                 bool writes = true) noexcept {
    return blocked(domain).with(ir, reads).with(iw, writes);
  }
  [[nodiscard]] static constexpr device_table_entry blocked(std::uint16_t domain = 0) noexcept {
    return device_table_entry{}.with(v, true).with(tv, true).with(domain_id, domain);
  }
  // The same with accessed and dirty bits set by hardware in the host tables.
  [[nodiscard]] constexpr device_table_entry with_dirty_tracking() const noexcept {
    return with(had, 3);
  }
  // The same with interrupts through 2^log2_entries entries at `table`, aligned to 128 bytes.
  [[nodiscard]] constexpr device_table_entry with_interrupts(std::uint64_t table,
                                                             unsigned log2_entries) const noexcept {
    device_table_entry e = with(iv, true)
                               .with(inttablen, static_cast<std::uint8_t>(log2_entries))
                               .with(intctl, interrupt_control::remap);
    e.words[2] = e.words[2].get() | table;
    return e;
  }
};
static_assert(WireStruct<device_table_entry> && sizeof(device_table_entry) == 32);
static_assert(decltype(device_table_entry::introot)::mask == 0x000f'ffff'ffff'ffc0);

// The device table's size as the base register has it (3.4.1): n + 1 pages, 128 entries each.
[[nodiscard]] constexpr std::uint32_t device_table_entries(std::uint32_t size_field) noexcept {
  return (size_field + 1) * 128;
}

// 2.2.5.2, 32-bit interrupt remapping table entry (GAEn = 0).
struct interrupt_entry : register_value<interrupt_entry, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<0> remapen{};
  static constexpr field<1> supiopf{};     // faults of this entry are not logged
  static constexpr field<4, 2> inttype{};  // 0 fixed, 1 arbitrated
  static constexpr field<5> rqeoi{};
  static constexpr field<6> dm{};  // 1 logical
  static constexpr field<7> guestmode{};
  static constexpr field<15, 8> destination{};
  static constexpr field<23, 16> vector{};
  static constexpr std::uint32_t reserved = 0xff00'0000;

  [[nodiscard]] static constexpr interrupt_entry fixed(std::uint8_t vector_value,
                                                       std::uint8_t apic_id) noexcept {
    return interrupt_entry{}
        .with(remapen, true)
        .with(vector, vector_value)
        .with(destination, apic_id);
  }
};

// 2.2.5.3, 128-bit entry (GAEn = 1, guest mode off), which has space for 32-bit destinations.
struct wide_interrupt_entry : table_entry<wide_interrupt_entry, 2> {
  static constexpr entry_field<0> remapen{};
  static constexpr entry_field<1> supiopf{};
  static constexpr entry_field<4, 2> inttype{};
  static constexpr entry_field<5> rqeoi{};
  static constexpr entry_field<6> dm{};
  static constexpr entry_field<7> guestmode{};  // posted to a virtual processor
  static constexpr entry_field<31, 8> destination_low{};
  static constexpr entry_field<71, 64> vector{};
  static constexpr entry_field<127, 120> destination_high{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[2] = {
      0xffff'ffff, decltype(vector)::mask | decltype(destination_high)::mask};

  [[nodiscard]] static constexpr wide_interrupt_entry fixed(std::uint8_t vector_value,
                                                            std::uint32_t apic_id) noexcept {
    return wide_interrupt_entry{}
        .with(remapen, true)
        .with(destination_low, apic_id & 0xff'ffff)
        .with(destination_high, static_cast<std::uint8_t>(apic_id >> 24))
        .with(vector, vector_value);
  }
};
static_assert(WireStruct<wide_interrupt_entry> && sizeof(wide_interrupt_entry) == 16);

}  // namespace phasebit::iommu::amd
