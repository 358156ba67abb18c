// SPDX-License-Identifier: BSL-1.0
// Memory, I/O, configuration and atomic requests as values, and the headers that they make. PCIe 5.0,
// 2.2.5 (byte enables) and 2.2.7.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>
#include <phasebit/pcie/spec/tlp.hpp>

#include <cstdint>

namespace phasebit::pcie {

// Attributes of requests and completions, 2.2.6.
struct tlp_attributes {
  std::uint8_t traffic_class = 0;  // 0 to 7
  bool relaxed_ordering = false;
  bool no_snoop = false;
  bool id_based_ordering = false;
  bool poisoned = false;
  bool digest = false;

  [[nodiscard]] static constexpr tlp_attributes of(const tlp_header& h) noexcept {
    const tlp_dword0 d = h.first();
    return {d[tlp_dword0::traffic_class], d[tlp_dword0::relaxed_ordering],
            d[tlp_dword0::no_snoop],      d[tlp_dword0::id_based_ordering],
            d[tlp_dword0::poisoned],      d[tlp_dword0::digest]};
  }
  [[nodiscard]] constexpr tlp_dword0 on(tlp_dword0 d) const noexcept {
    return d.with(tlp_dword0::traffic_class, traffic_class)
        .with(tlp_dword0::relaxed_ordering, relaxed_ordering)
        .with(tlp_dword0::no_snoop, no_snoop)
        .with(tlp_dword0::id_based_ordering, id_based_ordering)
        .with(tlp_dword0::poisoned, poisoned)
        .with(tlp_dword0::digest, digest);
  }
  friend constexpr bool operator==(const tlp_attributes&, const tlp_attributes&) noexcept = default;
};

// The bytes that a memory request means, as doublewords and enables. A request of no bytes is a
// flush: one doubleword, none enabled (2.2.5).
struct byte_enables {
  std::uint16_t dwords = 1;
  std::uint8_t first = 0;
  std::uint8_t last = 0;

  // `bytes` from `address` on, at most 4 KiB and within one 4 KiB block.
  [[nodiscard]] static constexpr byte_enables of(std::uint64_t address, unsigned bytes) noexcept {
    const auto skipped = static_cast<unsigned>(address & 3);
    PHASEBIT_EXPECTS((address & (tlp_boundary_bytes - 1)) + bytes <= tlp_boundary_bytes,
                     "a memory request does not cross a 4 KiB boundary");
    if (bytes == 0) return {};
    const unsigned end = skipped + bytes;
    const unsigned dwords = (end + 3) / 4;
    const unsigned head = 0xfU << skipped & 0xf;
    const unsigned tail = 0xfU >> (dwords * 4 - end);
    byte_enables e{.dwords = static_cast<std::uint16_t>(dwords)};
    e.first = static_cast<std::uint8_t>(dwords == 1 ? head & tail : head);
    e.last = static_cast<std::uint8_t>(dwords == 1 ? 0 : tail);
    return e;
  }
  // From the first enabled byte to the last, both included; 1 for a flush (table 2-38).
  [[nodiscard]] constexpr unsigned byte_count() const noexcept {
    const unsigned front = skipped_bytes();
    if (first == 0 && dwords == 1) return 1;
    const unsigned end = dwords == 1 ? first : last;
    unsigned unused = 0;
    while (unused != 3 && (end & 8U >> unused) == 0) ++unused;
    return dwords * 4U - front - unused;
  }
  // How many bytes lie before the first enabled one; 0 for a flush.
  [[nodiscard]] constexpr unsigned skipped_bytes() const noexcept {
    unsigned n = 0;
    while (first != 0 && (first & 1U << n) == 0) ++n;
    return n;
  }
  friend constexpr bool operator==(const byte_enables&, const byte_enables&) noexcept = default;
};

// A memory read or write (or a translation request). Addresses are multiples of 4; byte enables
// select the bytes.
struct memory_request {
  bool write = false;
  bool locked = false;  // reads only
  requester_id requester{};
  std::uint16_t tag = 0;
  std::uint64_t address = 0;
  byte_enables enables{};
  tlp_address_type address_type = tlp_address_type::untranslated;
  tlp_attributes attributes{};

  [[nodiscard]] static constexpr memory_request read(requester_id from, std::uint16_t tag,
                                                     std::uint64_t address,
                                                     unsigned bytes) noexcept {
    return {.requester = from,
            .tag = tag,
            .address = address & ~std::uint64_t{3},
            .enables = byte_enables::of(address, bytes)};
  }
  // The data is whole doublewords from address() on; bytes that are not enabled are ignored.
  [[nodiscard]] static constexpr memory_request write_of(requester_id from, std::uint64_t address,
                                                         unsigned bytes) noexcept {
    return {.write = true,
            .requester = from,
            .address = address & ~std::uint64_t{3},
            .enables = byte_enables::of(address, bytes)};
  }

