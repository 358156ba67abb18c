// SPDX-License-Identifier: BSL-1.0
// The search: which executions are visited, each of them once. The algorithm is TruSt (Kokologiannakis,
// Marmanis, Gladstein, Vafeiadis: "Truly Stateless, Optimal Dynamic Partial Order Reduction", POPL
// 2022): a load reads from any store that is there, a store takes any place in coherence order, and a
// new store is also read by earlier loads, for which what came after such a load is taken back.
#pragma once

#include <phasebit/testing/explorer/detail/consistency.hpp>
#include <phasebit/testing/explorer/detail/graph.hpp>
#include <phasebit/testing/explorer/detail/propagate.hpp>

#include <cstddef>
#include <utility>
#include <vector>

namespace phasebit::testing::explorer::detail {

class search {
 public:
  explicit search(memory_model model) noexcept
      : model_(model), propagate_(model), consistent_(model) {
    waiting_.emplace_back();
  }

  // The next graph to carry on from; false where all have been visited.
  [[nodiscard]] bool next(execution_graph& graph) {
    if (waiting_.empty()) return false;
    graph = std::move(waiting_.back());
    waiting_.pop_back();
    return true;
  }

  // Completes an event that is in the graph already.
  void derive(execution_graph& graph, int id) const { propagate_(graph, graph.at(id)); }

  // Each adds the event to the graph in one way, returns its index, and keeps the other ways for
  // later. A store may have no way (index -1): a read-modify-write of a value that another has
  // replaced.
  int add_fence(execution_graph& graph, event e) {
    propagate_(graph, e);
    return graph.add(e);
  }
  // The choice of 0 first.
  int add_choice(execution_graph& graph, event e, unsigned count) {
    propagate_(graph, e);
    for (unsigned i = count; i-- > 1;) {
      e.value = i;
      waiting_.push_back(graph);
      waiting_.back().add(e);
    }
    e.value = 0;
    return graph.add(e);
  }
  int add_load(execution_graph& graph, event e) {
    const location& word = graph.location_of(e);
    const int last = static_cast<int>(word.stores.size()) - 1;
    const int floor = lowest_place(graph, e);
    for (int place = floor; place < last; ++place) {
      event other =
          reading(graph, e, place < 0 ? initial : word.stores[static_cast<std::size_t>(place)]);
      execution_graph alternative = graph;
      alternative.add(other);
      if (consistent_(alternative)) waiting_.push_back(std::move(alternative));
    }
    return graph.add(reading(graph, e, last < 0 ? initial : word.stores.back()));
  }
  int add_store(execution_graph& graph, event e) {
    propagate_(graph, e);
    revisit(graph, e);
    const int end = static_cast<int>(graph.location_of(e).stores.size());
    if (e.exclusive) {
      const int replaced = graph.replaced_by(e);
      const int id = graph.add(e);
      graph.place(id, graph.place_of(replaced) + 1);
      return consistent_(graph) ? id : -1;
    }
    const int floor = lowest_place(graph, e);
    for (int position = floor + 1; position < end; ++position) {
      execution_graph alternative = graph;
      alternative.place(alternative.add(e), position);
      if (consistent_(alternative)) waiting_.push_back(std::move(alternative));
    }
    const int id = graph.add(e);
    graph.place(id, end);
    return id;
  }

 private:
  [[nodiscard]] event reading(const execution_graph& graph, event e, int source) const {
    e.reads_from = source;
    e.value = source == initial ? graph.location_of(e).initial_value : graph.at(source).value;
    if (e.conditional) decide(e);
    propagate_(graph, e);
    return e;
  }

  // No earlier store than the one at this place can be read or preceded by `e`: a bound that saves
  // the look at most graphs that are inconsistent.
  [[nodiscard]] int lowest_place(const execution_graph& graph, const event& e) const {
    const event* const before = graph.before(e);
    if (before == nullptr) return -1;
    int lowest = -1;
    for (int id = 0; id != graph.size(); ++id) {
      const event& other = graph.at(id);
      if (other.location != e.location) continue;
      if (other.kind != event_kind::load && other.kind != event_kind::store) continue;
      const bool known =
          other.thread == e.thread || (model_ == memory_model::cpp20 &&
                                       execution_graph::ordered(other, before->after.seen.reads));
      if (!known) continue;
      const int place = graph.place_of(other.kind == event_kind::load ? other.reads_from : id);
      lowest = std::max(lowest, place);
    }
    return lowest;
  }

  // Earlier loads read from the new store `a`, which is not in the graph yet.
  void revisit(const execution_graph& graph, const event& a) {
    for (int r = 0; r != graph.size(); ++r) {
      const event& load = graph.at(r);
      if (load.kind != event_kind::load || load.location != a.location) continue;
      if (execution_graph::in_past(load, a)) continue;
      if (!all_maximal(graph, r, a)) continue;
      std::vector<int> renamed;
      execution_graph kept = graph.restricted(
          [&](int id) { return id <= r || execution_graph::in_past(graph.at(id), a); }, renamed);
      const int read = renamed[static_cast<std::size_t>(r)];
      event store = a;
      propagate_(kept, store);
      const int end = static_cast<int>(kept.location_of(store).stores.size());
      const int replaced = store.exclusive ? kept.place_of(kept.replaced_by(store)) : -1;
      for (int position = store.exclusive ? replaced + 1 : 0; position <= end; ++position) {
        execution_graph alternative = kept;
        const int id = alternative.add(store);
        alternative.place(id, position);
        alternative.at(read) = reading(alternative, alternative.at(read), id);
        if (consistent_(alternative)) waiting_.push_back(std::move(alternative));
        if (store.exclusive) break;
      }
    }
  }

  // Whether what would be taken back was added as if the new store would never come: only then is it
  // this graph from which the load is to be revisited, so that no graph is visited twice.
  [[nodiscard]] static bool all_maximal(const execution_graph& graph, int r, const event& a) {
    for (int id = r; id != graph.size(); ++id) {
      if (id != r && execution_graph::in_past(graph.at(id), a)) continue;
      if (!maximal(graph, id, a)) return false;
    }
    return true;
  }
  [[nodiscard]] static bool maximal(const execution_graph& graph, int id, const event& a) {
    const event& e = graph.at(id);
    auto previous = [&](int other) {
      return other <= id || execution_graph::in_past(graph.at(other), a);
    };
    if (e.kind == event_kind::fence) return true;
    if (e.kind == event_kind::choice) return e.value == 0;
    int store = id;
    if (e.kind == event_kind::load) {
      store = e.reads_from;
      if (store != initial && !previous(store)) return false;
    } else {
      for (int r = 0; r != graph.size(); ++r) {
        if (graph.at(r).kind == event_kind::load && graph.at(r).reads_from == id && previous(r)) {
          return false;
        }
      }
    }
    const auto& stores = graph.location_of(e).stores;
    const auto place = static_cast<std::size_t>(graph.place_of(store)) + 1;
    for (std::size_t i = place; i < stores.size(); ++i) {
      if (previous(stores[i])) return false;
    }
    return true;
  }

  memory_model model_;
  propagation propagate_;
  consistency consistent_;
  std::vector<execution_graph> waiting_;
};

}  // namespace phasebit::testing::explorer::detail
