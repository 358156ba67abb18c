// SPDX-License-Identifier: BSL-1.0
// Functions that appear and disappear, with 8-bit function numbers.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <cstring>
#include <optional>
#include <vector>

#include <backend/simulated/copy_engine.hpp>
#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;
using namespace phasebit_test;

namespace {

constexpr std::uint16_t total = 64;

using media_type = block::memory_media;
using namespaces = nvme::device::single_namespace<media_type>;
using driver = nvme::driver::controller<sim::function>;

sim::nvme_options options() {
  sim::nvme_options o{.device = 0};
  o.controller.io_queue_pairs = 1;
  o.controller.interrupt_vectors = 2;
  return o;
}

// An NVMe controller with 64 virtual ones, each over a disk of its own.
struct nvme_with_virtual_functions {
  std::vector<std::byte> bytes = std::vector<std::byte>((total + 1) * 64_KiB);
  std::vector<media_type> media;
  sim::fabric fabric;
  sim::port port = *fabric.add_port(1);
  std::optional<sim::device<sim::nvme_model<namespaces>>> physical;

  nvme_with_virtual_functions() {
    media.reserve(total + 1);
    for (unsigned i = 0; i != total + 1; ++i) {
      media.emplace_back(std::span{bytes}.subspan(i * 64_KiB, 64_KiB));
    }
    auto d = sim::describe_nvme(options());
    auto v = d;
    d.pci.sriov =
        pcie::sriov_description{.total_vfs = total, .vf_device_id = 0x11, .vf_bars = d.pci.bars};
    d.pci.ari_next_function = 0;
    auto made = fabric.add(
        port, d,
        [&](const sim::device_port& p) noexcept {
          return sim::nvme_model<namespaces>{p, namespaces{media[total]}, options().controller};
        },
        v,
        [this](const sim::device_port& p, unsigned index) noexcept {
          return sim::nvme_model<namespaces>{p, namespaces{media[index]}, options().controller};
        });
    REQUIRE(made);
    physical.emplace(*made);
  }
};

// Writes a block with the NVMe driver, and reads it back.
bool works(sim::function function, std::byte value) {
  auto host = driver::attach(function, {.io_queues = 1});
  if (!host) return false;
  auto queue = host->create_queue_pair<unsigned>({.depth = 4});
  const auto page = function.allocate(4096, 4096);
  if (!queue || !page) return false;
  const auto run = [&](nvme::driver::submitted posted) {
    bool good = false;
    if (!posted) return false;
    queue->ring();
    return poll_until(function.clock(), 1'000'000'000,
                      [&]() noexcept {
                        return queue->poll([&](unsigned&, nvme::driver::completion c) noexcept {
                          good = c.ok();
                        }) != 0;
                      }) &&
           good;
  };
  std::memset(page->data(), static_cast<int>(value), 512);
  const nvme::block_range range{.nsid = 1, .lba = 3, .blocks = 1};
  bool good = run(queue->write(range, page->subregion(0, 512), 0));
  std::memset(page->data(), 0, 512);
  good = good && run(queue->read(range, page->subregion(0, 512), 0)) && page->bytes[511] == value;
  function.release(*page);
  return good;
}

}  // namespace

