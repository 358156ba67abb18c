// SPDX-License-Identifier: BSL-1.0
// The words of each format, written out from the specifications' tables.
#include "page_table_harness.hpp"

#include <phasebit/iommu/page_table/formats/amdv1.hpp>
#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>
#include <phasebit/iommu/page_table/formats/riscv.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>
#include <phasebit/iommu/smmuv3/spec/tables.hpp>

namespace phasebit::page_table_harness {

namespace {

// The words that hardware reads on the way to `a`, highest first.
template <class Format, class Table, class Arena>
std::vector<std::uint64_t> words_to(const Format& format, const Table& table, Arena& arena,
                                    std::uint64_t a) {
  using geometry = table_geometry<Format>;
  std::vector<std::uint64_t> words;
  std::uint64_t at = table.root().value();
  for (unsigned level = format.top_level();; --level) {
    const std::uint64_t mask =
        level == format.top_level() ? geometry::root_entries(format) - 1 : geometry::entries - 1;
    const table_word* table_words = arena.find(host_phys{at}, geometry::table_bytes);
    REQUIRE(table_words != nullptr);
    const std::uint64_t e = table_words[a >> geometry::shift(level) & mask];
    words.push_back(e);
    if ((e & Format::present_mask) == 0 || format.is_leaf(e, level)) return words;
    at = format.table_address(e);
  }
}

template <class Format>
std::vector<std::uint64_t> words_of(const Format& format, std::uint64_t a, std::uint64_t target,
                                    std::uint64_t bytes, page_attributes attributes = {}) {
  table_store<Format, 64> store;
  auto table =
      page_table<Format, table_arena<64, Format::granule_shift>>::create(format, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{a}, host_phys{target}, bytes, attributes));
  return words_to(format, *table, store.arena, a);
}

constexpr std::uint64_t at = 0x7'0000'0000;  // the arena: its first page is the root
using words = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("VT-d second stage: R0 W1 PS7 SNP11") {
  const vtd_second_stage f{.snoop_control = true};
  CHECK(words_of(f, 0x1000, 0x1234'5678'9000, 0x1000) ==
        words{at + 0x1003, at + 0x2003, at + 0x3003, 0x1234'5678'9003});
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.permission = access::write, .coherent = true})[3] ==
        0x9802);
  CHECK(words_of(f, 0x200000, 0x60'0000, 0x200000, {.permission = access::read}) ==
        words{at + 0x1003, at + 0x2003, 0x60'0081});
  CHECK(words_of(f, 1 << 30, 3ULL << 30, 1 << 30) == words{at + 0x1003, 0xc000'0083});
  CHECK(words_of(vtd_second_stage{.width = vtd_width::bits_39}, 0, 0x1000, 0x1000).size() == 3);
  CHECK(words_of(vtd_second_stage{.width = vtd_width::bits_57}, 0, 0x1000, 0x1000).size() == 5);
}

TEST_CASE("VT-d second stage: what hardware calls reserved is malformed") {
  const vtd_second_stage f{.address_bits = 46};
  CHECK(f.leaf_shift(0x803, 0) == 0);                 // SNP without ECAP.SC
  CHECK(f.leaf_shift(0x0010'0083 | 0x1000, 1) == 0);  // misaligned 2 MiB base
  CHECK(f.leaf_shift(1ULL << 46 | 3, 0) == 0);
  CHECK_FALSE(f.table_valid(1ULL << 46 | 3, 1));
  CHECK(f.leaf_shift(0x83, 3) == 0);  // no pages of 512 GiB
  CHECK(vtd_second_stage{.pages_1g = false}.leaf_shift(0x83, 2) == 0);
  CHECK(f.leaf_shift(0x4000'0083, 2) == 30);
}

TEST_CASE("AMD v1: PR0 NextLevel 11:9 FC60 IR61 IW62, sizes as runs of ones") {
  constexpr std::uint64_t rw = 3ULL << 61;
  const amd_v1 f{};
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000) == words{rw | (at + 0x1000) | 0x601,
                                                     rw | (at + 0x2000) | 0x401,
                                                     rw | (at + 0x3000) | 0x201, rw | 0x9001});
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.permission = access::read, .coherent = true})[3] ==
        (3ULL << 60 | 0x9001));
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.permission = access::write})[3] ==
        (1ULL << 62 | 0x9001));
  CHECK(words_of(f, 0x200000, 0x400000, 0x200000)[2] == (rw | 0x400001));
  CHECK(words_of(f, 0x2000, 0x8000, 0x2000)[3] == (rw | 0x8e01));
  CHECK(words_of(f, 0x10000, 0x40000, 0x10000)[3] == (rw | 0x47e01));
  CHECK(words_of(f, 0x100000, 0x100000, 0x100000)[3] == (rw | 0x17fe01));
  CHECK(words_of(f, 0x400000, 0x800000, 0x400000)[2] == (rw | 0x9ffe01));
  for (unsigned mode = 1; mode <= 6; ++mode) {
    CHECK(words_of(amd_v1{.mode = mode}, 0, 0x1000, 0x1000).size() == mode);
  }
}

