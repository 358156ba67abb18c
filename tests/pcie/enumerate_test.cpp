// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/driver/enumerate.hpp>

#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <pcie/archetypes.hpp>
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

function_description disk(std::uint64_t bar_size = 0x4000, bool msix = true) {
  function_description d{.vendor_id = 0x1234, .device_id = 0x5678, .class_code = 0x010802};
  d.bars[0] = {bar_kind::memory64, bar_size, false};
  if (msix) d.msix = msix_description{.vectors = 4, .table_offset = 0x1000, .pba_offset = 0x2000};
  d.express = express_description{};
  return d;
}

struct range {
  std::uint64_t begin;
  std::uint64_t end;
  bool overlaps(const range& o) const { return begin < o.end && o.begin < end; }
  bool contains(const range& o) const { return begin <= o.begin && o.end <= end; }
};

range of(const aperture& a) { return {a.base, a.base + a.size}; }

// Holds the result against every rule, from the registers, as the hardware would see it.
void check_routing(fabric& where, const host_resources& host,
                   std::span<const enumerated_function> all) {
  struct claim {
    range addresses;
    std::uint16_t bridge;
    bool io;
  };
  std::vector<claim> claims;
  for (std::size_t i = 0; i != all.size(); ++i) {
    const enumerated_function& f = all[i];
    auto config = where.function(f.id);
    REQUIRE(config.read16(header::vendor_id) == f.vendor_id);
    if (f.fault) continue;

    const auto bars = size_bars(config);
    REQUIRE(bars);
    CHECK(*bars == f.bars);
    const auto claim_bars = [&](const bar_array& list, std::uint64_t times) {
      for (const bar& b : list) {
        if (!b.present() || b.address == 0) continue;
        CHECK(b.address % b.size == 0);
        claims.push_back(
            {{b.address, b.address + b.size * times}, f.bridge, b.kind == bar_kind::io});
        if (b.kind != bar_kind::memory64) {
          CHECK(b.address + b.size - 1 <= 0xffff'ffff);
        }
      }
    };
    claim_bars(f.bars, 1);
    claim_bars(f.vf_bars, f.sriov.total_vfs);
    for (const bar& b : f.vf_bars) {
      if (!b.present()) continue;
      const auto k = static_cast<unsigned>(&b - f.vf_bars.data());
      CHECK(read_bar_address(config, k, static_cast<std::uint16_t>(f.sriov.offset + 0x24)) ==
            b.address);
    }
    CHECK(read_command(config)[command_register::bus_master]);

    if (!f.is_bridge()) continue;
    CHECK(config.read8(bridge_header::primary_bus) == f.id.bus());
    CHECK(config.read8(bridge_header::secondary_bus) == f.secondary_bus);
    CHECK(config.read8(bridge_header::subordinate_bus) == f.subordinate_bus);
    CHECK(f.secondary_bus > f.id.bus());
    CHECK(f.subordinate_bus >= f.secondary_bus);
    if (f.bridge != enumerated_function::on_root_bus) {
      CHECK(f.subordinate_bus <= all[f.bridge].subordinate_bus);
      CHECK(f.bridge < i);
    }
    // The windows, from the registers.
    const std::uint64_t mb = config.read16(bridge_header::memory_base) & 0xfff0;
    const std::uint64_t ml = config.read16(bridge_header::memory_limit) & 0xfff0;
    const aperture& m = f.windows[1];
    if (m.size == 0) {
      CHECK(mb > ml);
    } else {
      CHECK((mb << 16) == m.base);
      CHECK((ml << 16 | 0xf'ffff) == m.base + m.size - 1);
      claims.push_back({of(m), f.bridge, false});
    }
    const std::uint64_t pb =
        std::uint64_t{config.read32(bridge_header::prefetchable_base_upper)} << 32 |
        std::uint64_t{config.read16(bridge_header::prefetchable_base) & 0xfff0U} << 16;
    const std::uint64_t pl =
        std::uint64_t{config.read32(bridge_header::prefetchable_limit_upper)} << 32 |
        std::uint64_t{config.read16(bridge_header::prefetchable_limit) & 0xfff0U} << 16;
    const aperture& p = f.windows[2];
    if (p.size == 0) {
      CHECK((pb > pl || !f.forwards_prefetchable64));
    } else {
      CHECK(pb == p.base);
      CHECK((pl | 0xf'ffff) == p.base + p.size - 1);
      claims.push_back({of(p), f.bridge, false});
    }
    const std::uint64_t ib = config.read8(bridge_header::io_base) & 0xf0;
    const std::uint64_t il = config.read8(bridge_header::io_limit) & 0xf0;
    const aperture& io = f.windows[0];
    if (io.size == 0 || io.base == 0) {
      CHECK((ib > il || !f.forwards_io));
    } else {
      CHECK((ib << 8) == io.base);
      CHECK((il << 8 | 0xfff) == io.base + io.size - 1);
      claims.push_back({of(io), f.bridge, true});
    }
  }
  for (std::size_t i = 0; i != claims.size(); ++i) {
    const claim& c = claims[i];
    // Inside what the bridge above forwards, or the host.
    bool inside = false;
    for (unsigned k = 0; k != resource_classes; ++k) {
      if ((k == 0) != c.io) continue;
      const aperture& above = c.bridge == enumerated_function::on_root_bus
                                  ? (k == 0   ? host.io
                                     : k == 1 ? host.memory
                                              : host.prefetchable)
                                  : all[c.bridge].windows[k];
      inside = inside || (above.size != 0 && of(above).contains(c.addresses));
    }
    CHECK(inside);
    for (std::size_t k = i + 1; k != claims.size(); ++k) {
      if (c.io == claims[k].io && c.bridge == claims[k].bridge) {
        CHECK_FALSE(c.addresses.overlaps(claims[k].addresses));
      }
    }
  }
}

std::span<enumerated_function> must(fabric& where, std::vector<enumerated_function>& list,
                                    const host_resources& host = plenty) {
  const auto found = enumerate(where, host, list);
  REQUIRE(found);
  check_routing(where, host, *found);
  return *found;
}

}  // namespace

TEST_CASE("an empty host bridge has no functions") {
  fabric nothing;
  std::vector<enumerated_function> list(4);
  CHECK(must(nothing, list).empty());
  phasebit_test::config_access_archetype least;
  const auto found = enumerate(least, plenty, list);
  REQUIRE(found);
  CHECK(found->empty());
}

TEST_CASE("a disk behind a root port gets a bus, an address and the right to do DMA") {
  fabric f;
  f.root.add_bridge(1, 0).add_function(0, 0, disk());
  std::vector<enumerated_function> list(4);
  const auto all = must(f, list);
  REQUIRE(all.size() == 2);
  CHECK(all[1].id == requester_id{1, 0, 0});
  CHECK(all[1].class_code == 0x010802);
  CHECK(all[1].bars[0].address >= plenty.memory.base);
  auto config = f.function(all[1].id);
  CHECK((config.read16(header::command) & 7) == 6);
}

TEST_CASE("all functions of a device are found only if the multi-function bit is set") {
  fabric f;
  function_description d = disk();
  f.root.add_function(3, 0, d);
  f.root.add_function(3, 5, d);  // hidden: function 0 does not report it
  d.multi_function = true;
  f.root.add_function(4, 0, d);
  f.root.add_function(4, 7, d);
  f.root.add_function(5, 1, d);  // hidden: there is no function 0
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  REQUIRE(all.size() == 3);
  CHECK(all[2].id == requester_id{0, 4, 7});
}

TEST_CASE("behind a port only device 0 is looked for; behind a plain bridge all 32") {
  fabric f;
  bus& port = f.root.add_bridge(1, 0);
  port.add_function(0, 0, disk());
  port.add_function(9, 0, disk());
  bus& plain = f.root.add_bridge(
      2, 0, {.vendor_id = 1, .device_id = 2, .express = {.type = port_type::upstream_port}});
  plain.add_function(31, 0, disk());
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  REQUIRE(all.size() == 4);
  CHECK(all[3].id == requester_id{2, 31, 0});
}

TEST_CASE("prefetchable 64-bit BARs go high where every bridge lets them, others low") {
  fabric f;
  function_description d = disk(0x4000, false);
  d.bars[2] = {bar_kind::memory64, std::uint64_t{8} << 30, true};
  f.root.add_bridge(1, 0).add_function(0, 0, d);
  d.bars[2].size = 0x10'0000;
  bus& narrow =
      f.root.add_bridge(2, 0, {.vendor_id = 1, .device_id = 2, .prefetchable_window = false});
  narrow.add_function(0, 0, d);
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  REQUIRE(all.size() == 4);
  CHECK(all[2].bars[2].address >= plenty.prefetchable.base);
  CHECK(all[3].bars[2].address < 0x1'0000'0000);
}

TEST_CASE("without space above 4 GiB everything goes below") {
  fabric f;
  function_description d = disk(0x4000, false);
  d.bars[2] = {bar_kind::memory64, 0x10'0000, true};
  f.root.add_function(1, 0, d);
  host_resources small = plenty;
  small.prefetchable = {};
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list, small);
  CHECK(all[0].bars[2].address < 0x1'0000'0000);
}

TEST_CASE("I/O BARs stay off where no I/O space leads to them") {
  fabric f;
  function_description d = disk();
  d.bars[4] = {bar_kind::io, 32};
  f.root.add_bridge(1, 0, {.vendor_id = 1, .device_id = 2, .io_window = false})
      .add_function(0, 0, d);
  f.root.add_bridge(2, 0).add_function(0, 0, d);
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  CHECK(all[2].bars[4].address == 0);
  CHECK(all[3].bars[4].address != 0);
  host_resources without = plenty;
  without.io = {};
  const auto again = must(f, list, without);
  CHECK(again[3].bars[4].address == 0);
  auto config = f.function(again[3].id);
  CHECK_FALSE(read_command(config)[command_register::io_space]);
}

TEST_CASE("virtual functions get space for their BARs and, where they need it, buses") {
  fabric f;
  function_description d = disk();
  d.ari_next_function = 0;
  d.sriov = sriov_description{.total_vfs = 4, .vf_device_id = 0x5679};
  d.sriov->vf_bars[0] = {bar_kind::memory64, 0x4000, false};
  f.root.add_bridge(1, 0).add_function(0, 0, d);
  d.sriov->total_vfs = 600;  // from function 1: to bus + 2
  f.root.add_bridge(2, 0).add_function(0, 0, d);
  f.root.add_bridge(3, 0).add_function(0, 0, disk());
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  REQUIRE(all.size() == 6);
  CHECK(all[3].sriov.total_vfs == 4);
  CHECK(all[1].secondary_bus == 2);
  CHECK(all[1].subordinate_bus == 4);
  CHECK(all[2].secondary_bus == 5);
  const auto last = all[4].sriov.routing_id(all[4].id, 599);
  REQUIRE(last);
  CHECK(last->bus() == 4);
  // Nothing is switched on, and the port forwards 8-bit function numbers.
  auto config = f.function(all[4].id);
  const auto now = read_sriov(config);
  REQUIRE(now);
  CHECK_FALSE(now->enabled);
  CHECK(now->num_vfs == 0);
  auto port = f.function(all[1].id);
  const auto at = find_capability(port, capability_id::pci_express);
  REQUIRE(at);
  CHECK((port.read16(static_cast<std::uint16_t>(*at + express::device_control_2)) & 0x20) != 0);
}

TEST_CASE("virtual functions of a device on the root bus take the numbers before bridges do") {
  fabric f;
  f.root.add_bridge(1, 0).add_function(0, 0, disk());
  function_description d = disk();
  d.sriov = sriov_description{.total_vfs = 300, .vf_device_id = 1};
  d.sriov->vf_bars[0] = {bar_kind::memory64, 0x1000, false};
  f.root.add_function(2, 0, d);
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  REQUIRE(all.size() == 3);
  CHECK(all[0].secondary_bus == 2);
}

TEST_CASE("regression: ARI of one bus is not taken for that of the next") {
  fabric f;
  function_description d = disk();
  d.ari_next_function = 0;
  d.sriov = sriov_description{.total_vfs = 2};
  d.sriov->vf_bars[0] = {bar_kind::memory64, 0x1000, false};
  f.root.add_bridge(1, 0).add_function(0, 0, d);
  f.root
      .add_bridge(2, 0,
                  {.vendor_id = 1, .device_id = 2, .express = {.type = port_type::upstream_port}})
      .add_function(3, 0, d);
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  REQUIRE(all.size() == 4);
  const auto hierarchy = [&](const enumerated_function& pf) {
    auto config = f.function(pf.id);
    const sriov_control control{
        config.read16(static_cast<std::uint16_t>(pf.sriov.offset + sriov::control))};
    return control[sriov_control::ari_capable_hierarchy];
  };
  CHECK(hierarchy(all[2]));
  CHECK_FALSE(hierarchy(all[3]));
}

TEST_CASE("regression: a NumVFs that does not take its value is the function's fault, not ours") {
  fabric f;
  function_description d = disk();
  d.sriov = sriov_description{.total_vfs = 4};
  space_image& image = f.root.add_function(1, 0, d);
  const auto capability = read_sriov(image);
  REQUIRE(capability);
  const auto num_vfs = static_cast<std::uint16_t>(capability->offset + sriov::num_vfs);
  image.set16(num_vfs, 1);
  image.set_writable(num_vfs, 2, 0xfffe);  // 4 is read back as 5, which is more than TotalVFs
  std::vector<enumerated_function> list(4);
  const auto all = must(f, list);
  REQUIRE(all.size() == 1);
  REQUIRE(all[0].fault);
  CHECK(all[0].fault->code == errc::protocol);
}

TEST_CASE("random hierarchies are laid out without overlap, each BAR inside what leads to it") {
  std::mt19937 random{20240229};
  const auto upto = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  for (int round = 0; round != 60; ++round) {
    fabric f;
    f.first_bus = static_cast<std::uint8_t>(round % 3 == 0 ? 0x20 : 0);
    std::vector<bus*> buses{&f.root};
    unsigned functions = 0;
    for (unsigned n = 5 + upto(25); n != 0; --n) {
      bus& on = *buses[upto(static_cast<unsigned>(buses.size()))];
      const unsigned device = &on == &f.root ? upto(32) : upto(2) == 0 ? 0 : 1 + upto(31);
      if (on.nodes.contains(static_cast<std::uint8_t>(device << 3))) continue;
      ++functions;
      if (upto(3) == 0) {
        buses.push_back(&on.add_bridge(
            device, 0,
            {.vendor_id = 1,
             .device_id = 2,
             .io_window = upto(4) != 0,
             .prefetchable_window = upto(4) != 0,
             .express = {.type = upto(2) == 0 ? port_type::upstream_port : port_type::root_port}}));
        continue;
      }
      function_description d{.vendor_id = 0x1234, .device_id = 1};
      for (unsigned i = 0; i != type0_bars; ++i) {
        switch (upto(5)) {
          case 0:
            d.bars[i] = {bar_kind::io, std::uint64_t{1} << (2 + upto(6))};
            break;
          case 1:
            d.bars[i] = {bar_kind::memory32, std::uint64_t{1} << (4 + upto(18)), upto(2) == 0};
            break;
          case 2:
            if (i + 1 == type0_bars) break;
            d.bars[i] = {bar_kind::memory64, std::uint64_t{1} << (4 + upto(20)), upto(2) == 0};
            ++i;
            break;
          default:
            break;
        }
      }
      if (upto(4) == 0) {
        d.sriov = sriov_description{.total_vfs = static_cast<std::uint16_t>(1 + upto(40))};
        d.sriov->vf_bars[0] = {bar_kind::memory64, std::uint64_t{0x1000} << upto(6), upto(2) == 0};
      }
      on.add_function(device, 0, d);
    }
    host_resources host = plenty;
    host.first_bus = f.first_bus;
    std::vector<enumerated_function> list(64);
    const auto all = must(f, list, host);
    CHECK(all.size() <= functions);
    // Again, as after a warm start: the same places.
    const std::vector<enumerated_function> before(all.begin(), all.end());
    const auto again = must(f, list, host);
    REQUIRE(again.size() == before.size());
    for (std::size_t i = 0; i != before.size(); ++i) {
      CHECK(again[i].id == before[i].id);
      CHECK(again[i].bars == before[i].bars);
    }
  }
}

TEST_CASE("resources that do not fit are reported with their kind") {
  fabric f;
  f.root.add_bridge(1, 0).add_function(0, 0, disk());
  std::vector<enumerated_function> list(8);
  SUBCASE("functions") {
    const auto found = enumerate(f, plenty, std::span{list}.first(1));
    REQUIRE_FALSE(found);
    CHECK(found.error().code == errc::exhausted);
    CHECK(found.error().value == 1);
  }
  SUBCASE("buses") {
    host_resources host = plenty;
    host.last_bus = 0;
    f.root.add_function(2, 0, disk());
    const auto all = must(f, list, host);
    REQUIRE(all.size() == 2);
    REQUIRE(all[0].fault);
    CHECK(all[0].fault->code == errc::exhausted);
    CHECK(all[0].fault->index == 0);
    CHECK_FALSE(all[1].fault);
    CHECK(all[1].bars[0].address != 0);
  }
  SUBCASE("memory") {
    host_resources host = plenty;
    for (const std::uint64_t size : {0x1000U, 0U}) {
      host.memory.size = size;
      const auto all = must(f, list, host);
      REQUIRE(all.size() == 2);
      CHECK_FALSE(all[1].fault);
      REQUIRE(all[1].left_out);
      CHECK(all[1].left_out->code == errc::exhausted);
      CHECK(all[1].left_out->index == 0);
      CHECK(all[1].left_out->value == 0x4000);
      auto config = f.function(all[1].id);
      CHECK_FALSE(read_command(config)[command_register::memory_space]);
    }
  }
  SUBCASE("BARs of absurd sizes") {
    for (const unsigned shift : {33U, 48U, 62U, 63U}) {
      for (const bool prefetchable : {false, true}) {
        fabric g;
        function_description d{.vendor_id = 1};
        d.bars[0] = {bar_kind::memory64, std::uint64_t{1} << shift, prefetchable};
        d.bars[2] = d.bars[0];
        g.root.add_bridge(1, 0).add_function(0, 0, d);
        g.root.add_bridge(2, 0).add_function(0, 0, disk());
        const auto all = must(g, list);
        REQUIRE(all.size() == 4);
        const bool fits = shift == 33 && prefetchable;
        CHECK(all[2].left_out.has_value() != fits);
        CHECK_FALSE(all[3].left_out);
        CHECK(all[3].bars[0].address != 0);
      }
    }
  }
  SUBCASE("virtual functions") {
    function_description d = disk();
    d.sriov = sriov_description{.total_vfs = 0xffff, .vf_stride = 0xffff};
    d.sriov->vf_bars[0] = {bar_kind::memory64, 0x1000, false};
    f.root.add_function(5, 0, d);
    d.sriov = sriov_description{.total_vfs = 0x8000, .vf_stride = 1};
    d.sriov->vf_bars[2] = {bar_kind::memory64, std::uint64_t{1} << 50, true};
    f.root.add_function(6, 0, d);
    const auto all = must(f, list);
    REQUIRE(all.size() == 4);
    REQUIRE(all[1].left_out);
    CHECK(all[1].left_out->code == errc::exhausted);
    CHECK(all[1].left_out->index == enumerated_function::vf_buses);
    CHECK(all[1].left_out->value == 0xffff);
    REQUIRE(all[2].left_out);
    CHECK(all[2].left_out->index == 6 + 2);
    for (const std::size_t i : {1U, 2U}) {
      CHECK(all[i].sriov.offset == 0);
      CHECK(all[i].bars[0].address != 0);  // the physical function works
      CHECK_FALSE(all[i].fault);
    }
    CHECK_FALSE(all[3].left_out);
    CHECK(all[3].bars[0].address != 0);
  }
}

TEST_CASE("the largest BARs are left out until the others fit, kind by kind") {
  fabric f;
  host_resources host = plenty;
  host.memory.size = 0x100'0000;
  host.io = {0x1000, 0x1000};
  function_description d{.vendor_id = 1};
  d.bars[0] = {bar_kind::memory32, 0x80'0000};
  d.bars[1] = {bar_kind::io, 0x100};
  for (unsigned device = 1; device != 5; ++device) f.root.add_function(device, 0, d);
  d.bars[0].size = 0x1000;
  d.bars[1].size = 0x1000;
  f.root.add_function(5, 0, d);
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list, host);
  REQUIRE(all.size() == 5);
  unsigned placed = 0;
  for (std::size_t i = 0; i != 4; ++i) {
    placed += all[i].bars[0].address != 0;
    CHECK(all[i].bars[1].address != 0);
    if (all[i].bars[0].address != 0) continue;
    REQUIRE(all[i].left_out);
    CHECK(all[i].left_out->index == 0);
    CHECK_FALSE(all[i].decodes_memory);
    CHECK(all[i].decodes_io);
  }
  CHECK(placed == 1);  // two of 8 MiB would leave no byte for the small one
  CHECK(all[4].bars[0].address != 0);
  CHECK(all[4].left_out->index == 1);
  CHECK_FALSE(all[4].decodes_io);
}

TEST_CASE("bus numbers that sibling ports hold from before hide no function") {
  for (unsigned stale = 0; stale != 3 * 3 * 3 * 3; ++stale) {
    CAPTURE(stale);
    fabric f;
    f.root.add_bridge(1, 0).add_function(0, 0, disk());
    f.root.add_bridge(2, 0).add_function(0, 0, disk());
    const auto at = [&](unsigned device) -> space_image& {
      return f.root.nodes.at(static_cast<std::uint8_t>(device << 3)).config;
    };
    unsigned n = stale;
    for (const unsigned device : {1U, 2U}) {
      at(device).write8(bridge_header::secondary_bus, static_cast<std::uint8_t>(n % 3));
      at(device).write8(bridge_header::subordinate_bus, static_cast<std::uint8_t>(n / 3 % 3));
      n /= 9;
    }
    std::vector<enumerated_function> list(8);
    const auto all = must(f, list);
    REQUIRE(all.size() == 4);
    CHECK(all[2].bridge == 0);
    CHECK(all[3].bridge == 1);
  }
}

TEST_CASE("functions of a device with ARI are found along its list, up to number 255") {
  fabric f;
  bus& port = f.root.add_bridge(1, 0);
  function_description d = disk(0x1000, false);
  d.multi_function = true;
  const std::vector<unsigned> numbers{0, 3, 9, 100, 255};
  for (std::size_t i = 0; i != numbers.size(); ++i) {
    d.ari_next_function = static_cast<std::uint8_t>(i + 1 == numbers.size() ? 0 : numbers[i + 1]);
    port.add_function(numbers[i] >> 3, numbers[i] & 7, d);
  }
  d.ari_next_function = 0;
  port.add_function(0, 1, d);  // not in the list
  std::vector<enumerated_function> list(16);
  const auto all = must(f, list);
  REQUIRE(all.size() == 1 + numbers.size());
  for (std::size_t i = 0; i != numbers.size(); ++i) {
    CHECK(all[1 + i].id.bus() == 1);
    CHECK(all[1 + i].id.ari_function() == numbers[i]);
    CHECK(all[1 + i].bars[0].address != 0);
  }
  // A list that goes backwards ends there.
  d.ari_next_function = 3;
  port.nodes.erase(9);
  port.add_function(1, 1, d);
  const auto again = must(f, list);
  CHECK(again.size() == 1 + 3);

  // A port without ARI forwarding reaches eight functions, by number.
  fabric g;
  bus& plain = g.root.add_bridge(1, 0, {.vendor_id = 1, .device_id = 2, .ari_forwarding = false});
  for (const unsigned number : {0U, 1U, 7U, 9U}) {
    d.ari_next_function = 9;
    plain.add_function(number >> 3, number & 7, d);
  }
  CHECK(must(g, list).size() == 1 + 3);
}

TEST_CASE("what lies behind an I/O window of sixteen bits is placed below 64 KiB, or left out") {
  function_description d{.vendor_id = 1, .device_id = 1};
  d.bars[0] = {bar_kind::io, 0x100};
  d.bars[2] = {bar_kind::memory32, 0x1000};
  const auto wide = [](bus& on, unsigned device) {
    return static_cast<std::uint8_t>(
        on.nodes.at(static_cast<std::uint8_t>(device << 3)).config.read8(bridge_header::io_base));
  };
  for (const std::uint64_t base : {std::uint64_t{0x1000}, std::uint64_t{0xe000}}) {
    CAPTURE(base);
    fabric f;
    // A wide bridge with much I/O, and behind another wide one a narrow one.
    bus& first = f.root.add_bridge(1, 0);
    f.root.nodes.at(8).config.set8(bridge_header::io_base, 1);
    f.root.nodes.at(8).config.set8(bridge_header::io_limit, 1);
    for (unsigned i = 0; i != 8; ++i) {
      function_description big = d;
      big.bars[0].size = 0x4000;
      first.add_function(0, i, [&] {
        big.multi_function = true;
        return big;
      }());
    }
    bus& second = f.root.add_bridge(
        2, 0, {.vendor_id = 1, .device_id = 2, .express = {.type = port_type::upstream_port}});
    f.root.nodes.at(16).config.set8(bridge_header::io_base, 1);
    f.root.nodes.at(16).config.set8(bridge_header::io_limit, 1);
    second.add_bridge(0, 0).add_function(0, 0, d);  // sixteen bits
    CHECK((wide(f.root, 1) & 15) == 1);
    CHECK((wide(second, 0) & 15) == 0);
    host_resources host = plenty;
    host.io = {base, 0x4'0000};
    std::vector<enumerated_function> list(32);
    const auto found = enumerate(f, host, list);
    REQUIRE(found);
    for (const enumerated_function& e : *found) {
      if (e.is_bridge() || e.bars[0].size != 0x100) continue;
      CHECK(e.bars[0].address >= base);
      CHECK(e.bars[0].address + 0x100 <= 0x1'0000);
      CHECK_FALSE(e.left_out);
    }
  }
  // Nothing below 64 KiB at all.
  fabric f;
  f.root.add_bridge(1, 0).add_function(0, 0, d);
  host_resources host = plenty;
  host.io = {0x1'0000, 0x1'0000};
  std::vector<enumerated_function> list(4);
  const auto all = must(f, list, host);
  REQUIRE(all.size() == 2);
  CHECK(all[1].bars[0].address == 0);
  REQUIRE(all[1].left_out);
  CHECK(all[1].left_out->index == 0);
  CHECK(all[1].bars[2].address != 0);
  auto config = f.function(all[1].id);
  CHECK_FALSE(read_command(config)[command_register::io_space]);
  CHECK(read_command(config)[command_register::memory_space]);
}

TEST_CASE("I/O that could lie anywhere does not give way to what has to lie below 64 KiB") {
  // Above 64 KiB no place is left for what is behind the narrow bridge, however much is left out elsewhere.
  fabric f;
  function_description large{.vendor_id = 1, .device_id = 1};
  large.bars[0] = {bar_kind::io, 0x1000};
  function_description small = large;
  small.bars[0].size = 0x100;
  f.root.add_function(1, 0, large);
  f.root.add_bridge(2, 0).add_function(0, 0, small);
  f.root.add_bridge(3, 0).add_function(0, 0, large);
  host_resources host = plenty;
  host.io = {0x1'0000, 0x1'0000};
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list, host);
  REQUIRE(all.size() == 5);
  for (const enumerated_function& e : all) {
    if (e.is_bridge()) continue;
    const bool on_root = e.bridge == enumerated_function::on_root_bus;
    CHECK(e.left_out.has_value() != on_root);
    CHECK((e.bars[0].address != 0) == on_root);
  }
}

TEST_CASE("bridges forward DMA although functions may not do it yet, and ROMs are off") {
  fabric f;
  f.root.add_bridge(1, 0).add_function(0, 0, disk());
  space_image& rom = f.root.add_function(2, 0, disk());
  rom.set_writable(header::expansion_rom, 4, 0xffff'0001);
  rom.write32(header::expansion_rom, 0xfe00'0001);
  host_resources host = plenty;
  host.enable_bus_master = false;
  std::vector<enumerated_function> list(4);
  const auto found = enumerate(f, host, list);
  REQUIRE(found);
  REQUIRE(found->size() == 3);
  for (const enumerated_function& e : *found) {
    auto config = f.function(e.id);
    CHECK(read_command(config)[command_register::bus_master] == e.is_bridge());
  }
  CHECK((rom.read32(header::expansion_rom) & 1) == 0);
}

TEST_CASE("a fabric where every address answers as a bridge ends with its bus numbers") {
  struct hall_of_mirrors {
    std::map<std::uint16_t, space_image> functions;
    space_image& function(requester_id id) noexcept {
      const auto [at, fresh] = functions.try_emplace(id.raw());
      if (fresh) (void)emit_bridge(at->second, {.vendor_id = 1, .device_id = 2}).has_value();
      return at->second;
    }
  } mirrors;
  std::vector<enumerated_function> list(1024);
  const auto found = enumerate(mirrors, plenty, list);
  REQUIRE(found);
  CHECK(found->size() == 32 + 255);
  unsigned without = 0;
  for (const enumerated_function& e : *found) {
    if (!e.fault) continue;
    CHECK(e.fault->code == errc::exhausted);
    ++without;
  }
  CHECK(without == 32);
  std::vector<enumerated_function> few(10);
  CHECK_FALSE(enumerate(mirrors, plenty, few));
}

TEST_CASE("a function that breaks the rules is listed and left off; the others go on") {
  fabric f;
  f.root.add_function(1, 0, disk());
  space_image& broken = f.root.add_function(2, 0, disk());
  broken.set_writable(header::bar0, 4, 0xf0f0'0000);
  space_image& strange = f.root.add_function(3, 0, disk());
  strange.set8(header::header_type, 2);
  function_description looping = disk();
  looping.sriov = sriov_description{.total_vfs = 1};
  space_image& loop = f.root.add_function(4, 0, looping);
  loop.set32(0x100, 0x1001'0003);  // a serial number that is followed by itself
  f.root.add_function(5, 0, disk());
  std::vector<enumerated_function> list(8);
  const auto all = must(f, list);
  REQUIRE(all.size() == 5);
  CHECK_FALSE(all[0].fault);
  REQUIRE(all[1].fault);
  CHECK(all[1].fault->code == errc::protocol);
  REQUIRE(all[2].fault);
  CHECK(all[2].fault->code == errc::not_supported);
  REQUIRE(all[3].fault);
  CHECK(all[3].fault->code == errc::loop);
  CHECK_FALSE(all[4].fault);
  for (const std::size_t i : {1U, 2U, 3U}) {
    auto config = f.function(all[i].id);
    CHECK((config.read16(header::command) & 7) == 0);
  }
}

TEST_CASE("functions of random bytes end in a list or an error, within a bound of accesses") {
  std::mt19937 random{99};
  for (int round = 0; round != 300; ++round) {
    fabric f;
    for (unsigned device = 0; device != 8; ++device) {
      space_image& config = f.root.add(device, 0);
      for (std::uint32_t at = 0; at != 4096; at += 4) {
        config.set32(at, static_cast<std::uint32_t>(random()));
        config.set_writable(at, 4, static_cast<std::uint32_t>(random()));
      }
      if (device % 2 == 0) config.set_writable(header::bar0, 4, 0xffff'f000);
    }
    std::vector<enumerated_function> list(64);
    const auto found = enumerate(f, plenty, list);
    if (found) CHECK(found->size() == 8);
    CHECK(f.accesses < 200'000);
  }
}

TEST_CASE("forwarding of ARI that was on before is off for a device without ARI") {
  fabric f;
  f.root.add_bridge(1, 0).add_function(0, 0, disk());
  auto port = f.function(requester_id{0, 1, 0});
  const auto at = find_capability(port, capability_id::pci_express);
  REQUIRE(at);
  const auto control = static_cast<std::uint16_t>(*at + express::device_control_2);
  port.write16(control, device_control_2{}.with(device_control_2::ari_forwarding, true).raw);
  REQUIRE(device_control_2{port.read16(control)}[device_control_2::ari_forwarding]);
  std::vector<enumerated_function> list(8);
  CHECK(must(f, list).size() == 2);
  CHECK_FALSE(device_control_2{port.read16(control)}[device_control_2::ari_forwarding]);
}

TEST_CASE("an address that is rounded up beyond the end of the address space is none") {
  using pcie::detail::round_up;
  CHECK(round_up(0, 0x1000) == 0U);
  CHECK(round_up(1, 0x1000) == 0x1000U);
  CHECK(round_up(~std::uint64_t{0} - 0xfff, 0x1000) == ~std::uint64_t{0} - 0xfff);
  CHECK_FALSE(round_up(~std::uint64_t{0} - 0xffe, 0x1000));
  CHECK_FALSE(round_up(~std::uint64_t{0}, 2));
}
