// SPDX-License-Identifier: BSL-1.0
// Each rule where it fires, and where its precondition fails and it must not.
#include "interpreter.hpp"

#include <phasebit/accel/optimizer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::accel;
using phasebit_test::interpreter;

namespace {

constexpr domain_segment at(std::uint64_t address, std::uint64_t bytes, std::uint16_t domain = 0) {
  return {address, bytes, domain_id{domain}};
}
constexpr domain_segment A = at(0, 512);
constexpr domain_segment B = at(600, 512);
constexpr domain_segment C = at(1200, 512);
constexpr domain_segment D = at(1800, 512);
constexpr domain_segment P = at(2400, 520);
constexpr cipher key0{.first_unit = 0, .unit_bytes = 512, .key = 0};

using seq = sequence<10, 80>;

// The number of changes by one rule alone, or by all; the outcome must stay the same.
template <class Rules = all_rules>
std::size_t changes(seq& s, const target& where = {}) {
  REQUIRE(s.check_scratch());
  const seq before = s;
  std::size_t n = 0;
  if constexpr (std::is_same_v<Rules, all_rules>) {
    n = optimize(s, where);
    CHECK(optimize_by_rules(s, where) == 0);
  } else {
    n = optimize_by_rules<Rules>(s, where);
  }
  interpreter plain{1};
  interpreter planned{1};
  plain.run(before);
  planned.run(s);
  CHECK(plain.memory() == planned.memory());
  CHECK(plain.results() == planned.results());
  CHECK(bytes_moved(s) <= bytes_moved(before));
  return n;
}
template <class Rule>
std::size_t alone(seq& s, const target& where = {}) {
  return changes<rule_list<Rule>>(s, where);
}
bool is(const seq& s, std::size_t i, operation op, const domain_segment& from,
        const domain_segment& to) {
  return i < s.size() && s[i].op == op && s.sources(s[i]).size() == 1 &&
         s.sources(s[i])[0] == from && s.destinations(s[i])[0] == to;
}

}  // namespace

TEST_CASE("drop_self_copy removes a copy onto itself, whatever its cuts") {
  seq s;
  CHECK(s.copy(A, A));
  CHECK(alone<rules::drop_self_copy>(s) == 1);
  CHECK(s.empty());

  const std::array list{at(0, 64), at(1200, 64)};
  CHECK(s.copy(list, list));
  CHECK(alone<rules::drop_self_copy>(s) == 2);
  CHECK(s.empty());

  s.clear();
  const std::array crossed{at(64, 64), at(0, 64)};
  const std::array straight{at(0, 64), at(64, 64)};
  CHECK(s.copy(at(600, 128), straight));
  CHECK(s.copy(crossed, at(600, 128)));
  CHECK(alone<rules::drop_self_copy>(s) == 0);
}

TEST_CASE("forward_copy reads the original instead of the copy") {
  seq s;
  CHECK(s.copy(B, A));
  CHECK(s.encrypt(C, B, key0));
  CHECK(alone<rules::forward_copy>(s) == 1);
  CHECK(is(s, 1, operation::encrypt, A, C));
}

TEST_CASE("forward_copy does not fire when the original was written since") {
  seq s;
  CHECK(s.copy(B, A));
  CHECK(s.zero(at(100, 1)));
  CHECK(s.encrypt(C, B, key0));
  CHECK(alone<rules::forward_copy>(s) == 0);

  s.clear();
  CHECK(s.copy(B, A));
  CHECK(s.zero(A));
  CHECK(s.encrypt(C, B, key0));
  CHECK(alone<rules::forward_copy>(s) == 0);
}

