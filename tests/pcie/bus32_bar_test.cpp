// SPDX-License-Identifier: BSL-1.0
#include "counted_bar.hpp"

#include <phasebit/pcie/driver/bus32_bar.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit::pcie;
using phasebit_test::bus_access;
using phasebit_test::counted_bar;

namespace {

using low_first = bus32_bar<counted_bar>;
using high_first = bus32_bar<counted_bar, half_order::high_first>;
static_assert(phasebit::Mmio<low_first> && phasebit::Mmio<high_first>);
static_assert(phasebit::Mmio<bus32_bar<mapped_bar, half_order::high_first>>);

constexpr std::uint64_t value = 0x1122'3344'5566'7788;
constexpr std::uint32_t low = 0x5566'7788;
constexpr std::uint32_t high = 0x1122'3344;

using accesses = std::vector<bus_access>;

}  // namespace

TEST_CASE("on a bus of 32 bits a wide read is two narrow ones, in the order that is named") {
  phasebit_test::counted_registers device;
  device.words[4] = low;
  device.words[5] = high;
  CHECK(low_first{counted_bar{device}}.read64(16) == value);
  CHECK(device.log == accesses{{'r', 32, 16, low}, {'r', 32, 20, high}});
  device.log.clear();
  CHECK(high_first{counted_bar{device}}.read64(16) == value);
  CHECK(device.log == accesses{{'r', 32, 20, high}, {'r', 32, 16, low}});
}

TEST_CASE("on a bus of 32 bits a wide write is two narrow ones, in the order that is named") {
  phasebit_test::counted_registers device;
  low_first{counted_bar{device}}.write64(8, value);
  CHECK(device.log == accesses{{'w', 32, 8, low}, {'w', 32, 12, high}});
  device.log.clear();
  high_first{counted_bar{device}}.write64(8, value);
  CHECK(device.log == accesses{{'w', 32, 12, high}, {'w', 32, 8, low}});
}

TEST_CASE("what is called low half first is so on every bus") {
  phasebit_test::counted_registers device;
  high_first{counted_bar{device}}.write64_lo_hi(8, value);
  CHECK(device.log == accesses{{'w', 32, 8, low}, {'w', 32, 12, high}});
}

TEST_CASE("narrow accesses and doorbells go through unchanged") {
  phasebit_test::counted_registers device;
  high_first bar{counted_bar{device}};
  bar.write32(4, 7);
  CHECK(bar.read32(4) == 7);
  bar.doorbell(12).ring(9);
  CHECK(bar.size_bytes() == 256);
  CHECK(device.log == accesses{{'w', 32, 4, 7}, {'r', 32, 4, 7}, {'w', 32, 12, 9}});
}

TEST_CASE(
    "a wide read tears where the device moves between its halves, and a settled one does not") {
  phasebit_test::counted_registers device;
  // ffff'ffff becomes 1'0000'0000 while it is read.
  device.answers = {{0, 0xffff'ffff}, {4, 1}};
  CHECK(low_first{counted_bar{device}}.read64(0) == 0x1'ffff'ffff);
  device.log.clear();
  device.answers = {{4, 0}, {0, 0xffff'ffff}, {4, 1}, {0, 2}, {4, 1}};
  CHECK(low_first{counted_bar{device}}.read64_settled(0) == 0x1'0000'0002U);
  CHECK(device.log.size() == 5);
}

TEST_CASE(
    "a register whose high half never holds still is given up after a bounded number of reads") {
  phasebit_test::counted_registers device;
  for (std::uint32_t i = 0; i != 100; ++i) device.answers.emplace_back(4, i);
  CHECK_FALSE(low_first{counted_bar{device}}.read64_settled(0, 3));
  CHECK(device.log.size() == 7);
}

TEST_CASE("a wide register off its alignment is the caller's mistake") {
  phasebit_test::counted_registers device;
  low_first bar{counted_bar{device}};
  const char* crooked = "a register is accessed at its own alignment";
  CHECK(phasebit_test::breaks(crooked, [&] { (void)bar.read64(4); }));
  CHECK(phasebit_test::breaks(crooked, [&] { bar.write64(12, 0); }));
  CHECK(phasebit_test::breaks(crooked, [&] { (void)bar.read64_settled(4); }));
}

TEST_CASE("mapped registers behind a bus of 32 bits hold what was written, little-endian") {
  alignas(8) std::array<std::byte, 16> bytes{};
  bus32_bar<mapped_bar, half_order::high_first> bar{std::span<std::byte>{bytes}};
  bar.write64(8, value);
  CHECK(bytes[8] == std::byte{0x88});
  CHECK(bytes[15] == std::byte{0x11});
  CHECK(bar.read64(8) == value);
}
