// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/driver/split.hpp>

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;

namespace {

using cuts = std::vector<std::pair<std::uint64_t, std::uint32_t>>;

// Splits to the end, or to the first refusal (which adds {lba, 0}).
cuts split_all(std::uint64_t lba, std::vector<segment<bus_space>> segments, split_limits limits) {
  cuts made;
  splitter<> s{lba, segments, limits};
  split_part<32> part;
  while (!s.done()) {
    if (!s.next(part)) {
      made.emplace_back(lba, 0);
      break;
    }
    made.emplace_back(part.lba, part.blocks);
  }
  return made;
}

}  // namespace

TEST_CASE("256 KiB at an MDTS of 128 KiB become two commands") {
  CHECK(split_all(10, {{bus_addr{0x100000}, 256U << 10}}, {.max_bytes = 128U << 10}) ==
        cuts{{10, 256}, {266, 256}});
}

TEST_CASE("no command crosses a stripe of 128 KiB") {
  CHECK(split_all(10, {{bus_addr{0x100000}, 512U * 512}},
                  {.max_bytes = 1U << 20, .boundary_blocks = 256}) ==
        cuts{{10, 246}, {256, 256}, {512, 10}});
}

TEST_CASE("a segment that ends off a page ends its command") {
  // 8, 8, 7 and 9 sectors, each beginning on a page.
  CHECK(split_all(0,
                  {{bus_addr{0x10000}, 8 * 512},
                   {bus_addr{0x20000}, 8 * 512},
                   {bus_addr{0x30000}, 7 * 512},
                   {bus_addr{0x40000}, 9 * 512}},
                  {.max_bytes = 1U << 20}) == cuts{{0, 23}, {23, 9}});
}

TEST_CASE("a cut that would fall inside of a block is refused") {
  CHECK(split_all(5, {{bus_addr{0x10000}, 256}, {bus_addr{0x20000}, 256}},
                  {.max_bytes = 1U << 20}) == cuts{{5, 0}});
  CHECK(split_all(5, {{bus_addr{0x10002}, 512}}, {.max_bytes = 1U << 20}) == cuts{{5, 0}});
}

TEST_CASE("no command has more than 65536 blocks, and none more segments than fit") {
  CHECK(split_all(0, {{bus_addr{0x1000'0000}, 65'537ULL * 512}}, {.max_bytes = 1U << 30}) ==
        cuts{{0, 65'536}, {65'536, 1}});
  std::vector<segment<bus_space>> scattered;
  for (std::uint64_t i = 0; i != 40; ++i) scattered.push_back({bus_addr{(2 * i + 1) << 12}, 4096});
  CHECK(split_all(0, scattered, {.max_bytes = 1U << 20}) == cuts{{0, 256}, {256, 64}});
}

TEST_CASE("parts cover the request in order and without a gap, whatever the segments are") {
  std::mt19937 random{11};
  const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  for (int round = 0; round != 3000; ++round) {
    // Segments of whole blocks at any dword: always expressible, one block a command if need be.
    std::vector<segment<bus_space>> segments;
    std::uint64_t bytes = 0;
    for (unsigned i = 1 + below(12); i != 0; --i) {
      const std::uint64_t begin = (std::uint64_t{i} << 24) + (below(2) ? 0 : 4ULL * below(1024));
      const std::size_t length = 512U * (1 + below(40));
      segments.push_back({bus_addr{begin}, length});
      bytes += length;
    }
    const split_limits limits{.max_bytes = 4096U << below(5),
                              .boundary_blocks = below(3) != 0 ? 0 : 1 + below(64)};
    const std::uint64_t lba = below(1000);
    splitter<> s{lba, segments, limits};
    split_part<32> part;
    std::uint64_t next = lba;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> covered;
    bool good = true;
    while (!s.done()) {
      good = good && static_cast<bool>(s.next(part)) && part.lba == next && part.blocks != 0;
      if (!good) break;
      next += part.blocks;
      std::uint64_t in_part = 0;
      for (std::size_t i = 0; i != part.used().size(); ++i) {
        const auto& p = part.used()[i];
        good = good && (i == 0 || p.begin.value() % 4096 == 0) &&
               (i + 1 == part.used().size() || (p.begin.value() + p.bytes) % 4096 == 0);
        in_part += p.bytes;
        if (!covered.empty() && covered.back().second == p.begin.value()) {
          covered.back().second += p.bytes;
        } else {
          covered.emplace_back(p.begin.value(), p.begin.value() + p.bytes);
        }
      }
      good = good && in_part == std::uint64_t{part.blocks} * 512 && in_part <= limits.max_bytes;
      if (limits.boundary_blocks != 0) {
        good = good && part.lba / limits.boundary_blocks ==
                           (part.lba + part.blocks - 1) / limits.boundary_blocks;
      }
    }
    good = good && (next - lba) * 512 == bytes;
    for (std::size_t i = 0; good && i != segments.size(); ++i) {
      good = covered[i] ==
             std::pair{segments[i].begin.value(), segments[i].begin.value() + segments[i].bytes};
    }
    REQUIRE(good);
  }
}

TEST_CASE("what was gathered beyond the last whole block goes to the next part") {
  const segment<bus_space> segments[] = {{bus_addr{0x1000}, 4096 + 512 + 256},
                                         {bus_addr{0x80000}, 256}};
  splitter<> s{0, segments, split_limits{.max_bytes = 4096}};
  split_part<32> part;
  REQUIRE(s.next(part));
  REQUIRE(part.blocks == 8);
  REQUIRE(s.next(part));
  CHECK(part.blocks == 1);
  CHECK(part.segments[0].begin.value() == 0x2000);
}

TEST_CASE("parts of blocks with inline metadata end with whole blocks of 520 bytes") {
  const segment<bus_space> segments[] = {{bus_addr{0x1000}, 520 * 100}};
  splitter<> s{50, segments, split_limits{.max_bytes = 8192, .block_bytes = 520}};
  split_part<32> part;
  std::uint64_t blocks = 0;
  std::uint64_t at = 0x1000;
  while (!s.done()) {
    REQUIRE(s.next(part));
    CHECK(part.lba == 50 + blocks);
    CHECK(part.segments[0].begin.value() == at);
    CHECK(part.segments[0].bytes == part.blocks * 520ULL);
    CHECK(part.blocks <= 15);
    blocks += part.blocks;
    at += part.blocks * 520ULL;
  }
  CHECK(blocks == 100);
}
