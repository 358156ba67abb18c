// SPDX-License-Identifier: BSL-1.0
// A whole TLP: prefixes, header, data and digest, from bytes that a link partner sent. A malformed
// TLP as the specification defines it (PCIe 5.0, 2.3) is an error and has no other effect.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/spec/tlp.hpp>
#include <phasebit/pcie/spec/tlp_completion.hpp>
#include <phasebit/pcie/spec/tlp_prefix.hpp>
#include <phasebit/pcie/spec/tlp_request.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::pcie {

namespace detail {

[[nodiscard]] constexpr error malformed(const char* what, std::uint64_t value) noexcept {
  return failure(errc::protocol, what, value);
}

// Enabled bytes of a memory request, 2.2.5.
[[nodiscard]] constexpr result<> check_byte_enables(const tlp_header& h) noexcept {
  const unsigned first = h.first_byte_enables();
  const unsigned last = h.last_byte_enables();
  const unsigned length = h.length();
  if (length == 1) {
    if (last != 0) return malformed("a request of one doubleword enables bytes of a last", last);
    return {};
  }
  if (first == 0 || last == 0) {
    return malformed("a request of several doublewords enables no byte of its first or last",
                     first << 4 | last);
  }
  // Two aligned doublewords may have holes; more may not: ones up to the end, ones from the start.
  if (length == 2 && h.address() % 8 == 0) return {};
  const bool up_to_end = first == 0xf || first == 0xe || first == 0xc || first == 0x8;
  const bool from_start = (last & (last + 1)) == 0;
  if (!up_to_end || !from_start) {
    return malformed("the enabled bytes of a request have holes", first << 4 | last);
  }
  return {};
}

[[nodiscard]] constexpr result<> check_atomic(const tlp_header& h) noexcept {
  const unsigned length = h.length();
  const bool compares = h.type() == tlp_type::compare_swap;
  const bool known =
      compares ? length == 2 || length == 4 || length == 8 : length == 1 || length == 2;
  if (!known) return malformed("an atomic request has an operand of no known size", length);
  const unsigned operand = compares ? length * 2 : length * 4;
  if ((h.address() & (operand - 1)) != 0) {
    return malformed("the operand of an atomic request is not naturally aligned", h.address());
  }
  return {};
}

}  // namespace detail

// Whether a receiver accepts the header. Errors: protocol, with a sentence that names the rule.
// Reserved fields are ignored, as receivers must.
[[nodiscard]] constexpr result<> tlp_check(const tlp_header& h) noexcept {
  const tlp_dword0 d = h.first();
  const bool four = d[tlp_dword0::four_dwords];
  if (d[tlp_dword0::prefix]) return detail::malformed("the format is none of a header", d.raw);
  switch (h.type()) {
    case tlp_type::memory_read_locked:
      if (h.with_data()) return detail::malformed("only reads are locked", d.raw);
      [[fallthrough]];
    case tlp_type::memory: {
      if (d[tlp_dword0::address_type] > tlp_address_type::translated) {
        return detail::malformed("the address type is reserved", d.raw);
      }
      const bool hinted_read = d[tlp_dword0::processing_hints] && !h.with_data();
      if (!hinted_read) {
        const auto checked = detail::check_byte_enables(h);
        if (!checked) return checked;
      }
      if ((h.address() & (tlp_boundary_bytes - 1)) + std::uint64_t{h.length()} * 4 >
          tlp_boundary_bytes) {
        return detail::malformed("a memory request crosses a 4 KiB boundary", h.address());
      }
      return {};
    }
    case tlp_type::io:
    case tlp_type::config0:
    case tlp_type::config1:
      if (four) return detail::malformed("an I/O or configuration header has three doublewords", 4);
      if (h.length() != 1) {
        return detail::malformed("an I/O or configuration request is one doubleword", h.length());
      }
      if (h.last_byte_enables() != 0) {
        return detail::malformed("a request of one doubleword enables bytes of a last",
                                 h.last_byte_enables());
      }
      if (d[tlp_dword0::traffic_class] != 0) {
        return detail::malformed("an I/O or configuration request is of traffic class 0",
                                 d[tlp_dword0::traffic_class]);
      }
      return {};
    case tlp_type::completion:
    case tlp_type::completion_locked:
      if (four) return detail::malformed("a completion's header has three doublewords", 4);
      return {};
    case tlp_type::fetch_add:
    case tlp_type::swap:
    case tlp_type::compare_swap:
      if (!h.with_data()) return detail::malformed("an atomic request carries its operand", d.raw);
      return detail::check_atomic(h);
    case tlp_type::message:
      if (!four) return detail::malformed("a message's header has four doublewords", 3);
      return {};
    default:
      return detail::malformed("format and type name no packet", d.raw >> 24);
  }
}

