// SPDX-License-Identifier: BSL-1.0
#include <doctest/doctest.h>
#include <iommu/remapper_cases.hpp>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::remapper_cases;

namespace {

// VT-d with a table of 16 entries, of which the first two pages of memory are the whole.
struct vtd_machine : machine<vtd_legacy> {
  table_page<host_space> entries = *memory.arena.allocate(4096);

  vtd_machine() {
    configure([](vtd::remapping&) noexcept {});
  }
  template <class Change>
  void configure(Change&& change) {
    auto s = iommu.settings();
    s.remap_interrupts = true;
    s.compatibility = false;
    s.extended = false;
    s.interrupt_table = entries.at.value();
    s.log2_interrupts = 4;
    change(s);
    iommu.set(s);
    iommu.invalidate_all();
  }
  void set(unsigned index, const vtd::interrupt_entry& e) {
    replace_entry(entries.words + 2 * index, e,
                  [&]() noexcept { iommu.apply(command::interrupt_entries(index, index)); });
  }
  static pcie::msi_message message(std::uint16_t handle, bool subhandles = false,
                                   std::uint32_t data = 0) {
    return {bus_addr{vtd::remappable_address::of(handle, subhandles).raw}, data};
  }
  auto raise(const pcie::msi_message& m, pcie::requester_id from = disk) {
    return iommu.remap_interrupt(from, m);
  }
  unsigned refused(const pcie::msi_message& m, pcie::requester_id from = disk) {
    const std::size_t before = faults.count();
    CHECK_FALSE(raise(m, from));
    if (faults.count() == before) return 0;
    CHECK(faults.last().interrupt);
    return faults.last().code;
  }
};

struct amd_machine : machine<amd_linear> {
  table_page<host_space> entries = *memory.arena.allocate(4096);