TEST_CASE("forward_copy does not fire when the original may have been written in another domain") {
  target where;
  where.aliases.share_with_local(domain_id{2});
  seq s;
  CHECK(s.copy(B, A));
  CHECK(s.zero(at(0, 8, 2)));
  CHECK(s.encrypt(C, B, key0));
  CHECK(alone<rules::forward_copy>(s, where) == 0);
  seq apart;
  CHECK(apart.copy(B, A));
  CHECK(apart.zero(at(0, 8, 3)));
  CHECK(apart.encrypt(C, B, key0));
  CHECK(alone<rules::forward_copy>(apart, where) == 1);
}

TEST_CASE("forward_copy does not make source and destination overlap in part") {
  seq s;
  CHECK(s.copy(B, A));
  CHECK(s.encrypt(at(80, 512), B, key0));
  CHECK(alone<rules::forward_copy>(s) == 0);
  seq in_place;
  CHECK(in_place.copy(B, A));
  CHECK(in_place.encrypt(A, B, key0));
  CHECK(alone<rules::forward_copy>(in_place) == 1);
  CHECK(is(in_place, 1, operation::encrypt, A, A));
  seq blocks;
  CHECK(blocks.copy(B, A));
  CHECK(blocks.dif_insert(at(0, 520), B, {}));
  CHECK(alone<rules::forward_copy>(blocks) == 0);
}

TEST_CASE("forward_copy leaves memory that the engine does not reach to the copies") {
  target where;
  where.reach &= ~target::bit(domain_id{3});
  where.pulls = target::bit(domain_id{3});
  seq s;
  const auto t = *s.scratch(512);
  CHECK(s.copy(t, at(0, 512, 3)));
  CHECK(s.encrypt(B, t, key0));
  CHECK(alone<rules::forward_copy>(s, where) == 0);

  seq twice;  // a second reader: the remote bytes would be fetched twice
  const auto u = *twice.scratch(512);
  CHECK(twice.copy(u, at(0, 512, 3)));
  CHECK(twice.copy(B, u));
  CHECK(twice.crc32c(u));
  CHECK(alone<rules::forward_copy>(twice, where) == 0);

  seq once;
  const auto v = *once.scratch(512);
  CHECK(once.copy(v, at(0, 512, 3)));
  CHECK(once.copy(B, v));
  CHECK(alone<rules::forward_copy>(once, where) == 1);
  CHECK(is(once, 1, operation::copy, at(0, 512, 3), B));
}

TEST_CASE("equal bytes under different segmentation are recognised, and other bytes are not") {
  seq s;
  const auto t = *s.scratch(512);
  const std::array cut{at(0, 100), at(100, 412)};
  const std::array recut{domain_segment{t.address, 1, scratch_domain},
                         domain_segment{t.address + 1, 511, scratch_domain}};
  CHECK(s.copy(t, cut));
  CHECK(s.encrypt(B, recut, key0));
  CHECK(changes(s) != 0);
  CHECK(s.size() == 1);
  CHECK(is(s, 0, operation::encrypt, A, B));

  seq mixed;  // half of the source was copied, the other half was not
  CHECK(mixed.copy(at(600, 256), at(0, 256)));
  CHECK(mixed.encrypt(C, B, key0));
  CHECK(alone<rules::forward_copy>(mixed) == 1);
  CHECK(mixed.sources(mixed[1]).size() == 2);
  CHECK(mixed.sources(mixed[1])[0] == at(0, 256));
  CHECK(mixed.sources(mixed[1])[1] == at(856, 256));
}

TEST_CASE("copy_into_fill turns a copy of filled bytes into a fill that keeps the phase") {
  seq s;
  CHECK(s.fill(A, 0x0807060504030201));
  CHECK(s.copy(at(600, 100), at(3, 100)));
  CHECK(alone<rules::copy_into_fill>(s) == 1);
  CHECK(s[1].op == operation::fill);
  CHECK(s[1].with.value == pattern_after(0x0807060504030201, 3));

  seq partly;
  CHECK(partly.fill(at(0, 100), 1));
  CHECK(partly.copy(B, A));
  CHECK(alone<rules::copy_into_fill>(partly) == 2);
  CHECK(partly.size() == 3);
  CHECK(partly[1].op == operation::fill);
  CHECK(partly[2].op == operation::copy);
}

