// SPDX-License-Identifier: BSL-1.0
// Runs the threads of an explored program along one execution after another.
#pragma once

#include <phasebit/testing/explorer/detail/arena.hpp>
#include <phasebit/testing/explorer/detail/call_sites.hpp>
#include <phasebit/testing/explorer/detail/fiber.hpp>
#include <phasebit/testing/explorer/detail/recorder.hpp>
#include <phasebit/testing/explorer/detail/search.hpp>
#include <phasebit/testing/explorer/detail/shadow_memory.hpp>
#include <phasebit/testing/explorer/detail/token.hpp>
#include <phasebit/testing/explorer/report.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phasebit::testing::explorer::detail {

class engine {
 public:
  explicit engine(const options& wanted)
      : options_(wanted), arena_(wanted.arena_bytes), search_(wanted.model), sites_(wanted.faults) {
    shadow_.reset(arena_.capacity());
  }

  template <class Setup>
  report run(Setup setup) {
    engine* const outer = std::exchange(current_, this);
    const observed_bytes observed_before = observed;
    arena_.observe();
    auto once = [&](execution_graph graph, bool recording) {
      begin(std::move(graph), recording);
      setup();
      execute();
    };
    execution_graph graph;
    const bool replaying = !options_.replay.empty();
    report_.complete = true;
    if (replaying && !token::read(options_.replay, graph)) {
      truncate("options::replay is no token of a failure");
      graph = {};
    }
    bool more = replaying ? report_.complete : search_.next(graph);
    while (more) {
      once(std::move(graph), replaying);
      if (end_ == ending::failed) {
        report_.complete = false;
        if (!replaying) {
          execution_graph failing = graph_;
          once(std::move(failing), true);
        }
        if (!report_.failure) report_.failure.emplace();
        report_.failure->trace = recorder_.take();
        report_.failure->token = token::write(graph_);
        break;
      }
      if (end_ == ending::finished) ++report_.executions;
      if (end_ == ending::discarded) ++report_.discarded;
      if (replaying) break;
      more = search_.next(graph);
      if (more && report_.executions + report_.discarded >= options_.most_executions) {
        truncate("the bound on executions was reached");
        break;
      }
    }
    leave_program();
    current_ = outer;
    observed = observed_before;
    report_.sites = sites_.take();
    return std::move(report_);
  }

  [[nodiscard]] static engine* current() noexcept { return current_; }
  // The engine while one of its threads runs, else nullptr.
  [[nodiscard]] static engine* running() noexcept {
    return current_ != nullptr && current_->thread_ >= 0 ? current_ : nullptr;
  }

  // Setup.
  [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment, bool initialised) {
    void* const p = arena_.allocate(bytes, alignment);
    if (initialised) shadow_.initialise(arena_.offset_of(p), bytes);
    return p;
  }
  void at_end(std::function<void()> destroy) { destroyers_.push_back(std::move(destroy)); }
  void add_thread(const char* name, bool service, std::function<void()> body) {
    const std::size_t index = count_;
    if (index == max_threads) {
      fail(failure_kind::misuse, "an explored program has at most 4 threads");
      return;
    }
    ++count_;
    thread& t = threads_[index];
    t.name = name;
    t.service = service;
    t.body = std::move(body);
    if (!t.stack) t.stack = std::make_unique<fiber>(&engine::thread_main, this);
  }
  void finally(std::function<void()> check) { finally_ = std::move(check); }
  void name(const void* p, std::size_t bytes, std::string text, describe_value describe) {
    if (!recording_ || !arena_.contains(p)) return;
    recorder_.names.add({arena_.offset_of(p), static_cast<std::uint32_t>(bytes), std::move(text),
                         std::move(describe)});
  }
  [[nodiscard]] bool recording() const noexcept { return recording_; }
  [[nodiscard]] memory_model model() const noexcept { return options_.model; }

