// SPDX-License-Identifier: BSL-1.0
// The cost per packet of an SR-IOV device or a pooling switch in software, with 8 to 1024 virtual
// functions: look-ups by routing id and by address, and whole packets rewritten. "random" draws the
// function from a table of 64 Ki, which branch predictors cannot learn; "fixed" uses one.
#include <phasebit/pcie/device/emitter.hpp>
#include <phasebit/sriov/fair_scheduler.hpp>
#include <phasebit/sriov/function_table.hpp>
#include <phasebit/sriov/multi_root.hpp>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

namespace {

using namespace phasebit;

constexpr std::uint16_t most = 1024;
constexpr std::uint64_t device_bar = 0x90'0000'0000;
constexpr std::uint64_t bar_bytes = 0x4000;

// Numbers below `count`: one of them for ever, or drawn.
class sequence {
 public:
  sequence(std::uint32_t count, bool drawn) : numbers_(1 << 16) {
    std::mt19937 random{1};
    for (auto& n : numbers_) n = static_cast<std::uint16_t>(drawn ? random() % count : count / 2);
  }
  std::uint16_t next() noexcept { return numbers_[at_++ & 0xffff]; }

 private:
  std::vector<std::uint16_t> numbers_;
  std::uint32_t at_ = 0;
};

void must(bool holds) {
  if (!holds) std::abort();
}

// Four physical functions that share the virtual ones.
struct device {
  using table_type = sriov::function_table<sriov::function_table_limits{
      .physical = 4, .virtual_functions = most, .routing_ids = 2048}>;

