// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/dma_arena.hpp>
#include <phasebit/memory/dma_buffer.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;
using namespace phasebit::literals;

namespace {

struct alignas(4096) page {
  std::array<std::byte, 4096> bytes;
};

dma_region over(std::span<page> pages, std::uint64_t bus) {
  return {std::as_writable_bytes(pages), bus_addr{bus}};
}

}  // namespace

TEST_CASE("an arena's regions are zeroed, aligned for both sides and apart") {
  std::array<page, 16> pages;
  std::memset(pages.data(), 0xa5, sizeof pages);
  dma_arena<> arena{over(pages, 0x7000'0000)};
  const auto a = arena.allocate(100, 4);
  const auto b = arena.allocate(4_KiB, 4_KiB);
  const auto c = arena.allocate(1, 1);
  REQUIRE(a);
  REQUIRE(b);
  REQUIRE(c);
  CHECK(a->size() == 100);
  CHECK(is_aligned(b->bus, 4_KiB));
  CHECK(is_aligned(to_local(b->data()), 4_KiB));
  for (const auto& r : {*a, *b, *c}) {
    CHECK(is_aligned(r.bus, cache_line));
    CHECK(r.bus - arena.whole().bus == to_local(r.data()) - to_local(arena.whole().data()));
    CHECK(std::ranges::all_of(r.bytes, [](std::byte x) { return x == std::byte{0}; }));
  }
  CHECK(c->bus - a->bus == 128);
  CHECK(arena.free_bytes() == 16 * 4_KiB - 128 - 4_KiB - 64);
}

TEST_CASE("memory that was used is zeroed again") {
  std::array<page, 1> pages;
  dma_arena<> arena{over(pages, 0x1000)};
  const auto first = arena.allocate(4_KiB, 4_KiB);
  REQUIRE(first);
  std::ranges::fill(first->bytes, std::byte{0xff});
  arena.release(*first);
  const auto again = arena.allocate(64, 64);
  REQUIRE(again);
  CHECK(again->data() == first->data());
  CHECK(again->bytes[63] == std::byte{0});
}

TEST_CASE("a full arena reports exhaustion, and is whole again once all is released") {
  std::array<page, 4> pages;
  dma_arena<> arena{over(pages, 0x1000)};
  std::array<dma_region, 4> got;
  for (auto& r : got) r = *arena.allocate(4_KiB, 4_KiB);
  const auto more = arena.allocate(1, 1);
  REQUIRE(!more);
  CHECK(more.error().code == errc::exhausted);
  for (auto i : {2U, 0U, 3U, 1U}) arena.release(got[i]);
  CHECK(arena.largest_free() == 16_KiB);
  CHECK(!arena.allocate(0, 1));
}

TEST_CASE("an alignment that pointer and bus address cannot share is refused") {
  std::array<page, 4> pages;
  dma_arena<> arena{over(pages, 0x7000'0040)};
  CHECK(arena.allocate(64, 64));
  const auto impossible = arena.allocate(4_KiB, 4_KiB);
  REQUIRE(!impossible);
  CHECK(impossible.error().code == errc::misaligned);
  CHECK(impossible.error().value == 4_KiB);
}

TEST_CASE("large alignments are found inside of a region that has them") {
  // The bus addresses alone decide where: the pointers are congruent modulo 2 MiB.
  const std::size_t bytes = 6_MiB;
  std::unique_ptr<std::byte[]> memory{new std::byte[bytes]};
  const auto pointer = reinterpret_cast<std::uintptr_t>(memory.get());
  const std::uint64_t bus = (std::uint64_t{3} << 30) + (pointer & (2_MiB - 1));
  dma_arena<> arena{{{memory.get(), bytes}, bus_addr{bus}}};
  const auto r = arena.allocate(2_MiB, 2_MiB);
  REQUIRE(r);
  CHECK(is_aligned(r->bus, 2_MiB));
  CHECK(is_aligned(to_local(r->data()), 2_MiB));
}

TEST_CASE("the table of extents may be the caller's, and its end is an error") {
  std::array<page, 4> pages;
  std::array<address_extent<bus_space>, 2> table;
  dma_arena<std::dynamic_extent> arena{over(pages, 0x1000), table};
  CHECK(arena.allocate(64, 64));
  const auto second = arena.allocate(64, 64);
  REQUIRE(!second);
  CHECK(second.error().code == errc::exhausted);
}

TEST_CASE(
    "a static arena's bus addresses are its pointers, or the addresses that the caller passes") {
  static static_arena<64_KiB> here;
  const auto r = here.allocate(4_KiB, 4_KiB);
  REQUIRE(r);
  CHECK(r->bus.value() == to_local(r->data()).value());

  static static_arena<64_KiB> there{bus_addr{0x8000'0000}};
  const auto s = there.allocate(8_KiB, 4_KiB);
  REQUIRE(s);
  CHECK(s->bus == bus_addr{0x8000'0000});
  there.release(*s);
  CHECK(there.free_bytes() == 64_KiB);
}

TEST_CASE("a buffer goes back to its arena at the end of its scope") {
  static static_arena<16_KiB> arena;
  {
    auto buffer = dma_buffer<static_arena<16_KiB>>::allocate(arena, 8_KiB, 4_KiB);
    REQUIRE(buffer);
    auto moved = std::move(*buffer);
    CHECK(arena.free_bytes() == 8_KiB);
  }
  CHECK(arena.free_bytes() == 16_KiB);
}

TEST_CASE("a region that is not the arena's to take back ends the program") {
  static static_arena<16_KiB> arena;
  constexpr const char* sentence = "the region was released twice, or is not of this arena";
  const auto r = arena.allocate(4_KiB, 4_KiB);
  REQUIRE(r);
  CHECK(phasebit_test::breaks(sentence, [&] {
    arena.release(*r);
    arena.release(*r);
  }));
  CHECK(phasebit_test::breaks(sentence, [&] { arena.release(r->subregion(0, 64)); }));
  CHECK(phasebit_test::breaks(sentence, [&] { arena.release({r->bytes, bus_addr{0x1000}}); }));
  CHECK(phasebit_test::breaks("an alignment is a power of two",
                              [] { static_cast<void>(arena.allocate(64, 48)); }));
  CHECK(phasebit_test::breaks("the bus address is less aligned than the arena",
                              [] { static_arena<4_KiB> wrong{bus_addr{0x1040}}; }));
  arena.release(*r);
}
