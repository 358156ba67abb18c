// SPDX-License-Identifier: BSL-1.0
#include "page_table_walks.hpp"

#include <phasebit/iommu/page_table/formats/vtd.hpp>

namespace phasebit::page_table_harness {

namespace {

using vtd_arena = table_store<vtd_second_stage>::arena_type;
using vtd_table = page_table<vtd_second_stage, vtd_arena>;
static_assert(AddressTranslator<vtd_table>);

}  // namespace

TEST_CASE("the identity map of the known case takes twenty entries") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0x3fe400ULL << 12}, host_phys{0x3fe400ULL << 12},
                     (0x4c0600ULL - 0x3fe400ULL) << 12));
  std::vector<std::pair<unsigned, int>> runs;
  REQUIRE(table->walk(bus_addr{0}, 1ULL << 48, [&](auto page) noexcept {
    CHECK(page.begin.value() == page.target.value());
    if (runs.empty() || runs.back().first != page.page_shift) runs.emplace_back(page.page_shift, 0);
    ++runs.back().second;
  }));
  CHECK(runs == std::vector<std::pair<unsigned, int>>{{21, 14}, {30, 3}, {21, 3}});
}

TEST_CASE("a hundred thousand random steps agree with the oracle: VT-d, 39, 48 and 57 bits") {
  random_steps<vtd_second_stage>({.width = vtd_width::bits_39}, {}, 100000, 1, 4096);
  random_steps<vtd_second_stage>({.width = vtd_width::bits_48}, {}, 100000, 2, 4096);
  random_steps<vtd_second_stage>({.width = vtd_width::bits_57, .snoop_control = true},
                                 {.coherent = true}, 100000, 3, 4096);
}

TEST_CASE("random steps with too little memory for tables leave no trace of what failed") {
  random_steps<vtd_second_stage>({}, {}, 50000, 4, 12);
  random_steps<vtd_second_stage>({.pages_2m = false, .pages_1g = false}, {}, 50000, 5, 16);
}

TEST_CASE(
    "random steps in the mode for many mappers agree with the oracle, and trim leaves nothing") {
  random_steps<vtd_second_stage>({}, {}, 50000, 6, 4096, {.who = mappers::concurrent});
}

TEST_CASE("bad ranges are refused with the reason, and nothing has changed") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({.width = vtd_width::bits_39, .address_bits = 46}, store.arena);
  REQUIRE(table);
  const auto code = [&](std::uint64_t begin, std::uint64_t target, std::uint64_t bytes,
                        page_attributes a = {}) {
    const auto done = table->map(bus_addr{begin}, host_phys{target}, bytes, a);
    REQUIRE_FALSE(done);
    CHECK(store.arena.used() == 1);
    return done.error().code;
  };
  CHECK(code(0x800, 0, 0x1000) == errc::misaligned);
  CHECK(code(0, 0x200, 0x1000) == errc::misaligned);
  CHECK(code(0, 0, 0x1800) == errc::misaligned);
  CHECK(code(~0ULL << 12, 0, 0x2000) == errc::overflow);
  CHECK(code(~0ULL << 12, 0, 0x1000) == errc::out_of_range);
  CHECK(code(1ULL << 39, 0, 0x1000) == errc::out_of_range);
  CHECK(code((1ULL << 39) - 0x1000, 0, 0x2000) == errc::out_of_range);
  CHECK(code(0, 1ULL << 46, 0x1000) == errc::out_of_range);
  CHECK(code(0, (1ULL << 46) - 0x1000, 0x2000) == errc::out_of_range);
  CHECK(code(0, ~0ULL << 12, 0x2000) == errc::out_of_range);
  CHECK(code(0, 0, 0x1000, {.coherent = true}) == errc::not_supported);
  CHECK(code(0, 0, 0x1000, {.memory = memory_type::device}) == errc::not_supported);
  CHECK(table->map(bus_addr{0x123}, host_phys{0x456}, 0));

  CHECK(table->unmap(bus_addr{0x10}, 0x1000).error().code == errc::misaligned);
  CHECK(table->unmap(bus_addr{0}, 1ULL << 40).error().code == errc::out_of_range);
  CHECK(table->unmap(bus_addr{~0ULL << 12}, 0x2000).error().code == errc::overflow);
  CHECK(*table->unmap(bus_addr{0}, 1ULL << 39) == 0);

  CHECK(table->translate(bus_addr{1ULL << 39}, 1, access::read).error().code == errc::not_mapped);
  CHECK(table->lookup(bus_addr{~0ULL}).status == walk_status::beyond_width);
  CHECK(table->walk(bus_addr{~0ULL}, 2, [](auto) noexcept {}).error().code == errc::out_of_range);
}