TEST_CASE(
    "copy_into_fill does not fire when the fill was overwritten or the target cannot be filled") {
  seq s;
  CHECK(s.fill(A, 1));
  CHECK(s.copy(A, C));
  CHECK(s.copy(B, A));
  CHECK(alone<rules::copy_into_fill>(s) == 0);
  target where;
  where.reach &= ~target::bit(domain_id{3});
  where.pushes = where.zeroes = target::bit(domain_id{3});
  seq pushed;
  CHECK(pushed.fill(A, 1));
  CHECK(pushed.copy(at(0, 512, 3), A));
  CHECK(alone<rules::copy_into_fill>(pushed, where) == 0);
  seq zeroed;
  CHECK(zeroed.zero(A));
  CHECK(zeroed.copy(at(0, 512, 3), A));
  CHECK(alone<rules::copy_into_fill>(zeroed, where) == 1);
}

TEST_CASE(
    "drop_repeated_fill removes a fill of bytes that already hold the pattern, in phase only") {
  seq s;
  CHECK(s.fill(A, 0x0807060504030201));
  CHECK(s.fill(at(8, 100), 0x0807060504030201));
  CHECK(alone<rules::drop_repeated_fill>(s) == 1);
  CHECK(s.size() == 1);
  CHECK(s.fill(at(4, 100), 0x0807060504030201));
  CHECK(alone<rules::drop_repeated_fill>(s) == 0);
  CHECK(s.fill(at(0, 600), 0x0807060504030201));
  CHECK(alone<rules::drop_repeated_fill>(s) == 0);
}

TEST_CASE("simplify_exclusive_or drops zeros and pairs, and nothing that may not be zero") {
  seq s;
  CHECK(s.zero(B));
  const std::array<segment_list, 2> two{A, B};
  CHECK(s.exclusive_or(C, two));
  CHECK(alone<rules::simplify_exclusive_or>(s) == 2);
  CHECK(is(s, 1, operation::copy, A, C));

  seq pair;
  const std::array<segment_list, 3> three{A, B, A};
  CHECK(pair.exclusive_or(C, three));
  CHECK(alone<rules::simplify_exclusive_or>(pair) == 2);
  CHECK(is(pair, 0, operation::copy, B, C));

  seq nothing;
  const std::array<segment_list, 2> same{A, A};
  CHECK(nothing.exclusive_or(C, same));
  CHECK(alone<rules::simplify_exclusive_or>(nothing) == 1);
  CHECK(nothing[0].op == operation::fill);

  seq written;
  CHECK(written.zero(B));
  CHECK(written.copy(at(700, 1), at(0, 1)));
  CHECK(written.exclusive_or(C, two));
  CHECK(alone<rules::simplify_exclusive_or>(written) == 0);
  seq pattern;
  CHECK(pattern.fill(B, 1));
  CHECK(pattern.exclusive_or(C, two));
  CHECK(alone<rules::simplify_exclusive_or>(pattern) == 0);
}

TEST_CASE("drop_dead_store removes what is overwritten unread, and parts of copies and fills") {
  seq s;
  CHECK(s.encrypt(B, A, key0));
  CHECK(s.zero(at(600, 200)));
  CHECK(s.copy(at(800, 312), at(1200, 312)));
  CHECK(alone<rules::drop_dead_store>(s) == 1);
  CHECK(s.size() == 2);

  seq part;
  CHECK(part.copy(B, A));
  CHECK(part.zero(at(700, 100)));
  CHECK(alone<rules::drop_dead_store>(part) == 1);
  CHECK(part[0].source.bytes == 412);
}

