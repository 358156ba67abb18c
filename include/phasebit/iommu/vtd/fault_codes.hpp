// SPDX-License-Identifier: BSL-1.0
// VT-d's fault reasons (VT-d specification revision 4.1, 7.1.3).
#pragma once

#include <phasebit/iommu/fault/fault.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// FRCD.FR.
enum class fault_code : std::uint8_t {
  root_entry_absent = 0x01,
  context_entry_absent = 0x02,
  context_entry_invalid = 0x03,
  beyond_width = 0x04,
  no_write = 0x05,
  no_read = 0x06,
  page_table_unreadable = 0x07,
  root_table_unreadable = 0x08,
  context_table_unreadable = 0x09,
  root_entry_reserved = 0x0a,
  context_entry_reserved = 0x0b,
  page_entry_reserved = 0x0c,
  translation_type = 0x0d,
  interrupt_request_reserved = 0x20,
  interrupt_index_beyond = 0x21,
  interrupt_entry_absent = 0x22,
  interrupt_table_unreadable = 0x23,
  interrupt_entry_reserved = 0x24,
  interrupt_compatibility_blocked = 0x25,
  interrupt_source = 0x26,
  pasid_in_legacy_mode = 0x31,
  scalable_root_unreadable = 0x38,
  scalable_root_absent = 0x39,
  scalable_root_reserved = 0x3a,
  scalable_context_unreadable = 0x40,
  scalable_context_absent = 0x41,
  scalable_context_reserved = 0x42,
  scalable_context_invalid = 0x43,
  pasid_not_enabled = 0x45,
  pasid_beyond = 0x46,
  pasid_directory_unreadable = 0x50,
  pasid_directory_absent = 0x51,
  pasid_directory_reserved = 0x52,
  pasid_entry_unreadable = 0x58,
  pasid_entry_absent = 0x59,
  pasid_entry_reserved = 0x5a,
  pasid_entry_invalid = 0x5b,
  first_stage_unreadable = 0x70,
  first_stage_absent = 0x71,
  first_stage_reserved = 0x72,
  second_stage_unreadable = 0x78,
  second_stage_absent = 0x79,
  second_stage_reserved = 0x7a,
  first_stage_not_canonical = 0x80,
  first_stage_supervisor = 0x81,
  second_stage_beyond = 0x84,
  scalable_no_write = 0x85,
  scalable_no_read = 0x86,
};

// Selects one of the two sets of reasons, and in scalable mode the stage that failed.
enum class fault_domain : std::uint8_t { legacy, second_stage, first_stage };

