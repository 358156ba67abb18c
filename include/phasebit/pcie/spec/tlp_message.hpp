// SPDX-License-Identifier: BSL-1.0
// Messages: legacy interrupts, power management, errors, hot-plug, ATS and page requests. PCIe 5.0,
// 2.2.8 and chapter 10.
#pragma once

#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/pcie/spec/tlp.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <cstdint>

namespace phasebit::pcie {

// r[2:0], table 2-17. The two reserved values end at the receiver.
enum class message_routing : std::uint8_t {
  to_root_complex = 0,
  by_address = 1,
  by_id = 2,
  broadcast = 3,
  local = 4,
  gathered = 5,
};

// Message Code, tables 2-18 to 2-30 and 10-2 to 10-7.
enum class message_code : std::uint8_t {
  unlock = 0x00,
  invalidate_request = 0x01,
  invalidate_completion = 0x02,
  page_request = 0x04,
  page_response = 0x05,
  latency_tolerance = 0x10,
  optimized_buffer_flush = 0x12,
  pm_active_state_nak = 0x14,
  pm_pme = 0x18,
  pme_turn_off = 0x19,
  pme_to_ack = 0x1b,
  assert_inta = 0x20,
  assert_intb = 0x21,
  assert_intc = 0x22,
  assert_intd = 0x23,
  deassert_inta = 0x24,
  deassert_intb = 0x25,
  deassert_intc = 0x26,
  deassert_intd = 0x27,
  error_correctable = 0x30,
  error_nonfatal = 0x31,
  error_fatal = 0x33,
  set_slot_power_limit = 0x50,
  precise_time_request = 0x52,
  precise_time_response = 0x53,
  vendor_type0 = 0x7e,
  vendor_type1 = 0x7f,
};

// One message. `upper` and `lower` are doublewords 2 and 3 as they are: by_id has the destination in
// upper bits 31:16, by_address an address in both.
struct message {
  message_routing routing = message_routing::to_root_complex;
  message_code code = message_code::unlock;
  requester_id requester{};
  std::uint8_t tag = 0;  // or what the code puts there, such as an invalidation's ITag
  std::uint32_t upper = 0;
  std::uint32_t lower = 0;
  std::uint16_t dwords = 0;  // of data; 0 has none
  tlp_attributes attributes{};

  [[nodiscard]] constexpr tlp_header encode() const noexcept {
    tlp_header h{};
    h.dw[0] = attributes
                  .on(tlp_dword0{}
                          .with(tlp_dword0::with_data, dwords != 0)
                          .with(tlp_dword0::four_dwords, true)
                          .with(tlp_dword0::type, tlp_type::message)
                          .with(tlp_dword0::message_routing, static_cast<std::uint8_t>(routing))
                          .with(tlp_dword0::length, static_cast<std::uint16_t>(dwords & 0x3ff)))
                  .raw;
    h.dw[1] = tlp_dword1{}
                  .with(tlp_dword1::requester, requester.raw())
                  .with(tlp_dword1::tag, tag)
                  .with(tlp_dword1::message_code, static_cast<std::uint8_t>(code))
                  .raw;
    h.dw[2] = upper;
    h.dw[3] = lower;
    return h;
  }
  // Of a header that tlp_check() accepted and that is a message.
  [[nodiscard]] static constexpr message decode(const tlp_header& h) noexcept {
    const tlp_dword1 d{h.dw[1]};
    return {.routing = static_cast<message_routing>(h.first()[tlp_dword0::message_routing]),
            .code = static_cast<message_code>(d[tlp_dword1::message_code]),
            .requester = h.requester(),
            .tag = d[tlp_dword1::tag],
            .upper = h.dw[2],
            .lower = h.dw[3],
            .dwords = static_cast<std::uint16_t>(h.with_data() ? h.length() : 0),
            .attributes = tlp_attributes::of(h)};
  }
  friend constexpr bool operator==(const message&, const message&) noexcept = default;
};

}  // namespace phasebit::pcie
