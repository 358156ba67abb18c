// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/spec/header.hpp>
#include <phasebit/pcie/spec/msix.hpp>

#include <cstring>

#include <backend/simulated/copy_engine.hpp>
#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;
using namespace phasebit_test;

namespace {

struct fixture {
  sim::fabric fabric;
  copy_device device = *fabric.add(copy_engine_description(), make_copy_engine());
  sim::simulated_bar bar = *device.map_bar(0);
  dma_region source = *device.allocate(4096, 4096);
  dma_region target = *device.allocate(4096, 4096);

  void set_command(bool memory_space, bool bus_master) {
    auto config = device.config();
    pcie::set_command(config, pcie::command_register{}
                                  .with(pcie::command_register::memory_space, memory_space)
                                  .with(pcie::command_register::bus_master, bus_master));
  }
};

}  // namespace

TEST_CASE_FIXTURE(fixture, "registers are the model's, in 32 and 64 bits") {
  CHECK(bar.size_bytes() == 0x2000);
  CHECK(bar.read32(0) == copy_engine::identity);
  bar.write32(4, 0x1234'5678);
  CHECK(bar.read32(4) == 0x1234'5678);
  CHECK(bar.read64(0) == (std::uint64_t{0x1234'5678} << 32 | copy_engine::identity));
}

TEST_CASE_FIXTURE(fixture, "BARs that are not there are refused, the others mapped twice alike") {
  for (unsigned index : {1U, 2U, 5U, 6U, 100U}) {
    const auto missing = device.map_bar(index);
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == errc::not_found);
    CHECK(missing.error().index == index);
  }
  auto again = *device.map_bar(0);
  again.write32(4, 99);
  CHECK(bar.read32(4) == 99);
}

TEST_CASE_FIXTURE(fixture, "a doorbell is a store that the device finds when it polls") {
  auto doorbell = bar.doorbell(copy_engine::doorbell + 8);
  doorbell.ring(0xabcd);
  CHECK(bar.read32(copy_engine::doorbell + 8) == 0xabcd);
  CHECK(device.with_model([](copy_engine& m) { return m.read32(0x18); }) == 0);
  bar.write32(copy_engine::doorbell + 8, 5);
  CHECK(bar.read32(copy_engine::doorbell + 8) == 5);
}

TEST_CASE_FIXTURE(fixture, "a driver and a device meet over ring, doorbell, DMA and interrupt") {
  copy_driver<sim::function> driver{device};
  REQUIRE(device.enable_interrupts(1));
  std::memset(source.data(), 0x5a, source.size());
  driver.post(source.bus, target.bus, 4096);
  CHECK(fabric.step() == 0);  // not rung
  driver.ring();
  CHECK_FALSE(driver.done());
  CHECK_FALSE(device.poll_interrupt(0));
  CHECK(fabric.step() == 1);
  CHECK(driver.done());
  CHECK(device.poll_interrupt(0));
  CHECK_FALSE(device.poll_interrupt(0));
  CHECK(std::memcmp(source.data(), target.data(), 4096) == 0);
  CHECK(bar.read64(8) == 1);
  CHECK(fabric.dma_faults().count() == 0);
}

TEST_CASE_FIXTURE(fixture, "DMA beside allocated memory fails, is counted and recorded") {
  copy_driver<sim::function> driver{device};
  const bus_addr nowhere{0x1000};
  driver.post(source.bus, target.bus + 4096, 64);
  driver.post(nowhere, target.bus, 64);
  device.release(target);
  driver.post(source.bus, target.bus, 64);
  driver.ring();
  REQUIRE(driver.wait(1'000'000));
  CHECK(bar.read32(0x24) == 3);
  CHECK(fabric.dma_faults().count() == 3);
  CHECK(*fabric.dma_faults().take() ==
        sim::dma_fault{device.id(), target.bus + 4096, access::write, errc::not_mapped});
  CHECK(*fabric.dma_faults().take() ==
        sim::dma_fault{device.id(), nowhere, access::read, errc::not_mapped});
  CHECK(*fabric.dma_faults().take() ==
        sim::dma_fault{device.id(), target.bus, access::write, errc::not_mapped});
  CHECK_FALSE(fabric.dma_faults().take());
  CHECK(fabric.dma_faults().count() == 3);
}

TEST_CASE_FIXTURE(fixture, "without bus mastering there is neither DMA nor an interrupt") {
  copy_driver<sim::function> driver{device};
  REQUIRE(device.enable_interrupts(1));
  set_command(true, false);
  driver.post(source.bus, target.bus, 64);
  driver.ring();
  CHECK_FALSE(driver.wait(10'000));
  CHECK(bar.read32(0x24) == 1);
  CHECK_FALSE(device.poll_interrupt(0));
  while (const auto fault = fabric.dma_faults().take()) CHECK(fault->reason == errc::not_ready);
  CHECK(fabric.dma_faults().count() == 3);  // the ring, the status word, the interrupt
}

TEST_CASE_FIXTURE(fixture, "without memory space registers read all ones") {
  set_command(false, true);
  bar.write32(4, 7);
  CHECK(bar.read32(0) == 0xffff'ffff);
  CHECK(bar.read64(0) == ~std::uint64_t{0});
  set_command(true, true);
  CHECK(bar.read32(0) == copy_engine::identity);
  CHECK(bar.read32(4) == 0);
}

TEST_CASE("a function reads as ones until it is enabled") {
  sim::fabric fabric;
  auto d = copy_engine_description();
  d.enabled = false;
  auto device = *fabric.add(d, make_copy_engine());
  auto bar = *device.map_bar(0);
  CHECK(bar.read32(0) == 0xffff'ffff);
  auto config = device.config();
  CHECK(config.read32(pcie::header::bar0) == 4);
  pcie::set_command(config,
                    pcie::command_register{}.with(pcie::command_register::memory_space, true));
  CHECK(bar.read32(0) == copy_engine::identity);
}

TEST_CASE_FIXTURE(fixture, "waiting for an interrupt steps the device, or ends at its time") {
  REQUIRE(device.enable_interrupts(2));
  CHECK_FALSE(device.wait_interrupt(0, 50'000));
  CHECK(fabric.clock().now() == 51'000);
  copy_driver<sim::function> driver{device};
  driver.post(source.bus, target.bus, 64);
  driver.ring();
  CHECK(device.wait_interrupt(0, 50'000));
  CHECK(fabric.clock().now() == 52'000);
  CHECK_FALSE(device.poll_interrupt(1));
}

TEST_CASE_FIXTURE(fixture, "interrupts go nowhere before they are enabled and after") {
  CHECK(device.interrupt_vectors() == 4);
  CHECK(device.enable_interrupts(0).error().code == errc::out_of_range);
  CHECK(device.enable_interrupts(5).error().code == errc::out_of_range);
  copy_driver<sim::function> driver{device};
  const auto copy = [&] {
    driver.post(source.bus, target.bus, 64);
    driver.ring();
    REQUIRE(driver.wait(10'000));
    return device.poll_interrupt(0);
  };
  CHECK_FALSE(copy());
  REQUIRE(device.enable_interrupts(4));
  CHECK(copy());
  REQUIRE(device.disable_interrupts());
  CHECK_FALSE(copy());
}

TEST_CASE_FIXTURE(fixture, "a masked vector waits, pending, until it is unmasked") {
  REQUIRE(device.enable_interrupts(1));
  auto config = device.config();
  const auto capability = *pcie::read_msix(config);
  auto table_bar = *device.map_bar(capability.table_bar);
  auto table = *pcie::msix_table<sim::simulated_bar>::attach(table_bar, capability);
  copy_driver<sim::function> driver{device};
  const auto copy = [&] {
    driver.post(source.bus, target.bus, 64);
    driver.ring();
    REQUIRE(driver.wait(10'000));
  };
  const auto pending = [&] { return table_bar.read32(capability.pba_offset); };

  table.mask(0);
  CHECK(table.is_masked(0));
  copy();
  CHECK_FALSE(device.poll_interrupt(0));
  CHECK(pending() == 1);
  table.unmask(0);
  CHECK(device.poll_interrupt(0));
  CHECK(pending() == 0);

  pcie::set_msix_control(config, capability, true, true);
  copy();
  CHECK_FALSE(device.poll_interrupt(0));
  CHECK(pending() == 1);
  pcie::set_msix_control(config, capability, true, false);
  CHECK(device.poll_interrupt(0));
}

TEST_CASE_FIXTURE(fixture, "a message to memory is a write of its data") {
  auto config = device.config();
  const auto capability = *pcie::read_msix(config);
  auto table = *pcie::msix_table<sim::simulated_bar>::attach(*device.map_bar(4), capability);
  const auto word = *device.allocate(4, 4);
  table.program(0, {word.bus, 0x1234'5678});
  table.unmask(0);
  pcie::set_msix_control(config, capability, true);
  copy_driver<sim::function> driver{device};
  driver.post(source.bus, target.bus, 64);
  driver.ring();
  REQUIRE(driver.wait(10'000));
  CHECK(load_wire<le<std::uint32_t>>(word.bytes) == 0x1234'5678);
  CHECK_FALSE(device.poll_interrupt(0));

  // Where no memory is, it is a fault like any other DMA.
  table.program(0, {bus_addr{0x8000}, 1});
  table.unmask(0);
  driver.post(source.bus, target.bus, 64);
  driver.ring();
  REQUIRE(driver.wait(10'000));
  CHECK(*fabric.dma_faults().take() ==
        sim::dma_fault{device.id(), bus_addr{0x8000}, access::write, errc::not_mapped});
}

TEST_CASE_FIXTURE(fixture, "reset clears the device and keeps what a kernel restores") {
  copy_driver<sim::function> driver{device};
  REQUIRE(device.enable_interrupts(1));
  bar.write32(4, 42);
  driver.doorbell().ring(3);
  auto config = device.config();
  const auto address = config.read32(pcie::header::bar0);
  REQUIRE(device.reset());
  CHECK(bar.read32(4) == 0);
  CHECK(bar.read32(copy_engine::doorbell) == 0);
  CHECK(bar.read32(0) == copy_engine::identity);
  CHECK(config.read32(pcie::header::bar0) == address);
  CHECK(device.with_model([](copy_engine& m) { return m.resets; }) == 1);
  CHECK(fabric.step() == 0);
  auto table =
      *pcie::msix_table<sim::simulated_bar>::attach(*device.map_bar(4), *pcie::read_msix(config));
  CHECK(table.is_masked(0));
}

TEST_CASE_FIXTURE(fixture, "function-level reset by configuration write forgets everything") {
  bar.write32(4, 42);
  auto config = device.config();
  const auto at = *pcie::find_capability(config, pcie::capability_id::pci_express);
  const auto control = static_cast<std::uint16_t>(at + pcie::express::device_control);
  config.write16(control, static_cast<std::uint16_t>(config.read16(control) | 0x8000));
  CHECK((config.read16(control) & 0x8000) == 0);
  CHECK(device.with_model([](copy_engine& m) { return m.resets; }) == 1);
  CHECK(bar.read32(0) == 0xffff'ffff);
  CHECK(config.read32(pcie::header::bar0) == 4);
}

TEST_CASE_FIXTURE(fixture, "a removed function is all ones, silent, and can be put back") {
  copy_driver<sim::function> driver{device};
  REQUIRE(device.enable_interrupts(1));
  device.remove();
  CHECK(device.removed());
  CHECK(bar.read32(0) == 0xffff'ffff);
  CHECK(bar.read64(8) == ~std::uint64_t{0});
  auto config = device.config();
  CHECK(pcie::is_removed(config));
  driver.post(source.bus, target.bus, 64);
  driver.ring();
  CHECK(fabric.step() == 0);
  CHECK_FALSE(driver.done());
  CHECK(device.reset().error().code == errc::removed);
  CHECK(device.enable_interrupts(1).error().code == errc::removed);

  device.insert();
  CHECK_FALSE(pcie::is_removed(config));
  CHECK(bar.read32(0) == 0xffff'ffff);  // present, but not enabled
  set_command(true, true);
  CHECK(bar.read32(0) == copy_engine::identity);
  CHECK(fabric.dma_faults().count() == 0);
}

TEST_CASE_FIXTURE(fixture, "a fault plan fails DMA, sticks bits and pulls the function out") {
  copy_driver<sim::function> driver{device};
  device.inject(sim::fault_plan{}
                    .fail_dma(1, 1, errc::access_denied)
                    .stick({.offset = 0, .mask = 0xffff, .value = 0x7777})
                    .remove_at_poll(3));
  CHECK(bar.read32(0) == 0xc0de'7777);
  driver.post(source.bus, target.bus, 64);  // translation 0 is the job, 1 its source
  driver.ring();
  CHECK(fabric.step() == 1);
  CHECK(bar.read32(0x24) == 1);
  CHECK(*fabric.dma_faults().take() ==
        sim::dma_fault{device.id(), source.bus, access::read, errc::access_denied});
  CHECK(device.injected().failed_translations == 1);
  fabric.step();
  fabric.step();
  CHECK_FALSE(device.removed());
  fabric.step();
  CHECK(device.removed());
  device.insert();
  fabric.step();
  CHECK_FALSE(device.removed());
}

TEST_CASE_FIXTURE(fixture, "what only a mistaken driver asks for ends the program") {
  using phasebit_test::breaks;
  CHECK(breaks("a doorbell is one of the BAR's plain words", [&] { (void)bar.doorbell(0x10); }));
  CHECK(breaks("a register beyond the BAR", [&] { (void)bar.read32(0x2000); }));
  CHECK(breaks("a register beyond the BAR", [&] { (void)bar.read32(0xffff'fffc); }));
  CHECK(breaks("a register is accessed at its own alignment", [&] { (void)bar.read64(4); }));
  CHECK(breaks("the function has fewer vectors", [&] { (void)device.poll_interrupt(4); }));
}