  [[nodiscard]] constexpr tlp_header encode() const noexcept {
    PHASEBIT_EXPECTS(!(write && locked), "only reads are locked");
    tlp_header h{};
    h.dw[0] = attributes
                  .on(tlp_dword0{}
                          .with(tlp_dword0::with_data, write)
                          .with(tlp_dword0::type,
                                locked ? tlp_type::memory_read_locked : tlp_type::memory)
                          .with(tlp_dword0::address_type, address_type)
                          .with(tlp_dword0::length, enables.dwords & 0x3ff))
                  .raw;
    h.dw[1] = tlp_dword1{}
                  .with(tlp_dword1::last_byte_enables, enables.last)
                  .with(tlp_dword1::first_byte_enables, enables.first)
                  .raw;
    h.set_requester(requester);
    h.set_tag(tag);
    h.set_address(address);
    return h;
  }
  // Of a header that tlp_check() accepted and that is a memory request. With processing hints (TH) a
  // read's byte enables, or a write's tag, are a steering tag: all bytes are meant then (2.2.7.1.1).
  [[nodiscard]] static constexpr memory_request decode(const tlp_header& h) noexcept {
    memory_request r{.write = h.with_data(),
                     .locked = h.type() == tlp_type::memory_read_locked,
                     .requester = h.requester(),
                     .tag = h.tag(),
                     .address = h.address(),
                     .address_type = h.first()[tlp_dword0::address_type],
                     .attributes = tlp_attributes::of(h)};
    r.enables.dwords = static_cast<std::uint16_t>(h.length());
    const bool hinted = h.first()[tlp_dword0::processing_hints];
    r.enables.first = hinted && !r.write ? std::uint8_t{0xf} : h.first_byte_enables();
    r.enables.last = hinted && !r.write ? static_cast<std::uint8_t>(r.enables.dwords == 1 ? 0 : 0xf)
                                        : h.last_byte_enables();
    return r;
  }
  friend constexpr bool operator==(const memory_request&, const memory_request&) noexcept = default;
};

// I/O reads and writes: one doubleword, 2.2.7.2.
struct io_request {
  bool write = false;
  requester_id requester{};
  std::uint16_t tag = 0;
  std::uint32_t address = 0;  // a multiple of 4
  std::uint8_t enables = 0xf;

  [[nodiscard]] constexpr tlp_header encode() const noexcept {
    tlp_header h{};
    h.dw[0] = tlp_dword0{}
                  .with(tlp_dword0::with_data, write)
                  .with(tlp_dword0::type, tlp_type::io)
                  .with(tlp_dword0::length, 1)
                  .raw;
    h.dw[1] = tlp_dword1{}.with(tlp_dword1::first_byte_enables, enables).raw;
    h.set_requester(requester);
    h.set_tag(tag);
    h.set_address(address);
    return h;
  }
  [[nodiscard]] static constexpr io_request decode(const tlp_header& h) noexcept {
    return {h.with_data(), h.requester(), h.tag(), static_cast<std::uint32_t>(h.address()),
            h.first_byte_enables()};
  }
  friend constexpr bool operator==(const io_request&, const io_request&) noexcept = default;
};

// Configuration reads and writes: one doubleword of one function's space, 2.2.7.3. Type 1 is for
// bridges to pass on; the last of them makes it type 0.
struct config_request {
  bool write = false;
  bool type1 = false;
  requester_id requester{};
  std::uint16_t tag = 0;
  requester_id destination{};
  std::uint16_t offset = 0;  // in bytes, a multiple of 4 below 4096
  std::uint8_t enables = 0xf;

  [[nodiscard]] constexpr tlp_header encode() const noexcept {
    PHASEBIT_EXPECTS(offset % 4 == 0 && offset < 4096, "a configuration request is for a dword");
    tlp_header h{};
    h.dw[0] = tlp_dword0{}
                  .with(tlp_dword0::with_data, write)
                  .with(tlp_dword0::type, type1 ? tlp_type::config1 : tlp_type::config0)
                  .with(tlp_dword0::length, 1)
                  .raw;
    h.dw[1] = tlp_dword1{}.with(tlp_dword1::first_byte_enables, enables).raw;
    h.dw[2] = offset;
    h.set_requester(requester);
    h.set_tag(tag);
    h.set_destination(destination);
    return h;
  }
  [[nodiscard]] static constexpr config_request decode(const tlp_header& h) noexcept {
    return {.write = h.with_data(),
            .type1 = h.type() == tlp_type::config1,
            .requester = h.requester(),
            .tag = h.tag(),
            .destination = h.destination(),
            .offset = static_cast<std::uint16_t>(h.dw[2] & 0xffc),
            .enables = h.first_byte_enables()};
  }
  friend constexpr bool operator==(const config_request&, const config_request&) noexcept = default;
};

// AtomicOps, 2.2.7.1.2 and 6.15. The data is one operand, or for compare and swap two.
struct atomic_request {
  tlp_type operation = tlp_type::fetch_add;
  requester_id requester{};
  std::uint16_t tag = 0;
  std::uint64_t address = 0;       // a multiple of the operand's size
  std::uint8_t operand_bytes = 4;  // 4 or 8; for compare and swap also 16
  tlp_attributes attributes{};

  [[nodiscard]] constexpr unsigned data_bytes() const noexcept {
    return operation == tlp_type::compare_swap ? operand_bytes * 2U : operand_bytes;
  }
  [[nodiscard]] constexpr tlp_header encode() const noexcept {
    tlp_header h{};
    h.dw[0] = attributes
                  .on(tlp_dword0{}
                          .with(tlp_dword0::with_data, true)
                          .with(tlp_dword0::type, operation)
                          .with(tlp_dword0::length, static_cast<std::uint16_t>(data_bytes() / 4)))
                  .raw;
    h.set_requester(requester);
    h.set_tag(tag);
    h.set_address(address);
    return h;
  }
  [[nodiscard]] static constexpr atomic_request decode(const tlp_header& h) noexcept {
    const unsigned bytes = h.length() * 4;
    return {.operation = h.type(),
            .requester = h.requester(),
            .tag = h.tag(),
            .address = h.address(),
            .operand_bytes =
                static_cast<std::uint8_t>(h.type() == tlp_type::compare_swap ? bytes / 2 : bytes),
            .attributes = tlp_attributes::of(h)};
  }
  friend constexpr bool operator==(const atomic_request&, const atomic_request&) noexcept = default;
};

}  // namespace phasebit::pcie