  explicit device(std::uint16_t count) : images(4), vf_images(4) {
    for (std::uint16_t p = 0; p != 4; ++p) {
      pcie::function_description d{.vendor_id = 1};
      d.bars[0] = {pcie::bar_kind::memory64, bar_bytes};
      d.express = pcie::express_description{};
      d.sriov = pcie::sriov_description{
          .total_vfs = static_cast<std::uint16_t>(count / 4), .first_vf_offset = 4, .vf_stride = 4};
      d.sriov->vf_bars[0] = {pcie::bar_kind::memory64, bar_bytes};
      const auto layout = pcie::emit_function(images[p], d);
      must(layout && sriov::emit_virtual_function(vf_images[p], d).has_value() &&
           table->add(static_cast<std::uint8_t>(p), images[p], vf_images[p]).has_value());
      const auto write = [&](unsigned offset, unsigned bytes, std::uint64_t value) {
        table->config_write({p, 0}, static_cast<std::uint16_t>(layout->sriov + offset), bytes,
                            static_cast<std::uint32_t>(value), 0,
                            [](const sriov::function_event&) noexcept {});
      };
      const std::uint64_t base = device_bar + p * (most / 4) * bar_bytes;
      write(pcie::sriov::vf_bar0, 4, base);
      write(pcie::sriov::vf_bar0 + 4, 4, base >> 32);
      write(pcie::sriov::num_vfs, 2, count / 4U);
      write(pcie::sriov::control, 2, 9);
    }
  }
  std::unique_ptr<table_type> table = std::make_unique<table_type>();
  std::vector<sriov::config_image> images;
  std::vector<sriov::config_image> vf_images;
};

// The cost of the loops themselves: the number and the address made from it.
void loop_alone(benchmark::State& state) {
  sequence numbers{static_cast<std::uint32_t>(state.range(0)), true};
  for (auto _ : state) {
    const std::uint32_t n = numbers.next();
    benchmark::DoNotOptimize(device_bar + ((n & 3) * (most / 4) + (n >> 2)) * bar_bytes +
                             (n * 4 & 0xfff));
  }
}
void by_routing_id(benchmark::State& state, bool drawn) {
  const auto count = static_cast<std::uint16_t>(state.range(0));
  device d{count};
  sequence numbers{count, drawn};
  for (auto _ : state) {
    const pcie::requester_id id{static_cast<std::uint16_t>(4 + numbers.next())};
    benchmark::DoNotOptimize(d.table->find(id));
  }
}
void by_address(benchmark::State& state, bool drawn) {
  const auto count = static_cast<std::uint16_t>(state.range(0));
  device d{count};
  sequence numbers{count, drawn};
  for (auto _ : state) {
    const std::uint32_t n = numbers.next();
    const std::uint64_t address =
        device_bar + ((n & 3) * (most / 4) + (n >> 2)) * bar_bytes + (n * 4 & 0xfff);
    benchmark::DoNotOptimize(d.table->find(address));
  }
}

constexpr std::uint16_t roots = 32;
using pool_switch = sriov::multi_root<sriov::multi_root_limits{
    .roots = roots, .slots = 32, .functions = most, .routing_ids = 2048}>;

// 32 roots with count / 32 functions each; from 32 on, one root has count of them.
struct pool {
  explicit pool(std::uint16_t count) {
    const auto ignore = [](const sriov::multi_root_event&) noexcept {};
    must(sw->start(0x40, 0xe0, 1, 2).has_value());
    for (std::uint16_t vf = 0; vf != count; ++vf) {
      sriov::shared_function f{.master =
                                   pcie::requester_id{static_cast<std::uint16_t>(0x4001 + vf)}};
      f.bars[0] = {.master = device_bar + vf * bar_bytes, .shift = 14};
      must(sw->add_function(vf, f).has_value() &&
           sw->attach(vf, root_of(vf), slot_of(vf), ignore).has_value());
    }
    for (std::uint16_t r = 0; r != roots; ++r) {
      const auto write = [&](pcie::requester_id to, bool type1, unsigned offset, std::uint32_t v) {
        const auto c = pcie::config_request{.write = true,
                                            .type1 = type1,
                                            .destination = to,
                                            .offset = static_cast<std::uint16_t>(offset)};
        const auto routed = sw->from_root(r, c.encode(), v, ignore);
        if (routed.route == sriov::tlp_route::device) {
          const auto done = pcie::complete(routed.header, routed.header.destination(),
                                           pcie::completion_status::successful);
          (void)sw->from_device(done.encode());
        }
      };
      const auto port = [&](pcie::requester_id to, bool type1, std::uint32_t buses) {
        write(to, type1, pcie::bridge_header::primary_bus, buses);
        write(to, type1, pcie::bridge_header::memory_base, 0xfff0'c000);
        write(to, type1, pcie::header::command, 6);
      };
      port(pcie::requester_id{1, 0, 0}, false, 0x0040'0201);
      for (std::uint8_t s = 0; s != 32; ++s) {
        const std::uint32_t bus = 3U + s;
        port(pcie::requester_id{2, s, 0}, true, bus << 16 | bus << 8 | 2);
        const pcie::requester_id function{static_cast<std::uint8_t>(bus), 0, 0};
        write(function, true, pcie::header::bar0, static_cast<std::uint32_t>(slave_bar(s)));
        write(function, true, pcie::header::command, 6);
      }
    }
  }
  static std::uint16_t root_of(std::uint16_t vf) { return vf % roots; }
  static std::uint16_t slot_of(std::uint16_t vf) { return vf / roots; }
  static std::uint64_t slave_bar(std::uint16_t slot) { return 0xc000'0000 + slot * bar_bytes; }

  std::unique_ptr<pool_switch> sw = std::make_unique<pool_switch>();
};

// A posted write of a root to its function, and of a function to its root.
void write_down(benchmark::State& state, bool drawn) {
  const auto count = static_cast<std::uint16_t>(state.range(0));
  pool p{count};
  sequence numbers{count, drawn};
  const auto ignore = [](const sriov::multi_root_event&) noexcept {};
  std::vector<pcie::tlp_header> headers;
  for (std::uint16_t vf = 0; vf != count; ++vf) {
    headers.push_back(
        pcie::memory_request::write_of({}, pool::slave_bar(pool::slot_of(vf)) + 0x1000, 4)
            .encode());
  }
  for (auto _ : state) {
    const std::uint16_t vf = numbers.next();
    const auto r = p.sw->from_root(pool::root_of(vf), headers[vf], 0, ignore);
    benchmark::DoNotOptimize(r.header.dw[3]);
    if (r.route != sriov::tlp_route::device) state.SkipWithError("not routed");
  }
}
void write_up(benchmark::State& state, bool drawn) {
  const auto count = static_cast<std::uint16_t>(state.range(0));
  pool p{count};
  sequence numbers{count, drawn};
  std::vector<pcie::tlp_header> headers;
  for (std::uint16_t vf = 0; vf != count; ++vf) {
    const pcie::requester_id id{static_cast<std::uint16_t>(0x4001 + vf)};
    headers.push_back(pcie::memory_request::write_of(id, 0x1234'5000, 64).encode());
  }
  for (auto _ : state) {
    const auto r = p.sw->from_device(headers[numbers.next()]);
    benchmark::DoNotOptimize(r.header.dw[1]);
    if (r.route != sriov::tlp_route::root) state.SkipWithError("not routed");
  }
}
// A read of a function and the root's answer, each rewritten: two packets.
void read_up_and_answer(benchmark::State& state, bool drawn) {
  const auto count = static_cast<std::uint16_t>(state.range(0));
  pool p{count};
  sequence numbers{count, drawn};
  const auto ignore = [](const sriov::multi_root_event&) noexcept {};
  auto h = pcie::memory_request::read({}, 7, 0x1234'5000, 64).encode();
  auto c = pcie::complete(h, {}, pcie::completion_status::successful).encode();
  for (auto _ : state) {
    h.set_requester(pcie::requester_id{static_cast<std::uint16_t>(0x4001 + numbers.next())});
    const auto up = p.sw->from_device(h);
    c.set_requester(up.header.requester());
    const auto down = p.sw->from_root(up.root, c, 0, ignore);
    benchmark::DoNotOptimize(down.header.dw[2]);
    if (down.route != sriov::tlp_route::device) state.SkipWithError("not routed");
  }
}

void schedule(benchmark::State& state) {
  const auto count = static_cast<std::uint16_t>(state.range(0));
  auto s = std::make_unique<sriov::fair_scheduler<most>>(128 * 1024);
  for (std::uint16_t f = 0; f != count; ++f) s->activate(f);
  for (auto _ : state) {
    const std::uint16_t f = s->next();
    s->charge(f, 64 * 1024);
    benchmark::DoNotOptimize(f);
  }
}

void functions(benchmark::internal::Benchmark* b) {
  b->ArgName("functions")->RangeMultiplier(2)->Range(8, most);
}

BENCHMARK(loop_alone)->Apply(functions);
BENCHMARK_CAPTURE(by_routing_id, fixed, false)->Apply(functions);
BENCHMARK_CAPTURE(by_routing_id, random, true)->Apply(functions);
BENCHMARK_CAPTURE(by_address, fixed, false)->Apply(functions);
BENCHMARK_CAPTURE(by_address, random, true)->Apply(functions);
BENCHMARK_CAPTURE(write_down, fixed, false)->Apply(functions);
BENCHMARK_CAPTURE(write_down, random, true)->Apply(functions);
BENCHMARK_CAPTURE(write_up, fixed, false)->Apply(functions);
BENCHMARK_CAPTURE(write_up, random, true)->Apply(functions);
BENCHMARK_CAPTURE(read_up_and_answer, fixed, false)->Apply(functions);
BENCHMARK_CAPTURE(read_up_and_answer, random, true)->Apply(functions);
BENCHMARK(schedule)->Apply(functions);

}  // namespace
