// SPDX-License-Identifier: BSL-1.0
// The search for plans that the rules do not find: exact on random sequences of whole buffers, runnable on
// the target, and left out where its preconditions fail.
#include "interpreter.hpp"

#include <phasebit/accel/plan.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>

#include <doctest/doctest.h>
#include <support/sanitizers.hpp>

using namespace phasebit;
using namespace phasebit::accel;
using phasebit_test::interpreter;

namespace {

using seq = sequence<8, 48>;

constexpr domain_id remote{3};

// A target whose engine does not reach domain 3, which copies pull from and push to.
target remote_target() {
  target where;
  where.reach &= ~target::bit(remote);
  where.pulls = target::bit(remote);
  where.pushes = target::bit(remote);
  where.zeroes = target::bit(remote);
  return where;
}

// Whole buffers of 512 bytes, one of 520: three local, one remote, one open to others, two of scratch.
seq random_buffers(std::uint64_t seed, bool with_remote) {
  std::mt19937_64 r{seed};
  seq s;
  const auto t = *s.scratch(512);
  const auto u = *s.scratch(512);
  const std::array<domain_segment, 7> all{domain_segment{0, 512, local_domain},
                                          domain_segment{700, 512, local_domain},
                                          domain_segment{1400, 512, local_domain},
                                          domain_segment{0, 512, domain_id{4}},
                                          t,
                                          u,
                                          domain_segment{0, 512, remote}};
  const domain_segment protected_buffer{2100, 520, local_domain};
  const std::size_t steps = 2 + r() % 6;
  const auto pick = [&] { return all[r() % (with_remote ? 7 : 6)]; };
  for (std::size_t k = 0; k != steps; ++k) {
    const seq before = s;
    const cipher c{.first_unit = r() % 2, .unit_bytes = 512, .key = 0};
    switch (r() % 8) {
      case 0:
        static_cast<void>(s.fill(pick(), r() % 2 == 0 ? 0 : 0x0807060504030201U));
        break;
      case 1:
      case 2:
      case 3:
        static_cast<void>(s.copy(pick(), pick()));
        break;
      case 4:
        static_cast<void>(s.encrypt(pick(), pick(), c));
        break;
      case 5:
        static_cast<void>(s.decrypt(pick(), pick(), c));
        break;
      case 6:
        static_cast<void>(r() % 2 == 0 ? s.crc32c(pick()) : s.crc16_t10dif(pick()));
        break;
      default:
        static_cast<void>(s.dif_insert(protected_buffer, pick(), {}));
        break;
    }
    if (!s.check_scratch()) s = before;
  }
  return s;
}

bool runnable(const seq& s, const target& where) {
  for (std::size_t i = 0; i != s.size(); ++i) {
    if (s[i].op == operation::reuse_result || s[i].op == operation::combine_crc32c) continue;
    if (s[i].op == operation::copy) {
      const auto a = s.sources(s[i])[0].domain;
      if (!where.copies(a, s.destinations(s[i])[0].domain)) return false;
      continue;
    }
    for (const auto list : {s.sources(s[i]), s.destinations(s[i])}) {
      for (const auto& d : list) {
        const bool zeroed = s[i].op == operation::fill && s[i].with.value == 0 &&
                            (where.zeroes & target::bit(d.domain)) != 0;
        if (!where.reaches(d.domain) && !zeroed) return false;
      }
    }
  }
  return true;
}

// Whether some step writes to `d` what encrypt makes unreadable there in the original.
std::size_t writes_to(const seq& s, domain_id d) {
  std::size_t n = 0;
  for (std::size_t i = 0; i != s.size(); ++i) {
    for (const auto& w : s.destinations(s[i])) n += w.domain == d ? 1 : 0;
  }
  return n;
}

std::size_t search_many(std::uint64_t first, std::size_t count, const target& where,
                        bool with_remote) {
  std::size_t replaced = 0;
  for (std::uint64_t seed = first; seed != first + count; ++seed) {
    const seq before = random_buffers(seed, with_remote);
    if (!runnable(before, where)) continue;
    CAPTURE(seed);
    seq ruled = before;
    optimize(ruled, where);
    seq searched = ruled;
    if (!search_plan(searched, where)) continue;
    ++replaced;
    REQUIRE(runnable(searched, where));
    REQUIRE(searched.check_scratch());
    REQUIRE(bytes_moved(searched) <= bytes_moved(ruled));
    interpreter plain{seed};
    interpreter planned{seed};
    plain.run(before);
    planned.run(searched);
    const bool same = plain.memory() == planned.memory() && plain.results() == planned.results();
    REQUIRE(same);
  }
  return replaced;
}

seq missed_by_rules() {
  seq s;
  const domain_segment a{0, 512, local_domain};
  const domain_segment b{700, 512, local_domain};
  static_cast<void>(s.zero(a));
  static_cast<void>(s.zero(b));
  static_cast<void>(s.encrypt(a, a, {.unit_bytes = 512}));
  return s;
}

}  // namespace