TEST_CASE("AMD v1: a table entry may skip levels, and the skipped address bits are zero") {
  table_store<amd_v1, 64> store;
  auto table = page_table<amd_v1, table_arena<64>>::create({}, store.arena);
  REQUIRE(table);
  const auto leaves = store.arena.allocate(4096);
  REQUIRE(leaves);
  table_word* root = store.arena.find(table->root(), 4096);
  leaves->words[3] = 3ULL << 61 | 0x5001;
  root[0] = 3ULL << 61 | leaves->at.value() | 0x201;  // level 4 to level 1
  CHECK(table->translate(bus_addr{0x3010}, 4, access::write)->begin == host_phys{0x5010});
  CHECK(table->lookup(bus_addr{0x203010}).status == walk_status::absent);
  CHECK(table->lookup(bus_addr{1ULL << 38 | 0x3010}).status == walk_status::absent);
  int pages = 0;
  CHECK(table->walk(bus_addr{0}, 1ULL << 39, [&](auto page) noexcept {
    ++pages;
    CHECK(page.begin == bus_addr{0x3000});
  }));
  CHECK(pages == 1);
  root[0] = 3ULL << 61 | leaves->at.value() | 0x801;  // level 4 to itself
  CHECK(table->lookup(bus_addr{0x3010}).status == walk_status::malformed);
  root[0] = 0;
}

TEST_CASE("AMD v1: IR and IW of every level are ANDed") {
  table_store<amd_v1, 64> store;
  auto table = page_table<amd_v1, table_arena<64>>::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0}, host_phys{0x1000}, 0x1000));
  table_word* root = store.arena.find(table->root(), 4096);
  const std::uint64_t good = root[0];
  root[0] = good & ~(1ULL << 62);
  CHECK(table->translate(bus_addr{0}, 1, access::read));
  CHECK(table->translate(bus_addr{0}, 1, access::write).error().code == errc::access_denied);
  root[0] = good & ~(1ULL << 61);
  CHECK(table->translate(bus_addr{0}, 1, access::read).error().code == errc::access_denied);
  root[0] = good;
}

TEST_CASE("AMD v1: pages of 64-bit addresses, up to the last byte") {
  table_store<amd_v1, 64> store;
  auto table = page_table<amd_v1, table_arena<64>>::create({.mode = 6}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{~0x1fffULL}, host_phys{0x2000}, 0x2000));
  CHECK(table->lookup(bus_addr{~0ULL}).page_shift == 13);
  const auto last = table->translate(bus_addr{~0ULL}, 1, access::write);
  REQUIRE(last);
  CHECK(last->begin == host_phys{0x3fff});
  CHECK(table->walk(bus_addr{1ULL << 63}, 1ULL << 63,
                    [](auto page) noexcept { CHECK(page.begin == bus_addr{~0x1fffULL}); }));
  CHECK(*table->unmap(bus_addr{~0x1fffULL}, 0x2000) == 0x2000);
}

