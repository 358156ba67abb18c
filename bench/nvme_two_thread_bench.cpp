// SPDX-License-Identifier: BSL-1.0
// A queue pair between two threads: the driver in one, a controller in the other, doorbells and
// phases in the memory between. Round trips with percentiles at depth 1, throughput by depth, and
// the same through two Boost.Lockfree queues of pointers in the same run.
#include <phasebit/core/ordering.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>
#include <boost/lockfree/spsc_queue.hpp>
#include <support/cycles.hpp>

namespace {

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;
using phasebit_bench::cycles;
using phasebit_bench::cycles_per_second;

constexpr std::uint32_t depth = 256;

struct word_doorbell {
  std::uint32_t* word = nullptr;
  void ring(std::uint32_t value) noexcept { thread_order::store(*word, value); }
};
static_assert(DoorbellSink<word_doorbell>);

// Rings and doorbells, each side's words on lines of their own, and a thread that completes.
class threaded_controller {
 public:
  threaded_controller() : thread_([this] { serve(); }) {}
  ~threaded_controller() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }
  threaded_controller(const threaded_controller&) = delete;
  threaded_controller& operator=(const threaded_controller&) = delete;

  [[nodiscard]] queue_layout layout() noexcept {
    return {.qid = 1,
            .submission = rings_->sq,
            .completion = rings_->cq,
            .lists = {rings_->lists, bus_addr{0x4000'0000}},
            .list_bytes = 64,
            .max_transfer = 8192};
  }
  [[nodiscard]] word_doorbell tail() noexcept { return {&rings_->tail}; }
  [[nodiscard]] word_doorbell head() noexcept { return {&rings_->head}; }

 private:
  struct rings {
    alignas(4096) std::array<submission_entry, depth> sq{};
    alignas(4096) std::array<completion_entry, depth> cq{};
    alignas(4096) std::array<std::byte, std::size_t{64} * depth> lists{};
    alignas(cache_line) std::uint32_t tail = 0;
    alignas(cache_line) std::uint32_t head = 0;
  };

  void serve() noexcept {
    std::uint32_t fetch = 0;
    std::uint32_t post = 0;
    bool phase = true;
    while (!stop_.load(std::memory_order_relaxed)) {
      const std::uint32_t end = thread_order::load(rings_->tail);
      while (fetch != end) {
        const std::uint16_t id = rings_->sq[fetch].command_id();
        fetch = (fetch + 1) % depth;
        completion_entry& entry = rings_->cq[post];
        entry.sq_head = static_cast<std::uint16_t>(fetch);
        thread_order::store(entry.dw3, completion_dw3::of(id, nvme::status{}, phase).raw);
        if (++post == depth) {
          post = 0;
          phase = !phase;
        }
      }
    }
  }

  std::unique_ptr<rings> rings_ = std::make_unique<rings>();
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Nanoseconds at p50, p90, p99 and p99.9 as counters.
void report(benchmark::State& state, std::vector<std::uint64_t>& samples) {
  if (samples.empty()) return;
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double p) {
    const auto i = static_cast<std::size_t>(p * static_cast<double>(samples.size() - 1));
    return static_cast<double>(samples[i]) / cycles_per_second() * 1e9;
  };
  state.counters["p50_ns"] = at(0.5);
  state.counters["p90_ns"] = at(0.9);
  state.counters["p99_ns"] = at(0.99);
  state.counters["p999_ns"] = at(0.999);
}

using queue = queue_pair<thread_order, word_doorbell, std::uint32_t, depth>;

void nvme_ring(benchmark::State& state) {
  const auto qd = static_cast<std::uint32_t>(state.range(0));
  threaded_controller device;
  auto q = std::make_unique<queue>(device.layout(), device.tail(), device.head());
  std::vector<std::uint64_t> samples;
  samples.reserve(1U << 20);
  const dma_region data{{static_cast<std::byte*>(nullptr), 4096}, bus_addr{0x1'0000'0000}};
  for (auto _ : state) {
    const std::uint64_t begin = cycles();
    for (std::uint32_t i = 0; i != qd; ++i) {
      if (!q->read({.nsid = 1, .lba = i, .blocks = 8}, data, i)) std::abort();
    }
    q->ring();
    while (q->in_flight() != 0) {
      if (q->poll([](std::uint32_t&, completion) noexcept {}) == 0) cpu_relax();
    }
    if (samples.size() != samples.capacity()) samples.push_back(cycles() - begin);
  }
  state.SetItemsProcessed(state.iterations() * qd);
  report(state, samples);
}

void boost_spsc(benchmark::State& state) {
  const auto qd = static_cast<std::size_t>(state.range(0));
  using ring = boost::lockfree::spsc_queue<std::uint64_t, boost::lockfree::capacity<depth>>;
  auto there = std::make_unique<ring>();
  auto back = std::make_unique<ring>();
  std::atomic<bool> stop{false};
  std::thread other{[&] {
    std::uint64_t value = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      while (there->pop(value)) back->push(value);
    }
  }};
  std::vector<std::uint64_t> samples;
  samples.reserve(1U << 20);
  for (auto _ : state) {
    const std::uint64_t begin = cycles();
    for (std::size_t i = 0; i != qd; ++i) there->push(i);
    std::uint64_t value = 0;
    for (std::size_t got = 0; got != qd;) {
      if (back->pop(value)) {
        ++got;
      } else {
        cpu_relax();
      }
    }
    if (samples.size() != samples.capacity()) samples.push_back(cycles() - begin);
  }
  stop = true;
  other.join();
  state.SetItemsProcessed(
      static_cast<std::int64_t>(static_cast<std::size_t>(state.iterations()) * qd));
  report(state, samples);
}

}  // namespace

BENCHMARK(nvme_ring)->ArgName("qd")->Arg(1)->Arg(8)->Arg(32)->Arg(128)->UseRealTime();
BENCHMARK(boost_spsc)->ArgName("qd")->Arg(1)->Arg(8)->Arg(32)->Arg(128)->UseRealTime();
