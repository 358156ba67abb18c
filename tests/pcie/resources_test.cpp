// SPDX-License-Identifier: BSL-1.0
// Expansion ROMs, Enhanced Allocation, what is kept free behind hot-plug slots, payload sizes and access control
// of whole hierarchies.
#include <phasebit/pcie/driver/access_control.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>
#include <phasebit/pcie/driver/expansion_rom.hpp>
#include <phasebit/pcie/driver/payload.hpp>
#include <phasebit/pcie/spec/enhanced_allocation.hpp>

#include <cstdint>
#include <vector>

#include <doctest/doctest.h>
#include <linux/pci_regs.h>
#include <pcie/fake_fabric.hpp>

using namespace phasebit;
using namespace phasebit::pcie;
using phasebit_test::bus;
using phasebit_test::fabric;
using phasebit_test::space_image;

namespace {

constexpr host_resources plenty{.io = {0x1000, 0xf000},
                                .memory = {0xc000'0000, 0x3000'0000},
                                .prefetchable = {0x80'0000'0000, 0x80'0000'0000}};
using entry = enumerated_function;

function_description disk(std::uint64_t bar_size = 0x4000) {
  function_description d{.vendor_id = 0x1234, .device_id = 0x5678, .class_code = 0x010802};
  d.bars[0] = {bar_kind::memory32, bar_size};
  d.express = express_description{};
  return d;
}
space_image& add_rom(space_image& config, std::uint32_t bytes) {
  config.set_writable(header::expansion_rom, 4, ~(bytes - 1) | 1);
  return config;
}
space_image& image(bus& on, unsigned device, unsigned number = 0) {
  return on.nodes.at(static_cast<std::uint8_t>(device << 3 | number)).config;
}
std::uint16_t express_of(space_image& config) {
  const auto at = find_capability(config, capability_id::pci_express);
  REQUIRE(at);
  return *at;
}
// A port with a slot to which devices may be added.
bus& add_slot(bus& on, unsigned device, port_type type = port_type::root_port) {
  bus& behind = on.add_bridge(
      device, 0,
      {.vendor_id = 1, .device_id = 2, .express = {.type = type, .function_level_reset = false}});
  space_image& config = image(on, device);
  const std::uint16_t at = express_of(config);
  const express_capabilities e{config.read16(at + express::capabilities)};
  config.set16(at + express::capabilities,
               e.with(express_capabilities::slot_implemented, true).raw);
  config.set32(at + express::slot_capabilities,
               slot_capabilities{}.with(slot_capabilities::hot_plug_capable, true).raw);
  return behind;
}
std::vector<entry> found_in(fabric& f, const host_resources& host) {
  std::vector<entry> list(64);
  const auto found = enumerate(f, host, list);
  REQUIRE(found);
  list.resize(found->size());
  return list;
}
aperture memory_window(space_image& config) {
  const std::uint64_t base = std::uint64_t{config.read16(bridge_header::memory_base)} << 16;
  const std::uint64_t last =
      std::uint64_t{config.read16(bridge_header::memory_limit)} << 16 | 0xf'ffff;
  return last < base ? aperture{} : aperture{base, last - base + 1};
}

}  // namespace

