// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/simulated.hpp>

#include <string>

#include <doctest/doctest.h>

using namespace phasebit;
namespace sim = phasebit::backend::simulated;

namespace {

// The least that is a device: immovable, and every call returns the least it may.
class device_archetype {
 public:
  device_archetype() noexcept = default;
  device_archetype(const device_archetype&) = delete;
  device_archetype& operator=(const device_archetype&) = delete;
  ~device_archetype() = default;
  std::uint32_t read32(std::uint32_t offset) noexcept { return offset; }
  void write32(std::uint32_t, std::uint32_t) noexcept {}
  unsigned poll() noexcept { return 0; }
  void reset() noexcept {}
};
static_assert(sim::DeviceModel<device_archetype>);

struct may_throw : device_archetype {
  void reset() {}
};
static_assert(!sim::DeviceModel<may_throw>);
struct no_poll {
  std::uint32_t read32(std::uint32_t) noexcept { return 0; }
  void write32(std::uint32_t, std::uint32_t) noexcept {}
  void reset() noexcept {}
};
static_assert(!sim::DeviceModel<no_poll>);

// Reports its end, and has no BAR.
struct counted {
  int* alive;
  explicit counted(int& n) noexcept : alive(&n) { ++*alive; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  ~counted() { --*alive; }
  std::uint32_t read32(std::uint32_t) noexcept { return 0; }
  void write32(std::uint32_t, std::uint32_t) noexcept {}
  unsigned poll() noexcept { return 1; }
  void reset() noexcept {}
};

}  // namespace

TEST_CASE("the archetype of a device is added, read, written, polled and reset") {
  sim::fabric fabric;
  sim::function_description d{.device = 3};
  d.pci.bars[2] = {.kind = pcie::bar_kind::memory32, .size = 256};
  d.register_bar = 2;
  auto device = fabric.add(d, [](const sim::device_port&) noexcept { return device_archetype{}; });
  REQUIRE(device);
  auto bar = *device->map_bar(2);
  CHECK(bar.read32(12) == 12);
  bar.write32(12, 1);
  CHECK(fabric.step() == 0);
  CHECK(device->reset());
  CHECK(device->interrupt_vectors() == 0);
  CHECK(device->enable_interrupts(1).error().code == errc::out_of_range);
  CHECK(device->disable_interrupts().error().code == errc::not_found);
}

TEST_CASE("models are made once and end with the fabric; a refused one ends at once") {
  int alive = 0;
  {
    sim::fabric fabric;
    const auto make = [&](const sim::device_port&) noexcept { return counted{alive}; };
    REQUIRE(fabric.add({.device = 1}, make));
    CHECK(alive == 1);
    CHECK_FALSE(fabric.add({.device = 1}, make));
    CHECK(alive == 1);
    REQUIRE(fabric.add({.device = 2}, make));
    const auto port = fabric.add_port(3);
    REQUIRE(port);
    REQUIRE(fabric.add(*port, {}, make));
    CHECK(alive == 3);
    CHECK(fabric.step() == 3);
    CHECK(fabric.settle(5) == 15);
  }
  CHECK(alive == 0);
}
