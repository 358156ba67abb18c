// SPDX-License-Identifier: BSL-1.0
// The cost of a virtqueue on one thread, all checks on.
//
//   device_blk    the device side of a virtio-blk request: pop, check and translate its header, data
//                 and status segment, push the used entry, one notification decision for 32
//   device_indirect   the same with the three descriptors in an indirect table
//   round_trip    driver add, device pop and push, driver poll of one buffer, in batches of 32
//
// "regions" is how many memory regions the driver's memory has. "random" takes descriptors,
// addresses and regions from a table that predictors cannot learn; "fixed" repeats the same ones.
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/virtio/device/packed_queue.hpp>
#include <phasebit/virtio/device/split_queue.hpp>
#include <phasebit/virtio/driver/packed_queue.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include <benchmark/benchmark.h>
#include <support/cycles.hpp>

namespace {

using namespace phasebit;
namespace device = phasebit::virtio::device;
namespace driver = phasebit::virtio::driver;

constexpr std::uint32_t queue_size = 256;
constexpr std::uint32_t batch = 32;
constexpr std::size_t region_bytes = 1 << 20;
constexpr std::uint64_t region_stride = 1ULL << 30;
constexpr std::uint64_t ring_address = 0x1000;

struct alignas(64) line {
  std::byte bytes[64];
};

template <class DriverQueue, class DeviceQueue, bool Packed>
struct pair {
  pair(unsigned regions, std::uint64_t features, std::uint32_t indirect)
      : layout{queue_size, Packed, indirect},
        ring(layout.bytes() / 64 + 1),
        slots(queue_size),
        buffers(queue_size),
        places(16) {
    const std::span<std::byte> ring_bytes{ring[0].bytes, ring.size() * sizeof(line)};
    // The rings lie in the first region, as a guest's do.
    memory.resize(regions);
    for (unsigned i = 0; i != regions; ++i) {
      memory[i].resize(i == 0 ? region_bytes : region_bytes);
      if (!map.add({bus_addr{region_stride * (i + 1)}, region_bytes, memory[i].data(),
                    access::read_write})) {
        std::abort();
      }
    }
    // Indirect tables are read through the map as well.
    const std::uint64_t tables = ring_address;
    if (!map.add({bus_addr{tables}, ring_bytes.size(), ring_bytes.data(), access::read_write}) ||
        !front.start({layout, features, dma_region{ring_bytes, bus_addr{tables}}, slots}) ||
        !back.start({.size = queue_size,
                     .features = features,
                     .areas = {ring_bytes.data(), ring_bytes.data() + layout.driver_offset(),
                               ring_bytes.data() + layout.device_offset()},
                     .buffers = buffers})) {
      std::abort();
    }
    front.disable_notifications();
    back.disable_notifications();
    chain = device::chain{places};
  }

