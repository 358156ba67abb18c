// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/page_table/formats.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>

#include <doctest/doctest.h>

namespace phasebit::iommu {

namespace {

constexpr std::size_t pages = 64;

// A device writes to pages through the tables while their dirty states are read and cleared: each
// page that is reported is copied, and in the end the copy is what the device wrote.
template <class Format>
void copies_follow_writes(Format format) {
  format.track_dirty = true;
  constexpr std::uint64_t granule = std::uint64_t{1} << Format::granule_shift;
  using arena_type = table_arena<64, Format::granule_shift>;
  std::unique_ptr<std::byte, decltype(&std::free)> memory{
      static_cast<std::byte*>(std::aligned_alloc(granule * 16, 64 * granule)), &std::free};
  arena_type arena{{memory.get(), 64 * granule}, host_phys{1ULL << 36}};
  auto made = page_table<Format, arena_type>::create(format, arena);
  REQUIRE(made);
  auto& table = *made;
  // No page continues the one before: every entry is a page.
  for (std::uint64_t i = 0; i != pages; ++i) {
    REQUIRE(table.map(bus_addr{i * granule}, host_phys{(2 * pages - i) * granule}, granule));
  }
  std::array<std::atomic<std::uint32_t>, pages> data{};
  std::array<std::uint32_t, pages> copy{};
  std::atomic<unsigned> accesses{0};
  std::atomic<bool> stop{false};
  std::atomic<int> refused{0};

  std::thread device([&] {
    std::mt19937 random(1);
    while (!stop.load()) {
      const std::size_t page = random() % pages;
      const auto got = table.access_page(bus_addr{page * granule}, access::write);
      if (got.status == walk_status::mapped) {
        data[page].fetch_add(1);
      } else {
        ++refused;
      }
      accesses.fetch_add(1);
    }
  });
  // The invalidation is done when the access that was under way has ended.
  invalidations<bus_space> changes;
  const auto settle = [&] {
    const unsigned then = accesses.load();
    while (accesses.load() - then < 2 && !stop.load()) std::this_thread::yield();
    table.complete(changes);
  };
  const auto follow = [&](bool quiet) {
    std::array<std::byte, pages / 8> bits{};
    dirty_bitmap<bus_space> bitmap{bits, bus_addr{0}, Format::granule_shift};
    REQUIRE(table.read_dirty(bus_addr{0}, pages * granule, bitmap, changes));
    if (!quiet) settle();
    for (std::size_t i = 0; i != pages; ++i) {
      if (bitmap.test(bus_addr{i * granule})) copy[i] = data[i].load();
    }
  };
  for (int round = 0; round != 400; ++round) follow(false);
  stop = true;
  device.join();
  follow(true);
  table.complete(changes);
  for (std::size_t i = 0; i != pages; ++i) CHECK(copy[i] == data[i].load());
  CHECK(refused.load() == 0);
}

}  // namespace

TEST_CASE("no write is lost while dirty states are read and cleared, in every format") {
  for_each_page_format([](const char* name, const auto& usual, const auto&...) {
    CAPTURE(name);
    copies_follow_writes(usual);
  });
}

TEST_CASE("no bit of a dirty bitmap is lost while several threads set and one takes") {
  constexpr unsigned writers = 3;
  constexpr std::uint32_t rounds = 20'000;
  std::array<std::byte, pages / 8> bits{};
  dirty_bitmap<bus_space> bitmap{bits, bus_addr{0}, 12};
  std::array<std::atomic<std::uint32_t>, pages> data{};
  std::array<std::uint32_t, pages> copy{};
  std::atomic<unsigned> running{writers};
  std::array<std::thread, writers> threads;
  for (unsigned t = 0; t != writers; ++t) {
    threads[t] = std::thread([&, t] {
      std::mt19937 random(t);
      for (std::uint32_t n = 0; n != rounds; ++n) {
        const std::uint64_t page = random() % pages;
        data[page].fetch_add(1, std::memory_order_relaxed);
        bitmap.set(bus_addr{page << 12}, bus_addr{page << 12});
      }
      --running;
    });
  }
  const auto follow = [&] {
    bitmap.take([&](bus_addr a) noexcept {
      copy[a.value() >> 12] = data[a.value() >> 12].load(std::memory_order_relaxed);
    });
  };
  while (running.load() != 0) follow();
  for (std::thread& t : threads) t.join();
  follow();
  for (std::size_t i = 0; i != pages; ++i) CHECK(copy[i] == data[i].load());
}

}  // namespace phasebit::iommu
