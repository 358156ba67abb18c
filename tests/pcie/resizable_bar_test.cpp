// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/driver/access_control.hpp>
#include <phasebit/pcie/driver/resizable_bar.hpp>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::pcie;

namespace {

using space = config_image<4096>;

void two_resizable(space& c) {
  c.set32(header::vendor_id, 0x0001'1234);
  c.set_writable(header::command, 2, 7);
  c.set32(0x100, 0x0001'0015);
  c.set32(0x104, 0x0000'1ff0);  // 1 MiB to 256 MiB
  c.set32(0x108, 0x0000'0040);  // BAR 0 of two, 1 MiB
  c.set_writable(0x108, 4, 0x3f00);
  c.set32(0x10c, 0x8000'0000);  // 128 TiB, and
  c.set32(0x110, 0x0001'0802);  // BAR 2: 256 TiB; 256 MiB now
  c.set_writable(0x110, 4, 0x3f00);
}

}  // namespace

TEST_CASE("resizable BARs are read with the sizes that they may have, and resized") {
  space c;
  two_resizable(c);
  c.write16(header::command, 7);
  const auto found = read_resizable_bars(c);
  REQUIRE(found);
  REQUIRE(found->count == 2);
  CHECK(found->bars[0].index == 0);
  CHECK(found->bars[0].bytes == 1 << 20);
  CHECK(found->bars[0].sizes == 0x1ff);
  CHECK(found->bars[1].index == 2);
  CHECK(found->bars[1].bytes == 1 << 28);
  CHECK(found->bars[1].sizes == (std::uint64_t{3} << 27));
  REQUIRE(resize_bar(c, found->bars[0], 1 << 28));
  CHECK(read_resizable_bars(c)->bars[0].bytes == 1 << 28);
  CHECK(c.read16(header::command) == 5);  // memory is not decoded
  for (const std::uint64_t bytes :
       {std::uint64_t{1} << 29, std::uint64_t{3} << 20, std::uint64_t{0}, std::uint64_t{1} << 12}) {
    CHECK(resize_bar(c, found->bars[0], bytes).error().code == errc::not_supported);
  }
  c.set_writable(0x110, 4, 0);
  CHECK(resize_bar(c, found->bars[1], std::uint64_t{1} << 47).error().code == errc::protocol);
}

TEST_CASE("a Resizable BAR capability that makes no sense is refused") {
  for (const std::uint32_t control : {0x0000'0000U, 0x0000'00e0U, 0x0000'0047U}) {
    space c;
    two_resizable(c);
    c.set32(0x108, control);  // no BAR, seven BARs, BAR 7
    CHECK(read_resizable_bars(c).error().code == errc::protocol);
  }
  space end;
  two_resizable(end);
  end.set32(0x100, 0xff81'0003);
  end.set32(0xff8, 0x0001'0015);
  CHECK(read_resizable_bars(end).error().code == errc::protocol);
  space none;
  none.set32(header::vendor_id, 0x0001'1234);
  CHECK(read_resizable_bars(none).error().code == errc::not_found);
}

TEST_CASE("access control is enabled as far as the port has it") {
  for (const unsigned can : {0x7fU, 0x1dU, 0x05U, 0U}) {
    space c;
    c.set32(header::vendor_id, 0x0001'1234);
    c.set32(0x100, 0x0001'000d);
    c.set16(0x104, static_cast<std::uint16_t>(can));
    c.set_writable(0x106, 2, static_cast<std::uint16_t>(can));
    c.write16(0x106, 0x42);
    const auto now = isolate(c);
    REQUIRE(now);
    CHECK(now->raw == (can & 0x1d));
    CHECK((now->raw == acs_isolation().raw) == ((can & 0x1d) == 0x1d));
  }
}
