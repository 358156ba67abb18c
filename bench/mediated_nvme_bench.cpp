// SPDX-License-Identifier: BSL-1.0
// The cost that the engine of systems/mediated_nvme adds to an I/O: doorbell sweep, fetch, checks,
// PRP translation, forwarding, and the completion. "raw" is the drive's queue pair used directly;
// "mediated" is the same drive behind the engine, with one active function among many. The drive is
// a loop in memory that completes every posted command. The hosts wrote their rings once and only
// move doorbells. "random" draws block, page and offset of each command. The result is the
// difference of "mediated" and "raw".
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/systems/mediated_nvme.hpp>

#include <array>
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

constexpr std::uint32_t depth = 256;
constexpr std::uint32_t batch = 128;
constexpr std::uint64_t guest_base = std::uint64_t{2} << 20;
constexpr std::size_t guest_bytes = std::size_t{2} << 20;

struct pages {
  explicit pages(std::size_t n, std::size_t alignment = 4096)
      : bytes(n), data(static_cast<std::byte*>(std::aligned_alloc(alignment, n))) {
    // Data pages are not touched: the drive moves no data.
    std::memset(data, 0, n < 131'072 ? n : 131'072);
  }
  ~pages() { std::free(data); }
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;
  [[nodiscard]] bus_addr bus(std::size_t offset = 0) const {
    return bus_addr{reinterpret_cast<std::uintptr_t>(data + offset)};
  }
  std::size_t bytes;
  std::byte* data;
};

struct word_doorbell {
  std::uint32_t* word = nullptr;
  void ring(std::uint32_t value) noexcept { device_order::store(*word, value); }
};
using queue =
    nvme::driver::queue_pair<device_order, word_doorbell, systems::forwarded_command, 256>;

// Completes what was posted, in order; never inlined, so that both ways pay the same for it.
struct echo_drive {
  pages rings{std::size_t{depth} * (64 + 16 + 512)};
  std::uint32_t tail_bell = 0;
  std::uint32_t head_bell = 0;
  std::uint32_t head = 0;
  std::uint32_t cq_tail = 0;
  bool phase = true;
  queue q;

  echo_drive() : q(layout(), word_doorbell{&tail_bell}, word_doorbell{&head_bell}) {}
  [[nodiscard]] nvme::driver::queue_layout layout() const {
    return {
        .qid = 1,
        .submission = {reinterpret_cast<nvme::submission_entry*>(rings.data), depth},
        .completion = {reinterpret_cast<nvme::completion_entry*>(rings.data + depth * 64), depth},
        .lists = {{rings.data + depth * 80, depth * 512}, rings.bus(depth * 80)},
        .list_bytes = 512,
        .max_transfer = 131'072,
        .format = {.nsid = 1, .blocks = 1U << 30}};
  }
  [[gnu::noinline]] void poll() noexcept {
    const std::uint32_t tail = device_order::load(tail_bell);
    auto* const sq = reinterpret_cast<nvme::submission_entry*>(rings.data);
    auto* const cq = reinterpret_cast<nvme::completion_entry*>(rings.data + depth * 64);
    while (head != tail) {
      const std::uint16_t id = sq[head].command_id();
      head = head + 1 == depth ? 0 : head + 1;
      cq[cq_tail].dw0 = 0U;
      device_order::store(cq[cq_tail].dw3,
                          le<std::uint32_t>{nvme::completion_dw3::of(id, {}, phase).raw});
      if (++cq_tail == depth) {
        cq_tail = 0;
        phase = !phase;
      }
    }
  }
};

using window = identity_translator<host_space, local_space>;
struct no_function_interrupts {
  static void raise(std::uint16_t, std::uint16_t) noexcept {}
};
using engine_type = systems::mediated_nvme<queue, window, no_function_interrupts>;
using table_type = systems::function_table_of<systems::mediated_policy>;

