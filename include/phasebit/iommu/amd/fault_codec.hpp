// SPDX-License-Identifier: BSL-1.0
// AMD's event log records that translations and interrupts cause (AMD 48882 revision 3.08, 2.5).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/fault/fault.hpp>

#include <cstdint>

namespace phasebit::iommu::amd {

enum class event_code : std::uint8_t {
  illegal_dev_table_entry = 1,
  io_page_fault = 2,
  dev_tab_hardware_error = 3,
  page_tab_hardware_error = 4,
  illegal_command_error = 5,
  command_hardware_error = 6,
  iotlb_inv_timeout = 7,
  invalid_device_request = 8,
  invalid_ppr_request = 9,
  event_counter_zero = 10,
};

// 16 bytes. The fields named by bit numbers here apply to the events below; other events use the
// flags differently.
struct event_record : table_entry<event_record, 2> {
  static constexpr entry_field<15, 0> device_id{};
  static constexpr entry_field<19, 16> pasid_high{};
  static constexpr entry_field<47, 32> domain_id{};  // or PASID 15:0
  static constexpr entry_field<48> gn{};             // a PASID was given
  static constexpr entry_field<51> i{};              // an interrupt request
  static constexpr entry_field<52> pr{};             // the page, or interrupt entry, was present
  static constexpr entry_field<53> rw{};             // a write
  static constexpr entry_field<54> pe{};             // permission was lacking
  static constexpr entry_field<55> rz{};             // reserved bits, or 0: an invalid level
  static constexpr entry_field<56> tr{};             // a translation request (ATS)
  static constexpr entry_field<58, 57> type{};       // hardware errors: 1 master abort
  static constexpr entry_field<59, 57> request{};    // invalid requests: 5 interrupts are aborted
  static constexpr entry_field<63, 60, event_code> code{};
  static constexpr entry_field<127, 64> address{};

  static constexpr std::size_t gate = 0;
  static constexpr std::uint8_t master_abort = 1;
  static constexpr std::uint8_t interrupts_aborted = 5;
};
static_assert(WireStruct<event_record> && sizeof(event_record) == 16);

[[nodiscard]] constexpr event_code code_of(fault_reason reason) noexcept {
  using enum fault_reason;
  switch (reason) {
    case id_beyond:
    case entry_malformed:
    case entry_unsupported:
      return event_code::illegal_dev_table_entry;
    case entry_unreadable:
      return event_code::dev_tab_hardware_error;
    case page_unreadable:
    case interrupt_unreadable:
      return event_code::page_tab_hardware_error;
    case interrupt_refused:
      return event_code::invalid_device_request;
    default:
      return event_code::io_page_fault;
  }
}

// The format of the log's ring (see fault_queue.hpp).
struct event_log_format {
  using record = event_record;
  static constexpr bool turns_flip = false;  // one entry stays empty
  // EventOverflow stops the log until software has dealt with it (2.5.2).
  static constexpr bool overflow_stops = true;

  [[nodiscard]] static constexpr event_record encode(const translation_fault& f) noexcept {
    using enum fault_reason;
    const event_code what = code_of(f.reason);
    event_record r{};
    r = r.with(event_record::code, what)
            .with(event_record::device_id, f.requester.raw())
            .with(event_record::i, f.interrupt)
            .with(event_record::rw, !f.interrupt && writes(f.wanted));
    std::uint64_t where = f.address;
    switch (what) {
      case event_code::illegal_dev_table_entry:
        r = r.with(event_record::rz, f.reason == entry_malformed);
        break;
      case event_code::dev_tab_hardware_error:
        r = r.with(event_record::type, event_record::master_abort);
        where = f.fetch;
        break;
      case event_code::page_tab_hardware_error:
        r = r.with(event_record::type, event_record::master_abort)
                .with(event_record::domain_id, f.domain);
        where = f.fetch;
        break;
      case event_code::invalid_device_request:
        r = r.with(event_record::request, event_record::interrupts_aborted);
        break;
      default: {
        const bool malformed = f.reason == page_malformed || f.reason == page_beyond ||
                               f.reason == interrupt_malformed;
        const bool lacks = f.reason == no_read || f.reason == no_write;
        r = r.with(event_record::domain_id, f.domain)
                .with(event_record::pr, malformed || lacks)
                .with(event_record::pe, lacks)
                .with(event_record::rz, malformed);
        break;
      }
    }
    return r.with(event_record::address, where);
  }
  // Decodes a record. Where several reasons share one event, the most likely reason is returned.
  [[nodiscard]] static constexpr translation_fault decode(const event_record& r) noexcept {
    using enum fault_reason;
    translation_fault f;
    const event_code what = r[event_record::code];
    f.code = static_cast<std::uint16_t>(what);
    f.requester = pcie::requester_id{r[event_record::device_id]};
    f.interrupt = r[event_record::i];
    f.wanted = f.interrupt || r[event_record::rw] ? access::write : access::read;
    f.address = r[event_record::address];
    switch (what) {
      case event_code::illegal_dev_table_entry:
        f.reason = r[event_record::rz] ? entry_malformed : entry_unsupported;
        break;
      case event_code::dev_tab_hardware_error:
        f.reason = entry_unreadable;
        f.fetch = f.address;
        break;
      case event_code::page_tab_hardware_error:
        f.reason = f.interrupt ? interrupt_unreadable : page_unreadable;
        f.domain = r[event_record::domain_id];
        f.fetch = f.address;
        break;
      case event_code::io_page_fault:
        f.domain = r[event_record::domain_id];
        if (f.interrupt) {
          f.reason = r[event_record::rz] ? interrupt_malformed : interrupt_absent;
        } else if (r[event_record::rz]) {
          f.reason = page_malformed;
        } else if (r[event_record::pe]) {
          f.reason = r[event_record::rw] ? no_write : no_read;
        } else {
          f.reason = not_mapped;
        }
        break;
      case event_code::invalid_device_request:
        f.reason = interrupt_refused;
        f.interrupt = true;
        f.wanted = access::write;
        break;
      default:
        break;
    }
    return f;
  }
};

}  // namespace phasebit::iommu::amd