TEST_CASE(
    "drop_dead_store keeps what is read, what may be read, what is left and what has a result") {
  seq s;
  CHECK(s.copy(B, A));
  CHECK(s.crc32c(at(601, 1)));
  CHECK(s.copy(B, C));
  CHECK(alone<rules::drop_dead_store>(s) != 0);  // all but the byte that the CRC reads
  CHECK(s[0].source.bytes == 1);

  target where;
  where.aliases.share_with_local(domain_id{2});
  seq aliased;
  CHECK(aliased.copy(B, A));
  CHECK(aliased.crc32c(at(0, 8, 2)));
  CHECK(aliased.copy(B, C));
  CHECK(alone<rules::drop_dead_store>(aliased, where) == 0);

  seq left;
  CHECK(left.copy(B, A));
  CHECK(left.copy(at(600, 511), at(1200, 511)));
  CHECK(alone<rules::drop_dead_store>(left) == 1);
  CHECK(is(left, 0, operation::copy, at(511, 1), at(1111, 1)));

  seq result;
  const auto t = *result.scratch(512);
  CHECK(result.dif_strip(t, P, {}));
  CHECK(result.compress(t, A));
  CHECK(alone<rules::drop_dead_store>(result) == 0);
}

TEST_CASE("write_in_place lets the producer write where the copy puts it") {
  seq s;
  const auto t = *s.scratch(512);
  CHECK(s.encrypt(t, A, key0));
  CHECK(s.crc32c(t));
  CHECK(s.copy(B, t));
  CHECK(alone<rules::write_in_place>(s) == 1);
  CHECK(s.size() == 2);
  CHECK(is(s, 0, operation::encrypt, A, B));
  CHECK(s.sources(s[1])[0] == B);
}

TEST_CASE("write_in_place does not fire when any part of its precondition fails") {
  const auto with = [](auto build, const target& where = {}) {
    seq s;
    const auto t = *s.scratch(512);
    build(s, t);
    return alone<rules::write_in_place>(s, where);
  };
  SUBCASE("the temporary is read later") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.encrypt(t, A, key0));
            CHECK(s.copy(B, t));
            CHECK(s.crc32c(t));
          }) == 0);
  }
  SUBCASE("the temporary is memory that stays") {
    CHECK(with([](seq& s, const domain_segment&) {
            CHECK(s.encrypt(C, A, key0));
            CHECK(s.copy(B, C));
          }) == 0);
  }
  SUBCASE("the destination is read between") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.encrypt(t, A, key0));
            CHECK(s.crc32c(at(1000, 1)));
            CHECK(s.copy(B, t));
          }) == 0);
  }
  SUBCASE("the destination is written between") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.encrypt(t, A, key0));
            CHECK(s.zero(at(1000, 1)));
            CHECK(s.copy(B, t));
          }) == 0);
  }
  SUBCASE("the temporary is written in part between") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.encrypt(t, A, key0));
            CHECK(s.zero(at(t.address + 4, 1, 1)));
            CHECK(s.copy(B, t));
          }) == 0);
  }
  SUBCASE("the producer reads a part of the destination") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.encrypt(t, at(100, 512), key0));
            CHECK(s.copy(A, t));
          }) == 0);
  }
  SUBCASE("the producer does not work in place") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.compress(t, A));
            CHECK(s.copy(A, t));
          }) == 0);
  }
  SUBCASE("a compare lies between") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.encrypt(t, A, key0));
            CHECK(s.compare(C, D));
            CHECK(s.copy(B, t));
          }) == 0);
  }
  SUBCASE("plain text would lie in memory that others see") {
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.decrypt(t, A, key0));
            CHECK(s.encrypt(at(0, 512, 4), t, {.key = 1}));
          }) == 0);
    CHECK(with([](seq& s, const domain_segment& t) {
            CHECK(s.decrypt(t, A, key0));
            CHECK(s.encrypt(B, t, {.key = 1}));
          }) == 1);
  }
  SUBCASE("the engine does not reach the destination") {
    target where;
    where.reach &= ~target::bit(domain_id{3});
    where.pushes = target::bit(domain_id{3});
    CHECK(with(
              [](seq& s, const domain_segment& t) {
                CHECK(s.encrypt(t, A, key0));
                CHECK(s.copy(at(0, 512, 3), t));
              },
              where) == 0);
  }
  SUBCASE("another domain may hold the destination's bytes") {
    target where;
    where.aliases.share_with_local(domain_id{2});
    CHECK(with(
              [](seq& s, const domain_segment& t) {
                CHECK(s.encrypt(t, A, key0));
                CHECK(s.crc32c(at(0, 8, 2)));
                CHECK(s.copy(B, t));
              },
              where) == 0);
  }
}