TEST_CASE("an overlap is refused at its address, wherever it lies in the range") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  for (const std::uint64_t taken : {0ULL, 0x1ff000ULL, 0x200000ULL, 0x3fffff000ULL}) {
    CAPTURE(taken);
    REQUIRE(table->map(bus_addr{taken}, host_phys{0x7000}, 0x1000, {.permission = access::read}));
    const std::size_t used = store.arena.used();
    for (const std::uint64_t skew : {0ULL, 0x200000ULL}) {
      const auto done = table->map(bus_addr{0}, host_phys{1ULL << 40 | skew}, 0x400000000);
      REQUIRE_FALSE(done);
      CHECK(done.error().code == errc::overlap);
      // A large page that would cover what is there names its own beginning.
      CHECK(done.error().value <= taken);
      CHECK(taken - done.error().value < 1ULL << 30);
      CHECK(store.arena.used() <= used);  // emptied tables of the round before may go
      int pages = 0;
      CHECK(table->walk(bus_addr{0}, 1ULL << 39, [&](auto page) noexcept {
        ++pages;
        CHECK(page.begin.value() == taken);
        CHECK(page.attributes.permission == access::read);
      }));
      CHECK(pages == 1);
    }
    REQUIRE(table->unmap(bus_addr{taken}, 0x1000));
  }
}

TEST_CASE("a map that runs out of tables leaves pages, tables and arena as they were") {
  for (std::size_t pages = 1; pages != 12; ++pages) {
    CAPTURE(pages);
    table_store<vtd_second_stage> store(pages);
    auto table = vtd_table::create({}, store.arena);
    REQUIRE(table);
    // Needs a table each of levels 2 and 1, and eight of level 0.
    const auto done = table->map(bus_addr{0x1000}, host_phys{0x200000}, 8 * 0x200000 - 0x1000);
    CHECK(done.has_value() == (pages >= 11));
    if (!done) {
      CHECK(done.error().code == errc::exhausted);
      CHECK(store.arena.used() == 1);
      CHECK(table->walk(bus_addr{0}, 1ULL << 47, [](auto) noexcept { CHECK(false); }));
    }
  }
  table_store<vtd_second_stage> none(0);
  const auto failed = vtd_table::create({}, none.arena);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == errc::exhausted);
}

TEST_CASE("changes list the addresses, page sizes and tables that hardware must invalidate") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena, {.cut = large_pages::split});
  REQUIRE(table);
  invalidations<bus_space> changes;
  using range = invalidation_range<bus_space>;

  REQUIRE(table->map(bus_addr{0x200000}, host_phys{0x200000}, 0x203000, {}, changes));
  CHECK(changes.empty());  // absent entries are not cached

  REQUIRE(table->unmap(bus_addr{0x400000}, 0x1000, changes));
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0] == range{bus_addr{0x400000}, bus_addr{0x400fff}, 0x1000, false});
  table->complete(changes);
  CHECK(changes.empty());

  // Two ranges that touch are one; one apart is another.
  REQUIRE(table->protect(bus_addr{0x401000}, 0x1000, access::read, false, changes));
  REQUIRE(table->protect(bus_addr{0x402000}, 0x1000, access::read, false, changes));
  REQUIRE(table->unmap(bus_addr{0x200000}, 0x200000, changes));
  REQUIRE(changes.ranges().size() == 2);
  CHECK(changes.ranges()[0] == range{bus_addr{0x401000}, bus_addr{0x402fff}, 0x1000, false});
  CHECK(changes.ranges()[1] == range{bus_addr{0x200000}, bus_addr{0x3fffff}, 0x200000, false});
  table->complete(changes);

  // An emptied table is retired, not yet released: hardware may still be walking it.
  const std::size_t used = store.arena.used();
  REQUIRE(table->unmap(bus_addr{0}, 1ULL << 48, changes));
  CHECK(changes.retired_tables() == 3);
  CHECK(store.arena.used() == used);
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0].tables);
  CHECK(changes.ranges()[0].page_sizes == 0x1000);
  table->complete(changes);
  CHECK(store.arena.used() == 1);
}

