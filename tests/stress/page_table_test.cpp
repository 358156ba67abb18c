// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/page_table/formats.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit::iommu {

namespace {

constexpr std::size_t arena_pages = 1024;
using arena = table_arena<arena_pages>;

struct store {
  store()
      : memory(static_cast<std::byte*>(std::aligned_alloc(1 << 16, arena_pages * 4096)),
               &std::free),
        tables({memory.get(), arena_pages * 4096}, host_phys{1ULL << 36}) {}
  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  arena tables;
};

// Target of address a: a function of a, so that a walker can detect a wrong value.
constexpr std::uint64_t target_of(std::uint64_t a) { return (1ULL << 40) + a; }

// Granules 2k of a thread belong to it alone; the threads' granules interleave in the same tables.
template <class Format>
void mappers_and_walker(const Format& format) {
  store r;
  auto made = page_table<Format, arena>::create(format, r.tables, {.who = mappers::concurrent});
  REQUIRE(made);
  auto& table = *made;
  constexpr int threads = 2;
  constexpr int rounds = 20000;
  std::atomic<int> running{threads};
  std::atomic<int> wrong{0};
  std::atomic<unsigned> walks{0};

  const auto mapper = [&](unsigned self) {
    std::mt19937_64 random(self);
    invalidations<bus_space> changes;
    const auto complete = [&] {
      // After two more walks the walker has left what it was in.
      const unsigned then = walks.load();
      while (walks.load() - then < 2) std::this_thread::yield();
      table.complete(changes);
    };
    for (int i = 0; i != rounds; ++i) {
      if (i % 256 == 0) complete();
      const std::uint64_t region = random() % 4 << 30 | (random() % 8) << 21;
      if (random() % 8 == 0) {
        // A whole large page's range of this thread's own: tables come and go with it.
        const std::uint64_t own = (16 + 2 * (random() % 8) + self) << 21;
        const std::uint64_t skew = random() % 2 << 12;
        if (!table.map(bus_addr{own}, host_phys{target_of(own) + 0x4000'0000 * skew}, 1 << 21, {},
                       changes)) {
          ++wrong;
        }
        const auto gone = table.unmap(bus_addr{own}, 1 << 21, changes);
        if (!gone || *gone != 1 << 21) ++wrong;
        continue;
      }
      const std::uint64_t a = region | (random() % 32 * threads + self) * 4096;
      if (!table.map(bus_addr{a}, host_phys{target_of(a)}, 4096, {}, changes)) ++wrong;
      const auto here = table.lookup(bus_addr{a});
      if (here.status != walk_status::mapped || here.page.value() != target_of(a)) ++wrong;
      if (!table.protect(bus_addr{a}, 4096, access::read, false, changes)) ++wrong;
      const auto gone = table.unmap(bus_addr{a}, 4096, changes);
      if (!gone || *gone != 4096) ++wrong;
    }
    complete();
    running.fetch_sub(1);
  };
  const auto walker = [&] {
    std::mt19937_64 random(9);
    while (running.load() != 0) {
      const std::uint64_t a =
          (random() % 4 << 30 | (random() % 8) << 21) + random() % 64 * 4096 + random() % 4096;
      const auto got = table.translate(bus_addr{a}, 1, access::read);
      if (got && got->begin.value() != target_of(a)) ++wrong;
      if (!got && got.error().code != errc::not_mapped) ++wrong;
      walks.fetch_add(1);
    }
  };
  std::thread one(mapper, 0);
  std::thread two(mapper, 1);
  std::thread looks(walker);
  one.join();
  two.join();
  looks.join();
  CHECK(wrong.load() == 0);
  std::size_t pages = 0;
  CHECK(table.walk(bus_addr{0}, 1ULL << 38, [&](auto) noexcept { ++pages; }));
  CHECK(pages == 0);
  table.trim();
  CHECK(r.tables.used() == table_geometry<Format>::root_bytes(format) / 4096);
}

}  // namespace

TEST_CASE("two mappers on ranges of their own and a walker need no lock, with 4 KiB granules") {
  for_each_page_format([](const char* name, const auto& usual, const auto&...) {
    CAPTURE(name);
    if constexpr (std::remove_cvref_t<decltype(usual)>::granule_shift == 12) {
      mappers_and_walker(usual);
    }
  });
}

TEST_CASE("a walker sees the same translation before, during and after a split and a merge") {
  store r;
  auto made = page_table<vtd_second_stage, arena>::create({}, r.tables);
  REQUIRE(made);
  auto& table = *made;
  REQUIRE(table.map(bus_addr{1 << 30}, host_phys{target_of(1 << 30)}, 1 << 30));
  // Flushing waits until the walker has begun a new walk: then it has left the old tables.
  struct walker_state {
    std::atomic<unsigned> walks{0};
    std::atomic<bool> stop{false};
  } state;
  std::atomic<int> wrong{0};
  std::thread looks([&] {
    std::mt19937_64 random(1);
    while (!state.stop.load()) {
      const std::uint64_t a = (1 << 30) + random() % (1 << 30);
      const auto got = table.translate(bus_addr{a}, 1, access::write);
      if (!got || got->begin.value() != target_of(a)) ++wrong;
      state.walks.fetch_add(1);
    }
  });
  invalidations<bus_space> changes{
      [](void* p, std::span<const invalidation_range<bus_space>>) noexcept {
        auto& walker = *static_cast<walker_state*>(p);
        const unsigned then = walker.walks.load();
        while (walker.walks.load() - then < 2) std::this_thread::yield();
      },
      &state};
  for (int round = 0; round != 50; ++round) {
    CHECK(table.split(bus_addr{(1 << 30) + 0x5000}, changes));
    const auto merged = table.merge(bus_addr{1 << 30}, 1 << 30, changes);
    CHECK(merged);
    CHECK(*merged == 2);
  }
  state.stop = true;
  looks.join();
  table.complete(changes);
  CHECK(wrong.load() == 0);
  CHECK(r.tables.used() == 2);
}

TEST_CASE("an arena gives each page to one thread only") {
  store r;
  std::array<std::vector<host_phys>, 2> got;
  const auto take = [&](std::size_t self) {
    for (int round = 0; round != 20; ++round) {
      std::vector<table_page<host_space>> held;
      for (int i = 0; i != 300; ++i) {
        const auto page = r.tables.allocate(i % 16 == 0 ? 16384 : 4096);
        if (!page) break;
        page->words[0] = self + 1;
        held.push_back(*page);
      }
      for (const auto& page : held) {
        if (page.words[0] != self + 1) std::abort();
        page.words[0] = 0;
      }
      for (std::size_t i = 0; i != held.size(); ++i) {
        r.tables.release(held[i], i % 16 == 0 ? 16384 : 4096);
      }
    }
  };
  std::thread one(take, 0);
  std::thread two(take, 1);
  one.join();
  two.join();
  CHECK(r.tables.used() == 0);
}

}  // namespace phasebit::iommu