TEST_CASE("split_copy cuts a copy of two producers so that both write in place") {
  seq s;
  const auto t = *s.scratch(1024);
  const domain_segment low{t.address, 512, scratch_domain};
  const domain_segment high{t.address + 512, 512, scratch_domain};
  CHECK(s.encrypt(low, A, key0));
  CHECK(s.decrypt(high, B, key0));
  CHECK(s.copy(at(2000, 1024), t));
  CHECK(changes(s) != 0);
  CHECK(s.size() == 2);
  CHECK(is(s, 0, operation::encrypt, A, at(2000, 512)));
  CHECK(is(s, 1, operation::decrypt, B, at(2512, 512)));

  seq kept;  // the second half is read again: nothing is cut for it, the first half is
  const auto u = *kept.scratch(1024);
  CHECK(kept.copy(u, at(0, 1024)));
  CHECK(kept.compress(at(u.address, 512, 1), at(1800, 512)));
  CHECK(kept.copy(at(2600, 1024), u));
  CHECK(kept.crc32c(u));
  CHECK(alone<rules::split_copy>(kept) == 0);
}

TEST_CASE("reuse_earlier does a computation once") {
  seq s;
  CHECK(s.crc32c(A));
  CHECK(s.crc32c(A));
  CHECK(s.encrypt(B, A, key0));
  CHECK(s.encrypt(B, A, key0));
  CHECK(s.encrypt(C, A, key0));
  CHECK(alone<rules::reuse_earlier>(s) == 3);
  CHECK(s.size() == 4);
  CHECK(s[1].op == operation::reuse_result);
  CHECK(is(s, 3, operation::copy, B, C));
}

TEST_CASE(
    "reuse_earlier does not fire across a write, another key, another seed or a changed output") {
  seq s;
  CHECK(s.crc32c(A));
  CHECK(s.crc32c(A, 1));
  CHECK(s.crc32c(at(0, 511)));
  CHECK(s.zero(at(5, 1)));
  CHECK(s.crc32c(A));
  CHECK(alone<rules::reuse_earlier>(s) == 0);
  s.clear();
  CHECK(s.encrypt(B, A, key0));
  CHECK(s.encrypt(C, A, {.key = 1}));
  CHECK(s.zero(at(600, 1)));
  CHECK(s.encrypt(D, A, key0));
  CHECK(alone<rules::reuse_earlier>(s) == 0);
  s.clear();
  CHECK(s.encrypt(A, A, key0));
  CHECK(s.encrypt(A, A, key0));
  CHECK(alone<rules::reuse_earlier>(s) == 0);
  s.clear();  // a copy of the output would move more bytes than the operation
  CHECK(s.dif_insert(P, A, {}));
  CHECK(s.dif_insert(at(3000, 520), A, {}));
  CHECK(alone<rules::reuse_earlier>(s) == 0);
}

TEST_CASE("cancel_inverse turns decrypt after encrypt into a copy of the original") {
  seq s;
  const auto t = *s.scratch(512);
  CHECK(s.encrypt(t, A, key0));
  CHECK(s.decrypt(B, t, key0));
  CHECK(changes(s) != 0);
  CHECK(s.size() == 1);
  CHECK(is(s, 0, operation::copy, A, B));
}

