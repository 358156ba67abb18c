// SPDX-License-Identifier: BSL-1.0
// Properties of every page-table format.
#include "page_table_harness.hpp"

#include <algorithm>
#include <bit>
#include <random>

namespace phasebit::page_table_harness {

namespace {

void flush_nothing(void*, std::span<const invalidation_range<bus_space>>) noexcept {}

// A dirty bit as hardware sets it.
template <class Format>
std::uint64_t dirtied(const Format&, std::uint64_t e) {
  if constexpr (requires { Format::dirty_modifier; }) {
    return e | Format::write;
  } else {
    return e | Format::dirty_bit;
  }
}

template <class Format>
struct subject {
  using store_type = table_store<Format, 256>;
  using table_type = page_table<Format, typename store_type::arena_type>;
  using geometry = table_geometry<Format>;

  explicit subject(const Format& f, const page_table_options& options = {})
      : format(f), table(*table_type::create(f, store.arena, options)) {}

  // The entry of the page at `a`, found through the tables' memory, as hardware finds it.
  table_word* leaf_word(std::uint64_t a) {
    std::uint64_t at = table.root().value();
    for (unsigned level = format.top_level();; --level) {
      table_word* const words = store.arena.find(host_phys{at}, geometry::table_bytes);
      REQUIRE(words != nullptr);
      const std::uint64_t mask =
          level == format.top_level() ? geometry::root_entries(format) - 1 : geometry::entries - 1;
      table_word* const word = words + (a >> geometry::shift(level) & mask);
      if (format.is_leaf(*word, level)) return word;
      at = format.table_address(*word);
    }
  }

