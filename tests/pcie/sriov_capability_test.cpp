// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/driver/reset.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <cstdint>

#include <doctest/doctest.h>
#include <pcie/archetypes.hpp>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::clock_archetype;
using phasebit_test::space_image;

namespace {

constexpr requester_id pf{1, 0, 0};

struct physical_function {
  space_image config;
  function_layout layout;
  explicit physical_function(sriov_description s = {.total_vfs = 4, .vf_device_id = 9}) {
    function_description d{.vendor_id = 1, .express = express_description{}, .sriov = s};
    d.bars[0] = {bar_kind::memory64, 0x4000};
    const auto emitted = emit_function(config, d);
    REQUIRE(emitted);
    layout = *emitted;
  }
  std::uint16_t control() {
    return config.read16(static_cast<std::uint16_t>(layout.sriov + sriov::control));
  }
};

}  // namespace

TEST_CASE("virtual functions are switched on all at once, and off") {
  physical_function f;
  clock_archetype clock;
  for (std::uint16_t count = 1; count <= 4; ++count) {
    const auto on = enable_virtual_functions(f.config, pf, count, clock);
    REQUIRE(on);
    CHECK(on->enabled);
    CHECK(on->num_vfs == count);
    CHECK((f.control() & 9) == 9);
    const auto again = enable_virtual_functions(f.config, pf, 1, clock);
    REQUIRE_FALSE(again);
    CHECK(again.error().code == errc::busy);
    const auto off = enable_virtual_functions(f.config, pf, 0, clock);
    REQUIRE(off);
    CHECK_FALSE(off->enabled);
    CHECK(off->num_vfs == 0);
    CHECK((f.control() & 9) == 0);
  }
  const auto many = enable_virtual_functions(f.config, pf, 5, clock);
  REQUIRE_FALSE(many);
  CHECK(many.error().code == errc::out_of_range);
  CHECK(many.error().value == 4);
}

TEST_CASE("routing ids follow offset and stride and end with the last bus") {
  constexpr sriov_capability c{.total_vfs = 0xffff, .first_vf_offset = 0x80, .vf_stride = 2};
  CHECK(c.routing_id(pf, 0)->raw() == 0x180);
  CHECK(c.routing_id(pf, 1)->raw() == 0x182);
  CHECK(c.routing_id(requester_id{0xff00}, 63)->raw() == 0xfffe);
  CHECK_FALSE(c.routing_id(requester_id{0xff00}, 64));
  CHECK_FALSE(c.routing_id(pf, 0xffff'ffff));
}

TEST_CASE("offsets and strides that give no routing ids are refused, and nothing is on") {
  clock_archetype clock;
  physical_function f;
  const auto at = [&](unsigned o) { return static_cast<std::uint16_t>(f.layout.sriov + o); };
  SUBCASE("offset 0") { f.config.set16(at(sriov::first_vf_offset), 0); }
  SUBCASE("stride 0") { f.config.set16(at(sriov::vf_stride), 0); }
  SUBCASE("beyond the last bus") { f.config.set16(at(sriov::first_vf_offset), 0xff00); }
  const auto on = enable_virtual_functions(f.config, pf, 2, clock);
  REQUIRE_FALSE(on);
  CHECK(on.error().code == errc::protocol);
  CHECK((f.control() & 1) == 0);
  CHECK(f.config.read16(at(sriov::num_vfs)) == 0);
}

TEST_CASE("a capability whose numbers contradict each other is broken, not obeyed") {
  physical_function f;
  f.config.set16(static_cast<std::uint16_t>(f.layout.sriov + sriov::num_vfs), 5);
  const auto read = read_sriov(f.config);
  REQUIRE_FALSE(read);
  CHECK(read.error().code == errc::protocol);
  space_image edge;
  edge.set16(header::vendor_id, 1);
  edge.set32(0x100, 0xfc4'1'000e);  // a link to the last 60 bytes
  edge.set32(0xfc4, 0x0001'0010);
  CHECK(read_sriov(edge).error().code == errc::protocol);
}

TEST_CASE("a function-level reset is asked for once, and the place on the bus is put back") {
  struct resettable : physical_function {
    unsigned resets = 0;
    bool returns = true;
    // The owner of an image acts on the write, and the host finds a new function.
    void write16(std::uint16_t at, std::uint16_t value) noexcept {
      const auto effect = config.write(at, 2, value);
      if (!effect.wrote_one(layout.express + 8U, 15)) return;
      ++resets;
      config.clear();
      if (!returns) {
        config.set32(header::command, 0xffff'ffff);
        return;
      }
      function_description d{.vendor_id = 1, .express = express_description{}};
      d.bars[0] = {bar_kind::memory64, 0x4000};
      (void)emit_function(config, d).has_value();
    }
    std::uint8_t read8(std::uint16_t at) noexcept { return config.read8(at); }
    std::uint16_t read16(std::uint16_t at) noexcept { return config.read16(at); }
    std::uint32_t read32(std::uint16_t at) noexcept { return config.read32(at); }
    void write8(std::uint16_t at, std::uint8_t v) noexcept { config.write8(at, v); }
    void write32(std::uint16_t at, std::uint32_t v) noexcept { config.write32(at, v); }
    static std::uint32_t size_bytes() noexcept { return 4096; }
  } f;
  clock_archetype clock;
  f.config.write32(header::bar0, 0xc000'0000);
  f.config.write32(header::bar0 + 4, 0x12);
  f.config.write16(header::command, 6);
  SUBCASE("it comes back") {
    REQUIRE(function_level_reset(f, clock));
    CHECK(f.resets == 1);
    CHECK(f.config.read32(header::bar0) == 0xc000'0004);
    CHECK(f.config.read32(header::bar0 + 4) == 0x12);
    CHECK(f.config.read16(header::command) == 6);
  }
  SUBCASE("it does not") {
    f.returns = false;
    const auto done = function_level_reset(f, clock);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::removed);
  }
}

TEST_CASE("a function without a reset of its own reports that") {
  clock_archetype clock;
  space_image config;
  REQUIRE(emit_function(config, {.vendor_id = 1}));
  CHECK(function_level_reset(config, clock).error().code == errc::not_supported);
  REQUIRE(emit_function(
      config, {.vendor_id = 1, .express = express_description{.function_level_reset = false}}));
  CHECK(function_level_reset(config, clock).error().code == errc::not_supported);
}
