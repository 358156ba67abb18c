// SPDX-License-Identifier: BSL-1.0
// Random sequences give the same bytes and results before and after optimization.
#include "interpreter.hpp"
#include "random_sequence.hpp"

#include <phasebit/accel/optimizer.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <support/sanitizers.hpp>

using namespace phasebit;
using namespace phasebit::accel;
using phasebit_test::interpreter;
using phasebit_test::random_sequence;

namespace {

// Memory that is visible: all but scratch, which the interpreter keeps elsewhere.
bool same_outcome(const random_sequence::sequence& before, const random_sequence::sequence& after,
                  std::uint64_t seed) {
  interpreter plain{seed};
  interpreter planned{seed};
  plain.run(before);
  planned.run(after);
  return plain.memory() == planned.memory() && plain.results() == planned.results();
}

struct counting_observer {
  std::map<std::string_view, std::size_t>* counts;
  template <class Sequence>
  void operator()(std::string_view rule, std::size_t, const Sequence&) const {
    ++(*counts)[rule];
  }
};

// Each step can be run by the target: its domains are reached, its streams are valid.
bool runnable(random_sequence::sequence& s, const target& where) {
  accel::detail::flow<random_sequence::sequence> f{s, where};
  for (std::size_t i = 0; i != s.size(); ++i) {
    if (s[i].op == operation::combine_crc32c) continue;
    if (s[i].op == operation::copy) {
      for (const auto& a : f.from(i)) {
        for (const auto& b : f.to(i)) {
          if (!where.copies(a.domain, b.domain)) return false;
        }
      }
      continue;
    }
    for (const auto list : {f.from(i), f.to(i)}) {
      for (const auto& d : list) {
        const bool zeroed = s[i].op == operation::fill && s[i].with.value == 0 &&
                            (where.zeroes & target::bit(d.domain)) != 0;
        if (!where.reaches(d.domain) && !zeroed) return false;
      }
    }
  }
  return true;
}

void run_many(std::uint64_t first, std::size_t count, const target& where, bool only_runnable) {
  std::map<std::string_view, std::size_t> fired;
  std::size_t shorter = 0;
  std::size_t run = 0;
  for (std::uint64_t seed = first; seed != first + count; ++seed) {
    random_sequence source{seed};
    random_sequence::sequence before = source.make(10);
    if (only_runnable && !runnable(before, where)) continue;
    ++run;
    random_sequence::sequence after = before;
    optimize(after, where);
    random_sequence::sequence observed = before;
    optimize(observed, where, counting_observer{&fired});
    CAPTURE(seed);
    REQUIRE(bytes_moved(observed) <= bytes_moved(before));
    const bool same = same_outcome(before, after, seed);
    REQUIRE(same);
    REQUIRE(bytes_moved(after) <= bytes_moved(before));
    REQUIRE(after.check_scratch());
    if (only_runnable) REQUIRE(runnable(after, where));
    random_sequence::sequence again = after;
    REQUIRE(optimize_by_rules(again, where) == 0);
    shorter += after.size() < before.size() ? 1 : 0;
  }
  CHECK(run > count / 50);
  CHECK(shorter > run / 4);
  for (const auto rule : {"drop_self_copy", "forward_copy", "copy_into_fill", "drop_repeated_fill",
                          "simplify_exclusive_or", "drop_dead_store", "cancel_inverse",
                          "reuse_earlier", "write_in_place", "split_copy", "combine_checksums"}) {
    CAPTURE(std::string{rule});
    CHECK((only_runnable || fired[rule] > 0));
  }
}

target aliasing_target() {
  target where;
  where.aliases.share_with_local(domain_id{2});
  return where;
}

}  // namespace

TEST_CASE("100 000 random sequences give the same bytes and results after optimization") {
  run_many(1, test_support::scaled(100'000U), aliasing_target(), false);
}

TEST_CASE("random sequences with domains that only copies reach stay runnable and exact") {
  target where = aliasing_target();
  where.reach &= ~(target::bit(domain_id{3}) | target::bit(domain_id{4}));
  where.pulls = target::bit(domain_id{3}) | target::bit(domain_id{4});
  where.pushes = target::bit(domain_id{3});
  where.zeroes = target::bit(domain_id{3});
  run_many(1'000'000, test_support::scaled(20'000U), where, true);
}