TEST_CASE("plans that the search finds give the same bytes and results") {
  CHECK(search_many(1, test_support::scaled(100'000U), {}, false) > test_support::scaled(1'000U));
}

TEST_CASE("plans that the search finds run on a target that does not reach every domain") {
  CHECK(search_many(1, test_support::scaled(100'000U), remote_target(), true) >
        test_support::scaled(200U));
}

TEST_CASE("the search reads a value from another buffer that holds it") {
  seq s = missed_by_rules();
  const auto p = *plan(s);
  CHECK(p.bytes_after == 3 * 512);
  CHECK(s.size() == 2);
  CHECK(s[0].op == operation::fill);
  CHECK(s[1].op == operation::encrypt);
  CHECK(s.sources(s[1])[0].address == 700);
}

TEST_CASE("the search leaves a sequence with a gate as it is") {
  seq s = missed_by_rules();
  static_cast<void>(
      s.compare(domain_segment{1400, 512, local_domain}, domain_segment{2100, 512, local_domain}));
  CHECK_FALSE(search_plan(s, {}));
}

TEST_CASE("the search leaves a sequence with partly overlapping buffers as it is") {
  seq s = missed_by_rules();
  static_cast<void>(
      s.copy(domain_segment{200, 512, local_domain}, domain_segment{2100, 512, local_domain}));
  CHECK_FALSE(search_plan(s, {}));
}

TEST_CASE("the search leaves a sequence whose domains may share bytes as it is") {
  seq s = missed_by_rules();
  static_cast<void>(
      s.copy(domain_segment{0, 512, domain_id{2}}, domain_segment{2100, 512, local_domain}));
  target where;
  CHECK(search_plan(s, where));
  s = missed_by_rules();
  static_cast<void>(
      s.copy(domain_segment{0, 512, domain_id{2}}, domain_segment{2100, 512, local_domain}));
  where.aliases.share_with_local(domain_id{2});
  CHECK_FALSE(search_plan(s, where));
}

TEST_CASE("the search puts no value into open memory that the sequence does not put there") {
  // The cheapest plan would make the cipher text in place in domain 4, from plain text held there.
  std::size_t checked = 0;
  for (std::uint64_t seed = 1; seed != 4000; ++seed) {
    seq s;
    std::mt19937_64 r{seed};
    const auto t = *s.scratch(512);
    const std::array<domain_segment, 4> all{domain_segment{0, 512, local_domain},
                                            domain_segment{0, 512, domain_id{4}}, t,
                                            domain_segment{700, 512, local_domain}};
    static_cast<void>(s.copy(t, all[r() % 2 * 3]));
    for (int k = 0; k != 3; ++k) {
      const auto from = all[r() % 4];
      // Domain 4 is written by encrypt alone.
      auto to = all[r() % 4];
      if (r() % 2 == 0 || to.domain == domain_id{4}) {
        static_cast<void>(s.encrypt(to, from, {.unit_bytes = 512}));
      } else {
        static_cast<void>(s.copy(to, from));
      }
    }
    const seq before = s;
    if (!search_plan(s, {})) continue;
    ++checked;
    // Symbolic: a value is plain while it has passed no encryption since it was read.
    std::array<int, 4> depth{0, 100, 0, 0};
    const auto index = [&](const domain_segment& d) {
      for (std::size_t k = 0; k != 4; ++k) {
        if (all[k] == d) return k;
      }
      return std::size_t{0};
    };
    for (std::size_t i = 0; i != s.size(); ++i) {
      const std::size_t to = index(s.destinations(s[i])[0]);
      depth[to] = depth[index(s.sources(s[i])[0])] + (s[i].op == operation::encrypt ? 1 : 0);
      CAPTURE(seed);
      if (to == 1) REQUIRE(depth[to] > 0);
    }
    CHECK(writes_to(s, domain_id{4}) <= writes_to(before, domain_id{4}));
  }
  CHECK(checked > 100);
}

TEST_CASE("fusion counts: the plan that is better after fusing is kept") {
  target where;
  constexpr std::array fusions{fusion{operation::encrypt, operation::dif_insert}};
  where.fusions = fusions;
  for (std::uint64_t seed = 1; seed != 5000; ++seed) {
    const seq before = random_buffers(seed, false);
    seq ruled = before;
    optimize(ruled, where);
    fuse(ruled, where);
    seq planned = before;
    const auto p = plan(planned, where);
    REQUIRE(p);
    REQUIRE(p->bytes_after <= bytes_moved(ruled));
  }
}