  Format format;
  store_type store;
  table_type table;
};

}  // namespace

TEST_CASE("roots and tables are aligned to their size, and the root has the width's entries") {
  for_every_format([]<class Format>(const Format& format) {
    subject<Format> s{format};
    using geometry = table_geometry<Format>;
    const std::size_t bytes = geometry::root_bytes(format);
    CHECK(std::has_single_bit(bytes));
    CHECK(is_aligned(s.table.root(), bytes));
    CHECK(s.store.arena.used() * s.store.granule == bytes);
    CHECK((std::uint64_t{geometry::root_entries(format)} << geometry::shift(format.top_level())) ==
          (format.input_bits() == 64 ? 0 : std::uint64_t{1} << format.input_bits()));
  });
}

TEST_CASE(
    "what counts as a plain table entry is valid, permits everything and leads one level down") {
  std::mt19937_64 random(7);
  for_every_format([&]<class Format>(const Format& settings) {
    const page_format<Format> format{settings};
    unsigned seen = 0;
    const auto check = [&](std::uint64_t e, unsigned level) {
      if ((e & format.plain_mask()) != format.make_table(0, level)) return;
      ++seen;
      CHECK((e & Format::present_mask) != 0);
      CHECK_FALSE(format.is_leaf(e, level));
      CHECK(format.table_valid(e, level));
      CHECK(format.next_level(e, level) == level - 1);
      CHECK((format.passes(e) & 3) == 3);
    };
    for (unsigned level = 1; level <= format.top_level(); ++level) {
      const std::uint64_t plain = format.make_table(0x7654'3000, level);
      REQUIRE((plain & format.plain_mask()) == format.make_table(0, level));
      for (unsigned low = 0; low != 4096; ++low) check((plain & ~std::uint64_t{4095}) | low, level);
      for (unsigned a = 0; a != 64; ++a) {
        for (unsigned b = 0; b != 64; ++b) {
          check(plain ^ std::uint64_t{1} << a ^ std::uint64_t{1} << b, level);
        }
      }
      for (int i = 0; i != 2000; ++i) check(random(), level);
    }
    CHECK(seen != 0);
  });
}

TEST_CASE("every page size is used where address, target and length allow it, and is one page") {
  for_every_format([]<class Format>(const Format& format) {
    subject<Format> s{format};
    using geometry = table_geometry<Format>;
    const std::uint64_t sizes = geometry::page_sizes(format);
    CHECK((sizes & geometry::table_bytes) != 0);
    for (unsigned bit = 0; bit != 64; ++bit) {
      const std::uint64_t size = std::uint64_t{1} << bit;
      if ((sizes & size) == 0) continue;
      if (!geometry::reaches(format, size, size * 2 - 1)) continue;
      if (bit + 1 >= page_format<Format>{format}.output_bits()) continue;
      CAPTURE(bit);
      REQUIRE(s.table.map(bus_addr{size}, host_phys{size}, size));
      const auto page = s.table.lookup(bus_addr{size + size / 2});
      CHECK(page.status == walk_status::mapped);
      CHECK(page.page_shift == bit);
      CHECK(page.page == host_phys{size});
      int pages = 0;
      REQUIRE(s.table.walk(bus_addr{size}, size, [&](auto p) noexcept {
        ++pages;
        CHECK(p.begin == bus_addr{size});
        CHECK(p.page_shift == bit);
      }));
      CHECK(pages == 1);
      const auto all = s.table.translate(bus_addr{size + 5}, size, access::read_write);
      REQUIRE(all);
      CHECK(*all == segment<host_space>{host_phys{size + 5}, size - 5});
      const auto gone = s.table.unmap(bus_addr{size}, size);
      REQUIRE(gone);
      CHECK(*gone == size);
    }
  });
}

TEST_CASE("the items of a page of several entries agree, and each is found from its own address") {
  for_every_format([]<class Format>(const Format& format) {
    if (page_format<Format>{format}.orders(0) == 0) return;
    if constexpr (page_format<Format>::contiguous) {
      subject<Format> s{format};
      using geometry = table_geometry<Format>;
      const unsigned order =
          static_cast<unsigned>(std::countr_zero(page_format<Format>{format}.orders(0)));
      const std::uint64_t size = geometry::table_bytes << order;
      invalidations<bus_space> changes{&flush_nothing, nullptr};
      REQUIRE(s.table.map(bus_addr{size}, host_phys{4 * size}, size, {}, changes));
      const auto agree = [&](unsigned permissions) {
        const std::uint64_t first = s.table.lookup(bus_addr{size}).entry;
        for (std::uint64_t i = 0; i != 1U << order; ++i) {
          const auto item = s.table.lookup(bus_addr{size + i * geometry::table_bytes});
          CHECK(item.page_shift == format.granule_shift + order);
          CHECK(item.page == host_phys{4 * size});
          CHECK(item.permissions == permissions);
          CHECK(
              item.entry ==
              (page_format<Format>::items_differ ? first + i * geometry::step(format, 0) : first));
        }
      };
      agree(3);
      // Hardware reads the address of each item for itself: a change of permissions keeps it.
      REQUIRE(s.table.protect(bus_addr{size}, size, access::read, false, changes));
      agree(1);
      s.table.complete(changes);
    }
  });
}

TEST_CASE("attributes come back as they were given, or are refused") {
  for_every_format([]<class Format>(const Format& format) {
    subject<Format> s{format};
    using geometry = table_geometry<Format>;
    int accepted = 0;
    for (const access permission : {access::read, access::write, access::read_write}) {
      for (const bool execute : {false, true}) {
        for (const memory_type memory :
             {memory_type::write_back, memory_type::uncached, memory_type::device}) {
          for (const bool coherent : {false, true}) {
            for (const std::uint64_t bytes :
                 {std::uint64_t{geometry::table_bytes}, geometry::span(1)}) {
              const page_attributes a{permission, execute, memory, coherent};
              const auto done = s.table.map(bus_addr{0}, host_phys{0}, bytes, a);
              if (!done) {
                CHECK(done.error().code == errc::not_supported);
                continue;
              }
              ++accepted;
              CHECK(s.table.walk(bus_addr{0}, bytes, [&](auto page) noexcept {
                CHECK(page.attributes == a);
                CHECK_FALSE((page.dirty && format.track_dirty));
              }));
              for (const access wanted : {access::read, access::write, access::read_write}) {
                CHECK(s.table.translate(bus_addr{8}, 8, wanted).has_value() ==
                      allows(permission, wanted));
              }
              REQUIRE(s.table.unmap(bus_addr{0}, bytes));
            }
          }
        }
      }
    }
    CHECK(accepted >= 4);
  });
}

TEST_CASE("dirty in any entry of a page is dirty once, and is cleared in all of them") {
  for_every_format([]<class Format>(const Format& settings) {
    Format format = settings;
    format.track_dirty = true;
    subject<Format> s{format};
    using geometry = table_geometry<Format>;
    constexpr std::uint64_t granule = geometry::table_bytes;
    const std::uint64_t sizes = geometry::page_sizes(format);
    const std::uint64_t range = std::uint64_t{1}
                                << (format.input_bits() < 31 ? format.input_bits() : 31);
    for (unsigned bit = 0; bit < 31; ++bit) {
      const std::uint64_t size = std::uint64_t{1} << bit;
      if ((sizes & size) == 0) continue;
      CAPTURE(bit);
      REQUIRE(s.table.map(bus_addr{size}, host_phys{size}, size));
      const auto page = s.table.lookup(bus_addr{size});
      unsigned items = 1;
      while (page.level == 0 && items * granule < size) items *= 2;
      for (unsigned item = 0; item < items; item = item * 2 + 1) {
        // The hardware's write.
        table_word* const word = s.leaf_word(size + item * granule);
        *word = dirtied(format, *word);
        for (const unsigned expected : {1U, 0U}) {
          invalidations<bus_space> changes;
          unsigned seen = 0;
          const auto count = s.table.take_dirty(bus_addr{0}, range, changes, [&](auto p) noexcept {
            ++seen;
            CHECK(p.begin == bus_addr{size});
            CHECK(p.page_shift == bit);
          });
          REQUIRE(count);
          CHECK(*count == expected);
          CHECK(seen == expected);
          CHECK(changes.ranges().size() == expected);
          if (expected == 1) {
            CHECK(changes.ranges()[0].first == bus_addr{size});
            CHECK(changes.ranges()[0].last == bus_addr{2 * size - 1});
            CHECK(changes.ranges()[0].page_sizes == size);
            CHECK_FALSE(changes.ranges()[0].tables);
          }
        }
      }
      CHECK(s.table.walk(bus_addr{size}, size, [&](auto p) noexcept { CHECK_FALSE(p.dirty); }));
      REQUIRE(s.table.unmap(bus_addr{size}, size));
    }
  });
}

TEST_CASE("clearing dirty pages of two sizes names both sizes and everything between them") {
  for_every_format([]<class Format>(const Format& settings) {
    Format format = settings;
    format.track_dirty = true;
    if (!format.leaf_allowed(1)) return;
    subject<Format> s{format, {.cut = large_pages::split}};
    using geometry = table_geometry<Format>;
    const std::uint64_t large = geometry::span(1);
    const std::uint64_t granule = geometry::table_bytes;
    invalidations<bus_space> made{&flush_nothing, nullptr};
    // One page of a granule below a large one, and two granules above it that stay clean.
    REQUIRE(
        s.table.map(bus_addr{large - granule}, host_phys{2 * large - granule}, granule, {}, made));
    REQUIRE(s.table.map(bus_addr{large}, host_phys{4 * large}, large, {}, made));
    REQUIRE(s.table.map(bus_addr{2 * large + granule}, host_phys{granule}, granule, {}, made));
    for (const std::uint64_t a : {large - granule, large}) {
      table_word* const word = s.leaf_word(a);
      *word = dirtied(format, *word);
    }
    invalidations<bus_space> changes;
    const auto taken = s.table.take_dirty(bus_addr{0}, 4 * large, changes, [](auto) noexcept {});
    REQUIRE(taken);
    CHECK(*taken == 2);
    std::uint64_t sizes = 0;
    std::uint64_t first = ~std::uint64_t{0};
    std::uint64_t last = 0;
    for (const auto& r : changes.ranges()) {
      sizes |= r.page_sizes;
      first = std::min(first, r.first.value());
      last = std::max(last, r.last.value());
    }
    CHECK(sizes == (large | granule));
    CHECK(first == large - granule);
    CHECK(last == 2 * large - 1);
  });
}

TEST_CASE("protect and split keep what the hardware has noted as dirty") {
  for_every_format([]<class Format>(const Format& settings) {
    Format format = settings;
    format.track_dirty = true;
    if (!format.leaf_allowed(1)) return;
    subject<Format> s{format, {.cut = large_pages::split}};
    using geometry = table_geometry<Format>;
    const std::uint64_t size = geometry::span(1);
    invalidations<bus_space> changes{&flush_nothing, nullptr};
    REQUIRE(s.table.map(bus_addr{size}, host_phys{size}, size, {}, changes));
    // One level up from the leaf tables.
    std::uint64_t at = s.table.root().value();
    table_word* word = nullptr;
    for (unsigned level = format.top_level(); level != 0; --level) {
      table_word* words = s.store.arena.find(host_phys{at}, 4096);
      REQUIRE(words != nullptr);
      word = words + (size >> geometry::shift(level) & (geometry::entries - 1));
      at = format.table_address(*word);
    }
    REQUIRE(format.is_leaf(*word, 1));
    *word = dirtied(format, *word);
    const auto done = s.table.protect(bus_addr{size}, size / 2, access::read_write, false, changes);
    REQUIRE(done);
    CHECK(*done == size / 2);
    std::uint64_t dirty = 0;
    REQUIRE(s.table.walk(bus_addr{size}, size, [&](auto p) noexcept {
      if (p.dirty) dirty += std::uint64_t{1} << p.page_shift;
    }));
    CHECK(dirty == size);
    s.table.complete(changes);
  });
}

TEST_CASE("a range that cuts a large page is refused, and nothing has changed") {
  for_every_format([]<class Format>(const Format& format) {
    subject<Format> s{format};
    using geometry = table_geometry<Format>;
    const std::uint64_t size = geometry::span(1);
    const std::uint64_t granule = geometry::table_bytes;
    REQUIRE(s.table.map(bus_addr{0}, host_phys{size}, 2 * size));
    for (const auto& [begin, bytes] :
         std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, granule},
                                                              {granule, granule},
                                                              {size - granule, granule},
                                                              {0, size + granule},
                                                              {size - granule, 2 * granule},
                                                              {granule, 2 * size}}) {
      invalidations<bus_space> changes;
      const auto cut = s.table.unmap(bus_addr{begin}, bytes, changes);
      REQUIRE_FALSE(cut);
      CHECK(cut.error().code == errc::invalid_argument);
      const auto also = s.table.protect(bus_addr{begin}, bytes, access::read, false, changes);
      REQUIRE_FALSE(also);
      CHECK(also.error().code == errc::invalid_argument);
      CHECK(changes.empty());
    }
    const auto all = s.table.translate(bus_addr{0}, 2 * size, access::read_write);
    REQUIRE(all);
    CHECK(all->bytes == 2 * size);
  });
}

