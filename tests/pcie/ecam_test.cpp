// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/driver/ecam.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::pcie;

TEST_CASE("a function's space lies at bus, device and function in the window") {
  std::vector<std::byte> window(2U << 20);
  ecam root{mapped_window{window}, 0x10};
  root.function(0x10, 0, 0).write32(0x40, 0x1111'1111);
  root.function(0x11, 31, 7).write16(0xffe, 0x2222);
  root.function(0x10, 2, 1).write8(3, 0x33);
  CHECK(window[0x40] == std::byte{0x11});
  CHECK(window[(1U << 20 | 31U << 15 | 7U << 12) + 0xffe] == std::byte{0x22});
  CHECK(window[(2U << 15 | 1U << 12) + 3] == std::byte{0x33});
  CHECK(root.function(0x10, 0, 0).read32(0x40) == 0x1111'1111);
  CHECK(root.function(0x11, 31, 7).read16(0xffe) == 0x2222);
  CHECK(root.function(0x10, 2, 1).read8(3) == 0x33);
}

TEST_CASE("addresses outside of the window read as ones") {
  std::vector<std::byte> window(1U << 20);
  ecam root{mapped_window{window}, 0x10};
  for (const unsigned bus : {0x00U, 0x0fU, 0x11U, 0xffU}) {
    auto absent = root.function(static_cast<std::uint8_t>(bus), 0, 0);
    absent.write32(0, 0);
    absent.write16(0, 0);
    absent.write8(0, 0);
    CHECK(absent.read32(0) == 0xffff'ffff);
    CHECK(absent.read16(0) == 0xffff);
    CHECK(absent.read8(0) == 0xff);
  }
  auto first = root.function(0x10, 0, 0);
  CHECK(first.read32(4096) == 0xffff'ffff);
  first.write32(4096, 1);
  CHECK(root.function(0x10, 0, 1).read32(0) == 0);
}

TEST_CASE("registers of a mapped BAR are little-endian, and a doorbell is one of them") {
  alignas(8) std::array<std::byte, 64> bytes{};
  mapped_bar bar{bytes};
  bar.write32(4, 0x0403'0201);
  CHECK(bytes[4] == std::byte{1});
  CHECK(bytes[7] == std::byte{4});
  bar.write64_lo_hi(8, 0x0807'0605'0403'0201);
  CHECK(bar.read64(8) == 0x0807'0605'0403'0201);
  CHECK(bytes[15] == std::byte{8});
  bar.doorbell(60).ring(0x55);
  CHECK(bar.read32(60) == 0x55);
  CHECK(bar.size_bytes() == 64);
}

TEST_CASE("a function's name is read as it is written, and nothing else is a name") {
  for (unsigned raw = 0; raw != 0x1'0000; ++raw) {
    const requester_id id{static_cast<std::uint16_t>(raw)};
    std::array<char, 8> out{};
    const auto parsed = parse_function_address(id.print(out));
    REQUIRE(parsed);
    REQUIRE(parsed->id == id);
    REQUIRE(requester_id{id.bus(), id.device(), id.function()} == id);
  }
  std::array<char, 12> out{};
  const function_address full{0xabcd, requester_id{0x12, 0x1f, 7}};
  CHECK(full.print(out) == "abcd:12:1f.7");
  CHECK(parse_function_address("ABCD:12:1F.7") == full);
  for (const char* wrong :
       {"", "1:00.0", "01:00", "01:00.8", "01:20.0", "01:00.0 ", " 01:00.0", "01-00.0",
        "0000:01:00.", "000:01:00.0", "00000:01:00.0", "0g:00.0", "01:00.0\n", "0000.01:00.0"}) {
    CHECK_FALSE(parse_function_address(wrong));
  }
}
