// SPDX-License-Identifier: BSL-1.0
// The search against independent ways to find all executions of small random programs: enumeration of
// every graph, a machine with store buffers, and plain interleaving.
#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/word.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit::testing::explorer;

namespace {

enum class op : unsigned { load, store, exchange, barrier, choice };

struct instruction {
  op what = op::load;
  unsigned word = 0;
  strength order = strength::relaxed;
  barrier fence = barrier::full;
  unsigned value = 0;  // stores: unlike all others
};
using program_text = std::vector<std::vector<instruction>>;

// Values that were read, thread by thread, and the last value of each word.
using result = std::vector<unsigned>;

program_text random_program(std::mt19937& random, bool sequential_only, bool machine) {
  auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  program_text text(2 + below(2));
  unsigned value = 0;
  for (auto& thread : text) {
    const unsigned length = text.size() == 2 ? 2 + below(3) : 1 + below(3);
    for (unsigned i = 0; i != length; ++i) {
      instruction next;
      const unsigned kind = below(12);
      next.what = kind < 4    ? op::load
                  : kind < 8  ? op::store
                  : kind < 9  ? op::exchange
                  : kind < 11 ? op::barrier
                              : op::choice;
      if (sequential_only && next.what == op::barrier) next.what = op::load;
      next.word = below(2);
      static constexpr strength loads[] = {strength::relaxed, strength::acquire,
                                           strength::sequential};
      static constexpr strength stores[] = {strength::relaxed, strength::release,
                                            strength::sequential};
      const unsigned strongest = machine ? 2 : 3;
      const unsigned which = sequential_only ? 2 : below(strongest);
      next.order = next.what == op::load ? loads[which] : stores[which];
      if (next.what == op::exchange && which == 1) next.order = strength::acquire_release;
      static constexpr barrier barriers[] = {barrier::full, barrier::acquire, barrier::release,
                                             barrier::stores};
      next.fence = barriers[below(4)];
      next.value = ++value;
      thread.push_back(next);
    }
  }
  return text;
}

struct shared_words {
  std::array<word<unsigned>, 2> words;
};

std::pair<report, std::multiset<result>> explored(memory_model model, const program_text& text) {
  std::multiset<result> results;
  std::vector<result> read(text.size());
  report r = explore({.model = model}, [&](program& p) {
    auto& shared = p.make<shared_words>();
    for (std::size_t t = 0; t != text.size(); ++t) {
      read[t].clear();
      p.thread("thread", [&, t] {
        // Without the heap: a thread may be left in the middle.
        for (const instruction& i : text[t]) {
          auto& w = shared.words[i.word];
          switch (i.what) {
            case op::load:
              read[t].push_back(w.load(i.order));
              break;
            case op::store:
              w.store(i.value, i.order);
              break;
            case op::exchange:
              read[t].push_back(w.exchange(i.value, i.order));
              break;
            case op::barrier:
              fence(i.fence);
              break;
            case op::choice:
              read[t].push_back(choose(2));
              break;
          }
        }
      });
    }
    p.finally([&] {
      result all;
      for (const result& part : read) all.insert(all.end(), part.begin(), part.end());
      for (const auto& w : shared.words) all.push_back(w.load());
      results.insert(all);
    });
  });
  return {std::move(r), std::move(results)};
}

// Every graph: each way to choose a store for each load and an order for each word's stores.
class enumeration {
 public:
  enumeration(memory_model model, const program_text& text)
      : model_(model), propagate_(model), consistent_(model) {
    for (std::size_t t = 0; t != text.size(); ++t) {
      for (const instruction& i : text[t]) add(static_cast<int>(t), i);
    }
    choose_source(0);
  }
  [[nodiscard]] const std::multiset<result>& results() const noexcept { return results_; }

 private:
  using event = detail::event;
  using kind = detail::event_kind;

