// SPDX-License-Identifier: BSL-1.0
// SMMUv3's event records that translations cause (Arm IHI 0070, 7.3).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/fault/fault.hpp>

#include <cstdint>

namespace phasebit::iommu::smmuv3 {

enum class event_code : std::uint8_t {
  f_uut = 0x01,
  c_bad_streamid = 0x02,
  f_ste_fetch = 0x03,
  c_bad_ste = 0x04,
  f_bad_ats_treq = 0x05,
  f_stream_disabled = 0x06,
  f_transl_forbidden = 0x07,
  c_bad_substreamid = 0x08,
  f_cd_fetch = 0x09,
  c_bad_cd = 0x0a,
  f_walk_eabt = 0x0b,
  f_translation = 0x10,
  f_addr_size = 0x11,
  f_access = 0x12,
  f_permission = 0x13,
  f_tlb_conflict = 0x20,
  f_cfg_conflict = 0x21,
  e_page_request = 0x24,
  f_vms_fetch = 0x25,
};

// 32 bytes (7.3, the common fields, and those of the faults of 7.3.12 to 7.3.16).
struct event_record : table_entry<event_record, 4> {
  static constexpr entry_field<7, 0, event_code> code{};
  static constexpr entry_field<11> ssv{};
  static constexpr entry_field<31, 12> substream_id{};
  static constexpr entry_field<63, 32> stream_id{};
  static constexpr entry_field<79, 64> stag{};
  static constexpr entry_field<95> stall{};
  static constexpr entry_field<97> pnu{};
  static constexpr entry_field<98> ind{};
  static constexpr entry_field<99> rnw{};  // a read
  static constexpr entry_field<103> s2{};
  static constexpr entry_field<105, 104> klass{};  // 1 fetching a table, 2 the input address
  static constexpr entry_field<191, 128> input_address{};
  static constexpr entry_field<243, 192> fetch_address{};  // of the fetch, or the IPA of stage 2

  static constexpr std::size_t gate = 0;
  static constexpr std::uint8_t class_ttd = 1;
  static constexpr std::uint8_t class_in = 2;
};
static_assert(WireStruct<event_record> && sizeof(event_record) == 32);

[[nodiscard]] constexpr event_code code_of(fault_reason reason) noexcept {
  using enum fault_reason;
  switch (reason) {
    case id_beyond:
    case link_absent:
    case link_malformed:
      return event_code::c_bad_streamid;
    case link_unreadable:
    case entry_unreadable:
      return event_code::f_ste_fetch;
    case request_refused:
      return event_code::c_bad_substreamid;
    case page_unreadable:
      return event_code::f_walk_eabt;
    case page_beyond:
      return event_code::f_addr_size;
    case not_accessed:
      return event_code::f_access;
    case no_read:
    case no_write:
      return event_code::f_permission;
    case not_mapped:
    case beyond_width:
    case page_malformed:
      return event_code::f_translation;
    default:
      return event_code::c_bad_ste;
  }
}

struct event_queue_format {
  using record = event_record;
  static constexpr bool turns_flip = true;  // indices count turns, so that all entries are used
  // Events are lost while the queue is full, and recorded again when there is space (7.4).
  static constexpr bool overflow_stops = false;

  [[nodiscard]] static constexpr event_record encode(const translation_fault& f) noexcept {
    const event_code what = code_of(f.reason);
    event_record r{};
    r = r.with(event_record::code, what)
            .with(event_record::ssv, f.has_pasid)
            .with(event_record::substream_id, f.has_pasid ? f.pasid & 0xf'ffff : 0)
            .with(event_record::stream_id, f.requester.raw());
    if (what == event_code::f_ste_fetch) {
      return r.with(event_record::fetch_address, f.fetch & fetch_mask);
    }
    if (what < event_code::f_walk_eabt) return r;
    const bool walk = what == event_code::f_walk_eabt;
    return r.with(event_record::rnw, !writes(f.wanted))
        .with(event_record::s2, true)
        .with(event_record::klass, walk ? event_record::class_ttd : event_record::class_in)
        .with(event_record::input_address, f.address)
        .with(event_record::fetch_address, (walk ? f.fetch : f.address) & fetch_mask);
  }
  [[nodiscard]] static constexpr translation_fault decode(const event_record& r) noexcept {
    using enum fault_reason;
    translation_fault f;
    const event_code what = r[event_record::code];
    f.code = static_cast<std::uint16_t>(what);
    // StreamIDs of PCIe functions are requester IDs; their upper bits identify the root complex.
    f.requester = pcie::requester_id{static_cast<std::uint16_t>(r[event_record::stream_id])};
    f.has_pasid = r[event_record::ssv];
    f.pasid = r[event_record::substream_id];
    switch (what) {
      case event_code::c_bad_streamid:
        f.reason = link_absent;
        return f;
      case event_code::f_ste_fetch:
        f.reason = entry_unreadable;
        f.fetch = r[event_record::fetch_address];
        return f;
      case event_code::c_bad_ste:
        f.reason = entry_malformed;
        return f;
      case event_code::c_bad_substreamid:
        f.reason = request_refused;
        return f;
      case event_code::f_walk_eabt:
        f.reason = page_unreadable;
        f.fetch = r[event_record::fetch_address];
        break;
      case event_code::f_translation:
        f.reason = not_mapped;
        break;
      case event_code::f_addr_size:
        f.reason = page_beyond;
        break;
      case event_code::f_access:
        f.reason = not_accessed;
        break;
      case event_code::f_permission:
        f.reason = r[event_record::rnw] ? no_read : no_write;
        break;
      default:
        return f;
    }
    f.wanted = r[event_record::rnw] ? access::read : access::write;
    f.address = r[event_record::input_address];
    return f;
  }

 private:
  static constexpr std::uint64_t fetch_mask = 0x000f'ffff'ffff'ffff;
};

}  // namespace phasebit::iommu::smmuv3
