// SPDX-License-Identifier: BSL-1.0
#include <cstring>

#include <backend/simulated/copy_engine.hpp>
#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit_test;

namespace {

// An IOMMU of one window per function: [base, base + bytes) at `at`, read-only for odd devices.
struct window_remapper {
  pcie::requester_id mine{};
  bus_addr base{};
  host_phys at{};
  std::uint64_t bytes = 0;
  unsigned questions = 0;

  result<segment<host_space>> translate(pcie::requester_id requester, bus_addr address,
                                        std::uint64_t wanted_bytes,
                                        phasebit::access wanted) noexcept {
    ++questions;
    if (requester != mine) {
      return failure(errc::not_found, "no context for this requester", requester.raw());
    }
    const std::uint64_t offset = address - base;
    if (offset >= bytes) return failure(errc::not_mapped, "outside the window", address.value());
    if (writes(wanted) && requester.device() % 2 != 0) {
      return failure(errc::access_denied, "read-only", address.value());
    }
    // In pages, as tables do.
    const std::uint64_t page_left = 4096 - offset % 4096;
    return segment<host_space>{at + offset, wanted_bytes < page_left ? wanted_bytes : page_left};
  }
};
static_assert(sim::DmaRemapper<window_remapper>);

// Nothing between bus and memory but interrupts, which become vector 3, or are refused.
struct interrupt_remapper {
  bool refuse = false;
  static result<segment<host_space>> translate(pcie::requester_id, bus_addr address,
                                               std::uint64_t bytes, phasebit::access) noexcept {
    return segment<host_space>{host_phys{address.value()}, bytes};
  }
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id, const pcie::msi_message& message) const noexcept {
    if (refuse) return failure(errc::access_denied, "no entry for this interrupt");
    return pcie::msi_message{message.address, 3};
  }
};

struct shift_translator {
  using from = bus_space;
  using to = host_space;
  std::uint64_t offset = 0;
  result<segment<host_space>> translate(bus_addr a, std::uint64_t bytes,
                                        phasebit::access) const noexcept {
    return segment<host_space>{host_phys{a.value() + offset}, bytes};
  }
};

}  // namespace

