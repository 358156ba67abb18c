// SPDX-License-Identifier: BSL-1.0
#include "interpreter.hpp"
#include "random_sequence.hpp"

#include <phasebit/accel/plan.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>

#include <doctest/doctest.h>
#include <support/sanitizers.hpp>

using namespace phasebit;
using namespace phasebit::accel;
using phasebit_test::interpreter;
using phasebit_test::random_sequence;

namespace {

constexpr domain_segment at(std::uint64_t address, std::uint64_t bytes, std::uint16_t domain = 0) {
  return {address, bytes, domain_id{domain}};
}
constexpr cipher key0{.first_unit = 0, .unit_bytes = 512, .key = 0};
constexpr std::array<fusion, 6> table{fusion{operation::encrypt, operation::dif_insert},
                                      fusion{operation::copy, operation::crc32c},
                                      fusion{operation::decompress, operation::crc32c},
                                      fusion{operation::dif_strip, operation::decrypt},
                                      fusion{operation::encrypt, operation::crc32c},
                                      fusion{operation::copy, operation::dif_verify}};

constexpr target fusing() {
  target t;
  t.fusions = table;
  return t;
}

// A pipeline of known shape, planned by the compiler.
consteval sequence<4, 8> planned_write() {
  sequence<4, 8> s;
  const auto t = *s.scratch(512);
  const auto u = *s.scratch(512);
  static_cast<void>(s.copy(t, slot(0, 0, 512)));
  static_cast<void>(s.encrypt(u, t, key0));
  static_cast<void>(s.copy(slot(1, 0, 512), u));
  static_cast<void>(*plan(s));
  return s;
}
constexpr sequence<4, 8> write_plan = planned_write();
static_assert(write_plan.size() == 1);
static_assert(write_plan[0].op == operation::encrypt);

}  // namespace

TEST_CASE("a constant sequence is planned at compile time, and memory is bound to it") {
  auto s = write_plan;
  const std::array memory{at(1000, 512), at(2000, 512)};
  CHECK(bind(s, memory));
  CHECK(s.sources(s[0])[0] == at(1000, 512));
  CHECK(s.destinations(s[0])[0] == at(2000, 512));

  auto missing = write_plan;
  CHECK(bind(missing, std::span{memory}.first(1)).error().code == errc::not_found);
  auto shorter = write_plan;
  const std::array small{at(1000, 511), at(2000, 512)};
  CHECK(bind(shorter, small).error().code == errc::out_of_range);
  auto shared = write_plan;
  const std::array overlapping{at(1000, 512), at(1511, 512)};
  CHECK(bind(shared, overlapping).error().code == errc::overlap);
}

TEST_CASE("copy, encrypt, DIF, copy from a remote domain: one fused operation and one buffer") {
  for (const bool fuses : {true, false}) {
    target where = fuses ? fusing() : target{};
    where.reach &= ~target::bit(domain_id{3});
    where.pulls = target::bit(domain_id{3});
    sequence<> s;
    const auto t = *s.scratch(512);
    const auto u = *s.scratch(512);
    const auto v = *s.scratch(520);
    CHECK(s.copy(t, at(0, 512, 3)));
    CHECK(s.encrypt(u, t, key0));
    CHECK(s.dif_insert(v, u, {}));
    CHECK(s.copy(at(2000, 520), v));
    const auto p = *plan(s, where);
    CHECK(p.steps_before == 4);
    // The pull into the local buffer, then one operation or two; encryption works in place.
    CHECK(s.size() == (fuses ? 2 : 3));
    CHECK(p.scratch_bytes == 512);
    CHECK(s[0].op == operation::copy);
    CHECK(s[1].op == operation::encrypt);
    CHECK(s[1].then == (fuses ? operation::dif_insert : operation::none));
    CHECK(s.destinations(s[s.size() - 1])[0] == at(2000, 520));
  }
}

TEST_CASE("copy and crc fuse in either order, also when the sum is of the copy") {
  for (const int order : {0, 1, 2}) {
    sequence<> s;
    if (order == 1) CHECK(s.crc32c(at(0, 512)));
    CHECK(s.copy(at(1000, 512), at(0, 512)));
    if (order == 0) CHECK(s.crc32c(at(0, 512)));
    if (order == 2) CHECK(s.crc32c(at(1000, 512)));
    CHECK(plan(s, fusing()));
    CHECK(s.size() == 1);
    CHECK(s[0].op == operation::copy);
    CHECK(s[0].then == operation::crc32c);
    CHECK(s[0].then_id == (order == 1 ? 0 : 1));
  }
}

