// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/qtest/process.hpp>
#include <phasebit/backend/qtest/ram.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::backend::qtest;

namespace {

constexpr std::size_t mebibyte = 1 << 20;

posix::memory_mapping shared(std::size_t bytes) {
  auto fd = memory_file("ram", bytes);
  REQUIRE(fd);
  auto mapping = posix::memory_mapping::shared_aligned(fd->get(), bytes, ram::most_alignment);
  REQUIRE(mapping);
  return std::move(*mapping);
}

// A Q35 whose hole begins after 4 MiB.
constexpr board tiny_hole() {
  board b = q35;
  b.low_limit = 8 * mebibyte;
  b.low_bytes = 4 * mebibyte;
  return b;
}

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

TEST_CASE("regression: a region's pointer is aligned where its bus address is") {
  for (const board& where : {q35, arm_virt, riscv_virt}) {
    ram memory{shared(16 * mebibyte), where};
    for (std::size_t alignment = 64; alignment <= 4 * mebibyte; alignment *= 2) {
      const auto region = memory.allocate(64, alignment);
      REQUIRE(region);
      CHECK(region->bus.value() % alignment == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(region->data()) % alignment == 0);
    }
    CHECK(memory.allocate(64, 2 * ram::most_alignment).error().code == errc::out_of_range);
  }
}

TEST_CASE("the bus address of a region is its place in the file, above the first megabyte") {
  ram memory{shared(4 * mebibyte), q35};
  const auto a = memory.allocate(4096, 4096);
  REQUIRE(a);
  CHECK(a->bus.value() >= mebibyte);
  CHECK(a->data() == memory.bytes().data() + a->bus.value());
  const auto b = memory.allocate(1, 1);
  REQUIRE(b);
  CHECK(b->size() == 1);
  memory.release(*a);
  memory.release(*b);
  const auto all = memory.allocate(3 * mebibyte, 4096);
  REQUIRE(all);
  CHECK(all->bus.value() == mebibyte);
  CHECK_FALSE(memory.allocate(64, 64));
  memory.release(*all);
  CHECK(memory.allocate(0, 64).error().code == errc::invalid_argument);
}

TEST_CASE("no region lies across the hole, and the RAM above it is the remainder of the file") {
  static constexpr board where = tiny_hole();
  ram memory{shared(8 * mebibyte), where};
  const auto low = memory.allocate(3 * mebibyte, 4096);
  const auto high = memory.allocate(4 * mebibyte, 4096);
  REQUIRE(low);
  REQUIRE(high);
  CHECK(low->bus.value() == mebibyte);
  CHECK(high->bus.value() == 0x1'0000'0000);
  CHECK(high->data() == memory.bytes().data() + 4 * mebibyte);
  memory.release(*low);
  memory.release(*high);
  CHECK(memory.allocate(5 * mebibyte, 4096).error().code == errc::exhausted);
}

TEST_CASE("a board whose RAM does not begin at zero") {
  ram memory{shared(2 * mebibyte), arm_virt};
  const auto region = memory.allocate(4096, 4096);
  REQUIRE(region);
  CHECK(region->bus.value() == 0x4000'0000);
  CHECK(region->data() == memory.bytes().data());
}

TEST_CASE("regions are zeroed, small and large, whatever lay there before") {
  ram memory{shared(8 * mebibyte), q35};
  for (const std::size_t bytes :
       {std::size_t{100}, std::size_t{4096}, mebibyte, 2 * mebibyte + 12345}) {
    for (const std::size_t offset : {std::size_t{64}, std::size_t{4096}}) {
      const auto shift = memory.allocate(offset, 64);
      REQUIRE(shift);
      auto region = memory.allocate(bytes, 64);
      REQUIRE(region);
      std::fill(region->bytes.begin(), region->bytes.end(), std::byte{0xee});
      memory.release(*region);
      region = memory.allocate(bytes, 64);
      REQUIRE(region);
      CHECK(all_zero(region->bytes));
      memory.release(*region);
      memory.release(*shift);
    }
  }
}

TEST_CASE("several threads allocate from one machine") {
  ram memory{shared(16 * mebibyte), q35};
  std::vector<std::thread> threads;
  std::vector<std::vector<dma_region>> kept(4);
  for (auto& mine : kept) {
    threads.emplace_back([&memory, &mine] {
      for (std::size_t i = 0; i != 200; ++i) {
        const auto r = memory.allocate(64 + i * 16, 64);
        if (!r) return;
        if (i % 3 == 0) {
          mine.push_back(*r);
        } else {
          memory.release(*r);
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  std::vector<dma_region> all;
  for (auto& mine : kept) all.insert(all.end(), mine.begin(), mine.end());
  CHECK(all.size() == 4 * 67);
  std::sort(all.begin(), all.end(),
            [](const dma_region& a, const dma_region& b) { return a.bus < b.bus; });
  for (std::size_t i = 1; i < all.size(); ++i) {
    CHECK(all[i - 1].bus + all[i - 1].size() <= all[i].bus);
  }
  for (const dma_region& r : all) memory.release(r);
  CHECK(memory.allocate(15 * mebibyte, 64));
}