TEST_CASE("with a cache of absent entries, map() records changes too") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena, {.caching_mode = true});
  REQUIRE(table);
  invalidations<bus_space> changes;
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x3ff000, {}, changes));
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0].first == bus_addr{0x1000});
  CHECK(changes.ranges()[0].last == bus_addr{0x3fffff});
  CHECK(changes.ranges()[0].page_sizes == 0x201000);
}

TEST_CASE("any number of changes is gathered in bounded space, and nothing is forgotten") {
  std::mt19937_64 random(3);
  for (int round = 0; round != 200; ++round) {
    invalidations<bus_space> changes;
    std::vector<std::uint64_t> touched;
    for (int i = 0; i != 100; ++i) {
      const std::uint64_t at = random() >> (random() % 40) & ~0xfffULL;
      touched.push_back(at);
      changes.add(bus_addr{at}, bus_addr{at + 0xfff}, 0x1000, false);
      CHECK(changes.ranges().size() <= changes.capacity);
    }
    for (const std::uint64_t at : touched) {
      bool covered = false;
      for (const auto& r : changes.ranges()) {
        covered |= r.first.value() <= at && at + 0xfff <= r.last.value();
      }
      REQUIRE(covered);
    }
  }
  invalidations<bus_space> ends;
  ends.add(bus_addr{0}, bus_addr{0xfff}, 0x1000, false);
  ends.add(bus_addr{~0xfffULL}, bus_addr{~0ULL}, 0x1000, true);
  CHECK(ends.ranges().size() == 2);
}

TEST_CASE("a walker that is still inside an emptied table finds nothing there") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0}, host_phys{0x1000}, 0x1000));
  REQUIRE(table->map(bus_addr{0x200000}, host_phys{0x1000}, 0x1000));
  // The contents of a paging-structure cache: the addresses of the two lowest tables.
  const auto* upper = store.arena.find(
      host_phys{
          *store.arena.find(host_phys{*store.arena.find(table->root(), 4096) & ~0xfffULL}, 4096) &
          ~0xfffULL},
      4096);
  REQUIRE(upper != nullptr);
  const auto* one = store.arena.find(host_phys{upper[0] & ~0xfffULL}, 4096);
  const auto* two = store.arena.find(host_phys{upper[1] & ~0xfffULL}, 4096);
  invalidations<bus_space> changes;
  REQUIRE(table->unmap(bus_addr{0}, 0x400000, changes));
  for (unsigned i = 0; i != 512; ++i) {
    CHECK((one[i] & vtd_second_stage::present_mask) == 0);
    CHECK((two[i] & vtd_second_stage::present_mask) == 0);
  }
  table->complete(changes);
}

TEST_CASE("the table reaches the last byte of its width, and a page may end there") {
  table_store<vtd_second_stage> store;
  for (const vtd_width width : {vtd_width::bits_39, vtd_width::bits_48, vtd_width::bits_57}) {
    auto table = vtd_table::create({.width = width}, store.arena);
    REQUIRE(table);
    const std::uint64_t end = 1ULL << table->format().input_bits();
    REQUIRE(table->map(bus_addr{end - 0x40000000}, host_phys{0}, 0x40000000));
    CHECK(table->lookup(bus_addr{end - 1}).page_shift == 30);
    CHECK(table->translate(bus_addr{end - 1}, 2, access::read)->bytes == 1);
    CHECK(table->translate(bus_addr{end}, 1, access::read).error().code == errc::not_mapped);
    CHECK(*table->unmap(bus_addr{0}, end) == 0x40000000);
  }
}

