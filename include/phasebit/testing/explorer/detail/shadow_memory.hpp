// SPDX-License-Identifier: BSL-1.0
// The state of each byte that threads share: whether it was ever written, and its last accesses, so
// that two accesses without an order between them are found.
#pragma once

#include <phasebit/testing/explorer/detail/graph.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace phasebit::testing::explorer::detail {

enum class access_kind : std::uint8_t { plain_read, plain_write, atomic_read, atomic_write };

[[nodiscard]] constexpr bool is_write(access_kind kind) noexcept {
  return kind == access_kind::plain_write || kind == access_kind::atomic_write;
}
[[nodiscard]] constexpr bool is_plain(access_kind kind) noexcept {
  return kind == access_kind::plain_read || kind == access_kind::plain_write;
}

// The error of an access.
struct conflict {
  bool found = false;
  bool uninitialised = false;
  std::uint32_t offset = 0;
  int other_thread = -1;
  access_kind other = access_kind::plain_write;
};

// Accesses are numbered by their thread's events: one that comes before event n + 1 has epoch n + 1,
// and an event's clock covers it where that is at least as large.
class shadow_memory {
 public:
  void reset(std::size_t bytes) { cells_.assign(bytes, cell{}); }

  void forget(std::size_t bytes) { std::fill_n(cells_.begin(), bytes, cell{}); }

  void initialise(std::uint32_t offset, std::size_t bytes) noexcept {
    for (std::size_t i = 0; i != bytes; ++i) cells_[offset + i].initialised = true;
  }
  [[nodiscard]] bool initialised(std::uint32_t offset) const noexcept {
    return cells_[offset].initialised;
  }

  // Records the access of `thread` and returns the earlier access that it races with, if any. Two
  // atomic accesses do not race, nor do two reads.
  [[nodiscard]] conflict access(std::uint32_t offset, std::size_t bytes, access_kind kind,
                                int thread, std::uint16_t epoch, const reach& seen) noexcept {
    conflict first;
    for (std::size_t i = 0; i != bytes; ++i) {
      cell& c = cells_[offset + i];
      if (!first.found) check(c, static_cast<std::uint32_t>(offset + i), kind, thread, seen, first);
      c.epochs[static_cast<std::size_t>(kind)][static_cast<std::size_t>(thread)] = epoch;
      if (is_write(kind)) c.initialised = true;
    }
    return first;
  }

 private:
  struct cell {
    std::uint16_t epochs[4][max_threads] = {};
    bool initialised = false;
  };

  static void check(const cell& c, std::uint32_t offset, access_kind kind, int thread,
                    const reach& seen, conflict& out) noexcept {
    for (std::size_t k = 0; k != 4; ++k) {
      const auto other = static_cast<access_kind>(k);
      if (!is_write(kind) && !is_write(other)) continue;
      if (!is_plain(kind) && !is_plain(other)) continue;
      for (int t = 0; t != max_threads; ++t) {
        if (t == thread) continue;
        const auto column = static_cast<std::size_t>(t);
        const std::uint16_t covered = is_write(other) ? seen.writes[column] : seen.reads[column];
        if (c.epochs[k][column] > covered) {
          out = {true, false, offset, t, other};
          return;
        }
      }
    }
    if (!is_write(kind) && !c.initialised) out = {true, true, offset, -1, kind};
  }

  std::vector<cell> cells_;
};

}  // namespace phasebit::testing::explorer::detail
