// SPDX-License-Identifier: BSL-1.0
#include <phasebit/ring/tag_pool.hpp>

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using phasebit::ring::tag_pool;

namespace {

template <class Pool>
std::uint16_t take(Pool& pool, unsigned token, std::uint32_t tick = 0) {
  const std::uint16_t id = pool.next();
  pool.take(token, tick);
  return id;
}

}  // namespace

TEST_CASE("an id comes again only after all 65535 others of its pool's laps") {
  for (const unsigned count : {1U, 7U, 8U, 255U}) {
    tag_pool<unsigned, 255> pool;
    pool.reset(count);
    std::vector<std::uint32_t> last(0x1'0000, ~0U);
    unsigned faults = 0;
    for (std::uint32_t i = 0; i != 140'000; ++i) {
      const std::uint16_t id = take(pool, i);
      faults += id == 0xffff;
      faults += last[id] != ~0U && i - last[id] < 65'535;
      last[id] = i;
      faults += pool.release(id) != i;
    }
    CHECK(faults == 0);
  }
}

TEST_CASE("ids agree with a map whatever is taken, given back and guessed") {
  std::mt19937 random{3};
  for (const unsigned count : {1U, 2U, 3U, 4U, 5U, 15U, 16U, 17U, 100U}) {
    tag_pool<unsigned, 100> pool;
    pool.reset(count);
    std::map<std::uint16_t, unsigned> taken;
    for (unsigned i = 0; i != 5'000; ++i) {
      REQUIRE(pool.in_flight() == taken.size());
      REQUIRE(pool.free_count() == count - taken.size());
      REQUIRE(pool.full() == (taken.size() == count));
      switch (random() % 3) {
        case 0:
          if (!pool.full()) {
            const std::uint16_t id = take(pool, i);
            REQUIRE(taken.emplace(id, i).second);
          }
          break;
        case 1:
          if (!taken.empty()) {
            auto it = taken.begin();
            std::advance(it, static_cast<std::ptrdiff_t>(random() % taken.size()));
            unsigned token = 0;
            REQUIRE(pool.try_release(it->first, token));
            REQUIRE(token == it->second);
            REQUIRE_FALSE(pool.try_release(it->first, token));
            taken.erase(it);
          }
          break;
        default: {
          const auto guess = static_cast<std::uint16_t>(random());
          REQUIRE(pool.is_in_flight(guess) == (taken.count(guess) != 0));
          unsigned token = 77;
          if (taken.count(guess) == 0) {
            REQUIRE_FALSE(pool.try_release(guess, token));
            REQUIRE(token == 77);
          }
        }
      }
    }
    std::set<std::uint16_t> seen;
    pool.for_each_in_flight([&](std::uint16_t id) { seen.insert(id); });
    REQUIRE(seen.size() == taken.size());
    for (const auto& [id, token] : taken) REQUIRE(seen.count(id) == 1);
  }
}

TEST_CASE("every 16-bit number but those in flight is refused") {
  tag_pool<unsigned, 7> pool;
  pool.reset(7);
  for (unsigned i = 0; i != 70'000; ++i) (void)pool.release(take(pool, i));
  const std::uint16_t a = take(pool, 1);
  const std::uint16_t b = take(pool, 2);
  unsigned known = 0;
  for (unsigned id = 0; id != 0x1'0000; ++id) {
    if (!pool.is_in_flight(static_cast<std::uint16_t>(id))) continue;
    ++known;
    CHECK((id == a || id == b));
  }
  CHECK(known == 2);
}

TEST_CASE("ids that stay in flight for long are gone around") {
  tag_pool<unsigned, 3> pool;
  pool.reset(3);
  const std::uint16_t stuck = take(pool, 5);
  const std::uint16_t other = take(pool, 6);
  unsigned faults = 0;
  for (unsigned i = 0; i != 140'000; ++i) {
    const std::uint16_t id = take(pool, i);
    faults += id == stuck || id == other || !pool.full();
    faults += pool.release(id) != i;
  }
  CHECK(faults == 0);
  CHECK(pool.release(stuck) == 5);
  CHECK(pool.release(other) == 6);
}

TEST_CASE("ids taken after a mark are distinguished from those taken before") {
  tag_pool<unsigned, 15> pool;
  pool.reset(15);
  for (unsigned lap = 0; lap != 5'000; ++lap) {
    const std::uint16_t before = take(pool, 0);
    const std::uint32_t mark = pool.mark();
    const std::uint16_t after = take(pool, 0);
    REQUIRE_FALSE(pool.is_since(mark, before));
    REQUIRE(pool.is_since(mark, after));
    (void)pool.release(before);
    (void)pool.release(after);
  }
}

TEST_CASE("ages count in ticks and wrap") {
  tag_pool<unsigned, 3> pool;
  pool.reset(3);
  const std::uint16_t id = take(pool, 0, ~0U - 1);
  CHECK(pool.age(id, 3) == 5);
}

TEST_CASE("draining ends each id once, and nothing can be taken meanwhile or after") {
  tag_pool<unsigned, 31> pool;
  pool.reset(31);
  for (unsigned i = 0; i != 10; ++i) (void)take(pool, i);
  unsigned sum = 0;
  CHECK(pool.drain([&](unsigned token, std::uint16_t) noexcept {
    sum += token;
    CHECK(pool.full());
  }) == 10);
  CHECK(sum == 45);
  CHECK(pool.full());
  CHECK(pool.in_flight() == 0);
  CHECK(pool.drain([](unsigned, std::uint16_t) noexcept {}) == 0);
}

TEST_CASE("a closed pool gives out no ids, and those in flight are still known") {
  tag_pool<unsigned, 7> pool;
  pool.reset(7);
  const std::uint16_t id = take(pool, 9);
  pool.close();
  CHECK(pool.full());
  CHECK(pool.in_flight() == 1);
  CHECK(pool.is_in_flight(id));
  CHECK(pool.drain([](unsigned token, std::uint16_t) noexcept { CHECK(token == 9); }) == 1);
  CHECK(pool.full());
}

TEST_CASE("a pool that has moved keeps its ids, and leaves none behind") {
  tag_pool<unsigned, 7> pool;
  pool.reset(7);
  (void)pool.release(take(pool, 1));
  const std::uint16_t id = take(pool, 9);
  tag_pool<unsigned, 7> other{std::move(pool)};
  CHECK(pool.full());
  CHECK_FALSE(pool.is_in_flight(id));
  CHECK(other.is_in_flight(id));
  CHECK(other.next() == id + 1);
  pool = std::move(other);
  CHECK(pool.release(id) == 9);
}
