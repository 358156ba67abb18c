// SPDX-License-Identifier: BSL-1.0
#include "archetypes.hpp"
#include "counted_bar.hpp"

#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;
using pcie::half_order;
using pcie::register_access;
using pcie::register_block;
using phasebit_test::counted_bar;
using accesses = std::vector<phasebit_test::bus_access>;

namespace {

// A device of this test's own.
struct identity : pcie::read_only_register<identity, 0x00> {
  using device_register::device_register;
  static constexpr field<7, 0> magic{};
  static constexpr field<31, 24> major{};
};
struct status : pcie::device_register<status, 0x04> {
  using device_register::device_register;
  static constexpr field<0> busy{};
  static constexpr field<7> interrupt{};
};
struct events
    : pcie::device_register<events, 0x08, std::uint32_t, register_access::write_one_to_clear> {
  using device_register::device_register;
};
struct kick : pcie::write_only_register<kick, 0x0c> {
  using device_register::device_register;
};
struct source : pcie::device_register<source, 0x10, std::uint64_t> {
  using device_register::device_register;
};
struct target : pcie::device_register<target, 0x18, std::uint64_t> {
  using device_register::device_register;
  static constexpr half_order halves = half_order::high_first;
};
struct queue_base : pcie::device_register<queue_base, 0x40, std::uint64_t> {
  using device_register::device_register;
  static constexpr std::uint32_t count = 4;
  static constexpr std::uint32_t stride = 16;
};
struct queue_tail : pcie::device_register<queue_tail, 0x48> {
  using device_register::device_register;
  static constexpr std::uint32_t count = 4;
  static constexpr std::uint32_t stride = 16;
};

static_assert(pcie::DeviceRegister<status> && pcie::DeviceRegister<nvme::cap>);
static_assert(!pcie::DeviceRegister<int> && !pcie::DeviceRegister<pcie::command_register>);
static_assert(sizeof(status) == 4 && sizeof(source) == 8);

// Interleaved by their strides, and yet apart.
static_assert(pcie::detail::all_apart<identity, status, events, source, queue_base, queue_tail>());
struct inside : pcie::device_register<inside, 0x14> {
  using device_register::device_register;
};
struct under_second_tail : pcie::device_register<under_second_tail, 0x58> {
  using device_register::device_register;
};
static_assert(!pcie::detail::all_apart<status, source, inside>());
static_assert(!pcie::detail::all_apart<queue_base, under_second_tail, queue_tail>());

template <class Bar>
auto block_of(Bar bar, std::uint32_t base = 0) {
  auto made = register_block<Bar>::template attach<identity, status, events, kick, source, target,
                                                   queue_base, queue_tail>(bar, base);
  REQUIRE(made);
  return *made;
}

}  // namespace

TEST_CASE("a read is one load and a write one store, of the register's own width and place") {
  phasebit_test::counted_registers device;
  device.words[1] = 0x81;
  auto block = block_of(counted_bar{device});
  const auto s = block.read<status>();
  CHECK(s[status::busy]);
  CHECK(s[status::interrupt]);
  CHECK(s[status::busy]);
  block.write(kick{5});
  CHECK(block.read<source>().raw == 0);
  CHECK(device.log == accesses{{'r', 32, 4, 0x81}, {'w', 32, 12, 5}, {'r', 64, 16, 0}});
}

TEST_CASE("two reads are two loads, and an unused value is read, too") {
  phasebit_test::counted_registers device;
  auto block = block_of(counted_bar{device});
  (void)block.read<status>();
  (void)block.read<status>();
  CHECK(device.log.size() == 2);
}

TEST_CASE("a block lies at its base, and each instance of a register at its stride") {
  phasebit_test::counted_registers device;
  auto block = block_of(counted_bar{device}, 0x40);
  block.write(3, queue_tail{7});
  block.write(status{1});
  block.doorbell<queue_tail>(1).ring(9);
  block.doorbell<kick>().ring(2);
  (void)block.read<queue_base>(2);
  CHECK(device.log == accesses{{'w', 32, 0x40 + 0x78, 7},
                               {'w', 32, 0x44, 1},
                               {'w', 32, 0x40 + 0x58, 9},
                               {'w', 32, 0x4c, 2},
                               {'r', 64, 0x40 + 0x60, 0}});
}

