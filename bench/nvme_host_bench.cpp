// SPDX-License-Identifier: BSL-1.0
// The driver's own cost per I/O: take a request, build the command, describe its buffer, post,
// ring, poll, check the status and the command id, ring the completion queue, release the id. The
// controller lives in the same memory and the same thread; its own cost is measured in the same
// round and subtracted. Beside it, in the same run: a memcpy of the same size, and a Boost.Lockfree
// queue that passes as many pointers in both directions.
#include <phasebit/core/ordering.hpp>
#include <phasebit/nvme/driver/entry_store.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/pcie/driver/mapped_bar.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include <benchmark/benchmark.h>
#include <boost/lockfree/queue.hpp>
#include <support/cycles.hpp>

namespace {

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;
using phasebit_bench::cycles;
using phasebit_bench::cycles_per_second;

constexpr std::uint32_t depth = 256;
constexpr std::uint32_t list_bytes = 256;  // 32 entries: 128 KiB
constexpr std::uint32_t per_sample = 4096;

// Pages of its own, zeroed.
class pages {
 public:
  explicit pages(std::size_t bytes)
      : bytes_(bytes), data_(static_cast<std::byte*>(std::aligned_alloc(4096, bytes))) {
    std::memset(data_, 0, bytes);
  }
  ~pages() { std::free(data_); }
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;

  template <class T>
  [[nodiscard]] std::span<T> as() const {
    return {reinterpret_cast<T*>(data_), bytes_ / sizeof(T)};
  }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

// The least that a controller can do: see the doorbell, read each command's id, complete it.
class memory_controller {
 public:
  [[gnu::noinline]] void run() noexcept {
    const std::uint32_t end = device_order::load(doorbells_[0]);
    while (head_ != end) {
      const std::uint16_t id = sq_[head_].command_id();
      head_ = head_ + 1 == depth ? 0 : head_ + 1;
      completion_entry& entry = cq_[tail_];
      entry.sq_head = static_cast<std::uint16_t>(head_);
      device_order::store(entry.dw3, completion_dw3::of(id, nvme::status{}, phase_).raw);
      if (++tail_ == depth) {
        tail_ = 0;
        phase_ = !phase_;
      }
    }
  }
  // As if the host had posted n commands.
  void tell(std::uint32_t n) noexcept { doorbells_[0] = (head_ + n) % depth; }

