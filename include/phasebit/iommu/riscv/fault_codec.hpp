// SPDX-License-Identifier: BSL-1.0
// RISC-V's fault queue records (RISC-V IOMMU architecture specification 1.0, 3.2).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/fault/fault.hpp>

#include <cstdint>

namespace phasebit::iommu::riscv {

enum class fault_cause : std::uint16_t {
  read_access = 5,
  write_access = 7,
  read_page = 13,
  write_page = 15,
  read_guest_page = 21,
  write_guest_page = 23,
  all_inbound_disallowed = 256,
  ddt_load = 257,
  ddt_not_valid = 258,
  ddt_misconfigured = 259,
  transaction_type_disallowed = 260,
  msi_pte_load = 261,
  msi_pte_not_valid = 262,
  msi_pte_misconfigured = 263,
  mrif_access = 264,
  pdt_load = 265,
  pdt_not_valid = 266,
  pdt_misconfigured = 267,
};

enum class transaction_type : std::uint8_t {
  none = 0,
  untranslated_read = 2,
  untranslated_write = 3,
  translated_read = 6,
  translated_write = 7,
  ats_request = 8,
  message_request = 9,
};

// 32 bytes.
struct fault_record : table_entry<fault_record, 4> {
  static constexpr entry_field<11, 0, fault_cause> cause{};
  static constexpr entry_field<31, 12> pid{};
  static constexpr entry_field<32> pv{};
  static constexpr entry_field<33> priv{};
  static constexpr entry_field<39, 34, transaction_type> ttyp{};
  static constexpr entry_field<63, 40> did{};
  static constexpr entry_field<191, 128> iotval{};   // the device's address
  static constexpr entry_field<255, 192> iotval2{};  // guest page faults: the guest's, bits 63:2

  static constexpr std::size_t gate = 0;
};
static_assert(WireStruct<fault_record> && sizeof(fault_record) == 32);

[[nodiscard]] constexpr fault_cause code_of(const translation_fault& f) noexcept {
  using enum fault_reason;
  switch (f.reason) {
    case all_blocked:
      return fault_cause::all_inbound_disallowed;
    case link_unreadable:
    case entry_unreadable:
      return fault_cause::ddt_load;
    case link_absent:
    case entry_absent:
      return fault_cause::ddt_not_valid;
    case link_malformed:
    case entry_malformed:
    case entry_unsupported:
      return fault_cause::ddt_misconfigured;
    case id_beyond:
    case request_refused:
      return fault_cause::transaction_type_disallowed;
    case interrupt_unreadable:
      return fault_cause::msi_pte_load;
    case interrupt_absent:
      return fault_cause::msi_pte_not_valid;
    case interrupt_malformed:
      return fault_cause::msi_pte_misconfigured;
    case page_unreadable:
    case page_beyond:
      return writes(f.wanted) ? fault_cause::write_access : fault_cause::read_access;
    default:
      return writes(f.wanted) ? fault_cause::write_guest_page : fault_cause::read_guest_page;
  }
}

// Whether DC.tc.DTF leaves this cause reported (table 11: those that do not stem from the context).
[[nodiscard]] constexpr bool reported_with_dtf(fault_cause cause) noexcept {
  return cause >= fault_cause::all_inbound_disallowed && cause <= fault_cause::ddt_misconfigured;
}

struct fault_queue_format {
  using record = fault_record;
  static constexpr bool turns_flip = false;
  // fqcsr.fqof: nothing more is queued until software has cleared it (5.16).
  static constexpr bool overflow_stops = true;

  [[nodiscard]] static constexpr fault_record encode(const translation_fault& f) noexcept {
    const fault_cause what = code_of(f);
    fault_record r{};
    r = r.with(fault_record::cause, what)
            .with(fault_record::pv, f.has_pasid)
            .with(fault_record::pid, f.has_pasid ? f.pasid & 0xf'ffff : 0)
            .with(fault_record::ttyp, writes(f.wanted) ? transaction_type::untranslated_write
                                                       : transaction_type::untranslated_read)
            .with(fault_record::did, f.requester.raw())
            .with(fault_record::iotval, f.address);
    if (what == fault_cause::read_guest_page || what == fault_cause::write_guest_page) {
      r = r.with(fault_record::iotval2, f.address & ~std::uint64_t{3});
    }
    return r;
  }
  [[nodiscard]] static constexpr translation_fault decode(const fault_record& r) noexcept {
    using enum fault_reason;
    translation_fault f;
    const fault_cause what = r[fault_record::cause];
    const transaction_type type = r[fault_record::ttyp];
    f.code = static_cast<std::uint16_t>(what);
    f.requester = pcie::requester_id{static_cast<std::uint16_t>(r[fault_record::did])};
    f.has_pasid = r[fault_record::pv];
    f.pasid = r[fault_record::pid];
    f.address = r[fault_record::iotval];
    f.wanted =
        type == transaction_type::untranslated_write || type == transaction_type::translated_write
            ? access::write
            : access::read;
    switch (what) {
      case fault_cause::read_access:
      case fault_cause::write_access:
        f.reason = page_unreadable;
        break;
      case fault_cause::read_page:
      case fault_cause::write_page:
      case fault_cause::read_guest_page:
      case fault_cause::write_guest_page:
        f.reason = not_mapped;
        break;
      case fault_cause::all_inbound_disallowed:
        f.reason = all_blocked;
        break;
      case fault_cause::ddt_load:
        f.reason = entry_unreadable;
        break;
      case fault_cause::ddt_not_valid:
        f.reason = entry_absent;
        break;
      case fault_cause::ddt_misconfigured:
        f.reason = entry_malformed;
        break;
      case fault_cause::transaction_type_disallowed:
        f.reason = request_refused;
        break;
      case fault_cause::msi_pte_load:
        f.reason = interrupt_unreadable;
        break;
      case fault_cause::msi_pte_not_valid:
        f.reason = interrupt_absent;
        break;
      case fault_cause::msi_pte_misconfigured:
        f.reason = interrupt_malformed;
        break;
      case fault_cause::pdt_load:
        f.reason = pasid_entry_unreadable;
        break;
      case fault_cause::pdt_not_valid:
        f.reason = pasid_entry_absent;
        break;
      case fault_cause::pdt_misconfigured:
        f.reason = pasid_entry_malformed;
        break;
      default:
        break;
    }
    return f;
  }
};

}  // namespace phasebit::iommu::riscv