TEST_CASE("AMD v1: lengths that are no power of two of a level are malformed") {
  const amd_v1 f{};
  CHECK(f.leaf_shift(0xe01, 0) == 13);
  CHECK(f.leaf_shift(0xffe01, 0) == 0);  // 2 MiB encoded in a level of 4 KiB
  CHECK(f.leaf_shift(0x1e01, 1) == 0);   // 16 KiB encoded in a level of 2 MiB
  CHECK(f.leaf_shift(0x000f'ffff'ffff'fe01, 0) == 0);
  CHECK(f.leaf_shift(0x1001, 1) == 0);   // a base off its size
  CHECK_FALSE(f.table_valid(0xc01, 3));  // a level above the one it is in
}

TEST_CASE("Arm stage 2: types, MemAttr, S2AP, SH, AF, XN and the hint") {
  constexpr std::uint64_t xn = 1ULL << 54;
  constexpr std::uint64_t hint = 1ULL << 52;
  const arm_stage2<12> f{};
  // 48 bits with 4 KiB granules: 4 levels, none saved (9 bits remain).
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000) ==
        words{at + 0x1003, at + 0x2003, at + 0x3003, xn | 0x97ff});
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.permission = access::read, .execute = true})[3] ==
        0x977f);
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.memory = memory_type::device})[3] == (xn | 0x96c7));
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.memory = memory_type::uncached})[3] == (xn | 0x96d7));
  CHECK(words_of(f, 0x10000, 0x20000, 0x10000)[3] == (xn | hint | 0x207ff));
  CHECK(words_of(f, 0x200000, 0x400000, 0x200000)[2] == (xn | 0x4007fd));
  CHECK(words_of(f, 1 << 30, 1 << 30, 1 << 30)[1] == (xn | 0x4000'07fd));
  CHECK(words_of(f, 32 << 20, 32 << 20, 32 << 20)[2] == (xn | hint | 0x200'07fd));
  CHECK(words_of(arm_stage2<12>{.track_dirty = true}, 0, 0x1000, 0x1000)[3] ==
        (xn | 1ULL << 51 | 0x177f));
  CHECK(words_of(arm_stage2<14>{}, 0, 0x4000, 0x4000).back() == (xn | 0x47ff));
  CHECK(words_of(arm_stage2<16>{}, 0, 0x10000, 0x10000).back() == (xn | 0x107ff));
}

TEST_CASE(
    "Arm stage 2: the contiguous hint joins 16, 128 and 32, or 32 entries (DDI 0487, D8.6.1)") {
  CHECK(arm_stage2<12>{}.orders(0) == 1U << 4);
  CHECK(arm_stage2<12>{}.orders(1) == 1U << 4);
  CHECK(arm_stage2<14>{}.orders(0) == 1U << 7);
  CHECK(arm_stage2<14>{}.orders(1) == 1U << 5);
  CHECK(arm_stage2<16>{}.orders(0) == 1U << 5);
  CHECK(arm_stage2<16>{}.orders(1) == 1U << 5);
}

TEST_CASE("Arm stage 2: concatenated tables save the highest level") {
  struct expectation {
    unsigned bits, levels;
    std::size_t root;
  };
  for (const expectation e : {expectation{32, 2, 4 * 4096},
                              {39, 3, 4096},
                              {40, 3, 2 * 4096},
                              {43, 3, 16 * 4096},
                              {44, 4, 4096},
                              {48, 4, 4096}}) {
    CAPTURE(e.bits);
    const arm_stage2<12> f{.ipa_bits = e.bits};
    CHECK(f.top_level() + 1 == e.levels);
    CHECK(table_geometry<arm_stage2<12>>::root_bytes(f) == e.root);
  }
  CHECK(arm_stage2<12>{.ipa_bits = 40, .concatenate = false}.top_level() == 3);
  CHECK(arm_stage2<14>{.ipa_bits = 48}.top_level() == 2);
  CHECK(arm_stage2<16>{.ipa_bits = 48}.top_level() == 2);
  CHECK(arm_stage2<16>{.ipa_bits = 46}.top_level() == 1);

  table_store<arm_stage2<12>, 64> store;
  auto table = page_table<arm_stage2<12>, table_arena<64>>::create({.ipa_bits = 43}, store.arena);
  REQUIRE(table);
  for (std::uint64_t i = 0; i != 16; ++i) {
    REQUIRE(table->map(bus_addr{i << 39}, host_phys{(i + 1) << 12}, 0x1000));
  }
  for (std::uint64_t i = 0; i != 16; ++i) {
    CHECK(table->translate(bus_addr{i << 39}, 1, access::read)->begin == host_phys{(i + 1) << 12});
  }
}

TEST_CASE("Arm stage 2: every input width begins at a level that S2SL0 can name") {
  // DDI 0487, VTCR_EL2.SL0: 4 KiB granules begin at level 2 at the lowest, the others at level 3. A
  // start level is right where its tables, at most 16 side by side, have the width's entries.
  const auto check = [](const auto& format, unsigned granule, unsigned lowest) {
    const unsigned start = smmuv3::stage2_of(format, 0, 1).start_level;
    const unsigned index_bits = granule - 3;
    const unsigned shift = granule + (3 - start) * index_bits;
    CAPTURE(granule);
    CAPTURE(format.ipa_bits);
    CHECK(start <= lowest);
    CHECK(format.ipa_bits > shift);
    CHECK(format.ipa_bits <= shift + index_bits + 4);
    const auto e = smmuv3::stream_table_entry::translated(smmuv3::stage2_of(format, 0, 1));
    CHECK(unsigned{e[smmuv3::stream_table_entry::s2sl0]} == lowest - start);
  };
  for (unsigned bits = 25; bits <= 48; ++bits) {
    check(arm_stage2<12>{.ipa_bits = bits}, 12, 2);
    check(arm_stage2<14>{.ipa_bits = bits}, 14, 3);
    check(arm_stage2<16>{.ipa_bits = bits}, 16, 3);
  }
}

TEST_CASE("AMD v1: pages of 512 GiB are walked, but mapped only where they are asked for") {
  using geometry = table_geometry<amd_v1>;
  constexpr std::uint64_t size = std::uint64_t{1} << 39;
  CHECK((geometry::page_sizes({}) >> 39) == 0);
  CHECK((geometry::page_sizes({.pages_512g = true}) >> 39 & 1) == 1);
  table_store<amd_v1, 64> store;
  for (const bool wanted : {false, true}) {
    auto table = page_table<amd_v1, table_arena<64>>::create({.pages_512g = wanted}, store.arena);
    REQUIRE(table);
    REQUIRE(table->map(bus_addr{size}, host_phys{size}, size));
    CHECK(table->lookup(bus_addr{size + 0x1234}).page_shift == (wanted ? 39 : 38));
  }
  // Entries that another driver has written.
  amd_v1 plain{};
  CHECK(plain.leaf_shift(plain.make_leaf(size, 3, 0, amd_v1::read), 3) == 39);
}

TEST_CASE("Arm stage 2: reserved types and what the machine lacks are malformed") {
  const arm_stage2<12> f{.address_bits = 40};
  CHECK_FALSE(f.is_leaf(0x401, 0));  // type 0 at the last level is reserved
  CHECK(f.leaf_shift(0x401, 3) == 0);
  CHECK(f.leaf_shift(0x3, 0) == 0);  // access flag fault
  CHECK(arm_stage2<12>{.hardware_access = true}.leaf_shift(0x3, 0) == 12);
  CHECK(f.leaf_shift(1ULL << 40 | 0x403, 0) == 0);
  CHECK(f.leaf_shift(0x10'0401, 1) == 0);
}

TEST_CASE("RISC-V: V0 R1 W2 X3 U4 A6 D7, PPN 53:10, PBMT 62:61, N63") {
  const riscv_second_stage f{};
  const auto table = [](std::uint64_t page) { return (at + page) >> 2 | 1; };
  // The root is 16 KiB.
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000) ==
        words{table(0x4000), table(0x5000), table(0x6000), 0x24d7});
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.permission = access::read, .execute = true})[3] ==
        0x24db);
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.memory = memory_type::uncached})[3] ==
        (1ULL << 61 | 0x24d7));
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.memory = memory_type::device})[3] ==
        (1ULL << 62 | 0x24d7));
  CHECK(words_of(f, 0x10000, 0x40000, 0x10000)[3] == (1ULL << 63 | 0x40000 >> 2 | 8 << 10 | 0xd7));
  CHECK(words_of(f, 0x200000, 0x400000, 0x200000)[2] == (0x400000 >> 2 | 0xd7));
  CHECK(words_of(riscv_second_stage{.track_dirty = true}, 0, 0x1000, 0x1000)[3] == 0x457);
  CHECK(words_of(riscv_second_stage{.mode = riscv_mode::sv39x4}, 0, 0x1000, 0x1000).size() == 3);
  CHECK(words_of(riscv_second_stage{.mode = riscv_mode::sv57x4}, 0, 0x1000, 0x1000).size() == 5);
  // The two bits that make the root 16 KiB.
  CHECK(f.input_bits() == 50);
  CHECK(words_of(f, (1ULL << 50) - 0x1000, 0x9000, 0x1000).size() == 4);
}

