// SPDX-License-Identifier: BSL-1.0
// The cost of changes and walks of page tables, by format, by range length and by page size.
#include <phasebit/iommu/page_table/formats.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/translation/flat_table.hpp>
#include <phasebit/iommu/translation/iotlb.hpp>

#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <support/cycles.hpp>

namespace {

using namespace phasebit;
using namespace phasebit::iommu;

template <class Format>
struct bed {
  static constexpr std::size_t pages = (std::size_t{1} << 24) >> Format::granule_shift;
  using arena_type = table_arena<pages, Format::granule_shift>;
  static constexpr std::uint64_t granule = arena_type::granule;
  static constexpr std::size_t bytes = pages * granule;

  bed()
      : memory(static_cast<std::byte*>(std::aligned_alloc(granule * 16, bytes)), &std::free),
        arena({memory.get(), bytes}, host_phys{1ULL << 36}),
        table(*page_table<Format, arena_type>::create({}, arena)) {}

  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  arena_type arena;
  page_table<Format, arena_type> table;
};

// The targets do not continue each other, as an application's pages do not.
template <class Format>
constexpr std::uint64_t far_target = (1ULL << 40) + (1ULL << Format::granule_shift);

using clock = std::chrono::steady_clock;
double seconds(clock::time_point from) {
  return std::chrono::duration<double>(clock::now() - from).count();
}

// One call maps, or unmaps, `count` granules; many calls make one iteration, so that the clock does
// not show. Every other range stays mapped, so that tables live as long as they do in a busy domain.
template <class Format, bool Unmap>
void change(benchmark::State& state) {
  bed<Format> b;
  const auto count = static_cast<std::uint64_t>(state.range(0));
  const std::uint64_t bytes = count * b.granule;
  constexpr int calls = 256;
  constexpr std::uint64_t base = 1ULL << 30;
  invalidations<bus_space> changes;
  const auto at = [&](int i) { return bus_addr{base + static_cast<std::uint64_t>(i) * 2 * bytes}; };
  for (int i = 0; i != calls; ++i) {
    if (!b.table.map(at(i) + bytes, host_phys{far_target<Format>}, bytes)) std::abort();
  }
  for (auto _ : state) {
    const auto begin = clock::now();
    for (int i = 0; i != calls; ++i) {
      if (!b.table.map(at(i), host_phys{far_target<Format>}, bytes, {}, changes)) std::abort();
    }
    const double mapped = seconds(begin);
    const auto half = clock::now();
    for (int i = 0; i != calls; ++i) {
      if (!b.table.unmap(at(i), bytes, changes)) std::abort();
      if (!changes.ranges().empty()) b.table.complete(changes);
    }
    state.SetIterationTime(Unmap ? seconds(half) : mapped);
  }
  state.SetItemsProcessed(state.iterations() * calls);
  state.counters["ns/call"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * calls * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["ns/entry"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * calls * static_cast<double>(count) * 1e-9,
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// Translations of addresses within `pages` granules, each dependent on the one before: latency.
template <class Format, bool Dependent>
void walk(benchmark::State& state) {
  bed<Format> b;
  const auto pages = static_cast<std::uint64_t>(state.range(0));
  for (std::uint64_t i = 0; i != pages; ++i) {
    // Backwards, so that no large page is possible.
    if (!b.table.map(bus_addr{i * b.granule}, host_phys{(2 * pages - i) * b.granule}, b.granule))
      std::abort();
  }
  std::vector<bus_addr> where(4096);
  std::mt19937_64 random(1);
  for (auto& a : where) a = bus_addr{random() % pages * b.granule + random() % 8 * 512};
  std::size_t i = 0;
  std::uint64_t chain = 0;
  for (auto _ : state) {
    const auto part =
        b.table.translate(where[i++ & 4095] + (Dependent ? chain & 7 : 0), 512 - 8, access::write);
    chain = part->begin.value();
    benchmark::DoNotOptimize(chain);
  }
  state.SetItemsProcessed(state.iterations());
}

// Large pages: one call maps 1 GiB that is aligned so that pages of 2^shift are possible.
template <class Format>
void map_gib(benchmark::State& state) {
  bed<Format> b;
  const std::uint64_t align = 1ULL << state.range(0);
  constexpr std::uint64_t gib = 1ULL << 30;
  std::size_t tables = 0;
  for (auto _ : state) {
    const auto begin = clock::now();
    if (!b.table.map(bus_addr{gib}, host_phys{(1ULL << 40) + align}, gib)) std::abort();
    state.SetIterationTime(seconds(begin));
    tables = b.arena.used();
    if (!b.table.unmap(bus_addr{gib}, gib)) std::abort();
  }
  state.counters["used tables"] = static_cast<double>(tables);
}

// Memory: `extents` of 1 to 512 granules at random places, of which every second is then unmapped.
// Counts the table pages in use, and the minimum for the remaining mappings: one for each range of
// addresses in which a table of a level has an entry.
template <class Format>
void memory(benchmark::State& state) {
  using geometry = table_geometry<Format>;
  const auto extents = static_cast<std::size_t>(state.range(0));
  std::size_t used = 0;
  std::size_t least = 0;
  for (auto _ : state) {
    bed<Format> b;
    std::mt19937_64 random(1);
    std::vector<std::pair<bus_addr, std::uint64_t>> mapped;
    while (mapped.size() != extents) {
      const bus_addr at{random() % (1ULL << 35) & ~(b.granule - 1)};
      const std::uint64_t bytes = (1 + random() % 512) * b.granule;
      if (b.table.map(at, host_phys{at.value() + (1ULL << 40)}, bytes)) {
        mapped.emplace_back(at, bytes);
      }
    }
    for (std::size_t i = 0; i < extents; i += 2) {
      if (!b.table.unmap(mapped[i].first, mapped[i].second)) std::abort();
    }
    std::set<std::pair<unsigned, std::uint64_t>> needed;
    const unsigned top = b.table.format().top_level();
    const auto told = b.table.walk(bus_addr{0}, 1ULL << 36, [&](const auto& page) {
      unsigned level = 0;
      while (geometry::shift(level + 1) <= page.page_shift) ++level;
      for (; level != top; ++level) {
        needed.emplace(level, page.begin.value() >> geometry::shift(level + 1));
      }
    });
    if (!told) std::abort();
    used = b.arena.used();
    least = needed.size() + geometry::root_bytes(b.table.format()) / geometry::table_bytes;
  }
  state.counters["tables"] = static_cast<double>(used);
  state.counters["tables, least possible"] = static_cast<double>(least);
}

// A warm cache in front of the same tables, for one of `domains`.
void cached(benchmark::State& state) {
  bed<vtd_second_stage> b;
  constexpr std::uint64_t pages = 64;
  for (std::uint64_t i = 0; i != pages; ++i) {
    if (!b.table.map(bus_addr{i * b.granule}, host_phys{(2 * pages - i) * b.granule}, b.granule))
      std::abort();
  }
  static iotlb<> cache;
  cached_translator through{b.table, cache, iotlb_tag{static_cast<std::uint16_t>(state.range(0))}};
  std::size_t i = 0;
  for (auto _ : state) {
    const auto part = through.translate(bus_addr{(i++ % pages) * b.granule}, 512, access::write);
    benchmark::DoNotOptimize(part->begin.value());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(cached)->Name("iotlb")->ArgName("domain")->Arg(1)->Arg(4095);

// A warm cache shared by `domains` domains, looked up in turn: what an IOMMU in front of that many
// functions does for most requests. The same addresses in all, as guests have them.
template <std::size_t Sets>
void cached_domains(benchmark::State& state) {
  const auto count = static_cast<std::uint32_t>(state.range(0));
  auto cache = std::make_unique<iotlb<Sets>>();
  page_lookup<host_space> found{
      .status = walk_status::mapped, .page_shift = 12, .permissions = 3, .page = host_phys{0x1000}};
  for (std::uint32_t i = 0; i != count; ++i) {
    cache->insert({static_cast<std::uint16_t>(i)}, bus_addr{0x1000}, found);
  }
  std::uint32_t i = 0;
  std::uint64_t hits = 0;
  for (auto _ : state) {
    iotlb_hit<host_space> hit;
    hits += cache->find({static_cast<std::uint16_t>(i)}, bus_addr{0x1000 + (i & 511)}, hit);
    benchmark::DoNotOptimize(hit.target.value());
    if (++i == count) i = 0;
  }
  if (hits != static_cast<std::uint64_t>(state.iterations())) state.SkipWithError("a miss");
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(cached_domains<4096>)
    ->Name("iotlb_domains")
    ->ArgName("domains")
    ->RangeMultiplier(8)
    ->Range(1, 4096);

void flat(benchmark::State& state) {
  alignas(64) static std::array<std::byte, 4096> memory{};
  flat_table<> table{memory};
  table.clear();
  if (!table.map(guest_addr{0}, host_phys{1ULL << 40}, 1 << 30, access::read_write)) std::abort();
  std::uint64_t a = 0;
  for (auto _ : state) {
    const auto part = table.translate(guest_addr{a & ((1 << 30) - 1)}, 512, access::write);
    benchmark::DoNotOptimize(part->begin.value());
    a += (2 << 20) + 4096;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(flat)->Name("flat_table");

// One page in each of many domains, each with its own tables, asked in turn. The page lies at one address in all of
// them, as guests have it, or at one of its own in each, so that the entries do not fall into the same few sets of the
// caches.
struct domain_bed {
  using arena_type = table_arena<65536>;
  using table_type = page_table<vtd_second_stage, arena_type>;

  domain_bed(std::size_t count, bool spread) {
    const std::size_t bytes = (count * 4 + 32) * 4096;
    memory.reset(
        static_cast<std::byte*>(std::aligned_alloc(1 << 16, (bytes + 0xffff) & ~0xffffULL)));
    arena = std::make_unique<arena_type>(std::span{memory.get(), bytes}, host_phys{1ULL << 36});
    tables.reserve(count);
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i != count; ++i) {
      tables.push_back(std::move(*table_type::create({}, *arena)));
      const bus_addr at{spread ? random() % (1ULL << 48) & ~std::uint64_t{0xfff} : 0x1000};
      where.push_back(at);
      if (!tables.back().map(at, host_phys{0x1000}, 0x1000)) std::abort();
    }
  }

  std::unique_ptr<std::byte, decltype(&std::free)> memory{nullptr, &std::free};
  std::unique_ptr<arena_type> arena;
  std::vector<table_type> tables;
  std::vector<bus_addr> where;
};

template <bool Spread>
void domains(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  domain_bed b{count, Spread};
  std::size_t i = 0;
  for (auto _ : state) {
    const auto page = b.tables[i].lookup(b.where[i]);
    benchmark::DoNotOptimize(page.page.value());
    if (++i == count) i = 0;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(domains<false>)
    ->Name("walk_domains")
    ->ArgName("domains")
    ->RangeMultiplier(8)
    ->Range(1, 4096);
BENCHMARK(domains<true>)
    ->Name("walk_domains_spread")
    ->ArgName("domains")
    ->Arg(1)
    ->Arg(512)
    ->Arg(4096);

// The same in batches: what a device has that asks for several translations at once.
void domains_batch(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto batch = static_cast<std::size_t>(state.range(1));
  domain_bed b{count, false};
  using view = page_table_view<vtd_second_stage, domain_bed::arena_type, bus_space>;
  std::vector<view::question> questions(count + batch);
  for (std::size_t i = 0; i != questions.size(); ++i) {
    questions[i] = {&b.tables[i % count], b.where[i % count]};
  }
  std::vector<page_lookup<host_space>> found(batch);
  std::size_t i = 0;
  while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(batch))) {
    view::lookup_many(std::span{questions}.subspan(i, batch), found);
    benchmark::DoNotOptimize(found.data());
    benchmark::ClobberMemory();
    i = (i + batch) % count;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(domains_batch)
    ->Name("walk_domains_batch")
    ->ArgNames({"domains", "batch"})
    ->ArgsProduct({{1, 512, 4096}, {1, 4, 16, 32}});

// One page mapped and unmapped again, by what else is mapped, at one place or at random ones.
enum class neighbours : int {
  dense,       // every other page of each table
  one_kept,    // one page of each table, far from the one that comes and goes
  upper_only,  // pages in other tables of the lowest level: this one comes and goes empty
  nothing
};

template <class Format>
void one_page(benchmark::State& state) {
  using geometry = table_geometry<Format>;
  bed<Format> b;
  const auto around = static_cast<neighbours>(state.range(0));
  const bool at_random = state.range(1) != 0;
  constexpr std::uint64_t tables = 64;
  const std::uint64_t span = geometry::span(1);
  const auto place = [&](std::uint64_t table, std::uint64_t slot) {
    return bus_addr{(std::uint64_t{1} << 30) + (2 * table) * span + slot * b.granule};
  };
  const auto keep = [&](bus_addr a) {
    if (!b.table.map(a, host_phys{far_target<Format>}, b.granule)) std::abort();
  };
  for (std::uint64_t t = 0; t != tables; ++t) {
    if (around == neighbours::dense) {
      for (std::uint64_t slot = 1; slot < geometry::entries; slot += 2) keep(place(t, slot));
    } else if (around == neighbours::one_kept) {
      keep(place(t, geometry::entries - 1));
    } else if (around == neighbours::upper_only) {
      keep(place(t, 0) + span);
    }
  }
  std::vector<bus_addr> where(4096);
  std::mt19937_64 random(1);
  for (auto& a : where) {
    a = at_random ? place(random() % tables, random() % (geometry::entries / 2 - 1) * 2)
                  : place(0, 0);
  }
  invalidations<bus_space> changes;
  std::size_t i = 0;
  const std::uint64_t begin = phasebit_bench::cycles();
  for (auto _ : state) {
    const bus_addr a = where[i++ & 4095];
    if (!b.table.map(a, host_phys{far_target<Format>}, b.granule, {}, changes)) std::abort();
    if (!b.table.unmap(a, b.granule, changes)) std::abort();
    b.table.complete(changes);
  }
  state.counters["cycles"] = static_cast<double>(phasebit_bench::cycles() - begin) /
                             static_cast<double>(state.iterations());
  state.SetItemsProcessed(state.iterations());
}

const bool registered = [] {
  for_each_page_format([](const char* name, const auto& usual, const auto&...) {
    using format = std::remove_cvref_t<decltype(usual)>;
    const auto add = [&](const char* what, auto* function) {
      return benchmark::RegisterBenchmark((std::string{what} + name).c_str(), function);
    };
    const auto sizes = [](auto* b) {
      b->ArgName("granules")->UseManualTime()->RangeMultiplier(4)->Range(1, 1024);
    };
    sizes(add("map/", &change<format, false>));
    sizes(add("unmap/", &change<format, true>));
    add("map_unmap_one/", &one_page<format>)
        ->ArgNames({"neighbours", "random"})
        ->ArgsProduct({{0, 1, 2, 3}, {0, 1}});
    const auto working_sets = [](auto* b) { b->ArgName("pages")->Arg(1)->Arg(512)->Arg(65536); };
    working_sets(add("walk/", &walk<format, false>));
    working_sets(add("walk_latency/", &walk<format, true>));
    add("map_gib/", &map_gib<format>)
        ->ArgName("alignment")
        ->UseManualTime()
        ->Arg(format::granule_shift)
        ->Arg(21)
        ->Arg(30);
    add("memory/", &memory<format>)
        ->ArgName("extents")
        ->Unit(benchmark::kMillisecond)
        ->RangeMultiplier(4)
        ->Range(1, 1024);
  });
  return true;
}();

}  // namespace
