// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/core/align.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;
using namespace phasebit::literals;
using backend::simulated::dma_memory;

namespace {

constexpr host_phys base{0x12'4000'0000};

host_phys physical(const dma_region& r) { return host_phys{r.bus.value()}; }

}  // namespace

TEST_CASE("a region is zeroed, aligned on both sides, and its bus address is no pointer") {
  dma_memory memory{2_MiB, base};
  for (std::size_t alignment : {1_KiB / 1024, 64_KiB / 1024, 4_KiB, 64_KiB, 1_MiB}) {
    const auto r = memory.allocate(100, alignment);
    REQUIRE(r);
    CHECK(r->size() == 100);
    CHECK(is_aligned(r->bus, alignment));
    CHECK(is_aligned(to_local(r->data()), alignment));
    CHECK(r->bus.value() != to_local(r->data()).value());
    CHECK(r->bus.value() > 0xffff'ffff);
    for (std::byte b : r->bytes) CHECK(b == std::byte{0});
    std::memset(r->data(), 0xff, r->size());
    memory.release(*r);
  }
  // Reused memory is zeroed again.
  const auto again = memory.allocate(4_KiB, 1);
  REQUIRE(again);
  for (std::byte b : again->bytes) REQUIRE(b == std::byte{0});
}

TEST_CASE("only allocated memory translates, exactly to the granule") {
  dma_memory memory{2_MiB, base};
  const auto r = memory.allocate(256, 64);
  REQUIRE(r);
  const auto whole = memory.translate(physical(*r), 256, access::read_write);
  REQUIRE(whole);
  CHECK(*whole == segment<local_space>{to_local(r->data()), 256});
  const auto inside = memory.translate(physical(*r) + 10, 20, access::read);
  REQUIRE(inside);
  CHECK(*inside == segment<local_space>{to_local(r->data() + 10), 20});

  // A range that runs out of the allocation ends there; the next segment is an error.
  const auto beyond = memory.translate(physical(*r) + 200, 1000, access::read);
  REQUIRE(beyond);
  CHECK(beyond->bytes == 56);
  const auto next = memory.translate(physical(*r) + 256, 1, access::read);
  REQUIRE_FALSE(next);
  CHECK(next.error().code == errc::not_mapped);
  CHECK(next.error().value == (physical(*r) + 256).value());

  for (const host_phys outside : {host_phys{0}, base - 1, base + 2_MiB, host_phys{~0ULL},
                                  host_phys{to_local(r->data()).value()}}) {
    CHECK_FALSE(memory.translate(outside, 1, access::read));
  }
  CHECK_FALSE(memory.translate(physical(*r) + 256, ~0ULL, access::read));

  memory.release(*r);
  CHECK_FALSE(memory.translate(physical(*r), 1, access::read));
}

TEST_CASE("all of memory can be one region, which ends where memory does") {
  dma_memory memory{2_MiB, base};
  const auto all = memory.allocate(2_MiB, 1);
  REQUIRE(all);
  const auto part = memory.translate(base + 5, ~0ULL, access::read);
  REQUIRE(part);
  CHECK(part->bytes == 2_MiB - 5);
}

TEST_CASE("between two regions there is always a gap that detects an overrun") {
  dma_memory memory{2_MiB, base};
  const auto first = memory.allocate(4_KiB, 4_KiB);
  const auto second = memory.allocate(4_KiB, 64);
  const auto third = memory.allocate(64, 4_KiB);
  REQUIRE((first && second && third));
  for (const dma_region& r : {*first, *second, *third}) {
    const auto over = memory.translate(physical(r), 2_MiB, access::write);
    REQUIRE(over);
    CHECK(over->bytes == r.size());
    CHECK_FALSE(memory.translate(physical(r) - 1, 1, access::write));
  }
}

TEST_CASE("an allocation that cannot be made is an error with the reason") {
  dma_memory memory{2_MiB, base};
  CHECK(memory.allocate(0, 64).error().code == errc::invalid_argument);
  CHECK(memory.allocate(64, 4_MiB).error().code == errc::out_of_range);
  CHECK(memory.allocate(2_MiB + 1, 64).error().code == errc::exhausted);
  CHECK(memory.allocate(~std::size_t{0}, 64).error().code == errc::exhausted);
  REQUIRE(memory.allocate(2_MiB - 128, 64));
  CHECK(memory.allocate(65, 64).error().code == errc::exhausted);
  CHECK(memory.allocate(64, 64));
  CHECK(memory.allocate(1, 1).error().code == errc::exhausted);
}

TEST_CASE("random allocation and release: regions never overlap and nothing is lost") {
  dma_memory memory{2_MiB, base};
  std::mt19937 random{7};
  std::vector<dma_region> held;
  std::size_t refused = 0;
  for (unsigned step = 0; step != 5000; ++step) {
    if (held.empty() || random() % 3 != 0) {
      const std::size_t bytes = 1 + random() % 40'000;
      const std::size_t alignment = std::size_t{1} << random() % 17;
      const auto r = memory.allocate(bytes, alignment);
      if (!r) {
        ++refused;
        continue;
      }
      REQUIRE(is_aligned(r->bus, alignment));
      for (const dma_region& other : held) {
        REQUIRE((r->bus + r->size() < other.bus || other.bus + other.size() < r->bus));
      }
      held.push_back(*r);
    } else {
      const std::size_t which = random() % held.size();
      memory.release(held[which]);
      held[which] = held.back();
      held.pop_back();
    }
  }
  CHECK(refused != 0);
  for (const dma_region& r : held) memory.release(r);
  CHECK(memory.allocate(2_MiB, 2_MiB));
}

TEST_CASE("only what was allocated is released, and once") {
  dma_memory memory{2_MiB, base};
  const auto r = *memory.allocate(256, 64);
  const char* const exactly = "release() takes exactly what allocate() gave, once";
  CHECK(phasebit_test::breaks(exactly, [&] { memory.release(r.subregion(0, 128)); }));
  CHECK(phasebit_test::breaks(exactly, [&] { memory.release(r.subregion(64, 192)); }));
  CHECK(phasebit_test::breaks(exactly, [&] { memory.release({{r.data(), 512}, r.bus}); }));
  CHECK(phasebit_test::breaks("release() of a region that is not of this memory", [&] {
    memory.release({r.bytes, bus_addr{0x1000}});
  }));
  memory.release(r);
  CHECK(phasebit_test::breaks(exactly, [&] { memory.release(r); }));
}
