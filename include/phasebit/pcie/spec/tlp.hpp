// SPDX-License-Identifier: BSL-1.0
// The header of a transaction layer packet (TLP): three or four doublewords, and the fields that
// every type shares. PCIe 5.0, 2.2.1. On the link byte 0 comes first; here a doubleword holds it in
// bits 31:24, so that bit n of byte m is bit 8 * (3 - m) + n.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::pcie {

// Type[4:0], table 2-3. Together with Fmt it names the packet. The low three bits of a message's type
// are its routing.
enum class tlp_type : std::uint8_t {
  memory = 0x00,
  memory_read_locked = 0x01,
  io = 0x02,
  config0 = 0x04,
  config1 = 0x05,
  completion = 0x0a,
  completion_locked = 0x0b,
  fetch_add = 0x0c,
  swap = 0x0d,
  compare_swap = 0x0e,
  message = 0x10,
};

// AT, table 2-5. Other types of request than memory have it reserved.
enum class tlp_address_type : std::uint8_t {
  untranslated = 0,
  translation_request = 1,
  translated = 2,
};

// Doubleword 0, figure 2-4.
struct tlp_dword0 : register_value<tlp_dword0, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<31> prefix{};
  static constexpr field<30> with_data{};
  static constexpr field<29> four_dwords{};
  static constexpr field<28, 24, tlp_type> type{};
  static constexpr field<26, 24> message_routing{};
  static constexpr field<23> tag_9{};
  static constexpr field<22, 20> traffic_class{};
  static constexpr field<19> tag_8{};
  static constexpr field<18> id_based_ordering{};
  static constexpr field<17> lightweight_notification{};
  static constexpr field<16> processing_hints{};  // TH
  static constexpr field<15> digest{};            // TD: a doubleword of ECRC ends the packet
  static constexpr field<14> poisoned{};          // EP
  static constexpr field<13> relaxed_ordering{};
  static constexpr field<12> no_snoop{};
  static constexpr field<11, 10, tlp_address_type> address_type{};
  static constexpr field<9, 0> length{};  // doublewords of data; 0 is 1024
};

// The fields of the further doublewords, by the number of the doubleword.
struct tlp_dword1 : register_value<tlp_dword1, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<31, 16> requester{};  // of a request or message
  static constexpr field<15, 8> tag{};
  static constexpr field<7, 4> last_byte_enables{};
  static constexpr field<3, 0> first_byte_enables{};
  static constexpr field<7, 0> message_code{};  // of a message
  static constexpr field<31, 16> completer{};   // of a completion
  static constexpr field<15, 13> status{};
  static constexpr field<12> byte_count_modified{};
  static constexpr field<11, 0> byte_count{};  // 0 is 4096
};
struct tlp_dword2 : register_value<tlp_dword2, std::uint32_t> {
  using register_value::register_value;
  static constexpr field<31, 16> destination{};  // of a configuration request or message
  static constexpr field<11, 2> config_dword{};  // extended register number and register number
  static constexpr field<31, 16> requester{};    // of a completion
  static constexpr field<15, 8> tag{};
  static constexpr field<6, 0> lower_address{};
};

inline constexpr unsigned tlp_max_dwords = 1024;           // of data
inline constexpr std::uint64_t tlp_boundary_bytes = 4096;  // no memory request crosses a multiple

// A TLP header by value. Reads and writes fields and checks nothing: tlp_check() does. A value
// whose Fmt encodes three doublewords has zeros in the fourth.
struct tlp_header {
  std::array<std::uint32_t, 4> dw{};

  [[nodiscard]] constexpr tlp_dword0 first() const noexcept { return tlp_dword0{dw[0]}; }
  [[nodiscard]] constexpr tlp_type type() const noexcept {
    const auto raw = static_cast<std::uint8_t>(dw[0] >> 24 & 31);
    return raw >= 0x10 && raw < 0x18 ? tlp_type::message : static_cast<tlp_type>(raw);
  }
  [[nodiscard]] constexpr bool with_data() const noexcept { return first()[tlp_dword0::with_data]; }
  [[nodiscard]] constexpr unsigned dwords() const noexcept {
    return first()[tlp_dword0::four_dwords] ? 4 : 3;
  }
  // The doublewords that are requested or carried, 1 to 1024. Reserved in a message and a completion
  // without data.
  [[nodiscard]] constexpr unsigned length() const noexcept {
    const unsigned n = first()[tlp_dword0::length];
    return n == 0 ? tlp_max_dwords : n;
  }
  [[nodiscard]] constexpr unsigned data_bytes() const noexcept {
    return with_data() ? length() * 4 : 0;
  }
  [[nodiscard]] constexpr bool is_completion() const noexcept {
    return type() == tlp_type::completion || type() == tlp_type::completion_locked;
  }
  [[nodiscard]] constexpr bool is_config() const noexcept {
    return type() == tlp_type::config0 || type() == tlp_type::config1;
  }
  // Routed by an address: memory, I/O and atomic requests.
  [[nodiscard]] constexpr bool has_address() const noexcept {
    const tlp_type t = type();
    return t == tlp_type::memory || t == tlp_type::memory_read_locked || t == tlp_type::io ||
           is_atomic();
  }
  [[nodiscard]] constexpr bool is_atomic() const noexcept {
    const tlp_type t = type();
    return t == tlp_type::fetch_add || t == tlp_type::swap || t == tlp_type::compare_swap;
  }
  // No completion answers it (2.4.1): memory writes and messages.
  [[nodiscard]] constexpr bool is_posted() const noexcept {
    return type() == tlp_type::message || (type() == tlp_type::memory && with_data());
  }

