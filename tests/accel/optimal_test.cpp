// SPDX-License-Identifier: BSL-1.0
// Exhaustive: every sequence of up to four steps over two memory buffers and two scratch buffers is compared with
// the best plan of up to four steps. The search does not use the rules: it walks all states that steps can
// reach, as symbolic values per buffer. No plan moves fewer bytes or, with as many bytes, needs less scratch;
// and the optimizer's plan, run on the same symbolic values, leaves the same memory.
#include <phasebit/accel/plan.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/sanitizers.hpp>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

constexpr std::uint64_t size = 512;
// Values: 0 unset, 1 and 2 what memory held at first, 3 zeros, then encryptions and decryptions.
struct values {
  std::map<std::pair<bool, int>, int> made;
  std::vector<std::pair<bool, int>> origin = std::vector<std::pair<bool, int>>(4, {false, -1});
  int apply(bool decrypt, int v) {
    if (v >= 4 && origin[static_cast<std::size_t>(v)].first != decrypt) {
      return origin[static_cast<std::size_t>(v)].second;  // the inverse of the last operation
    }
    const auto [at, fresh] = made.try_emplace({decrypt, v}, static_cast<int>(origin.size()));
    if (fresh) origin.emplace_back(decrypt, v);
    return at->second;
  }
};

using state = std::array<int, 4>;  // buffers A, B of memory, T, U of scratch
struct move_of {
  operation op;
  std::size_t from;
  std::size_t to;
};

std::vector<move_of> all_moves(std::size_t buffers, bool decrypts) {
  std::vector<move_of> moves;
  for (std::size_t to = 0; to != buffers; ++to) {
    moves.push_back({operation::fill, to, to});
    for (std::size_t from = 0; from != buffers; ++from) {
      moves.push_back({operation::copy, from, to});
      moves.push_back({operation::encrypt, from, to});
      if (decrypts) moves.push_back({operation::decrypt, from, to});
    }
  }
  return moves;
}
bool step_state(values& v, state& s, const move_of& m) {
  if (m.op == operation::fill) {
    s[m.to] = 3;
    return true;
  }
  const int from = s[m.from];
  if (from == 0) return false;
  s[m.to] = m.op == operation::copy ? from : v.apply(m.op == operation::decrypt, from);
  return true;
}
std::uint64_t cost(const move_of& m) { return m.op == operation::fill ? size : 2 * size; }

// Least bytes to reach each pair of memory values within `steps`, using `buffers` buffers.
std::map<std::pair<int, int>, std::uint64_t> least(values& v, std::size_t buffers, int steps,
                                                   bool decrypts) {
  const auto moves = all_moves(buffers, decrypts);
  std::map<state, std::uint64_t> now{{state{1, 2, 0, 0}, 0}};
  std::map<std::pair<int, int>, std::uint64_t> best;
  for (int k = 0;; ++k) {
    std::map<state, std::uint64_t> next;
    for (const auto& [s, c] : now) {
      const auto [at, fresh] = best.try_emplace({s[0], s[1]}, c);
      if (!fresh && c < at->second) at->second = c;
      if (k == steps) continue;
      for (const move_of& m : moves) {
        state t = s;
        if (!step_state(v, t, m)) continue;
        const std::uint64_t total = c + cost(m);
        const auto [to, inserted] = next.try_emplace(t, total);
        if (!inserted && total < to->second) to->second = total;
      }
    }
    if (k == steps) return best;
    now = std::move(next);
  }
}

using seq = sequence<4, 24>;

struct search {
  values v;
  std::array<std::map<std::pair<int, int>, std::uint64_t>, 3> best;  // by scratch buffers
  std::vector<move_of> moves;
  std::size_t programs = 0;
  std::size_t more_bytes = 0;
  std::size_t more_scratch = 0;
  std::size_t wrong = 0;

  search(int steps, bool decrypts) : moves(all_moves(4, decrypts)) {
    for (std::size_t k = 0; k != 3; ++k) best[k] = least(v, 2 + k, steps, decrypts);
  }
  std::pair<int, int> run_plan(const seq& planned) {
    state now{1, 2, 0, 0};
    const auto buffer = [](const domain_segment& d) {
      return static_cast<std::size_t>(d.domain == scratch_domain ? 1 + (d.address >> scratch_shift)
                                                                 : d.address / 4096);
    };
    for (std::size_t i = 0; i != planned.size(); ++i) {
      const std::size_t to = buffer(planned.destinations(planned[i])[0]);
      const bool fills = planned[i].op == operation::fill;
      const std::size_t from = fills ? to : buffer(planned.sources(planned[i])[0]);
      if (!step_state(v, now, {planned[i].op, from, to})) return {-1, -1};
    }
    return {now[0], now[1]};
  }
  void check(const seq& program, const state& s) {
    ++programs;
    seq planned = program;
    const auto p = plan(planned);
    REQUIRE(p);
    if (run_plan(planned) != std::pair{s[0], s[1]}) ++wrong;
    const auto want = best[2].at({s[0], s[1]});
    if (p->bytes_after > want) ++more_bytes;
    std::size_t buffers = 0;
    while (!best[buffers].contains({s[0], s[1]}) || best[buffers].at({s[0], s[1]}) > want)
      ++buffers;
    if (p->bytes_after == want && p->scratch_bytes > buffers * size) ++more_scratch;
  }
  void walk(const seq& program, const state& s, int left) {
    if (!program.empty()) check(program, s);
    if (left == 0) return;
    for (const move_of& m : moves) {
      // The second scratch buffer comes into use after the first: the other half is the same renamed.
      if (m.to == 3 && s[2] == 0) continue;
      state t = s;
      if (!step_state(v, t, m)) continue;
      seq longer = program;
      const auto place = [](std::size_t b) {
        if (b < 2) return domain_segment{b * 4096, size, local_domain};
        return domain_segment{std::uint64_t{b - 1} << scratch_shift, size, scratch_domain};
      };
      const bool good =
          m.op == operation::fill      ? longer.zero(place(m.to)).has_value()
          : m.op == operation::copy    ? longer.copy(place(m.to), place(m.from)).has_value()
          : m.op == operation::encrypt ? longer.encrypt(place(m.to), place(m.from), {}).has_value()
                                       : longer.decrypt(place(m.to), place(m.from), {}).has_value();
      REQUIRE(good);
      walk(longer, t, left - 1);
    }
  }
  void run(int steps) {
    seq empty;
    REQUIRE(empty.scratch(size));
    REQUIRE(empty.scratch(size));
    walk(empty, state{1, 2, 0, 0}, steps);
  }
};

}  // namespace

TEST_CASE("no plan is better than the optimizer's for sequences of up to 3 steps with decrypts") {
  search all{3, true};
  all.run(3);
  CHECK(all.programs > 20'000);
  CHECK(all.wrong == 0);
  CHECK(all.more_bytes == 0);
  CHECK(all.more_scratch == 0);
}

TEST_CASE("no plan is better than the optimizer's for sequences of up to 4 steps") {
  search all{4, !test_support::sanitized};
  all.run(4);
  MESSAGE("sequences: ", all.programs, ", not minimal in bytes: ", all.more_bytes,
          ", in scratch: ", all.more_scratch);
  CHECK(all.programs > 200'000);
  CHECK(all.wrong == 0);
  CHECK(all.more_bytes == 0);
  CHECK(all.more_scratch == 0);
}
