// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/config_space.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::pcie;

TEST_CASE("a host changes the bits it may, in every width and at every place of a dword") {
  for (const unsigned bytes : {1U, 2U, 4U}) {
    for (std::uint32_t offset = 0x40; offset != 0x48; offset += bytes) {
      config_image<256> config;
      for (std::uint32_t at = 0x3c; at != 0x4c; at += 4) {
        config.set32(at, 0x1122'3344);
        config.set_writable(at, 4, 0x0f0f'0f0f);
      }
      const std::uint32_t before = config.read(offset, bytes);
      const std::uint32_t ones = bytes == 4 ? 0xffff'ffff : (1U << 8 * bytes) - 1;
      const auto effect = config.write(offset, bytes, 0xffff'ffff);
      CHECK(config.read(offset, bytes) == (before | (0x0f0f'0f0f & ones)));
      CHECK(effect.dword == (offset & ~3U));
      CHECK(effect.changed(offset, bytes));
      for (std::uint32_t at = 0x3c; at != 0x4c; ++at) {
        if (at >= offset && at < offset + bytes) continue;
        CHECK(config.read8(static_cast<std::uint16_t>(at)) == (0x11 * (4 - at % 4)));
      }
    }
  }
}

TEST_CASE("bits that ones clear keep zeros, and a neighbour's write leaves them alone") {
  config_image<256> config;
  config.set16(0x06, 0xf910);
  config.set_writable(0x04, 2, 0xffff);
  config.set_cleared_by_ones(0x06, 2, 0xf900);
  config.write16(0x04, 0xffff);
  CHECK(config.read32(0x04) == 0xf910'ffff);
  config.write16(0x06, 0x8000);
  CHECK(config.read16(0x06) == 0x7910);
  config.write32(0x04, 0xffff'0007);
  CHECK(config.read32(0x04) == 0x0010'0007);
}

TEST_CASE("an action bit that reads as zero is seen by the device") {
  config_image<256> config;
  config.set_writable(0x48, 2, 0x7fff);
  const auto effect = config.write(0x48, 2, 0x8010);
  CHECK(effect.wrote_one(0x48, 15));
  CHECK(effect.wrote_one(0x48, 4));
  CHECK_FALSE(effect.wrote_one(0x48, 5));
  CHECK_FALSE(effect.wrote_one(0x4a, 15));
  CHECK_FALSE(effect.wrote_one(0x4c, 15));
  CHECK(config.read16(0x48) == 0x0010);
  CHECK_FALSE(config.write(0x49, 1, 0x00).wrote_one(0x48, 15));
  CHECK(config.write(0x49, 1, 0x80).wrote_one(0x48, 15));
  CHECK(config.write(0x48, 4, 0x8000).wrote_one(0x48, 15));
}

TEST_CASE("what lies outside or off its alignment reads as ones and takes no writes") {
  const auto config = std::make_unique<config_image<4096>>();
  for (std::uint32_t at = 0; at != 4096; at += 4) config->set_writable(at, 4, 0xffff'ffff);
  for (const unsigned bytes : {0U, 3U, 5U, 8U}) {
    CHECK(config->write(0x40, bytes, 1).lanes == 0);
  }
  for (const std::uint32_t offset : {1U, 2U, 3U, 4095U, 4096U, 0xfffeU}) {
    CHECK(config->read(offset, 4) == 0xffff'ffff);
    CHECK(config->write(offset, 4, 0).lanes == 0);
  }
  CHECK(config->read16(0x41) == 0xffff);
  CHECK(config->read16(4096) == 0xffff);
  CHECK(config->read8(4096) == 0xff);
  config->write32(0xfffc, 0x1234'5678);
  config->write16(0x101, 0x1234);
  for (std::uint32_t at = 0; at != 4096; at += 4) REQUIRE(config->read(at, 4) == 0);
}

TEST_CASE("bytes come out as they lie on the bus, from anywhere") {
  config_image<256> config;
  config.set32(0xf8, 0x0403'0201);
  config.set32(0xfc, 0x0807'0605);
  std::array<std::byte, 8> out{};
  config.copy_out(0xfb, out);
  const std::array<unsigned, 8> expected{4, 5, 6, 7, 8, 0, 0, 0};
  for (std::size_t i = 0; i != out.size(); ++i) CHECK(static_cast<unsigned>(out[i]) == expected[i]);
}
