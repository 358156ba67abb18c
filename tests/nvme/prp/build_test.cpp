// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/prp/build.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/counted_memory.hpp>
#include <support/death.hpp>

using namespace phasebit;
using namespace phasebit::literals;
namespace prp = phasebit::nvme::prp;

namespace {

constexpr std::uint64_t list_bus = 0x7f00'0000;

// List memory at a bus address of one's choice, filled with what no list contains.
struct lists {
  explicit lists(std::size_t bytes, std::uint64_t bus = list_bus)
      : words((bytes + 4096) / 8, 0xdead'dead'dead'dead), begin(bus) {
    auto at = reinterpret_cast<std::uintptr_t>(words.data());
    at = (at + 4095) & ~std::uintptr_t{4095};
    memory = {{reinterpret_cast<std::byte*>(at), bytes}, bus_addr{bus}};
  }
  [[nodiscard]] std::uint64_t slot(std::size_t i) const {
    prp::entry e;
    std::memcpy(&e, memory.data() + i * 8, 8);
    return e;
  }
  [[nodiscard]] std::uint64_t read(std::uint64_t bus) const {
    REQUIRE(bus >= begin);
    REQUIRE(bus + 8 <= begin + memory.size());
    return slot(static_cast<std::size_t>(bus - begin) / 8);
  }

  std::vector<std::uint64_t> words;
  std::uint64_t begin;
  dma_region memory;
};

// The pages that the pointers name, PRP1's first, decoded literally from the specification: `count`
// of them in all.
std::vector<std::uint64_t> decode(const lists& from, prp::pointers p, std::size_t count,
                                  unsigned page_shift = 12) {
  std::vector<std::uint64_t> pages{p.prp1};
  if (count == 1) {
    CHECK(p.prp2 == 0);
    return pages;
  }
  if (count == 2) {
    pages.push_back(p.prp2);
    return pages;
  }
  std::uint64_t at = p.prp2;
  const std::uint64_t page = std::uint64_t{1} << page_shift;
  while (pages.size() != count) {
    const bool last_slot = (at + 8) % page == 0;
    const bool last_entry = pages.size() + 1 == count;
    if (last_slot && !last_entry) {
      at = from.read(at);
      REQUIRE(at % page == 0);
      continue;
    }
    pages.push_back(from.read(at));
    at += 8;
  }
  return pages;
}

// The pages of contiguous bytes, found by looking at every byte's page.
std::vector<std::uint64_t> pages_of(std::uint64_t begin, std::size_t bytes,
                                    unsigned page_shift = 12) {
  std::vector<std::uint64_t> pages{begin};
  for (std::uint64_t page = (begin >> page_shift) + 1; page << page_shift < begin + bytes; ++page) {
    pages.push_back(page << page_shift);
  }
  return pages;
}

bool refused(prp::build_result v, errc why, std::uint32_t which = 0) {
  return !v && v.reason == why && v.index == which && v.as_error().index == which;
}

}  // namespace

