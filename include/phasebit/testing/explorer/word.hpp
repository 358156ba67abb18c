// SPDX-License-Identifier: BSL-1.0
// Shared words and plain variables for programs written for the explorer.
#pragma once

#include <phasebit/testing/explorer/detail/engine.hpp>
#include <phasebit/testing/explorer/order.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <type_traits>

namespace phasebit::testing::explorer {

// A barrier of the running thread.
inline void fence(barrier kind,
                  std::source_location where = std::source_location::current()) noexcept {
  detail::ordered_fence(kind, operation::full, where);
}

// An atomic integer. It lies in memory that the program shares (program::make).
template <class T>
  requires std::is_unsigned_v<T>
class word {
 public:
  constexpr word() noexcept = default;
  constexpr explicit word(T value) noexcept : value_(value) {}

  [[nodiscard]] T load(
      strength order = strength::sequential,
      std::source_location where = std::source_location::current()) const noexcept {
    detail::engine* const e = detail::engine::running();
    if (e == nullptr) return value_;
    return static_cast<T>(e->load(&value_, sizeof(T), {operation::word_load, order, where}));
  }
  void store(T value, strength order = strength::sequential,
             std::source_location where = std::source_location::current()) noexcept {
    detail::engine* const e = detail::engine::running();
    if (e == nullptr) {
      value_ = value;
      return;
    }
    e->store(&value_, sizeof(T), value, barrier::none, {operation::word_store, order, where});
  }
  T exchange(T value, strength order = strength::sequential,
             std::source_location where = std::source_location::current()) noexcept {
    return change(
        nullptr, [&](std::uint64_t) noexcept { return std::uint64_t{value}; }, order, where);
  }
  T fetch_add(T value, strength order = strength::sequential,
              std::source_location where = std::source_location::current()) noexcept {
    return change(
        nullptr,
        [&](std::uint64_t old) noexcept { return std::uint64_t{static_cast<T>(old + value)}; },
        order, where);
  }
  [[nodiscard]] bool compare_exchange(
      T& expected, T value, strength order = strength::sequential,
      std::source_location where = std::source_location::current()) noexcept {
    const std::uint64_t wanted = expected;
    expected = change(
        &wanted, [&](std::uint64_t) noexcept { return std::uint64_t{value}; }, order, where);
    return expected == wanted;
  }

  // A load whose value nothing depends on before get(), so that later accesses may be done before
  // it: C++ and processors but x86 do. get() before the next barrier of the thread.
  class delayed_load {
   public:
    [[nodiscard]] T get(std::source_location where = std::source_location::current()) noexcept {
      if (!done_) value_ = from_->load(strength::relaxed, where);
      done_ = true;
      return value_;
    }

   private:
    friend class word;
    const word* from_ = nullptr;
    T value_{};
    bool done_ = false;
  };
  [[nodiscard]] delayed_load load_delayed(
      std::source_location where = std::source_location::current()) const noexcept {
    delayed_load later;
    later.from_ = this;
    detail::engine* const e = detail::engine::running();
    const bool now = e == nullptr || e->model() == memory_model::x86 || e->choose(2, where) == 0;
    if (now) static_cast<void>(later.get(where));
    return later;
  }

 private:
  template <class Change>
  T change(const std::uint64_t* expected, Change f, strength order,
           std::source_location where) noexcept {
    detail::engine* const e = detail::engine::running();
    if (e != nullptr) {
      return static_cast<T>(e->exchange(&value_, sizeof(T), expected, f,
                                        {operation::word_exchange, order, where},
                                        acquires(order) ? order : strength::relaxed));
    }
    const T old = value_;
    if (expected == nullptr || *expected == old) value_ = static_cast<T>(f(old));
    return old;
  }

  T value_{};
};

// The running thread reads or writes these bytes: for what the explorer does not see, such as a buffer
// that is handed back. The bytes stay as they are.
inline void reads(const void* p, std::size_t bytes) noexcept {
  if (detail::engine* const e = detail::engine::running()) e->plain(p, bytes, false);
}
inline void writes(const void* p, std::size_t bytes) noexcept {
  if (detail::engine* const e = detail::engine::running()) e->plain(p, bytes, true, false);
}

// A plain variable, for programs that are not instrumented (instrumentation.hpp): two accesses
// without an order between them are a race.
template <class T>
class plain {
 public:
  constexpr plain() noexcept = default;
  constexpr explicit plain(T value) noexcept : value_(value) {}

  [[nodiscard]] T read() const noexcept {
    reads(&value_, sizeof(T));
    return value_;
  }
  void write(T value) noexcept {
    writes(&value_, sizeof(T));
    value_ = value;
  }

 private:
  T value_{};
};

}  // namespace phasebit::testing::explorer
