// SPDX-License-Identifier: BSL-1.0
// The isolation of devices, processes and interrupt files.
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>

#include <doctest/doctest.h>
#include <iommu/page_table_harness.hpp>
#include <iommu/remapper_cases.hpp>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::remapper_cases;

namespace {

// A disk with second-stage tables and an MSI page table: interrupt files at 0x2800_0000 + n * 0x2000.
struct msi_machine : machine<riscv_extended> {
  table_page<host_space> entries = *memory.arena.allocate(4096);

  void set(const riscv::device_context& c) {
    REQUIRE(table.set(disk.raw(), c, [&]() noexcept { iommu.invalidate_all(); }));
  }
  msi_machine() {
    set(riscv_extended::entry(pages.root().value(), 1)
            .with_msi_table(entries.at.value(), 0b110, 0x28000));
    set_file(3, riscv::msi_entry::to_file(0x5000'3000));
  }
  void set_file(unsigned file, const riscv::msi_entry& e) {
    replace_entry(entries.words + 2 * file, e, []() noexcept {});
  }
};

}  // namespace

TEST_CASE(
    "RISC-V: a write to an interrupt file goes there although a cached large page covers it") {
  msi_machine m;
  REQUIRE(m.pages.map(bus_addr{0x2800'0000}, host_phys{0x7000'0000}, 0x20'0000));
  REQUIRE(m.pages.lookup(bus_addr{0x2800'0000}).page_shift == 21);
  CHECK(m.write(0x2810'0000)->begin == host_phys{0x7010'0000});  // now the page is cached
  CHECK(m.write(0x2800'6004, 4)->begin == host_phys{0x5000'3004});
  CHECK(m.write(0x2800'6004, 4)->begin == host_phys{0x5000'3004});
  CHECK_FALSE(m.write(0x2800'2004, 4));  // a file without an entry
  CHECK(m.faults.last().code == 262);
  // A segment ends where an interrupt file may begin, with a warm cache and with a cold one.
  CHECK(*m.read(0x2800'5f00, 0x1000) == segment<host_space>{host_phys{0x7000'5f00}, 0x100});
  m.iommu.invalidate_all();
  CHECK(*m.read(0x2800'5f00, 0x1000) == segment<host_space>{host_phys{0x7000'5f00}, 0x100});
  CHECK(m.read(0x2801'0000, 0x10000)->bytes == 0x10000);  // beyond the last file
  // An entry of the MSI page table is read for each message.
  m.set_file(3, riscv::msi_entry::to_file(0x5000'9000));
  CHECK(m.write(0x2800'6004, 4)->begin == host_phys{0x5000'9004});
}

TEST_CASE("RISC-V: devices of one domain have interrupt files of their own") {
  msi_machine m;
  const pcie::requester_id other{1, 2, 0};
  const auto second = *m.memory.arena.allocate(4096);
  REQUIRE(m.table.set(other.raw(), riscv_extended::entry(m.pages.root().value(), 1)
                                       .with_msi_table(second.at.value(), 0b110, 0x28000)));
  replace_entry(second.words + 6, riscv::msi_entry::to_file(0x6000'3000), []() noexcept {});
  CHECK(m.write(0x2800'6004, 4)->begin == host_phys{0x5000'3004});
  CHECK(m.iommu.translate(other, bus_addr{0x2800'6004}, 4, phasebit::access::write)->begin ==
        host_phys{0x6000'3004});
}

TEST_CASE("RISC-V: the index of an interrupt file is joined to the table's address by OR") {
  msi_machine m;
  // 512 files in a table of 8 KiB that lies at an odd page.
  const auto pair = *m.memory.arena.allocate(16384);
  const std::uint64_t odd = pair.at.value() + 0x1000;
  m.set(riscv_extended::entry(m.pages.root().value(), 1).with_msi_table(odd, 0x1ff, 0x28000));
  // File 256: the sum would be the page after, the OR is the odd page itself.
  replace_entry(m.memory.words(odd), riscv::msi_entry::to_file(0x5000'7000), []() noexcept {});
  CHECK(m.write(0x2810'0000, 4)->begin == host_phys{0x5000'7000});
}

TEST_CASE("RISC-V: page numbers that the machine does not have are access faults") {
  machine<riscv_extended> m;
  auto settings = m.iommu.settings();
  settings.address_bits = 41;
  m.iommu.set(settings);
  REQUIRE(m.pages.map(bus_addr{0x1000}, host_phys{std::uint64_t{1} << 41}, 0x1000));
  REQUIRE(m.pages.map(bus_addr{0x2000}, host_phys{std::uint64_t{1} << 41}, 0x1000,
                      {.permission = phasebit::access::read}));
  for (int round = 0; round != 2; ++round) {
    CHECK_FALSE(m.read(0x1000));
    CHECK(m.faults.last().code == 5);
    CHECK_FALSE(m.write(0x1000));
    CHECK(m.faults.last().code == 7);
    // Permissions are looked at before memory is.
    CHECK_FALSE(m.write(0x2000));
    CHECK(m.faults.last().code == 23);
  }
  // Neither stage: the address itself.
  REQUIRE(m.table.set(m.disk.raw(), riscv_extended::pass(),
                      [&]() noexcept { m.iommu.invalidate_all(); }));
  CHECK_FALSE(m.read(std::uint64_t{1} << 41));
  CHECK(m.faults.last().code == 5);
}

TEST_CASE("RISC-V: resource and monitoring ids are reserved without QOSID") {
  using dc = riscv::device_context;
  machine<riscv_extended> m;
  REQUIRE(m.pages.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
  const auto good = riscv_extended::entry(m.pages.root().value(), 1);
  for (const bool capable : {false, true}) {
    auto settings = m.iommu.settings();
    settings.qosid = capable;
    m.iommu.set(settings);
    for (const auto& c : {good.with(dc::rcid, 1), good.with(dc::mcid, 0x800)}) {
      REQUIRE(m.table.set(m.disk.raw(), c, [&]() noexcept { m.iommu.invalidate_all(); }));
      CHECK(m.read(0x1000).has_value() == capable);
      if (!capable) CHECK(m.faults.last().code == 259);
    }
  }
}

TEST_CASE("RISC-V: a process directory in bare mode leaves the second stage alone") {
  using dc = riscv::device_context;
  machine<riscv_extended> m;
  REQUIRE(m.pages.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
  const auto good = riscv_extended::entry(m.pages.root().value(), 1);
  const auto set = [&](const dc& c) {
    REQUIRE(m.table.set(m.disk.raw(), c, [&]() noexcept { m.iommu.invalidate_all(); }));
  };
  const auto with_process = [&] {
    return m.iommu.translate({m.disk, 0x1000, phasebit::access::read, true, 7}, 16);
  };
  set(good.with(dc::pdtv, true));
  CHECK(m.read(0x1000)->begin == host_phys{0x7000'0000});
  CHECK(with_process()->begin == host_phys{0x7000'0000});
  set(good.with(dc::pdtv, true).with(dc::dpe, true));
  CHECK(m.read(0x1000)->begin == host_phys{0x7000'0000});
  set(good.with(dc::pdtv, true).with(dc::fsc_mode, 1));  // PD8, which this IOMMU lacks
  CHECK_FALSE(m.read(0x1000));
  CHECK(m.faults.last().code == 259);
  set(good.with(dc::dpe, true));  // a default process without processes
  CHECK_FALSE(m.read(0x1000));
  CHECK(m.faults.last().code == 259);
  set(good);
  CHECK_FALSE(with_process());
  CHECK(m.faults.last().code == 260);
}

TEST_CASE("a request with PASID 0 is not one without") {
  machine<vtd_legacy> m;
  REQUIRE(m.pages.map(bus_addr{0x10'0000}, host_phys{0x7000'0000}, 0x1000));
  CHECK(m.read(0x10'0000));
  CHECK_FALSE(m.iommu.translate({m.disk, 0x10'0000, phasebit::access::read, true, 0}, 16));
}

TEST_CASE("two processes of one domain have translations of their own") {
  store memory;
  using arena = store::arena_type;
  auto a = *page_table<x86_first_stage, arena>::create({}, memory.arena);
  auto b = *page_table<x86_first_stage, arena>::create({}, memory.arena);
  REQUIRE(a.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
  REQUIRE(b.map(bus_addr{0x1000}, host_phys{0x8000'0000}, 0x1000));
  auto processes =
      *device_table<vtd::pasid_tables, arena>::create({.directory_bits = 9}, memory.arena);
  REQUIRE(processes.set(5, vtd::pasid_entry::first_stage(a.root().value(), false, 4)));
  REQUIRE(processes.set(6, vtd::pasid_entry::first_stage(b.root().value(), false, 4)));
  auto contexts = *device_table<vtd::scalable_tables, arena>::create({}, memory.arena);
  const pcie::requester_id disk{4, 17, 0};
  REQUIRE(contexts.set(disk.raw(), vtd::scalable_context_entry::with_directory(
                                       processes.root().value(), 2, 5, true)));
  fault_history<> faults;
  vtd::remapping settings;
  settings.enabled = true;
  settings.mode = vtd::table_mode::scalable;
  settings.root = contexts.root().value();
  remapper<vtd::remapping, arena, fault_history<>> iommu{memory.arena, faults, settings};
  for (int round = 0; round != 2; ++round) {
    CHECK(iommu.translate({disk, 0x1000, phasebit::access::read, true, 5}, 16)->begin ==
          host_phys{0x7000'0000});
    CHECK(iommu.translate({disk, 0x1000, phasebit::access::read, true, 6}, 16)->begin ==
          host_phys{0x8000'0000});
  }
}

TEST_CASE("a device without a second stage shares no cached addresses with a domain 0") {
  machine<riscv_extended> m;
  const auto e = *m.memory.arena.allocate(4096);
  const pcie::requester_id other{1, 2, 0};
  const auto forget = [&]() noexcept { m.iommu.invalidate_all(); };
  REQUIRE(m.table.set(
      other.raw(),
      riscv::device_context::pass_through().with_msi_table(e.at.value(), 0b110, 0x28000), forget));
  REQUIRE(m.table.set(m.disk.raw(), riscv_extended::entry(m.pages.root().value(), 0), forget));
  CHECK(m.iommu.translate(other, bus_addr{0x1234'5000}, 16, phasebit::access::read));
  CHECK_FALSE(m.read(0x1234'5000, 16));
}

TEST_CASE("invalidating a second-stage range forgets nested translations of the whole domain") {
  iotlb<16, 4> cache;
  page_lookup<host_space> found;
  found.status = walk_status::mapped;
  found.page_shift = 12;
  found.permissions = 3;
  found.page = host_phys{0x9000};
  cache.insert({7, 0}, bus_addr{0x5000}, found);
  command c = command::whole_domain(7);
  c.by_range = true;
  c.first = 0x100000;
  c.last = 0x100fff;
  c.stage = translation_stage::second;
  invalidate_cache(cache, c, true);
  iotlb_hit<host_space> hit;
  CHECK_FALSE(cache.find({7, 0}, bus_addr{0x5000}, hit));
}

TEST_CASE("a device table that is given back leaves nothing in the memory of the next one") {
  store memory;
  using arena = store::arena_type;
  {
    auto table = *device_table<vtd::legacy_tables, arena>::create({}, memory.arena);
    REQUIRE(table.set(0x100, vtd_legacy::pass()));
    REQUIRE(table.set(0x108, vtd_legacy::pass()));
  }
  auto table = *device_table<vtd::legacy_tables, arena>::create({}, memory.arena);
  REQUIRE(table.set(0x110, vtd_legacy::pass()));
  for (const auto& word : table.get(0x108).words) CHECK(word.get() == 0);
}

TEST_CASE("an arena finds no table that reaches past its end") {
  page_table_harness::table_store<vtd_second_stage> r(8);
  host_phys last{};
  for (;;) {
    const auto page = r.arena.allocate(4096);
    if (!page) break;
    if (last < page->at) last = page->at;
  }
  CHECK(r.arena.find(last, 4096) != nullptr);
  CHECK(r.arena.find(last, 8192) == nullptr);
}
