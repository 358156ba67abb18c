// SPDX-License-Identifier: BSL-1.0
// The NVMe controller's own cost per command: find the doorbell, fetch, check, walk the PRPs, pass
// the blocks to the media, complete. Host and controller share a thread and their memory; the host
// writes its rings once and only moves doorbells. "random" draws block, buffer and offset from a
// table that branch predictors cannot learn. Beside it: a memcpy of the same size.
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/null_media.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#if __has_include(<phasebit/block/planned_media.hpp>)
#  include <phasebit/block/planned_media.hpp>
#endif

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include <benchmark/benchmark.h>
#include <support/cycles.hpp>

namespace {

using namespace phasebit;
using namespace phasebit::nvme;

constexpr std::uint32_t depth = 1024;

// As many queues as the largest sweep has.
struct many_queues : device::default_policy {
  static constexpr std::size_t max_io_queue_pairs = 4096;
};
constexpr std::uint32_t batch = 128;
constexpr std::size_t disk_bytes = std::size_t{32} << 20;

class pages {
 public:
  explicit pages(std::size_t bytes)
      : bytes_(bytes), data_(static_cast<std::byte*>(std::aligned_alloc(4096, bytes))) {
    std::memset(data_, 0, bytes);
  }
  ~pages() { std::free(data_); }
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;

  [[nodiscard]] std::byte* at(std::size_t offset) const { return data_ + offset; }
  [[nodiscard]] std::uint64_t bus(std::size_t offset) const {
    return reinterpret_cast<std::uintptr_t>(data_ + offset);
  }
  [[nodiscard]] std::size_t size() const { return bytes_; }
  [[nodiscard]] std::span<std::byte> all() const { return {data_, bytes_}; }

 private:
  std::size_t bytes_;
  std::byte* data_;
};

using window = identity_translator<bus_space, local_space>;

template <class Media, class Policy = device::default_policy>
struct machine {
  using namespaces = device::single_namespace<Media>;
  using controller = device::controller<window, no_interrupts, namespaces, device_order, Policy>;

  template <class... More>
  explicit machine(Media& media, std::uint16_t queues = 1, More&&... more)
      : spaces(media),
        rings(std::size_t{queues + 1U} * (depth * 64 + depth * 16)),
        words((queues + 1U) * 2),
        tails(queues + 1U),
        device(std::make_unique<controller>(bus, irq, spaces, std::span{words}, config(queues),
                                            std::forward<More>(more)...)) {
    device->write32(aqa::offset, aqa::for_entries(depth, depth).raw);
    write64(asq::offset, rings.bus(sq_of(0)));
    write64(acq::offset, rings.bus(cq_of(0)));
    device->write32(cc::offset,
                    cc{}.with(cc::en, true).with(cc::iosqes, 6).with(cc::iocqes, 4).raw);
    for (std::uint16_t q = 1; q <= queues; ++q) {
      admin(nvme::admin::create_io_cq(
          {.qid = q, .entries = depth, .memory = bus_addr{rings.bus(cq_of(q))}}));
      admin(nvme::admin::create_io_sq(
          {.qid = q, .entries = depth, .memory = bus_addr{rings.bus(sq_of(q))}, .cqid = q}));
    }
  }
  static device::settings config(std::uint16_t queues) {
    device::settings s;
    s.io_queue_pairs = queues;
    s.shadow_doorbells = false;
    s.max_queue_entries = depth;
    s.fetch_burst = batch;
    return s;
  }
  std::size_t sq_of(std::size_t q) const { return q * (depth * 80); }
  std::size_t cq_of(std::size_t q) const { return q * (depth * 80) + depth * 64; }
  void write64(std::uint32_t at, std::uint64_t v) {
    device->write32(at, static_cast<std::uint32_t>(v));
    device->write32(at + 4, static_cast<std::uint32_t>(v >> 32));
  }
  void put(std::uint16_t q, std::uint32_t slot, const submission_entry& e) {
    std::memcpy(rings.at(sq_of(q) + slot * 64), &e, sizeof e);
  }
  void admin(const submission_entry& e) {
    put(0, tails[0], e);
    ring(0, 1);
    device->poll();
    consume(0);
  }
  void ring(std::uint16_t q, std::uint32_t n) {
    tails[q] = (tails[q] + n) % depth;
    device_order::store(words[q * 2U], tails[q]);
  }
  void consume(std::uint16_t q) { device_order::store(words[q * 2U + 1], tails[q]); }

