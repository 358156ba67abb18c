// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/spec/msix.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

#include <doctest/doctest.h>
#include <pcie/archetypes.hpp>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::space_image;

namespace {

struct registers {
  alignas(16) std::array<std::byte, 0x1000> bytes{};
  mapped_bar bar() { return mapped_bar{bytes}; }
};

}  // namespace

TEST_CASE("a programmed vector holds its message, masked until it is unmasked") {
  registers device;
  auto table = msix_table<mapped_bar>::attach(device.bar(), {.vectors = 3, .table_offset = 0x100});
  REQUIRE(table);
  CHECK(table->vectors() == 3);
  const msi_message message{bus_addr{0x1234'5678'9abc'def0}, 0xcafe};
  table->program(1, message);
  CHECK(table->message(1) == message);
  CHECK(table->is_masked(1));
  table->unmask(1);
  CHECK_FALSE(table->is_masked(1));
  table->program(1, {bus_addr{0xfee0'0000}, 1});
  CHECK(table->is_masked(1));
  table->mask(2);
  CHECK(table->is_masked(2));
  // The bytes of entry 1, and its neighbours untouched.
  const auto entry = load_wire<msix_entry>(std::span<const std::byte>{device.bytes}.subspan(0x110));
  CHECK(entry.address_low.get() == 0xfee0'0000);
  CHECK(entry.address_high.get() == 0);
  CHECK(entry.data.get() == 1);
  CHECK(table->message(0) == msi_message{});
}

TEST_CASE("a vector's other control bits are left as the device has them") {
  registers device;
  auto table = msix_table<mapped_bar>::attach(device.bar(), {.vectors = 1});
  REQUIRE(table);
  device.bar().write32(12, 0xabcd'0000);
  table->mask(0);
  table->unmask(0);
  CHECK(device.bar().read32(12) == 0xabcd'0000);
}

TEST_CASE("a table that reaches beyond its BAR is refused at every edge") {
  registers device;
  const auto attach = [&](std::uint16_t vectors, std::uint32_t offset) {
    return msix_table<mapped_bar>::attach(device.bar(),
                                          {.vectors = vectors, .table_offset = offset})
        .has_value();
  };
  CHECK(attach(256, 0));
  CHECK_FALSE(attach(257, 0));
  CHECK(attach(1, 0xff0));
  CHECK_FALSE(attach(1, 0xff8));
  CHECK_FALSE(attach(1, 0x1000));
  CHECK_FALSE(attach(2048, 0xffff'fff8));
  CHECK(msix_table<phasebit_test::mmio_archetype>::attach({}, {.vectors = 4}));
}

TEST_CASE("the capability is switched on and off without its neighbours") {
  function_description d{.vendor_id = 1};
  d.bars[0] = {bar_kind::memory32, 0x1000};
  d.msix = msix_description{.vectors = 5, .pba_offset = 0x800};
  space_image config;
  REQUIRE(emit_function(config, d));
  const auto found = read_msix(config);
  REQUIRE(found);
  CHECK(found->vectors == 5);
  const auto control = static_cast<std::uint16_t>(found->offset + msix::control_offset);
  set_msix_control(config, *found, true);
  CHECK(config.read16(control) == 0x8004);
  set_msix_control(config, *found, true, true);
  CHECK(config.read16(control) == 0xc004);
  set_msix_control(config, *found, false);
  CHECK(config.read16(control) == 0x0004);
}

TEST_CASE("a capability that names no BAR, or runs over the end, is broken") {
  space_image config;
  config.set16(header::vendor_id, 1);
  config.set16(header::status, 0x10);
  config.set8(header::capabilities, 0x40);
  config.set8(0x40, 0x11);
  for (std::uint32_t where = 0; where != 8; ++where) {
    config.set32(0x44, where);
    config.set32(0x48, 0x800);
    CHECK(read_msix(config).has_value() == (where < 6));
    config.set32(0x44, 0);
    config.set32(0x48, where);
    CHECK(read_msix(config).has_value() == (where < 6));
  }
  config.set8(header::capabilities, 0xf8);
  config.set8(0xf8, 0x11);
  CHECK(read_msix(config).error().code == errc::protocol);
  phasebit_test::config_archetype gone;
  CHECK(read_msix(gone).error().code == errc::removed);
}

TEST_CASE("pending bits come in whole quadwords") {
  CHECK(msix_pba_bytes(1) == 8);
  CHECK(msix_pba_bytes(64) == 8);
  CHECK(msix_pba_bytes(65) == 16);
  CHECK(msix_pba_bytes(2048) == 256);
  CHECK(msix_table_bytes(2048) == 32768);
}
