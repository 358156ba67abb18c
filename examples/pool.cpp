// SPDX-License-Identifier: BSL-1.0
// Hosts share one simulated SR-IOV NVMe device through a pooling switch. Each host runs the library's NVMe
// driver; every block that is read is checked. Prints a table of roots and functions with their throughput in
// the simulation's virtual time. A function is moved to another host while both run, by a script or by a key.
// Usage: pool [--rows N] [--move VF:ROOT ...]        a move after each row, in this order
//        pool --keys                                 type "VF ROOT" and Enter to move, "q" to end
#include "support/pool_hosts.hpp"
#include "support/run_main.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

using namespace phasebit;
using namespace example;

namespace {

struct wish {
  std::uint16_t vf = 0;
  std::uint16_t root = 0;
};

// "2:1" or "2 1".
std::optional<wish> parse(const std::string& text) {
  wish w;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, w.vf);
  if (first.ec != std::errc{} || first.ptr == end) return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, w.root);
  if (second.ec != std::errc{} || second.ptr != end) return std::nullopt;
  if (w.vf >= pool_sizes::functions || w.root >= pool_sizes::roots) return std::nullopt;
  return w;
}

// A line from the terminal, if one is there.
std::optional<std::string> typed_line() {
  pollfd in{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  if (::poll(&in, 1, 200) <= 0) return std::nullopt;
  std::string line;
  for (char c = 0; ::read(STDIN_FILENO, &c, 1) == 1;) {
    if (c == '\n') return line;
    line += c;
  }
  return "q";  // the terminal is closed
}

void print_row(pool_machine& m, double seconds) {
  fmt::print("{:>7.3f} s |", static_cast<double>(m.pool->now_ns()) * 1e-9);
  for (std::uint16_t r = 0; r != pool_sizes::roots; ++r) {
    std::string cell;
    for (pooled_drive& d : m.drives) {
      if (d.root != r) continue;
      cell += fmt::format(" VF{} {:.0f} MB/s", d.vf,
                          static_cast<double>(std::exchange(d.bytes, 0)) / seconds * 1e-6);
    }
    fmt::print(" {:<32} |", cell);
  }
  fmt::print("\n");
  std::fflush(stdout);
}

result<> run(std::uint64_t rows, const std::vector<wish>& moves, bool keys) {
  pool_machine m;
  if (auto r = m.start(); !r) return r;
  fmt::print(
      "Simulated: {} roots, {} functions of one device of {:.1f} GB/s, in virtual time.\n          "
      "|",
      pool_sizes::roots, pool_sizes::functions,
      static_cast<double>(pool_sizes::bytes_per_second) * 1e-9);
  for (std::uint16_t r = 0; r != pool_sizes::roots; ++r) fmt::print(" root {:<27} |", r);
  fmt::print("\n");
  std::size_t next = 0;
  const auto move = [&](wish w) -> result<> {
    fmt::print("          move VF{} to root {}: ", w.vf, w.root);
    const auto ended = m.move(w.vf, w.root);
    if (!ended) return ended.error();
    fmt::print("{} commands in flight ended with an error\n", *ended);
    return {};
  };
  for (std::uint64_t row = 0; keys || row != rows; ++row) {
    constexpr std::uint64_t window_ns = 10'000'000;
    if (auto r = m.work(window_ns); !r) return r;
    print_row(m, static_cast<double>(window_ns) * 1e-9);
    if (keys) {
      const auto line = typed_line();
      if (!line) continue;
      if (*line == "q") break;
      if (const auto w = parse(*line)) {
        if (auto r = move(*w); !r) return r;
      } else {
        fmt::print("          type a function, a space, a root: 0 {}, for example; or q\n",
                   pool_sizes::roots - 1);
      }
    } else if (next != moves.size()) {
      if (auto r = move(moves[next++]); !r) return r;
    }
  }
  fmt::print(
      "{} blocks of 4 KiB read and checked, {} written, {} commands ended with an error in moves\n",
      m.checked, m.written, m.with_error);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t rows = 8;
  std::vector<std::string> texts;
  bool keys = false;
  CLI::App app{"Pools one simulated SR-IOV NVMe device among hosts.", "pool"};
  app.add_option("--rows", rows, "Rows of the table, 10 ms of virtual time each");
  app.add_option("--move", texts, "VF:ROOT, a move after each row");
  app.add_flag("--keys", keys, "Move what is typed: VF, a space, ROOT; q ends");
  return run_main(app, argc, argv, [&]() -> result<> {
    std::vector<wish> moves;
    for (const std::string& t : texts) {
      const auto w = parse(t);
      if (!w) return failure(errc::invalid_argument, "is no move: VF:ROOT, as 0:2").of(t.c_str());
      moves.push_back(*w);
    }
    return run(rows, moves, keys);
  });
}