  window bus{};
  no_interrupts irq{};
  namespaces spaces;
  pages rings;
  std::vector<std::uint32_t> words;
  std::vector<std::uint32_t> tails;
  std::unique_ptr<controller> device;
};

struct shape {
  std::uint32_t blocks = 8;
  bool random = false;
  bool write = false;
};

// Fills queue 1 with commands of this shape.
template <class Media>
void write_commands(machine<Media>& m, const Media& media, const pages& data, const pages& lists,
                    const shape& what) {
  std::mt19937 random{11};
  for (std::uint32_t i = 0; i != depth; ++i) {
    const std::uint32_t size = media.block_size();
    const std::size_t bytes = std::size_t{what.blocks} * size;
    const std::size_t page = what.random ? random() % (data.size() / 4096 - bytes / 4096 - 2)
                                         : (i % 64) * (bytes / 4096 + 1);
    const std::size_t offset =
        what.random && bytes <= 4096 ? random() % (4096 - bytes + 1) & ~3U : 0;
    const std::uint64_t lba =
        what.random ? random() % (media.block_count() - what.blocks) : (i % 64) * what.blocks;
    const block_range range{.nsid = 1, .lba = lba, .blocks = what.blocks};
    auto e = what.write ? nvm::write(range) : nvm::read(range);
    e.set_command_id(static_cast<std::uint16_t>(i));
    const std::size_t at = page * 4096 + offset;
    e.prp1 = data.bus(at);
    if (bytes > 8192) {
      e.prp2 = lists.bus(i * 512);
      for (std::size_t k = 1; k * 4096 < bytes; ++k) {
        const le<std::uint64_t> entry{data.bus((page + k) * 4096)};
        std::memcpy(lists.at(i * 512 + (k - 1) * 8), &entry, 8);
      }
    } else if (offset + bytes > 4096) {
      e.prp2 = data.bus((page + 1) * 4096);
    }
    m.put(1, i, e);
  }
}

template <class Media>
void run(benchmark::State& state, machine<Media>& m) {
  std::uint64_t commands = 0;
  const double per_second = phasebit_bench::cycles_per_second();
  double best = 1e300;
  for (auto _ : state) {
    const std::uint64_t begin = phasebit_bench::cycles();
    m.ring(1, batch);
    unsigned ended = 0;
    while (m.device->poll() != 0) ++ended;
    benchmark::DoNotOptimize(ended);
    m.consume(1);
    const auto took = static_cast<double>(phasebit_bench::cycles() - begin) / batch;
    if (took < best) best = took;
    commands += batch;
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(commands));
  state.counters["min_cycles"] = best;
  state.counters["min_ns"] = best * 1e9 / per_second;
}

void read_null(benchmark::State& state) {
  const shape what{.blocks = static_cast<std::uint32_t>(state.range(0)),
                   .random = state.range(1) != 0};
  block::null_media media{1U << 20};
  machine<block::null_media> m{media};
  const pages data{std::size_t{16} << 20};
  const pages lists{std::size_t{depth} * 512};
  write_commands(m, media, data, lists, what);
  run(state, m);
}
BENCHMARK(read_null)->ArgNames({"blocks", "random"})->ArgsProduct({{1, 8, 256}, {0, 1}});

void move_memory(benchmark::State& state) {
  const shape what{.blocks = static_cast<std::uint32_t>(state.range(0)),
                   .random = state.range(1) != 0,
                   .write = state.range(2) != 0};
  const pages disk{disk_bytes};
  block::memory_media media{disk.all()};
  machine<block::memory_media> m{media};
  const pages data{std::size_t{16} << 20};
  const pages lists{std::size_t{depth} * 512};
  write_commands(m, media, data, lists, what);
  run(state, m);
}
BENCHMARK(move_memory)
    ->ArgNames({"blocks", "random", "write"})
    ->ArgsProduct({{1, 8}, {0, 1}, {0, 1}});

void memcpy_floor(benchmark::State& state) {
  const pages disk{disk_bytes};
  const pages data{std::size_t{16} << 20};
  const auto bytes = static_cast<std::size_t>(state.range(0)) * 512;
  std::mt19937 random{11};
  std::vector<std::pair<std::size_t, std::size_t>> where(depth);
  for (auto& w : where) {
    w = {random() % (disk_bytes - bytes) & ~511U, random() % (data.size() - bytes) & ~3U};
  }
  std::size_t i = 0;
  for (auto _ : state) {
    std::memcpy(data.at(where[i].second), disk.at(where[i].first), bytes);
    benchmark::ClobberMemory();
    i = (i + 1) % depth;
  }
}
BENCHMARK(memcpy_floor)->ArgNames({"blocks"})->Arg(1)->Arg(8);

void flush(benchmark::State& state) {
  block::null_media media{1U << 20};
  machine<block::null_media> m{media};
  for (std::uint32_t i = 0; i != depth; ++i) m.put(1, i, nvm::flush(1));
  run(state, m);
}
BENCHMARK(flush);

// Media that take a command and deliver it in the next round, without moving data: what a command costs that
// completes later.
class next_round_media {
 public:
  explicit next_round_media(std::uint64_t blocks) : blocks_(blocks) { tags_.reserve(depth); }
  [[nodiscard]] std::uint32_t block_size() const noexcept { return 512; }
  [[nodiscard]] std::uint64_t block_count() const noexcept { return blocks_; }
  [[nodiscard]] block::media_answer submit(const block::media_request&,
                                           block::media_tag tag) noexcept {
    tags_.push_back(tag);
    return block::media_answer::pending();
  }
  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    const std::size_t n = tags_.size();
    for (std::size_t i = 0; i != n; ++i) sink(tags_[i], block::media_status::good);
    tags_.erase(tags_.begin(), tags_.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }
  void cancel(block::media_tag) noexcept {}
  [[nodiscard]] bool drained() const noexcept { return tags_.empty(); }
  [[nodiscard]] static bool reaches(memory_domain) noexcept { return true; }

