// SPDX-License-Identifier: BSL-1.0
// Runs a small concurrent program through every execution that a memory model allows.
#pragma once

#include <phasebit/testing/explorer/detail/engine.hpp>
#include <phasebit/testing/explorer/report.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <new>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace phasebit::testing::explorer {

// The program that is explored: what its threads share, and the threads. It is set up again for each
// execution, and does the same each time: nothing in it may depend on time, addresses or earlier
// executions. At most four threads. A thread that an execution leaves in the middle is abandoned, so
// that a thread owns nothing that needs a destructor; what does, is made in the setup.
class program {
 public:
  explicit program(detail::engine& engine) noexcept : engine_(&engine) {}

  // An object that threads share. All of it counts as written.
  template <class T, class... Arguments>
  T& make(Arguments&&... arguments) {
    void* const where = engine_->allocate(sizeof(T), alignof(T), true);
    T* const made = ::new (where) T(std::forward<Arguments>(arguments)...);
    if constexpr (!std::is_trivially_destructible_v<T>) {
      engine_->at_end([made] { made->~T(); });
    }
    return *made;
  }
  // Memory that threads share and that nothing has written yet: reading it first is a failure.
  template <class T>
    requires(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>)
  [[nodiscard]] T* uninitialised(std::size_t count = 1) {
    return static_cast<T*>(engine_->allocate(sizeof(T) * count, alignof(T), false));
  }

  // Accesses of std::atomic_ref that order nothing are atomic in this object; elsewhere they count as
  // plain, for snapshot() and overwrite() of a ring's entries are such accesses, and no side of a
  // ring reads an entry while the other writes it. For instrumented programs.
  template <class T>
  void atomic(const T& object) {
    engine_->declare_atomic(&object, sizeof(T));
  }

  void atomic_bytes(const void* begin, std::size_t bytes) { engine_->declare_atomic(begin, bytes); }

  // The name of an object in traces, and the format of its value.
  template <class T>
  void name(const T& object, const std::string& text, const detail::describe_value& describe = {}) {
    engine_->name(&object, sizeof(T), text, describe);
  }

  void name_bytes(const void* begin, std::size_t bytes, const std::string& text) {
    engine_->name(begin, bytes, text, {});
  }

  void thread(const char* name, std::function<void()> body) {
    engine_->add_thread(name, false, std::move(body));
  }
  // A thread that may wait for ever at the end, such as a device without work.
  void service(const char* name, std::function<void()> body) {
    engine_->add_thread(name, true, std::move(body));
  }
  // Called when all threads are done, with the last value of each word.
  void finally(std::function<void()> check) { engine_->finally(std::move(check)); }

 private:
  detail::engine* engine_;
};

// Calls `setup` for each execution and runs its threads; ends with the first failure. Deterministic.
// One exploration at a time.
template <std::invocable<program&> Setup>
[[nodiscard]] report explore(const options& wanted, Setup setup) {
  detail::engine engine{wanted};
  program described{engine};
  return engine.run([&] { setup(described); });
}

// In a thread or in finally(): a failure unless `condition` holds.
inline void check(bool condition, const char* sentence,
                  std::source_location where = std::source_location::current()) {
  if (condition) return;
  if (detail::engine* const e = detail::engine::current()) {
    e->fail(failure_kind::check, std::string{sentence} + " [" + detail::file_of(where.file_name()) +
                                     ":" + std::to_string(where.line()) + "]");
  }
}

// In a thread: waits until `condition()` is true. It may load and, when it returns true, store;
// when it returns false it must leave everything unchanged, because the explorer then assumes that
// it will read newer values later. A wait that no store ends any more is a failure.
template <std::predicate Condition>
void await(Condition condition, std::source_location where = std::source_location::current()) {
  detail::engine* const e = detail::engine::running();
  if (e == nullptr) return;
  e->begin_wait(where);
  if (!condition()) e->fail_wait();
}

// In a thread: the body of a loop that loads one word until it changes, in code that cannot be given an
// await(), such as a call of sched_yield(). The loop is not gone round again: the load reads a newer value in
// another execution.
inline void spin(std::source_location where = std::source_location::current()) {
  if (detail::engine* const e = detail::engine::running()) e->spin(where);
}

// The number of the running thread, in the order of program::thread(); -1 outside of threads.
[[nodiscard]] inline int thread_number() noexcept {
  const detail::engine* const e = detail::engine::running();
  return e == nullptr ? -1 : e->thread_number();
}

// In a thread: 0 .. count-1, each in another execution. For what a program does not decide itself,
// such as a time-out or a peer that misbehaves.
[[nodiscard]] inline unsigned choose(unsigned count,
                                     std::source_location where = std::source_location::current()) {
  detail::engine* const e = detail::engine::running();
  return e == nullptr ? 0 : e->choose(count, where);
}

}  // namespace phasebit::testing::explorer
