// SPDX-License-Identifier: BSL-1.0
// The explorer's thread_order for words that the program shares, and plain accesses for others: weaken.py puts it in place
// of phasebit::thread_order in objects that some models have on a thread's own stack.
#pragma once

#include <phasebit/testing/explorer/order.hpp>

#include <source_location>
#include <type_traits>

namespace model {

struct shared_order {
  using order = phasebit::testing::explorer::thread_order;
  using place = std::source_location;

  template <class T>
  [[nodiscard]] static bool shared(const T& word) noexcept {
    const auto* const e = phasebit::testing::explorer::detail::engine::running();
    return e != nullptr && e->shares(&word);
  }
  template <class T>
  [[nodiscard]] static T load(const T& word, place where = place::current()) noexcept {
    return shared(word) ? order::load(word, where) : word;
  }
  template <class T>
  [[nodiscard]] static T load_relaxed(const T& word, place where = place::current()) noexcept {
    return shared(word) ? order::load_relaxed(word, where) : word;
  }
  template <class T>
  static void store(T& word, std::type_identity_t<T> value,
                    place where = place::current()) noexcept {
    if (shared(word)) return order::store(word, value, where);
    word = value;
  }
  template <class T>
  static void store_relaxed(T& word, std::type_identity_t<T> value,
                            place where = place::current()) noexcept {
    if (shared(word)) return order::store_relaxed(word, value, where);
    word = value;
  }
  static void full(place where = place::current()) noexcept { order::full(where); }
};

}  // namespace model
