// SPDX-License-Identifier: BSL-1.0
// What planning costs: build, optimize and hand over, with no data moved. Sizes are drawn from a table
// in the random variants; in the fixed ones they never change.
#include <phasebit/accel/optimizer.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>

#include <benchmark/benchmark.h>

#include "support/cycles.hpp"

using namespace phasebit;
using namespace phasebit::accel;

namespace {

struct request {
  std::uint64_t source;
  std::uint64_t destination;
  std::uint64_t bytes;
};

std::array<request, 4096> make_requests(bool random) {
  std::array<request, 4096> all{};
  std::mt19937_64 r{1};
  for (auto& one : all) {
    one = random ? request{(r() % 65536) * 4096, (std::uint64_t{1} << 34) + (r() % 65536) * 4096,
                           512 * (1 + r() % 16)}
                 : request{4096, std::uint64_t{1} << 34, 4096};
  }
  return all;
}

// Takes what an engine would be given.
template <class Sequence>
void hand_over(const Sequence& s) {
  for (std::size_t i = 0; i != s.size(); ++i) {
    benchmark::DoNotOptimize(s[i].op);
    for (const auto& d : s.sources(s[i])) benchmark::DoNotOptimize(d.address);
    for (const auto& d : s.destinations(s[i])) benchmark::DoNotOptimize(d.address);
  }
}

template <bool Random>
void copy_encrypt_copy(benchmark::State& state) {
  const auto requests = make_requests(Random);
  const target where;
  std::size_t next = 0;
  std::size_t left = 0;
  sequence<8> s;
  for (auto _ : state) {
    const request& q = requests[next++ & 4095];
    s.clear();
    const auto t = *s.scratch(q.bytes);
    const auto u = *s.scratch(q.bytes);
    const domain_segment from{q.source, q.bytes, local_domain};
    const domain_segment to{q.destination, q.bytes, local_domain};
    static_cast<void>(s.copy(t, from));
    static_cast<void>(s.encrypt(u, t, {.first_unit = q.source, .unit_bytes = 512, .key = 0}));
    static_cast<void>(s.copy(to, u));
    optimize(s, where);
    hand_over(s);
    left = s.size();
  }
  if (left != 1) state.SkipWithError("the copies were not removed");
}
BENCHMARK(copy_encrypt_copy<false>)->Name("plan/copy_encrypt_copy/fixed");
BENCHMARK(copy_encrypt_copy<true>)->Name("plan/copy_encrypt_copy/random");

}  // namespace