TEST_CASE("one and two pages need no list") {
  struct row {
    std::uint64_t address;
    std::size_t bytes;
    std::uint64_t prp2;
  };
  constexpr row rows[] = {
      {0x100'0000, 0x200, 0},
      {0x100'0000, 0x1000, 0},
      {0x100'0000, 0x1008, 0x1001000},
      {0x100'0000, 0x2000, 0x1001000},
      {0x100'0004, 0x200, 0},
      {0x100'0004, 0xffc, 0},
      {0x100'0004, 0x1000, 0x1001000},
      {0x100'0004, 0x1008, 0x1001000},
      {0x100'0004, 0x1ffc, 0x1001000},
      {0x100'0ffc, 0x200, 0x1001000},
      {0x100'0ffc, 4, 0},
  };
  for (const row& r : rows) {
    CAPTURE(r.address);
    CAPTURE(r.bytes);
    prp::pointers out;
    REQUIRE(prp::build_contiguous(bus_addr{r.address}, r.bytes, 12, {}, out));
    CHECK(out == prp::pointers{r.address, r.prp2});
  }
}

TEST_CASE("three pages and more go through a list") {
  struct row {
    std::uint64_t address;
    std::size_t bytes;
    std::vector<std::uint64_t> list;
  };
  const row rows[] = {
      {0x100'0000, 0x2010, {0x1001000, 0x1002000}},
      {0x100'0000, 0x3000, {0x1001000, 0x1002000}},
      {0x100'0000, 0x3018, {0x1001000, 0x1002000, 0x1003000}},
      {0x100'0004, 0x2000, {0x1001000, 0x1002000}},
      {0x100'0004, 0x2010, {0x1001000, 0x1002000}},
      {0x100'0ffc, 0x1008, {0x1001000, 0x1002000}},
  };
  for (const row& r : rows) {
    CAPTURE(r.address);
    CAPTURE(r.bytes);
    lists l{4_KiB};
    prp::pointers out;
    REQUIRE(prp::build_contiguous(bus_addr{r.address}, r.bytes, 12, l.memory, out));
    CHECK(out == prp::pointers{r.address, list_bus});
    for (std::size_t i = 0; i != r.list.size(); ++i) CHECK(l.slot(i) == r.list[i]);
  }
}

TEST_CASE("a buffer off a dword, of no bytes or around the end is refused and nothing is written") {
  lists l{4_KiB};
  prp::pointers out{1, 2};
  CHECK(refused(prp::build_contiguous(bus_addr{0x100001}, 0x4000, 12, l.memory, out),
                errc::misaligned));
  CHECK(refused(prp::build_contiguous(bus_addr{0x100002}, 4, 12, l.memory, out), errc::misaligned));
  CHECK(refused(prp::build_contiguous(bus_addr{0x100000}, 0, 12, l.memory, out),
                errc::invalid_argument));
  CHECK(refused(prp::build_contiguous(bus_addr{~0ULL - 0xfff}, 0x1004, 12, l.memory, out),
                errc::overflow));
  CHECK(out == prp::pointers{1, 2});
  CHECK(l.slot(0) == 0xdead'dead'dead'dead);
}

TEST_CASE("every dword offset, and lengths around each number of entries, agree with the oracle") {
  constexpr std::size_t counts[] = {1, 2, 3, 8, 9, 511, 512, 513, 514, 1023, 1024, 1025};
  lists l{4 * 4_KiB};
  for (std::size_t offset = 0; offset < 4096; offset += 4) {
    // All offsets for short transfers; the longest ones for one offset of each kind.
    const bool all = offset == 0 || offset == 4 || offset == 2048 || offset == 4092;
    for (std::size_t count : counts) {
      if (count > 16 && !all && offset % 512 != 508) continue;
      for (int delta : {-512, -4, -1, 0, 1, 4, 512}) {
        const std::uint64_t begin = 0x1'0000'0000 + offset;
        const std::size_t bytes = count * 4096 + static_cast<std::size_t>(delta);
        prp::pointers out;
        REQUIRE(prp::build_contiguous(bus_addr{begin}, bytes, 12, l.memory, out));
        const auto expected = pages_of(begin, bytes);
        REQUIRE(prp::entries_after_first(bus_addr{begin}, bytes, 12) == expected.size() - 1);
        REQUIRE(decode(l, out, expected.size()) == expected);
      }
    }
  }
}

TEST_CASE("the last slot of a page is data where it is the last entry, and else the link") {
  lists l{3 * 4_KiB};
  prp::pointers out;
  REQUIRE(prp::build_contiguous(bus_addr{0x4000'0000}, 513 * 4_KiB, 12, l.memory, out));
  CHECK(l.slot(511) == 0x4000'0000 + 512 * 4_KiB);
  CHECK(l.slot(512) == 0xdead'dead'dead'dead);

  REQUIRE(prp::build_contiguous(bus_addr{0x4000'0000}, 514 * 4_KiB, 12, l.memory, out));
  CHECK(l.slot(511) == list_bus + 4_KiB);
  CHECK(l.slot(512) == 0x4000'0000 + 512 * 4_KiB);
  CHECK(l.slot(513) == 0x4000'0000 + 513 * 4_KiB);
  CHECK(l.slot(1024) == 0xdead'dead'dead'dead);

  REQUIRE(prp::build_contiguous(bus_addr{0x4000'0000}, 1025 * 4_KiB, 12, l.memory, out));
  CHECK(l.slot(1023) == list_bus + 8_KiB);
  CHECK(l.slot(1024) == 0x4000'0000 + 1023 * 4_KiB);
  CHECK(l.slot(1025) == 0x4000'0000 + 1024 * 4_KiB);
}

TEST_CASE("every page size that CC.MPS can encode works") {
  for (unsigned shift = 12; shift <= 27; ++shift) {
    const std::uint64_t page = std::uint64_t{1} << shift;
    const std::uint64_t begin = (std::uint64_t{5} << 40) + page - 8;
    lists l{4_KiB};
    for (std::size_t count = 1; count != 20; ++count) {
      const auto bytes = static_cast<std::size_t>(8 + (count - 1) * page);
      prp::pointers out;
      REQUIRE(prp::build_contiguous(bus_addr{begin}, bytes, shift, l.memory, out));
      CHECK(decode(l, out, count, shift) == pages_of(begin, bytes, shift));
    }
  }
}

TEST_CASE("a list may be a part of a page, and then is as long as that part") {
  lists l{256, list_bus + 4096 - 512};
  prp::pointers out;
  REQUIRE(prp::build_contiguous(bus_addr{0x10000}, 33 * 4_KiB, 12, l.memory, out));
  CHECK(decode(l, out, 33) == pages_of(0x10000, 33 * 4_KiB));
  CHECK(refused(prp::build_contiguous(bus_addr{0x10000}, 34 * 4_KiB, 12, l.memory, out),
                errc::exhausted));
}

TEST_CASE("a part at the end of its page continues into the next one") {
  lists l{256 + 8_KiB, list_bus + 4096 - 256};
  for (std::size_t count : {32U, 33U, 34U, 35U, 543U, 544U, 545U, 546U}) {
    CAPTURE(count);
    prp::pointers out;
    REQUIRE(prp::build_contiguous(bus_addr{0x10000}, count * 4_KiB, 12, l.memory, out));
    CHECK(decode(l, out, count) == pages_of(0x10000, count * 4_KiB));
  }
}

TEST_CASE("what does not fit into the lists is refused, and just fits otherwise") {
  for (std::size_t pages = 1; pages != 4; ++pages) {
    lists l{pages * 4_KiB};
    const std::size_t most = pages * 511 + 1 + 1;  // and PRP1
    CHECK(prp::list_bytes_for(most - 1, 12) == pages * 4_KiB);
    CHECK(prp::list_bytes_for(most, 12) > pages * 4_KiB);
    prp::pointers out{1, 2};
    CHECK(refused(prp::build_contiguous(bus_addr{0x10000}, (most + 1) * 4_KiB, 12, l.memory, out),
                  errc::exhausted));
    REQUIRE(prp::build_contiguous(bus_addr{0x10000}, most * 4_KiB, 12, l.memory, out));
    CHECK(decode(l, out, most) == pages_of(0x10000, most * 4_KiB));
  }
  prp::pointers out;
  CHECK(refused(prp::build_contiguous(bus_addr{0x10000}, 3 * 4_KiB, 12, {}, out), errc::exhausted));
}

TEST_CASE("further lists are asked for one by one, and only when needed") {
  lists l{12_KiB};
  std::size_t asked = 0;
  const auto more = [&]() noexcept -> prp::list_memory {
    ++asked;
    return asked <= 2 ? l.memory.subregion(asked * 4_KiB, 4_KiB) : prp::list_memory{};
  };
  const auto first = l.memory.subregion(0, 4_KiB);
  for (auto [count, lists_needed] : {std::pair{513U, 0U}, {514U, 1U}, {1024U, 1U}, {1025U, 2U}}) {
    asked = 0;
    prp::pointers out;
    REQUIRE(prp::build_contiguous(bus_addr{0x10000}, count * 4_KiB, 12, first, out, more));
    CHECK(asked == lists_needed);
    CHECK(decode(l, out, count) == pages_of(0x10000, count * 4_KiB));
  }
  const prp::list_memory spare[] = {l.memory.subregion(4_KiB, 4_KiB),
                                    l.memory.subregion(8_KiB, 4_KiB)};
  prp::pointers out;
  REQUIRE(
      prp::build_contiguous(bus_addr{0x10000}, 1535 * 4_KiB, 12, first, out, prp::lists_of{spare}));
  CHECK(decode(l, out, 1535) == pages_of(0x10000, 1535 * 4_KiB));
  CHECK(refused(
      prp::build_contiguous(bus_addr{0x10000}, 1536 * 4_KiB, 12, first, out, prp::lists_of{spare}),
      errc::exhausted));
}

TEST_CASE("nothing beyond the last entry's cache line is written") {
  for (std::size_t entries = 2; entries != 64; ++entries) {
    lists l{4_KiB};
    prp::pointers out;
    REQUIRE(prp::build_contiguous(bus_addr{0x10000}, (entries + 1) * 4_KiB, 12, l.memory, out));
    CHECK(l.slot((entries + 7) / 8 * 8) == 0xdead'dead'dead'dead);
  }
}

TEST_CASE("segments that PRPs can express") {
  struct row {
    std::vector<segment<bus_space>> segments;
    std::vector<std::uint64_t> pages;
  };
  const row rows[] = {
      {{{bus_addr{0x1000000}, 0x200}}, {0x1000000}},
      {{{bus_addr{0x1000800}, 0x800}, {bus_addr{0x2000000}, 0x200}}, {0x1000800, 0x2000000}},
      {{{bus_addr{0x1000000}, 0x1000}, {bus_addr{0x1001000}, 0x1800}},
       {0x1000000, 0x1001000, 0x1002000}},
      {{{bus_addr{0x100800}, 0x1800}, {bus_addr{0x900000}, 0x1000}},
       {0x100800, 0x101000, 0x900000}},
      {{{bus_addr{0x100ffc}, 4}, {bus_addr{0x900000}, 0x1000}, {bus_addr{0x500000}, 8}},
       {0x100ffc, 0x900000, 0x500000}},
      // One buffer in parts of eight, eight, seven and nine sectors.
      {{{bus_addr{0x100000}, 0x1000},
        {bus_addr{0x101000}, 0x1000},
        {bus_addr{0x102000}, 0xe00},
        {bus_addr{0x102e00}, 0x1200}},
       {0x100000, 0x101000, 0x102000, 0x103000}},
      {{{bus_addr{0x100000}, 0x3000}, {bus_addr{0x900000}, 0x2004}},
       {0x100000, 0x101000, 0x102000, 0x900000, 0x901000, 0x902000}},
  };
  for (const row& r : rows) {
    lists l{4_KiB};
    prp::pointers out;
    REQUIRE(prp::build(r.segments, 12, 1_MiB, l.memory, out));
    CHECK(decode(l, out, r.pages.size()) == r.pages);
  }
}

TEST_CASE("segments that PRPs cannot express are refused with the index of the one at fault") {
  struct row {
    std::vector<segment<bus_space>> segments;
    errc why;
    std::uint32_t which;
  };
  const row rows[] = {
      {{}, errc::invalid_argument, 0},
      {{{bus_addr{0x100001}, 0x1000}}, errc::misaligned, 0},
      {{{bus_addr{0x100000}, 0}}, errc::invalid_argument, 0},
      {{{bus_addr{0x100000}, 0x1000}, {bus_addr{0x200000}, 0}}, errc::invalid_argument, 1},
      {{{bus_addr{0x1000000}, 0x200}, {bus_addr{0x2000000}, 0x1000}}, errc::misaligned, 0},
      {{{bus_addr{0x100800}, 0x1000}, {bus_addr{0x900800}, 0x1000}}, errc::misaligned, 0},
      {{{bus_addr{0x100800}, 0x800}, {bus_addr{0x900800}, 0x1000}}, errc::misaligned, 1},
      // 0x100800 + 4 KiB ends in the middle of a page. A device would read the remaining bytes of
      // that page before it came to the second segment.
      {{{bus_addr{0x100800}, 0x1000}, {bus_addr{0x900000}, 0x1000}}, errc::misaligned, 0},
      {{{bus_addr{0x100000}, 0x1000},
        {bus_addr{0x200000}, 0x800},
        {bus_addr{0x200800}, 0x7fc},
        {bus_addr{0x300000}, 0x1000}},
       errc::misaligned,
       2},
      {{{bus_addr{0x100000}, 0x1000}, {bus_addr{~0ULL - 0xfff}, 0x1000}}, errc::overflow, 1},
      {{{bus_addr{0x100000}, 0x8000}, {bus_addr{0x200000}, 0x8004}}, errc::out_of_range, 1},
  };
  for (const row& r : rows) {
    lists l{4_KiB};
    prp::pointers out{1, 2};
    CHECK(refused(prp::build(r.segments, 12, 64_KiB, l.memory, out), r.why, r.which));
    CHECK(out == prp::pointers{1, 2});
    CHECK(l.slot(0) == 0xdead'dead'dead'dead);
  }
}

TEST_CASE("scattered pages over several list pages") {
  for (std::size_t count : {2U, 3U, 512U, 513U, 514U, 1024U, 1025U, 1026U}) {
    std::vector<segment<bus_space>> segments;
    std::vector<std::uint64_t> expected;
    for (std::size_t i = 0; i != count; ++i) {
      const std::uint64_t page = 0x1000'0000 + (i * 7919 % 4096) * 0x2000;
      segments.push_back({bus_addr{page}, 4_KiB});
      expected.push_back(page);
    }
    lists l{16_KiB};
    prp::pointers out;
    REQUIRE(prp::build(segments, 12, 16_MiB, l.memory, out));
    CHECK(decode(l, out, count) == expected);
  }
}

TEST_CASE("segments that exceed their lists are refused") {
  std::vector<segment<bus_space>> segments(100, segment<bus_space>{bus_addr{0x10000}, 4_KiB});
  lists l{256};
  prp::pointers out{1, 2};
  CHECK(refused(prp::build(segments, 12, 16_MiB, l.memory, out), errc::exhausted));
  CHECK(out == prp::pointers{1, 2});
}

TEST_CASE("a build_result becomes an error with its sentence and its segment") {
  const segment<bus_space> segments[] = {{bus_addr{0x1000}, 4096}, {bus_addr{0x2004}, 4096}};
  prp::pointers out;
  const auto v = prp::build(segments, 12, 1_MiB, {}, out);
  std::array<char, 128> text{};
  CHECK(v.as_error().message(text) ==
        "a segment after the first does not begin on a page (index 1)");
}

TEST_CASE("lists that are no lists end the program where they would be written") {
  using phasebit_test::breaks;
  constexpr const char* lines = "a PRP list is made of whole cache lines";
  lists l{12_KiB};
  prp::pointers out;
  const auto build = [&](std::size_t pages, dma_region list, dma_region next = {}) {
    const prp::list_memory more[] = {next};
    static_cast<void>(prp::build_contiguous(bus_addr{0x10000}, pages * 4_KiB, 12, list, out,
                                            prp::lists_of{more}));
  };
  CHECK(breaks(lines, [&] { build(10, l.memory.subregion(0, 72)); }));
  CHECK(breaks(lines, [&] { build(600, l.memory.subregion(8, 8_KiB)); }));
  CHECK(breaks("a list that another one leads to begins on a memory page", [&] {
    build(600, l.memory.subregion(0, 4_KiB), l.memory.subregion(4_KiB + 64, 4_KiB));
  }));
  CHECK(breaks("a memory page is 4 KiB to 128 MiB", [&] {
    const segment<bus_space> one[] = {{bus_addr{0x1000}, 4096}};
    static_cast<void>(prp::build(one, 11, 1_MiB, l.memory, out));
  }));
  CHECK(breaks("a build_result without a fault is no error",
               [] { static_cast<void>(prp::build_result{}.as_error()); }));
}

TEST_CASE("a list that ends a cache line before its page holds no more than its slots") {
  phasebit_test::counted_memory<bus_space> memory{0x4000'0000, 16_KiB};
  prp::pointers out;
  const auto list = memory.region(0x4000'0000, 4096 - 64);
  CHECK(prp::build_contiguous(bus_addr{0x1000'0000}, 4096 * (1 + 504), 12, list, out));
  const auto v = prp::build_contiguous(bus_addr{0x1000'0000}, 4096 * (1 + 505), 12, list, out);
  CHECK_FALSE(v);
  CHECK(v.reason == errc::exhausted);
}
