// SPDX-License-Identifier: BSL-1.0
// The steps of firmware, with memory of this process in the place of a device's registers.
#include <phasebit/backend/mmio.hpp>
#include <phasebit/pcie/device/config_space.hpp>
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/pcie/driver/bus32_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>
#include <phasebit/pcie/spec/express.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;
namespace mmio = phasebit::backend::mmio;

namespace {

using image = pcie::config_image<4096>;

// A ConfigSpace by value, as an ECAM's function is.
struct config_view {
  image* of;
  std::uint8_t read8(std::uint16_t at) noexcept { return of->read8(at); }
  std::uint16_t read16(std::uint16_t at) noexcept { return of->read16(at); }
  std::uint32_t read32(std::uint16_t at) noexcept { return of->read32(at); }
  void write8(std::uint16_t at, std::uint8_t value) noexcept { of->write8(at, value); }
  void write16(std::uint16_t at, std::uint16_t value) noexcept { of->write16(at, value); }
  void write32(std::uint16_t at, std::uint32_t value) noexcept { of->write32(at, value); }
  static std::uint32_t size_bytes() noexcept { return 4096; }
};

// A function with registers in BAR 0, nothing in BAR 2, I/O ports in BAR 3 and memory in BAR 4.
struct device {
  device() {
    pcie::function_description about{.vendor_id = 0x1234, .device_id = 0x11e8};
    about.bars[0] = {pcie::bar_kind::memory64, 4096, false};
    about.bars[3] = {pcie::bar_kind::io, 32, false};
    about.bars[4] = {pcie::bar_kind::memory64, 65536, true};
    REQUIRE(pcie::emit_function(config, about));
    pcie::write_bar_address(config, 0, {pcie::bar_kind::memory64, false, 0, 4096},
                            to_local(registers.data()).value());
  }

  image config;
  alignas(4096) std::array<std::byte, 4096> registers{};
};

struct id : pcie::device_register<id, 0x10> {
  using device_register::device_register;
};

}  // namespace