TEST_CASE(
    "cancel_inverse does not fire for another key, tweak or data unit size, changed bytes or in "
    "place") {
  for (const cipher other :
       {cipher{.unit_bytes = 512, .key = 1}, cipher{.first_unit = 1}, cipher{.unit_bytes = 256}}) {
    seq s;
    const auto t = *s.scratch(512);
    CHECK(s.encrypt(t, A, key0));
    CHECK(s.decrypt(B, t, other));
    CHECK(alone<rules::cancel_inverse>(s) == 0);
  }
  seq changed;
  const auto t = *changed.scratch(512);
  CHECK(changed.encrypt(t, A, key0));
  CHECK(changed.zero(at(0, 1)));
  CHECK(changed.decrypt(B, t, key0));
  CHECK(alone<rules::cancel_inverse>(changed) == 0);
  seq in_place;
  CHECK(in_place.encrypt(A, A, key0));
  CHECK(in_place.decrypt(B, A, key0));
  CHECK(alone<rules::cancel_inverse>(in_place) == 0);
  seq part;
  const auto u = *part.scratch(1024);
  CHECK(part.encrypt(u, at(0, 1024), key0));
  CHECK(part.decrypt(at(2000, 512), at(u.address + 512, 512, 1), key0));
  CHECK(alone<rules::cancel_inverse>(part) == 0);
}

TEST_CASE("combine_checksums makes a CRC of its parts, whose segments need not agree") {
  seq s;
  const std::array cut{at(100, 1), at(101, 411)};
  CHECK(s.crc32c(cut));
  CHECK(s.crc32c(at(0, 100)));
  CHECK(s.crc32c(A));
  CHECK(alone<rules::combine_checksums>(s) == 1);
  CHECK(s[2].op == operation::combine_crc32c);
  CHECK(s.sources(s[2])[0].address == 1);
  CHECK(s.sources(s[2])[1].address == 0);
}

TEST_CASE("combine_checksums does not fire over a gap, a seed, or bytes written since") {
  seq s;
  CHECK(s.crc32c(at(0, 100)));
  CHECK(s.crc32c(at(101, 411)));
  CHECK(s.crc32c(A));
  CHECK(alone<rules::combine_checksums>(s) == 0);
  s.clear();
  CHECK(s.crc32c(at(0, 100), 1));
  CHECK(s.crc32c(at(100, 412)));
  CHECK(s.crc32c(A));
  CHECK(alone<rules::combine_checksums>(s) == 0);
  s.clear();
  CHECK(s.crc32c(at(0, 100)));
  CHECK(s.crc32c(at(100, 412)));
  CHECK(s.zero(at(50, 1)));
  CHECK(s.crc32c(A));
  CHECK(alone<rules::combine_checksums>(s) == 0);
}

TEST_CASE("known cases: operation, copy, copy leaves no copy") {
  for (const bool fill : {false, true}) {
    seq s;
    const auto t = *s.scratch(512);
    const auto u = *s.scratch(512);
    CHECK((fill ? s.fill(t, 5).has_value() : s.encrypt(t, A, key0).has_value()));
    CHECK(s.copy(u, t));
    CHECK(s.copy(B, u));
    CHECK(changes(s) != 0);
    CHECK(s.size() == 1);
    CHECK(s.destinations(s[0])[0] == B);
  }
}

TEST_CASE("known cases: copy A to B, encrypt B to C, copy B to D leaves B's bytes in D") {
  seq s;
  CHECK(s.copy(B, A));
  CHECK(s.encrypt(C, B, key0));
  CHECK(s.copy(D, B));
  CHECK(changes(s) != 0);
  CHECK(s.size() == 3);  // B stays as well: it is memory, not scratch
  seq scratch;
  const auto t = *scratch.scratch(512);
  CHECK(scratch.copy(t, A));
  CHECK(scratch.encrypt(C, t, key0));
  CHECK(scratch.copy(D, t));
  CHECK(changes(scratch) != 0);
  CHECK(scratch.size() == 2);
}

