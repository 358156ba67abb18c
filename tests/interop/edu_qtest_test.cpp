// SPDX-License-Identifier: BSL-1.0
// Registers that are described in a few lines, against QEMU's educational device, with no guest between.
#include "../../examples/support/edu_device.hpp"

#include <phasebit/backend/qtest.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/pcie/driver/bus32_bar.hpp>

#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>

#include <doctest/doctest.h>
#include <support/skip.hpp>

namespace qtest = phasebit::backend::qtest;
namespace edu = example::edu;
using namespace phasebit_test;
using namespace phasebit;

namespace {

constexpr std::uint64_t patience = 20'000 * nanoseconds_per_ms;

// A machine with one edu device; the test is skipped where there is no QEMU.
struct machine_with_edu {
  qtest::machine machine;
  qtest::function function;
  edu::device<qtest::bar> device;

  static machine_with_edu start(const std::string& options = "") {
    if (std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) {
      skip("qemu-system-x86_64 is not installed");
    }
    auto machine = qtest::machine::start({.devices = {"edu" + options}});
    REQUIRE_MESSAGE(machine, machine.error().what);
    auto function = machine->open_device(edu::vendor_id, edu::device_id);
    REQUIRE_MESSAGE(function, function.error().what);
    auto bar = function->map_bar(0);
    REQUIRE_MESSAGE(bar, bar.error().what);
    auto device = edu::device<qtest::bar>::attach(*bar);
    REQUIRE_MESSAGE(device, device.error().what);
    return {std::move(*machine), std::move(*function), *device};
  }
};

void fill(std::span<std::byte> bytes, unsigned seed) {
  for (std::size_t i = 0; i != bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((i * 2654435761U + seed * 40503U) >> 7);
  }
}

}  // namespace

TEST_CASE("edu reports its identification, and inverts words") {
  auto m = machine_with_edu::start();
  CHECK(m.device.version()[edu::identification::major_number] == 1);
  CHECK(m.device.version()[edu::identification::minor_number] == 0);
  CHECK(m.device.check_liveness());
}

