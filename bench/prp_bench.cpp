// SPDX-License-Identifier: BSL-1.0
// The cost of PRPs: building them for a buffer, and translating those of a command, by size.
#include <phasebit/memory/region_map.hpp>
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/prp.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <benchmark/benchmark.h>
#include <support/cycles.hpp>

namespace {

using namespace phasebit;
namespace prp = phasebit::nvme::prp;
using phasebit_bench::cycles;

constexpr std::size_t slots = 128;  // commands in flight, each with a list page of its own
constexpr unsigned page_shift = 12;

// TSC cycles, at its constant rate, over the whole of the timed loop.
class per_operation {
 public:
  explicit per_operation(benchmark::State& state) : state_(state), begin_(cycles()) {}
  ~per_operation() {
    const auto spent = static_cast<double>(cycles() - begin_);
    state_.SetItemsProcessed(state_.iterations());
    if (begin_ != 0) {
      state_.counters["cycles"] = spent / static_cast<double>(state_.iterations());
    }
  }
  per_operation(const per_operation&) = delete;
  per_operation& operator=(const per_operation&) = delete;

 private:
  benchmark::State& state_;
  std::uint64_t begin_;
};

struct alignas(4096) list_pages {
  std::byte bytes[slots][4096];
};

list_pages& lists() {
  static list_pages pages;
  return pages;
}

// Lists as long as the transfer needs, one behind the other. Lists that each begin a page would all
// compete for the same few lines of the first-level cache.
class list_row {
 public:
  explicit list_row(std::size_t transfer)
      : bytes_(std::bit_ceil(prp::list_bytes_for(transfer / 4096, page_shift))) {}
  [[nodiscard]] prp::list_memory operator[](std::size_t slot) const {
    return {{&lists().bytes[0][0] + slot * bytes_, bytes_}, bus_addr{0x7000'0000 + slot * bytes_}};
  }

 private:
  std::size_t bytes_;
};

// As a queue pair does it: the next slot's list, the command's two fields.
void build_contiguous(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  nvme::submission_entry command{};
  const list_row list_of{bytes};
  std::uint64_t slot = 0;
  const per_operation counted{state};
  for (auto _ : state) {
    const std::size_t at = slot++ % slots;
    prp::pointers p;
    if (!prp::build_contiguous(bus_addr{0x1'0000'0000 + at * bytes}, bytes, page_shift, list_of[at],
                               p)) {
      state.SkipWithError("refused");
    }
    command.prp1 = p.prp1;
    command.prp2 = p.prp2;
    benchmark::DoNotOptimize(command);
    benchmark::ClobberMemory();
  }
}

// The same bytes as scattered pages of 4 KiB.
void build_pieces(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::vector<segment<bus_space>> segments;
  for (std::size_t i = 0; i != bytes / 4096; ++i) {
    segments.push_back({bus_addr{0x1'0000'0000 + i * 8192}, 4096});
  }
  const list_row list_of{bytes};
  std::uint64_t slot = 0;
  const per_operation counted{state};
  for (auto _ : state) {
    prp::pointers p;
    if (!prp::build(segments, page_shift, bytes, list_of[slot++ % slots], p)) {
      state.SkipWithError("refused");
    }
    benchmark::DoNotOptimize(p);
    benchmark::ClobberMemory();
  }
}

// A guest of two regions whose command is given to a device: its list is copied, translated.
void rewrite(benchmark::State& state, std::uint64_t stride) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  static list_pages guest_lists;
  constexpr std::uint64_t list_at = 0x2000'0000;
  static guest_memory<2> lists_map;
  lists_map.clear();
  if (!lists_map.add({guest_addr{list_at}, sizeof guest_lists, &guest_lists.bytes[0][0]})) return;
  const offset_translator<guest_space, bus_space> to_bus{guest_addr{0}, 1ULL << 40,
                                                         bus_addr{1ULL << 41}};
  std::vector<segment<bus_space>> segments;
  for (std::size_t i = 0; i != bytes / 4096; ++i) {
    segments.push_back({bus_addr{0x1'0000'0000 + i * stride}, 4096});
  }
  std::vector<prp::pointers> commands(slots);
  for (std::size_t i = 0; i != slots; ++i) {
    const prp::list_memory list{guest_lists.bytes[i], bus_addr{list_at + i * 4096}};
    if (!prp::build(segments, page_shift, bytes, list, commands[i])) return;
  }
  const list_row list_of{bytes};
  std::uint64_t slot = 0;
  const per_operation counted{state};
  for (auto _ : state) {
    const std::size_t at = slot++ % slots;
    prp::pointers p = commands[at];
    if (!prp::rewrite(lists_map, to_bus, access::write, p, bytes, page_shift, list_of[at])) {
      state.SkipWithError("refused");
    }
    benchmark::DoNotOptimize(p);
    benchmark::ClobberMemory();
  }
}
void rewrite_contiguous(benchmark::State& state) { rewrite(state, 4096); }
void rewrite_scattered(benchmark::State& state) { rewrite(state, 8192); }

// The device's cost of finding the data.
void walk(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const region_translator dma{
      dma_region{{&lists().bytes[0][0], sizeof(list_pages)}, bus_addr{0x7000'0000}}};
  const list_row list_of{bytes};
  prp::pointers p;
  if (!prp::build_contiguous(bus_addr{0x1'0000'0000}, bytes, page_shift, list_of[0], p)) return;
  std::uint64_t found = 0;
  const per_operation counted{state};
  for (auto _ : state) {
    const auto status =
        prp::walk(dma, p, bytes, page_shift, [&](bus_addr, std::uint64_t n) noexcept {
          found += n;
          return nvme::status_code::success;
        });
    benchmark::DoNotOptimize(status);
    benchmark::DoNotOptimize(found);
    benchmark::ClobberMemory();
  }
}

// The floor: as many bytes as a list of that size has, merely copied.
void memcpy_of_list(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0)) / 4096 * 8;
  static list_pages from;
  std::uint64_t slot = 0;
  const per_operation counted{state};
  for (auto _ : state) {
    const std::size_t at = slot++ % slots;
    std::memcpy(&lists().bytes[0][0] + at * bytes, &from.bytes[0][0] + at * bytes, bytes);
    benchmark::ClobberMemory();
  }
}

void sizes(benchmark::internal::Benchmark* b) {
  b->RangeMultiplier(2)->Range(4 << 10, 1 << 20)->ArgName("bytes");
}

BENCHMARK(build_contiguous)->Apply(sizes);
BENCHMARK(build_pieces)->Apply(sizes);
BENCHMARK(rewrite_contiguous)->Apply(sizes);
BENCHMARK(rewrite_scattered)->Apply(sizes);
BENCHMARK(walk)->Apply(sizes);
BENCHMARK(memcpy_of_list)->Apply(sizes);

}  // namespace
