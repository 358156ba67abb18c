// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <cstdint>

#include <doctest/doctest.h>
#include <pcie/archetypes.hpp>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::space_image;

namespace {

// A function whose BAR registers hold `fixed` and let the host change `writable`.
struct odd_bars {
  space_image config;
  odd_bars() { config.set16(header::vendor_id, 0x1234); }
  void set(unsigned index, std::uint32_t fixed, std::uint32_t writable) {
    config.set32(header::bar0 + 4 * index, fixed);
    config.set_writable(header::bar0 + 4 * index, 4, writable);
  }
};

errc refusal(space_image& config, unsigned index) {
  const auto bars = size_bars(config);
  REQUIRE_FALSE(bars);
  CHECK(bars.error().index == index);
  return bars.error().code;
}

}  // namespace

TEST_CASE("every size of every kind of BAR is found, and everything is as it was") {
  for (const bar_kind kind : {bar_kind::io, bar_kind::memory32, bar_kind::memory64}) {
    const unsigned from = kind == bar_kind::io ? 2 : 4;
    const unsigned to = kind == bar_kind::io ? 15 : kind == bar_kind::memory32 ? 31 : 63;
    for (unsigned shift = from; shift <= to; ++shift) {
      for (const bool prefetchable : {false, true}) {
        if (kind == bar_kind::io && prefetchable) continue;
        const std::uint64_t size = std::uint64_t{1} << shift;
        function_description d{.vendor_id = 0x1234};
        d.bars[1] = {kind, size, prefetchable};
        space_image config;
        REQUIRE(emit_function(config, d));
        const std::uint64_t address = shift == 63 ? size : size * 2 & 0xffff'ffff;
        config.write16(header::command, 0x0007);
        const bar expected{kind, prefetchable, kind == bar_kind::memory64 ? address : address,
                           size};
        write_bar_address(config, 1, expected, address);
        const std::uint16_t command = config.read16(header::command);

        const auto bars = size_bars(config);
        REQUIRE(bars);
        for (unsigned i = 0; i != type0_bars; ++i) {
          CHECK((*bars)[i] == (i == 1 ? expected : bar{}));
        }
        CHECK(read_bar_address(config, 1) == address);
        CHECK(config.read16(header::command) == command);
      }
    }
  }
}