TEST_CASE("DMA goes through a remapper, by requester, and its refusals are faults") {
  sim::fabric fabric;
  auto even = *fabric.add(copy_engine_description(4), make_copy_engine());
  auto odd = *fabric.add(copy_engine_description(5), make_copy_engine());
  const auto memory = *even.allocate(16384, 4096);
  window_remapper remapper{.mine = even.id(),
                           .base = bus_addr{0x7000'0000},
                           .at = host_phys{memory.bus.value()},
                           .bytes = memory.size()};
  sim::remapped_path path{remapper, fabric.address_map()};
  const auto iova = [&](std::uint64_t offset) { return remapper.base + offset; };

  // The rings stay where they were: they are made before the remapper is there, and lie in it.
  auto bar = *even.map_bar(0);
  const auto job = [&](bus_addr from, bus_addr to, std::uint32_t bytes) {
    const copy_job j{from.value(), to.value(), bytes, 0};
    std::memcpy(memory.data(), &j, sizeof j);
  };
  const auto set_up = [&](sim::simulated_bar registers) {
    registers.write64_lo_hi(0x10, iova(0).value());
    registers.write32(0x18, 16);
    registers.write32(0x1c, static_cast<std::uint32_t>(iova(1024).value()));
    registers.write32(0x20, 0);
  };
  fabric.set_dma_path(&path);
  set_up(bar);
  std::memset(memory.data() + 4000, 0x77, 200);  // across a page: two segments
  job(iova(4000), iova(12000), 200);
  bar.doorbell(copy_engine::doorbell).ring(1);
  CHECK(fabric.step() == 1);
  CHECK(bar.read64(8) == 1);
  CHECK(std::memcmp(memory.data() + 4000, memory.data() + 12000, 200) == 0);
  CHECK(remapper.questions > 4);
  CHECK(fabric.dma_faults().count() == 0);

  // Another function has no context.
  auto other = *odd.map_bar(0);
  set_up(other);
  other.doorbell(copy_engine::doorbell).ring(1);
  fabric.step();
  CHECK(*fabric.dma_faults().take() ==
        sim::dma_fault{odd.id(), iova(0), access::read, errc::not_found});

  // With one, it may read and not write.
  other.write32(0x18, 0);
  REQUIRE(odd.reset());
  while (fabric.dma_faults().take()) {
  }
  remapper.mine = odd.id();
  set_up(other);
  other.doorbell(copy_engine::doorbell).ring(1);
  fabric.step();
  CHECK(*fabric.dma_faults().take() ==
        sim::dma_fault{odd.id(), iova(12000), access::write, errc::access_denied});

  // A table that points outside memory is found out as well.
  remapper.mine = even.id();
  remapper.at = host_phys{0x1000};
  bar.doorbell(copy_engine::doorbell).ring(2);
  while (fabric.dma_faults().take()) {
  }
  fabric.step();
  CHECK(fabric.dma_faults().take()->reason == errc::not_mapped);
  fabric.set_dma_path(nullptr);
}

TEST_CASE("one table for all requesters is a remapper too") {
  sim::fabric fabric;
  const auto memory = *fabric.memory().allocate(256, 64);
  shift_translator shift{.offset = memory.bus.value() - 0x100};
  sim::one_table_remapper tables{shift};
  sim::remapped_path path{tables, fabric.address_map()};
  const auto part = path.translate(sim::dma_request{.requester = pcie::requester_id{9, 8, 7},
                                                    .address = bus_addr{0x110},
                                                    .wanted = access::read},
                                   1000);
  REQUIRE(part);
  CHECK(*part == segment<local_space>{to_local(memory.data() + 0x10), 240});
}

TEST_CASE("the fault log keeps the first faults and counts the others") {
  sim::dma_fault_log log;
  for (std::uint64_t i = 0; i != 100; ++i) log.record({.address = bus_addr{i}});
  CHECK(log.count() == 100);
  for (std::uint64_t i = 0; i != sim::dma_fault_log::capacity; ++i) {
    CHECK(log.take()->address == bus_addr{i});
  }
  CHECK_FALSE(log.take());
  log.record({.address = bus_addr{500}});
  CHECK(log.take()->address == bus_addr{500});
  CHECK(log.count() == 101);
}

TEST_CASE("a device reaches the plain memory of another's BAR, and not its registers") {
  sim::fabric fabric;
  auto engine = *fabric.add(copy_engine_description(4), make_copy_engine());
  auto d = copy_engine_description(5);
  d.pci.bars[2] = {.kind = pcie::bar_kind::memory64, .size = 0x1'0000, .prefetchable = true};
  d.words[2] = {.offset = 0x8000, .bytes = 0x8000};
  auto peer = *fabric.add(d, make_copy_engine());
  const auto memory = peer.bar_memory(2);
  REQUIRE(memory);
  CHECK(memory->size() == 0x8000);
  CHECK(peer.bar_memory(4).error().code == errc::not_found);
  CHECK(peer.bar_memory(6).error().code == errc::not_found);

  const auto page = *engine.allocate(4096, 4096);
  std::memset(page.data(), 0x3c, page.size());
  copy_driver<sim::function> driver{engine};
  const auto copy = [&](bus_addr from, bus_addr to) {
    driver.post(from, to, 4096);
    driver.ring();
    REQUIRE(driver.wait(100'000));
    return fabric.dma_faults().take();
  };
  CHECK_FALSE(copy(page.bus, memory->bus + 0x7000));
  CHECK(std::memcmp(memory->data() + 0x7000, page.data(), 4096) == 0);
  CHECK((*peer.map_bar(2)).read32(0xf000) == 0x3c3c'3c3c);

  // Over its end, below its beginning, and while the peer does not decode.
  CHECK(copy(page.bus, memory->bus + 0x7800)->address == memory->bus + 0x8000);
  CHECK(copy(page.bus, memory->bus - 64)->address == memory->bus - 64);
  auto config = peer.config();
  pcie::set_command(config, {});
  CHECK(copy(page.bus, memory->bus)->reason == errc::not_mapped);
  peer.insert();
  CHECK(peer.bar_memory(2).error().code == errc::not_ready);
}

TEST_CASE("interrupts go through the path as well, changed or refused") {
  sim::fabric fabric;
  auto device = *fabric.add(copy_engine_description(4), make_copy_engine());
  interrupt_remapper remapper;
  sim::remapped_path path{remapper, fabric.address_map()};
  fabric.set_dma_path(&path);
  REQUIRE(device.enable_interrupts(4));
  const auto page = *device.allocate(4096, 4096);
  copy_driver<sim::function> driver{device};
  const auto copy = [&] {
    driver.post(page.bus, page.bus, 64);
    driver.ring();
    REQUIRE(driver.wait(100'000));
  };
  copy();
  CHECK_FALSE(device.poll_interrupt(0));
  CHECK(device.poll_interrupt(3));
  remapper.refuse = true;
  copy();
  CHECK_FALSE(device.poll_interrupt(3));
  CHECK(*fabric.dma_faults().take() == sim::dma_fault{device.id(), sim::interrupt_window,
                                                      phasebit::access::write,
                                                      errc::access_denied});
}
