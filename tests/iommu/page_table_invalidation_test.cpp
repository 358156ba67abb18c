// SPDX-License-Identifier: BSL-1.0
// The invalidations that changes of page tables require, and their times.
#include "page_table_harness.hpp"

#include <phasebit/iommu/page_table/formats/amdv1.hpp>
#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>
#include <phasebit/iommu/page_table/formats/riscv.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>

#include <algorithm>

namespace phasebit::page_table_harness {

namespace {

template <class Format>
using table_of = page_table<Format, typename table_store<Format, 256>::arena_type>;

// Records the argument of each flush, and the tables' contents at that moment.
template <class Table>
struct flush_log {
  Table* table = nullptr;
  bus_addr watched{};
  std::vector<invalidation_range<bus_space>> ranges;
  std::vector<std::uint64_t> entries;  // where a walk for `watched` ended

  static void flush(void* self, std::span<const invalidation_range<bus_space>> now) noexcept {
    auto& log = *static_cast<flush_log*>(self);
    log.ranges.insert(log.ranges.end(), now.begin(), now.end());
    log.entries.push_back(log.table->lookup(log.watched).entry);
  }
  [[nodiscard]] bool names(std::uint64_t a) const {
    return std::any_of(ranges.begin(), ranges.end(), [&](const auto& r) {
      return r.first.value() <= a && a <= r.last.value() && r.tables;
    });
  }
};

}  // namespace

TEST_CASE("trim names sign-extended addresses as the hardware spells them") {
  using format = x86_first_stage;
  for (const bool five : {false, true}) {
    CAPTURE(five);
    table_store<format, 256> store;
    auto table =
        table_of<format>::create({.five_levels = five}, store.arena, {.who = mappers::concurrent});
    REQUIRE(table);
    const std::uint64_t upper = five ? 0xff00'0000'0000'0000 : 0xffff'8000'0000'0000;
    for (const std::uint64_t at : {upper, ~std::uint64_t{0xfff}, std::uint64_t{0x1000}}) {
      CAPTURE(at);
      REQUIRE(table->map(bus_addr{at}, host_phys{0x5000}, 0x1000));
      REQUIRE(table->unmap(bus_addr{at}, 0x1000));
      invalidations<bus_space> changes;
      table->trim(changes);
      CHECK(changes.retired_tables() != 0);
      bool named = false;
      for (const auto& r : changes.ranges()) {
        CHECK(r.tables);
        CHECK(table_geometry<format>::reaches(table->format(), r.first.value(), r.last.value()));
        named |= (r.first.value() >> 39) == (at >> 39);
      }
      CHECK(named);
      table->complete(changes);
      CHECK(store.arena.used() == 1);
    }
  }
}

TEST_CASE("Arm: an emptied table gives way to a large page through absence and a flush") {
  using format = arm_stage2<12>;
  for (const mappers who : {mappers::one, mappers::concurrent}) {
    table_store<format, 256> store;
    auto table = table_of<format>::create({}, store.arena, {.who = who});
    REQUIRE(table);
    invalidations<bus_space> unable;
    REQUIRE(table->map(bus_addr{0x40000000}, host_phys{0x1000}, 0x1000, {}, unable));
    REQUIRE(table->unmap(bus_addr{0x40000000}, 0x1000, unable));
    const std::size_t used = store.arena.used();
    // One map asks for a 2 MiB page, the other for a 1 GiB page over the emptied tables.
    for (const std::uint64_t bytes : {std::uint64_t{0x200000}, std::uint64_t{0x40000000}}) {
      const auto refused =
          table->map(bus_addr{0x40000000}, host_phys{0x40000000}, bytes, {}, unable);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == errc::not_supported);
      CHECK(table->lookup(bus_addr{0x40000000}).status == walk_status::absent);
      CHECK(store.arena.used() == used);
      table->complete(unable);
    }
    flush_log<table_of<format>> log{&*table, bus_addr{0x40000000}, {}, {}};
    invalidations<bus_space> changes{&log.flush, &log};
    REQUIRE(table->map(bus_addr{0x40000000}, host_phys{0x40000000}, 0x200000, {}, changes));
    CHECK(log.names(0x40000000));
    REQUIRE(log.entries.size() == 1);
    CHECK(log.entries[0] == 0);  // the entry is absent while the flush runs
    CHECK(table->lookup(bus_addr{0x40000000}).page_shift == 21);
    table->complete(changes);
  }
}

