// SPDX-License-Identifier: BSL-1.0
#include <doctest/doctest.h>
#include <iommu/remapper_cases.hpp>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::remapper_cases;

TEST_CASE_TEMPLATE("a device reaches what its tables map, and nothing else", Case, vtd_legacy,
                   amd_linear, smmu_two_level, smmu_linear, riscv_extended, riscv_base) {
  machine<Case> m;
  REQUIRE(m.pages.map(bus_addr{0x10'0000}, host_phys{0x7000'0000}, 0x3000));
  REQUIRE(m.pages.map(bus_addr{0x4000'0000}, host_phys{0x8000'0000}, 0x40'0000));
  REQUIRE(m.pages.map(bus_addr{0x20'0000}, host_phys{0x9000'0000}, 0x1000,
                      {.permission = phasebit::access::read}));

  CHECK(*m.read(0x10'0040) == segment<host_space>{host_phys{0x7000'0040}, 64});
  CHECK(m.write(0x10'1040)->begin == host_phys{0x7000'1040});
  CHECK(m.read(0x10'0fc0, 4096)->bytes == 64);  // to the page's end
  CHECK(m.write(0x4012'3456, 64)->begin == host_phys{0x8012'3456});
  CHECK(m.read(0x4012'3456, 64)->begin == host_phys{0x8012'3456});  // cached
  CHECK(m.faults.count() == 0);

  CHECK(m.write(0x20'0010).error().code == errc::access_denied);
  CHECK(m.faults.last().reason == fault_reason::no_write);
  CHECK(m.faults.last().requester == m.disk);
  CHECK(m.faults.last().address == 0x20'0010);
  CHECK(m.faults.last().domain == m.domain);
  CHECK(m.read(0x20'0010)->begin == host_phys{0x9000'0010});
  CHECK(m.write(0x20'0010).error().code == errc::access_denied);  // and with a warm cache
  CHECK(m.faults.count() == 2);

  CHECK(m.read(0x10'3000).error().code == errc::not_mapped);
  CHECK(m.faults.last().reason == fault_reason::not_mapped);
  CHECK_FALSE(m.read(0x7fff'ffff'ffff'0000));
  CHECK(m.faults.last().reason == Case::too_wide);

  // Another requester, which is not in the tables. AMD's entries of zeros let every requester pass.
  const pcie::requester_id other{4, 1, 3};
  const auto answer = m.iommu.translate(other, bus_addr{0x10'0000}, 64, phasebit::access::read);
  if constexpr (std::is_same_v<Case, amd_linear>) {
    CHECK(answer->begin == host_phys{0x10'0000});
  } else {
    CHECK_FALSE(answer);
    CHECK(m.faults.last().requester == other);
  }
}

TEST_CASE_TEMPLATE("stale translations are used until an invalidation names them", Case, vtd_legacy,
                   amd_linear, smmu_two_level, smmu_linear, riscv_extended, riscv_base) {
  machine<Case> m;
  REQUIRE(m.pages.map(bus_addr{0x10'0000}, host_phys{0x7000'0000}, 0x1000));
  REQUIRE(m.pages.map(bus_addr{0x20'0000}, host_phys{0x7100'0000}, 0x1000));
  CHECK(m.read(0x10'0000));
  CHECK(m.read(0x20'0000));
  REQUIRE(m.pages.unmap(bus_addr{0x10'0000}, 0x1000));
  REQUIRE(m.pages.unmap(bus_addr{0x20'0000}, 0x1000));
  CHECK(m.read(0x10'0000)->begin == host_phys{0x7000'0000});
  CHECK(m.faults.count() == 0);

  m.iommu.apply(command::whole_domain(m.domain + 1));
  CHECK(m.read(0x10'0000));
  command range = command::whole_domain(m.domain);
  range.by_range = true;
  range.first = 0x20'0000;
  range.last = 0x20'0fff;
  m.iommu.apply(range);
  CHECK_FALSE(m.read(0x20'0000));
  CHECK(m.read(0x10'0000));
  m.iommu.apply(command::whole_domain(m.domain));
  CHECK_FALSE(m.read(0x10'0000));
  REQUIRE(m.pages.map(bus_addr{0x10'0000}, host_phys{0x7200'0000}, 0x1000));
  CHECK(m.read(0x10'0000)->begin == host_phys{0x7200'0000});  // absence is not remembered
  REQUIRE(m.pages.unmap(bus_addr{0x10'0000}, 0x1000));
  m.iommu.apply(command::all_translations());
  CHECK_FALSE(m.read(0x10'0000));
}

TEST_CASE_TEMPLATE("a device's entry is remembered until it is invalidated", Case, vtd_legacy,
                   amd_linear, smmu_two_level, smmu_linear, riscv_extended, riscv_base) {
  machine<Case> m;
  REQUIRE(m.pages.map(bus_addr{0x10'0000}, host_phys{0x7000'0000}, 0x1000));
  CHECK(m.read(0x10'0000));
  unsigned asked = 0;
  REQUIRE(m.table.set(m.disk.raw(), Case::pass(), [&]() noexcept { ++asked; }));
  CHECK(asked != 0);
  CHECK(m.read(0x10'0000)->begin == host_phys{0x7000'0000});
  m.iommu.apply(command::one_device(0x1234));
  CHECK(m.read(0x10'0000)->begin == host_phys{0x7000'0000});
  m.iommu.apply(command::one_device(m.disk.raw()));
  CHECK(*m.read(0x10'0000, 0x10'0000) ==
        segment<host_space>{host_phys{0x10'0000}, 0x10'0000});  // as it is
  CHECK_FALSE(m.read(0x7fff'ffff'ffff'0000));                   // memory is not that wide
  CHECK(m.faults.last().reason == Case::too_wide);

  constexpr bool one_word = std::is_same_v<typename Case::format, riscv_second_stage>;
  bool first = true;
  // Shut out while it changes, unless one word is all that does (RISC-V).
  REQUIRE(m.table.set(m.disk.raw(), Case::entry(m.pages.root().value(), m.domain), [&]() noexcept {
    m.iommu.apply(command::all_devices());
    if (first) CHECK(m.read(0x10'0000).has_value() == one_word);
    first = false;
    m.iommu.apply(command::all_devices());
  }));
  CHECK(m.read(0x10'0000)->begin == host_phys{0x7000'0000});
}

TEST_CASE_TEMPLATE("an IOMMU that is off lets everything through", Case, vtd_legacy, amd_linear,
                   smmu_two_level) {
  machine<Case> m;
  auto off = m.iommu.settings();
  off.enabled = false;
  m.iommu.set(off);
  CHECK(m.read(0x1234'5678'9abc'd000, 1 << 30)->begin == host_phys{0x1234'5678'9abc'd000});
}

TEST_CASE("the modes of a RISC-V directory that are none: off refuses, bare lets through") {
  machine<riscv_extended> m;
  auto settings = m.iommu.settings();
  settings.mode = riscv::directory_mode::off;
  m.iommu.set(settings);
  CHECK_FALSE(m.read(0x1000));
  CHECK(m.faults.last().code == 256);
  settings.mode = riscv::directory_mode::bare;
  m.iommu.set(settings);
  CHECK(m.read(0x1000)->begin == host_phys{0x1000});
  settings.mode = static_cast<riscv::directory_mode>(9);
  m.iommu.set(settings);
  CHECK_FALSE(m.read(0x1000));
}

TEST_CASE(
    "scalable mode finds its way by PASID, and requests without one have the one of RID_PASID") {
  store memory;
  using arena = store::arena_type;
  auto second = *page_table<vtd_second_stage, arena>::create({}, memory.arena);
  auto first = *page_table<x86_first_stage, arena>::create({}, memory.arena);
  REQUIRE(second.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
  REQUIRE(first.map(bus_addr{0x1000}, host_phys{0x8000'0000}, 0x1000,
                    {.permission = phasebit::access::read}));
  auto pasids =
      *device_table<vtd::pasid_tables, arena>::create({.directory_bits = 9}, memory.arena);
  REQUIRE(
      pasids.set(5, vtd::pasid_entry::second_stage(second.root().value(), vtd_width::bits_48, 3)));
  REQUIRE(pasids.set(0x7000, vtd::pasid_entry::first_stage(first.root().value(), false, 4)));
  REQUIRE(pasids.set(6, vtd::pasid_entry::pass_through(4)));
  auto contexts = *device_table<vtd::scalable_tables, arena>::create({}, memory.arena);
  const pcie::requester_id disk{4, 17, 0};  // the upper half of its bus
  REQUIRE(contexts.set(
      disk.raw(), vtd::scalable_context_entry::with_directory(pasids.root().value(), 2, 5, true)));
  fault_history<> faults;
  vtd::remapping settings;
  settings.enabled = true;
  settings.mode = vtd::table_mode::scalable;
  settings.root = contexts.root().value();
  remapper<vtd::remapping, arena, fault_history<>> iommu{memory.arena, faults, settings};
  const auto ask = [&](std::uint64_t a, phasebit::access wanted, std::uint32_t pasid) {
    return iommu.translate({disk, a, wanted, true, pasid}, 16);
  };

  CHECK(iommu.translate(disk, bus_addr{0x1010}, 16, phasebit::access::write)->begin ==
        host_phys{0x7000'0010});
  CHECK(ask(0x1010, phasebit::access::write, 5)->begin == host_phys{0x7000'0010});
  CHECK(ask(0x1010, phasebit::access::read, 0x7000)->begin == host_phys{0x8000'0010});
  CHECK(ask(0x1010, phasebit::access::read, 6)->begin == host_phys{0x1010});
  CHECK(faults.count() == 0);

  CHECK_FALSE(ask(0x1010, phasebit::access::write, 0x7000));
  CHECK(faults.last().code == 0x85);
  CHECK_FALSE(ask(0x3010, phasebit::access::read, 0x7000));
  CHECK(faults.last().code == 0x71);
  CHECK_FALSE(ask(0x8000'0000'0000, phasebit::access::read, 0x7000));
  CHECK(faults.last().code == 0x80);
  CHECK_FALSE(ask(0x3010, phasebit::access::write, 5));
  CHECK(faults.last().code == 0x79);
  CHECK_FALSE(ask(0x1010, phasebit::access::read, 7));
  CHECK(faults.last().code == 0x59);  // the table is there, its entry is not
  CHECK_FALSE(ask(0x1010, phasebit::access::read, 0x4000));
  CHECK(faults.last().code == 0x51);
  CHECK_FALSE(ask(0x1010, phasebit::access::read, 0x8000));
  CHECK(faults.last().code == 0x46);
  CHECK(faults.last().has_pasid);
  CHECK(faults.last().pasid == 0x8000);

  // Invalidation of one address space leaves the others.
  REQUIRE(first.unmap(bus_addr{0x1000}, 0x1000));
  REQUIRE(second.unmap(bus_addr{0x1000}, 0x1000));
  command one;
  one.kind = command_kind::invalidate_translations;
  one.by_domain = one.by_pasid = true;
  one.domain = 4;
  one.pasid = 0x7000;
  iommu.apply(one);
  CHECK_FALSE(ask(0x1010, phasebit::access::read, 0x7000));
  CHECK(ask(0x1010, phasebit::access::read, 5));
  // Second-stage translations are kept without a PASID: one of their domain forgets them.
  one.domain = 3;
  one.pasid = 5;
  iommu.apply(one);
  CHECK_FALSE(ask(0x1010, phasebit::access::read, 5));
}

TEST_CASE(
    "device entries are forgotten by domain, and by requester with bits that are not compared") {
  const auto stale_after = [](const command& c) {
    machine<vtd_legacy> m;
    REQUIRE(m.pages.map(bus_addr{0x10'0000}, host_phys{0x7000'0000}, 0x1000));
    CHECK(m.read(0x10'0000));
    REQUIRE(m.table.set(m.disk.raw(), vtd_legacy::pass()));
    m.iommu.apply(c);
    return m.read(0x10'0000)->begin == host_phys{0x7000'0000};
  };
  command by_domain;
  by_domain.kind = command_kind::invalidate_device;
  by_domain.by_domain = true;
  by_domain.domain = machine<vtd_legacy>::domain;
  CHECK_FALSE(stale_after(by_domain));
  ++by_domain.domain;
  CHECK(stale_after(by_domain));
  constexpr std::uint16_t disk = machine<vtd_legacy>::disk.raw();
  command by_function = command::one_device(disk ^ 5U);
  CHECK(stale_after(by_function));
  by_function.device_ignore = 4;
  CHECK(stale_after(by_function));
  by_function.device_ignore = 7;
  CHECK_FALSE(stale_after(by_function));
}

TEST_CASE("AMD permissions of the device's entry and of its pages are ANDed") {
  machine<amd_linear> m;
  using dte = amd::device_table_entry;
  REQUIRE(m.pages.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
  REQUIRE(m.table.set(m.disk.raw(),
                      amd_linear::entry(m.pages.root().value(), 1).with(dte::iw, false),
                      [&]() noexcept { m.iommu.invalidate_all(); }));
  CHECK(m.read(0x1000));
  CHECK(m.write(0x1000).error().code == errc::access_denied);
  REQUIRE(m.table.set(m.disk.raw(), dte::pass_through(1, false, true),
                      [&]() noexcept { m.iommu.invalidate_all(); }));
  CHECK(m.write(0x1000));
  CHECK(m.read(0x1000).error().code == errc::access_denied);
}

TEST_CASE("a RISC-V MSI page table sends writes to interrupt files elsewhere") {
  machine<riscv_extended> m;
  const auto entries = *m.memory.arena.allocate(4096);
  // Files at 0x2800_0000 + n * 0x2000, n of two bits under the mask 0b110.
  REQUIRE(m.table.set(m.disk.raw(),
                      riscv_extended::entry(m.pages.root().value(), 1)
                          .with_msi_table(entries.at.value(), 0b110, 0x28000),
                      [&]() noexcept { m.iommu.invalidate_all(); }));
  const auto set = [&](unsigned file, const riscv::msi_entry& e) {
    replace_entry(entries.words + 2 * file, e, []() noexcept {});
  };
  set(3, riscv::msi_entry::to_file(0x5000'3000));
  const auto raise = [&](std::uint64_t address) {
    return m.iommu.remap_interrupt(m.disk, {bus_addr{address}, 42});
  };
  CHECK(*raise(0x2800'6004) == pcie::msi_message{bus_addr{0x5000'3004}, 42});
  CHECK_FALSE(raise(0x2800'2004));
  CHECK(m.faults.last().code == 262);
  set(1, riscv::msi_entry::to_file(0x5000'1000).with(riscv::msi_entry::m, riscv::msi_entry::mrif));
  CHECK_FALSE(raise(0x2800'2004));
  CHECK(m.faults.last().code == 263);
  // An address beside them is translated like any other.
  CHECK_FALSE(raise(0x2800'1004));
  CHECK(m.faults.last().code == 23);
  // A segment of a large page goes on as far as the first of them, and after the last one.
  REQUIRE(m.pages.map(bus_addr{0x2780'0000}, host_phys{0x6000'0000}, 0x0100'0000));
  const auto reach = [&](std::uint64_t address) {
    return m.iommu.translate(m.disk, bus_addr{address}, 0x10'0000, phasebit::access::read)->bytes;
  };
  CHECK(reach(0x27ff'0010) == 0x1'0000 - 0x10);
  CHECK(reach(0x27ff'0010) == 0x1'0000 - 0x10);  // cached
  CHECK(reach(0x2800'8000) == 0x10'0000);
  REQUIRE(m.pages.unmap(bus_addr{0x2780'0000}, 0x0100'0000));
  m.iommu.invalidate_all();
  // Without a second stage, too.
  REQUIRE(m.table.set(
      m.disk.raw(),
      riscv::device_context::pass_through().with_msi_table(entries.at.value(), 0b110, 0x28000),
      [&]() noexcept { m.iommu.invalidate_all(); }));
  CHECK(raise(0x2800'6004)->address == bus_addr{0x5000'3004});
  CHECK(raise(0x1234'5678)->address == bus_addr{0x1234'5678});
  // A table that is not in memory.
  REQUIRE(m.table.set(m.disk.raw(),
                      riscv::device_context::pass_through().with_msi_table(0x1000, 0b110, 0x28000),
                      [&]() noexcept { m.iommu.invalidate_all(); }));
  CHECK_FALSE(raise(0x2800'6004));
  CHECK(m.faults.last().code == 261);
}
