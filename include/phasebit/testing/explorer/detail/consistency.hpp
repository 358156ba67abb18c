// SPDX-License-Identifier: BSL-1.0
// Whether a memory model allows an execution. Each model is a predicate over whole graphs; program
// order and reads-from together have no cycle, because the search makes no other graph.
#pragma once

#include <phasebit/testing/explorer/detail/graph.hpp>
#include <phasebit/testing/explorer/detail/relation.hpp>

#include <array>
#include <vector>

namespace phasebit::testing::explorer::detail {

class consistency {
 public:
  explicit consistency(memory_model model) noexcept : model_(model) {}

  [[nodiscard]] bool operator()(const execution_graph& graph) const {
    const places where{graph};
    if (!atomic(graph, where)) return false;
    switch (model_) {
      case memory_model::cpp20:
        return coherent(graph, where) && one_order(graph, where);
      case memory_model::x86:
        return per_location(graph, where) && globally_ordered(graph, where, preserved_by_x86);
      case memory_model::arm:
      case memory_model::riscv:
        return per_location(graph, where) && globally_ordered(graph, where, preserved_by_machine);
    }
    return false;
  }

 private:
  // The place of each store in its word's coherence order, and of each load's source.
  class places {
   public:
    explicit places(const execution_graph& graph) : place_(graph.events.size(), -1) {
      for (const location& l : graph.locations) {
        for (std::size_t i = 0; i != l.stores.size(); ++i) {
          place_[static_cast<std::size_t>(l.stores[i])] = static_cast<int>(i);
        }
      }
      for (int id = 0; id != graph.size(); ++id) {
        const event& e = graph.at(id);
        if (e.kind == event_kind::load && e.reads_from != initial) {
          place_[static_cast<std::size_t>(id)] = place_[static_cast<std::size_t>(e.reads_from)];
        }
      }
    }
    [[nodiscard]] int operator()(int id) const noexcept {
      return place_[static_cast<std::size_t>(id)];
    }

   private:
    std::vector<int> place_;
  };

  [[nodiscard]] static bool accesses(const event& e) noexcept {
    return e.kind == event_kind::load || e.kind == event_kind::store;
  }
  // Coherence-ordered before [atomics.order]/3 for accesses of one word.
  [[nodiscard]] static bool coherence_before(const execution_graph& graph, const places& where,
                                             int a, int b) noexcept {
    if (graph.at(a).location != graph.at(b).location) return false;
    if (where(a) != where(b)) return where(a) < where(b);
    return graph.at(a).kind == event_kind::store && graph.at(b).kind == event_kind::load;
  }

  // A read-modify-write stores right behind the store that it has read from.
  [[nodiscard]] static bool atomic(const execution_graph& graph, const places& where) noexcept {
    for (int id = 0; id != graph.size(); ++id) {
      const event& e = graph.at(id);
      if (e.kind != event_kind::store || !e.exclusive) continue;
      const int replaced = graph.replaced_by(e);
      if (where(id) != (replaced == initial ? -1 : where(replaced)) + 1) return false;
    }
    return true;
  }

  // C++: no access happened before one that is coherence-ordered before it.
  [[nodiscard]] static bool coherent(const execution_graph& graph, const places& where) noexcept {
    for (int a = 0; a != graph.size(); ++a) {
      const event& first = graph.at(a);
      if (!accesses(first)) continue;
      for (int b = 0; b != graph.size(); ++b) {
        const event& second = graph.at(b);
        if (a == b || second.location != first.location || !accesses(second)) continue;
        if (happened_before(first, second) && coherence_before(graph, where, b, a)) return false;
      }
    }
    return true;
  }
  [[nodiscard]] static bool happened_before(const event& a, const event& b) noexcept {
    if (a.thread == b.thread) return a.index < b.index;
    return execution_graph::ordered(a, b.after.seen.reads);
  }

