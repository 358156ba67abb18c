// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/driver/mapped_bar.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <doctest/doctest.h>
#include <support/death.hpp>

using phasebit::pcie::mapped_bar;
using phasebit::pcie::mmio_doorbell;

namespace {

struct registers {
  alignas(8) std::array<std::byte, 32> bytes{};
  mapped_bar bar{bytes};

  [[nodiscard]] unsigned at(std::size_t i) const { return std::to_integer<unsigned>(bytes[i]); }
};

}  // namespace

TEST_CASE("registers are native to the caller and little-endian on the bus") {
  registers r;
  r.bar.write32(4, 0x01020304);
  CHECK(r.at(4) == 4);
  CHECK(r.at(7) == 1);
  CHECK(r.bar.read32(4) == 0x01020304);
  r.bar.write64_lo_hi(8, 0x1122334455667788);
  CHECK(r.at(8) == 0x88);
  CHECK(r.at(15) == 0x11);
  CHECK(r.bar.read64(8) == 0x1122334455667788);
  CHECK(r.bar.read32(8) == 0x55667788);
  CHECK(r.bar.read32(12) == 0x11223344);
  CHECK(r.bar.size_bytes() == 32);
}

TEST_CASE("the last register of a BAR is reached, and nothing is written beside it") {
  registers r;
  r.bytes.fill(std::byte{0xee});
  r.bar.write32(28, 0);
  CHECK(r.at(27) == 0xee);
  CHECK(r.bar.read32(28) == 0);
  CHECK(r.bar.read64(24) == 0xeeeeeeee);
}

TEST_CASE("a doorbell writes its own register and no other") {
  registers r;
  r.bytes.fill(std::byte{0xee});
  auto doorbell = r.bar.doorbell(12);
  doorbell.ring(0x10203);
  CHECK(r.bar.read32(12) == 0x10203);
  CHECK(r.bar.read32(8) == 0xeeeeeeee);
  CHECK(r.bar.read32(16) == 0xeeeeeeee);
  mmio_doorbell copy = doorbell;
  copy.ring(5);
  CHECK(r.bar.read32(12) == 5);
}

TEST_CASE("a whole register of 64 bits is written little-endian, at its own alignment") {
  registers r;
  r.bar.write64(8, 0x1122334455667788);
  CHECK(r.at(8) == 0x88);
  CHECK(r.at(15) == 0x11);
  CHECK(phasebit_test::breaks("a register is accessed at its own alignment",
                              [&] { r.bar.write64(4, 0); }));
  CHECK(phasebit_test::breaks("a register beyond the mapped BAR", [&] { r.bar.write64(32, 0); }));
}

TEST_CASE("a register outside the BAR, or off its alignment, is the caller's mistake") {
  registers r;
  const char* outside = "a register beyond the mapped BAR";
  const char* crooked = "a register is accessed at its own alignment";
  CHECK(phasebit_test::breaks(outside, [&] { (void)r.bar.read32(32); }));
  CHECK(phasebit_test::breaks(outside, [&] { r.bar.write32(0xffff'fffc, 0); }));
  CHECK(phasebit_test::breaks(outside, [&] { (void)r.bar.read64(32); }));
  CHECK(phasebit_test::breaks(outside, [&] { r.bar.write64_lo_hi(28, 0); }));
  CHECK(phasebit_test::breaks(outside, [&] { (void)r.bar.doorbell(32); }));
  CHECK(phasebit_test::breaks(outside, [] { (void)mapped_bar{}.read32(0); }));
  CHECK(phasebit_test::breaks(outside,
                              [&] { (void)mapped_bar{std::span{r.bytes}.first(3)}.read32(0); }));
  CHECK(phasebit_test::breaks(crooked, [&] { (void)r.bar.read32(2); }));
  CHECK(phasebit_test::breaks(crooked, [&] { (void)r.bar.read64(4); }));
  CHECK(phasebit_test::breaks(crooked, [&] { (void)r.bar.doorbell(6); }));
}
