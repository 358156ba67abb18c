// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;

namespace {

struct entry {
  le<std::uint64_t> address;
  be<std::uint32_t> length;
  le<std::uint16_t> flags;
  le<std::uint16_t> next;
};
static_assert(WireStruct<entry> && sizeof(entry) == 16);

struct padded {
  le<std::uint64_t> a;
  le<std::uint16_t> b;
};
struct with_bool {
  le<std::uint16_t> a;
  std::uint8_t b;
};
struct with_reference {
  int& a;
};
static_assert(!WireStruct<padded> && !WireStruct<with_bool> && !WireStruct<with_reference>);
static_assert(!WireStruct<float> && WireStruct<std::uint8_t>);

constexpr std::array<unsigned char, 16> image{8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 2, 0, 3, 0, 0xff, 0xff};

constexpr std::array<std::byte, 16> image_bytes() {
  std::array<std::byte, 16> out{};
  for (std::size_t i = 0; i != out.size(); ++i) out[i] = std::byte{image[i]};
  return out;
}

constexpr bool round_trips() {
  auto bytes = image_bytes();
  const auto value = load_wire<entry>(bytes);
  std::array<std::byte, 20> out{};
  store_wire(std::span{out}.subspan(2), value);
  for (std::size_t i = 0; i != 16; ++i) {
    if (out[i + 2] != bytes[i]) return false;
  }
  return value.address == 0x0102030405060708U && value.length == 0x200U && value.next == 0xffff;
}
static_assert(round_trips());

}  // namespace

TEST_CASE("a struct is read from and written to any offset, byte for byte") {
  REQUIRE(round_trips());
  for (std::size_t offset = 0; offset != 9; ++offset) {
    std::vector<std::byte> bytes(16 + offset + 3, std::byte{0xee});
    const auto value = load_wire<entry>(image_bytes());
    store_wire(std::span{bytes}.subspan(offset), value);
    const auto again = load_wire<entry>(std::span<const std::byte>{bytes}.subspan(offset));
    REQUIRE(again.address == 0x0102030405060708U);
    REQUIRE(again.length == 0x200U);
    REQUIRE(again.flags == 3);
    for (std::size_t i = 0; i != bytes.size(); ++i) {
      const bool inside = i >= offset && i < offset + 16;
      REQUIRE(bytes[i] == (inside ? std::byte{image[i - offset]} : std::byte{0xee}));
    }
  }
}

TEST_CASE("the bytes of a struct are its own") {
  auto value = load_wire<entry>(image_bytes());
  const auto bytes = wire_bytes(value);
  static_assert(decltype(bytes)::extent == 16);
  CHECK(bytes[0] == std::byte{8});
  writable_wire_bytes(value)[0] = std::byte{9};
  CHECK(value.address == 0x0102030405060709U);
}

TEST_CASE("too few bytes are the caller's mistake") {
  std::array<std::byte, 15> few{};
  CHECK(phasebit_test::breaks("fewer bytes than the struct has",
                              [&] { (void)load_wire<entry>(few); }));
  CHECK(
      phasebit_test::breaks("fewer bytes than the struct has", [&] { store_wire(few, entry{}); }));
}
