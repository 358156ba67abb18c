// SPDX-License-Identifier: BSL-1.0
// The cost of planning: build, optimize and submit, without moving data; and the saving of a plan
// end to end with the same engine. Sizes and addresses come from a table: random, or the same each
// time.
#include "support/cycles.hpp"

#include <phasebit/accel/execution.hpp>
#include <phasebit/accel/plan.hpp>
#include <phasebit/accel/software_engine.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

struct request {
  std::uint64_t source;
  std::uint64_t destination;
  std::uint64_t blocks;
};
std::array<request, 4096> make_requests(bool random) {
  std::array<request, 4096> all{};
  std::mt19937_64 r{1};
  for (auto& one : all) {
    one = random ? request{(r() % 65536) * 4096, (std::uint64_t{1} << 34) + (r() % 65536) * 4096,
                           1 + r() % 16}
                 : request{4096, std::uint64_t{1} << 34, 8};
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
void count(benchmark::State& state, std::uint64_t cycles) {
  state.counters["cycles"] = static_cast<double>(cycles) / static_cast<double>(state.iterations());
}

template <bool Random, bool Dif, bool Optimize>
void plan_cost(benchmark::State& state) {
  const auto requests = make_requests(Random);
  const target where;
  std::size_t next = 0;
  sequence<8> s;
  const std::uint64_t begin = phasebit_bench::cycles();
  for (auto _ : state) {
    const request& q = requests[next++ & 4095];
    const std::uint64_t bytes = q.blocks * 512;
    const std::uint64_t out = q.blocks * (Dif ? 520 : 512);
    const domain_segment from{q.source, bytes, local_domain};
    const domain_segment to{q.destination, out, local_domain};
    s.clear();
    const auto t = *s.scratch(bytes);
    const auto u = *s.scratch(bytes);
    static_cast<void>(s.copy(t, from));
    static_cast<void>(s.encrypt(u, t, {.first_unit = q.source, .unit_bytes = 512, .key = 0}));
    if constexpr (Dif) {
      const auto v = *s.scratch(out);
      static_cast<void>(s.dif_insert(v, u, {.reference_tag = q.source}));
      static_cast<void>(s.copy(to, v));
    } else {
      static_cast<void>(s.copy(to, u));
    }
    if constexpr (Optimize) optimize(s, where);
    hand_over(s);
  }
  count(state, phasebit_bench::cycles() - begin);
}
BENCHMARK(plan_cost<false, false, false>)->Name("build/copy_encrypt_copy/fixed");
BENCHMARK(plan_cost<false, false, true>)->Name("plan/copy_encrypt_copy/fixed");
BENCHMARK(plan_cost<true, false, true>)->Name("plan/copy_encrypt_copy/random");
BENCHMARK(plan_cost<false, true, true>)->Name("plan/copy_encrypt_dif_copy/fixed");
BENCHMARK(plan_cost<true, true, true>)->Name("plan/copy_encrypt_dif_copy/random");

// Planned by the compiler: what is left is putting addresses in.
consteval sequence<2, 8> constant_plan() {
  sequence<4, 8> s;
  const auto t = *s.scratch(4096);
  const auto u = *s.scratch(4096);
  static_cast<void>(s.copy(t, slot(0, 0, 4096)));
  static_cast<void>(s.encrypt(u, t, {.unit_bytes = 512}));
  static_cast<void>(s.copy(slot(1, 0, 4096), u));
  static_cast<void>(*plan(s));
  sequence<2, 8> small;
  static_cast<void>(small.encrypt(s.destinations(s[0]), s.sources(s[0]), to_cipher(s[0].with)));
  return small;
}
void constant(benchmark::State& state) {
  static constexpr auto planned = constant_plan();
  const auto requests = make_requests(true);
  std::size_t next = 0;
  const std::uint64_t begin = phasebit_bench::cycles();
  for (auto _ : state) {
    const request& q = requests[next++ & 4095];
    auto s = planned;
    const std::array memory{domain_segment{q.source, 4096, local_domain},
                            domain_segment{q.destination, 4096, local_domain}};
    if (!bind(s, memory)) state.SkipWithError("the memory overlaps");
    hand_over(s);
  }
  count(state, phasebit_bench::cycles() - begin);
}
BENCHMARK(constant)->Name("bind/copy_encrypt_copy/constant");

// Copy, AES-XTS, DIF, copy with one engine: each step as written, or planned and fused.
template <bool Planned>
void end_to_end(benchmark::State& state) {
  const auto bytes = static_cast<std::uint64_t>(state.range(0));
  const std::uint64_t out = bytes / 512 * 520;
  std::vector<std::byte> source(bytes);
  std::vector<std::byte> destination(out);
  std::vector<std::byte> pool(8 * out);
  std::array<std::uint8_t, 64> raw{};
  for (std::size_t k = 0; k != 64; ++k) raw[k] = static_cast<std::uint8_t>(k);
  const std::array<xts_key, 1> keys{*xts_key::make(raw)};
  const auto engine = std::make_unique<software_engine<>>(plain_cipher<>{keys});
  domain_table<4> domains;
  target where;
  where.fusions = software_fusions;
  for (auto _ : state) {
    sequence<8> s;
    const auto t = *s.scratch(bytes);
    const auto u = *s.scratch(bytes);
    const auto v = *s.scratch(out);
    static_cast<void>(s.copy(t, local_segment(source)));
    static_cast<void>(s.encrypt(u, t, {.unit_bytes = 512}));
    static_cast<void>(s.dif_insert(v, u, {}));
    static_cast<void>(s.copy(local_segment(destination), v));
    std::uint64_t needed = 0;
    if constexpr (Planned) {
      needed = (*plan(s, where)).scratch_bytes;
    } else {
      needed = assign_scratch(s);
    }
    execution run{s, *engine, domains};
    if (!run.start(pool, needed)) state.SkipWithError("the sequence does not start");
    while (!run.poll()) {
    }
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
}
BENCHMARK(end_to_end<false>)->Name("run/copy_xts_dif_copy/as_written")->Arg(4096)->Arg(131072);
BENCHMARK(end_to_end<true>)->Name("run/copy_xts_dif_copy/planned")->Arg(4096)->Arg(131072);

}  // namespace