TEST_CASE("RISC-V: what the specification reserves is malformed") {
  const riscv_second_stage f{};
  CHECK(f.leaf_shift(0xd5, 0) == 0);  // W without R
  CHECK(f.leaf_shift(0xd7, 0) == 12);
  CHECK(f.leaf_shift(0xc7, 0) == 0);  // not a user page
  CHECK(f.leaf_shift(0x97, 0) == 0);  // A = 0 and no hardware to set it
  CHECK(f.permissions(0x57) == 1);    // nor D: not writable
  CHECK(f.leaf_shift(1ULL << 54 | 0xd7, 0) == 0);
  CHECK(f.leaf_shift(3ULL << 61 | 0xd7, 0) == 0);
  CHECK(f.leaf_shift(1ULL << 63 | 0xd7, 0) == 0);
  CHECK(f.leaf_shift(1ULL << 63 | 8 << 10 | 0xd7, 0) == 16);
  CHECK(f.leaf_shift(1ULL << 63 | 8 << 10 | 0xd7, 1) == 0);
  CHECK(riscv_second_stage{.svnapot = false}.leaf_shift(1ULL << 63 | 8 << 10 | 0xd7, 0) == 0);
  CHECK(f.leaf_shift(1 << 10 | 0xd7, 1) == 0);
  CHECK_FALSE(f.table_valid(0x11, 1));
  CHECK_FALSE(f.table_valid(1ULL << 63 | 1, 1));
}

