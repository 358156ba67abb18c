// SPDX-License-Identifier: BSL-1.0
// Fields of the NVMe structures that no C++ integer is: 128-bit counts and padded texts.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace phasebit::nvme {

// A 128-bit little-endian count. The upper half of every counter in use today is zero;
// `saturated` returns 64 bits, all ones if the value is larger.
struct le_u128 {
  le<std::uint64_t> low;
  le<std::uint64_t> high;

  [[nodiscard]] constexpr std::uint64_t saturated() const noexcept {
    return high == 0 ? low.get() : ~std::uint64_t{0};
  }
  friend constexpr bool operator==(const le_u128&, const le_u128&) noexcept = default;
};
static_assert(WireStruct<le_u128> && sizeof(le_u128) == 16);

// A text field without its padding: it ends at the first zero, and trailing spaces are dropped. The
// view points into `field`. The text is not checked to be printable.
template <class Chars>
[[nodiscard]] constexpr std::string_view text_of(const Chars& field) noexcept {
  std::size_t end = 0;
  while (end != field.size() && field[end] != '\0') ++end;
  while (end != 0 && field[end - 1] == ' ') --end;
  return {field.data(), end};
}

// Writes `text` into an ASCII field, cut where it does not fit, padded with spaces as the
// specification asks (Base 2.0, section 1.4).
template <class Chars>
constexpr void set_text(Chars& field, std::string_view text) noexcept {
  for (std::size_t i = 0; i != field.size(); ++i) field[i] = i < text.size() ? text[i] : ' ';
}

}  // namespace phasebit::nvme