  driver::queue_layout layout;
  std::vector<line> ring;
  std::vector<driver::buffer_slot<std::uint64_t>> slots;
  std::vector<device::buffer_state> buffers;
  std::vector<device::chain_segment> places;
  std::vector<std::vector<std::byte>> memory;
  region_map<bus_space, 16> map;
  DriverQueue front;
  DeviceQueue back;
  device::chain chain;
};
using split_pair =
    pair<driver::split_queue<thread_order>, device::split_queue<thread_order>, false>;
using packed_pair =
    pair<driver::packed_queue<thread_order>, device::packed_queue<thread_order>, true>;

struct request {
  driver::buffer_segment header[1];
  driver::buffer_segment data_and_status[2];
};
std::vector<request> requests(unsigned regions, bool random) {
  std::mt19937_64 engine{42};
  std::vector<request> made(random ? 65'536 : batch);
  for (std::size_t i = 0; i != made.size(); ++i) {
    const auto place = [&](std::uint64_t bytes, std::uint64_t fixed) {
      const std::uint64_t region = random ? engine() % regions : fixed % regions;
      const std::uint64_t offset =
          random ? engine() % (region_bytes - bytes) : 8192 * (i % batch) + 64 * fixed;
      return driver::buffer_segment{bus_addr{region_stride * (region + 1) + offset}, bytes};
    };
    made[i].header[0] = place(16, 0);
    made[i].data_and_status[0] = place(random ? 512U << (engine() % 8) : 4096U, 1);
    made[i].data_and_status[1] = place(1, 2);
  }
  return made;
}

// Cycles and nanoseconds for one buffer: of the fastest batch, and of the median one.
void report(benchmark::State& state, std::vector<std::uint64_t>& ticks) {
  state.SetItemsProcessed(state.iterations() * batch);
  std::sort(ticks.begin(), ticks.end());
  const double each = static_cast<double>(ticks.front()) / batch;
  state.counters["median_ns"] = static_cast<double>(ticks[ticks.size() / 2]) / batch /
                                phasebit_bench::cycles_per_second() * 1e9;
  state.counters["ns_each"] = each / phasebit_bench::cycles_per_second() * 1e9;
  state.counters["cycles_each"] = each;
}

// Times the device's part only.
template <class Pair>
void device_blk(benchmark::State& state) {
  const auto regions = static_cast<unsigned>(state.range(0));
  const bool random = state.range(1) != 0;
  const bool indirect = state.range(2) != 0;
  Pair q{regions, indirect ? virtio::feature::indirect_desc : 0, indirect ? 4U : 0U};
  const auto table = requests(regions, random);
  std::size_t next = 0;
  std::vector<std::uint64_t> ticks;
  ticks.reserve(1U << 16);
  std::uint64_t sum = 0;
  for (auto _ : state) {
    for (std::uint32_t i = 0; i != batch; ++i) {
      const request& r = table[next];
      next = (next + 1) % table.size();
      if (q.front.add(r.header, r.data_and_status, i) != driver::add_status::added) std::abort();
    }
    static_cast<void>(q.front.publish());
    const std::uint64_t begin = phasebit_bench::cycles();
    while (q.back.pop(q.map, q.chain) == device::pop_status::ready) {
      const auto data = q.chain.writable()[0];
      sum += reinterpret_cast<std::uintptr_t>(data.data) + data.bytes;
      q.back.push(q.chain.id(), data.bytes + 1);
    }
    if (q.back.flush()) ++sum;
    if (ticks.size() != ticks.capacity()) ticks.push_back(phasebit_bench::cycles() - begin);
    if (q.front.poll([](std::uint64_t, std::uint32_t) noexcept {}) != batch) std::abort();
  }
  benchmark::DoNotOptimize(sum);
  report(state, ticks);
}

template <class Pair>
void round_trip(benchmark::State& state) {
  const bool random = state.range(0) != 0;
  Pair q{1, 0, 0};
  const auto table = requests(1, random);
  std::size_t next = 0;
  std::uint64_t sum = 0;
  std::vector<std::uint64_t> ticks;
  ticks.reserve(1U << 16);
  for (auto _ : state) {
    const std::uint64_t begin = phasebit_bench::cycles();
    for (std::uint32_t i = 0; i != batch; ++i) {
      const request& r = table[next];
      next = (next + 1) & (table.size() - 1);
      if (q.front.add(r.header, {}, i) != driver::add_status::added) std::abort();
    }
    static_cast<void>(q.front.publish());
    while (q.back.pop(q.map, q.chain) == device::pop_status::ready) {
      sum += q.chain.readable()[0].bytes;
      q.back.push(q.chain.id(), 0);
    }
    static_cast<void>(q.back.flush());
    if (q.front.poll([](std::uint64_t, std::uint32_t) noexcept {}) != batch) std::abort();
    if (ticks.size() != ticks.capacity()) ticks.push_back(phasebit_bench::cycles() - begin);
  }
  benchmark::DoNotOptimize(sum);
  report(state, ticks);
}

// The cost of polling without work: 256 queues of 256 entries.
template <class Pair>
void idle_queues(benchmark::State& state) {
  std::vector<std::unique_ptr<Pair>> queues;
  for (int i = 0; i != 256; ++i) queues.push_back(std::make_unique<Pair>(1, 0, 0));
  std::uint64_t found = 0;
  for (auto _ : state) {
    for (auto& q : queues) {
      if (q->back.pop(q->map, q->chain) == device::pop_status::ready) ++found;
    }
  }
  benchmark::DoNotOptimize(found);
}

}  // namespace

BENCHMARK(device_blk<split_pair>)
    ->Name("device_blk/split")
    ->ArgNames({"regions", "random", "indirect"})
    ->ArgsProduct({{1, 8}, {0, 1}, {0, 1}});
BENCHMARK(device_blk<packed_pair>)
    ->Name("device_blk/packed")
    ->ArgNames({"regions", "random", "indirect"})
    ->ArgsProduct({{1, 8}, {0, 1}, {0, 1}});
BENCHMARK(round_trip<split_pair>)->Name("round_trip/split")->ArgName("random")->Arg(0)->Arg(1);
BENCHMARK(round_trip<packed_pair>)->Name("round_trip/packed")->ArgName("random")->Arg(0)->Arg(1);
BENCHMARK(idle_queues<split_pair>)->Name("idle_queues/split");
BENCHMARK(idle_queues<packed_pair>)->Name("idle_queues/packed");