TEST_CASE("VF Enable of 64 virtual functions makes 64 functions, each driven") {
  nvme_with_virtual_functions m;
  sim::function& pf = *m.physical;
  CHECK(pf.total_virtual_functions() == total);
  CHECK(pf.virtual_function(0).error().code == errc::not_found);
  const auto routing_id = [&](unsigned i) {
    return pcie::requester_id{static_cast<std::uint16_t>(pf.id().raw() + 1 + i)};
  };
  CHECK(m.fabric.function(routing_id(0)).read32(pcie::header::revision_id) == 0xffff'ffff);

  REQUIRE(pf.set_virtual_functions(total));
  for (unsigned i = 0; i != total; ++i) {
    CAPTURE(i);
    auto vf = pf.virtual_function(i);
    REQUIRE(vf);
    CHECK(vf->id() == routing_id(i));
    auto config = m.fabric.function(routing_id(i));
    CHECK(pcie::read_class_code(config) == 0x01'08'02);
    CHECK(config.read32(pcie::header::vendor_id) == 0xffff'ffff);  // 9.3.4.1.1
    REQUIRE(works(*vf, std::byte(i + 1)));
    CHECK(m.bytes[i * 64_KiB + 3 * 512] == std::byte(i + 1));
  }
  CHECK(pf.virtual_function(total).error().code == errc::not_found);
  CHECK(works(pf, std::byte{0xaa}));
  CHECK(m.fabric.dma_faults().count() == 0);
}

TEST_CASE("virtual functions disappear when VF Enable is cleared, and come back as new") {
  nvme_with_virtual_functions m;
  sim::function& pf = *m.physical;
  REQUIRE(pf.set_virtual_functions(8));
  auto vf = *pf.virtual_function(5);
  auto bar = *vf.map_bar(0);
  CHECK(bar.read32(nvme::vs::offset) != 0xffff'ffff);
  CHECK_FALSE(pf.virtual_function(8));
  REQUIRE(works(vf, std::byte{5}));

  REQUIRE(pf.set_virtual_functions(0));
  CHECK(vf.removed());
  CHECK(bar.read32(nvme::vs::offset) == 0xffff'ffff);
  CHECK(vf.reset().error().code == errc::removed);
  CHECK_FALSE(works(vf, std::byte{6}));
  auto config = m.fabric.function(vf.id());
  CHECK(config.read32(pcie::header::revision_id) == 0xffff'ffff);

  REQUIRE(pf.set_virtual_functions(6));
  CHECK_FALSE(vf.removed());
  CHECK(bar.read32(nvme::cc::offset) == 0);
  CHECK(works(*pf.virtual_function(5), std::byte{7}));
  // A function-level reset of the physical function takes its virtual ones with it.
  auto pf_config = pf.config();
  const auto express = pcie::find_capability(pf_config, pcie::capability_id::pci_express);
  REQUIRE(express);
  const auto control = static_cast<std::uint16_t>(*express + pcie::express::device_control);
  pf_config.write16(control, static_cast<std::uint16_t>(pf_config.read16(control) | 0x8000));
  CHECK(vf.removed());
}

TEST_CASE("VF Memory Space and ARI forwarding decide whether virtual functions answer") {
  nvme_with_virtual_functions m;
  sim::function& pf = *m.physical;
  REQUIRE(pf.set_virtual_functions(total));
  auto vf = *pf.virtual_function(20);
  auto bar = *vf.map_bar(0);
  auto config = pf.config();
  const auto c = pcie::read_sriov(config);
  REQUIRE(c);
  const auto at = static_cast<std::uint16_t>(c->offset + pcie::sriov::control);
  const std::uint16_t on = config.read16(at);
  config.write16(at, pcie::sriov_control{on}.with(pcie::sriov_control::vf_memory_space, false).raw);
  CHECK(bar.read32(nvme::vs::offset) == 0xffff'ffff);
  config.write16(at, on);
  CHECK(bar.read32(nvme::vs::offset) != 0xffff'ffff);

  // Without ARI forwarding the port lets device 0 through alone: functions 0 to 7.
  auto bridge = m.fabric.function(m.port.id());
  const auto express = pcie::find_capability(bridge, pcie::capability_id::pci_express);
  REQUIRE(express);
  bridge.write16(static_cast<std::uint16_t>(*express + pcie::express::device_control_2), 0);
  CHECK(m.fabric.function(vf.id()).read32(pcie::header::revision_id) == 0xffff'ffff);
  CHECK(m.fabric.function((*pf.virtual_function(5)).id()).read32(pcie::header::revision_id) !=
        0xffff'ffff);
}

TEST_CASE("function numbers have 8 bits with ARI, and 3 without") {
  sim::fabric fabric;
  const auto port = *fabric.add_port(1);
  auto d = copy_engine_description(0);
  d.function = 200;
  CHECK(fabric.add(port, d, make_copy_engine()).error().code == errc::invalid_argument);
  d.pci.ari_next_function = 0;
  auto made = fabric.add(port, d, make_copy_engine());
  REQUIRE(made);
  CHECK((made->id().raw() & 0xff) == 200);
  CHECK(fabric.add(port, d, make_copy_engine()).error().code == errc::already_exists);
}

TEST_CASE("routing IDs of virtual functions are not given to others") {
  sim::fabric fabric;
  const auto port = *fabric.add_port(1);
  auto other = copy_engine_description(0);
  other.function = 3;
  REQUIRE(fabric.add(port, other, make_copy_engine()));
  auto d = copy_engine_description(0);
  d.pci.sriov = pcie::sriov_description{.total_vfs = 8};
  auto v = copy_engine_description(0);
  const auto make_virtual = [](const sim::device_port& p, unsigned) noexcept {
    return copy_engine{p};
  };
  d.pci.sriov->vf_bars = v.pci.bars;
  CHECK(fabric.add(port, d, make_copy_engine(), v, make_virtual).error().code == errc::overlap);
  CHECK(fabric.add(port, d, make_copy_engine()).error().code == errc::invalid_argument);
  d.pci.sriov->first_vf_offset = 8;
  REQUIRE(fabric.add(port, d, make_copy_engine(), v, make_virtual));
}

TEST_CASE("virtual functions are switched while their device threads run") {
  nvme_with_virtual_functions m;
  sim::function& pf = *m.physical;
  REQUIRE(m.fabric.start(2));
  for (unsigned round = 0; round != 3; ++round) {
    REQUIRE(pf.set_virtual_functions(static_cast<std::uint16_t>(2 + round)));
    CHECK(works(*pf.virtual_function(round), std::byte(round + 1)));
    REQUIRE(pf.set_virtual_functions(0));
  }
  m.fabric.stop();
}

TEST_CASE("a function is claimed by one driver at a time") {
  sim::fabric fabric;
  auto device = *fabric.add(copy_engine_description(), make_copy_engine());
  sim::function same = device;
  REQUIRE(device.claim());
  CHECK(same.claim().error().code == errc::busy);
  CHECK(device.claim().error().code == errc::busy);
  same.unclaim();
  CHECK(same.claim());
}
