// SPDX-License-Identifier: BSL-1.0
// Bit fields named by the numbers a specification prints: field<15, 0> is bits 15:0, both included.
// Fields are read from and written to values that were copied from a register or a wire struct.
// Nothing here accesses a device.
//
//   struct cap : register_value<cap, std::uint64_t> {
//     using register_value::register_value;
//     static constexpr field<15, 0, std::uint16_t> mqes{};
//   };
//   const cap caps{bar.read64(0)};
//   caps[cap::mqes];                              // std::uint16_t
//   cc{}.with(cc::en, true).with(cc::iosqes, 6);  // a new value
#pragma once

#include <phasebit/core/expects.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace phasebit {

namespace detail {

template <unsigned Bits>
using least_unsigned = std::conditional_t<
    Bits == 1, bool,
    std::conditional_t<
        Bits <= 8, std::uint8_t,
        std::conditional_t<Bits <= 16, std::uint16_t,
                           std::conditional_t<Bits <= 32, std::uint32_t, std::uint64_t>>>>;

// How many bits a field's type can hold.
template <class Value>
[[nodiscard]] constexpr unsigned value_bits() noexcept {
  if constexpr (std::is_enum_v<Value>) {
    return value_bits<std::underlying_type_t<Value>>();
  } else if constexpr (std::is_same_v<Value, bool>) {
    return 1;
  } else {
    return sizeof(Value) * 8;
  }
}

}  // namespace detail

// Bits Hi:Lo of a word, as a Value (an integer, bool or enum). Constexpr; no undefined shifts.
template <unsigned Hi, unsigned Lo = Hi, class Value = detail::least_unsigned<Hi - Lo + 1>>
struct field {
  static_assert(Hi >= Lo && Hi < 64, "a field is written field<Hi, Lo>, as specifications do");
  static_assert(detail::value_bits<Value>() > Hi - Lo, "the type is too narrow for the field");
  using value_type = Value;

  static constexpr unsigned hi = Hi;
  static constexpr unsigned lo = Lo;
  static constexpr unsigned width = Hi - Lo + 1;
  static constexpr std::uint64_t max = ~std::uint64_t{0} >> (64 - width);

  // The field's bits in place.
  template <std::unsigned_integral Word>
    requires(Hi < sizeof(Word) * 8)
  static constexpr Word mask = static_cast<Word>(max << Lo);

  template <std::unsigned_integral Word>
  [[nodiscard]] static constexpr Value get(Word word) noexcept {
    static_assert(Hi < sizeof(Word) * 8, "the field lies outside this word");
    return static_cast<Value>((word >> Lo) & static_cast<Word>(max));
  }
  // `word` with this field replaced. `value` must fit.
  template <std::unsigned_integral Word>
  [[nodiscard]] static constexpr Word set(Word word, Value value) noexcept {
    static_assert(Hi < sizeof(Word) * 8, "the field lies outside this word");
    const auto bits = static_cast<std::uint64_t>(value);
    PHASEBIT_EXPECTS(bits <= max, "the value does not fit into the field");
    return static_cast<Word>((word & static_cast<Word>(~mask<Word>)) |
                             static_cast<Word>(bits << Lo));
  }
  // A word that has this field and zeros.
  template <std::unsigned_integral Word = std::uint32_t>
  [[nodiscard]] static constexpr Word of(Value value) noexcept {
    return set(Word{0}, value);
  }
};

// A snapshot of a register or dword. Derived is the register's own type, so that two registers
// cannot be confused. Copied and compared as its raw word.
template <class Derived, std::unsigned_integral Word>
struct register_value {
  using word_type = Word;

  Word raw = 0;

  constexpr register_value() noexcept = default;
  constexpr explicit register_value(Word word) noexcept : raw(word) {}

  template <unsigned Hi, unsigned Lo, class Value>
  [[nodiscard]] constexpr Value operator[](field<Hi, Lo, Value> f) const noexcept {
    return f.get(raw);
  }
  template <unsigned Hi, unsigned Lo, class Value>
  [[nodiscard]] constexpr Derived with(field<Hi, Lo, Value> f,
                                       std::type_identity_t<Value> value) const noexcept {
    Derived copy{};
    copy.raw = f.set(raw, value);
    return copy;
  }
  friend constexpr bool operator==(register_value, register_value) noexcept = default;
};

}  // namespace phasebit