TEST_CASE("tables that are not cached change without a flush") {
  for_every_format([]<class Format>(const Format& format) {
    subject<Format> s{format, {.cut = large_pages::split}};
    using geometry = table_geometry<Format>;
    const std::uint64_t size = geometry::span(1);
    REQUIRE(s.table.map(bus_addr{size}, host_phys{size}, size));
    CHECK(*s.table.unmap(bus_addr{size}, geometry::table_bytes) == geometry::table_bytes);
    REQUIRE(s.table.map(bus_addr{size}, host_phys{size}, geometry::table_bytes));
    REQUIRE(s.table.merge(bus_addr{size}, size));
    CHECK(*s.table.protect(bus_addr{size}, size / 2, access::read) == size / 2);
    CHECK(s.table.lookup(bus_addr{size}).permissions == 1);
    CHECK(s.table.lookup(bus_addr{size + size / 2}).permissions == 3);
  });
}

TEST_CASE("split makes a boundary, merge takes it away, and translations stay") {
  for_every_format([]<class Format>(const Format& format) {
    subject<Format> s{format};
    using geometry = table_geometry<Format>;
    const std::uint64_t size = geometry::span(1);
    const std::uint64_t granule = geometry::table_bytes;
    invalidations<bus_space> changes{&flush_nothing, nullptr};
    REQUIRE(s.table.map(bus_addr{size}, host_phys{size}, size));
    const std::size_t used = s.store.arena.used();
    REQUIRE(s.table.split(bus_addr{size + 3 * granule}, changes));
    CHECK(s.table.lookup(bus_addr{size + 3 * granule}).page == host_phys{size + 3 * granule});
    CHECK(s.store.arena.used() == used + 1);
    // Entries that were broken and flushed in the middle are cached nowhere.
    CHECK(changes.ranges().size() == (page_format<Format>{format}.break_before_make() ? 0 : 1));
    for (const auto& range : changes.ranges()) CHECK(range.tables);
    s.table.complete(changes);
    for (std::uint64_t a = size; a != 2 * size; a += granule) {
      const auto got = s.table.translate(bus_addr{a}, granule, access::read_write);
      REQUIRE(got);
      REQUIRE(got->begin == host_phys{a});
    }
    const auto merged = s.table.merge(bus_addr{size}, size, changes);
    REQUIRE(merged);
    CHECK(*merged >= 1);
    s.table.complete(changes);
    CHECK(s.store.arena.used() == used);
    CHECK(s.table.lookup(bus_addr{size}).page_shift == geometry::shift(1));
  });
}