  // The requester: of a request its sender, of a completion its destination.
  [[nodiscard]] constexpr requester_id requester() const noexcept {
    return requester_id{static_cast<std::uint16_t>((is_completion() ? dw[2] : dw[1]) >> 16)};
  }
  constexpr void set_requester(requester_id id) noexcept {
    std::uint32_t& word = is_completion() ? dw[2] : dw[1];
    word = (word & 0xffff) | std::uint32_t{id.raw()} << 16;
  }
  // Of a completion.
  [[nodiscard]] constexpr requester_id completer() const noexcept {
    return requester_id{tlp_dword1{dw[1]}[tlp_dword1::completer]};
  }
  constexpr void set_completer(requester_id id) noexcept {
    dw[1] = tlp_dword1{dw[1]}.with(tlp_dword1::completer, id.raw()).raw;
  }
  // Of a configuration request, or of a message that is routed by id.
  [[nodiscard]] constexpr requester_id destination() const noexcept {
    return requester_id{tlp_dword2{dw[2]}[tlp_dword2::destination]};
  }
  constexpr void set_destination(requester_id id) noexcept {
    dw[2] = tlp_dword2{dw[2]}.with(tlp_dword2::destination, id.raw()).raw;
  }
  // Ten bits; senders without 10-bit tags have zeros in the upper two (2.2.6.2).
  [[nodiscard]] constexpr std::uint16_t tag() const noexcept {
    const std::uint32_t low = (is_completion() ? dw[2] : dw[1]) >> 8 & 0xff;
    return static_cast<std::uint16_t>(low | (dw[0] >> 19 & 1) << 8 | (dw[0] >> 23 & 1) << 9);
  }
  constexpr void set_tag(std::uint16_t tag) noexcept {
    PHASEBIT_EXPECTS(tag < 1024, "a tag has ten bits");
    std::uint32_t& word = is_completion() ? dw[2] : dw[1];
    word = (word & 0xffff'00ff) | (tag & 0xffU) << 8;
    dw[0] = first()
                .with(tlp_dword0::tag_8, (tag & 0x100) != 0)
                .with(tlp_dword0::tag_9, (tag & 0x200) != 0)
                .raw;
  }
  // Of a request that is routed by address; a multiple of 4.
  [[nodiscard]] constexpr std::uint64_t address() const noexcept {
    return dwords() == 4 ? std::uint64_t{dw[2]} << 32 | (dw[3] & ~3U) : dw[2] & ~3U;
  }
  // Takes the form that the address needs: three doublewords below 4 GiB, four from there on
  // (2.2.4.1). Processing hints stay.
  constexpr void set_address(std::uint64_t address) noexcept {
    const std::uint32_t hint = (dwords() == 4 ? dw[3] : dw[2]) & 3;
    const auto low = static_cast<std::uint32_t>(address & ~std::uint64_t{3}) | hint;
    const auto high = static_cast<std::uint32_t>(address >> 32);
    const std::uint32_t wide = high != 0;
    dw[0] = (dw[0] & ~(1U << 29)) | wide << 29;
    dw[2] = wide != 0 ? high : low;
    dw[3] = wide != 0 ? low : 0;
  }
  [[nodiscard]] constexpr std::uint8_t first_byte_enables() const noexcept {
    return tlp_dword1{dw[1]}[tlp_dword1::first_byte_enables];
  }
  [[nodiscard]] constexpr std::uint8_t last_byte_enables() const noexcept {
    return tlp_dword1{dw[1]}[tlp_dword1::last_byte_enables];
  }

  friend constexpr bool operator==(const tlp_header&, const tlp_header&) noexcept = default;

  // The header as it crosses the link, dwords() * 4 bytes; `out` holds at least so many.
  constexpr std::size_t store(std::span<std::byte> out) const noexcept {
    const std::size_t count = dwords();
    for (std::size_t i = 0; i != count; ++i) {
      store_wire(out.subspan(i * 4), be<std::uint32_t>{dw[i]});
    }
    return count * 4;
  }
};

}  // namespace phasebit::pcie
