// SPDX-License-Identifier: BSL-1.0
// The emulated IOMMUs outside of any fabric: a driver programs them through a plain struct of
// callbacks, over memory that is mapped and over memory that is only read and written.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <iommu/emulated_iommu.hpp>

namespace phasebit::iommu {

TEST_CASE_TEMPLATE("an emulated IOMMU runs outside of a fabric, over callbacks", T, with_vtd,
                   with_vtd_scalable, with_vtd_first_stage, with_amd, with_smmuv3, with_riscv) {
  for (const bool mapped : {true, false}) {
    CAPTURE(mapped);
    machine m{.mapped = mapped};
    typename T::device emulated{m.host, m.host, m.host};
    alignas(8) std::array<std::byte, 0x8000> copies{};
    if (!mapped) emulated.use_copies(copies);
    driver_host host{m};
    tables pages{{m.bytes, 256 * 4096}, host_phys{base}};
    auto opened = T::driver::open(direct_bar<typename T::device>{&emulated}, pages, host, {});
    REQUIRE_MESSAGE(opened, opened.error().what);
    auto& driver = *opened;
    REQUIRE(driver.enable());

    using table_type = page_table<typename T::format, tables>;
    auto table = table_type::create(T::format_of(driver), pages);
    REQUIRE(table);
    const std::uint64_t target = base + 0x18'0000;
    REQUIRE(table->map(bus_addr{0x7000'0000}, host_phys{target}, 8192));
    REQUIRE(table->map(bus_addr{0x7010'0000}, host_phys{target}, 4096,
                       {.permission = phasebit::access::read}));
    REQUIRE(driver.attach(disk, 7, table->view()));

    const auto reach = [&](pcie::requester_id who, std::uint64_t at, phasebit::access wanted) {
      return emulated.translate({.requester = who, .address = at, .wanted = wanted}, 4096);
    };
    const auto found = reach(disk, 0x7000'1010, phasebit::access::write);
    REQUIRE_MESSAGE(found, found.error().what);
    CHECK(found->begin == host_phys{target + 0x1010});
    CHECK(found->bytes == 4096 - 0x10);
    CHECK(reach(disk, 0x7010'0000, phasebit::access::read));
    CHECK_FALSE(driver.next_fault());

    CHECK(reach(disk, 0x7010'0000, phasebit::access::write).error().code == errc::access_denied);
    const auto fault = driver.next_fault();
    REQUIRE(fault);
    CHECK(fault->requester == disk);
    CHECK(fault->address == 0x7010'0000);
    CHECK_FALSE(reach(other, 0x7000'0000, phasebit::access::read));
    const auto second = driver.next_fault();
    REQUIRE(second);
    CHECK(second->requester == other);
    CHECK_FALSE(driver.next_fault());

    // A translation stays valid until the driver invalidates it by the command queue.
    REQUIRE(table->unmap(bus_addr{0x7000'0000}, 8192));
    CHECK(reach(disk, 0x7000'1010, phasebit::access::write));
    REQUIRE(driver.flush_domain(7));
    CHECK_FALSE(reach(disk, 0x7000'1010, phasebit::access::write));
    CHECK(driver.next_fault());
    REQUIRE(driver.detach(disk));
    CHECK_FALSE(reach(disk, 0x7010'0000, phasebit::access::read));
    CHECK((m.copies != 0) == !mapped);
    REQUIRE(driver.disable());
  }
}

TEST_CASE("an emulated VT-d reports exactly the modes and stages that it walks") {
  for (unsigned choice = 0; choice != 32; ++choice) {
    CAPTURE(choice);
    const vtd::features f{.pages_1g = (choice & 16) != 0,
                          .scalable = (choice & 1) != 0,
                          .first_stage = (choice & 2) != 0,
                          .five_levels = (choice & 4) != 0,
                          .set_dirty = (choice & 8) != 0};
    machine m;
    vtd_device emulated{m.host, m.host, m.host, f};
    direct_bar<vtd_device> bar{&emulated};
    const vtd::cap cap{bar.read64(vtd::cap::offset)};
    const vtd::ecap ecap{bar.read64(vtd::ecap::offset)};
    CHECK(ecap[vtd::ecap::smts] == f.scalable);
    // 11.4.3: scalable mode is reported with at least one stage.
    CHECK(ecap[vtd::ecap::smts] == (ecap[vtd::ecap::ssts] || ecap[vtd::ecap::fsts]));
    // Capabilities of the first stage are reported only with it.
    CHECK(cap[vtd::cap::fs1gp] == (ecap[vtd::ecap::fsts] && f.pages_1g));
    CHECK(cap[vtd::cap::fs5lp] == (ecap[vtd::ecap::fsts] && f.five_levels));
    CHECK(ecap[vtd::ecap::pss] == (ecap[vtd::ecap::pasid] ? 19 : 0));

    // One address space of each kind for a PASID of its own.
    tables pages{{m.bytes, 256 * 4096}, host_phys{base}};
    auto second = *page_table<vtd_second_stage, tables>::create({}, pages);
    auto first = *page_table<x86_first_stage, tables>::create({}, pages);
    auto deep = *page_table<x86_first_stage, tables>::create({.five_levels = true}, pages);
    const auto map = [](auto& table) {
      REQUIRE(table.map(bus_addr{0x1000}, host_phys{0x7000'0000}, 0x1000));
      REQUIRE(table.map(bus_addr{0x4000'0000}, host_phys{0x4000'0000}, 0x4000'0000));
    };
    map(second);
    map(first);
    map(deep);
    auto pasids = *device_table<vtd::pasid_tables, tables>::create({.directory_bits = 7}, pages);
    using entry = vtd::pasid_entry;
    const std::uint64_t second_root = second.root().value();
    REQUIRE(pasids.set(1, entry::second_stage(second_root, vtd_width::bits_48, 1)));
    REQUIRE(pasids.set(2, entry::second_stage(second_root, vtd_width::bits_48, 2, true)));
    REQUIRE(pasids.set(3, entry::first_stage(first.root().value(), false, 3)));
    REQUIRE(pasids.set(4, entry::first_stage(deep.root().value(), true, 4)));
    auto contexts = *device_table<vtd::scalable_tables, tables>::create({}, pages);
    REQUIRE(contexts.set(disk.raw(), vtd::scalable_context_entry::with_directory(
                                         pasids.root().value(), 0, 1, true)));
    bar.write64_lo_hi(vtd::rtaddr::offset,
                      contexts.root().value() | vtd::rtaddr::ttm.of<std::uint64_t>(1));
    bar.write32(vtd::gcmd::offset, vtd::gcmd::srtp.of(true));
    bar.write32(vtd::gcmd::offset, vtd::gcmd::te.of(true));
    const auto reaches = [&](std::uint32_t pasid, std::uint64_t at) {
      return emulated
          .translate({.requester = disk,
                      .address = at,
                      .wanted = phasebit::access::read,
                      .has_pasid = pasid != 0,
                      .pasid = pasid},
                     16)
          .has_value();
    };
    CHECK(reaches(0, 0x1000) == ecap[vtd::ecap::ssts]);
    CHECK(reaches(1, 0x1000) == (ecap[vtd::ecap::ssts] && ecap[vtd::ecap::pasid]));
    CHECK(reaches(2, 0x1000) == ecap[vtd::ecap::ssads]);
    CHECK(reaches(3, 0x1000) == ecap[vtd::ecap::fsts]);
    CHECK(reaches(4, 0x1000) == (ecap[vtd::ecap::fsts] && cap[vtd::cap::fs5lp]));
    CHECK(reaches(3, 0x4000'0000) == (ecap[vtd::ecap::fsts] && cap[vtd::cap::fs1gp]));
    CHECK(reaches(1, 0x4000'0000) == (ecap[vtd::ecap::ssts] && (cap[vtd::cap::sslps] & 2) != 0));

    // Descriptors of 32 bytes come with scalable mode: elsewhere IQA.DW is reserved, and the second
    // descriptor is read where the first one's upper half would be.
    const std::uint64_t ring = pages.allocate(4096)->at.value();
    auto* const words = reinterpret_cast<table_word*>(m.bytes + (ring - base));
    words[0] = 0x15;  // IOTLB, all
    words[4] = 0x15;
    words[2] = f.scalable ? 0 : 0x15;
    bar.write64_lo_hi(vtd::iqa::offset, ring | vtd::iqa::dw.of<std::uint64_t>(true));
    bar.write32(vtd::gcmd::offset, vtd::gcmd::te.of(true) | vtd::gcmd::qie.of(true));
    bar.write32(vtd::iqt::offset, 0x40);
    CHECK(bar.read32(vtd::iqh::offset) == (f.scalable ? 0x40 : 0x30));
  }
}

namespace {

// A VT-d in scalable mode with its driver.
struct scalable_machine {
  explicit scalable_machine(const vtd::features& f) : emulated{m.host, m.host, m.host, f} {}

  machine m;
  vtd_device emulated;
  direct_bar<vtd_device> bar{&emulated};
  driver_host host{m};
  tables pages{{m.bytes, 256 * 4096}, host_phys{base}};
  using driver_type = with_vtd_scalable::driver;
  result<driver_type> opened = driver_type::open(bar, pages, host, {});
};

void no_flush(void*, std::span<const invalidation_range<bus_space>>) noexcept {}

// A device writes, the driver reads and clears the dirty states, and a write that follows is seen again.
template <class Format, class Flush>
void follows_writes(scalable_machine& s, const Format& format, Flush&& flush) {
  REQUIRE(s.opened);
  auto& driver = *s.opened;
  REQUIRE(driver.enable());
  auto table = page_table<Format, tables>::create(format, s.pages);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0x7000'0000}, host_phys{base + 0x18'0000}, 0x8000));
  REQUIRE(driver.attach(disk, 7, table->view()));
  invalidations<bus_space> changes{&no_flush, nullptr};
  std::array<std::byte, 1> bits{};
  dirty_bitmap<bus_space> bitmap{bits, bus_addr{0x7000'0000}, 12};
  const auto write = [&](std::uint64_t page) {
    REQUIRE(s.emulated.translate({.requester = disk,
                                  .address = 0x7000'0000 + page * 0x1000,
                                  .wanted = phasebit::access::write},
                                 16));
  };
  const auto written = [&] {
    bits = {};
    REQUIRE(table->read_dirty(bus_addr{0x7000'0000}, 0x8000, bitmap, changes));
    REQUIRE(flush(driver, changes.ranges()));
    table->complete(changes);
    return std::to_integer<unsigned>(bits[0]);
  };
  static_cast<void>(written());
  write(1);
  write(6);
  CHECK(written() == 0x42);
  CHECK(written() == 0);
  write(6);
  write(2);
  CHECK(written() == 0x44);
  write(3);
  bits = {};
  REQUIRE(table->unmap(bus_addr{0x7000'0000}, 0x8000, changes, bitmap));
  REQUIRE(flush(driver, changes.ranges()));
  table->complete(changes);
  CHECK(bits[0] == std::byte{0x08});
  CHECK_FALSE(s.emulated.translate(
      {.requester = disk, .address = 0x7000'1000, .wanted = phasebit::access::read}, 16));
  CHECK(driver.next_fault());
}

}  // namespace

TEST_CASE("a VT-d in scalable mode records writes for its driver, in tables of either stage") {
  SUBCASE("second stage, with SSADE") {
    scalable_machine s{{.set_dirty = true}};
    REQUIRE(s.opened);
    CHECK(s.opened->tracks_dirty());
    auto format = s.opened->second_stage();
    format.track_dirty = true;
    follows_writes(s, format, [](auto& driver, auto ranges) { return driver.flush(7, ranges); });
  }
  SUBCASE("first stage, which needs no capability") {
    scalable_machine s{{}};
    REQUIRE(s.opened);
    CHECK_FALSE(s.opened->tracks_dirty());
    auto format = s.opened->first_stage();
    format.track_dirty = true;
    follows_writes(s, format,
                   [](auto& driver, auto ranges) { return driver.flush_first_stage(7, ranges); });
  }
}

TEST_CASE(
    "what a VT-d cannot do in scalable mode is refused with its name, and leaves nothing behind") {
  const auto attach = [](scalable_machine& s, const auto& format) {
    using format_type = std::remove_cvref_t<decltype(format)>;
    REQUIRE(s.opened);
    auto table = page_table<format_type, tables>::create(format, s.pages);
    REQUIRE(table);
    const std::size_t before = s.pages.used();
    const auto attached = s.opened->attach(disk, 7, table->view());
    CHECK(s.pages.used() == before);
    REQUIRE_FALSE(attached);
    return attached.error().code;
  };
  scalable_machine no_dirty{{}};
  CHECK(attach(no_dirty, vtd_second_stage{.track_dirty = true}) == errc::not_supported);
  CHECK(attach(no_dirty, vtd_second_stage{.width = vtd_width::bits_57}) == errc::not_supported);
  CHECK(attach(no_dirty, x86_first_stage{.five_levels = true}) == errc::not_supported);
  scalable_machine small_pages{{.pages_1g = false}};
  CHECK(attach(small_pages, x86_first_stage{.pages_1g = true}) == errc::not_supported);
  scalable_machine second_only{{.first_stage = false}};
  CHECK(attach(second_only, x86_first_stage{.pages_1g = false}) == errc::not_supported);
  scalable_machine legacy{{.scalable = false}};
  REQUIRE_FALSE(legacy.opened);
  CHECK(legacy.opened.error().code == errc::not_supported);
}

TEST_CASE(
    "a scalable driver gives back the tables of requesters that are detached, moved or left "
    "attached") {
  scalable_machine s{{}};
  const std::size_t root = s.pages.used();
  {
    REQUIRE(s.opened);
    auto driver = std::move(*s.opened);
    REQUIRE(driver.enable());
    auto first = page_table<vtd_second_stage, tables>::create(driver.second_stage(), s.pages);
    auto second = page_table<x86_first_stage, tables>::create(driver.first_stage(), s.pages);
    REQUIRE(first);
    REQUIRE(second);
    REQUIRE(second->map(bus_addr{0x5000}, host_phys{base + 0x18'0000}, 0x1000));
    REQUIRE(driver.attach(disk, 7, first->view()));
    const std::size_t one = s.pages.used();
    REQUIRE(driver.attach(disk, 8, second->view()));
    CHECK(s.pages.used() == one);
    CHECK(s.emulated.translate({.requester = disk, .address = 0x5010}, 16)->begin ==
          host_phys{base + 0x18'0010});
    REQUIRE(driver.attach(other, 8, second->view()));
    CHECK(s.pages.used() == one + 2);
    REQUIRE(driver.detach(disk));
    CHECK(s.pages.used() == one);
    CHECK_FALSE(s.emulated.translate({.requester = disk, .address = 0x5010}, 16));
    CHECK(s.emulated.translate({.requester = other, .address = 0x5010}, 16));
    // No memory for a table: the requester keeps what it has.
    std::vector<table_page<host_space>> taken;
    while (auto page = s.pages.allocate(4096)) taken.push_back(*page);
    CHECK(driver.attach(disk, 9, first->view()).error().code == errc::exhausted);
    s.pages.release(taken.back(), 4096);
    taken.pop_back();
    CHECK(driver.attach(disk, 9, first->view()).error().code == errc::exhausted);
    CHECK(driver.attach(other, 9, first->view()).error().code == errc::exhausted);
    CHECK(s.emulated.translate({.requester = other, .address = 0x5010}, 16));
    for (const auto& page : taken) s.pages.release(page, 4096);
  }
  // The root table is the driver's, too.
  CHECK(s.pages.used() < root);
  CHECK(s.pages.used() == 0);
}

TEST_CASE("memory that a port does not map is copied, and written back where it changed") {
  machine m{.mapped = false};
  device::system_memory<callbacks> memory{m.host};
  std::memset(m.bytes, 0x11, 256);
  table_word* const words = memory.find(host_phys{base + 64}, 64);
  REQUIRE(words != nullptr);
  CHECK(words[7] == 0x1111'1111'1111'1111);
  words[1] = 5;
  m.bytes[64 + 16] = std::byte{0x99};  // the driver's own write beside it
  memory.write_back();
  CHECK(m.bytes[64 + 8] == std::byte{5});
  CHECK(m.bytes[64 + 15] == std::byte{0});
  CHECK(m.bytes[64 + 16] == std::byte{0x99});
  // Half a word: the other half is the driver's.
  table_word* const again = memory.find(host_phys{base + 128}, 8);
  const std::uint32_t one = 1;
  std::memcpy(again, &one, 4);
  m.bytes[132] = std::byte{0x77};
  memory.write_back();
  CHECK(m.bytes[128] == std::byte{1});
  CHECK(m.bytes[132] == std::byte{0x77});

  // A range that is written without having been read is written whole, whatever the copy held before.
  std::memset(m.bytes + 192, 0x22, 16);
  for (int n = 0; n != 4; ++n) {
    const auto range = memory.translate(host_phys{base + 192}, 16, phasebit::access::write);
    REQUIRE(range);
    std::memset(pointer_of(range->begin), 0, 16);
    memory.write_back();
    CHECK(m.bytes[192] == std::byte{0});
    CHECK(m.bytes[207] == std::byte{0});
    std::memset(m.bytes + 192, 0x22, 16);
  }

  CHECK(memory.find(host_phys{base + 4}, 8) == nullptr);
  CHECK(memory.find(host_phys{base}, 128) == nullptr);
  CHECK(memory.find(host_phys{base + memory_bytes - 8}, 16) == nullptr);
  CHECK(memory.find(host_phys{0x1000}, 8) == nullptr);
  CHECK(memory.translate(host_phys{base}, 4096, phasebit::access::read)->bytes == 64);
  CHECK_FALSE(memory.translate(host_phys{0}, 8, phasebit::access::read));
}

TEST_CASE("the interrupt of a VT-d's wait is held back while it is masked, and comes once") {
  scalable_machine s{{}};
  const std::uint64_t ring = s.pages.allocate(4096)->at.value();
  auto* const words = reinterpret_cast<table_word*>(s.m.bytes + (ring - base));
  constexpr std::uint32_t ics = 0x9c;
  constexpr std::uint32_t iectl = 0xa0;
  const auto wait = [&](unsigned index) {
    words[2 * index] = 0x15;  // type 5, IF
    s.bar.write32(vtd::iqt::offset, 16 * (index + 1));
  };
  s.bar.write64_lo_hi(vtd::iqa::offset, ring);
  s.bar.write32(vtd::gcmd::offset, vtd::gcmd::qie.of(true));
  wait(0);
  CHECK(s.bar.read32(ics) == 1);
  CHECK(s.bar.read32(iectl) == 0xc000'0000);  // IM and IP
  CHECK(s.m.interrupts == 0);
  s.bar.write32(iectl, 0);
  CHECK(s.m.interrupts == 1);
  CHECK(s.bar.read32(iectl) == 0);
  wait(1);
  CHECK(s.m.interrupts == 2);
  // Cleared before it was unmasked: nothing comes.
  s.bar.write32(iectl, 1U << 31);
  wait(2);
  s.bar.write32(ics, 1);
  s.bar.write32(iectl, 0);
  CHECK(s.m.interrupts == 2);
}

TEST_CASE("an AMD event log that is full stops, and its tail is the IOMMU's while it runs") {
  machine m;
  amd_device emulated{m.host, m.host, m.host};
  direct_bar<amd_device> bar{&emulated};
  using namespace amd;
  const std::uint64_t log = base + 0x1'0000;
  const std::uint64_t commands = base + 0x2'0000;
  auto* const words = reinterpret_cast<table_word*>(m.bytes + 0x2'0000);
  const auto state = [&] { return amd::status{bar.read64(amd::status::offset)}; };
  bar.write64_lo_hi(event_log_base::offset, log | std::uint64_t{8} << 56);
  bar.write64_lo_hi(command_buffer_base::offset, commands | std::uint64_t{8} << 56);
  bar.write64_lo_hi(device_table_base::offset, 0x1000);  // no memory: each access is an event
  const std::uint32_t on =
      control::iommuen.of(true) | control::eventlogen.of(true) | control::cmdbufen.of(true);
  bar.write32(control::offset, on);
  CHECK(state()[amd::status::eventlogrun]);
  // A command that is refused is one event, whatever else is written meanwhile.
  words[0] = std::uint64_t{0xf} << 60;
  bar.write32(command_tail_offset, 0x10);
  CHECK(bar.read32(event_tail_offset) == 0x10);
  bar.write32(command_tail_offset, 0x20);
  bar.write32(command_tail_offset, 0x30);
  CHECK(bar.read32(event_tail_offset) == 0x10);
  bar.write32(event_tail_offset, 0x80);
  CHECK(bar.read32(event_tail_offset) == 0x10);
  const auto access = [&] {
    CHECK_FALSE(emulated.translate({.requester = disk, .address = 0x1000}, 16));
  };
  while (!state()[amd::status::eventoverflow]) access();
  CHECK_FALSE(state()[amd::status::eventlogrun]);
  CHECK(bar.read32(event_tail_offset) == 0xff0);
  // Off and on again, with the overflow cleared.
  bar.write32(control::offset, on & ~control::eventlogen.of(true));
  bar.write32(event_tail_offset, 0x40);
  CHECK(bar.read32(event_tail_offset) == 0x40);
  bar.write32(event_tail_offset, 0);
  bar.write32(amd::status::offset, amd::status::eventoverflow.of(true));
  bar.write32(control::offset, on);
  CHECK(state()[amd::status::eventlogrun]);
  access();
  CHECK(bar.read32(event_tail_offset) == 0x10);
}

TEST_CASE("a RISC-V fence's interrupt is pending until it is cleared by a one") {
  machine m;
  riscv_device emulated{m.host, m.host, m.host};
  direct_bar<riscv_device> bar{&emulated};
  using namespace riscv;
  auto* const words = reinterpret_cast<table_word*>(m.bytes + 0x1'0000);
  bar.write64_lo_hi(queue_base::cqb_offset, (base + 0x1'0000) >> 2 | 3);
  bar.write32(cqcsr_offset, 3);
  const auto pending = [&] { return cqcsr::fence_w_ip.get(bar.read32(cqcsr_offset)); };
  CHECK_FALSE(pending());
  words[0] = 2 | 1 << 11;  // IOFENCE.C, WSI
  bar.write32(cqt_offset, 1);
  CHECK(pending());
  CHECK(m.interrupts == 1);
  bar.write32(cqcsr_offset, 3);
  CHECK(pending());
  bar.write32(cqcsr_offset, 3 | cqcsr::fence_w_ip.of<std::uint32_t>(true));
  CHECK_FALSE(pending());
}

namespace {

// Functions behind an SMMU, as the link to them.
struct noted_functions {
  std::vector<pri_response> responses;
  std::vector<ats_invalidate> invalidations;
  void invalidate(const ats_invalidate& message) noexcept { invalidations.push_back(message); }
  void respond(const pri_response& message) noexcept { responses.push_back(message); }
};

struct smmu_with_functions {
  using device_type = smmuv3::device<callbacks, callbacks, callbacks, noted_functions>;
  machine m;
  noted_functions functions;
  device_type emulated{m.host, m.host, m.host, functions};
  direct_bar<device_type> bar{&emulated};
};

}  // namespace

TEST_CASE("an SMMU keeps no page request after an overflow until that is acknowledged") {
  smmu_with_functions s;
  using namespace smmuv3;
  s.bar.write64_lo_hi(priq_base_offset, (base + 0x1'0000) | 1);  // two requests
  s.bar.write32(cr0::offset, cr0::smmuen.of(true) | cr0::priqen.of<std::uint32_t>(true));
  const auto ask = [&](std::uint16_t group, bool last) {
    CHECK(s.emulated.request_page({.requester = disk,
                                   .body = pri_body{0x5000}
                                               .with(pri_body::r, true)
                                               .with(pri_body::l, last)
                                               .with(pri_body::prg_index, group)}));
  };
  const auto producer = [&] { return s.bar.read32(priq_prod_offset); };
  ask(1, false);
  ask(1, true);
  CHECK(producer() == 2);
  CHECK(s.functions.responses.empty());
  // The beginning of a group is lost. Its end may not stand for the whole, though there is a place again.
  ask(2, false);
  CHECK(producer() == (2 | 1U << 31));
  s.bar.write32(priq_cons_offset, 2);
  ask(2, true);
  CHECK(producer() == (2 | 1U << 31));
  REQUIRE(s.functions.responses.size() == 1);
  CHECK(s.functions.responses[0].group == 2);
  CHECK(s.functions.responses[0].code == page_response_code::success);
  s.bar.write32(priq_cons_offset, 2 | 1U << 31);
  ask(3, true);
  CHECK((producer() & 3) == 3);
  CHECK(s.functions.responses.size() == 1);
}

TEST_CASE("an SMMU answers translation requests only of functions whose accesses it translates") {
  smmu_with_functions s;
  using namespace smmuv3;
  using ste = stream_table_entry;
  auto* const words = reinterpret_cast<table_word*>(s.m.bytes + 0x1'0000 + disk.raw() * 64);
  s.bar.write64_lo_hi(strtab_base::offset, base + 0x1'0000);
  s.bar.write32(strtab_base_cfg::offset, 8);
  s.bar.write32(cr0::offset, cr0::smmuen.of(true));
  const auto answer = [&](const ste& e) {
    replace_entry(words, e, []() noexcept {});
    return s.emulated.translate(ats_request{disk, 5, {}, 0x5000, true}).status;
  };
  tables pages{{s.m.bytes + 0x4'0000, 64 * 4096}, host_phys{base + 0x4'0000}};
  auto table = *page_table<arm_stage2<12>, tables>::create({.ipa_bits = 40}, pages);
  REQUIRE(table.map(bus_addr{0x5000}, host_phys{base}, 0x1000));
  const auto stage2 = ste::translated(stage2_of(table.format(), table.root().value(), 3));
  CHECK(answer(stage2.with(ste::eats, 1)) == ats_status::success);
  CHECK(answer(stage2) == ats_status::unsupported);
  CHECK(answer(ste::bypass().with(ste::eats, 1)) == ats_status::unsupported);
  CHECK(answer(ste::aborted().with(ste::eats, 1)) == ats_status::unsupported);
  CHECK(answer(ste{}) == ats_status::unsupported);
  // An answer to an invalidation that was not sent is counted.
  CHECK(s.emulated.unexpected_completions() == 0);
  s.emulated.complete({disk, 1, 1});
  CHECK(s.emulated.unexpected_completions() == 1);
}

}  // namespace phasebit::iommu