  // C++ [atomics.order]/4: the single total order S of sequentially consistent operations.
  [[nodiscard]] static bool one_order(const execution_graph& graph, const places& where) {
    std::vector<int> nodes;
    for (int id = 0; id != graph.size(); ++id) {
      if (is_sequential(graph.at(id))) nodes.push_back(id);
    }
    if (nodes.size() < 2) return true;
    relation order{graph.size()};
    for (const int a : nodes) {
      for (const int b : nodes) {
        if (a != b && strongly_before(graph, graph.at(a), graph.at(b))) order.add(a, b);
      }
    }
    std::vector<int> sources;
    std::vector<int> targets;
    for (int a = 0; a != graph.size(); ++a) {
      if (!accesses(graph.at(a))) continue;
      sources.clear();
      for (const int x : nodes) {
        const bool before =
            graph.at(x).kind == event_kind::fence && happened_before(graph.at(x), graph.at(a));
        if (x == a || before) sources.push_back(x);
      }
      if (sources.empty()) continue;
      for (int b = 0; b != graph.size(); ++b) {
        if (!accesses(graph.at(b)) || a == b || !coherence_before(graph, where, a, b)) continue;
        targets.clear();
        for (const int y : nodes) {
          const bool after =
              graph.at(y).kind == event_kind::fence && happened_before(graph.at(b), graph.at(y));
          if (y == b || after) targets.push_back(y);
        }
        for (const int x : sources) {
          for (const int y : targets) order.add(x, y);
        }
      }
    }
    return order.acyclic();
  }
  [[nodiscard]] static bool is_sequential(const event& e) noexcept {
    return e.kind == event_kind::fence ? e.fence == barrier::full
                                       : accesses(e) && e.order == strength::sequential;
  }
  // Strongly happens before, for two sequentially consistent operations: program order at both ends.
  [[nodiscard]] static bool strongly_before(const execution_graph& graph, const event& a,
                                            const event& b) noexcept {
    if (a.thread == b.thread) return a.index < b.index;
    const event* last = b.kind == event_kind::fence ? &b : graph.before(b);
    if (last == nullptr) return false;
    const int first = a.kind == event_kind::fence ? a.index : a.index + 1;
    return last->after.seen.reads[a.thread] >= first;
  }

  // Hardware: each word by itself is sequentially consistent.
  [[nodiscard]] static bool per_location(const execution_graph& graph,
                                         const places& where) noexcept {
    for (int t = 0; t != max_threads; ++t) {
      const auto& program = graph.program(t);
      for (std::size_t i = 0; i != program.size(); ++i) {
        if (!accesses(graph.at(program[i]))) continue;
        for (std::size_t j = i + 1; j != program.size(); ++j) {
          if (accesses(graph.at(program[j])) &&
              coherence_before(graph, where, program[j], program[i])) {
            return false;
          }
        }
      }
    }
    return true;
  }

  // Hardware: what each thread keeps in order, and what one thread sees of another's accesses, are
  // one order for all (multi-copy atomicity).
  template <class Preserved>
  [[nodiscard]] static bool globally_ordered(const execution_graph& graph, const places& where,
                                             Preserved preserved) {
    relation order{graph.size()};
    for (int t = 0; t != max_threads; ++t) {
      const auto& program = graph.program(t);
      for (std::size_t i = 0; i != program.size(); ++i) {
        const event& first = graph.at(program[i]);
        if (!accesses(first)) continue;
        barriers between;
        for (std::size_t j = i + 1; j != program.size(); ++j) {
          const event& second = graph.at(program[j]);
          if (second.kind == event_kind::fence) between.add(second.fence);
          if (!accesses(second)) continue;
          const bool pair =
              first.exclusive && second.exclusive && j == i + 1 && first.kind == event_kind::load;
          if (pair || preserved(first, second, between)) order.add(program[i], program[j]);
          between.passed(second);
        }
      }
    }
    for (int a = 0; a != graph.size(); ++a) {
      if (!accesses(graph.at(a))) continue;
      for (int b = 0; b != graph.size(); ++b) {
        if (!accesses(graph.at(b)) || a == b || !coherence_before(graph, where, a, b)) continue;
        // A load sees a store of another thread when all do, one of its own thread before that.
        const bool to_store = graph.at(b).kind == event_kind::store;
        const bool read_from_other =
            graph.at(b).reads_from == a && graph.at(a).thread != graph.at(b).thread;
        if (to_store || read_from_other) order.add(a, b);
      }
    }
    return order.acyclic();
  }

  // The barriers between two accesses of one thread.
  struct barriers {
    bool acquire = false;
    bool release = false;
    bool stores = false;
    bool full = false;
    bool locked = false;  // x86: a read-modify-write is a full barrier

    void add(barrier kind) noexcept {
      acquire |= kind == barrier::acquire;
      release |= kind == barrier::release;
      stores |= kind == barrier::stores;
      full |= kind == barrier::full;
    }
    void passed(const event& e) noexcept { locked |= e.exclusive && e.kind == event_kind::store; }
  };
  [[nodiscard]] static bool preserved_by_x86(const event& first, const event& second,
                                             const barriers& between) noexcept {
    if (first.kind == event_kind::load || second.kind == event_kind::store) return true;
    return between.full || between.locked || first.exclusive || second.exclusive ||
           first.order == strength::sequential;  // a sequentially consistent store is xchg
  }
  [[nodiscard]] static bool preserved_by_machine(const event& first, const event& second,
                                                 const barriers& between) noexcept {
    const bool reads = first.kind == event_kind::load;
    const bool writes = second.kind == event_kind::store;
    if (between.full) return true;
    if (between.acquire && reads) return true;
    if (between.release && writes) return true;
    if (between.stores && !reads && writes) return true;
    if (reads && acquires(first.order)) return true;
    if (writes && releases(second.order)) return true;
    return first.order == strength::sequential && second.order == strength::sequential;
  }

  memory_model model_;
};

}  // namespace phasebit::testing::explorer::detail