TEST_CASE("Arm: tables that no IOMMU walks, or with BBM level 2, take a large page at once") {
  using format = arm_stage2<12>;
  table_store<format, 256> store;
  const page_table_options many{.who = mappers::concurrent};
  auto cold = table_of<format>::create({}, store.arena, many);
  REQUIRE(cold);
  REQUIRE(cold->map(bus_addr{0}, host_phys{0x1000}, 0x1000));
  REQUIRE(cold->unmap(bus_addr{0}, 0x1000));
  REQUIRE(cold->map(bus_addr{0}, host_phys{0x200000}, 0x200000));
  CHECK(cold->lookup(bus_addr{0}).page_shift == 21);

  auto capable = table_of<format>::create({.bbm_level = 2}, store.arena, many);
  REQUIRE(capable);
  invalidations<bus_space> changes;
  REQUIRE(capable->map(bus_addr{0}, host_phys{0x1000}, 0x1000, {}, changes));
  REQUIRE(capable->unmap(bus_addr{0}, 0x1000, changes));
  REQUIRE(capable->map(bus_addr{0}, host_phys{0x200000}, 0x200000, {}, changes));
  CHECK(capable->lookup(bus_addr{0}).page_shift == 21);
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0].tables);
  capable->complete(changes);
}

TEST_CASE("with a cache of absent entries, a map that makes tables names them") {
  using format = vtd_second_stage;
  table_store<format, 256> store;
  auto table = table_of<format>::create({}, store.arena, {.caching_mode = true});
  REQUIRE(table);
  invalidations<bus_space> changes;
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x1000, {}, changes));
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0].tables);
  table->complete(changes);
  // All tables are there: only the leaf was absent.
  REQUIRE(table->map(bus_addr{0x2000}, host_phys{0x1000}, 0x1000, {}, changes));
  REQUIRE(changes.ranges().size() == 1);
  CHECK_FALSE(changes.ranges()[0].tables);
  table->complete(changes);
  REQUIRE(table->map(bus_addr{0x200000}, host_phys{0x200000}, 0x200000, {}, changes));
  CHECK_FALSE(changes.ranges()[0].tables);
  table->complete(changes);
}

TEST_CASE("a range is refused exactly where it shares a byte with a reserved region") {
  for (std::uint64_t begin = 0; begin != 8; ++begin) {
    for (std::uint64_t end = begin; end != 8; ++end) {
      const reserved_region region[] = {{begin, end, reserved_kind::firmware}};
      for (std::uint64_t first = 0; first != 8; ++first) {
        for (std::uint64_t last = first; last != 8; ++last) {
          bool shared = false;
          for (std::uint64_t byte = first; byte <= last; ++byte) {
            shared |= begin <= byte && byte <= end;
          }
          CHECK(check_reserved(region, first, last).has_value() != shared);
        }
      }
    }
  }
}