TEST_CASE("the largest page can be limited") {
  table_store<vtd_second_stage> store;
  for (const unsigned shift : {12U, 21U, 30U}) {
    auto table = vtd_table::create({}, store.arena, {.largest_page = 1ULL << shift});
    REQUIRE(table);
    REQUIRE(table->map(bus_addr{0}, host_phys{0}, 1ULL << 30));
    CHECK(table->lookup(bus_addr{0}).page_shift == shift);
  }
}

TEST_CASE("a moved table goes on, and frees its tables once") {
  table_store<vtd_second_stage> store;
  {
    auto made = vtd_table::create({}, store.arena);
    REQUIRE(made);
    REQUIRE(made->map(bus_addr{0}, host_phys{0x1000}, 0x1000));
    vtd_table moved = std::move(*made);
    CHECK(moved.translate(bus_addr{5}, 1, access::read)->begin == host_phys{0x1005});
    CHECK(store.arena.used() == 4);
  }
  CHECK(store.arena.used() == 0);
}

TEST_CASE("memory that the hardware reads past the caches is written back, entry by entry") {
  struct noting : vtd_arena {
    using vtd_arena::vtd_arena;
    void written(table_word* words, std::size_t count) noexcept {
      if (words != nullptr) words_written += count;
    }
    std::size_t words_written = 0;
  };
  table_store<vtd_second_stage> store;
  noting tables{{store.memory.get(), 64 * 4096}, host_phys{0}};
  auto table = page_table<vtd_second_stage, noting>::create({}, tables);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0}, host_phys{0x1000}, 0x10000));
  CHECK(tables.words_written == 3 * 512 + 3 + 16);
  tables.words_written = 0;
  REQUIRE(table->unmap(bus_addr{0}, 0x10000));
  CHECK(tables.words_written == 16);
  // A single page is written back when it comes and when it goes, and not when there is none.
  REQUIRE(table->map(bus_addr{0x3000}, host_phys{0x1000}, 0x1000));
  CHECK(tables.words_written == 17);
  REQUIRE(table->unmap(bus_addr{0x3000}, 0x1000));
  CHECK(tables.words_written == 18);
  REQUIRE(table->unmap(bus_addr{0x3000}, 0x1000));
  CHECK(tables.words_written == 18);
  table->trim();
  CHECK(tables.words_written == 18 + 3);
}

TEST_CASE("entries that another writer has stored end a walk, and reach nothing outside") {
  table_store<vtd_second_stage> store(64);
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0}, host_phys{0x200000}, 0x1ff000));
  REQUIRE(table->map(bus_addr{0x40000000}, host_phys{0x40000000}, 0x40000000));
  table_word* root = store.arena.find(table->root(), 4096);
  REQUIRE(root != nullptr);
  const std::uint64_t good = root[0];
  struct damage {
    std::uint64_t entry;
    walk_status status;
  };
  for (const damage d :
       {damage{0x10'0000'0003, walk_status::unreadable},
        damage{0x000f'ffff'ffff'f003, walk_status::unreadable},
        damage{0x7'0004'0003, walk_status::unreadable}, damage{good | 0x80, walk_status::malformed},
        damage{good & ~3ULL, walk_status::absent}}) {
    root[0] = d.entry;
    CHECK(table->lookup(bus_addr{0}).status == d.status);
    CHECK_FALSE(table->translate(bus_addr{0}, 1, access::read));
    invalidations<bus_space> changes;
    if (d.status != walk_status::absent) {
      CHECK(table->walk(bus_addr{0}, 0x1000, [](auto) noexcept {}).error().code == errc::protocol);
      CHECK(table->unmap(bus_addr{0}, 0x1000, changes).error().code == errc::protocol);
      CHECK(table->protect(bus_addr{0}, 0x1000, access::read, false, changes).error().code ==
            errc::protocol);
      const auto mapped = table->map(bus_addr{0x10000000}, host_phys{0}, 0x1000, {}, changes);
      REQUIRE_FALSE(mapped);
      CHECK((mapped.error().code == errc::protocol || mapped.error().code == errc::overlap));
    }
    table->complete(changes);
  }
  // A table that is its own child: the walk ends after as many steps as there are levels.
  root[0] = table->root().value() | 3;
  CHECK(table->lookup(bus_addr{0}).status == walk_status::mapped);
  CHECK(table->lookup(bus_addr{0}).level == 0);
  root[0] = good;
  CHECK(table->lookup(bus_addr{0}).status == walk_status::mapped);
}

