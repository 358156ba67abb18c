// SPDX-License-Identifier: BSL-1.0
// Completions: the answers to requests that are not posted. PCIe 5.0, 2.2.9 and 2.3.1.
#pragma once

#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/pcie/spec/tlp.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Table 2-34. Reserved values count as unsupported_request.
enum class completion_status : std::uint8_t {
  successful = 0,
  unsupported_request = 1,
  configuration_request_retry = 2,
  completer_abort = 4,
};

// A completion's status bits by name.
[[nodiscard]] constexpr completion_status completion_status_of(std::uint8_t bits) noexcept {
  return bits == 0 || bits == 2 || bits == 4 ? static_cast<completion_status>(bits)
                                             : completion_status::unsupported_request;
}

// One completion. A memory read may be answered by several, at addresses that rise (2.3.1.1).
struct completion {
  requester_id completer{};
  requester_id requester{};
  std::uint16_t tag = 0;
  completion_status status = completion_status::successful;
  bool locked = false;
  std::uint16_t dwords = 0;          // of data; 0 has none
  std::uint16_t byte_count = 4;      // what is still to come, this one included: 1 to 4096
  std::uint8_t lower_address = 0;    // of the first byte that is meant
  bool byte_count_modified = false;  // set by PCI-X bridges only
  tlp_attributes attributes{};

  [[nodiscard]] constexpr tlp_header encode() const noexcept {
    tlp_header h{};
    h.dw[0] = attributes
                  .on(tlp_dword0{}
                          .with(tlp_dword0::with_data, dwords != 0)
                          .with(tlp_dword0::type,
                                locked ? tlp_type::completion_locked : tlp_type::completion)
                          .with(tlp_dword0::length, static_cast<std::uint16_t>(dwords & 0x3ff)))
                  .raw;
    h.dw[1] = tlp_dword1{}
                  .with(tlp_dword1::status, static_cast<std::uint8_t>(status))
                  .with(tlp_dword1::byte_count_modified, byte_count_modified)
                  .with(tlp_dword1::byte_count, static_cast<std::uint16_t>(byte_count & 0xfff))
                  .raw;
    h.dw[2] = tlp_dword2{}.with(tlp_dword2::lower_address, lower_address).raw;
    h.set_completer(completer);
    h.set_requester(requester);
    h.set_tag(tag);
    return h;
  }
  // Of a header that tlp_check() accepted and that is a completion.
  [[nodiscard]] static constexpr completion decode(const tlp_header& h) noexcept {
    const tlp_dword1 d{h.dw[1]};
    const std::uint16_t count = d[tlp_dword1::byte_count];
    return {.completer = h.completer(),
            .requester = h.requester(),
            .tag = h.tag(),
            .status = completion_status_of(d[tlp_dword1::status]),
            .locked = h.type() == tlp_type::completion_locked,
            .dwords = static_cast<std::uint16_t>(h.with_data() ? h.length() : 0),
            .byte_count = count == 0 ? std::uint16_t{4096} : count,
            .lower_address = tlp_dword2{h.dw[2]}[tlp_dword2::lower_address],
            .byte_count_modified = d[tlp_dword1::byte_count_modified],
            .attributes = tlp_attributes::of(h)};
  }
  friend constexpr bool operator==(const completion&, const completion&) noexcept = default;
};

// The completion of a non-posted request. With success it carries all requested data in one packet;
// with any other status no data (2.2.9). Byte count and lower address follow 2.3.1.1.
[[nodiscard]] constexpr completion complete(const tlp_header& request, requester_id completer,
                                            completion_status status) noexcept {
  completion c{.completer = completer,
               .requester = request.requester(),
               .tag = request.tag(),
               .status = status,
               .locked = request.type() == tlp_type::memory_read_locked,
               .attributes = tlp_attributes::of(request)};
  c.attributes.poisoned = false;
  c.attributes.digest = false;
  const bool good = status == completion_status::successful;
  if (request.type() == tlp_type::memory || request.type() == tlp_type::memory_read_locked) {
    const memory_request r = memory_request::decode(request);
    c.byte_count = static_cast<std::uint16_t>(r.enables.byte_count());
    c.lower_address = static_cast<std::uint8_t>((r.address + r.enables.skipped_bytes()) & 0x7f);
    c.dwords = good ? r.enables.dwords : std::uint16_t{0};
  } else if (request.is_atomic()) {
    const atomic_request r = atomic_request::decode(request);
    c.byte_count = r.operand_bytes;
    c.dwords = static_cast<std::uint16_t>(good ? r.operand_bytes / 4 : 0);
  } else {
    c.dwords = static_cast<std::uint16_t>(good && !request.with_data() ? 1 : 0);
  }
  return c;
}

}  // namespace phasebit::pcie