  amd_machine() { use(entries.at.value(), 4); }
  void use(std::uint64_t at, unsigned log2) {
    set(amd_linear::entry(pages.root().value(), domain).with_interrupts(at, log2));
  }
  void set(const amd::device_table_entry& e) {
    REQUIRE(table.set(disk.raw(), e, []() noexcept {}));
    iommu.invalidate_all();
  }
  void narrow(unsigned index, amd::interrupt_entry e) {
    table_word& w = entries.words[index / 2];
    const unsigned shift = index % 2 * 32;
    w = (w & ~(std::uint64_t{0xffff'ffff} << shift)) | std::uint64_t{e.raw} << shift;
    iommu.apply(command::device_interrupts(disk.raw()));
  }
  auto raise(std::uint32_t data) {
    return iommu.remap_interrupt(disk, {bus_addr{0xfee0'0000}, data});
  }
  amd::event_code refused(std::uint32_t data) {
    CHECK_FALSE(raise(data));
    CHECK(faults.last().interrupt);
    return static_cast<amd::event_code>(faults.last().code);
  }
};

}  // namespace

TEST_CASE("VT-d: a remappable message becomes the interrupt of its entry") {
  vtd_machine m;
  m.set(3, vtd::interrupt_entry::fixed(0x41, 5, m.disk.raw()));
  CHECK(*m.raise(m.message(3)) == pcie::msi_message{bus_addr{0xfee0'5000}, 0x41});
  CHECK(*m.raise(m.message(1, true, 2)) == pcie::msi_message{bus_addr{0xfee0'5000}, 0x41});
  using entry = vtd::interrupt_entry;
  m.set(4, entry::fixed(0x42, 1, m.disk.raw())
               .with(entry::dm, true)
               .with(entry::rh, true)
               .with(entry::tm, true)
               .with(entry::dlm, 1));
  CHECK(*m.raise(m.message(4)) == pcie::msi_message{bus_addr{0xfee0'100c}, 0xc142});
  CHECK(m.faults.count() == 0);
  // Wide destinations.
  m.configure([](auto& s) noexcept { s.extended = true; });
  m.set(5, entry::fixed(0x43, 0x1234'56, m.disk.raw(), true));
  CHECK(*m.raise(m.message(5)) == pcie::msi_message{bus_addr{0x0012'3400'fee5'6000}, 0x43});
  // Off: as it is.
  m.configure([](auto& s) noexcept { s.remap_interrupts = false; });
  CHECK(*m.raise(m.message(9)) == m.message(9));
}

TEST_CASE("VT-d: each reason to refuse an interrupt has its number") {
  using entry = vtd::interrupt_entry;
  vtd_machine m;
  const auto good = entry::fixed(0x41, 5, m.disk.raw());
  m.set(3, good);
  CHECK(m.refused({bus_addr{0xfee0'0000}, 0x41}) == 0x25);  // compatibility format
  CHECK(m.refused(m.message(3, true, 0x1'0000)) == 0x20);
  CHECK(m.refused(m.message(16)) == 0x21);
  CHECK(m.faults.last().address == 16);
  CHECK(m.refused(m.message(15, true, 0xffff)) == 0x21);  // the sum does not wrap
  CHECK(m.refused(m.message(7)) == 0x22);
  m.set(7, entry{}.with(entry::fpd, true));
  CHECK(m.refused(m.message(7)) == 0);  // suppression applies even in an absent entry
  CHECK(m.refused(m.message(3), pcie::requester_id{4, 1, 3}) == 0x26);
  for (const auto& bad : {good.with(entry::im, true), good.with(entry::dlm, 3),
                          good.with(entry::svt, static_cast<vtd::source_validation>(3)),
                          good.with(entry::dst, 0x1'0000), good.with(entry::urg, true)}) {
    m.set(8, bad);
    CHECK(m.refused(m.message(8)) == 0x24);
  }
  m.configure([](auto& s) noexcept { s.compatibility = true; });
  CHECK(m.raise({bus_addr{0xfee0'0000}, 0x41})->data == 0x41);
  m.configure([](auto& s) noexcept { s.compatibility = s.extended = true; });
  CHECK(m.refused({bus_addr{0xfee0'0000}, 0x41}) == 0x25);
  m.configure([](auto& s) noexcept { s.interrupt_table = 0x1000; });
  CHECK(m.refused(m.message(3)) == 0x23);
}

TEST_CASE("VT-d: an interrupt's source is verified as its entry requires") {
  using entry = vtd::interrupt_entry;
  vtd_machine m;
  const auto with = [&](vtd::source_validation kind, std::uint8_t sq, std::uint16_t sid) {
    m.set(1, entry{}
                 .with(entry::p, true)
                 .with(entry::sid, sid)
                 .with(entry::sq, sq)
                 .with(entry::svt, kind));
    unsigned accepted = 0;
    for (unsigned f = 0; f != 8; ++f) {
      const pcie::requester_id from{4, 1, static_cast<std::uint8_t>(f)};
      if (m.raise(m.message(1), from)) accepted |= 1U << f;
    }
    return accepted;
  };
  using enum vtd::source_validation;
  const std::uint16_t first = pcie::requester_id{4, 1, 1}.raw();
  CHECK(with(none, 0, 0) == 0xff);
  CHECK(with(requester, 0, first) == 0x02);
  CHECK(with(requester, 1, first) == 0x22);  // without the third function bit
  CHECK(with(requester, 2, first) == 0xaa);
  CHECK(with(requester, 3, first) == 0xff);
  CHECK(with(bus_range, 0, 0x0305) == 0xff);
  CHECK(with(bus_range, 0, 0x0304) == 0xff);  // both ends are part of it
  CHECK(with(bus_range, 0, 0x0405) == 0xff);
  CHECK(with(bus_range, 0, 0x0503) == 0);
  CHECK(with(bus_range, 0, 0x0506) == 0);
}

TEST_CASE("entries of interrupts are remembered until they are invalidated") {
  vtd_machine m;
  m.set(3, vtd::interrupt_entry::fixed(0x41, 5, m.disk.raw()));
  CHECK(m.raise(m.message(3)));
  m.entries.words[6] = 0;
  CHECK(m.raise(m.message(3))->data == 0x41);
  m.iommu.apply(command::interrupt_entries(4, 9));
  CHECK(m.raise(m.message(3)));
  m.iommu.apply(command::interrupt_entries(2, 3));
  CHECK(m.refused(m.message(3)) == 0x22);
  m.set(3, vtd::interrupt_entry::fixed(0x41, 5, m.disk.raw()));
  CHECK(m.raise(m.message(3)));
  // The source is verified each time, not only when the entry is read.
  CHECK(m.refused(m.message(3), pcie::requester_id{4, 1, 3}) == 0x26);
  m.entries.words[6] = 0;
  m.iommu.apply(command::all_interrupt_entries());
  CHECK(m.refused(m.message(3)) == 0x22);
}

TEST_CASE("AMD: a message's data is the index into its device's own table") {
  amd_machine m;
  m.narrow(3, amd::interrupt_entry::fixed(0x41, 5));
  m.narrow(2, amd::interrupt_entry::fixed(0x42, 6).with(amd::interrupt_entry::dm, true));
  CHECK(*m.raise(3) == pcie::msi_message{bus_addr{0xfee0'5000}, 0x41});
  CHECK(*m.raise(2) == pcie::msi_message{bus_addr{0xfee0'6004}, 0x42});
  // Entries of 128 bits.
  auto s = m.iommu.settings();
  s.wide_interrupts = true;
  m.iommu.set(s);
  m.iommu.invalidate_all();
  replace_entry(m.entries.words + 2 * 9, amd::wide_interrupt_entry::fixed(0x43, 0x0100'0007),
                []() noexcept {});
  CHECK(*m.raise(9) == pcie::msi_message{bus_addr{0x0100'0000'fee0'7000}, 0x43});
  replace_entry(
      m.entries.words + 2 * 9,
      amd::wide_interrupt_entry::fixed(0x43, 7).with(amd::wide_interrupt_entry::guestmode, true),
      []() noexcept {});
  CHECK(m.raise(9));  // not yet invalidated
  m.iommu.apply(command::device_interrupts(m.disk.raw()));
  CHECK(m.refused(9) == amd::event_code::io_page_fault);
  CHECK(m.faults.last().reason == fault_reason::interrupt_malformed);
}

TEST_CASE("AMD: each reason to refuse an interrupt has its event") {
  using dte = amd::device_table_entry;
  using entry = amd::interrupt_entry;
  using amd::event_code;
  amd_machine m;
  CHECK(m.refused(3) == event_code::io_page_fault);
  CHECK(m.faults.last().reason == fault_reason::interrupt_absent);
  CHECK(m.refused(16) == event_code::io_page_fault);
  CHECK(m.faults.last().reason == fault_reason::interrupt_beyond);
  m.narrow(3, entry::fixed(0x41, 5).with(entry::inttype, 2));
  CHECK(m.refused(3) == event_code::io_page_fault);
  CHECK(m.faults.last().reason == fault_reason::interrupt_malformed);
  std::size_t before = m.faults.count();
  m.narrow(3, entry{}.with(entry::supiopf, true));
  CHECK_FALSE(m.raise(3));
  CHECK(m.faults.count() == before);
  const auto base = amd_linear::entry(m.pages.root().value(), m.domain);
  const auto with = base.with_interrupts(m.entries.at.value(), 4);
  m.set(with.with(dte::ig, true));
  CHECK_FALSE(m.raise(4));
  CHECK(m.faults.count() == before);
  m.set(with.with(dte::intctl, amd::interrupt_control::abort));
  CHECK(m.refused(3) == event_code::invalid_device_request);
  m.set(with.with(dte::intctl, amd::interrupt_control::forward));
  CHECK(m.raise(3)->data == 3);
  m.set(base);  // IV = 0
  CHECK(m.raise(3)->data == 3);
  m.use(0x1000, 4);
  CHECK(m.refused(3) == event_code::page_tab_hardware_error);
  before = m.faults.count();
  m.set(with.with(dte::inttablen, 12));
  CHECK_FALSE(m.raise(3));
  CHECK(m.faults.last().code == static_cast<unsigned>(event_code::illegal_dev_table_entry));
  // Interrupts of a device whose DMA passes untranslated are remapped all the same.
  m.narrow(3, entry::fixed(0x41, 5));
  m.set(dte{}.with_interrupts(m.entries.at.value(), 4));
  CHECK(m.raise(3)->data == 0x41);
}

TEST_CASE_TEMPLATE("without a table of its own an interrupt is the write that it looks like", Case,
                   smmu_linear, riscv_extended) {
  machine<Case> m;
  REQUIRE(m.pages.map(bus_addr{0xfee0'0000}, host_phys{0x5000'0000}, 0x1000));
  CHECK(*m.iommu.remap_interrupt(m.disk, {bus_addr{0xfee0'0010}, 7}) ==
        pcie::msi_message{bus_addr{0x5000'0010}, 7});
  CHECK_FALSE(m.iommu.remap_interrupt(m.disk, {bus_addr{0xfee0'1010}, 7}));
  CHECK(m.faults.last().reason == fault_reason::not_mapped);
  CHECK(m.faults.last().wanted == phasebit::access::write);
}

TEST_CASE("a cached entry of one device is not that of another with the same line and index") {
  interrupt_cache<64> cache;
  interrupt_slot mine;
  mine.owner = 5;
  mine.index = 9;
  interrupt_slot other = mine;
  other.owner = 5 + 64;  // as many owners as lines apart
  cache.insert(mine, {{1, 2}});
  REQUIRE(cache.find(mine) != nullptr);
  CHECK(cache.find(other) == nullptr);
  cache.insert(other, {{3, 4}});
  CHECK(cache.find(mine) == nullptr);
  CHECK(cache.find(other)->word[0] == 3);
  // The first and the last index of a range are in it.
  cache.invalidate(10, 20);
  CHECK(cache.find(other) != nullptr);
  cache.invalidate(9, 9);
  CHECK(cache.find(other) == nullptr);
  cache.insert(mine, {{1, 2}});
  cache.invalidate_owner(6);
  CHECK(cache.find(mine) != nullptr);
  cache.invalidate_owner(5);
  CHECK(cache.find(mine) == nullptr);
}
