// SPDX-License-Identifier: BSL-1.0
// One execution as a graph: what each thread did in program order, which store each load reads from,
// and the order of the stores to each word.
#pragma once

#include <phasebit/testing/explorer/memory_model.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <source_location>
#include <utility>
#include <vector>

namespace phasebit::testing::explorer::detail {

inline constexpr int max_threads = 4;

// How many events of each thread are known, ordered or seen.
using vector_clock = std::array<std::uint16_t, max_threads>;

inline void join(vector_clock& into, const vector_clock& from) noexcept {
  for (std::size_t i = 0; i != into.size(); ++i) into[i] = std::max(into[i], from[i]);
}

// The order that later accesses of other threads may rely on, separately for reads and writes
// before: a barrier that orders stores only does not order loads.
struct reach {
  vector_clock reads{};
  vector_clock writes{};
};
inline void join(reach& into, const reach& from) noexcept {
  join(into.reads, from.reads);
  join(into.writes, from.writes);
}

// Of one thread after one of its events.
struct thread_view {
  reach seen;      // happened before the next access
  reach pending;   // what an acquire barrier would add to `seen`
  reach released;  // what a relaxed store publishes
};

enum class event_kind : std::uint8_t { load, store, fence, choice };

inline constexpr int initial = -1;  // the value that a word had before the threads started

struct event {
  event_kind kind = event_kind::fence;
  strength order = strength::relaxed;
  strength success = strength::relaxed;  // of a compare-exchange that is carried out
  strength failure = strength::relaxed;  // of a compare-exchange that is not carried out
  barrier fence = barrier::none;
  std::uint8_t thread = 0;
  std::uint8_t bytes = 0;
  bool exclusive = false;    // both halves of a read-modify-write that was carried out
  bool blank = false;        // read from a token, not done yet
  bool conditional = false;  // a compare-exchange: carried out where `expected` is read
  std::uint16_t index = 0;   // in program order, from 1
  int location = -1;         // index into execution_graph::locations
  int reads_from = initial;  // loads: a store's index, or initial
  std::uint64_t value = 0;   // read, stored or chosen
  std::uint64_t expected = 0;
  std::source_location where;
  // Derived when the event is added.
  vector_clock past{};  // program order and reads-from, this event included
  thread_view after;
  reach message;  // stores: what an acquiring reader sees
};

// Whether a compare-exchange that has read its value is carried out, and its load's order then.
inline void decide(event& e) noexcept {
  e.exclusive = e.value == e.expected;
  e.order = e.exclusive ? e.success : e.failure;
}

struct location {
  std::uint32_t offset = 0;
  std::uint8_t bytes = 0;
  std::uint64_t initial_value = 0;
  std::vector<int> stores;  // in coherence order
};

// Indices of events are the order in which they were added.
class execution_graph {
 public:
  std::vector<event> events;
  std::array<std::vector<int>, max_threads> threads;
  std::vector<location> locations;

  [[nodiscard]] const event& at(int id) const noexcept {
    return events[static_cast<std::size_t>(id)];
  }
  [[nodiscard]] event& at(int id) noexcept { return events[static_cast<std::size_t>(id)]; }
  [[nodiscard]] int size() const noexcept { return static_cast<int>(events.size()); }
  [[nodiscard]] const location& location_of(const event& e) const noexcept {
    return locations[static_cast<std::size_t>(e.location)];
  }
  [[nodiscard]] location& location_of(const event& e) noexcept {
    return locations[static_cast<std::size_t>(e.location)];
  }
  [[nodiscard]] const std::vector<int>& program(int thread) const noexcept {
    return threads[static_cast<std::size_t>(thread)];
  }

  // Place in coherence order; the initial value is at -1.
  [[nodiscard]] int place_of(int store) const noexcept {
    if (store == initial) return -1;
    const auto& stores = location_of(at(store)).stores;
    return static_cast<int>(std::find(stores.begin(), stores.end(), store) - stores.begin());
  }
  // Whether `e` comes before `a` in program order and reads-from, or is `a`.
  [[nodiscard]] static bool in_past(const event& e, const event& a) noexcept {
    return a.past[e.thread] >= e.index;
  }
  // Whether `e` happened before the event whose clock this is.
  [[nodiscard]] static bool ordered(const event& e, const vector_clock& clock) noexcept {
    return clock[e.thread] >= e.index;
  }
  // The thread's event before this one, or nullptr.
  [[nodiscard]] const event* before(const event& e) const noexcept {
    if (e.index == 1) return nullptr;
    return &at(program(e.thread)[static_cast<std::size_t>(e.index - 2)]);
  }
  // For a write of a read-modify-write: the store that its read has read from.
  [[nodiscard]] int replaced_by(const event& write) const noexcept {
    return before(write)->reads_from;
  }

  // Adds an event whose derived members are there; a store's place is set apart.
  int add(const event& e) {
    const int id = size();
    events.push_back(e);
    threads[e.thread].push_back(id);
    return id;
  }
  void place(int store, int position) {
    auto& stores = location_of(at(store)).stores;
    stores.insert(stores.begin() + position, store);
  }

  // The graph without the events for which `keep` is false; they are the last of their threads.
  template <class Keep>
  [[nodiscard]] execution_graph restricted(Keep keep, std::vector<int>& renamed) const {
    execution_graph out;
    renamed.assign(events.size(), -2);
    out.events.reserve(events.size() + 1);
    for (int id = 0; id != size(); ++id) {
      if (!keep(id)) continue;
      renamed[static_cast<std::size_t>(id)] = out.add(at(id));
    }
    auto rename = [&](int id) {
      return id == initial ? initial : renamed[static_cast<std::size_t>(id)];
    };
    for (event& e : out.events) e.reads_from = rename(e.reads_from);
    out.locations.reserve(locations.size());
    for (const location& from : locations) {
      location to{from.offset, from.bytes, from.initial_value, {}};
      for (const int id : from.stores) {
        if (rename(id) >= 0) to.stores.push_back(rename(id));
      }
      out.locations.push_back(std::move(to));
    }
    return out;
  }
};

}  // namespace phasebit::testing::explorer::detail