TEST_CASE("decoding is off while a BAR holds all ones") {
  struct watcher : space_image {
    bool decoded_ones = false;
    void write32(std::uint16_t at, std::uint32_t value) noexcept {
      space_image::write32(at, value);
      if (value == 0xffff'ffff && (read16(header::command) & 3) != 0) decoded_ones = true;
    }
  } config;
  function_description d{.vendor_id = 0x1234};
  d.bars[0] = {bar_kind::memory64, 0x4000, false};
  d.bars[2] = {bar_kind::io, 32};
  REQUIRE(emit_function<4096>(config, d));
  config.write16(header::command, 7);
  REQUIRE(size_bars(config));
  CHECK_FALSE(config.decoded_ones);
  CHECK(config.read16(header::command) == 7);
}

TEST_CASE("an I/O BAR may decode sixteen bits only") {
  odd_bars o;
  o.set(0, 1, 0xfff0);
  const auto bars = size_bars(o.config);
  REQUIRE(bars);
  CHECK((*bars)[0] == bar{bar_kind::io, false, 0, 16});
}

TEST_CASE("a bridge has two BARs, and its bus numbers are not taken for more") {
  space_image config;
  REQUIRE(emit_bridge(config, {.vendor_id = 0x1b36, .device_id = 0xc}));
  config.write8(bridge_header::secondary_bus, 5);
  const auto bars = size_bars(config);
  REQUIRE(bars);
  CHECK(*bars == bar_array{});
  CHECK(config.read8(bridge_header::secondary_bus) == 5);
}

TEST_CASE("what no BAR can answer is a broken device, with the BAR's number") {
  SUBCASE("address bits with holes") {
    odd_bars o;
    o.set(2, 0, 0xff0f'f000);
    CHECK(refusal(o.config, 2) == errc::protocol);
  }
  SUBCASE("address bits that stop short of the top") {
    odd_bars o;
    o.set(0, 0, 0x0fff'f000);
    CHECK(refusal(o.config, 0) == errc::protocol);
  }
  SUBCASE("reserved memory types") {
    for (const std::uint32_t type : {1U, 3U}) {
      odd_bars o;
      o.set(1, type << 1, 0xffff'f000);
      CHECK(refusal(o.config, 1) == errc::protocol);
    }
  }
  SUBCASE("a 64-bit BAR in the last place") {
    odd_bars o;
    o.set(5, 4, 0xffff'f000);
    CHECK(refusal(o.config, 5) == errc::protocol);
  }
  SUBCASE("a 64-bit BAR whose upper half is hollow") {
    odd_bars o;
    o.set(0, 4, 0xffff'f000);
    CHECK(refusal(o.config, 0) == errc::protocol);
  }
  SUBCASE("regression: flags and no address bits at all") {
    for (const std::uint32_t flags : {1U, 4U, 8U, 12U}) {
      odd_bars o;
      o.set(0, flags, 0);
      CHECK(refusal(o.config, 0) == errc::protocol);
    }
  }
}

TEST_CASE("every pattern of four settable nibbles is a size or an error, never more") {
  unsigned good = 0;
  for (std::uint32_t bits = 0; bits != 0x1'0000; ++bits) {
    odd_bars o;
    o.set(0, 0, bits << 16);
    const auto bars = size_bars(o.config);
    if (!bars) {
      CHECK(bars.error().code == errc::protocol);
      continue;
    }
    const bar& b = (*bars)[0];
    if (b.present()) {
      ++good;
      CHECK((b.size & (b.size - 1)) == 0);
      CHECK(static_cast<std::uint32_t>(-b.size) == bits << 16);
    } else {
      CHECK(bits == 0);
    }
  }
  CHECK(good == 16);
}

TEST_CASE("a removed function has no BARs to size") {
  phasebit_test::config_archetype gone;
  const auto bars = size_bars(gone);
  REQUIRE_FALSE(bars);
  CHECK(bars.error().code == errc::removed);
}

TEST_CASE("decoding is as it was after an error, too") {
  space_image config;
  config.set16(header::vendor_id, 0x1234);
  config.set_writable(header::bar0, 4, 0xfff0'f000);  // no BAR has such a size
  config.set_writable(header::command, 2, 0x7);
  config.write16(header::command, 7);
  REQUIRE_FALSE(size_bars(config));
  CHECK(config.read16(header::command) == 7);
}

TEST_CASE("virtual functions' memory is as it was after their BARs were sized, or could not be") {
  for (const std::uint32_t bits : {0xfff0'0000U, 0xfff0'f000U}) {
    space_image config;
    config.set16(header::vendor_id, 0x1234);
    const sriov_capability c{.offset = 0x140, .total_vfs = 2};
    config.set_writable(0x140 + sriov::control, 2, 0x19);
    config.write16(0x140 + sriov::control, 0x9);
    config.set_writable(0x140 + sriov::vf_bar0, 4, bits);
    CHECK(size_vf_bars(config, c).has_value() == (bits == 0xfff0'0000U));
    CHECK(config.read16(0x140 + sriov::control) == 0x9);
  }
}

TEST_CASE("a function that is removed while its BARs are sized is removed, not broken") {
  struct leaving {
    space_image& config;
    int left;
    std::uint8_t read8(std::uint16_t at) noexcept { return config.read8(at); }
    std::uint16_t read16(std::uint16_t at) noexcept {
      return left < 0 ? 0xffff : config.read16(at);
    }
    std::uint32_t read32(std::uint16_t at) noexcept {
      if (left-- > 0) return config.read32(at);
      left = -1;
      return 0xffff'ffff;
    }
    void write8(std::uint16_t, std::uint8_t) noexcept {}
    void write16(std::uint16_t at, std::uint16_t v) noexcept { config.write16(at, v); }
    void write32(std::uint16_t at, std::uint32_t v) noexcept { config.write32(at, v); }
    std::uint32_t size_bytes() noexcept { return 256; }
  };
  for (int reads = 1; reads != 3; ++reads) {
    CAPTURE(reads);
    space_image config;
    config.set16(header::vendor_id, 0x1234);
    config.set_writable(header::bar0, 4, 0xffff'f000);
    leaving device{config, reads};
    const auto bars = size_bars(device);
    REQUIRE_FALSE(bars);
    CHECK(bars.error().code == errc::removed);
  }
}