TEST_CASE("regression: a table made its own child is unmapped without losing the way") {
  table_store<vtd_second_stage> store(64);
  auto table = vtd_table::create({.width = vtd_width::bits_39}, store.arena);
  REQUIRE(table);
  table_word* root = store.arena.find(table->root(), 4096);
  for (const std::uint64_t bytes : {0x1000ULL, 0x200000ULL, 0x40000000ULL}) {
    root[0] = table->root().value() | 3;
    invalidations<bus_space> changes;
    static_cast<void>(table->unmap(bus_addr{0}, bytes, changes));
    table->complete(changes);
  }
}

TEST_CASE("a view walks what a table has built, and sees its changes") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  const table_window<> window{{store.memory.get(), 4096 * 4096}, host_phys{0x7'0000'0000}};
  const page_table_view<vtd_second_stage, const table_window<>> view{{}, window, table->root()};
  CHECK(view.lookup(bus_addr{0x5000}).status == walk_status::absent);
  REQUIRE(table->map(bus_addr{0x5000}, host_phys{0x9000}, 0x1000));
  CHECK(view.translate(bus_addr{0x5123}, 4, access::write)->begin == host_phys{0x9123});
  const page_table_view<vtd_second_stage, const table_window<>> nowhere{{}, window, host_phys{0}};
  CHECK(nowhere.lookup(bus_addr{0}).status == walk_status::unreadable);
  CHECK(nowhere.walk(bus_addr{0}, 1, [](auto) noexcept {}).error().code == errc::protocol);
}

TEST_CASE("a translation goes on over neighbouring pages as long as target and permission do") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x4000));
  REQUIRE(table->map(bus_addr{0x5000}, host_phys{0x5000}, 0x1000, {.permission = access::read}));
  REQUIRE(table->map(bus_addr{0x6000}, host_phys{0x8000}, 0x1000));
  CHECK(table->translate(bus_addr{0x1010}, 0x10000, access::read)->bytes == 0x4ff0);
  CHECK(table->translate(bus_addr{0x1010}, 0x10000, access::write)->bytes == 0x3ff0);
  CHECK(table->translate(bus_addr{0x1010}, 0x2000, access::write)->bytes == 0x2000);
  CHECK(table->translate(bus_addr{0x6000}, 0x10000, access::read)->bytes == 0x1000);
  CHECK(table->translate(bus_addr{0x5000}, 1, access::write).error().code == errc::access_denied);
}

TEST_CASE("a visitor ends a walk by answering false") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x8000));
  int pages = 0;
  CHECK(table->walk(bus_addr{0}, 1 << 20, [&](auto) noexcept { return ++pages < 3; }));
  CHECK(pages == 3);
}