TEST_CASE("known cases: copy and crc, crc and copy keep what must be kept") {
  seq s;
  const auto t = *s.scratch(512);
  CHECK(s.copy(t, A));
  CHECK(s.crc32c(t));
  CHECK(s.copy(B, t));
  CHECK(changes(s) != 0);
  CHECK(s.size() == 2);
  seq read_later;  // the copy before the CRC has a destination that is read later
  CHECK(read_later.copy(B, A));
  CHECK(read_later.crc32c(B));
  CHECK(read_later.copy(C, B));
  changes(read_later);
  CHECK(read_later.size() == 3);
  seq combined;
  const auto u = *combined.scratch(512);
  CHECK(combined.copy_crc32c(u, A));
  CHECK(combined.copy(B, u));
  CHECK(changes(combined) != 0);
  CHECK(combined.size() == 2);
}

TEST_CASE("known cases: two scratch buffers of one domain never merge") {
  seq s;
  const auto t = *s.scratch(512);
  const auto u = *s.scratch(512);
  CHECK(s.encrypt(t, A, key0));
  CHECK(s.encrypt(u, B, key0));
  CHECK(s.copy(C, t));
  CHECK(s.copy(D, u));
  CHECK(changes(s) != 0);
  CHECK(s.size() == 2);
  CHECK(is(s, 0, operation::encrypt, A, C));
  CHECK(is(s, 1, operation::encrypt, B, D));
}

TEST_CASE("known cases: verify and compare anywhere in a chain stay") {
  seq s;
  const auto t = *s.scratch(520);
  const auto u = *s.scratch(520);
  CHECK(s.copy(t, P));
  CHECK(s.dif_verify(t, {}));
  CHECK(s.copy(u, t));
  CHECK(s.dif_strip(B, u, {}));
  CHECK(s.compare(B, A));
  CHECK(changes(s) != 0);
  CHECK(s.size() == 3);
  CHECK(s[0].op == operation::dif_verify);
  CHECK(s[1].op == operation::dif_strip);
  CHECK(s[2].op == operation::compare);
  seq in_place;
  CHECK(in_place.dif_update(P, P, {}, 5, 6));
  CHECK(in_place.copy(at(3000, 520), P));
  changes(in_place);
  CHECK(in_place.size() == 2);
}

TEST_CASE("known cases: a reversed chain is a read") {
  seq s;
  const auto t = *s.scratch(512);
  CHECK(s.copy(B, t));
  CHECK(s.decrypt(t, A, key0));
  s.reverse();
  CHECK(changes(s) != 0);
  CHECK(s.size() == 1);
  CHECK(is(s, 0, operation::decrypt, A, B));
}

TEST_CASE("remote data: one buffer is left where only copies reach the source") {
  target where;
  where.reach &= ~target::bit(domain_id{3});
  where.pulls = target::bit(domain_id{3});
  seq s;
  const auto t = *s.scratch(512);
  const auto u = *s.scratch(512);
  const auto v = *s.scratch(520);
  CHECK(s.copy(t, at(0, 512, 3)));
  CHECK(s.encrypt(u, t, key0));
  CHECK(s.dif_insert(v, u, {}));
  CHECK(s.copy(P, v));
  CHECK(changes(s, where) != 0);
  CHECK(s.size() == 3);
  CHECK(s[0].op == operation::copy);
  CHECK(s[2].op == operation::dif_insert);
  CHECK(s.destinations(s[2])[0] == P);
}

TEST_CASE("a full table leaves rules out and loses nothing") {
  sequence<4, 6> s;
  const auto t = *s.scratch(64);
  CHECK(s.copy(t, at(0, 64)));
  CHECK(s.zero(at(10, 4)));
  CHECK(s.crc32c(t));
  CHECK(optimize(s) == 0);
  CHECK(s.size() == 3);
}