TEST_CASE("modify reads once, changes the given fields and writes once") {
  phasebit_test::counted_registers device;
  device.words[1] = 0xff00'0001;
  auto block = block_of(counted_bar{device});
  const status written = block.modify<status>(status::interrupt, true);
  CHECK(written.raw == 0xff00'0081);
  CHECK(device.log == accesses{{'r', 32, 4, 0xff00'0001}, {'w', 32, 4, 0xff00'0081}});
  CHECK(block.modify<status>([](status was) noexcept { return status{was.raw >> 4}; }).raw ==
        0xff0'0008);
}

TEST_CASE("a wide register goes in the halves that it names, else low half first or whole") {
  phasebit_test::counted_registers device;
  auto block = block_of(counted_bar{device});
  block.write(target{0x1'0000'0002});
  block.write(source{0x3'0000'0004});
  (void)block.read<target>();
  CHECK(device.log == accesses{{'w', 32, 0x1c, 1},
                               {'w', 32, 0x18, 2},
                               {'w', 32, 0x10, 4},
                               {'w', 32, 0x14, 3},
                               {'r', 32, 0x1c, 1},
                               {'r', 32, 0x18, 2}});
  device.log.clear();
  using narrow = pcie::bus32_bar<counted_bar, half_order::high_first>;
  auto behind = block_of(narrow{counted_bar{device}});
  behind.write(source{0x5'0000'0006});
  CHECK(device.log == accesses{{'w', 32, 0x14, 5}, {'w', 32, 0x10, 6}});
}

TEST_CASE("a snapshot reads each register once, in the order of its list") {
  phasebit_test::counted_registers device;
  device.words[0] = 0x0200'00ed;
  device.words[2] = 3;
  auto block = block_of(counted_bar{device});
  const auto [e, id, s] = block.snapshot<events, identity, status>();
  CHECK(id[identity::magic] == 0xed);
  CHECK(id[identity::major] == 2);
  CHECK(e.raw == 3);
  CHECK(s.raw == 0);
  CHECK(device.log == accesses{{'r', 32, 8, 3}, {'r', 32, 0, 0x0200'00ed}, {'r', 32, 4, 0}});
}

TEST_CASE("waiting gives the value that was waited for, or nothing when time is up") {
  phasebit_test::counted_registers device;
  device.words[1] = 0x80;
  device.answers = {{4, 1}, {4, 0x81}};
  auto block = block_of(counted_bar{device});
  const auto idle = [](status s) noexcept { return !s[status::busy]; };
  const auto done = block.wait_for<status>(phasebit_test::clock_archetype{}, 1'000'000'000, idle);
  REQUIRE(done);
  CHECK(done->raw == 0x80);
  CHECK(device.log.size() == 3);
  device.words[1] = 1;
  CHECK_FALSE(block.wait_for<status>(phasebit_test::clock_archetype{}, 100'000'000, idle));
}

TEST_CASE("a BAR that is too small is reported before the first read") {
  phasebit_test::counted_registers device;
  using block = register_block<counted_bar>;
  // The last tail's word ends at 0x7c, the BAR at 0x100.
  CHECK(block::attach<queue_tail>(counted_bar{device}, 0x80));
  for (const std::uint32_t base : {0x88U, 0x100U, 0xffff'fff8U}) {
    const auto beyond = block::attach<queue_tail>(counted_bar{device}, base);
    REQUIRE_FALSE(beyond);
    CHECK(beyond.error().code == errc::not_supported);
    CHECK(beyond.error().value == 256);
  }
  CHECK_FALSE(register_block<pcie::mapped_bar>::attach<identity>(pcie::mapped_bar{}));
  CHECK(device.log.empty());
}

TEST_CASE("an index beyond the registers there are is the caller's mistake") {
  phasebit_test::counted_registers device;
  auto block = block_of(counted_bar{device});
  const char* fewer = "the device has fewer of these registers";
  CHECK(phasebit_test::breaks(fewer, [&] { (void)block.read<queue_base>(4); }));
  CHECK(phasebit_test::breaks(fewer, [&] { block.write(4, queue_tail{}); }));
  CHECK(phasebit_test::breaks(fewer, [&] { (void)block.doorbell<queue_tail>(4); }));
  CHECK(phasebit_test::breaks("a block of registers begins at a multiple of 8", [&] {
    register_block<counted_bar>{counted_bar{device}, 4};
  }));
}

TEST_CASE("a block requires no more of a bar than the concept, and accepts NVMe's registers") {
  register_block<phasebit_test::mmio_archetype> block{{}};
  CHECK(block.read<nvme::cap>().raw == ~std::uint64_t{0});
  block.write(nvme::cc{1});
  block.doorbell<nvme::cc>().ring(0);
  CHECK(block.bar().size_bytes() == 4096);
  CHECK(block.base() == 0);

  alignas(8) std::array<std::byte, 64> bytes{};
  register_block<pcie::mapped_bar> mapped{pcie::mapped_bar{bytes}};
  mapped.write(source{0x0102'0304'0506'0708});
  CHECK(bytes[0x10] == std::byte{8});
  CHECK(bytes[0x17] == std::byte{1});
  CHECK(mapped.read<source>().raw == 0x0102'0304'0506'0708);
}