namespace detail {

struct reason_row {
  fault_reason reason;
  fault_code legacy;
  fault_code second_stage;
  fault_code first_stage;
};
inline constexpr fault_code no_code{};
inline constexpr reason_row reason_rows[] = {
    {fault_reason::link_unreadable, fault_code::root_table_unreadable,
     fault_code::scalable_root_unreadable, fault_code::scalable_root_unreadable},
    {fault_reason::link_absent, fault_code::root_entry_absent, fault_code::scalable_root_absent,
     fault_code::scalable_root_absent},
    {fault_reason::link_malformed, fault_code::root_entry_reserved,
     fault_code::scalable_root_reserved, fault_code::scalable_root_reserved},
    {fault_reason::entry_unreadable, fault_code::context_table_unreadable,
     fault_code::scalable_context_unreadable, fault_code::scalable_context_unreadable},
    {fault_reason::entry_absent, fault_code::context_entry_absent,
     fault_code::scalable_context_absent, fault_code::scalable_context_absent},
    {fault_reason::entry_malformed, fault_code::context_entry_reserved,
     fault_code::scalable_context_reserved, fault_code::scalable_context_reserved},
    {fault_reason::entry_unsupported, fault_code::context_entry_invalid,
     fault_code::scalable_context_invalid, fault_code::scalable_context_invalid},
    {fault_reason::request_refused, fault_code::translation_type, fault_code::pasid_not_enabled,
     fault_code::pasid_not_enabled},
    {fault_reason::pasid_beyond, no_code, fault_code::pasid_beyond, fault_code::pasid_beyond},
    {fault_reason::pasid_link_unreadable, no_code, fault_code::pasid_directory_unreadable,
     fault_code::pasid_directory_unreadable},
    {fault_reason::pasid_link_absent, no_code, fault_code::pasid_directory_absent,
     fault_code::pasid_directory_absent},
    {fault_reason::pasid_link_malformed, no_code, fault_code::pasid_directory_reserved,
     fault_code::pasid_directory_reserved},
    {fault_reason::pasid_entry_unreadable, no_code, fault_code::pasid_entry_unreadable,
     fault_code::pasid_entry_unreadable},
    {fault_reason::pasid_entry_absent, no_code, fault_code::pasid_entry_absent,
     fault_code::pasid_entry_absent},
    {fault_reason::pasid_entry_malformed, no_code, fault_code::pasid_entry_reserved,
     fault_code::pasid_entry_reserved},
    {fault_reason::pasid_entry_unsupported, no_code, fault_code::pasid_entry_invalid,
     fault_code::pasid_entry_invalid},
    {fault_reason::beyond_width, fault_code::beyond_width, fault_code::second_stage_beyond,
     fault_code::first_stage_not_canonical},
    {fault_reason::no_write, fault_code::no_write, fault_code::scalable_no_write,
     fault_code::scalable_no_write},
    {fault_reason::no_read, fault_code::no_read, fault_code::scalable_no_read,
     fault_code::first_stage_supervisor},
    {fault_reason::page_malformed, fault_code::page_entry_reserved,
     fault_code::second_stage_reserved, fault_code::first_stage_reserved},
    {fault_reason::page_unreadable, fault_code::page_table_unreadable,
     fault_code::second_stage_unreadable, fault_code::first_stage_unreadable},
    // In legacy mode an entry that permits nothing is a lack of the permission requested.
    {fault_reason::not_mapped, no_code, fault_code::second_stage_absent,
     fault_code::first_stage_absent},
    {fault_reason::interrupt_malformed_request, fault_code::interrupt_request_reserved, no_code,
     no_code},
    {fault_reason::interrupt_beyond, fault_code::interrupt_index_beyond, no_code, no_code},
    {fault_reason::interrupt_absent, fault_code::interrupt_entry_absent, no_code, no_code},
    {fault_reason::interrupt_unreadable, fault_code::interrupt_table_unreadable, no_code, no_code},
    {fault_reason::interrupt_malformed, fault_code::interrupt_entry_reserved, no_code, no_code},
    {fault_reason::interrupt_refused, fault_code::interrupt_compatibility_blocked, no_code,
     no_code},
    {fault_reason::interrupt_source, fault_code::interrupt_source, no_code, no_code},
};

}  // namespace detail

// 0 where VT-d has no code: such accesses are blocked without a report (RTADDR.TTM = 3).
[[nodiscard]] constexpr fault_code code_of(const translation_fault& fault,
                                           fault_domain domain) noexcept {
  if (domain == fault_domain::legacy && fault.reason == fault_reason::not_mapped) {
    return writes(fault.wanted) ? fault_code::no_write : fault_code::no_read;
  }
  if (domain == fault_domain::legacy && fault.reason == fault_reason::request_refused &&
      fault.has_pasid) {
    return fault_code::pasid_in_legacy_mode;
  }
  for (const auto& row : detail::reason_rows) {
    if (row.reason != fault.reason) continue;
    if (fault.interrupt || domain == fault_domain::legacy) return row.legacy;
    return domain == fault_domain::first_stage ? row.first_stage : row.second_stage;
  }
  return detail::no_code;
}

// none for a code that is not known here.
[[nodiscard]] constexpr fault_reason reason_of(fault_code code) noexcept {
  if (code == detail::no_code) return fault_reason::none;
  if (code == fault_code::pasid_in_legacy_mode) return fault_reason::request_refused;
  for (const auto& row : detail::reason_rows) {
    if (row.legacy == code || row.second_stage == code || row.first_stage == code) {
      return row.reason;
    }
  }
  return fault_reason::none;
}

}  // namespace phasebit::iommu::vtd