nvme::submission_entry command_for(std::mt19937_64& random, bool vary, std::uint64_t base,
                                   std::uint32_t slot) {
  auto e = nvme::nvm::read({.nsid = 1, .lba = vary ? random() % 4000 : 8, .blocks = 8});
  const std::uint64_t page = vary ? 64 + random() % 440 : 64;
  e.prp1 = base + page * 4096;
  // An offset in the page makes a second entry of it.
  if (vary && random() % 2 == 0) {
    e.prp1 = e.prp1 + (random() % 1024) * 4;
    e.prp2 = base + (64 + random() % 440) * 4096;
  }
  e.set_command_id(static_cast<std::uint16_t>(slot));
  return e;
}

// Hosts that share one process. Rings: admin at 0 and 4 KiB, I/O at 8 KiB (SQ 1, 16 KiB) and 24 KiB (CQ 1).
struct machine {
  echo_drive drive;
  window host;
  no_function_interrupts interrupts;
  pages lists{depth * 512};
  std::unique_ptr<engine_type> engine;
  std::vector<std::unique_ptr<pages>> memory;
  std::vector<std::uint32_t> words;
  std::vector<std::uint64_t> entries;
  std::vector<table_type> tables;
  std::vector<std::uint32_t> tails;

  machine(std::uint16_t functions, bool vary)
      : words(functions * 6U), entries(functions * 2U), tails(functions) {
    engine = std::make_unique<engine_type>(
        drive.q, dma_region{{lists.data, lists.bytes}, lists.bus()},
        systems::drive_namespace{.blocks = 1U << 30, .block_shift = 9, .max_transfer = 131'072},
        host, interrupts);
    tables.reserve(functions);
    std::mt19937_64 random{functions};
    for (std::uint16_t f = 0; f != functions; ++f) {
      memory.push_back(std::make_unique<pages>(guest_bytes, guest_bytes));
      tables.emplace_back(std::as_writable_bytes(std::span{entries}.subspan(f * 2U, 2)));
      check(tables[f]
                .map(bus_addr{guest_base}, host_phys{memory[f]->bus().value()}, guest_bytes,
                     access::read_write)
                .has_value());
      check(engine
                ->add(f, {.table = &tables[f],
                          .doorbells = std::span{words}.subspan(f * 6U, 6),
                          .first_lba = f * 8192U,
                          .blocks = 8192})
                .has_value());
      bring_up(f);
      auto* const sq = reinterpret_cast<nvme::submission_entry*>(memory[f]->data + 8192);
      for (std::uint32_t i = 0; i != depth; ++i) sq[i] = command_for(random, vary, guest_base, i);
    }
  }
  static void check(bool good) {
    if (!good) std::abort();
  }
  void write64(std::uint16_t f, std::uint32_t at, std::uint64_t v) {
    engine->write32(f, at, static_cast<std::uint32_t>(v));
    engine->write32(f, at + 4, static_cast<std::uint32_t>(v >> 32));
  }
  void bring_up(std::uint16_t f) {
    using namespace nvme;
    engine->write32(f, aqa::offset, aqa::for_entries(16, 16).raw);
    write64(f, asq::offset, guest_base);
    write64(f, acq::offset, guest_base + 4096);
    engine->write32(f, cc::offset,
                    cc{}.with(cc::en, true).with(cc::iosqes, 6).with(cc::iocqes, 4).raw);
    auto* const asq = reinterpret_cast<submission_entry*>(memory[f]->data);
    std::uint32_t n = 0;
    for (std::uint16_t q = 1; q <= 2; ++q) {
      const std::uint64_t at = guest_base + 8192 + (q - 1U) * 32'768;
      asq[n++] = admin::create_io_cq(
          {.qid = q, .entries = depth, .memory = bus_addr{at + 16'384}, .interrupts = false});
      asq[n++] =
          admin::create_io_sq({.qid = q, .entries = depth, .memory = bus_addr{at}, .cqid = q});
    }
    words[f * 6U] = n;
    engine->poll();
    const auto* const acq = reinterpret_cast<completion_entry*>(memory[f]->data + 4096);
    check(acq[n - 1].phase() && acq[n - 1].status().ok());
  }
  void ring(std::uint16_t f, std::uint32_t n) {
    tails[f] = (tails[f] + n) % depth;
    device_order::store(words[f * 6U + 2], tails[f]);
  }
  // Both come from what the drive completed.
  void consume(std::uint16_t f) { device_order::store(words[f * 6U + 3], tails[f]); }
};

void count_cycles(benchmark::State& state, std::uint64_t begin) {
  const auto items = static_cast<double>(state.iterations()) * batch;
  state.counters["cycles"] = static_cast<double>(phasebit_bench::cycles() - begin) / items;
  state.SetItemsProcessed(static_cast<std::int64_t>(items));
}

void raw(benchmark::State& state, bool vary) {
  echo_drive drive;
  std::mt19937_64 random{1};
  std::vector<nvme::submission_entry> commands(depth);
  for (std::uint32_t i = 0; i != depth; ++i) commands[i] = command_for(random, vary, guest_base, i);
  std::uint32_t next = 0;
  const std::uint64_t begin = phasebit_bench::cycles();
  for (auto _ : state) {
    for (std::uint32_t i = 0; i != batch; ++i) {
      benchmark::DoNotOptimize(drive.q.submit(commands[next], systems::forwarded_command{0, 1}));
      next = next + 1 == depth ? 0 : next + 1;
    }
    drive.q.ring();
    drive.poll();
    benchmark::DoNotOptimize(
        drive.q.poll([](systems::forwarded_command& t, nvme::driver::completion c) noexcept {
          benchmark::DoNotOptimize(t.command_id + c.dw0());
        }));
  }
  count_cycles(state, begin);
}

void mediated(benchmark::State& state, bool vary, bool all) {
  const auto functions = static_cast<std::uint16_t>(state.range(0));
  machine m{functions, vary};
  std::uint16_t f = 0;
  const std::uint64_t begin = phasebit_bench::cycles();
  for (auto _ : state) {
    m.ring(f, batch);
    m.engine->poll();
    m.drive.poll();
    m.engine->poll();
    m.consume(f);
    if (all) f = f + 1 == functions ? std::uint16_t{0} : static_cast<std::uint16_t>(f + 1);
  }
  count_cycles(state, begin);
  const auto& c = m.engine->counters();
  if (c.refused != 0 || c.forwarded != static_cast<std::uint64_t>(state.iterations()) * batch) {
    state.SkipWithError("commands were refused or lost");
  }
}

// Nothing moved: what a round over all doorbells takes.
void sweep(benchmark::State& state) {
  machine m{static_cast<std::uint16_t>(state.range(0)), false};
  for (auto _ : state) benchmark::DoNotOptimize(m.engine->sweep());
}

void raw_fixed(benchmark::State& s) { raw(s, false); }
void raw_random(benchmark::State& s) { raw(s, true); }
void one_active_fixed(benchmark::State& s) { mediated(s, false, false); }
void one_active_random(benchmark::State& s) { mediated(s, true, false); }
void in_turn_random(benchmark::State& s) { mediated(s, true, true); }

BENCHMARK(raw_fixed);
BENCHMARK(raw_random);
BENCHMARK(one_active_fixed)->ArgName("functions")->Arg(1)->Arg(8)->Arg(64)->Arg(252);
BENCHMARK(one_active_random)->ArgName("functions")->Arg(1)->Arg(8)->Arg(64)->Arg(252);
BENCHMARK(in_turn_random)->ArgName("functions")->Arg(1)->Arg(8)->Arg(64)->Arg(252);
BENCHMARK(sweep)->ArgName("functions")->Arg(1)->Arg(64)->Arg(252);

}  // namespace
