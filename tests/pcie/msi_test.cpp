// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/spec/msi.hpp>

#include <cstdint>

#include <doctest/doctest.h>
#include <pcie/archetypes.hpp>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::space_image;

namespace {

// A function with MSI at `at`, of which the host may write what the specification lets it.
struct function {
  space_image config;
  std::uint16_t at;

  explicit function(std::uint16_t control, std::uint16_t where = 0x50) : at(where) {
    config.set16(header::vendor_id, 1);
    config.set16(header::status, 0x10);
    config.set8(header::capabilities, static_cast<std::uint8_t>(at));
    config.set8(at, 0x05);
    config.set16(at + 2U, control);
    config.set_writable(at + 2U, 2, 0x71);
    for (std::uint32_t i = 4; i != 24 && at + i < 256; i += 4) {
      config.set_writable(at + i, 4, 0xffff'ffff);
    }
  }
};

}  // namespace

TEST_CASE("MSI reports its number of vectors and the layout of its registers") {
  for (unsigned log2 = 0; log2 != 6; ++log2) {
    function f{static_cast<std::uint16_t>(log2 << 1)};
    const auto found = read_msi(f.config);
    REQUIRE(found);
    CHECK(found->offset == 0x50);
    CHECK(found->vectors == 1U << log2);
    CHECK_FALSE(found->wide);
    CHECK_FALSE(found->maskable);
  }
  const auto bytes = [](std::uint16_t control) {
    function f{control};
    const auto found = read_msi(f.config);
    return found ? found->bytes() : std::uint16_t{0};
  };
  CHECK(bytes(0x000) == 10);
  CHECK(bytes(0x080) == 14);
  CHECK(bytes(0x100) == 20);
  CHECK(bytes(0x180) == 24);
}

TEST_CASE("one vector is switched on with its message, and off again, in each shape") {
  for (const int shape : {0x000, 0x080, 0x100, 0x180}) {
    CAPTURE(shape);
    // Eight vectors, of which all were used before, and vector 0 and 1 masked.
    function f{static_cast<std::uint16_t>(shape | 0x3 << 1 | 0x3 << 4 | 1)};
    auto found = read_msi(f.config);
    REQUIRE(found);
    if (found->maskable) f.config.set32(f.at + std::uint32_t{found->mask_offset()}, 3);
    const bus_addr where{found->wide ? 0x12'3456'7890U : 0xfee0'1004U};
    REQUIRE(enable_msi(f.config, *found, {where, 0xbeef}));
    CHECK(f.config.read16(f.at + 2) == (shape | 0x3 << 1 | 1));
    CHECK(f.config.read32(f.at + 4) == static_cast<std::uint32_t>(where.value()));
    if (found->wide) CHECK(f.config.read32(f.at + 8) == where.value() >> 32);
    CHECK(f.config.read16(f.at + found->data_offset()) == 0xbeef);
    if (found->maskable) CHECK(f.config.read32(f.at + found->mask_offset()) == 2);
    // The registers behind are not accessed.
    const std::uint16_t behind = align_up(found->bytes(), std::uint16_t{4});
    if (behind < 24) CHECK(f.config.read32(static_cast<std::uint16_t>(f.at + behind)) == 0);
    disable_msi(f.config, *found);
    CHECK(f.config.read16(f.at + 2) == (shape | 0x3 << 1));
  }
}

TEST_CASE("a message beyond 4 GiB is for functions with a wide address only") {
  function f{0};
  const auto found = read_msi(f.config);
  REQUIRE(found);
  const auto refused = enable_msi(f.config, *found, {bus_addr{0x1'0000'0000}, 1});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::out_of_range);
  CHECK(f.config.read16(f.at + 2) == 0);
  CHECK(f.config.read32(f.at + 4) == 0);
}

TEST_CASE("an MSI capability that cannot be is refused") {
  for (const int capable : {6, 7}) {
    function f{static_cast<std::uint16_t>(capable << 1)};
    CHECK(read_msi(f.config).error().code == errc::protocol);
  }
  struct {
    std::uint16_t control;
    std::uint16_t last;  // the last place where it fits
  } const shapes[] = {{0x000, 0xf4}, {0x080, 0xf0}, {0x100, 0xec}, {0x180, 0xe8}};
  for (const auto& s : shapes) {
    function fits{s.control, s.last};
    CHECK(read_msi(fits.config));
    function over{s.control, static_cast<std::uint16_t>(s.last + 4)};
    CHECK(read_msi(over.config).error().code == errc::protocol);
  }
  space_image none;
  none.set16(header::vendor_id, 1);
  CHECK(read_msi(none).error().code == errc::not_found);
  phasebit_test::config_archetype gone;
  CHECK(read_msi(gone).error().code == errc::removed);
}