  void add(int thread, const instruction& i) {
    event e;
    e.thread = static_cast<std::uint8_t>(thread);
    e.order = i.order;
    e.location = static_cast<int>(i.word);
    e.bytes = 4;
    if (i.what == op::choice || i.what == op::barrier) e.location = -1;
    switch (i.what) {
      case op::load:
        e.kind = kind::load;
        break;
      case op::store:
        e.kind = kind::store;
        break;
      case op::barrier:
        e.kind = kind::fence;
        e.fence = effective(model_, i.fence);
        if (e.fence == barrier::none) return;
        break;
      case op::choice:
        e.kind = kind::choice;
        break;
      case op::exchange:
        e.kind = kind::load;
        e.exclusive = true;
        if (i.order == strength::acquire_release) e.order = strength::acquire;
        push(e);
        e.kind = kind::store;
        if (i.order == strength::acquire_release) e.order = strength::release;
        break;
    }
    e.value = i.value;
    push(e);
  }
  void push(event e) {
    const auto before = std::count_if(events_.begin(), events_.end(),
                                      [&](const event& other) { return other.thread == e.thread; });
    e.index = static_cast<std::uint16_t>(before + 1);
    events_.push_back(e);
  }

  void choose_source(std::size_t at) {
    while (at < events_.size() && events_[at].kind != kind::load &&
           events_[at].kind != kind::choice) {
      ++at;
    }
    if (at == events_.size()) return order_stores();
    event& e = events_[at];
    if (e.kind == kind::choice) {
      for (unsigned v = 0; v != 2; ++v) {
        e.value = v;
        choose_source(at + 1);
      }
      return;
    }
    for (int s = detail::initial; s != static_cast<int>(events_.size()); ++s) {
      if (s != detail::initial) {
        const event& store = events_[static_cast<std::size_t>(s)];
        if (store.kind != kind::store || store.location != e.location) continue;
      }
      e.reads_from = s;
      choose_source(at + 1);
    }
  }

  void order_stores() {
    detail::execution_graph graph;
    for (std::uint32_t w = 0; w != 2; ++w) graph.locations.push_back({w * 4, 4, 0, {}});
    std::vector<int> place(events_.size(), -2);
    bool grown = true;
    while (grown) {
      grown = false;
      for (std::size_t i = 0; i != events_.size(); ++i) {
        event e = events_[i];
        if (place[i] != -2 || graph.program(e.thread).size() + 1 != e.index) continue;
        if (e.kind == kind::load) {
          if (e.reads_from != detail::initial) {
            e.reads_from = place[static_cast<std::size_t>(e.reads_from)];
            if (e.reads_from == -2) continue;
          }
          e.value = e.reads_from == detail::initial ? 0 : graph.at(e.reads_from).value;
        }
        propagate_(graph, e);
        place[i] = graph.add(e);
        grown = true;
      }
    }
    if (graph.events.size() != events_.size()) return;  // program order and reads-from have a cycle
    std::array<std::vector<int>, 2> stores;
    for (int id = 0; id != graph.size(); ++id) {
      if (graph.at(id).kind == kind::store) {
        stores[static_cast<std::size_t>(graph.at(id).location)].push_back(id);
      }
    }
    do {
      do {
        graph.locations[0].stores = stores[0];
        graph.locations[1].stores = stores[1];
        if (consistent_(graph)) record(graph);
      } while (std::next_permutation(stores[1].begin(), stores[1].end()));
    } while (std::next_permutation(stores[0].begin(), stores[0].end()));
  }
  void record(const detail::execution_graph& graph) {
    result all;
    for (int t = 0; t != detail::max_threads; ++t) {
      for (const int id : graph.program(t)) {
        const event& e = graph.at(id);
        if (e.kind == kind::load || e.kind == kind::choice) {
          all.push_back(static_cast<unsigned>(e.value));
        }
      }
    }
    for (const detail::location& l : graph.locations) {
      all.push_back(l.stores.empty() ? 0 : static_cast<unsigned>(graph.at(l.stores.back()).value));
    }
    results_.insert(all);
  }

  memory_model model_;
  detail::propagation propagate_;
  detail::consistency consistent_;
  std::vector<event> events_;
  std::multiset<result> results_;
};

// A machine that executes programs: each thread has a queue of stores that are not visible yet.
// With a capacity of 0, all threads read each store at once.
class machine {
 public:
  machine(const program_text& text, bool buffered) : text_(text), buffered_(buffered) {
    state begin;
    begin.next.resize(text.size());
    begin.read.resize(text.size());
    begin.buffer.resize(text.size());
    visit(begin);
  }
  [[nodiscard]] const std::set<result>& results() const noexcept { return results_; }

 private:
  struct state {
    std::vector<std::size_t> next;
    std::vector<result> read;
    std::vector<std::deque<std::pair<unsigned, unsigned>>> buffer;
    std::array<unsigned, 2> memory{};
    auto operator<=>(const state&) const = default;
  };