  [[nodiscard]] queue_layout layout() const {
    return {.qid = 1,
            .submission = sq_,
            .completion = cq_,
            .lists = {lists_.as<std::byte>(), bus_addr{0x4000'0000}},
            .list_bytes = list_bytes,
            .max_transfer = 128U << 10,
            .format = {.nsid = 1}};
  }
  [[nodiscard]] pcie::mmio_doorbell tail() { return bar().doorbell(0); }
  [[nodiscard]] pcie::mmio_doorbell head() { return bar().doorbell(64); }

 private:
  [[nodiscard]] pcie::mapped_bar bar() {
    return pcie::mapped_bar{std::as_writable_bytes(std::span{doorbells_})};
  }

  pages sq_memory_{depth * sizeof(submission_entry)};
  pages cq_memory_{depth * sizeof(completion_entry)};
  pages lists_{std::size_t{depth} * list_bytes};
  std::span<submission_entry> sq_ = sq_memory_.as<submission_entry>();
  std::span<completion_entry> cq_ = cq_memory_.as<completion_entry>();
  alignas(64) std::uint32_t doorbells_[32]{};
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  bool phase_ = true;
};

enum class ringing { batch, each };

// The commands. The fixed ones can be predicted: each has the size and the alignment of the one
// before.
enum class pattern { fixed_4k, fixed_128k, random_4k, random_mixed };

struct request {
  std::uint64_t address;
  std::uint32_t lba;
  std::uint32_t blocks;
};

// 65536 requests: 4 KiB at any dword, or 512 bytes to 128 KiB at any dword.
const std::vector<request>& requests_of(pattern how) {
  static const auto make = [](bool mixed) {
    std::mt19937_64 random(1);
    std::vector<request> made(65'536);
    for (request& r : made) {
      r.blocks = mixed ? static_cast<std::uint32_t>(1 + random() % 256) : 8;
      // As many short requests as long ones, by powers of two.
      if (mixed) r.blocks >>= random() % 8;
      if (r.blocks == 0) r.blocks = 1;
      r.address = 0x1'0000'0000 + random() % (1U << 30) * 4;
      r.lba = static_cast<std::uint32_t>(random());
    }
    return made;
  };
  static const std::vector<request> four = make(false);
  static const std::vector<request> mixed = make(true);
  return how == pattern::random_mixed ? mixed : four;
}

// One sample is 4096 commands, qd at a time; the controller's own time is measured on a second
// controller without a driver. Other load on the machine only adds time: the least time of the
// controller is subtracted, and `cycles` is the least time of both less that.
template <class Token, bool Random = false, class EntryStore = cached_store>
void submit_complete(benchmark::State& state, pattern what, ringing how) {
  const std::size_t bytes = what == pattern::fixed_128k ? 131'072 : 4096;
  [[maybe_unused]] const request* const table = Random ? requests_of(what).data() : nullptr;
  [[maybe_unused]] std::size_t next = 0;
  const auto qd = static_cast<std::uint32_t>(state.range(0));
  memory_controller device;
  memory_controller twin;
  using queue = queue_pair<device_order, pcie::mmio_doorbell, Token, depth, EntryStore>;
  auto q = std::make_unique<queue>(device.layout(), device.tail(), device.head());
  const auto blocks = static_cast<std::uint32_t>(bytes / 512);
  std::uint64_t good = 0;
  std::uint64_t lba = 0;
  std::uint64_t least_both = ~std::uint64_t{0};
  std::uint64_t least_alone = ~std::uint64_t{0};

  // Inlined whatever its size, so that a call more or less is not what two versions differ in.
  const auto post = [&](std::uint32_t i) __attribute__((always_inline)) {
    request r{0x1'0000'0000 + i * bytes, static_cast<std::uint32_t>(lba), blocks};
    if constexpr (Random) r = table[next++ & 65'535];
    const dma_region data{{static_cast<std::byte*>(nullptr), std::size_t{r.blocks} * 512},
                          bus_addr{r.address}};
    if constexpr (std::is_same_v<Token, completion_callback>) {
      return q->read({.nsid = 1, .lba = r.lba, .blocks = r.blocks}, data,
                     [&good](completion c) noexcept { good += c.ok(); });
    } else {
      return q->read({.nsid = 1, .lba = r.lba, .blocks = r.blocks}, data, static_cast<Token>(i));
    }
  };
  for (auto _ : state) {
    const std::uint64_t begin = cycles();
    for (std::uint32_t left = per_sample; left != 0; left -= qd) {
      for (std::uint32_t i = 0; i != qd; ++i) {
        if (!post(i)) [[unlikely]] {
          std::abort();
        }
        lba += blocks;
        if (how == ringing::each) q->ring();
      }
      q->ring();
      device.run();
      while (q->in_flight() != 0) {
        if constexpr (std::is_same_v<Token, completion_callback>) {
          (void)q->poll();
        } else {
          (void)q->poll([&](Token&, completion c) noexcept { good += c.ok(); });
        }
      }
    }
    const std::uint64_t middle = cycles();
    for (std::uint32_t left = per_sample; left != 0; left -= qd) {
      twin.tell(qd);
      twin.run();
    }
    const std::uint64_t end = cycles();
    least_both = std::min(least_both, middle - begin);
    least_alone = std::min(least_alone, end - middle);
    state.SetIterationTime(static_cast<double>(middle - begin - least_alone) / cycles_per_second());
  }
  const auto ios = static_cast<std::uint64_t>(state.iterations()) * per_sample;
  if (good != ios || !q->health()) state.SkipWithError("lost commands");
  state.SetItemsProcessed(static_cast<std::int64_t>(ios));
  state.counters["cycles"] = static_cast<double>(least_both - least_alone) / per_sample;
  state.counters["controller_cycles"] = static_cast<double>(least_alone) / per_sample;
}

// The floor under everything that moves data by hand.
void memcpy_floor(benchmark::State& state) {
  const auto bytes = static_cast<std::size_t>(state.range(0));
  const pages from{bytes};
  const pages to{bytes};
  for (auto _ : state) {
    std::memcpy(to.as<std::byte>().data(), from.as<std::byte>().data(), bytes);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
}

// The equivalent for an engine without a device: one pointer pushed and one popped.
void boost_lockfree(benchmark::State& state) {
  const auto qd = static_cast<std::uint32_t>(state.range(0));
  boost::lockfree::queue<std::uint64_t*, boost::lockfree::capacity<depth>> there;
  boost::lockfree::queue<std::uint64_t*, boost::lockfree::capacity<depth>> back;
  std::vector<std::uint64_t> requests(qd);
  for (auto _ : state) {
    for (auto& r : requests) there.push(&r);
    std::uint64_t* p = nullptr;
    while (there.pop(p)) back.push(p);
    while (back.pop(p)) ++*p;
  }
  state.SetItemsProcessed(state.iterations() * qd);
}

// The cases, by the name that they are plotted with.
void host_4k_token(benchmark::State& s) {
  submit_complete<std::uint32_t>(s, pattern::fixed_4k, ringing::batch);
}
void host_4k_callback(benchmark::State& s) {
  submit_complete<completion_callback>(s, pattern::fixed_4k, ringing::batch);
}
void host_4k_token_ring_each(benchmark::State& s) {
  submit_complete<std::uint32_t>(s, pattern::fixed_4k, ringing::each);
}
void host_128k_token(benchmark::State& s) {
  submit_complete<std::uint32_t>(s, pattern::fixed_128k, ringing::batch);
}
void host_128k_callback(benchmark::State& s) {
  submit_complete<completion_callback>(s, pattern::fixed_128k, ringing::batch);
}
void host_128k_token_ring_each(benchmark::State& s) {
  submit_complete<std::uint32_t>(s, pattern::fixed_128k, ringing::each);
}
void host_4k_streaming_store(benchmark::State& s) {
  submit_complete<std::uint32_t, false, streaming_store>(s, pattern::fixed_4k, ringing::batch);
}
void host_4k_streaming_store_ring_each(benchmark::State& s) {
  submit_complete<std::uint32_t, false, streaming_store>(s, pattern::fixed_4k, ringing::each);
}

void host_random_4k_token(benchmark::State& s) {
  submit_complete<std::uint32_t, true>(s, pattern::random_4k, ringing::batch);
}
void host_random_4k_callback(benchmark::State& s) {
  submit_complete<completion_callback, true>(s, pattern::random_4k, ringing::batch);
}
void host_random_mixed_token(benchmark::State& s) {
  submit_complete<std::uint32_t, true>(s, pattern::random_mixed, ringing::batch);
}
void host_random_mixed_callback(benchmark::State& s) {
  submit_complete<completion_callback, true>(s, pattern::random_mixed, ringing::batch);
}

void depths(benchmark::internal::Benchmark* b) {
  b->ArgName("qd")->Arg(1)->Arg(32)->Arg(128)->UseManualTime();
}

}  // namespace

BENCHMARK(host_4k_token)->Apply(depths);
BENCHMARK(host_4k_callback)->Apply(depths);
BENCHMARK(host_4k_token_ring_each)->Apply(depths);
BENCHMARK(host_128k_token)->Apply(depths);
BENCHMARK(host_128k_callback)->Apply(depths);
BENCHMARK(host_128k_token_ring_each)->Apply(depths);
BENCHMARK(host_4k_streaming_store)->Apply(depths);
BENCHMARK(host_4k_streaming_store_ring_each)->Apply(depths);
BENCHMARK(host_random_4k_token)->Apply(depths);
BENCHMARK(host_random_4k_callback)->Apply(depths);
BENCHMARK(host_random_mixed_token)->Apply(depths);
BENCHMARK(host_random_mixed_callback)->Apply(depths);
BENCHMARK(memcpy_floor)->ArgName("bytes")->Arg(64)->Arg(4096)->Arg(131'072);
BENCHMARK(boost_lockfree)->ArgName("qd")->Arg(1)->Arg(32)->Arg(128);
