// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/device/emitter.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include <doctest/doctest.h>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::space_image;

namespace {

function_description everything() {
  function_description d{.vendor_id = 0x1234,
                         .device_id = 0x5678,
                         .class_code = 0x010802,
                         .revision_id = 3,
                         .subsystem_vendor_id = 0x1111,
                         .subsystem_id = 0x2222,
                         .interrupt_pin = 1,
                         .power_management = true};
  d.bars[0] = {bar_kind::memory64, 0x1'0000, false};
  d.bars[2] = {bar_kind::io, 64};
  d.msix = msix_description{
      .vectors = 33, .table_bar = 0, .pba_bar = 0, .table_offset = 0x4000, .pba_offset = 0x5000};
  d.express = express_description{};
  d.sriov = sriov_description{
      .total_vfs = 8, .first_vf_offset = 4, .vf_stride = 2, .vf_device_id = 0x5679};
  d.sriov->vf_bars[0] = {bar_kind::memory64, 0x8000, true};
  d.ari_next_function = 1;
  d.serial_number = 0x0123'4567'89ab'cdef;
  return d;
}

error refused(const function_description& d) {
  space_image config;
  const auto emitted = emit_function(config, d);
  REQUIRE_FALSE(emitted);
  return emitted.error();
}

}  // namespace

TEST_CASE("what is described is what the readers of this library find") {
  space_image config;
  const auto layout = emit_function(config, everything());
  REQUIRE(layout);
  CHECK(config.read16(header::vendor_id) == 0x1234);
  CHECK(config.read16(header::device_id) == 0x5678);
  CHECK(read_class_code(config) == 0x010802);
  CHECK(config.read8(header::revision_id) == 3);
  CHECK(config.read16(header::subsystem_vendor_id) == 0x1111);
  CHECK(config.read16(header::subsystem_id) == 0x2222);
  CHECK(config.read8(header::interrupt_pin) == 1);

  CHECK(*find_capability(config, capability_id::power_management) == layout->power_management);
  CHECK(*find_capability(config, capability_id::pci_express) == layout->express);
  CHECK(*find_capability(config, extended_capability_id::sriov) == layout->sriov);
  CHECK(*find_capability(config, extended_capability_id::alternative_routing_id) == layout->ari);
  CHECK(*find_capability(config, extended_capability_id::device_serial_number) ==
        layout->serial_number);
  CHECK(config.read32(static_cast<std::uint16_t>(layout->serial_number + 4)) == 0x89ab'cdef);

  const auto msix = read_msix(config);
  REQUIRE(msix);
  CHECK(msix->vectors == 33);
  CHECK(msix->table_offset == 0x4000);
  CHECK(msix->pba_offset == 0x5000);

  const auto sriov = read_sriov(config);
  REQUIRE(sriov);
  CHECK(sriov->total_vfs == 8);
  CHECK(sriov->first_vf_offset == 4);
  CHECK(sriov->vf_stride == 2);
  CHECK(sriov->vf_device_id == 0x5679);
  CHECK_FALSE(sriov->enabled);
  const auto vf_bars = size_vf_bars(config, *sriov);
  REQUIRE(vf_bars);
  CHECK((*vf_bars)[0] == bar{bar_kind::memory64, true, 0, 0x8000});
}

TEST_CASE("a reset is one more emission: nothing of what the host wrote stays") {
  space_image config;
  REQUIRE(emit_function(config, everything()));
  space_image fresh = config;
  for (std::uint16_t at = 0; at != 4096; at += 4) config.write32(at, 0xffff'ffff);
  REQUIRE(emit_function(config, everything()));
  for (std::uint16_t at = 0; at != 4096; at += 4) {
    REQUIRE(config.read32(at) == fresh.read32(at));
    REQUIRE(config.writable(at, 4) == fresh.writable(at, 4));
  }
}

TEST_CASE("a host that writes ones everywhere changes no identity and breaks no list") {
  space_image config;
  REQUIRE(emit_function(config, everything()));
  for (std::uint16_t at = 0; at != 4096; at += 4) config.write32(at, 0xffff'ffff);
  CHECK(config.read32(header::vendor_id) == 0x5678'1234);
  CHECK(read_class_code(config) == 0x010802);
  CHECK((config.read16(header::command) & ~0x0547U) == 0);
  CHECK(find_capability(config, capability_id::pci_express));
  CHECK(find_capability(config, extended_capability_id::device_serial_number));
  CHECK(read_msix(config)->vectors == 33);
  // Initiate Function Level Reset reads as zero.
  const auto at = find_capability(config, capability_id::pci_express);
  CHECK((config.read16(static_cast<std::uint16_t>(*at + express::device_control)) & 0x8000) == 0);
}

TEST_CASE("a virtual function has no ids and no BARs of its own, and masters the bus only") {
  function_description d = everything();
  d.virtual_function = true;
  d.sriov.reset();
  space_image config;
  REQUIRE(emit_function(config, d));
  CHECK(config.read32(header::vendor_id) == 0xffff'ffff);
  CHECK_FALSE(is_removed(config));
  for (std::uint16_t at = header::bar0; at != 0x28; at += 4) {
    config.write32(at, 0xffff'ffff);
    CHECK(config.read32(at) == 0);
  }
  config.write16(header::command, 0xffff);
  CHECK(config.read16(header::command) == 4);
  CHECK(read_msix(config));
}

TEST_CASE("other capabilities carry their bytes and their masks, in order") {
  const std::array<std::byte, 5> first{std::byte{7}, std::byte{1}, std::byte{2}, std::byte{3},
                                       std::byte{4}};
  const std::array<std::byte, 2> second{std::byte{9}, std::byte{8}};
  const std::array<std::byte, 2> mask{std::byte{0}, std::byte{0xf0}};
  const std::array<capability_description, 2> list{
      capability_description{.body = first},
      capability_description{.body = second, .writable = mask}};
  function_description d{.vendor_id = 1, .capabilities = list};
  space_image config;
  const auto layout = emit_function(config, d);
  REQUIRE(layout);
  CHECK(layout->first_other == 0x40);
  CHECK(config.read8(0x40) == 9);
  CHECK(config.read8(0x42) == 7);
  CHECK(config.read8(0x46) == 4);
  CHECK(config.read8(0x41) == 0x48);  // on the next dword
  config.write32(0x48, 0xffff'ffff);
  CHECK(config.read32(0x48) == 0xf809'0009);
}

TEST_CASE("a bridge keeps its bus numbers and windows, and the windows' width bits stay") {
  space_image config;
  REQUIRE(emit_bridge(config, {.vendor_id = 0x1b36, .device_id = 0xc}));
  const header_type_register type{config.read8(header::header_type)};
  CHECK(type[header_type_register::layout] == header_layout::type1);
  CHECK(read_class_code(config) == 0x060400);
  config.write32(bridge_header::primary_bus, 0x0007'0501);
  CHECK(config.read32(bridge_header::primary_bus) == 0x0007'0501);
  config.write32(bridge_header::prefetchable_base, 0xffff'ffff);
  CHECK(config.read32(bridge_header::prefetchable_base) == 0xfff1'fff1);
  config.write32(bridge_header::memory_base, 0xffff'ffff);
  CHECK(config.read32(bridge_header::memory_base) == 0xfff0'fff0);
}

TEST_CASE("a description that no function can meet is refused, with its place") {
  function_description d{.vendor_id = 1};
  SUBCASE("sizes of BARs") {
    for (const auto& [kind, size] : {std::pair{bar_kind::memory32, std::uint64_t{0}},
                                     {bar_kind::memory32, 8},
                                     {bar_kind::memory32, 0x3000},
                                     {bar_kind::memory32, std::uint64_t{1} << 32},
                                     {bar_kind::io, 2},
                                     {bar_kind::io, 0x2'0000},
                                     {bar_kind::memory64, 24}}) {
      d.bars = {};
      d.bars[4] = {kind, size};
      const error e = refused(d);
      CHECK(e.code == errc::invalid_argument);
      CHECK(e.index == 4);
    }
  }
  SUBCASE("a 64-bit BAR without a second place") {
    d.bars[5] = {bar_kind::memory64, 4096};
    CHECK(refused(d).code == errc::overlap);
    d.bars = {};
    d.bars[1] = {bar_kind::memory64, 4096};
    d.bars[2] = {bar_kind::memory32, 4096};
    CHECK(refused(d).index == 1);
  }
  SUBCASE("MSI-X") {
    d.bars[0] = {bar_kind::memory32, 0x1000};
    d.bars[1] = {bar_kind::io, 0x1000};
    const msix_description good{.vectors = 4, .table_offset = 0, .pba_offset = 0x800};
    d.msix = good;
    space_image config;
    REQUIRE(emit_function(config, d));
    d.msix->vectors = 0;
    CHECK(refused(d).code == errc::out_of_range);
    d.msix->vectors = 2049;
    CHECK(refused(d).code == errc::out_of_range);
    d.msix->vectors = 257;  // one entry more than the BAR holds
    CHECK(refused(d).code == errc::out_of_range);
    for (const unsigned number : {1U, 2U, 6U, 255U}) {
      const auto where = static_cast<std::uint8_t>(number);
      d.msix = good;
      d.msix->table_bar = where;
      CHECK(refused(d).code == errc::out_of_range);
      d.msix = good;
      d.msix->pba_bar = where;
      CHECK(refused(d).code == errc::out_of_range);
    }
    d.msix = good;
    d.msix->table_offset = 4;
    CHECK(refused(d).code == errc::out_of_range);
    d.msix = good;
    d.msix->table_offset = 0xffff'fff8;
    CHECK(refused(d).code == errc::out_of_range);
    d.msix = good;
    d.msix->pba_offset = 56;  // the last entry's last bytes
    CHECK(refused(d).code == errc::overlap);
    d.msix->pba_offset = 64;
    REQUIRE(emit_function(config, d));
  }
  SUBCASE("more capabilities than fit") {
    const std::array<std::byte, 200> body{};
    const std::array<capability_description, 1> list{capability_description{.body = body}};
    d.capabilities = list;
    CHECK(refused(d).code == errc::exhausted);
    config_image<256> small;
    d.capabilities = {};
    d.serial_number = 1;
    const auto emitted = emit_function(small, d);
    REQUIRE_FALSE(emitted);
    CHECK(emitted.error().code == errc::exhausted);
  }
  SUBCASE("a mask that is shorter than its body") {
    const std::array<std::byte, 4> body{};
    const std::array<capability_description, 1> list{
        capability_description{.body = body, .writable = std::span{body}.first(3)}};
    d.capabilities = list;
    CHECK(refused(d).code == errc::invalid_argument);
  }
  SUBCASE("virtual functions") {
    d.sriov = sriov_description{};
    CHECK(refused(d).code == errc::invalid_argument);
    d.sriov = sriov_description{.total_vfs = 2, .vf_stride = 0};
    CHECK(refused(d).code == errc::invalid_argument);
    d.sriov = sriov_description{.total_vfs = 2};
    d.sriov->vf_bars[1] = {bar_kind::memory32, 2048};
    CHECK(refused(d).index == 1);
    d.sriov->vf_bars[1] = {bar_kind::io, 256};
    CHECK(refused(d).code == errc::invalid_argument);
  }
}