TEST_CASE("a BAR is mapped at its register's address, which enables bus mastering") {
  const auto there = std::make_unique<device>();
  static static_arena<4096> dma;
  mmio::function f{config_view{&there->config}, dma};
  CHECK_FALSE(pcie::read_command(there->config)[pcie::command_register::bus_master]);
  auto bar = f.map_bar(0);
  REQUIRE(bar);
  CHECK(bar->size_bytes() == 4096);
  pcie::register_block block{*bar};
  block.write(id{0x0102'0304});
  CHECK(there->registers[0x10] == std::byte{4});
  const auto command = pcie::read_command(there->config);
  CHECK(command[pcie::command_register::bus_master]);
  CHECK(command[pcie::command_register::memory_space]);
  CHECK(pcie::read_bar_address(there->config, 0) == to_local(there->registers.data()).value());
  f.stop();
  CHECK_FALSE(pcie::read_command(there->config)[pcie::command_register::bus_master]);
  REQUIRE(f.map_bar(0));
  CHECK(pcie::read_command(there->config)[pcie::command_register::bus_master]);
}

TEST_CASE("regression: a BAR is sized once, for sizing switches off what is in use") {
  const auto there = std::make_unique<device>();
  static static_arena<4096> dma;
  mmio::function f{config_view{&there->config}, dma};
  REQUIRE(f.map_bar(0));
  // From now on the registers would answer as another BAR.
  there->config.set_writable(pcie::header::bar0, 4, 0);
  REQUIRE(f.map_bar(0));
  CHECK(f.map_bar(0)->size_bytes() == 4096);
}

TEST_CASE(
    "a BAR that is absent, of I/O ports, without an address or out of reach is reported as such") {
  const auto there = std::make_unique<device>();
  static static_arena<4096> dma;
  {
    mmio::function f{config_view{&there->config}, dma};
    CHECK(f.map_bar(1).error().code == errc::not_found);
    CHECK(f.map_bar(2).error().code == errc::not_found);
    CHECK(f.map_bar(6).error().code == errc::not_found);
    CHECK(f.map_bar(0xffff'ffff).error().code == errc::not_found);
    CHECK(f.map_bar(3).error().code == errc::not_supported);
    CHECK(f.map_bar(4).error().code == errc::not_ready);
    CHECK(f.map_bar(4).error().index == 4);
  }
  pcie::write_bar_address(there->config, 4, {pcie::bar_kind::memory64, true, 0, 65536},
                          0xffff'ffff'ffff'0000);
  mmio::function f{config_view{&there->config}, dma};
  CHECK(f.map_bar(4).error().code == errc::not_mapped);
}

TEST_CASE("a function that is gone, or answers what no BAR can, is an error and not mapped") {
  const auto there = std::make_unique<device>();
  static static_arena<4096> dma;
  there->config.set32(pcie::header::bar0, 0x6);  // a reserved memory type
  CHECK(mmio::function{config_view{&there->config}, dma}.map_bar(0).error().code == errc::protocol);
  there->config.set32(pcie::header::command, 0xffff'ffff);
  CHECK(mmio::function{config_view{&there->config}, dma}.map_bar(0).error().code == errc::removed);
}

TEST_CASE("the processor reaches the bus through the windows of its bridge and nowhere else") {
  std::array<std::byte, 256> low{};
  std::array<std::byte, 64> high{};
  const std::array windows{
      mmio::bus_window{bus_addr{0}, low.size(), to_local(low.data())},
      mmio::bus_window{bus_addr{0xffff'ffff'ffff'ff00}, high.size(), to_local(high.data())}};
  const auto found = mmio::find_on_bus(windows, bus_addr{0x80}, 0x80);
  REQUIRE(found);
  CHECK(found->data() == low.data() + 0x80);
  CHECK(found->size() == 0x80);
  CHECK(mmio::find_on_bus(windows, bus_addr{0}, 256)->data() == low.data());
  CHECK(mmio::find_on_bus(windows, bus_addr{0xffff'ffff'ffff'ff10}, 0x30)->data() ==
        high.data() + 0x10);
  for (const auto& [at, bytes] : {std::pair<std::uint64_t, std::uint64_t>{0x80, 0x81},
                                  {0x100, 1},
                                  {0x101, 0},
                                  {0, 0},
                                  {0xffff'ffff'ffff'ff10, 0x31},
                                  {0xffff'ffff'ffff'ff00, 0x100},
                                  {0x10, ~std::uint64_t{0}},
                                  {0xffff'ffff'ffff'feff, 1}}) {
    CAPTURE(at);
    CHECK(mmio::find_on_bus(windows, bus_addr{at}, bytes).error().code == errc::not_mapped);
  }
  CHECK(mmio::find_on_bus({}, bus_addr{0}, 64).error().code == errc::not_ready);
  CHECK(mmio::find_on_bus({}, bus_addr{~std::uint64_t{0}}, 64).error().code == errc::not_mapped);
  CHECK(mmio::find_on_bus({}, bus_addr{0x1000}, 64)->data() == pointer_of(local_addr{0x1000}));

  const auto there = std::make_unique<device>();
  static static_arena<4096> dma;
  pcie::write_bar_address(there->config, 0, {pcie::bar_kind::memory64, false, 0, 4096}, 0x10'0000);
  const std::array bridge{
      mmio::bus_window{bus_addr{0x10'0000}, 4096, to_local(there->registers.data())}};
  mmio::function f{config_view{&there->config}, dma, mmio::turn_clock<>{},
                   std::span<const mmio::bus_window>{bridge}};
  f.map_bar(0)->write32(0, 7);
  CHECK(there->registers[0] == std::byte{7});
}

TEST_CASE("registers on no PCI bus are a function too, on a bus of 32 bits if need be") {
  alignas(8) std::array<std::byte, 64> registers{};
  alignas(8) std::array<std::byte, 32> more{};
  static static_arena<8192> dma;
  mmio::function f{mmio::fixed_bars{registers, more}, dma};
  CHECK(f.map_bar(1)->size_bytes() == 32);
  CHECK(f.map_bar(2).error().code == errc::not_found);
  CHECK(f.config().read32(0) == 0xffff'ffff);
  CHECK(f.config().read8(0) == 0xff);
  CHECK(f.config().read16(0) == 0xffff);
  CHECK(f.reset().error().code == errc::not_supported);
  f.stop();

  using narrow = pcie::bus32_bar<pcie::mapped_bar, pcie::half_order::high_first>;
  auto on_axi = mmio::over<narrow>(mmio::fixed_bars{registers}, dma);
  static_assert(PcieBackend<decltype(on_axi)>);
  on_axi.map_bar(0)->write64(8, 0x1122'3344'5566'7788);
  CHECK(registers[15] == std::byte{0x11});
  CHECK(phasebit_test::breaks("a function has at most six BARs",
                              [&] { mmio::fixed_bars{more, more, more, more, more, more, more}; }));
}

TEST_CASE("DMA memory is the arena's: its own, or a region of the user's behind a BAR") {
  const auto there = std::make_unique<device>();
  static static_arena<8192> dma;
  mmio::function f{config_view{&there->config}, dma};
  const auto page = f.allocate(4096, 4096);
  REQUIRE(page);
  CHECK(page->bus.value() == to_local(page->data()).value());
  f.release(*page);

  alignas(4096) static std::array<std::byte, 8192> dram{};
  dma_arena<> on_card{{dram, bus_addr{0x8000'0000}}};
  mmio::function other{config_view{&there->config}, on_card};
  const auto ring = other.allocate(4096, 4096);
  REQUIRE(ring);
  CHECK(ring->bus >= bus_addr{0x8000'0000});
  CHECK(ring->data() == dram.data() + (ring->bus - bus_addr{0x8000'0000}));
}

TEST_CASE("a reset needs PCI Express, and does not lose the BARs") {
  const auto there = std::make_unique<device>();
  static static_arena<4096> dma;
  mmio::function f{config_view{&there->config}, dma};
  REQUIRE(f.map_bar(0));
  CHECK(f.reset().error().code == errc::not_supported);
  CHECK(pcie::read_bar_address(there->config, 0) == to_local(there->registers.data()).value());
}