  // Words that threads share, as numbers.
  [[nodiscard]] std::uint64_t load(const void* p, std::size_t bytes, request r) {
    const mutation* const fault = sites_.fault_at(r);
    if (fault != nullptr && fault->how == mutation::effect::stale) return last_known(p, bytes);
    if (fault != nullptr) r.order = strength::relaxed;
    event e = fresh(event_kind::load, r.where);
    e.order = r.order;
    return load_event(p, bytes, e);
  }
  // Behind a barrier, or of a strength of its own.
  void store(void* p, std::size_t bytes, std::uint64_t value, barrier before, request r) {
    if (const mutation* const fault = sites_.fault_at(r)) {
      if (fault->how == mutation::effect::lost) return;
      r.order = strength::relaxed;
      before = fault->how == mutation::effect::stores_only ? barrier::stores : barrier::none;
    }
    fence_event(before, r.where);
    store_event(p, bytes, value, r, false);
  }
  // `change` gives the new value for the old one; with `expected`, only where that is there, and
  // else the load has the strength `failure`.
  template <class Change>
  std::uint64_t exchange(void* p, std::size_t bytes, const std::uint64_t* expected, Change change,
                         request r, strength failure = strength::relaxed) {
    bool acquire = acquires(r.order);
    bool release = releases(r.order);
    if (const mutation* const fault = sites_.fault_at(r)) {
      using enum mutation::effect;
      acquire = acquire && fault->how != unordered && fault->how != not_acquired;
      release = release && fault->how != unordered && fault->how != not_released;
      if (fault->how == unordered || fault->how == failure_unordered) failure = strength::relaxed;
      r.order = strength::relaxed;
    }
    const bool sequential = r.order == strength::sequential;
    event load = fresh(event_kind::load, r.where);
    load.order = sequential ? r.order : acquire ? strength::acquire : strength::relaxed;
    load.success = load.order;
    load.failure = failure;
    load.conditional = expected != nullptr;
    load.exclusive = expected == nullptr;
    load.expected = expected != nullptr ? *expected : 0;
    const std::uint64_t there = load_event(p, bytes, load);
    if (expected != nullptr && there != *expected) return there;
    r.order = sequential ? r.order : release ? strength::release : strength::relaxed;
    store_event(p, bytes, change(there), r, true);
    return there;
  }
  void fence(barrier kind, request r) {
    if (const mutation* const fault = sites_.fault_at(r)) {
      if (fault->how == mutation::effect::stores_only) {
        kind = barrier::stores;
      } else if (fault->how == mutation::effect::weaker) {
        fence_event(barrier::acquire, r.where);
        kind = barrier::release;
      } else {
        return;
      }
    }
    fence_event(kind, r.where);
  }
  [[nodiscard]] unsigned choose(unsigned count, std::source_location where) {
    const event e = fresh(event_kind::choice, where);
    int id = replayed(e);
    if (id < 0) id = search_.add_choice(graph_, e, count);
    done(id);
    return static_cast<unsigned>(graph_.at(id).value);
  }

  // Every other access.
  [[nodiscard]] bool shares(const void* p) const noexcept { return arena_.contains(p); }
  void plain(const void* p, std::size_t bytes, bool write, bool changes = true) {
    const std::uint32_t offset = arena_.offset_of(p);
    if (thread_ < 0) {
      if (write) shadow_.initialise(offset, bytes);
      return;
    }
    if (write && changes && in_use(offset, bytes)) {
      fail(failure_kind::misuse,
           "a word that is accessed atomically is written plainly: see program::atomic");
    }
    report_.plain_accesses = true;
    const thread& t = self();
    if (recording_) recorder_.plain(offset, bytes, write, t.name);
    touch(offset, bytes, write ? access_kind::plain_write : access_kind::plain_read,
          static_cast<std::uint16_t>(t.position + 1));
  }

  // Accesses of std::atomic and its like in instrumented code. One that orders nothing is plain
  // outside of words that were declared as atomic: copies of ring entries are such accesses.
  void declare_atomic(const void* p, std::size_t bytes) {
    atomic_words_.push_back({arena_.offset_of(p), bytes});
  }
  [[nodiscard]] bool is_atomic(const void* p, strength order) const noexcept {
    if (order != strength::relaxed) return true;
    const std::uint32_t offset = arena_.offset_of(p);
    for (const auto& [begin, bytes] : atomic_words_) {
      if (offset - begin < bytes) return true;
    }
    return false;
  }

