// SPDX-License-Identifier: BSL-1.0
// Tests that run over every format.
#pragma once

#include "page_table_harness.hpp"

#include <support/sanitizers.hpp>

namespace phasebit::page_table_harness {

inline void no_flush(void*, std::span<const invalidation_range<bus_space>>) noexcept {}

// `steps` random changes against the oracle, splits allowed, in an arena of `pages`.
template <class Format>
void random_steps(const Format& format, const page_attributes& base, int steps, unsigned seed,
                  std::size_t pages, page_table_options options = {}) {
  steps = test_support::scaled(steps);
  using geometry = table_geometry<Format>;
  auto store = std::make_unique<table_store<Format>>(pages);
  auto& arena = store->arena;
  options.cut = large_pages::split;
  {
    auto made = page_table<Format, typename table_store<Format>::arena_type>::create(format, arena,
                                                                                     options);
    REQUIRE(made);
    auto& table = *made;
    const std::size_t root_pages = arena.used();
    extent_oracle oracle;
    const auto places = windows(format);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    invalidations<bus_space> changes{&no_flush, nullptr};
    constexpr std::uint64_t granule = geometry::table_bytes;
    const std::uint64_t target_mask =
        (std::uint64_t{1} << (page_format<Format>{format}.output_bits() < 60
                                  ? page_format<Format>{format}.output_bits()
                                  : 60)) -
        1;

    for (int step = 0; step != steps; ++step) {
      const std::uint64_t place = places[below(places.size())];
      const std::uint64_t window = geometry::span(1) * 4;
      std::uint64_t begin = place + below(window / granule) * granule;
      std::uint64_t bytes = (1 + below(8)) * granule;
      switch (below(4)) {
        case 0:
          bytes = (1 + below(geometry::entries)) * granule;
          break;
        case 1:
          begin &= ~(geometry::span(1) - 1);
          bytes = geometry::span(1) * (1 + below(2));
          break;
        default:
          break;
      }
      if (begin + (bytes - 1) < begin || begin - place > window ||
          !geometry::reaches(format, begin, begin + (bytes - 1))) {
        continue;
      }
      switch (below(8)) {
        case 0:
        case 1:
        case 2:
        case 3: {
          std::uint64_t target = (random() & target_mask & ~(granule - 1)) >> 1;
          target &= ~(granule - 1);
          if (below(2) == 0)
            target = (target & ~(geometry::span(1) - 1)) | (begin & (geometry::span(1) - 1));
          if (((target + bytes) & ~target_mask) != 0) continue;
          page_attributes attributes = base;
          if (below(3) == 0) attributes.permission = access::read;
          const std::size_t used = arena.used();
          const bool overlap = oracle.overlaps(begin, bytes);
          const auto done =
              table.map(bus_addr{begin}, host_phys{target}, bytes, attributes, changes);
          if (done) {
            REQUIRE(!overlap);
            oracle.map(begin, bytes, target, attributes);
          } else {
            REQUIRE((done.error().code == (overlap ? errc::overlap : errc::exhausted) ||
                     done.error().code == errc::exhausted));
            table.complete(changes);
            if (options.who == mappers::one) REQUIRE(arena.used() <= used);
          }
          break;
        }
        case 4:
        case 5:
        case 6: {
          const auto done = table.unmap(bus_addr{begin}, bytes, changes);
          if (done) {
            REQUIRE(*done == oracle.unmap(begin, bytes));
          } else {
            REQUIRE(done.error().code == errc::exhausted);  // a split without memory
          }
          break;
        }
        default: {
          const access permission = below(2) == 0 ? access::read : access::read_write;
          const auto done =
              table.protect(bus_addr{begin}, bytes, permission, base.execute, changes);
          if (done) {
            REQUIRE(*done == oracle.protect(begin, bytes, permission));
          } else {
            REQUIRE(done.error().code == errc::exhausted);
          }
          break;
        }
      }
      table.complete(changes);
      if (step % 16 == 0) {
        if (below(64) == 0)
          REQUIRE(
              table.merge(bus_addr{begin & ~(geometry::span(1) - 1)}, geometry::span(1), changes));
        table.complete(changes);
      }
      for (const std::uint64_t a : {begin - 1, begin, begin + below(bytes), begin + bytes}) {
        if (!geometry::reaches(format, a, a)) continue;
        const auto expected = oracle.at(a);
        const auto got = table.translate(bus_addr{a}, 1, access::read);
        REQUIRE(got.has_value() == expected.has_value());
        if (expected) REQUIRE(got->begin.value() == expected->first);
        if (expected) {
          const auto write = table.translate(bus_addr{a}, 1, access::write);
          REQUIRE(write.has_value() == writes(expected->second.permission));
        }
      }
      if (step % 2048 == 0) check_all(table, oracle);
    }
    check_all(table, oracle);
    const auto [half, upper] = halves(format);
    REQUIRE(table.unmap(bus_addr{0}, half));
    REQUIRE(table.unmap(bus_addr{upper}, half));
    if (options.who == mappers::concurrent) table.trim();
    CHECK(arena.used() == root_pages);
  }
  CHECK(arena.used() == 0);
}

}  // namespace phasebit::page_table_harness
