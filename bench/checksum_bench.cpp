// SPDX-License-Identifier: BSL-1.0
// Checksums and protection information of 4 KiB, and checksums of random lengths.
#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/protection_information.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include <benchmark/benchmark.h>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

std::vector<std::byte> data_of(std::size_t n) {
  std::vector<std::byte> v(n);
  std::mt19937 r{1};
  for (auto& b : v) b = static_cast<std::byte>(r());
  return v;
}

template <class Sum>
void fixed(benchmark::State& state, Sum sum) {
  const auto data = data_of(4096);
  for (auto _ : state) benchmark::DoNotOptimize(sum(std::span<const std::byte>{data}));
  state.SetBytesProcessed(4096 * state.iterations());
}
template <class Sum>
void random_lengths(benchmark::State& state, Sum sum) {
  const auto data = data_of(8192);
  std::array<std::size_t, 4096> lengths{};
  std::mt19937 r{2};
  std::size_t total = 0;
  for (auto& n : lengths) total += n = 1 + r() % 8000;
  std::size_t next = 0;
  for (auto _ : state) {
    const std::size_t n = lengths[next++ & 4095];
    benchmark::DoNotOptimize(sum(std::span<const std::byte>{data.data() + (n & 63), n}));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(total / 4096) * state.iterations());
}

constexpr auto ours32 = [](std::span<const std::byte> d) { return crc32c(d); };
constexpr auto tables32 = [](std::span<const std::byte> d) {
  return crc32c<portable_instructions>(d);
};
constexpr auto ours16 = [](std::span<const std::byte> d) { return crc16_t10dif(d); };
constexpr auto tables16 = [](std::span<const std::byte> d) {
  return crc16_t10dif<portable_instructions>(d);
};
constexpr auto ours64 = [](std::span<const std::byte> d) { return crc64_nvme(d); };

BENCHMARK_CAPTURE(fixed, crc32c, ours32);
BENCHMARK_CAPTURE(fixed, crc32c_tables, tables32);
BENCHMARK_CAPTURE(fixed, crc16_t10dif, ours16);
BENCHMARK_CAPTURE(fixed, crc16_t10dif_tables, tables16);
BENCHMARK_CAPTURE(fixed, crc64_nvme, ours64);
BENCHMARK_CAPTURE(random_lengths, crc32c, ours32);
BENCHMARK_CAPTURE(random_lengths, crc16_t10dif, ours16);

void dif_insert(benchmark::State& state) {
  auto data = data_of(4096);
  std::vector<std::byte> out(4160);
  const auto from_list = local_segment(data);
  const auto to_list = local_segment(out);
  for (auto _ : state) {
    accel::detail::stream from{{&from_list, 1}};
    accel::detail::stream to{{&to_list, 1}};
    insert_protection(to, from, {}, 8);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(4096 * state.iterations());
}
BENCHMARK(dif_insert);

}  // namespace
