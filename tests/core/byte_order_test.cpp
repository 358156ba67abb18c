// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/byte_order.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <doctest/doctest.h>

using phasebit::be;
using phasebit::byteswap;
using phasebit::le;

namespace {

enum class opcode : std::uint8_t { flush = 0, write = 1, read = 2 };
enum class wide_code : std::uint16_t { a = 0x1234 };
enum plain : std::uint32_t { plain_one = 1 };

template <class T>
constexpr bool looks_like_its_value =
    sizeof(T) == sizeof(typename T::value_type) && alignof(T) == alignof(typename T::value_type) &&
    std::is_trivially_copyable_v<T> && std::is_trivially_default_constructible_v<T> &&
    std::is_standard_layout_v<T> && std::has_unique_object_representations_v<T>;

static_assert(looks_like_its_value<le<std::uint8_t>> && looks_like_its_value<le<std::uint16_t>>);
static_assert(looks_like_its_value<le<std::uint32_t>> && looks_like_its_value<le<std::uint64_t>>);
static_assert(looks_like_its_value<be<std::uint16_t>> && looks_like_its_value<be<std::int64_t>>);
static_assert(looks_like_its_value<le<opcode>> && looks_like_its_value<be<wide_code>>);

// Everything is constexpr.
static_assert(le<std::uint32_t>{7}.get() == 7 && be<std::uint32_t>{7} == 7U);
static_assert(std::bit_cast<std::array<unsigned char, 4>>(le<std::uint32_t>{0x01020304})[0] == 4);
static_assert(std::bit_cast<std::array<unsigned char, 4>>(be<std::uint32_t>{0x01020304})[0] == 1);

template <class T>
std::array<unsigned, sizeof(T)> bytes_of(T value) {
  const auto raw = std::bit_cast<std::array<unsigned char, sizeof(T)>>(value);
  std::array<unsigned, sizeof(T)> out{};
  for (std::size_t i = 0; i != sizeof(T); ++i) out[i] = raw[i];
  return out;
}

struct pair {
  le<std::uint32_t> first;
  be<opcode> second;
  friend bool operator==(const pair&, const pair&) = default;
};

template <class T> concept Ordered = requires { typename le<T>; };
static_assert(Ordered<std::uint8_t> && Ordered<char16_t> && Ordered<opcode>);
static_assert(!Ordered<bool> && !Ordered<float> && !Ordered<int*>);

}  // namespace

TEST_CASE("byteswap turns the bytes of every width around, and twice is the identity") {
  CHECK(byteswap<std::uint8_t>(0x12) == 0x12);
  CHECK(byteswap<std::uint16_t>(0x1234) == 0x3412);
  CHECK(byteswap<std::uint32_t>(0x12345678) == 0x78563412);
  CHECK(byteswap<std::uint64_t>(0x0102030405060708) == 0x0807060504030201);
  for (unsigned v = 0; v != 0x10000; ++v) {
    const auto word = static_cast<std::uint16_t>(v);
    REQUIRE(byteswap(byteswap(word)) == word);
  }
}

TEST_CASE("a little-endian integer has its low byte first, a big-endian one its high byte") {
  CHECK(bytes_of(le<std::uint16_t>{0x0102}) == std::array<unsigned, 2>{2, 1});
  CHECK(bytes_of(be<std::uint16_t>{0x0102}) == std::array<unsigned, 2>{1, 2});
  CHECK(bytes_of(le<std::uint64_t>{0x0102030405060708}) ==
        std::array<unsigned, 8>{8, 7, 6, 5, 4, 3, 2, 1});
  CHECK(bytes_of(be<std::uint64_t>{0x0102030405060708}) ==
        std::array<unsigned, 8>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(bytes_of(le<wide_code>{wide_code::a}) == std::array<unsigned, 2>{0x34, 0x12});
}

TEST_CASE("what goes in comes out, in either order, with a sign as well") {
  for (unsigned v = 0; v != 0x10000; ++v) {
    const auto u = static_cast<std::uint16_t>(v);
    const auto s = static_cast<std::int16_t>(u);
    REQUIRE(le<std::uint16_t>{u}.get() == u);
    REQUIRE(be<std::uint16_t>{u}.get() == u);
    REQUIRE(le<std::int16_t>{s}.get() == s);
    REQUIRE(be<std::int16_t>{s}.get() == s);
  }
  constexpr auto lowest = std::numeric_limits<std::int64_t>::min();
  CHECK(be<std::int64_t>{lowest}.get() == lowest);
}

TEST_CASE("to_wire and from_wire convert a bare integer that other code moves") {
  const auto wire = be<std::uint32_t>::to_wire(0x01020304);
  CHECK(bytes_of(wire) == std::array<unsigned, 4>{1, 2, 3, 4});
  CHECK(be<std::uint32_t>::from_wire(wire) == 0x01020304);
  CHECK(le<opcode>::from_wire(le<opcode>::to_wire(opcode::read)) == opcode::read);
}

TEST_CASE("regression: an ordered integer is compared and computed with as the integer it is") {
  const le<std::uint16_t> a{5};
  const be<std::uint16_t> b{5};
  const le<opcode> op{opcode::read};
  const std::uint16_t five = 5;
  CHECK(a == 5);
  CHECK(5 == a);
  CHECK(a == five);
  CHECK(a == b);
  CHECK(a != 6);
  CHECK(a < 6);
  CHECK(a + 1 == 6);
  CHECK(op == opcode::read);
  CHECK(op != opcode::write);
  CHECK(le<std::uint64_t>{1} == 1U);
  CHECK(le<plain>{plain_one} == plain_one);
  int reached = 0;
  switch (op) {
    case opcode::read:
      reached = 1;
      break;
    default:
      break;
  }
  CHECK(reached == 1);
}

TEST_CASE("a struct of ordered integers gets its comparison for nothing") {
  const pair x{7, opcode::read};
  pair y = x;
  CHECK(x == y);
  y.first = 8;
  CHECK_FALSE(x == y);
}

TEST_CASE("an ordered integer that is initialised with nothing is zero") {
  CHECK(le<std::uint32_t>{} == 0U);
  CHECK(pair{}.second == opcode::flush);
}
