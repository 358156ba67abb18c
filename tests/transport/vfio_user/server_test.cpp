// SPDX-License-Identifier: BSL-1.0
// The server's responses to a client that keeps the protocol: information, interrupts, resets,
// memory that is in use while it is unmapped, DMA by messages, and clients that leave.
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/pcie/spec/express.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>
#include <transport/vfio_user/raw_client.hpp>

using namespace phasebit;
using namespace phasebit_test;
using vfu::command;

TEST_CASE("vfio-user: a server describes its function") {
  raw_client c{{.controller = {.io_queue_pairs = 4, .interrupt_vectors = 5}}};
  c.negotiate();
  REQUIRE(c.ask(command::device_get_info, vfu::device_info{16, 0, 0, 0}) == 0);
  const auto info = load_wire<vfu::device_info>(c.reply.body());
  CHECK(info.flags == (vfu::device_flag_reset | vfu::device_flag_pci));
  CHECK(info.num_irqs == vfu::irq_count);
  // A request with too little space has the offset of the capability already.
  REQUIRE(c.ask(command::device_get_region_info, vfu::region_info{32, 0, 0, 0, 0, 0}) == 0);
  auto region = load_wire<vfu::region_info>(c.reply.body());
  CHECK(c.reply.payload.size() == 32);
  CHECK(region.argsz == 64);
  CHECK(region.cap_offset == 32);
  CHECK(region.flags == 15);
  CHECK(c.reply.fds.size() == 1);
  REQUIRE(c.ask(command::device_get_region_info, vfu::region_info{64, 0, 0, 0, 0, 0}) == 0);
  region = load_wire<vfu::region_info>(c.reply.body());
  REQUIRE(c.reply.payload.size() == 64);
  const auto sparse = load_wire<vfu::sparse_mmap_header>(c.reply.body().subspan(32));
  const auto area = load_wire<vfu::sparse_mmap_area>(c.reply.body().subspan(48));
  CHECK(sparse.capability.id == vfu::sparse_mmap_capability);
  CHECK(sparse.areas == 1);
  CHECK(area.offset == 0x1000);
  CHECK(area.size == region.size - 0x1000);
  // A doorbell that is stored to the mapped pages is what a message reads back.
  {
    auto pages =
        posix::memory_mapping::shared(c.reply.fds[0].get(), 0x1000, region.offset + area.offset);
    REQUIRE(pages);
    pages->data()[8] = std::byte{42};
    CHECK(c.read32(0, 0x1008) == 42);
    CHECK(::ftruncate(c.reply.fds[0].get(), 0) != 0);  // sealed
  }
  for (std::uint32_t i = 0; i != vfu::region_count; ++i) {
    REQUIRE(c.ask(command::device_get_region_info, vfu::region_info{32, 0, i, 0, 0, 0}) == 0);
    const auto r = load_wire<vfu::region_info>(c.reply.body());
    CHECK((r.size != 0) == (i == 0 || i == 4 || i == 7));
    CHECK(r.index == i);
  }
  for (std::uint32_t i = 0; i != vfu::irq_count; ++i) {
    REQUIRE(c.ask(command::device_get_irq_info, vfu::irq_info{16, 0, i, 0}) == 0);
    CHECK(load_wire<vfu::irq_info>(c.reply.body()).count == (i == vfu::msix_irq ? 5 : 0));
  }
  CHECK((c.read32(vfu::config_region, 8) >> 8) == 0x010802);
  CHECK(c.read32(vfu::config_region, 0) == 0x0010'5042);
}

TEST_CASE("vfio-user: BARs are sized and placed in configuration space, and keep it over a reset") {
  raw_client c;
  c.negotiate();
  REQUIRE(c.write32(vfu::config_region, 0x10, 0xffff'ffff) == 0);
  CHECK((c.read32(vfu::config_region, 0x10) & ~15U) == 0xffff'c000);
  REQUIRE(c.write32(vfu::config_region, 0x10, 0xfe00'0000) == 0);
  REQUIRE(c.write(vfu::config_region, 4, std::array{std::byte{6}}) == 0);
  REQUIRE(c.ask(command::device_reset, std::span<const std::byte>{}) == 0);
  CHECK((c.read32(vfu::config_region, 0x10) & ~15U) == 0xfe00'0000);
  CHECK((c.read32(vfu::config_region, 4) & 0xffff) == 6);
}

TEST_CASE("vfio-user: interrupts are delivered, masked, kept pending and switched off") {
  raw_client c{{.controller = {.io_queue_pairs = 4, .interrupt_vectors = 5}}};
  c.negotiate();
  const std::size_t before = open_descriptors();
  {
    const auto a = event();
    const auto b = event();
    auto& irqs = c.served.host.interrupts;
    const auto set = [&](std::uint32_t flags, std::uint32_t start, std::uint32_t count,
                         std::vector<int> fds = {}, std::vector<std::byte> more = {}) {
      const vfu::irq_set s{20, flags, vfu::msix_irq, start, count};
      REQUIRE(c.ask(command::device_set_irqs, join({wire_bytes(s), more}), fds) == 0);
    };
    irqs.raise(3);  // before there is an eventfd
    set(0x24, 2, 2, {a.get(), b.get()});
    CHECK(count_of(b) == 1);
    irqs.raise(2);
    irqs.raise(2);
    CHECK(count_of(a) == 2);
    irqs.raise(5);    // no such vector
    set(0x09, 2, 1);  // mask
    irqs.raise(2);
    irqs.raise(2);
    CHECK(count_of(a) == 0);
    CHECK(c.read32(4, 0x80) == 1U << 2);  // the pending bits
    set(0x11, 2, 1);                      // unmask
    CHECK(count_of(a) == 1);
    CHECK(c.read32(4, 0x80) == 0);
    set(0x22, 2, 2, {}, {std::byte{0}, std::byte{1}});  // trigger by booleans
    CHECK(count_of(a) == 0);
    CHECK(count_of(b) == 1);
    set(0x0a, 2, 2, {}, {std::byte{0}, std::byte{1}});  // mask by booleans
    irqs.raise(2);
    irqs.raise(3);
    CHECK(count_of(a) == 1);
    CHECK(count_of(b) == 0);
    set(0x24, 3, 1);  // no eventfd: off
    set(0x12, 2, 2, {}, {std::byte{0}, std::byte{1}});
    CHECK(count_of(b) == 0);
    set(0x21, 0, 0);  // all off
    irqs.raise(2);
    CHECK(count_of(a) == 0);
    CHECK(open_descriptors() == before + 2);
  }
  // The table is memory that reads back.
  REQUIRE(c.write32(4, 0x10, 0xfee0'0000) == 0);
  CHECK(c.read32(4, 0x10) == 0xfee0'0000);
  CHECK(c.read32(4, 0x1c) == 1);  // masked, as after a reset
}

TEST_CASE("vfio-user: a function that is no bus master does no DMA") {
  host_of_queues c{true};
  REQUIRE(c.write(vfu::config_region, 4, std::array{std::byte{2}}) == 0);
  CHECK(!c.served.host.dma.map(bus_addr{base}, 16, access::read));
  REQUIRE(c.write(vfu::config_region, 4, std::array{std::byte{6}}) == 0);
  const auto there = c.served.host.dma.map(bus_addr{base + 0xffff0}, 64, access::read);
  REQUIRE(there);
  CHECK(there->bytes == 16);
  CHECK(!c.served.host.dma.map(bus_addr{base + (1 << 20)}, 1, access::read));
  const vfu::dma_map rom{sizeof rom, vfu::dma_flag_read, 0, 0x1000, 0x1000};
  REQUIRE(c.ask(command::dma_map, rom) == 0);
  CHECK(c.served.host.dma.map(bus_addr{0x1000}, 16, access::read)->domain ==
        memory_domain::unmapped);
  CHECK(c.served.host.dma.map(bus_addr{0x1000}, 16, access::write).error().code ==
        errc::access_denied);
}

TEST_CASE("vfio-user: DMA_UNMAP waits until media let go of the memory") {
  host_of_queues c{true, {.longest = 0, .hold_one_in = 1}};
  c.enable();
  c.create_io_queues();
  c.read_blocks();
  c.turn(8);
  CHECK(!c.served.device->drained());
  c.send(command::dma_unmap, wire_bytes(vfu::dma_unmap{24, 0, base, c.bytes}));
  c.turn(20);
  CHECK(!c.answered());
  CHECK(c.served.server->busy());
  CHECK(c.served.host.dma.table().size() == 1);
  c.served.media.release_all();
  c.turn(20);
  REQUIRE(c.answered());
  CHECK(c.error() == 0);
  CHECK(c.served.host.dma.table().size() == 0);
  CHECK(c.completed(1, 0));
}

TEST_CASE("vfio-user: resets wait until media let go of the memory") {
  for (const bool by_config : {false, true}) {
    host_of_queues c{true, {.longest = 0, .hold_one_in = 1, .ignore_cancel_one_in = 1}};
    c.enable();
    c.create_io_queues();
    c.read_blocks();
    c.turn(8);
    REQUIRE(!c.served.device->drained());
    if (by_config) {
      // Initiate Function Level Reset; the next message waits.
      std::uint32_t at = c.read32(vfu::config_region, pcie::header::capabilities) & 0xff;
      while ((c.read32(vfu::config_region, at) & 0xff) != 0x10) {
        at = c.read32(vfu::config_region, at) >> 8 & 0xff;
      }
      REQUIRE(c.write(vfu::config_region, at + pcie::express::device_control,
                      std::array{std::byte{0x00}, std::byte{0x80}}) == 0);
      c.send(command::region_read, wire_bytes(vfu::region_access{nvme::cc::offset, 0, 4}));
    } else {
      c.send(command::device_reset, {});
    }
    c.turn(20);
    CHECK(!c.answered());
    c.served.media.release_all();
    c.turn(20);
    REQUIRE(c.answered());
    CHECK(c.error() == 0);
    CHECK(c.read32(0, nvme::cc::offset) == 0);
    CHECK(!c.completed(1, 0));
    c.tails = {};
    std::memset(c.memory.data(), 0, 0x8000);
    c.enable();  // and it runs again
    c.create_io_queues();
  }
}