  void visit(const state& s) {
    if (!seen_.insert(s).second) return;
    bool ended = true;
    for (std::size_t t = 0; t != text_.size(); ++t) {
      if (!s.buffer[t].empty()) {
        ended = false;
        state after = s;
        const auto [word, value] = after.buffer[t].front();
        after.buffer[t].pop_front();
        after.memory[word] = value;
        visit(after);
      }
      if (s.next[t] == text_[t].size()) continue;
      ended = false;
      step(s, t, text_[t][s.next[t]]);
    }
    if (!ended) return;
    result all;
    for (const result& part : s.read) all.insert(all.end(), part.begin(), part.end());
    all.insert(all.end(), s.memory.begin(), s.memory.end());
    results_.insert(all);
  }
  void step(const state& s, std::size_t t, const instruction& i) {
    state after = s;
    ++after.next[t];
    const bool drained = s.buffer[t].empty();
    switch (i.what) {
      case op::choice:
        for (unsigned v = 0; v != 2; ++v) {
          state chosen = after;
          chosen.read[t].push_back(v);
          visit(chosen);
        }
        return;
      case op::barrier:
        if (i.fence == barrier::full && !drained) return;
        break;
      case op::load: {
        unsigned value = s.memory[i.word];
        for (const auto& [word, stored] : s.buffer[t]) {
          if (word == i.word) value = stored;
        }
        after.read[t].push_back(value);
        break;
      }
      case op::store:
        if (buffered_) {
          after.buffer[t].emplace_back(i.word, i.value);
        } else {
          after.memory[i.word] = i.value;
        }
        break;
      case op::exchange:
        if (!drained) return;
        after.read[t].push_back(s.memory[i.word]);
        after.memory[i.word] = i.value;
        break;
    }
    visit(after);
  }

  const program_text& text_;
  bool buffered_;
  std::set<state> seen_;
  std::set<result> results_;
};

std::set<result> distinct(const std::multiset<result>& all) { return {all.begin(), all.end()}; }

}  // namespace

TEST_CASE("every consistent graph is visited exactly once") {
  for (const memory_model model : {memory_model::cpp20, memory_model::x86, memory_model::arm}) {
    std::mt19937 random{1};
    std::uint64_t executions = 0;
    for (int i = 0; i != 150; ++i) {
      const program_text text = random_program(random, false, model != memory_model::cpp20);
      const auto [r, results] = explored(model, text);
      INFO("program ", i, " under ", name_of(model));
      REQUIRE(r.passed());
      REQUIRE(results == enumeration{model, text}.results());
      executions += r.executions;
    }
    MESSAGE(name_of(model) << ": " << executions << " executions of 150 programs");
  }
}

TEST_CASE("x86 programs have the outcomes of a machine with store buffers") {
  std::mt19937 random{2};
  for (int i = 0; i != 300; ++i) {
    const program_text text = random_program(random, false, true);
    const auto [r, results] = explored(memory_model::x86, text);
    INFO("program ", i);
    REQUIRE(r.passed());
    REQUIRE(distinct(results) == machine{text, true}.results());
  }
}

TEST_CASE("sequentially consistent programs have the outcomes of their interleavings") {
  std::mt19937 random{3};
  for (int i = 0; i != 300; ++i) {
    const program_text text = random_program(random, true, false);
    const auto [r, results] = explored(memory_model::cpp20, text);
    INFO("program ", i);
    REQUIRE(r.passed());
    REQUIRE(distinct(results) == machine{text, false}.results());
  }
}

TEST_CASE("a processor shows nothing that C++ forbids, and x86 nothing that Arm forbids") {
  std::mt19937 random{4};
  for (int i = 0; i != 200; ++i) {
    const program_text text = random_program(random, false, true);
    const auto cpp20 = distinct(explored(memory_model::cpp20, text).second);
    const auto arm = distinct(explored(memory_model::arm, text).second);
    const auto riscv = distinct(explored(memory_model::riscv, text).second);
    const auto x86 = distinct(explored(memory_model::x86, text).second);
    INFO("program ", i);
    REQUIRE(std::includes(cpp20.begin(), cpp20.end(), arm.begin(), arm.end()));
    REQUIRE(std::includes(cpp20.begin(), cpp20.end(), riscv.begin(), riscv.end()));
    REQUIRE(std::includes(riscv.begin(), riscv.end(), arm.begin(), arm.end()));
    REQUIRE(std::includes(arm.begin(), arm.end(), x86.begin(), x86.end()));
  }
}