TEST_CASE("the factorial engine is busy for a while, then returns the factorial") {
  auto m = machine_with_edu::start();
  std::uint32_t expected = 1;
  for (std::uint32_t n = 0; n != 20; ++n) {
    if (n != 0) expected *= n;  // modulo 2^32, as the device computes
    REQUIRE(m.device.start_factorial(n));
    const auto got = m.device.finish_factorial(m.function.clock(), patience);
    REQUIRE(got);
    CHECK(*got == expected);
  }
  CHECK(m.device.pending().raw == 0);

  SUBCASE("a number given meanwhile is refused, and changes nothing") {
    // Four thousand million steps: long enough to be met at work.
    REQUIRE(m.device.start_factorial(0xffff'ffff));
    const auto second = m.device.start_factorial(3);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == errc::busy);
    const auto never = m.device.finish_factorial(m.function.clock(), 1);
    REQUIRE_FALSE(never);
    CHECK(never.error().code == errc::timed_out);
  }
}

TEST_CASE("what the DMA engine reads is what it writes elsewhere") {
  auto m = machine_with_edu::start();
  const auto memory = m.function.allocate(16384, 4096);
  REQUIRE(memory);
  struct {
    std::uint32_t bytes;
    std::uint32_t at;
    std::uint32_t shift;  // of both addresses
  } const cases[] = {{4095, 0, 0}, {512, 1024, 64}, {1, 4094, 3}, {3333, 7, 13}};
  for (const auto& c : cases) {
    CAPTURE(c.bytes);
    const auto from = memory->subregion(c.shift, c.bytes);
    const auto to = memory->subregion(8192 + c.shift, c.bytes);
    fill(memory->bytes, c.bytes);
    std::vector<std::byte> expected(memory->bytes.begin(), memory->bytes.end());
    std::memcpy(expected.data() + 8192 + c.shift, expected.data() + c.shift, c.bytes);
    REQUIRE(m.device.start_read(from, c.at));
    REQUIRE(m.device.finish_dma(m.function.clock(), patience));
    REQUIRE(m.device.start_write(to, c.at));
    REQUIRE(m.device.finish_dma(m.function.clock(), patience));
    // Nothing beside the target has changed.
    CHECK(std::memcmp(memory->data(), expected.data(), expected.size()) == 0);
  }
  CHECK(m.device.pending().raw == 0);
}

TEST_CASE("a transfer that edu does not check is refused before it reaches the device") {
  auto m = machine_with_edu::start();
  const auto memory = m.function.allocate(8192, 4096);
  REQUIRE(memory);
  const auto code = [](const result<>& r) { return r ? errc{} : r.error().code; };
  CHECK(code(m.device.start_read(memory->subregion(0, 4096), 0)) == errc::out_of_range);
  CHECK(code(m.device.start_read(memory->subregion(0, 4095), 1)) == errc::out_of_range);
  CHECK(code(m.device.start_write(memory->subregion(0, 1), 4095)) == errc::out_of_range);
  CHECK(code(m.device.start_write(memory->subregion(0, 1), 0xffff'ffff)) == errc::out_of_range);
  CHECK(code(m.device.start_read(memory->subregion(0, 0), 0)) == errc::out_of_range);
  // Beyond 28 bits: the device would cut the address and write elsewhere.
  CHECK(code(m.device.start_write({memory->bytes.first(16), bus_addr{0x0fff'fff1}}, 0)) ==
        errc::out_of_range);
  CHECK(code(m.device.start_write({memory->bytes.first(16), bus_addr{~std::uint64_t{0}}}, 0)) ==
        errc::out_of_range);
  CHECK(m.device.check_liveness());
  CHECK(m.machine.status());

  SUBCASE("and a second one while the first is under way") {
    REQUIRE(m.device.start_read(memory->subregion(0, 16), 0));
    CHECK(code(m.device.start_read(memory->subregion(0, 16), 0)) == errc::busy);
    CHECK(m.device.finish_dma(m.function.clock(), patience));
  }
}

TEST_CASE(
    "both engines signal their end by an interrupt, whose cause stays set until it is "
    "acknowledged") {
  auto m = machine_with_edu::start();
  REQUIRE(m.function.interrupt_vectors() == 1);  // MSI, for edu has no MSI-X
  CHECK_FALSE(m.function.enable_interrupts(2));
  REQUIRE(m.function.enable_interrupts(1));
  CHECK_FALSE(m.function.enable_interrupts(1));
  CHECK_FALSE(m.function.poll_interrupt(0));

  REQUIRE(m.device.start_factorial(5, edu::notice::interrupt));
  CHECK(m.function.wait_interrupt(0, patience));
  CHECK(m.device.pending() ==
        edu::interrupt_status{}.with(edu::interrupt_status::factorial_done, true));
  CHECK(m.device.finish_factorial(m.function.clock(), patience).value_or(0U) == 120);
  m.device.acknowledge(m.device.pending());
  CHECK(m.device.pending().raw == 0);

  const auto memory = m.function.allocate(4096, 4096);
  REQUIRE(memory);
  REQUIRE(m.device.start_read(memory->subregion(0, 64), 0, edu::notice::interrupt));
  CHECK(m.function.wait_interrupt(0, patience));
  CHECK(m.device.pending()[edu::interrupt_status::dma_done]);
  CHECK_FALSE(m.device.pending()[edu::interrupt_status::factorial_done]);
  m.device.acknowledge(m.device.pending());

  // By hand, as a driver tests its interrupt path.
  m.device.registers().write(edu::interrupt_raise{0x40});
  CHECK(m.function.wait_interrupt(0, patience));
  CHECK(m.device.pending().raw == 0x40);
  m.device.acknowledge(edu::interrupt_status{0x40});
  CHECK(m.device.pending().raw == 0);
  CHECK_FALSE(m.function.poll_interrupt(0));

  REQUIRE(m.function.disable_interrupts());
  m.device.registers().write(edu::interrupt_raise{0x40});
  CHECK(m.device.pending().raw == 0x40);
  m.device.acknowledge(edu::interrupt_status{0x40});
  REQUIRE(m.function.enable_interrupts(1));
  CHECK_FALSE(m.function.poll_interrupt(0));
}

TEST_CASE("the same registers over a bus of 32 bits") {
  auto m = machine_with_edu::start();
  auto bar = m.function.map_bar(0);
  REQUIRE(bar);
  using narrow = pcie::bus32_bar<qtest::bar>;
  auto device = edu::device<narrow>::attach(narrow{*bar});
  REQUIRE(device);
  CHECK(device->check_liveness());
  REQUIRE(device->start_factorial(6));
  CHECK(device->finish_factorial(m.function.clock(), patience).value_or(0U) == 720);
}

TEST_CASE("another device, and one whose QEMU has ended, are refused with a message") {
  auto m = machine_with_edu::start();
  auto bar = m.function.map_bar(0);
  REQUIRE(bar);
  // The liveness register where the identification is looked for.
  qtest::bar ram = m.machine.registers(0, 1U << 20);
  const auto other = edu::device<qtest::bar>::attach(ram);
  REQUIRE_FALSE(other);
  CHECK(other.error().code == errc::not_supported);
  m.machine.stop();
  const auto gone = edu::device<qtest::bar>::attach(*bar);
  REQUIRE_FALSE(gone);
  CHECK(gone.error().code == errc::removed);
}
