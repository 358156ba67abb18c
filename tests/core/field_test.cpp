// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/field.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <doctest/doctest.h>
#include <support/death.hpp>

using phasebit::field;
using phasebit::register_value;

namespace {

enum class mode : std::uint8_t { off = 0, slow = 1, fast = 2, odd = 3 };

struct cap : register_value<cap, std::uint64_t> {
  using register_value::register_value;
  static constexpr field<15, 0> mqes{};
  static constexpr field<31, 24> to{};
  static constexpr field<37, 37> css{};
  static constexpr field<63, 60, mode> top{};
};
struct other : register_value<other, std::uint64_t> {
  using register_value::register_value;
};

// The narrowest type that holds the bits, bool for one.
static_assert(std::is_same_v<field<4>::value_type, bool>);
static_assert(std::is_same_v<field<8, 1>::value_type, std::uint8_t>);
static_assert(std::is_same_v<field<8, 0>::value_type, std::uint16_t>);
static_assert(std::is_same_v<field<31, 15>::value_type, std::uint32_t>);
static_assert(std::is_same_v<field<63, 0>::value_type, std::uint64_t>);

static_assert(field<63, 0>::max == ~std::uint64_t{0} && field<63>::mask<std::uint64_t> >> 63 == 1);
static_assert(field<7, 4>::mask<std::uint8_t> == 0xf0 && field<7, 4>::of(3) == 0x30U);
static_assert(cap{}.with(cap::to, 20)[cap::to] == 20);

static_assert(std::is_trivially_copyable_v<cap> && sizeof(cap) == 8 && !std::is_same_v<cap, other>);
template <class A, class B> concept comparable = requires(A a, B b) { a == b; };
static_assert(comparable<cap, cap> && !comparable<cap, other>);

// Every word of Word's width, every value of the field, against shifts written out by hand.
template <class Word, unsigned Hi, unsigned Lo>
void try_whole_field() {
  using f = field<Hi, Lo>;
  constexpr unsigned width = Hi - Lo + 1;
  const unsigned words = 1U << (sizeof(Word) * 8);
  for (unsigned w = 0; w != words; ++w) {
    const auto word = static_cast<Word>(w);
    unsigned expected = 0;
    for (unsigned bit = 0; bit != width; ++bit) expected |= ((w >> (Lo + bit)) & 1U) << bit;
    REQUIRE(static_cast<unsigned>(f::get(word)) == expected);
  }
  for (unsigned v = 0; v != 1U << width; ++v) {
    const auto value = static_cast<typename f::value_type>(v);
    for (const unsigned w : {0U, words - 1, 0x5aU, 0xa5U}) {
      const auto word = static_cast<Word>(w);
      const Word set = f::set(word, value);
      REQUIRE(f::get(set) == value);
      const auto outside = static_cast<Word>(~f::template mask<Word>);
      REQUIRE((set & outside) == (word & outside));
    }
  }
}

template <class Word, unsigned Hi, unsigned... Lo>
void try_all_lows(std::integer_sequence<unsigned, Lo...>) {
  (try_whole_field<Word, Hi, Lo>(), ...);
}
template <class Word, unsigned... Hi>
void try_all(std::integer_sequence<unsigned, Hi...>) {
  (try_all_lows<Word, Hi>(std::make_integer_sequence<unsigned, Hi + 1>{}), ...);
}

}  // namespace

TEST_CASE("every field of an 8-bit word reads its bits and changes no others") {
  try_all<std::uint8_t>(std::make_integer_sequence<unsigned, 8>{});
}

TEST_CASE("fields at the edges of wider words read their bits and change no others") {
  try_whole_field<std::uint16_t, 15, 0>();
  try_whole_field<std::uint16_t, 15, 15>();
  try_whole_field<std::uint16_t, 11, 4>();
  constexpr std::uint64_t word = 0xfedc'ba98'7654'3210;
  CHECK(field<63, 32>::get(word) == 0xfedc'ba98);
  CHECK(field<35, 28>::get(word) == 0x87);
  CHECK(field<63, 0>::set(std::uint64_t{0}, word) == word);
  CHECK(field<35, 28>::set(word, 0x11) == 0xfedc'ba91'1654'3210);
}

TEST_CASE("a field may be an enum, and keeps values that have no name") {
  using f = field<5, 4, mode>;
  CHECK(f::get(std::uint8_t{0x20}) == mode::fast);
  CHECK(f::set(std::uint8_t{0xff}, mode::slow) == 0xdf);
  CHECK(f::get(std::uint8_t{0x30}) == mode::odd);
}

TEST_CASE("a value that does not fit is the caller's mistake") {
  volatile unsigned sixteen = 16;
  CHECK(phasebit_test::breaks("the value does not fit into the field", [&] {
    (void)field<3, 0>::set(std::uint32_t{0}, static_cast<std::uint8_t>(sixteen));
  }));
  CHECK(phasebit_test::breaks("the value does not fit into the field", [&] {
    (void)field<3, 0, std::int8_t>::set(std::uint32_t{0}, -static_cast<std::int8_t>(sixteen));
  }));
}

TEST_CASE("a register is a value: with() makes a new one and leaves the old one alone") {
  const cap before{0x0000'0020'1400'03ff};
  CHECK(before[cap::mqes] == 0x3ff);
  CHECK(before[cap::to] == 0x14);
  CHECK(before[cap::css]);
  CHECK(before[cap::top] == mode::off);
  const cap after = before.with(cap::mqes, 7).with(cap::css, false).with(cap::top, mode::fast);
  CHECK(after.raw == 0x2000'0000'1400'0007);
  CHECK(before.raw == 0x0000'0020'1400'03ff);
  CHECK(after != before);
  CHECK(after == cap{after.raw});
  CHECK(cap{}.raw == 0);
}