TEST_CASE("a map into a reserved region is refused by the region's name, up to its last byte") {
  using format = vtd_second_stage;
  table_store<format, 256> store;
  static constexpr reserved_region regions[] = {
      x86_msi_window,
      {0x8000'0000, 0x8000'ffff, reserved_kind::firmware},
      {0xffff'0000'0000, ~std::uint64_t{0}, reserved_kind::aperture_hole}};
  auto table = table_of<format>::create({}, store.arena, {.reserved = regions});
  REQUIRE(table);
  const auto refused = [&](std::uint64_t first, std::uint64_t bytes, std::uint64_t region) {
    const auto done = table->map(bus_addr{first}, host_phys{0x1000}, bytes);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::access_denied);
    CHECK(done.error().value == region);
  };
  refused(0xfee0'0000, 0x1000, 0xfee0'0000);
  refused(0xfeef'f000, 0x2000, 0xfee0'0000);
  refused(0xfedf'f000, 0x2000, 0xfee0'0000);
  refused(0xf000'0000, 0x1000'0000, 0xfee0'0000);
  refused(0x8000'f000, 0x1000, 0x8000'0000);
  refused(0xffff'0000'0000, 0x1000, 0xffff'0000'0000);
  CHECK(store.arena.used() == 1);
  CHECK(table->map(bus_addr{0xfedf'f000}, host_phys{0x1000}, 0x1000));
  CHECK(table->map(bus_addr{0xfef0'0000}, host_phys{0x1000}, 0x1000));
  CHECK(table->map(bus_addr{0x8001'0000}, host_phys{0x1000}, 0x1000));
  CHECK(table->map(bus_addr{0xfffe'ffff'f000}, host_phys{0x1000}, 0x1000));
}

TEST_CASE("ranges that are joined keep the hint that tables were touched") {
  invalidations<bus_space> changes;
  changes.add(bus_addr{0}, bus_addr{0xfff}, 0x1000, false);
  changes.add(bus_addr{0x1000}, bus_addr{0x1fff}, 0x1000, true);
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0].tables);
}

TEST_CASE("a failed map names the tables that it retired") {
  for (std::size_t pages = 1; pages != 12; ++pages) {
    CAPTURE(pages);
    table_store<vtd_second_stage, 256> store(pages);
    auto table = table_of<vtd_second_stage>::create({}, store.arena);
    REQUIRE(table);
    invalidations<bus_space> changes;
    const auto done =
        table->map(bus_addr{0x1000}, host_phys{0x200000}, 8 * 0x200000 - 0x1000, {}, changes);
    if (!done && changes.retired_tables() != 0) {
      bool tables = false;
      for (const auto& r : changes.ranges()) tables |= r.tables;
      CHECK(tables);
    }
    table->complete(changes);
  }
}

TEST_CASE("Arm: a page of sixteen entries cut at its end is refused, wherever the range begins") {
  table_store<arm_stage2<12>, 256> store;
  auto table = table_of<arm_stage2<12>>::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0xf000}, host_phys{0x555000}, 0x1000));
  REQUIRE(table->map(bus_addr{0x10000}, host_phys{0x100000}, 0x10000));
  const auto cut = table->unmap(bus_addr{0xf000}, 0x2000);
  REQUIRE_FALSE(cut);
  CHECK(cut.error().code == errc::invalid_argument);
  CHECK(table->lookup(bus_addr{0xf000}).status == walk_status::mapped);
  CHECK(table->lookup(bus_addr{0x10000}).page_shift == 16);
}

TEST_CASE("a split writes back the whole new table and the entry that points at it") {
  using format = vtd_second_stage;
  using arena = table_store<format, 256>::arena_type;
  struct noting : arena {
    using arena::arena;
    void written(table_word*, std::size_t count) noexcept { words += count; }
    std::size_t words = 0;
  };
  table_store<format, 256> store;
  noting tables{{store.memory.get(), 64 * 4096}, host_phys{0}};
  auto table = page_table<format, noting>::create({}, tables);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0}, host_phys{0x200000}, 0x200000));
  tables.words = 0;
  invalidations<bus_space> changes;
  REQUIRE(table->split(bus_addr{0x1000}, changes));
  CHECK(tables.words >= 513);
  table->complete(changes);
}

TEST_CASE("a dirty bit that hardware sets while a merge flushes is kept") {
  using format = vtd_second_stage;
  table_store<format, 256> store;
  auto table = table_of<format>::create({.track_dirty = true}, store.arena, {.largest_page = 4096});
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0}, host_phys{0x200000}, 0x200000));
  struct hardware {
    std::uint64_t* words;
    std::size_t count;
    bool wrote = false;
  } device{reinterpret_cast<std::uint64_t*>(store.memory.get()), 64 * 512};
  invalidations<bus_space> changes{
      [](void* p, std::span<const invalidation_range<bus_space>>) noexcept {
        auto& h = *static_cast<hardware*>(p);
        for (std::size_t i = 0; i != h.count; ++i) {
          if ((h.words[i] & format::address_mask) != 0x205000 || (h.words[i] & 3) == 0) continue;
          h.words[i] |= format::dirty_bit;
          h.wrote = true;
        }
      },
      &device};
  REQUIRE(table->merge(bus_addr{0}, 0x200000, changes));
  REQUIRE(device.wrote);
  int pages = 0;
  REQUIRE(
      table->take_dirty(bus_addr{0}, 0x200000, changes, [&](const auto&) noexcept { ++pages; }));
  CHECK(pages == 1);
  table->complete(changes);
}

}  // namespace phasebit::page_table_harness
