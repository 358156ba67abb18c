// SPDX-License-Identifier: BSL-1.0
// One NVMe drive shared by 1 to 252 virtual functions. Every function is driven by the library's NVMe driver in
// a host of its own memory; data is written, read back and compared; then all functions, and one among idle
// ones, are kept busy. Prints a table. The drive is simulated in this process: figures are those of software.
// Usage: mediated_nvme [--json FILE]      (draw it: bench/plot.py FILE mediated.svg)
#include "support/mediated_hosts.hpp"
#include "support/run_main.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

using namespace phasebit;
using namespace example;

namespace {

constexpr unsigned depth = 32;
constexpr std::uint32_t blocks = 8;  // 4 KiB

// Each function's data, distinct and checked.
result<> verify(mediated_host& h, std::uint16_t number) {
  auto out = allocate(h.function, 16'384);
  auto back = allocate(h.function, 16'384);
  if (!out) return out.error();
  if (!back) return back.error();
  std::mt19937 random{number};
  std::generate_n(out->data(), 16'384, [&] { return static_cast<std::byte>(random()); });
  unsigned good = 0;
  const auto done = [&](nvme::completion c) noexcept { good += c.ok(); };
  const nvme::block_range at{.lba = 8, .blocks = 32};
  if (auto r = h.queue->write(at, *out, done); !r) return r.as_error();
  h.queue->ring();
  if (auto r = nvme::wait(*h.queue, 1000); !r) return r.error();
  if (auto r = h.queue->read(at, *back, done); !r) return r.as_error();
  h.queue->ring();
  if (auto r = nvme::wait(*h.queue, 1000); !r) return r.error();
  if (good == 2 && std::equal(out->data(), out->data() + 16'384, back->data())) return {};
  return failure(errc::protocol, "a function read other data than it wrote", number);
}

struct measured {
  double ns_per_io = 0;
  double engine_ns_per_io = 0;
  double jain = 1;
};

// Keeps the queues of functions 0 to active - 1 full.
measured measure(mediated_machine& m, std::deque<mediated_host>& hosts, std::uint16_t active) {
  using clock = std::chrono::steady_clock;
  std::vector<dma_buffer<mediated_backend>> data;
  for (std::uint16_t f = 0; f != active; ++f) {
    auto made = allocate(hosts[f].function, 4096);
    if (!made) return {};
    data.push_back(std::move(*made));
  }
  std::vector<std::uint64_t> done(active);
  std::mt19937 random{1};
  std::uint64_t total = 0;
  clock::duration in_engine{};
  const auto poll = [&] {
    const auto begin = clock::now();
    m.engine->poll();
    in_engine += clock::now() - begin;
  };
  const std::uint64_t wanted = 20'000U + 500U * active;
  const auto begin = clock::now();
  while (total < wanted) {
    for (std::uint16_t f = 0; f != active; ++f) {
      auto& q = *hosts[f].queue;
      while (q.read({.lba = random() % 100 * 8, .blocks = blocks}, data[f],
                    [&n = done[f]](nvme::completion c) noexcept { n += c.ok(); })) {
      }
      q.ring();
    }
    poll();
    m.fabric.step();
    poll();
    for (std::uint16_t f = 0; f != active; ++f) total += hosts[f].queue->poll();
  }
  const double all = std::chrono::duration<double, std::nano>(clock::now() - begin).count();
  // Callbacks count into `done`: none may be in flight at the end.
  for (std::uint16_t f = 0; f != active; ++f) {
    while (hosts[f].queue->in_flight() != 0 && nvme::wait(*hosts[f].queue, 1000)) {
    }
  }
  double sum = 0;
  double squares = 0;
  for (const std::uint64_t n : done) {
    sum += static_cast<double>(n);
    squares += static_cast<double>(n) * static_cast<double>(n);
  }
  const auto ios = static_cast<double>(total);
  return {all / ios, std::chrono::duration<double, std::nano>(in_engine).count() / ios,
          sum * sum / (active * squares)};
}

nlohmann::json point(const char* line, int functions, double ns) {
  const std::string name = fmt::format("{}/functions:{}", line, functions);
  return {{"name", name},
          {"run_name", name},
          {"run_type", "iteration"},
          {"real_time", ns},
          {"time_unit", "ns"}};
}

result<> run(const std::string& file) {
  nlohmann::json points = nlohmann::json::array();
  fmt::print(
      "Simulated: one drive in this process, 4 KiB random reads, {} in flight for each function.\n"
      "An engine for {} functions takes {} bytes.\n\n"
      "{:>9} | {:>10} {:>10} {:>12} {:>8} | {:>14} {:>16}\n",
      depth - 1, mediated_machine::engine_type::functions, sizeof(mediated_machine::engine_type),
      "functions", "kIOPS", "ns per I/O", "in the engine", "Jain", "one active: ns",
      "in the engine");
  for (const int functions : {1, 2, 4, 8, 16, 32, 64, 128, 252}) {
    mediated_machine m;
    if (auto r = m.start(); !r) return r;
    std::deque<mediated_host> hosts;
    for (int f = 0; f != functions; ++f) {
      hosts.emplace_back(m, static_cast<std::uint16_t>(f));
      if (auto r = hosts.back().start(depth); !r) return r;
    }
    for (int f = 0; f != functions; ++f) {
      if (auto r = verify(hosts[static_cast<std::size_t>(f)], static_cast<std::uint16_t>(f)); !r) {
        return r;
      }
    }
    const measured all = measure(m, hosts, static_cast<std::uint16_t>(functions));
    const measured one = measure(m, hosts, 1);
    fmt::print("{:>9} | {:>10.0f} {:>10.1f} {:>12.1f} {:>8.4f} | {:>14.1f} {:>16.1f}\n", functions,
               1e6 / all.ns_per_io, all.ns_per_io, all.engine_ns_per_io, all.jain, one.ns_per_io,
               one.engine_ns_per_io);
    points.push_back(point("all_active", functions, all.ns_per_io));
    points.push_back(point("all_active_engine", functions, all.engine_ns_per_io));
    points.push_back(point("one_active", functions, one.ns_per_io));
    points.push_back(point("one_active_engine", functions, one.engine_ns_per_io));
  }
  if (file.empty()) return {};
  std::ofstream out{file};
  out << nlohmann::json{{"context", {{"simulated", true}}}, {"benchmarks", points}}.dump(2) << '\n';
  if (!out) return failure(errc::io, "the figures could not be written").of(file.c_str());
  fmt::print("\nwritten: {}\n", file);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  std::string file;
  CLI::App app{"Shares one simulated NVMe drive among 1 to 252 virtual functions.",
               "mediated_nvme"};
  app.add_option("--json", file, "Write the figures for bench/plot.py");
  return run_main(app, argc, argv, [&] { return run(file); });
}
