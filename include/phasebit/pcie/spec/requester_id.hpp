// SPDX-License-Identifier: BSL-1.0
// Requester IDs: bus, device, function. PCIe 5.0, 2.2.4.2 and 7.5.1.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/expects.hpp>

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace phasebit::pcie {

// The 16-bit routing id. With ARI the low eight bits are one function number (see ari_function).
class requester_id {
 public:
  constexpr requester_id() noexcept = default;
  constexpr explicit requester_id(std::uint16_t raw) noexcept : raw_(raw) {}
  // device < 32, function < 8.
  constexpr requester_id(std::uint8_t bus, std::uint8_t device, std::uint8_t function) noexcept
      : raw_(static_cast<std::uint16_t>(bus << 8 | device << 3 | function)) {
    PHASEBIT_EXPECTS(device < 32 && function < 8, "device is below 32 and function below 8");
  }

  [[nodiscard]] constexpr std::uint16_t raw() const noexcept { return raw_; }
  [[nodiscard]] constexpr std::uint8_t bus() const noexcept {
    return static_cast<std::uint8_t>(raw_ >> 8);
  }
  [[nodiscard]] constexpr std::uint8_t device() const noexcept {
    return static_cast<std::uint8_t>(raw_ >> 3 & 31);
  }
  [[nodiscard]] constexpr std::uint8_t function() const noexcept {
    return static_cast<std::uint8_t>(raw_ & 7);
  }
  // The function number of a device that uses ARI (PCIe 5.0, 6.13): eight bits, no device number.
  [[nodiscard]] constexpr std::uint8_t ari_function() const noexcept {
    return static_cast<std::uint8_t>(raw_ & 255);
  }

  friend constexpr auto operator<=>(requester_id, requester_id) noexcept = default;

  // "01:00.0" into `out` (7 characters; cut where it does not fit).
  [[nodiscard]] constexpr std::string_view print(std::span<char> out) const noexcept {
    return phasebit::detail::text_cursor{out}
        .hex(bus(), 2)
        .text(":")
        .hex(device(), 2)
        .text(".")
        .hex(function())
        .view();
  }

 private:
  std::uint16_t raw_ = 0;
};

// A function's full name in one machine: PCI segment (Linux: domain) and requester id.
struct function_address {
  // 16 bits in PCI; Linux numbers what lies behind a VMD from 10000h.
  std::uint32_t segment = 0;
  requester_id id{};

  friend constexpr auto operator<=>(const function_address&,
                                    const function_address&) noexcept = default;

  // "0000:01:00.0" into `out` (12 characters, up to 16 for a domain above ffff; cut where it does not fit).
  [[nodiscard]] constexpr std::string_view print(std::span<char> out) const noexcept {
    phasebit::detail::text_cursor cursor{out};
    cursor.hex(segment, 4).text(":");
    char bdf[8]{};
    return cursor.text(id.print(bdf)).view();
  }
};

// Reads "01:00.0" or "0000:01:00.0", nothing before or behind; nothing else is an address. A domain has
// four to eight digits: "10000:e1:00.0" is what Linux calls a function behind a VMD.
[[nodiscard]] constexpr std::optional<function_address> parse_function_address(
    std::string_view text) noexcept {
  const auto hex = [](std::string_view digits) -> std::optional<unsigned> {
    unsigned value = 0;
    for (char c : digits) {
      unsigned digit = 0;
      if (c >= '0' && c <= '9') {
        digit = static_cast<unsigned>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<unsigned>(c - 'a') + 10;
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<unsigned>(c - 'A') + 10;
      } else {
        return std::nullopt;
      }
      value = value << 4 | digit;
    }
    return value;
  };
  unsigned segment = 0;
  if (text.size() >= 12 && text.size() <= 16 && text[text.size() - 8] == ':') {
    const std::size_t digits = text.size() - 8;
    if (digits > 4 && text[0] == '0') return std::nullopt;
    const auto parsed = hex({text.data(), digits});
    if (!parsed) return std::nullopt;
    segment = *parsed;
    text.remove_prefix(digits + 1);
  }
  if (text.size() != 7 || text[2] != ':' || text[5] != '.') return std::nullopt;
  const auto bus = hex({text.data(), 2});
  const auto device = hex({text.data() + 3, 2});
  const auto function = hex({text.data() + 6, 1});
  if (!bus || !device || !function || *device > 31 || *function > 7) return std::nullopt;
  return function_address{
      segment, requester_id{static_cast<std::uint8_t>(*bus), static_cast<std::uint8_t>(*device),
                            static_cast<std::uint8_t>(*function)}};
}

}  // namespace phasebit::pcie