TEST_CASE("steps do not fuse across a missing table entry, a write, a reader or a gate") {
  const auto fused = [](auto build) {
    sequence<10> s;
    build(s);
    fuse(s, fusing());
    for (std::size_t i = 0; i != s.size(); ++i) {
      if (s[i].then != operation::none) return true;
    }
    return false;
  };
  using seq = sequence<10>;
  CHECK_FALSE(fused([](seq& s) {  // not in the table
    CHECK(s.decrypt(at(1000, 512), at(0, 512), key0));
    CHECK(s.crc32c(at(1000, 512)));
  }));
  CHECK_FALSE(fused([](seq& s) {  // written between
    CHECK(s.encrypt(at(1000, 512), at(0, 512), key0));
    CHECK(s.zero(at(1001, 1)));
    CHECK(s.crc32c(at(1000, 512)));
  }));
  CHECK_FALSE(fused([](seq& s) {  // the middle is memory that stays
    CHECK(s.encrypt(at(1000, 512), at(0, 512), key0));
    CHECK(s.dif_insert(at(2000, 520), at(1000, 512), {}));
  }));
  CHECK_FALSE(fused([](seq& s) {  // another reader of the middle
                const auto t = *s.scratch(512);
                CHECK(s.encrypt(t, at(0, 512), key0));
                CHECK(s.dif_insert(at(2000, 520), t, {}));
                CHECK(s.crc32c(t));
                CHECK(s.crc16_t10dif(t));
              }) == false);
  CHECK_FALSE(fused([](seq& s) {  // the first one's source is written between
    const auto t = *s.scratch(512);
    CHECK(s.encrypt(t, at(0, 512), key0));
    CHECK(s.zero(at(5, 1)));
    CHECK(s.dif_insert(at(2000, 520), t, {}));
  }));
  CHECK_FALSE(fused([](seq& s) {  // a part only
    CHECK(s.copy(at(1000, 512), at(0, 512)));
    CHECK(s.crc32c(at(1000, 511)));
  }));
  CHECK_FALSE(fused([](seq& s) {  // a gate between the sum and the copy
    CHECK(s.crc32c(at(0, 512)));
    CHECK(s.compare(at(3000, 8), at(3100, 8)));
    CHECK(s.copy(at(1000, 512), at(0, 512)));
  }));
  CHECK(fused([](seq& s) {
    CHECK(s.encrypt(at(1000, 512), at(0, 512), key0));
    CHECK(s.crc32c(at(1000, 512)));
  }));
}