TEST_CASE("x86-64: P0 RW1 US2 PWT3 PCD4 A5 D6 PS7 XD63") {
  constexpr std::uint64_t xd = 1ULL << 63;
  const x86_first_stage f{};
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000) ==
        words{at + 0x1027, at + 0x2027, at + 0x3027, xd | 0x9067});
  CHECK(words_of(f, 0x1000, 0x9000, 0x1000, {.permission = access::read, .execute = true})[3] ==
        0x9065);
  CHECK(words_of(f, 0x200000, 0x400000, 0x200000)[2] == (xd | 0x4000e7));
  CHECK(words_of(f, 1 << 30, 1 << 30, 1 << 30, {.memory = memory_type::device})[1] ==
        (xd | 0x4000'00ff));
  CHECK(words_of(x86_first_stage{.five_levels = true}, 0, 0x1000, 0x1000).size() == 5);
  CHECK(x86_first_stage::permissions(0x63) == 0);  // a supervisor's page
}

TEST_CASE("x86-64: addresses are canonical, and a range lies in one half") {
  table_store<x86_first_stage, 64> store;
  auto table = page_table<x86_first_stage, table_arena<64>>::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{~0xfffULL}, host_phys{0x1000}, 0x1000));
  CHECK(table->translate(bus_addr{~0ULL}, 1, access::read)->begin == host_phys{0x1fff});
  CHECK(table->lookup(bus_addr{0xffff'ffff'ffffULL}).status == walk_status::beyond_width);
  CHECK(table->lookup(bus_addr{0x8000'0000'0000ULL}).status == walk_status::beyond_width);
  CHECK(table->map(bus_addr{0x7fff'ffff'f000}, host_phys{0}, 0x2000).error().code ==
        errc::out_of_range);
  REQUIRE(table->map(bus_addr{0x7fff'ffff'f000}, host_phys{0}, 0x1000));
  REQUIRE(table->map(bus_addr{0xffff'8000'0000'0000}, host_phys{0}, 0x1000));
  CHECK(*table->unmap(bus_addr{0}, 1ULL << 47) == 0x1000);
  CHECK(*table->unmap(bus_addr{0xffff'8000'0000'0000}, 1ULL << 47) == 0x2000);
  CHECK(store.arena.used() == 1);
}

TEST_CASE("Arm: a live page changes its size only through absence and a flush") {
  using format = arm_stage2<12>;
  table_store<format, 64> store;
  auto table =
      page_table<format, table_arena<64>>::create({}, store.arena, {.cut = large_pages::split});
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0x200000}, host_phys{0x200000}, 0x200000));
  {
    invalidations<bus_space> unable;
    CHECK(table->unmap(bus_addr{0x200000}, 0x1000, unable).error().code == errc::not_supported);
    CHECK(unable.empty());
    CHECK(table->lookup(bus_addr{0x200000}).page_shift == 21);
  }
  struct watch {
    decltype(&*table) tables;
    int flushes = 0;
    bool absent = true;
  } seen{&*table};
  invalidations<bus_space> changes{
      [](void* p, std::span<const invalidation_range<bus_space>> ranges) noexcept {
        auto& w = *static_cast<watch*>(p);
        ++w.flushes;
        for (const auto& r : ranges) {
          w.absent &= w.tables->lookup(r.first).status == walk_status::absent;
        }
      },
      &seen};
  REQUIRE(table->unmap(bus_addr{0x200000}, 0x1000, changes));
  CHECK(seen.flushes == 1);
  CHECK(seen.absent);
  table->complete(changes);
  // The hint is set anew by a merge, and taken away by a cut: each of them breaks first.
  REQUIRE(table->merge(bus_addr{0x200000}, 0x200000, changes));
  CHECK(table->lookup(bus_addr{0x210000}).page_shift == 16);
  CHECK(seen.flushes == 32);
  CHECK(seen.absent);
  table->complete(changes);
  CHECK(*table->protect(bus_addr{0x220000}, 0x10000, access::read, false, changes) == 0x10000);
  CHECK(seen.flushes == 33);
  CHECK(seen.absent);
  CHECK(table->lookup(bus_addr{0x221000}).page_shift == 16);
  CHECK(table->lookup(bus_addr{0x221000}).permissions == 1);
  table->complete(changes);

  invalidations<bus_space> unable;
  CHECK(table->protect(bus_addr{0x230000}, 0x10000, access::read, false, unable).error().code ==
        errc::not_supported);
}

}  // namespace phasebit::page_table_harness