  // Waits: a condition that was false is not tried again, but read again in another execution.
  void begin_wait(std::source_location where) {
    self().wait_from = self().position;
    self().waits_at = where;
    self().stored_while_waiting = false;
  }
  // One turn of a loop that waits for the word which the thread has loaded last.
  void spin(std::source_location where) {
    begin_wait(where);
    if (self().wait_from != 0) --self().wait_from;
    fail_wait();
  }
  void fail_wait() {
    thread& t = self();
    if (t.stored_while_waiting) {
      fail(failure_kind::misuse, "the condition of await() stores to shared memory and then fails");
      return;
    }
    if (missed_a_store(t, true)) return stop(ending::discarded);
    t.state = thread_state::waiting;
    if (recording_) {
      recorder_.note(t.name + " waits  [" + file_of(t.waits_at.file_name()) + ":" +
                     std::to_string(t.waits_at.line()) + "]");
    }
    for (;;) t.stack->leave();
  }

  void fail(failure_kind kind, const std::string& what) {
    if (!report_.failure) {
      report_.failure.emplace();
      report_.failure->kind = kind;
    }
    report_.failure->what = what;
    if (recording_) recorder_.note("=> " + what);
    stop(ending::failed);
  }
  [[nodiscard]] int thread_number() const noexcept { return thread_; }

 private:
  enum class thread_state : std::uint8_t { fresh, started, waiting, finished };
  enum class ending : std::uint8_t { none, finished, discarded, failed, truncated };

  struct thread {
    std::string name;
    std::function<void()> body;
    std::unique_ptr<fiber> stack;
    thread_state state = thread_state::fresh;
    bool service = false;
    bool stored_while_waiting = false;
    int position = 0;   // events done
    int wait_from = 0;  // events done before the condition was tried
    std::source_location waits_at;
  };

  [[nodiscard]] thread& self() noexcept { return threads_[static_cast<std::size_t>(thread_)]; }

  void begin(execution_graph graph, bool recording) {
    leave_program();
    graph_ = std::move(graph);
    executed_.assign(graph_.events.size(), 0);
    recording_ = recording;
    recorder_.clear();
    end_ = ending::none;
    count_ = 0;
    shadow_.forget(arena_.used());
    arena_.reset();
    finally_ = nullptr;
    atomic_words_.clear();
  }
  void leave_program() {
    while (!destroyers_.empty()) {
      destroyers_.back()();
      destroyers_.pop_back();
    }
  }

