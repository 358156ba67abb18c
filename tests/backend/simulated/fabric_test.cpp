// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/msix.hpp>

#include <backend/simulated/copy_engine.hpp>
#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit_test;

TEST_CASE("a function is found at its place, and none elsewhere") {
  sim::fabric fabric;
  REQUIRE(fabric.add(copy_engine_description(4), make_copy_engine()));
  auto there = fabric.function(pcie::requester_id{0, 4, 0});
  CHECK(there.read16(pcie::header::vendor_id) == 0x5042);
  CHECK(pcie::read_class_code(there) == 0x12'00'00);
  for (const auto id :
       {pcie::requester_id{0, 4, 1}, pcie::requester_id{0, 5, 0}, pcie::requester_id{1, 4, 0}}) {
    auto nobody = fabric.function(id);
    CHECK(nobody.read32(0) == 0xffff'ffff);
    CHECK(nobody.read16(0) == 0xffff);
    CHECK(nobody.read8(0) == 0xff);
    nobody.write32(4, 0);
    CHECK(pcie::is_removed(nobody));
  }
}

TEST_CASE("the configuration space describes the function") {
  sim::fabric fabric;
  auto d = copy_engine_description(4);
  d.pci.bars[2] = {.kind = pcie::bar_kind::memory64, .size = 0x10'0000, .prefetchable = true};
  auto made = fabric.add(d, make_copy_engine());
  REQUIRE(made);
  auto config = made->config();

  const auto bars = pcie::size_bars(config);
  REQUIRE(bars);
  CHECK((*bars)[0].kind == pcie::bar_kind::memory64);
  CHECK((*bars)[0].size == 0x2000);
  CHECK((*bars)[0].address != 0);
  CHECK((*bars)[1].kind == pcie::bar_kind::absent);
  CHECK((*bars)[2].size == 0x10'0000);
  CHECK((*bars)[2].prefetchable);
  CHECK((*bars)[4].kind == pcie::bar_kind::memory32);
  CHECK((*bars)[4].size == 0x1000);

  const auto msix = pcie::read_msix(config);
  REQUIRE(msix);
  CHECK(msix->vectors == 4);
  CHECK(msix->table_bar == 4);
  CHECK(pcie::find_capability(config, pcie::capability_id::pci_express));
  CHECK(pcie::find_capability(config, pcie::capability_id::msi).error().code == errc::not_found);

  // Read-only registers stay what they are.
  config.write32(pcie::header::vendor_id, 0);
  config.write32(pcie::header::revision_id, 0);
  CHECK(config.read16(pcie::header::vendor_id) == 0x5042);
  CHECK(pcie::read_class_code(config) == 0x12'00'00);
}

TEST_CASE("a port leads to its bus, by the numbers that it was given") {
  sim::fabric fabric;
  const auto port = fabric.add_port(1);
  REQUIRE(port);
  CHECK(port->id() == pcie::requester_id{0, 1, 0});
  auto made = fabric.add(*port, copy_engine_description(0), make_copy_engine());
  REQUIRE(made);
  CHECK(made->id() == pcie::requester_id{1, 0, 0});
  CHECK(fabric.function(pcie::requester_id{1, 0, 0}).read16(0) == 0x5042);

  auto bridge = fabric.function(port->id());
  CHECK(pcie::header_type_register{
            bridge.read8(pcie::header::header_type)}[pcie::header_type_register::layout] ==
        pcie::header_layout::type1);
  bridge.write8(pcie::bridge_header::secondary_bus, 7);
  bridge.write8(pcie::bridge_header::subordinate_bus, 9);
  CHECK(made->id() == pcie::requester_id{7, 0, 0});
  CHECK(fabric.function(pcie::requester_id{1, 0, 0}).read16(0) == 0xffff);
  CHECK(fabric.function(pcie::requester_id{7, 0, 0}).read16(0) == 0x5042);
  CHECK(fabric.function(pcie::requester_id{8, 0, 0}).read16(0) == 0xffff);

  // Not numbered: it leads nowhere.
  bridge.write32(pcie::bridge_header::primary_bus, 0);
  CHECK(fabric.function(pcie::requester_id{7, 0, 0}).read16(0) == 0xffff);
  CHECK(fabric.function(pcie::requester_id{0, 0, 0}).read16(0) == 0xffff);
}

TEST_CASE("function 0 reports that its device has more functions") {
  sim::fabric fabric;
  REQUIRE(fabric.add(copy_engine_description(4), make_copy_engine()));
  auto config = fabric.function(pcie::requester_id{0, 4, 0});
  const auto multi = [&] { return (config.read8(pcie::header::header_type) & 0x80) != 0; };
  CHECK_FALSE(multi());
  auto d = copy_engine_description(4);
  d.function = 3;
  REQUIRE(fabric.add(d, make_copy_engine()));
  CHECK(multi());
}

TEST_CASE("functions that cannot be are refused with the reason") {
  sim::fabric fabric;
  const auto refused = [&](const sim::function_description& d) {
    const auto made = fabric.add(d, make_copy_engine());
    REQUIRE_FALSE(made);
    return made.error();
  };
  auto d = copy_engine_description();
  d.pci.bars[0].size = 0x3000;
  CHECK(refused(d).code == errc::invalid_argument);
  CHECK(refused(d).index == 0);
  d = copy_engine_description();
  d.pci.bars[1] = d.pci.bars[4];  // the upper half of BAR 0
  CHECK(refused(d).code == errc::overlap);
  d = copy_engine_description();
  d.words[0].bytes = 0x1040;
  CHECK(refused(d).code == errc::invalid_argument);
  d = copy_engine_description();
  d.words[1].bytes = 64;  // no such BAR
  CHECK(refused(d).index == 1);
  d = copy_engine_description();
  d.pci.msix->vectors = 2049;
  CHECK(refused(d).code == errc::out_of_range);
  d = copy_engine_description();
  d.register_bar = 6;
  CHECK(refused(d).code == errc::invalid_argument);
  d = copy_engine_description();
  d.device = 32;
  CHECK(refused(d).code == errc::invalid_argument);

  REQUIRE(fabric.add(copy_engine_description(), make_copy_engine()));
  CHECK(refused(copy_engine_description()).code == errc::already_exists);
  REQUIRE(fabric.add_port(1));
  CHECK(fabric.add_port(1).error().code == errc::already_exists);
}

TEST_CASE("single-step mode: time passes with steps only") {
  sim::fabric fabric{{.step_ns = 250}};
  auto clock = fabric.clock();
  CHECK(clock.now() == 0);
  fabric.step();
  clock.relax();
  CHECK(clock.now() == 500);
  CHECK_FALSE(poll_until(clock, 10'000, [] { return false; }));
  CHECK(clock.now() == 500 + 10'250);
  // While nothing happens it passes faster, the same way in every run: a minute takes a moment.
  unsigned steps = 0;
  CHECK_FALSE(poll_until(clock, 60'000'000'000, [&] {
    ++steps;
    return false;
  }));
  CHECK(steps > 10'000);
  CHECK(steps < 300'000);
}
