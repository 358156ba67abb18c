// SPDX-License-Identifier: BSL-1.0
// Every reason for which an IOMMU refuses: its number, and whether it is recorded.
#include <doctest/doctest.h>
#include <iommu/remapper_cases.hpp>

using namespace phasebit;
using namespace phasebit::iommu;
using namespace phasebit::remapper_cases;

namespace {

constexpr std::uint64_t page = 0x10'0000;
constexpr std::uint64_t nowhere = 0x3'0000'0000;
constexpr auto reading = phasebit::access::read;
constexpr auto writing = phasebit::access::write;

// A machine whose device reaches one page, until something is broken.
template <class Case>
struct broken {
  machine<Case> m;
  broken() { REQUIRE(m.pages.map(bus_addr{page}, host_phys{0x7000'0000}, 0x1000)); }

  // The code of the fault that an access makes with empty caches; 0 where none is recorded.
  unsigned code(phasebit::access wanted = reading, std::uint64_t a = page) {
    m.iommu.invalidate_all();
    const std::size_t before = m.faults.count();
    const auto answer = m.iommu.translate(m.disk, bus_addr{a}, 4, wanted);
    CHECK_FALSE(answer);
    return m.faults.count() == before ? 0 : m.faults.last().code;
  }
  // The word that holds the entry for `page` in a table of this level.
  table_word& at_level(unsigned wanted) {
    using geometry = table_geometry<typename Case::format>;
    auto* table = m.memory.words(m.pages.root().value());
    for (unsigned level = Case::page_format.top_level();; --level) {
      const auto mask = level == Case::page_format.top_level()
                            ? geometry::root_entries(Case::page_format) - 1
                            : geometry::entries - 1;
      table_word& e = table[page >> geometry::shift(level) & mask];
      if (level == wanted) return e;
      table = m.memory.words(Case::page_format.table_address(e));
    }
  }
  table_word* entry() {
    const entry_place place =
        find_device_entry(Case::tables, m.memory.arena, m.table.root(), machine<Case>::disk.raw());
    REQUIRE(place.status == walk_status::mapped);
    return const_cast<table_word*>(place.entry);
  }
  // The word of the root that leads to the entry.
  table_word& link() {
    const unsigned top = Case::tables.levels() - 1;
    return m.memory.words(
        m.table.root().value())[Case::tables.index(m.disk.raw(), top) * Case::tables.words(top)];
  }
  void set(const typename Case::layout::entry& e) { REQUIRE(m.table.set(m.disk.raw(), e)); }
  auto good() { return Case::entry(m.pages.root().value(), machine<Case>::domain); }
};

// Puts a word back at the end.
class changed {
 public:
  changed(table_word& word, std::uint64_t value) : word_(&word), before_(word) { word = value; }
  changed(const changed&) = delete;
  changed& operator=(const changed&) = delete;
  ~changed() { *word_ = before_; }

 private:
  table_word* word_;
  table_word before_;
};

}  // namespace

TEST_CASE("VT-d, legacy mode: each reason has its number") {
  using context = vtd::context_entry;
  broken<vtd_legacy> b;
  CHECK(b.code(reading, page + 0x1000) == 6);
  CHECK(b.code(writing, page + 0x1000) == 5);
  CHECK(b.code(reading, std::uint64_t{1} << 50) == 4);
  table_word& leaf = b.at_level(0);
  {
    const changed now{leaf, leaf & ~table_word{2}};
    CHECK(b.code(writing) == 5);
    CHECK(b.m.read(page));
  }
  {
    const changed now{leaf, leaf & ~table_word{1}};
    CHECK(b.code() == 6);
    CHECK(b.m.write(page));
  }
  {
    const changed now{leaf, leaf | vtd_second_stage::snoop};  // ECAP.SC = 0
    CHECK(b.code() == 0xc);
  }
  {
    const changed now{leaf, std::uint64_t{1} << 47 | 3};  // the host has 46 bits
    CHECK(b.code() == 0xc);
  }
  {
    const changed now{b.at_level(1), nowhere | 3};
    CHECK(b.code() == 7);
    CHECK(b.m.faults.last().fetch == nowhere);
  }
  {
    const changed now{b.at_level(1), 0x1000 | 0x83};  // a page of 2 MiB that is misaligned
    CHECK(b.code() == 0xc);
  }
  {
    const changed now{b.link(), 0};
    CHECK(b.code() == 1);
  }
  {
    const changed now{b.link(), nowhere | 1};
    CHECK(b.code() == 9);
  }
  {
    const changed now{b.link(), b.link() | 0x10};
    CHECK(b.code() == 0xa);
  }
  {
    auto settings = b.m.iommu.settings();
    const auto good = settings;
    settings.root = nowhere;
    b.m.iommu.set(settings);
    CHECK(b.code() == 8);
    settings.mode = vtd::table_mode::abort_dma;
    b.m.iommu.set(settings);
    CHECK(b.code() == 0);  // all is blocked, and nothing recorded
    b.m.iommu.set(good);
  }
  b.set({});
  CHECK(b.code() == 2);
  b.set(context{}.with(context::fpd, true));
  CHECK(b.code() == 0);  // FPD counts even in an entry that is absent
  b.set(b.good().with(context::fpd, true));
  CHECK(b.code(reading, page + 0x1000) == 0);
  b.set(b.good().with(context::aw, 3));  // 57 bits: not in CAP.SAGAW
  CHECK(b.code() == 3);
  b.set(b.good().with(context::aw, 5));
  CHECK(b.code() == 3);
  b.set(b.good().with(context::tt, vtd::translation_type::device_tlb));
  CHECK(b.code() == 3);
  auto reserved = b.good();
  reserved.words[1] = reserved.words[1].get() | std::uint64_t{1} << 30;
  b.set(reserved);
  CHECK(b.code() == 0xb);
  b.set(b.good());
  b.m.iommu.invalidate_all();
  CHECK_FALSE(b.m.iommu.translate({b.m.disk, page, reading, true, 1}, 4));
  CHECK(b.m.faults.last().code == 0x31);
}

TEST_CASE("AMD: each reason has its event") {
  using dte = amd::device_table_entry;
  using amd::event_code;
  broken<amd_linear> b;
  const auto is = [](unsigned code, event_code expected) {
    return code == static_cast<unsigned>(expected);
  };
  const auto log = [&] { return amd::event_log_format::encode(b.m.faults.last()); };
  using record = amd::event_record;

  CHECK(is(b.code(writing, page + 0x1000), event_code::io_page_fault));
  CHECK(log()[record::domain_id] == machine<amd_linear>::domain);
  CHECK(log()[record::rw]);
  CHECK_FALSE(log()[record::pr]);
  CHECK(log()[record::address] == page + 0x1000);
  CHECK(log()[record::device_id] == b.m.disk.raw());
  table_word& leaf = b.at_level(0);
  {
    const changed now{leaf, leaf & ~amd_v1::write};
    CHECK(is(b.code(writing), event_code::io_page_fault));
    CHECK(log()[record::pr]);
    CHECK(log()[record::pe]);
    CHECK_FALSE(log()[record::rz]);
  }
  {
    const changed now{leaf, leaf | std::uint64_t{1} << 50};  // the host has 48 bits
    CHECK(is(b.code(), event_code::io_page_fault));
    CHECK(log()[record::rz]);
  }
  {
    const changed now{b.at_level(1), amd_v1::make_table(nowhere, 1)};
    CHECK(is(b.code(), event_code::page_tab_hardware_error));
    CHECK(log()[record::address] == nowhere);
  }
  {
    const changed now{b.at_level(2), leaf | 3 << 9};  // a level that leads upwards
    CHECK(is(b.code(), event_code::io_page_fault));
    CHECK(log()[record::rz]);
  }
  b.set(b.good().with(dte::tv, false));
  CHECK(is(b.code(), event_code::io_page_fault));
  b.set(b.good().with(dte::mode, 7));
  CHECK(is(b.code(), event_code::illegal_dev_table_entry));
  CHECK_FALSE(log()[record::rz]);
  auto reserved = b.good();
  reserved.words[0] = reserved.words[0].get() | 4;
  b.set(reserved);
  CHECK(is(b.code(), event_code::illegal_dev_table_entry));
  CHECK(log()[record::rz]);
  b.set(b.good().with(dte::gv, true));
  CHECK(is(b.code(), event_code::illegal_dev_table_entry));
  b.set(dte::blocked(3));
  CHECK(is(b.code(), event_code::io_page_fault));
  CHECK(log()[record::pe]);
  // SA: none is logged. SE: the first one, until the entry is invalidated.
  b.set(b.good().with(dte::sa, true));
  CHECK(b.code(reading, page + 0x1000) == 0);
  b.set(b.good().with(dte::se, true));
  CHECK(is(b.code(reading, page + 0x1000), event_code::io_page_fault));
  const std::size_t before = b.m.faults.count();
  CHECK_FALSE(b.m.read(page + 0x1000));
  CHECK(b.m.faults.count() == before);
  CHECK(is(b.code(reading, page + 0x1000), event_code::io_page_fault));
  {
    auto settings = b.m.iommu.settings();
    settings.size_field = 0;  // 128 entries; the device is 04:01.2
    b.m.iommu.set(settings);
    CHECK(is(b.code(), event_code::illegal_dev_table_entry));
    settings.size_field = 31;
    settings.device_table = nowhere;
    b.m.iommu.set(settings);
    CHECK(is(b.code(), event_code::dev_tab_hardware_error));
    CHECK(log()[record::address] == nowhere + 32 * b.m.disk.raw());
  }
}

TEST_CASE("SMMUv3: each reason has its event") {
  using ste = smmuv3::stream_table_entry;
  using smmuv3::event_code;
  broken<smmu_two_level> b;
  const auto is = [](unsigned code, event_code expected) {
    return code == static_cast<unsigned>(expected);
  };
  const auto log = [&] { return smmuv3::event_queue_format::encode(b.m.faults.last()); };
  using record = smmuv3::event_record;

  CHECK(is(b.code(writing, page + 0x1000), event_code::f_translation));
  CHECK(log()[record::stream_id] == b.m.disk.raw());
  CHECK(log()[record::input_address] == page + 0x1000);
  CHECK_FALSE(log()[record::rnw]);
  CHECK(log()[record::s2]);
  CHECK(log()[record::klass] == record::class_in);
  CHECK(is(b.code(reading, std::uint64_t{1} << 40), event_code::f_translation));
  CHECK(is(b.code(reading, std::uint64_t{1} << 48), event_code::f_addr_size));
  table_word& leaf = b.at_level(0);
  {
    const changed now{leaf, leaf & ~arm_stage2<12>::write};
    CHECK(is(b.code(writing), event_code::f_permission));
    CHECK_FALSE(log()[record::rnw]);
  }
  {
    const changed now{leaf, leaf & ~arm_stage2<12>::access_flag};
    CHECK(is(b.code(), event_code::f_access));
    b.set(b.good().with(ste::s2affd, true));
    b.m.iommu.invalidate_all();
    CHECK(b.m.read(page));
    // An SMMU that does not set the flag (IDR0.HTTU = 0) does not look at S2HA (5.2).
    b.set(b.good().with(ste::s2ha, true));
    b.m.iommu.invalidate_all();
    CHECK(is(b.code(), event_code::f_access));
    b.set(b.good());
  }
  {
    const changed now{leaf, leaf | std::uint64_t{1} << 46};  // S2PS is 44 bits
    CHECK(is(b.code(), event_code::f_addr_size));
  }
  {
    const changed now{leaf, leaf & ~table_word{2}};  // a block at the lowest level
    CHECK(is(b.code(), event_code::f_translation));
  }
  {
    const changed now{b.at_level(1), nowhere | 3};
    CHECK(is(b.code(), event_code::f_walk_eabt));
    CHECK(log()[record::klass] == record::class_ttd);
    CHECK(log()[record::fetch_address] == nowhere);
  }
  {
    const changed now{b.link(), 0};
    CHECK(is(b.code(), event_code::c_bad_streamid));
  }
  {
    // 2^1 entries at this level 2 table; the stream is number 10 of it.
    const changed now{b.link(), (b.link() & ~table_word{31}) | 2};
    CHECK(is(b.code(), event_code::c_bad_streamid));
  }
  {
    const changed now{b.link(), b.link() | 31};  // a span that is reserved
    CHECK(is(b.code(), event_code::c_bad_streamid));
  }
  {
    const changed now{b.link(), nowhere | 9};
    CHECK(is(b.code(), event_code::f_ste_fetch));
    CHECK(log()[record::fetch_address] == nowhere + 64 * (b.m.disk.raw() & 0xff));
  }
  b.set({});
  CHECK(is(b.code(), event_code::c_bad_ste));
  b.set(ste::aborted());
  CHECK(b.code() == 0);
  for (const auto kind : {smmuv3::stream_config::stage1, smmuv3::stream_config::nested}) {
    b.set(b.good().with(ste::config, kind));
    CHECK(is(b.code(), event_code::c_bad_ste));
  }
  b.set(b.good().with(ste::s2t0sz, 40));
  CHECK(is(b.code(), event_code::c_bad_ste));
  b.set(b.good().with(ste::s2sl0, 0));  // level 2 cannot hold 40 bits
  CHECK(is(b.code(), event_code::c_bad_ste));
  b.set(b.good().with(ste::s2sl0, 3));
  CHECK(is(b.code(), event_code::c_bad_ste));
  b.set(b.good().with(ste::s2tg, 3));
  CHECK(is(b.code(), event_code::c_bad_ste));
  b.set(b.good().with(ste::s2aa64, false));
  CHECK(is(b.code(), event_code::c_bad_ste));
  b.set(ste::bypass());
  CHECK(is(b.code(reading, std::uint64_t{1} << 48), event_code::f_addr_size));
  b.set(b.good().with(ste::s2r, false));
  CHECK(b.code(reading, page + 0x1000) == 0);
  b.set(b.good());
  CHECK_FALSE(b.m.iommu.translate({b.m.disk, page, reading, true, 1}, 4));
  CHECK(is(b.m.faults.last().code, event_code::c_bad_substreamid));
  auto settings = b.m.iommu.settings();
  settings.log2_streams = 9;
  b.m.iommu.set(settings);
  CHECK(is(b.code(), event_code::c_bad_streamid));
  settings.enabled = false;
  settings.abort_when_off = true;
  b.m.iommu.set(settings);
  CHECK(b.code() == 0);
}

TEST_CASE("RISC-V: each reason has its cause") {
  using dc = riscv::device_context;
  broken<riscv_extended> b;
  CHECK(b.code(reading, page + 0x1000) == 21);
  CHECK(b.code(writing, page + 0x1000) == 23);
  CHECK(b.code(reading, std::uint64_t{1} << 52) == 21);
  table_word& leaf = b.at_level(0);
  {
    const changed now{leaf, leaf & ~riscv_second_stage::write};
    CHECK(b.code(writing) == 23);
  }
  {
    const changed now{leaf, leaf & ~riscv_second_stage::read};  // W without R
    CHECK(b.code(writing) == 23);
  }
  {
    const changed now{b.at_level(1), riscv_second_stage::make_table(nowhere, 1)};
    CHECK(b.code(reading) == 5);
    CHECK(b.code(writing) == 7);
  }
  {
    const changed now{b.link(), 0};
    CHECK(b.code() == 258);
  }
  {
    const changed now{b.link(), nowhere >> 2 | 1};
    CHECK(b.code() == 257);
  }
  {
    const changed now{b.link(), b.link() | 2};
    CHECK(b.code() == 259);
  }
  b.set({});
  CHECK(b.code() == 258);
  auto reserved = b.good();
  reserved.words[7] = 1U;
  b.set(reserved);
  CHECK(b.code() == 259);
  b.set(b.good().with(dc::iohgatp_mode, static_cast<riscv::gatp_mode>(5)));
  CHECK(b.code() == 259);
  b.set(b.good().with(dc::iohgatp_ppn, 1));  // not 16 KiB aligned
  CHECK(b.code() == 259);
  b.set(b.good().with(dc::fsc_mode, 8));
  CHECK(b.code() == 259);
  b.set(b.good().with(dc::en_ats, true));
  CHECK(b.code() == 259);
  b.set(b.good());
  CHECK_FALSE(b.m.iommu.translate({b.m.disk, page, reading, true, 1}, 4));
  CHECK(b.m.faults.last().code == 260);
  // DTF: faults of translation are not reported, those of the directory are.
  b.set(b.good().with(dc::dtf, true));
  CHECK(b.code(reading, page + 0x1000) == 0);
  b.set(b.good().with(dc::dtf, true).with(dc::fsc_mode, 8));
  CHECK(b.code() == 259);
  auto settings = b.m.iommu.settings();
  settings.mode = riscv::directory_mode::one_level;  // 6 bits of ids
  b.m.iommu.set(settings);
  CHECK(b.code() == 260);
}