TEST_CASE("a table that is emptied piecewise stays until trim, or until memory runs out") {
  table_store<vtd_second_stage> store(4);
  auto table = vtd_table::create({}, store.arena);
  REQUIRE(table);
  int flushes = 0;
  invalidations<bus_space> changes{
      [](void* count, std::span<const invalidation_range<bus_space>> ranges) noexcept {
        ++*static_cast<int*>(count);
        bool tables = false;
        for (const auto& r : ranges) tables |= r.tables;
        CHECK(tables);
      },
      &flushes};
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x1000, {}, changes));
  CHECK(store.arena.used() == 4);
  REQUIRE(table->unmap(bus_addr{0x1000}, 0x1000, changes));
  REQUIRE(changes.ranges().size() == 1);
  CHECK_FALSE(changes.ranges()[0].tables);
  table->complete(changes);
  CHECK(store.arena.used() == 4);
  // The same place again costs no table.
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x1000, {}, changes));
  REQUIRE(table->unmap(bus_addr{0x1000}, 0x1000, changes));
  table->complete(changes);

  // Another place needs all three, which the map gets by itself where it can flush.
  invalidations<bus_space> unable;
  const auto refused = table->map(bus_addr{1ULL << 40}, host_phys{0x1000}, 0x1000, {}, unable);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::exhausted);
  table->complete(unable);
  REQUIRE(table->map(bus_addr{1ULL << 40}, host_phys{0x1000}, 0x1000, {}, changes));
  CHECK(flushes == 1);
  CHECK(store.arena.used() == 4);
  CHECK(changes.empty());
  // With a page in them they stay.
  const auto full = table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x1000, {}, changes);
  REQUIRE_FALSE(full);
  CHECK(full.error().code == errc::exhausted);
  CHECK(table->lookup(bus_addr{1ULL << 40}).status == walk_status::mapped);
  table->complete(changes);

  REQUIRE(table->unmap(bus_addr{1ULL << 40}, 0x1000, changes));
  table->trim(changes);
  CHECK(changes.retired_tables() == 3);
  table->complete(changes);
  CHECK(store.arena.used() == 1);
}

TEST_CASE("many mappers: a map without memory leaves emptied tables to those who may be inside") {
  table_store<vtd_second_stage> store(4);
  auto table = vtd_table::create({}, store.arena, {.who = mappers::concurrent});
  REQUIRE(table);
  invalidations<bus_space> changes{
      [](void*, std::span<const invalidation_range<bus_space>>) noexcept {}, nullptr};
  REQUIRE(table->map(bus_addr{0x1000}, host_phys{0x1000}, 0x1000, {}, changes));
  REQUIRE(table->unmap(bus_addr{0x1000}, 0x1000, changes));
  table->complete(changes);
  const auto full = table->map(bus_addr{1ULL << 40}, host_phys{0x1000}, 0x1000, {}, changes);
  REQUIRE_FALSE(full);
  CHECK(full.error().code == errc::exhausted);
  CHECK(changes.retired_tables() == 0);
  CHECK(store.arena.used() == 4);
  table->complete(changes);
  // Another thread's map into the emptied table, which it had found before.
  REQUIRE(table->map(bus_addr{0x2000}, host_phys{0x1000}, 0x1000));
  CHECK(table->lookup(bus_addr{0x2000}).status == walk_status::mapped);
}

TEST_CASE("many mappers: an empty table left behind gives way to a large page") {
  table_store<vtd_second_stage> store;
  auto table = vtd_table::create({}, store.arena, {.who = mappers::concurrent});
  REQUIRE(table);
  REQUIRE(table->map(bus_addr{0x40000000}, host_phys{0x1000}, 0x2000));
  REQUIRE(table->unmap(bus_addr{0x40000000}, 0x1000));
  invalidations<bus_space> changes;
  const auto overlap =
      table->map(bus_addr{0x40000000}, host_phys{0x40000000}, 0x40000000, {}, changes);
  REQUIRE_FALSE(overlap);
  CHECK(overlap.error().code == errc::overlap);
  CHECK(changes.empty());
  REQUIRE(table->unmap(bus_addr{0x40001000}, 0x1000));
  CHECK(store.arena.used() == 4);
  REQUIRE(table->map(bus_addr{0x40000000}, host_phys{0x40000000}, 0x40000000, {}, changes));
  CHECK(table->lookup(bus_addr{0x40000000}).page_shift == 30);
  CHECK(changes.retired_tables() == 2);
  REQUIRE(changes.ranges().size() == 1);
  CHECK(changes.ranges()[0].tables);
  table->complete(changes);
  CHECK(store.arena.used() == 2);
}

}  // namespace phasebit::page_table_harness