// A TLP in the bytes that it was read from, which must outlive it and must not change.
struct tlp {
  std::span<const std::byte> prefixes{};  // 4 bytes each
  tlp_header header{};
  std::span<const std::byte> data{};      // as on the link: byte enables count from its first byte
  std::optional<std::uint32_t> digest{};  // ECRC, handed over as it is and not checked

  [[nodiscard]] constexpr std::size_t prefix_count() const noexcept { return prefixes.size() / 4; }
  [[nodiscard]] constexpr tlp_prefix prefix(std::size_t i) const noexcept {
    return tlp_prefix{load_wire<be<std::uint32_t>>(prefixes.subspan(i * 4)).get()};
  }
  // The PASID that the packet is of, or nothing.
  [[nodiscard]] constexpr std::optional<pasid_prefix> pasid() const noexcept {
    for (std::size_t i = 0; i != prefix_count(); ++i) {
      if (const auto found = pasid_prefix::decode(prefix(i))) return found;
    }
    return std::nullopt;
  }
};

// Reads one TLP that fills `bytes`. Errors: protocol (malformed; too short, too long, or against one
// of the rules). At most 2 prefixes of the link and 4 from end to end.
[[nodiscard]] constexpr result<tlp> parse_tlp(std::span<const std::byte> bytes) noexcept {
  const auto word = [&](std::size_t at) {
    return load_wire<be<std::uint32_t>>(bytes.subspan(at)).get();
  };
  constexpr unsigned max_local = 2;
  if (bytes.size() % 4 != 0) {
    return detail::malformed("a packet is not whole doublewords", bytes.size());
  }
  tlp packet{};
  std::size_t at = 0;
  unsigned local = 0;
  unsigned end_end = 0;
  for (; at != bytes.size() && word(at) >> 29 == tlp_prefix::prefix_format; at += 4) {
    if (!tlp_prefix{word(at)}.is_end_end()) {
      if (end_end != 0) return detail::malformed("a local prefix follows an end-end one", at / 4);
      if (++local > max_local) return detail::malformed("more local prefixes than two", local);
    } else if (++end_end > tlp_max_end_end_prefixes) {
      return detail::malformed("more end-end prefixes than four", end_end);
    }
  }
  packet.prefixes = bytes.first(at);
  if (bytes.size() - at < 12) return detail::malformed("a packet ends within its header", at);
  packet.header.dw[0] = word(at);
  const std::size_t header_bytes = std::size_t{packet.header.dwords()} * 4;
  if (bytes.size() - at < header_bytes) {
    return detail::malformed("a packet ends within its header", at);
  }
  for (std::size_t i = 1; i != packet.header.dwords(); ++i) packet.header.dw[i] = word(at + i * 4);
  at += header_bytes;
  const auto checked = tlp_check(packet.header);
  if (!checked) return checked.error();

  const std::size_t data_bytes = packet.header.data_bytes();
  const std::size_t digest_bytes = packet.header.first()[tlp_dword0::digest] ? 4 : 0;
  if (bytes.size() - at != data_bytes + digest_bytes) {
    return detail::malformed("a packet's length differs from its header", bytes.size() - at);
  }
  packet.data = bytes.subspan(at, data_bytes);
  if (digest_bytes != 0) packet.digest = word(at + data_bytes);
  return packet;
}

// Writes header and data, and the prefix where there is one, to `out`; returns the bytes written.
// Errors: invalid_argument (the data differs from the header), exhausted (`out` is too small). A
// header with a digest is refused as not_supported.
[[nodiscard]] constexpr result<std::size_t> write_tlp(
    std::span<std::byte> out, const tlp_header& header, std::span<const std::byte> data,
    std::optional<tlp_prefix> prefix = std::nullopt) noexcept {
  if (header.first()[tlp_dword0::digest]) {
    return failure(errc::not_supported, "no digest (ECRC) is computed");
  }
  if (data.size() != header.data_bytes()) {
    return failure(errc::invalid_argument, "the data's length differs from the header",
                   data.size());
  }
  const std::size_t front = prefix ? 4 : 0;
  const std::size_t total = front + std::size_t{header.dwords()} * 4 + data.size();
  if (out.size() < total) return failure(errc::exhausted, "the packet needs more bytes", total);
  if (prefix) store_wire(out, be<std::uint32_t>{prefix->raw});
  std::size_t at = front + header.store(out.subspan(front));
  for (const std::byte b : data) out[at++] = b;
  return total;
}

}  // namespace phasebit::pcie