TEST_CASE("random sequences give the same bytes and results when they are planned with fusion") {
  target where = fusing();
  where.aliases.share_with_local(domain_id{2});
  std::size_t fused = 0;
  for (std::uint64_t seed = 5'000'000; seed != 5'000'000 + test_support::scaled(20'000U); ++seed) {
    random_sequence source{seed};
    const random_sequence::sequence before = source.make(10);
    random_sequence::sequence after = before;
    const auto p = plan(after, where);
    CAPTURE(seed);
    REQUIRE(p);
    interpreter plain{seed};
    interpreter planned{seed};
    plain.run(before);
    planned.run(after);
    REQUIRE((plain.memory() == planned.memory()));
    REQUIRE((plain.results() == planned.results()));
    for (std::size_t i = 0; i != after.size(); ++i) {
      fused += after[i].then != operation::none ? 1 : 0;
    }
  }
  CHECK(fused > test_support::scaled(500U));
}

TEST_CASE("scratch is placed by lifetime: no two live buffers share bytes, and in-place steps do") {
  sequence<> s;
  const auto t = *s.scratch(512);
  const auto u = *s.scratch(512);
  const auto v = *s.scratch(520);
  CHECK(s.copy(t, at(0, 512)));
  CHECK(s.encrypt(u, t, key0));
  CHECK(s.dif_insert(v, u, {}));
  CHECK(s.copy(at(2000, 520), v));
  CHECK(assign_scratch(s) == 512 + 520);
  CHECK(s.scratch_buffer(0).offset == s.scratch_buffer(1).offset);

  sequence<> both;  // t lives on: no sharing
  const auto a = *both.scratch(512);
  const auto b = *both.scratch(512);
  CHECK(both.copy(a, at(0, 512)));
  CHECK(both.encrypt(b, a, key0));
  CHECK(both.crc32c(a));
  CHECK(both.crc32c(b));
  CHECK(assign_scratch(both) == 1024);

  sequence<> none;
  CHECK(none.scratch(512));
  CHECK(none.copy(at(0, 8), at(100, 8)));
  CHECK(assign_scratch(none) == 0);

  sequence<> part;  // only 16 bytes of a large buffer are used; its alignment holds
  const auto large = *part.scratch(65536, 64);
  const auto sixteen = at(large.address + 1000, 16, 1);
  CHECK(part.copy(sixteen, at(0, 16)));
  CHECK(part.copy(at(100, 16), sixteen));
  CHECK(assign_scratch(part) == 1000 % 64 + 16);
}

TEST_CASE("random scratch placements never give live bytes to two buffers") {
  for (std::uint64_t seed = 1; seed != test_support::scaled(20'000U); ++seed) {
    random_sequence source{seed};
    random_sequence::sequence s = source.make(10);
    const std::uint64_t pool = assign_scratch(s);
    // Runs the lifetimes: a byte of the pool that a step reads must be of the buffer that wrote it.
    std::map<std::uint64_t, std::size_t> owner;
    CAPTURE(seed);
    for (std::size_t i = 0; i != s.size(); ++i) {
      const auto each = [&](std::span<const domain_segment> list, auto visit) {
        for (const auto& d : list) {
          if (d.domain != scratch_domain) continue;
          const std::size_t b = scratch_buffer_of(d.address);
          for (std::uint64_t k = 0; k != d.bytes; ++k) {
            visit(s.scratch_buffer(b).offset + scratch_offset_of(d.address) + k, b);
          }
        }
      };
      bool good = true;
      each(s.sources(s[i]), [&](std::uint64_t p, std::size_t b) {
        good = good && p < pool && owner.contains(p) && owner[p] == b;
      });
      each(s.destinations(s[i]), [&](std::uint64_t p, std::size_t b) {
        good = good && p < pool;
        owner[p] = b;
      });
      REQUIRE(good);
    }
  }
}

TEST_CASE("dependencies are what a step reads and writes, results and gates") {
  sequence<> s;
  CHECK(s.copy(at(0, 8), at(100, 8)));       // 0
  CHECK(s.copy(at(200, 8), at(300, 8)));     // 1: independent
  CHECK(s.crc32c(at(0, 8)));                 // 2: reads 0
  CHECK(s.zero(at(100, 8)));                 // 3: writes what 0 reads
  CHECK(s.compare(at(400, 8), at(500, 8)));  // 4
  CHECK(s.zero(at(600, 8)));                 // 5: after the gate
  CHECK(dependencies(s, {}, 1) == 0);
  CHECK(dependencies(s, {}, 2) == 1);
  CHECK(dependencies(s, {}, 3) == 1);
  CHECK(dependencies(s, {}, 4) == 0);
  CHECK(dependencies(s, {}, 5) == 1U << 4);
}

TEST_CASE("a check that strips and the decryption in place after it become one step") {
  constexpr std::array strip_and_decrypt{fusion{operation::dif_strip, operation::decrypt}};
  target where;
  where.fusions = strip_and_decrypt;
  sequence<> s;
  const auto t = *s.scratch(512);
  const domain_segment from{0, 520, local_domain};
  const domain_segment to{4096, 512, local_domain};
  CHECK(s.dif_strip(t, from, {}));
  CHECK(s.decrypt(to, t, {.unit_bytes = 512}));
  const auto p = plan(s, where);
  REQUIRE(p);
  CHECK(p->scratch_bytes == 0);
  REQUIRE(s.size() == 1);
  CHECK(s[0].op == operation::dif_strip);
  CHECK(s[0].then == operation::decrypt);
  // Not where a step between reads what the check wrote.
  sequence<> kept;
  CHECK(kept.dif_strip(to, from, {}));
  CHECK(kept.copy(domain_segment{8192, 512, local_domain}, to));
  CHECK(kept.decrypt(to, to, {.unit_bytes = 512}));
  CHECK(plan(kept, where));
  CHECK(kept.size() == 3);
}