 private:
  std::uint64_t blocks_;
  std::vector<block::media_tag> tags_;
};

void read_later(benchmark::State& state) {
  const shape what{.blocks = static_cast<std::uint32_t>(state.range(0)),
                   .random = state.range(1) != 0};
  next_round_media media{1U << 20};
  std::vector<device::pending_command> commands(batch);
  std::vector<block::media_segment> segments(batch * 34);
  const pages memory{std::size_t{2} * 8192};
  block::bounce_pool bounce{memory.all(), 8192};
  machine<next_round_media> m{media, 1, device::pending_memory{commands, segments, &bounce}};
  const pages data{std::size_t{16} << 20};
  const pages lists{std::size_t{depth} * 512};
  write_commands(m, media, data, lists, what);
  run(state, m);
}
BENCHMARK(read_later)->ArgNames({"blocks", "random"})->ArgsProduct({{1, 8, 256}, {0, 1}});

// A round over queue pairs that all are empty.
void idle_sweep(benchmark::State& state) {
  block::null_media media{1U << 20};
  machine<block::null_media, many_queues> m{media, static_cast<std::uint16_t>(state.range(0))};
  for (auto _ : state) benchmark::DoNotOptimize(m.device->poll());
}
BENCHMARK(idle_sweep)->Arg(1)->Arg(4)->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Arg(4096);

}  // namespace