  void execute() {
    for (std::size_t i = 0; i != count_; ++i) {
      threads_[i].state = thread_state::fresh;
      threads_[i].position = 0;
    }
    while (end_ == ending::none) {
      const int next = runnable();
      if (next < 0) break;
      thread_ = next;
      thread& t = self();
      if (t.state == thread_state::fresh) {
        t.state = thread_state::started;
        t.stack->start();
      } else {
        t.stack->resume();
      }
      thread_ = -1;
    }
    if (graph_.size() > report_.longest) report_.longest = graph_.size();
    if (end_ == ending::none) finish();
  }
  // A thread that repeats the steps of the graph, else the first one that can continue.
  [[nodiscard]] int runnable() const noexcept {
    bool all_repeated = true;
    for (std::size_t i = 0; i != count_; ++i) {
      const auto& program = graph_.threads[i];
      const auto position = static_cast<std::size_t>(threads_[i].position);
      if (position >= program.size()) continue;
      all_repeated = false;
      if (source_executed(graph_.at(program[position]))) return static_cast<int>(i);
    }
    if (!all_repeated) return -1;
    for (std::size_t i = 0; i != count_; ++i) {
      if (threads_[i].state == thread_state::fresh || threads_[i].state == thread_state::started) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }
  [[nodiscard]] bool source_executed(const event& e) const noexcept {
    return e.kind != event_kind::load || e.reads_from == initial ||
           executed_[static_cast<std::size_t>(e.reads_from)] != 0;
  }

  void finish() {
    bool waiting = false;
    for (std::size_t i = 0; i != count_; ++i) {
      const thread& t = threads_[i];
      if (t.state != thread_state::waiting) continue;
      if (missed_a_store(t, false)) {
        end_ = ending::discarded;
        return;
      }
      waiting |= !t.service;
    }
    if (waiting) {
      std::string who;
      for (std::size_t i = 0; i != count_; ++i) {
        if (threads_[i].state == thread_state::waiting && !threads_[i].service) {
          who += (who.empty() ? "" : " and ") + threads_[i].name;
        }
      }
      fail(failure_kind::blocked, who + " waits for what no store will bring any more");
      return;
    }
    for (const location& l : graph_.locations) {
      if (!l.stores.empty()) arena_.store(l.offset, l.bytes, graph_.at(l.stores.back()).value);
    }
    if (finally_) finally_();
    if (end_ == ending::none) end_ = ending::finished;
  }
  // Whether a word that the thread's condition has read has a newer value: one that was there when
  // it was read, or any.
  [[nodiscard]] bool missed_a_store(const thread& t, bool at_once) const noexcept {
    const auto& program = graph_.program(static_cast<int>(&t - threads_.data()));
    for (auto i = static_cast<std::size_t>(t.wait_from); i < program.size(); ++i) {
      const event& e = graph_.at(program[i]);
      if (e.kind != event_kind::load) continue;
      const auto& stores = graph_.location_of(e).stores;
      const auto next = static_cast<std::size_t>(graph_.place_of(e.reads_from)) + 1;
      for (std::size_t s = next; s < stores.size(); ++s) {
        if (!at_once || stores[s] < program[i]) return true;
      }
    }
    return false;
  }

  static void thread_main(void* context) {
    auto* const self = static_cast<engine*>(context);
    self->self().body();
    self->self().state = thread_state::finished;
  }
  // Ends the execution; does not return to a thread.
  void stop(ending how) {
    if (end_ == ending::none) end_ = how;
    if (thread_ >= 0) {
      for (fiber* const stack = self().stack.get();;) stack->leave();
    }
  }
  void truncate(std::string why) {
    report_.complete = false;
    report_.truncated = std::move(why);
  }

  // The event that the graph has for what the thread does now, or -1 where it has none any more.
  [[nodiscard]] int replayed(const event& asked) {
    thread& t = self();
    for (;;) {
      const auto& program = graph_.program(thread_);
      const auto position = static_cast<std::size_t>(t.position);
      if (position < program.size()) {
        const int id = program[position];
        if (source_executed(graph_.at(id))) {
          repeat(id, asked);
          return id;
        }
      } else if (runnable() == thread_) {
        if (graph_.size() >= options_.most_events) {
          truncate("the bound on the events of one execution was reached");
          stop(ending::truncated);
        }
        return -1;
      }
      t.stack->leave();
    }
  }
  void repeat(int id, const event& asked) {
    const event& e = graph_.at(id);
    const bool blank = e.blank;
    if (e.kind != asked.kind || (!blank && e.location != asked.location)) {
      fail(failure_kind::misuse,
           "the program does not repeat itself: it depends on something that "
           "the explorer does not track");
    }
    if (!blank) return;
    token::fill(graph_, id, asked);
    search_.derive(graph_, id);
  }
  [[nodiscard]] event fresh(event_kind kind, std::source_location where) noexcept {
    event e;
    e.kind = kind;
    e.thread = static_cast<std::uint8_t>(thread_);
    e.index = static_cast<std::uint16_t>(self().position + 1);
    e.where = where;
    return e;
  }
  [[nodiscard]] int location_at(const void* p, std::size_t bytes) {
    if (!arena_.contains(p)) {
      fail(failure_kind::misuse,
           "a shared word lies outside of the memory that the program shares");
    }
    const std::uint32_t offset = arena_.offset_of(p);
    for (std::size_t i = 0; i != graph_.locations.size(); ++i) {
      const location& l = graph_.locations[i];
      if (l.offset == offset && l.bytes == bytes) return static_cast<int>(i);
      if (offset < l.offset + l.bytes && l.offset < offset + bytes) {
        fail(failure_kind::misuse, "one word is accessed in two widths");
      }
    }
    graph_.locations.push_back(
        {offset, static_cast<std::uint8_t>(bytes), arena_.load(offset, bytes), {}});
    return static_cast<int>(graph_.locations.size()) - 1;
  }

  std::uint64_t load_event(const void* p, std::size_t bytes, event e) {
    e.bytes = static_cast<std::uint8_t>(bytes);
    e.location = location_at(p, bytes);
    int id = replayed(e);
    if (id < 0) id = search_.add_load(graph_, e);
    done(id);
    return graph_.at(id).value;
  }
  void store_event(void* p, std::size_t bytes, std::uint64_t value, const request& r,
                   bool exclusive) {
    event e = fresh(event_kind::store, r.where);
    e.order = r.order;
    e.bytes = static_cast<std::uint8_t>(bytes);
    e.location = location_at(p, bytes);
    e.exclusive = exclusive;
    e.value = value;
    int id = replayed(e);
    if (id < 0) id = search_.add_store(graph_, e);
    if (id < 0) return stop(ending::discarded);
    self().stored_while_waiting = true;
    done(id);
  }
  void fence_event(barrier asked, std::source_location where) {
    const barrier kind = effective(options_.model, asked);
    if (kind == barrier::none) return;
    event e = fresh(event_kind::fence, where);
    e.fence = kind;
    int id = replayed(e);
    if (id < 0) id = search_.add_fence(graph_, e);
    done(id);
  }
  void done(int id) {
    const event& e = graph_.at(id);
    executed_.resize(graph_.events.size(), 0);
    executed_[static_cast<std::size_t>(id)] = 1;
    thread& t = self();
    ++t.position;
    if (recording_) recorder_.add(graph_, id, t.name);
    if (e.location < 0) return;
    const location& l = graph_.location_of(e);
    if (e.kind == event_kind::store && newest_executed(l, id)) {
      arena_.store(l.offset, l.bytes, e.value);
    }
    touch(l.offset, l.bytes,
          e.kind == event_kind::store ? access_kind::atomic_write : access_kind::atomic_read,
          e.index);
  }
  // Whether a word among these bytes has been accessed atomically in this execution.
  [[nodiscard]] bool in_use(std::uint32_t offset, std::size_t bytes) const noexcept {
    for (const location& l : graph_.locations) {
      if (offset >= l.offset + l.bytes || l.offset >= offset + bytes) continue;
      for (const int store : l.stores) {
        if (static_cast<std::size_t>(store) < executed_.size() &&
            executed_[static_cast<std::size_t>(store)] != 0) {
          return true;
        }
      }
    }
    return false;
  }
  [[nodiscard]] bool newest_executed(const location& l, int id) const noexcept {
    for (std::size_t i = l.stores.size(); i-- > 0 && l.stores[i] != id;) {
      if (executed_[static_cast<std::size_t>(l.stores[i])] != 0) return false;
    }
    return true;
  }

  void touch(std::uint32_t offset, std::size_t bytes, access_kind kind, std::uint16_t epoch) {
    const thread& t = self();
    static constexpr reach nothing{};
    const reach* seen = &nothing;
    if (t.position != 0) {
      const auto last = static_cast<std::size_t>(t.position - 1);
      seen = &graph_.at(graph_.program(thread_)[last]).after.seen;
    }
    const conflict c = shadow_.access(offset, bytes, kind, thread_, epoch, *seen);
    if (c.found) explain(c, kind);
  }
  void explain(const conflict& c, access_kind kind) {
    const std::string what = recording_ ? recorder_.names.name(c.offset, 1) : "shared memory";
    if (c.uninitialised) {
      fail(failure_kind::uninitialised,
           self().name + " reads " + what + ", which nothing has written");
      return;
    }
    fail(failure_kind::race,
         self().name + (is_write(kind) ? " writes " : " reads ") + what + " while " +
             threads_[static_cast<std::size_t>(c.other_thread)].name +
             (is_write(c.other) ? "'s write" : "'s read") + " of it is not ordered before");
  }

  // The value that the thread last read or stored there; at first, the word's initial value.
  [[nodiscard]] std::uint64_t last_known(const void* p, std::size_t bytes) {
    const std::uint32_t offset = arena_.offset_of(p);
    const auto& program = graph_.program(thread_);
    for (auto i = static_cast<std::size_t>(self().position); i-- > 0;) {
      const event& e = graph_.at(program[i]);
      if (e.location >= 0 && graph_.location_of(e).offset == offset) return e.value;
    }
    return graph_.locations[static_cast<std::size_t>(location_at(p, bytes))].initial_value;
  }

  inline static engine* current_ = nullptr;

  options options_;
  detail::arena arena_;
  shadow_memory shadow_;
  search search_;
  execution_graph graph_;
  std::vector<char> executed_;
  std::array<thread, max_threads> threads_;
  std::size_t count_ = 0;
  int thread_ = -1;
  ending end_ = ending::none;
  bool recording_ = false;
  recorder recorder_;
  report report_;
  std::function<void()> finally_;
  std::vector<std::function<void()>> destroyers_;
  call_sites sites_;
  std::vector<std::pair<std::uint32_t, std::size_t>> atomic_words_;
};

}  // namespace phasebit::testing::explorer::detail