TEST_CASE("an expansion ROM is sized without being decoded, and its register is as it was") {
  for (unsigned shift = 11; shift != 25; ++shift) {
    space_image config;
    REQUIRE(emit_function(config, disk()));
    add_rom(config, 1U << shift);
    config.write32(header::expansion_rom, 0xf000'0001);
    const auto rom = size_expansion_rom(config);
    REQUIRE(rom);
    CHECK(*rom == bar{bar_kind::memory32, false, 0xf000'0000, 1U << shift});
    CHECK(config.read32(header::expansion_rom) == 0xf000'0001);
    set_expansion_rom(config, 0xe000'0000, true);
    CHECK(config.read32(header::expansion_rom) == 0xe000'0001);
    set_expansion_rom(config, 0xe000'0000, false);
    CHECK(config.read32(header::expansion_rom) == 0xe000'0000);
  }
  space_image none;
  REQUIRE(emit_function(none, disk()));
  CHECK_FALSE(size_expansion_rom(none)->present());
  space_image holes;
  REQUIRE(emit_function(holes, disk()));
  holes.set_writable(header::expansion_rom, 4, 0xff0f'0001);
  CHECK(size_expansion_rom(holes).error().code == errc::protocol);
  space_image bridge;
  REQUIRE(emit_bridge(bridge, {.vendor_id = 1, .device_id = 2}));
  bridge.set_writable(bridge_header::expansion_rom, 4, 0xffff'0001);
  CHECK(size_expansion_rom(bridge)->size == 0x1'0000);
  bridge.set8(header::header_type, 2);  // CardBus
  CHECK_FALSE(size_expansion_rom(bridge)->present());
  space_image gone;
  for (std::uint32_t i = 0; i != 64; i += 4) gone.set32(i, ~0U);
  CHECK(size_expansion_rom(gone).error().code == errc::removed);
}

TEST_CASE("expansion ROMs get places beside the BARs where that is asked for, and stay undecoded") {
  fabric f;
  bus& behind = f.root.add_bridge(1, 0);
  behind.add_function(0, 0, disk(0x10'0000));
  add_rom(image(behind, 0), 0x2'0000);
  f.root.add_function(2, 0, disk());
  add_rom(image(f.root, 2), 0x1'0000);
  f.root.add_function(3, 0, disk());
  image(f.root, 3).set_writable(header::expansion_rom, 4, 0xff0f'0001);

  for (const entry& e : found_in(f, plenty)) {
    CHECK_FALSE(e.rom.present());
    CHECK_FALSE(e.left_out);
  }
  host_resources host = plenty;
  host.place_roms = true;
  const auto all = found_in(f, host);
  REQUIRE(all.size() == 4);
  // Functions of the root bus come first.
  const entry& port = all[0];
  const entry& inside = all[3];
  const entry& other = all[1];
  REQUIRE(inside.rom.present());
  CHECK(inside.rom.size == 0x2'0000);
  CHECK(inside.rom.address >= port.windows[1].base);
  CHECK(inside.rom.address + inside.rom.size <= port.windows[1].base + port.windows[1].size);
  CHECK((inside.rom.address & (inside.rom.size - 1)) == 0);
  CHECK((inside.rom.address >= inside.bars[0].address + inside.bars[0].size ||
         inside.rom.address + inside.rom.size <= inside.bars[0].address));
  CHECK(image(behind, 0).read32(header::expansion_rom) == inside.rom.address);
  CHECK(other.rom.address >= plenty.memory.base);
  CHECK(image(f.root, 2).read32(header::expansion_rom) == other.rom.address);
  // A ROM that cannot be is reported, and the function works.
  REQUIRE(all[2].left_out);
  CHECK(all[2].left_out->code == errc::protocol);
  CHECK(all[2].left_out->index == entry::expansion_rom);
  CHECK_FALSE(all[2].fault);
  CHECK(all[2].bars[0].address != 0);
}

TEST_CASE("where memory is short, ROMs are left out before any BAR is") {
  fabric f;
  f.root.add_function(1, 0, disk(0x80'0000));
  add_rom(image(f.root, 1), 0x40'0000);
  f.root.add_function(2, 0, disk(0x80'0000));
  add_rom(image(f.root, 2), 0x100'0000);
  host_resources host = plenty;
  host.place_roms = true;
  host.memory.size = 0x180'0000;
  const auto all = found_in(f, host);
  REQUIRE(all.size() == 2);
  CHECK(all[0].bars[0].address != 0);
  CHECK(all[1].bars[0].address != 0);
  CHECK(all[0].rom.size == 0x40'0000);
  CHECK_FALSE(all[1].rom.present());
  REQUIRE(all[1].left_out);
  CHECK(all[1].left_out->index == entry::expansion_rom);
  CHECK(all[1].left_out->value == 0x100'0000);
  CHECK(read_command(image(f.root, 2))[command_register::memory_space]);
}

TEST_CASE("buses and windows are kept free behind slots, and not behind other ports") {
  fabric f;
  add_slot(f.root, 1);  // empty
  bus& busy = add_slot(f.root, 2);
  busy.add_function(0, 0, disk());
  f.root.add_bridge(3, 0).add_function(0, 0, disk());
  host_resources host = plenty;
  host.slots = {.buses = 8, .io = 0x1001, .memory = 0x180'0000, .prefetchable = 0x4000'0000};
  const auto all = found_in(f, host);
  REQUIRE(all.size() == 5);
  for (std::size_t i = 0; i != 2; ++i) {
    const entry& slot = all[i];
    CHECK(slot.hot_plug);
    CHECK_FALSE(slot.left_out);
    CHECK(slot.subordinate_bus - slot.secondary_bus == 7);
    CHECK(slot.windows[0].size == 0x2000);
    CHECK(slot.windows[1].size == 0x180'0000);
    CHECK(slot.windows[2].size == 0x4000'0000);
    space_image& config = image(f.root, static_cast<unsigned>(i) + 1);
    CHECK(memory_window(config) == slot.windows[1]);
    CHECK(config.read8(bridge_header::subordinate_bus) == slot.subordinate_bus);
  }
  CHECK(all[1].secondary_bus == all[0].subordinate_bus + 1);
  CHECK(all[0].windows[1].base + all[0].windows[1].size <= all[1].windows[1].base);
  const entry& plain = all[2];
  CHECK_FALSE(plain.hot_plug);
  CHECK(plain.secondary_bus == plain.subordinate_bus);
  CHECK(plain.windows[1].size == 0x10'0000);
  // Registers of a slot mean nothing in a port that implements none.
  space_image& config = image(f.root, 1);
  const std::uint16_t capabilities = express_of(config) + express::capabilities;
  config.set16(capabilities, express_capabilities{config.read16(capabilities)}
                                 .with(express_capabilities::slot_implemented, false)
                                 .raw);
  const auto without = found_in(f, host);
  CHECK_FALSE(without[0].hot_plug);
  CHECK(without[0].subordinate_bus == without[0].secondary_bus);
  CHECK(without[1].hot_plug);
  // Nothing is kept unless that is asked for.
  const auto usual = found_in(f, plenty);
  CHECK(usual[0].subordinate_bus == usual[0].secondary_bus);
  CHECK(usual[0].windows[1].size == 0);
}

TEST_CASE("buses that appear while slots are counted do not run the numbers over") {
  // The fabric is enumerated twice where slots keep buses, and devices may answer otherwise the second time.
  struct growing {
    fabric f;
    bus* grows = nullptr;
    unsigned looked_at = 0;

    phasebit_test::view function(requester_id id) noexcept {
      if (id == requester_id{0, 0, 0} && ++looked_at == second_scan) {
        for (unsigned device = 0; device != 20; ++device) grows->add_bridge(device, 0);
      }
      return f.function(id);
    }
    unsigned second_scan = 0;
  };
  for (const unsigned last : {6U, 20U, 255U}) {
    for (unsigned second_scan = 0; second_scan != 6; ++second_scan) {
      CAPTURE(last);
      CAPTURE(second_scan);
      growing g;
      g.grows = &add_slot(g.f.root, 1, port_type::upstream_port);
      add_slot(g.f.root, 2);
      g.second_scan = second_scan;
      host_resources host = plenty;
      host.last_bus = static_cast<std::uint8_t>(last);
      host.slots = {.buses = 255};
      std::vector<entry> list(64);
      const auto found = enumerate(g, host, list);
      REQUIRE(found);
      for (const entry& e : *found) {
        if (e.fault || !e.is_bridge()) continue;
        CHECK(e.secondary_bus > e.id.bus());
        CHECK(e.subordinate_bus >= e.secondary_bus);
        CHECK(e.subordinate_bus <= last);
      }
    }
  }
}

TEST_CASE("what is there comes before what is kept for slots: buses, memory and I/O") {
  fabric f;
  add_slot(f.root, 1);
  f.root.add_bridge(2, 0).add_function(0, 0, disk(0x100'0000));
  f.root.add_bridge(3, 0).add_function(0, 0, disk(0x100'0000));
  host_resources host = plenty;
  host.last_bus = 5;
  host.memory.size = 0x280'0000;
  host.io = {0x1000, 0x1000};
  host.slots = {.buses = 200, .io = 0x2000, .memory = 0x100'0000, .prefetchable = 0};
  const auto all = found_in(f, host);
  REQUIRE(all.size() == 5);
  CHECK(all[0].secondary_bus == 1);
  CHECK(all[0].subordinate_bus == 3);  // two numbers were to spare
  REQUIRE(all[0].left_out);
  CHECK(all[0].left_out->index == entry::slot_reserve);
  CHECK(all[0].left_out->value == 200);
  CHECK(all[0].windows[0].size == 0);
  CHECK(all[0].windows[1].size == 0);
  for (std::size_t i = 1; i != 5; ++i) {
    CHECK_FALSE(all[i].fault);
    CHECK_FALSE(all[i].left_out);
  }
  CHECK(all[3].bars[0].address != 0);
  CHECK(all[4].bars[0].address != 0);
  // One of two slots can keep what it asks for.
  fabric two;
  add_slot(two.root, 1);
  add_slot(two.root, 2);
  host = plenty;
  host.slots = {.memory = 0x2000'0000};
  const auto slots = found_in(two, host);
  REQUIRE(slots.size() == 2);
  CHECK(slots[0].left_out.has_value() != slots[1].left_out.has_value());
  CHECK(slots[0].windows[1].size + slots[1].windows[1].size == 0x2000'0000);
}

TEST_CASE("a slot without I/O or prefetchable windows keeps neither") {
  fabric f;
  add_slot(f.root, 1);
  space_image& config = image(f.root, 1);
  config.set16(bridge_header::io_base, 0);
  config.set_writable(bridge_header::io_base, 2, 0);
  config.set_writable(bridge_header::prefetchable_base, 4, 0);
  config.set32(bridge_header::prefetchable_base, 0);
  host_resources host = plenty;
  host.slots = {.io = 0x1000, .memory = 0x10'0000, .prefetchable = 0x10'0000};
  const auto all = found_in(f, host);
  REQUIRE(all.size() == 1);
  CHECK_FALSE(all[0].left_out);
  CHECK(all[0].windows[0].size == 0);
  CHECK(all[0].windows[1].size == 0x10'0000);
  CHECK(all[0].windows[2].size == 0);
}

TEST_CASE("a hierarchy has one payload size, the largest that all of it supports") {
  fabric f;
  const auto with_payload = [](std::uint8_t code) {
    auto d = disk();
    d.express->max_payload = code;
    return d;
  };
  const auto port = [](port_type type, std::uint8_t code) {
    return bridge_description{
        .vendor_id = 1,
        .device_id = 2,
        .express = {.type = type, .function_level_reset = false, .max_payload = code}};
  };
  bus& first = f.root.add_bridge(1, 0, port(port_type::root_port, 3));
  bus& inside = first.add_bridge(0, 0, port(port_type::upstream_port, 5));
  bus& down0 = inside.add_bridge(0, 0, port(port_type::downstream_port, 5));
  bus& down1 = inside.add_bridge(1, 0, port(port_type::downstream_port, 5));
  down0.add_function(0, 0, with_payload(2));
  down1.add_function(0, 0, with_payload(4));
  bus& second = f.root.add_bridge(2, 0, port(port_type::root_port, 3));
  second.add_function(0, 0, with_payload(7));  // reserved: at most 4096 bytes
  auto conventional = disk();
  conventional.express.reset();
  second.add_function(0, 1, conventional);
  f.root.add_function(3, 0, with_payload(1));
  const auto all = found_in(f, plenty);
  const auto payload = [](space_image& config) {
    return device_control{config.read16(express_of(config) +
                                        express::device_control)}[device_control::max_payload_size];
  };
  const auto set = [&](std::uint8_t largest = largest_payload) {
    return set_max_payload(f, all, largest);
  };
  REQUIRE(set());
  for (space_image* config : {&image(f.root, 1), &image(first, 0), &image(inside, 0),
                              &image(inside, 1), &image(down0, 0), &image(down1, 0)}) {
    CHECK(payload(*config) == 2);
  }
  CHECK(payload(image(f.root, 2)) == 3);
  CHECK(payload(image(second, 0)) == 3);
  CHECK(payload(image(f.root, 3)) == 1);
  // The other bits of the register are left alone.
  CHECK((image(down0, 0).read16(express_of(image(down0, 0)) + express::device_control) & 0x7000) ==
        0x2000);
  REQUIRE(set(1));
  CHECK(payload(image(f.root, 1)) == 1);
  CHECK(payload(image(second, 0)) == 1);

  // A function that does not take what it supports: its hierarchy falls back to what every function takes.
  space_image& stubborn = image(down1, 0);
  stubborn.set_writable(express_of(stubborn) + express::device_control, 2, 0x7f1f);
  stubborn.set16(express_of(stubborn) + express::device_control, 0x2000);
  const auto refused = set();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::protocol);
  CHECK(all[refused.error().index].id == requester_id{4, 0, 0});
  CHECK(payload(image(f.root, 1)) == 0);
  CHECK(payload(image(down0, 0)) == 0);
  CHECK(payload(image(second, 0)) == 3);
}

TEST_CASE("a slot below a switch keeps its hierarchy at 128 bytes; a root port's slot does not") {
  fabric f;
  bus& inside = add_slot(f.root, 1);
  inside.add_function(0, 0, disk());
  bus& other = f.root.add_bridge(2, 0);
  other.add_function(0, 0, disk());
  add_slot(other, 1, port_type::downstream_port);
  // Behind a root port only device 0 exists: a conventional bridge has more.
  const std::uint16_t at = express_of(image(f.root, 2));
  image(f.root, 2).set16(at + express::capabilities, 0x0072);
  const auto all = found_in(f, plenty);
  REQUIRE(all.size() == 5);
  REQUIRE(set_max_payload(f, all));
  const auto payload = [](space_image& config) {
    return device_control{config.read16(express_of(config) +
                                        express::device_control)}[device_control::max_payload_size];
  };
  CHECK(payload(image(inside, 0)) == 1);
  CHECK(payload(image(other, 0)) == 0);
  CHECK(payload(image(f.root, 2)) == 0);
}

TEST_CASE(
    "functions are isolated where nothing between them and the IOMMU sends requests to peers") {
  const acs_capability full = acs_isolation().with(acs_capability::direct_translated, true);
  const auto port = [](port_type type, std::optional<acs_capability> acs) {
    return bridge_description{.vendor_id = 1,
                              .device_id = 2,
                              .acs = acs,
                              .express = {.type = type, .function_level_reset = false}};
  };
  fabric f;
  bus& good = f.root.add_bridge(1, 0, port(port_type::root_port, full));
  bus& inside = good.add_bridge(0, 0, port(port_type::upstream_port, std::nullopt));
  inside.add_bridge(0, 0, port(port_type::downstream_port, full)).add_function(0, 0, disk());
  inside.add_bridge(1, 0, port(port_type::downstream_port, std::nullopt))
      .add_function(0, 0, disk());
  inside.add_bridge(2, 0, port(port_type::downstream_port, acs_capability{0x15}))
      .add_function(0, 0, disk());
  f.root.add_bridge(2, 0, port(port_type::root_port, std::nullopt)).add_function(0, 0, disk());
  bus& several = f.root.add_bridge(3, 0, port(port_type::root_port, full));
  auto many = disk();
  many.multi_function = true;
  several.add_function(0, 0, many);
  many.acs = acs_capability{0x2c}.with(acs_capability::egress_control, false);
  several.add_function(0, 1, many);
  bus& pci = f.root.add_bridge(4, 0, port(port_type::pcie_to_pci_bridge, std::nullopt));
  pci.add_function(0, 0, disk());
  f.root.add_function(5, 0, disk());
  auto virtual_ones = disk();
  virtual_ones.sriov = sriov_description{.total_vfs = 2};
  virtual_ones.sriov->vf_bars[0] = {bar_kind::memory64, 0x1000};
  f.root.add_bridge(6, 0, port(port_type::root_port, full)).add_function(0, 0, virtual_ones);
  auto all = found_in(f, plenty);
  isolate_all(f, all);
  std::vector<std::pair<requester_id, bool>> disks;
  for (const entry& e : all) {
    if (!e.is_bridge()) disks.emplace_back(e.id, e.isolated);
  }
  REQUIRE(disks.size() == 9);
  const auto isolated_below = [&](unsigned root_device) {
    std::vector<bool> seen;
    for (std::size_t i = 0; i != all.size(); ++i) {
      if (all[i].is_bridge()) continue;
      const entry& top = all[pcie::detail::top_of(all, i)];
      if (top.id.device() == root_device) seen.push_back(all[i].isolated);
    }
    return seen;
  };
  CHECK(isolated_below(1) == std::vector<bool>{true, false, false});
  CHECK(isolated_below(2) == std::vector<bool>{false});
  CHECK(isolated_below(3) == std::vector<bool>{false, true});
  CHECK(isolated_below(4) == std::vector<bool>{false});
  CHECK(isolated_below(5) == std::vector<bool>{true});
  CHECK(isolated_below(6) == std::vector<bool>{false});
  space_image& config = image(f.root, 1);
  const auto at = find_capability(config, extended_capability_id::access_control_services);
  REQUIRE(at);
  CHECK(config.read16(*at + acs::control) == acs_isolation().raw);
}

TEST_CASE("what reads as all zeros is no function, and needs no place in the list") {
  fabric f;
  f.root.add(1, 0);
  f.root.add_function(2, 0, disk());
  std::vector<entry> list(1);
  const auto found = enumerate(f, plenty, list);
  REQUIRE(found);
  CHECK(found->size() == 1);
}

TEST_CASE("virtual functions beyond the last bus of the host bridge are left out") {
  for (const std::uint8_t last_bus : {std::uint8_t{3}, std::uint8_t{5}}) {
    fabric f;
    auto d = disk();
    d.sriov = sriov_description{.total_vfs = 2, .first_vf_offset = 0x400, .vf_stride = 1};
    d.sriov->vf_bars[0] = {bar_kind::memory64, 0x1000};
    f.root.add_bridge(1, 0).add_function(0, 0, d);
    host_resources host = plenty;
    host.last_bus = last_bus;  // the virtual functions are on bus 5
    const auto all = found_in(f, host);
    REQUIRE(all.size() == 2);
    CHECK(all[1].left_out.has_value() == (last_bus == 3));
    CHECK((all[1].sriov.offset != 0) == (last_bus == 5));
    CHECK(all[0].subordinate_bus == (last_bus == 3 ? 1 : 5));
    if (all[1].left_out) CHECK(all[1].left_out->index == entry::vf_buses);
  }
}

TEST_CASE("a last BAR that claims to be the lower half of two is refused, in both header types") {
  for (const bool bridge : {false, true}) {
    space_image config;
    if (bridge) {
      REQUIRE(emit_bridge(config, {.vendor_id = 1, .device_id = 2}));
    } else {
      REQUIRE(emit_function(config, disk()));
    }
    const std::uint32_t last = bridge ? 1 : 5;
    config.set32(header::bar0 + 4 * last, 4);
    config.set_writable(header::bar0 + 4 * last, 4, 0xffff'f000);
    config.set_writable(header::bar0 + 4 * (last + 1), 4, 0xffff'ffff);  // no BAR, but it would do
    const auto sized = size_bars(config);
    REQUIRE_FALSE(sized);
    CHECK(sized.error().code == errc::protocol);
    CHECK(sized.error().index == last);
  }
}

namespace {

// A function with this Enhanced Allocation body at 40h, `count` in its own byte.
space_image allocating(std::vector<std::uint32_t> dwords, unsigned count, bool bridge = false) {
  space_image c;
  c.set32(header::vendor_id, 0x0001'1234);
  c.set16(header::status, 0x10);
  c.set8(header::capabilities, 0x40);
  if (bridge) c.set8(header::header_type, 1);
  c.set32(0x40, count << 16 | 0x14);
  for (std::uint32_t i = 0; i != dwords.size(); ++i) c.set32(0x44 + 4 * i, dwords[i]);
  return c;
}
std::vector<allocation> allocations(space_image& c) {
  std::vector<allocation> all;
  REQUIRE(for_each_allocation(c, [&](const allocation& a) {
    all.push_back(a);
    return true;
  }));
  return all;
}

}  // namespace

TEST_CASE("Enhanced Allocation entries are read in each of their four shapes") {
  using t = allocation_target;
  using p = allocation_properties;
  auto c = allocating(
      {
          0x8000'0000 | 0xff << 16 | 0x00 << 8 | 0 << 4 | 2,
          0x9000'0000,
          0x0000'3ffc,  // BAR 0
          0xc000'0000 | 0x00 << 16 | 0x01 << 8 | 2 << 4 | 3,
          0x0000'0002,
          0x0fff'fffc,
          0x12,
          0x0000'0000 | 0xff << 16 | 0x02 << 8 | 8 << 4 | 3,
          0x1000,
          0xffff'fffe,
          0x3,
          0x8000'0000 | 0xff << 16 | 0x03 << 8 | 14 << 4 | 4,
          0x0000'0002,
          0x0000'0ffe,
          0x20,
          0x1,
      },
      4);
  const auto all = allocations(c);
  REQUIRE(all.size() == 4);
  CHECK(all[0] ==
        allocation{t::bar0, p::memory, p::unavailable, true, false, 0x9000'0000, 0x9000'3fff});
  CHECK(all[1] == allocation{static_cast<t>(2), p::prefetchable_memory, p::memory, true, true,
                             0x12'0000'0000, 0x12'0fff'ffff});
  CHECK(all[2] ==
        allocation{t::expansion_rom, p::io, p::unavailable, false, false, 0x1000, 0x4'0000'0fff});
  CHECK(all[3] == allocation{t::vf_bar5, p::vf_prefetchable_memory, p::unavailable, true, false,
                             0x20'0000'0000, 0x21'0000'0fff});
  unsigned seen = 0;
  REQUIRE(for_each_allocation(c, [&](const allocation&) { return ++seen != 2; }));
  CHECK(seen == 2);
  CHECK(read_allocation_buses(c)->secondary == 0);
}

TEST_CASE("a bridge's Enhanced Allocation begins with its bus numbers") {
  auto c = allocating(
      {0x0000'2010, 0x8000'0000 | 0xff << 16 | 0x05 << 8 | 6 << 4 | 2, 0xa000'0000, 0x00ff'fffc}, 1,
      true);
  CHECK(*read_allocation_buses(c) == allocation_buses{0x10, 0x20});
  const auto all = allocations(c);
  REQUIRE(all.size() == 1);
  CHECK(all[0].target == allocation_target::behind_bridge);
  CHECK(all[0].primary == allocation_properties::bridge_memory);
  CHECK(all[0].last == 0xa0ff'ffff);
}

TEST_CASE("Enhanced Allocation that contradicts itself is refused, with the entry") {
  const auto refused = [](std::vector<std::uint32_t> dwords, unsigned count) {
    auto c = allocating(std::move(dwords), count);
    const auto read = for_each_allocation(c, [](const allocation&) { return true; });
    REQUIRE_FALSE(read);
    CHECK(read.error().code == errc::protocol);
    return read.error().index;
  };
  CHECK(refused({0x8000'0001, 0x9000'0000, 0xffc}, 1) == 0);           // no offset
  CHECK(refused({0x8000'0002, 0x9000'0002, 0xffc}, 1) == 0);           // no upper half of the base
  CHECK(refused({0x8000'0002, 0x9000'0000, 0xffe}, 1) == 0);           // of the offset
  CHECK(refused({0x8000'0003, 0x9000'0002, 0xffe, 0}, 1) == 0);        // of one of both
  CHECK(refused({0x8000'0004, 0xffff'f002, 0xfffe, ~0U, 0}, 1) == 0);  // wraps
  CHECK(refused({0x8000'0002, 0x9000'0000, 0xffc}, 2) == 1);           // zeros are no entry
  // 63 entries of three doublewords do not fit behind 40h.
  std::vector<std::uint32_t> many;
  for (unsigned i = 0; i != 15; ++i) {
    for (const std::uint32_t d : {0x8000'0002U, 0x9000'0000U, 0xffcU}) many.push_back(d);
  }
  CHECK(refused(many, 63) == 15);
  // One whose last doubleword would lie behind the space.
  space_image end;
  end.set32(header::vendor_id, 0x0001'1234);
  end.set16(header::status, 0x10);
  end.set8(header::capabilities, 0xf4);
  end.set32(0xf4, 1 << 16 | 0x14);
  end.set32(0xf8, 0x8000'0002);
  end.set32(0xfc, 0x9000'0000);
  end.set32(0x100, 0xffc);
  CHECK(for_each_allocation(end, [](const allocation&) { return true; }).error().code ==
        errc::protocol);
  space_image none;
  none.set32(header::vendor_id, 0x0001'1234);
  CHECK(for_each_allocation(none, [](const allocation&) { return true; }).error().code ==
        errc::not_found);
}

TEST_CASE("the Enhanced Allocation capability is that of the system's own header file") {
  using e = allocation_entry;
  CHECK(enhanced_allocation::entries == PCI_EA_NUM_ENT);
  CHECK(enhanced_allocation::first == PCI_EA_FIRST_ENT);
  CHECK(enhanced_allocation::bridge_first == PCI_EA_FIRST_ENT_BRIDGE);
  CHECK(e::size.mask<std::uint32_t> == PCI_EA_ES);
  CHECK(e::target.mask<std::uint32_t> == PCI_EA_BEI);
  CHECK(e::primary.mask<std::uint32_t> == PCI_EA_PP);
  CHECK(e::secondary.mask<std::uint32_t> == PCI_EA_SP);
  CHECK(e::writable.mask<std::uint32_t> == PCI_EA_WRITABLE);
  CHECK(e::enable.mask<std::uint32_t> == PCI_EA_ENABLE);
  CHECK(allocation_address::wide.mask<std::uint32_t> == PCI_EA_IS_64);
  CHECK(~allocation_address::flags == PCI_EA_FIELD_MASK);
  CHECK(static_cast<int>(allocation_target::behind_bridge) == PCI_EA_BEI_BRIDGE);
  CHECK(static_cast<int>(allocation_target::expansion_rom) == PCI_EA_BEI_ROM);
  CHECK(static_cast<int>(allocation_target::vf_bar0) == PCI_EA_BEI_VF_BAR0);
  CHECK(static_cast<int>(allocation_target::vf_bar5) == PCI_EA_BEI_VF_BAR5);
  CHECK(static_cast<int>(allocation_properties::vf_memory) == PCI_EA_P_VF_MEM);
  CHECK(static_cast<int>(allocation_properties::bridge_io) == PCI_EA_P_BRIDGE_IO);
  CHECK(static_cast<int>(allocation_properties::reserved_memory) == PCI_EA_P_MEM_RESERVED);
  CHECK(static_cast<int>(allocation_properties::reserved_io) == PCI_EA_P_IO_RESERVED);
  CHECK(static_cast<int>(allocation_properties::unavailable) == PCI_EA_P_UNAVAILABLE);
}
