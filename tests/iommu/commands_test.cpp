// SPDX-License-Identifier: BSL-1.0
#include "command_ring_harness.hpp"

#include <phasebit/iommu/command_queue/address_block.hpp>

#include <set>

namespace phasebit::command_ring_harness {

namespace {

using range = invalidation_range<bus_space>;

struct random_source {
  std::mt19937_64 engine{20261122};
  std::uint64_t operator()(std::uint64_t below) { return engine() % below; }
};

// An emulated IOMMU that applies commands to a cache only.
template <class Codec>
struct cache_rig : rig<Codec> {
  using rig<Codec>::rig;
  iotlb<256, 8> cache;
  std::vector<command> invalidations;

  void carry_out() {
    this->poll();
    invalidations.clear();
    for (const command& c : this->handler.seen) {
      if (invalidate_cache(cache, c)) invalidations.push_back(c);
    }
    this->handler.seen.clear();
  }
  [[nodiscard]] bool knows(std::uint16_t domain, std::uint64_t a) const {
    iotlb_hit<host_space> hit;
    return cache.find({domain, 0}, bus_addr{a}, hit);
  }
  void learn(std::uint16_t domain, std::uint64_t a, unsigned shift) {
    page_lookup<host_space> page;
    page.status = walk_status::mapped;
    page.page_shift = static_cast<std::uint8_t>(shift);
    page.permissions = 3;
    cache.insert({domain, 0}, bus_addr{a}, page);
  }
};

// Limits on excess: how many more bytes than requested a command may cover, per codec.
template <class Codec>
constexpr std::uint64_t most_excess = 4;
template <>
constexpr std::uint64_t most_excess<smmuv3::command_codec> = 2;

template <class Codec>
void random_ranges(const Codec& codec, unsigned most_per_range) {
  random_source random;
  cache_rig<Codec> r{256, codec};
  for (int round = 0; round != 400; ++round) {
    r.cache.invalidate_all();
    const std::uint64_t base = random(1ULL << 24) << 21;
    std::set<std::pair<std::uint64_t, unsigned>> pages;
    for (int i = 0; i != 200; ++i) {
      const std::uint64_t slot = (base >> 21) + random(32);
      const unsigned shift = slot % 3 == 0 ? 21 : 12;
      pages.insert({(slot << 21) + (shift == 12 ? random(512) << 12 : 0), shift});
    }
    for (const auto& [a, shift] : pages) r.learn(7, a, shift);
    for (const auto& [a, shift] : pages) r.learn(9, a, shift);
    std::set<std::pair<std::uint64_t, unsigned>> known;
    for (const auto& page : pages) {
      if (r.knows(9, page.first)) known.insert(page);
    }

    range changed;
    const unsigned shift = random(3) == 0 ? 21 : 12;
    const std::uint64_t first = (base + (random(1ULL << 26))) >> shift << shift;
    const std::uint64_t count = 1 + random(random(2) == 0 ? 8 : 2000 >> (shift - 12) / 2);
    changed.first = bus_addr{first};
    changed.last = bus_addr{first + (count << shift) - 1};
    changed.page_sizes = shift == 21 ? 1ULL << 21 : (1ULL << 12) | (random(2) << 21);
    changed.tables = random(4) == 0;

    sync_token token;
    REQUIRE(r.producer.invalidate(7, std::span<const range>{&changed, 1}) == posted::posted);
    REQUIRE(r.producer.sync(token) == posted::posted);
    r.carry_out();
    REQUIRE(r.producer.done(token));

    const bool whole = r.invalidations.size() == 1 && !r.invalidations[0].by_range;
    if (most_per_range != 0 && !whole) CHECK(r.invalidations.size() <= most_per_range);
    std::uint64_t named = 0;
    std::uint64_t reached = changed.first.value();
    for (const command& c : r.invalidations) {
      REQUIRE(c.by_domain);
      CHECK(c.domain == 7);
      CHECK((c.tables || !changed.tables));
      if (whole) break;
      if (most_per_range != 0) CHECK(c.first <= reached);
      reached = c.last + 1;
      named += c.last - c.first + 1;
    }
    if (!whole) {
      // A command that names one address of a page means the page.
      if (most_per_range != 0) {
        CHECK(reached > changed.last.value());
        CHECK(named <= most_excess<Codec> * (count << shift));
      }
    }
    for (const auto& [a, page_shift] : pages) {
      const std::uint64_t last = a + (1ULL << page_shift) - 1;
      if ((changed.page_sizes >> page_shift & 1) == 0 && !changed.tables) continue;
      if (a <= changed.last.value() && changed.first.value() <= last) CHECK_FALSE(r.knows(7, a));
    }
    // Other domains keep all they had.
    for (const auto& page : known) CHECK(r.knows(9, page.first));
  }
}

}  // namespace

TEST_CASE("blocks of addresses and their spelling in ones are each other's inverse") {
  for (unsigned shift = 13; shift != 65; ++shift) {
    const std::uint64_t first = shift == 64 ? 0 : 0xa5a5'5a5a'1234'5678 >> shift << shift;
    const address_block block{first, shift};
    CHECK(block_from_ones(size_in_ones(block)) == block);
    CHECK(block_around(block.first, block.last()) == block);
  }
  CHECK(size_in_ones({0, 13}) == 0);
  CHECK(size_in_ones({0, 14}) == 0x1000);
  CHECK(size_in_ones({0, 64}) == amd::all_pages);
  CHECK(block_from_ones(~std::uint64_t{0xfff}) == address_block{0, 64});
  CHECK(block_around(0x1000, 0x1fff) == address_block{0x1000, 12});
  CHECK(block_around(0x1000, 0x2fff) == address_block{0, 14});
  CHECK(block_around(0, ~std::uint64_t{0}) == address_block{0, 64});
}

TEST_CASE(
    "VT-d: random ranges are covered by at most two commands of at most four times the size") {
  random_ranges(vtd::command_codec{.max_address_mask = 40}, 2);
}
TEST_CASE("VT-d: a short address mask takes more commands, which still cover everything") {
  random_ranges(vtd::command_codec{.max_address_mask = 4}, 0);
  random_ranges(vtd::command_codec{.wide = true, .max_address_mask = 0}, 0);
}
TEST_CASE("VT-d: without page selection the domain is invalidated as a whole") {
  random_ranges(vtd::command_codec{.page_selective = false}, 1);
}
TEST_CASE("AMD: random ranges are covered by at most two commands of at most four times the size") {
  random_ranges(amd::command_codec{}, 2);
}
TEST_CASE("SMMUv3: a random range is covered by one command, with at most a sixteenth too much") {
  random_ranges(smmuv3::command_codec{}, 1);
  random_ranges(smmuv3::command_codec{.stage = translation_stage::first}, 1);
}
TEST_CASE("SMMUv3 without ranges and RISC-V: one command a page, or the domain as a whole") {
  random_ranges(smmuv3::command_codec{.ranges = false}, 0);
  random_ranges(riscv::command_codec{}, 0);
  random_ranges(riscv::command_codec{.stage = translation_stage::first}, 0);
}

TEST_CASE("SMMUv3: ranges of coarser granules are covered, with and without a level hint") {
  random_source random;
  for (const unsigned granule : {12U, 14U, 16U}) {
    const smmuv3::command_codec codec{.granule_shift = static_cast<std::uint8_t>(granule)};
    for (int round = 0; round != 20000; ++round) {
      const unsigned level_bits = granule - 3;
      const unsigned shift = granule + level_bits * static_cast<unsigned>(random(2));
      const std::uint64_t first = random(1ULL << 30) << shift >> 1 >> shift << shift;
      const std::uint64_t count = 1 + random(1ULL << random(20));
      const range changed{
          bus_addr{first & 0x7'ffff'ffff'ffff & ~((1ULL << shift) - 1)},
          bus_addr{(first & 0x7'ffff'ffff'ffff & ~((1ULL << shift) - 1)) + (count << shift) - 1},
          1ULL << shift, random(2) == 0};
      command told;
      unsigned told_count = 0;
      for_each_invalidation(codec, command::whole_domain(3), std::span<const range>{&changed, 1}, 8,
                            [&](const command& c) noexcept {
                              told = c;
                              ++told_count;
                            });
      REQUIRE(told_count == 1);
      command_words words;
      REQUIRE(codec.encode(told, words));
      const command back = codec.decode(words);
      REQUIRE(back.kind == command_kind::invalidate_translations);
      if (!back.by_range) continue;
      CHECK(back.first <= changed.first.value());
      // One granule without a hint is a single address: of whatever page holds it.
      if (smmuv3::tlbi::tg.get(words.word[1]) != 0)
        CHECK(back.last >= changed.last.value());
      else
        CHECK(changed.last - changed.first == (1ULL << granule) - 1);
      CHECK(back.tables == changed.tables);
      CHECK(back.last - back.first <= 2 * (changed.last.value() - changed.first.value()) + 1);
      // A hint of the level is given for leaves of one level only, and then the range begins on one.
      const unsigned ttl = smmuv3::tlbi::ttl.get(words.word[1]);
      if (ttl != 0) {
        CHECK_FALSE(changed.tables);
        CHECK((granule == 14 ? ttl >= 2 : ttl >= 1));
        CHECK(granule + (3 - ttl) * level_bits == shift);
        CHECK(back.first % (1ULL << shift) == 0);
      }
    }
  }
}

TEST_CASE("RISC-V: where tables were changed, an address would leave them cached") {
  const range changed{bus_addr{0x1000}, bus_addr{0x1fff}, 1 << 12, true};
  rig<riscv::command_codec> r{8};
  REQUIRE(r.producer.invalidate(7, std::span<const range>{&changed, 1}) == posted::posted);
  r.producer.submit();
  r.poll();
  REQUIRE(r.handler.seen.size() == 1);
  CHECK_FALSE(r.handler.seen[0].by_range);
  CHECK(r.handler.seen[0].tables);
  CHECK(r.handler.seen[0].domain == 7);
}

TEST_CASE("RISC-V: a page of joined entries is visited entry by entry, a large page once") {
  const auto count = [](std::uint64_t bytes, std::uint64_t sizes) {
    const range changed{bus_addr{1 << 30}, bus_addr{(1 << 30) + bytes - 1}, sizes, false};
    unsigned n = 0;
    for_each_invalidation(riscv::command_codec{}, command::whole_domain(1),
                          std::span<const range>{&changed, 1}, 64,
                          [&](const command&) noexcept { ++n; });
    return n;
  };
  CHECK(count(1 << 16, 1 << 16) == 16);
  CHECK(count(1 << 21, 1 << 21) == 1);
  CHECK(count(1 << 30, 1 << 30) == 1);
  CHECK(count(1 << 30, 1 << 21) == 1);  // 512 would be too many: the domain
  CHECK(count(1 << 20, 1 << 12) == 1);
  CHECK(count(1 << 17, 0) == 32);
}

TEST_CASE("a group of invalidations is posted whole or not at all") {
  rig<vtd::command_codec> r{4};
  const range changed[2] = {{bus_addr{0x1000}, bus_addr{0x1fff}, 1 << 12, false},
                            {bus_addr{0x9000}, bus_addr{0x9fff}, 1 << 12, false}};
  REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
  REQUIRE(r.producer.post(command::whole_domain(1)) == posted::posted);
  CHECK(r.producer.invalidate(7, std::span<const range>{changed}) == posted::full);
  CHECK(r.producer.available() == 1);
  r.producer.submit();
  CHECK(r.poll() == 2);
  CHECK(r.producer.invalidate(7, std::span<const range>{changed}) == posted::posted);
  CHECK(r.producer.available(3) == 1);
}

TEST_CASE("more commands than a ring holds become one") {
  rig<vtd::command_codec> r{4, {.max_address_mask = 0}};
  const range changed{bus_addr{0x1000}, bus_addr{0x8fff}, 1 << 12, false};
  CHECK(r.producer.invalidate(7, std::span<const range>{&changed, 1}) == posted::posted);
  r.producer.submit();
  CHECK(r.poll() == 1);
  REQUIRE(r.handler.seen.size() == 1);
  CHECK_FALSE(r.handler.seen[0].by_range);
}

TEST_CASE_TEMPLATE(
    "a command decoded from any words decodes to the same again if it can be encoded", Codec,
    vtd::command_codec, amd::command_codec, smmuv3::command_codec, riscv::command_codec) {
  random_source random;
  std::set<command_kind> kinds;
  Codec codec;
  if constexpr (std::is_same_v<Codec, vtd::command_codec>) codec.wide = true;
  if constexpr (std::is_same_v<Codec, riscv::command_codec>) codec.wired_interrupts = true;
  const auto sparse = [&] { return random.engine() & random.engine() & random.engine(); };
  for (int round = 0; round != 400000; ++round) {
    command_words words;
    words.word[0] = random(2) == 0 ? sparse() : sparse() & sparse();
    words.word[1] = random(2) == 0 ? sparse() : sparse() & sparse();
    if constexpr (std::is_same_v<Codec, amd::command_codec>) {
      words.word[0] = (words.word[0] & ~(15ULL << 60)) | random(9) << 60;
      if (random(4) == 0) words.word[0] &= 0xf000'ffff'000f'ffff;
      if (random(4) == 0) words.word[1] = 0;
    } else if constexpr (std::is_same_v<Codec, riscv::command_codec>) {
      words.word[0] = (words.word[0] & ~0x37fULL) | random(6) | random(3) << 7;
      if (random(2) == 0) words.word[0] &= 0xffff'ff03'ffff'f7ff;
      if (random(2) == 0) words.word[1] &= 0x3fff'ffff'ffff'f800;
    } else {
      words.word[0] = (words.word[0] & ~0xffULL) | random(random(2) == 0 ? 0x50 : 16);
      if (random(4) == 0) words.word[0] &= 0x00ff'ffff'ffff'f3ff;
      if (random(4) == 0) words.word[1] &= ~0xfffULL;
      if (random(4) == 0) words.word[1] = 0;
    }
    const command c = codec.decode(words);
    kinds.insert(c.kind);
    if (c.kind == command_kind::illegal) {
      CHECK(c.reason != illegal_reason::none);
      continue;
    }
    if (c.by_range) CHECK(c.first <= c.last);
    command_words again;
    if (!codec.encode(c, again)) {
      CHECK((c.kind == command_kind::nothing || c.by_range));
      continue;
    }
    const command twice = codec.decode(again);
    CHECK(twice == c);
  }
  CHECK(kinds.size() >= 6);
}

}  // namespace phasebit::command_ring_harness
