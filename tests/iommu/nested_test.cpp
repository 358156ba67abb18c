// SPDX-License-Identifier: BSL-1.0
#include "page_table_harness.hpp"

#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>
#include <phasebit/iommu/translation/nested.hpp>
#include <phasebit/memory/translate.hpp>

#include <array>

namespace phasebit::page_table_harness {

namespace {

// A guest of 64 pages, whose memory lies scattered in the host's: guest page p is host page 7p mod 64
// of `host`. It keeps its own x86 tables in its lowest pages.
struct machine {
  static constexpr std::uint64_t base = 0x10'0000'0000;  // of the host memory that the guest has
  using guest_tables = table_arena<32, 12, guest_space>;
  using stage2_type =
      page_table<vtd_second_stage, table_store<vtd_second_stage, 64>::arena_type, guest_space>;

  machine() : stage2(*stage2_type::create({}, store.arena)) {
    for (std::uint64_t p = 0; p != 64; ++p) {
      const bool read_only = p >= 48;
      REQUIRE(stage2.map(guest_addr{p << 12}, host_phys{base + (p * 7 % 64 << 12)}, 0x1000,
                         {.permission = read_only ? access::read : access::read_write}));
    }
  }
  table_word* guest_page(std::uint64_t p) {
    return reinterpret_cast<table_word*>(host.data() + (p * 7 % 64 << 12));
  }

  alignas(4096) static inline std::array<std::byte, 64 << 12> host{};
  table_store<vtd_second_stage, 64> store;
  stage2_type stage2;
  table_window<> window{host, host_phys{base}};
};

}  // namespace

TEST_CASE("stage 1 over stage 2: pages and tables of the guest are both translated again") {
  machine m;
  m.host.fill(std::byte{0});
  const guest_addr root{0x3000};
  const nested<x86_first_stage, machine::stage2_type, const table_window<>> both{
      {}, root, m.stage2, m.window};
  static_assert(AddressTranslator<decltype(both)>);
  CHECK(both.translate(bus_addr{0}, 1, access::read).error().code == errc::not_mapped);

  // The guest writes its tables at guest pages 3 to 6: 2 pages of 4 KiB at 0x4000'0000'1000.
  const std::uint64_t va = 0x4000'0000'1000;
  m.guest_page(3)[va >> 39 & 511] = 0x4027;
  m.guest_page(4)[va >> 30 & 511] = 0x5027;
  m.guest_page(5)[va >> 21 & 511] = 0x6027;
  m.guest_page(6)[va >> 12 & 511] = 20 << 12 | 0x67;
  m.guest_page(6)[(va >> 12 & 511) + 1] = 21 << 12 | 0x67;
  m.guest_page(6)[(va >> 12 & 511) + 2] = 50 << 12 | 0x67;   // read-only in stage 2
  m.guest_page(6)[(va >> 12 & 511) + 3] = 200 << 12 | 0x67;  // beyond the guest's memory

  const auto host_of = [](std::uint64_t p) {
    return host_phys{machine::base + (p * 7 % 64 << 12)};
  };
  const auto first = both.translate(bus_addr{va + 0x123}, 0x2000, access::write);
  REQUIRE(first);
  CHECK(*first == segment<host_space>{host_of(20) + 0x123, 0x1000 - 0x123});
  CHECK(both.translate(bus_addr{va + 0x1000}, 16, access::read)->begin == host_of(21));
  CHECK(both.translate(bus_addr{va + 0x2000}, 16, access::read)->begin == host_of(50));
  CHECK(both.translate(bus_addr{va + 0x2000}, 16, access::write).error().code ==
        errc::access_denied);
  CHECK(both.translate(bus_addr{va + 0x3000}, 16, access::read).error().code == errc::not_mapped);
  std::uint64_t bytes = 0;
  CHECK(for_each_segment(both, bus_addr{va}, 0x3000, access::read,
                         [&](auto part) noexcept { bytes += part.bytes; }));
  CHECK(bytes == 0x3000);

  // A guest that points at tables it does not have reaches nothing.
  m.guest_page(4)[va >> 30 & 511] = 200 << 12 | 0x27;
  CHECK(both.stage1().lookup(bus_addr{va}).status == walk_status::unreadable);
  CHECK(both.translate(bus_addr{va}, 1, access::read).error().code == errc::protocol);
}

TEST_CASE("a guest's own page table type works behind its translation") {
  machine m;
  m.host.fill(std::byte{0});
  // The guest allocates through its own eyes: an arena in guest space over contiguous host memory.
  machine::guest_tables tables{{m.host.data(), 32 << 12}, guest_addr{0x100000}};
  auto guest = page_table<arm_stage2<12>, machine::guest_tables>::create({.ipa_bits = 40}, tables);
  REQUIRE(guest);
  static_assert(std::same_as<decltype(guest)::value_type::to, guest_space>);
  REQUIRE(guest->map(bus_addr{0x5000}, guest_addr{0x7000}, 0x1000));
  CHECK(guest->translate(bus_addr{0x5010}, 1, access::read)->begin == guest_addr{0x7010});
}

TEST_CASE("a table that the second stage does not map as one range is not found") {
  // A stage that maps the first 4 KiB of anything, and pages that are always there.
  struct short_stage {
    using from = guest_space;
    using to = host_space;
    [[nodiscard]] result<segment<host_space>> translate(guest_addr a, std::uint64_t bytes,
                                                        access) noexcept {
      return segment<host_space>{host_phys{a.value()}, bytes < 4096 ? bytes : 4096};
    }
  } stage;
  struct always {
    using space = host_space;
    table_word word{};
    [[nodiscard]] table_word* find(host_phys, std::size_t) noexcept { return &word; }
  } pages;
  const translated_tables<short_stage, always> tables{stage, pages};
  CHECK(tables.find(guest_addr{0x1000}, 4096) == &pages.word);
  CHECK(tables.find(guest_addr{0x10000}, 0x10000) == nullptr);
}

}  // namespace phasebit::page_table_harness
