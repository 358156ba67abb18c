// SPDX-License-Identifier: BSL-1.0
// VT-d's fault records (VT-d specification revision 4.1, 11.4.7.6).
#pragma once

#include <phasebit/iommu/vtd/fault_codes.hpp>
#include <phasebit/iommu/vtd/spec/registers.hpp>

#include <cstdint>

namespace phasebit::iommu::vtd {

// One fault recording register, both halves.
struct fault_record {
  frcd_low low{};
  frcd_high high{};

  friend constexpr bool operator==(fault_record, fault_record) noexcept = default;

  // Addresses lose their lower 12 bits. F is set.
  [[nodiscard]] static constexpr fault_record of(const translation_fault& fault) noexcept {
    fault_record r;
    if (fault.interrupt) {
      r.low = r.low.with(frcd_low::interrupt_index, static_cast<std::uint16_t>(fault.address));
    } else {
      r.low.raw = fault.address & frcd_low::address_mask;
    }
    r.high = r.high.with(frcd_high::sid, fault.requester.raw())
                 .with(frcd_high::fr, static_cast<std::uint8_t>(fault.code))
                 .with(frcd_high::pp, fault.has_pasid)
                 .with(frcd_high::pv, fault.has_pasid ? fault.pasid & 0xf'ffff : 0)
                 .with(frcd_high::f, true);
    // T1 T2: 00 write, 10 read, 11 AtomicOp.
    if (!fault.interrupt) {
      r.high = r.high.with(frcd_high::t1, reads(fault.wanted))
                   .with(frcd_high::t2, fault.wanted == access::read_write);
    }
    return r;
  }
  [[nodiscard]] constexpr translation_fault decode() const noexcept {
    const auto code = high[frcd_high::fr];
    translation_fault fault;
    fault.requester = pcie::requester_id{high[frcd_high::sid]};
    fault.code = code;
    fault.reason = reason_of(static_cast<fault_code>(code));
    fault.interrupt = code >= 0x20 && code <= 0x2f;
    fault.has_pasid = high[frcd_high::pp];
    fault.pasid = high[frcd_high::pv];
    if (fault.interrupt) {
      fault.address = low[frcd_low::interrupt_index];
      fault.wanted = access::write;
    } else {
      fault.address = low.raw & frcd_low::address_mask;
      fault.wanted = !high[frcd_high::t1]  ? access::write
                     : high[frcd_high::t2] ? access::read_write
                                           : access::read;
    }
    return fault;
  }
};

}  // namespace phasebit::iommu::vtd
