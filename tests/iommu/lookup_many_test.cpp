// SPDX-License-Identifier: BSL-1.0
// Lookups in batches give what lookups one by one give.
#include "page_table_harness.hpp"

#include <array>

namespace phasebit::page_table_harness {

TEST_CASE("lookups in batches of any size answer as one by one, in every format") {
  for_every_format([]<class Format>(const Format& format) {
    using arena_type = typename table_store<Format, 1024>::arena_type;
    using view = page_table_view<Format, arena_type, bus_space>;
    table_store<Format, 1024> store;
    constexpr std::uint64_t granule = table_geometry<Format>::table_bytes;
    std::mt19937_64 random(7);
    // Tables of several domains, and the same addresses in all of them.
    std::vector<page_table<Format, arena_type>> tables;
    std::vector<std::uint64_t> places;
    for (int i = 0; i != 4; ++i) {
      auto made = page_table<Format, arena_type>::create(format, store.arena);
      REQUIRE(made);
      tables.push_back(std::move(*made));
      for (int n = 0; n != 12; ++n) {
        const std::uint64_t size = granule << random() % 12;
        const std::uint64_t at = (random() & 0x3fff'ffff) & ~(size - 1);
        const std::uint64_t to = (random() & 0x3fff'ffff) & ~(size - 1);
        static_cast<void>(tables.back()
                              .map(bus_addr{at}, host_phys{to}, size,
                                   {.permission = n % 3 == 0 ? access::read : access::read_write})
                              .has_value());
        places.push_back(at);
        places.push_back(at + size - 1);
      }
    }
    const auto somewhere = [&] {
      return bus_addr{random() % 8 == 0 ? random() >> random() % 40
                                        : places[random() % places.size()]};
    };
    const auto same = [](const page_lookup<host_space>& a, const page_lookup<host_space>& b) {
      return a.status == b.status && a.level == b.level && a.entry == b.entry && a.page == b.page &&
             a.page_shift == b.page_shift && a.permissions == b.permissions;
    };
    for (std::size_t count = 0; count != 70; ++count) {
      std::vector<typename view::question> questions;
      std::vector<bus_addr> where;
      for (std::size_t i = 0; i != count; ++i) {
        where.push_back(somewhere());
        questions.push_back({&tables[random() % tables.size()], where.back()});
      }
      // One place more than there are answers: it stays as it is.
      std::vector<page_lookup<host_space>> found(count + 1);
      found.back().level = 99;
      view::lookup_many(questions, found);
      for (std::size_t i = 0; i != count; ++i) {
        REQUIRE(same(found[i], questions[i].tables->lookup(questions[i].at)));
      }
      tables[0].lookup_many(where, found);
      for (std::size_t i = 0; i != count; ++i) REQUIRE(same(found[i], tables[0].lookup(where[i])));
      CHECK(found.back().level == 99);
    }
    // Entries that lead nowhere, and a root that is not there.
    arena_type& arena = store.arena;
    view nowhere{format, arena, host_phys{0}};
    std::array<bus_addr, 2> at{bus_addr{0}, bus_addr{granule}};
    std::array<page_lookup<host_space>, 2> found{};
    nowhere.lookup_many(at, found);
    CHECK(found[0].status == walk_status::unreadable);
    CHECK(found[1].status == walk_status::unreadable);
  });
}

}  // namespace phasebit::page_table_harness