TEST_CASE("ranges of a few granules, at every place and alignment of the target, exhaustively") {
  for_every_format([]<class Format>(const Format& format) {
    subject<Format> s{format};
    using geometry = table_geometry<Format>;
    constexpr std::uint64_t granule = geometry::table_bytes;
    const std::uint64_t sizes = geometry::page_sizes(format);
    // Around the end of the first table of leaves, where runs are cut.
    const std::uint64_t base = geometry::span(1) - 18 * granule;
    const std::size_t empty = s.store.arena.used();
    for (std::uint64_t begin = 0; begin != 18; ++begin) {
      for (std::uint64_t length = 1; length <= 36; ++length) {
        for (const std::uint64_t skew : {0U, 1U, 2U, 4U, 8U, 16U, 5U}) {
          const std::uint64_t va = base + begin * granule;
          const std::uint64_t pa = geometry::span(1) * 8 + va + skew * granule;
          const std::uint64_t bytes = length * granule;
          REQUIRE(s.table.map(bus_addr{va}, host_phys{pa}, bytes));
          std::uint64_t at = va;
          REQUIRE(s.table.walk(bus_addr{0}, geometry::span(1) * 2, [&](auto page) noexcept {
            // The largest page that could begin here.
            std::uint64_t size = granule;
            for (std::uint64_t n = granule; n <= va + bytes - at && n != 0; n *= 2) {
              if ((sizes & n) != 0 && ((at | (pa + (at - va))) & (n - 1)) == 0) size = n;
            }
            REQUIRE(page.begin.value() == at);
            REQUIRE(page.target.value() == pa + (at - va));
            REQUIRE((std::uint64_t{1} << page.page_shift) == size);
            at += size;
          }));
          REQUIRE(at == va + bytes);
          const auto gone = s.table.unmap(bus_addr{va}, bytes);
          REQUIRE(gone);
          REQUIRE(*gone == bytes);
          if (length % 6 != 0) continue;  // mostly in tables that were there before
          s.table.trim();
          REQUIRE(s.store.arena.used() == empty);
        }
      }
    }
  });
}

}  // namespace phasebit::page_table_harness
