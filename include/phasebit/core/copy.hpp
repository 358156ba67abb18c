// SPDX-License-Identifier: BSL-1.0
// What the other side can change at any time is copied once, and the copy is what gets looked at:
// a length that was checked and then read again is another length.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/wire.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace phasebit {

namespace detail {

// A struct as the widest words that this machine reads whole and that its alignment allows.
template <class T>
struct words_of {
  using word = std::conditional_t<
      alignof(T) % 8 == 0 && sizeof(void*) >= 8, std::uint64_t,
      std::conditional_t<alignof(T) % 4 == 0, std::uint32_t,
                         std::conditional_t<alignof(T) % 2 == 0, std::uint16_t, std::uint8_t>>>;
  static constexpr std::size_t count = sizeof(T) / sizeof(word);
  word words[count];
};

// Calls each(0) .. each(Count - 1), spelt out for what the size of a queue's entry is: g++ leaves
// such a loop alone at -O2.
template <std::size_t Count, class Each>
PHASEBIT_ALWAYS_INLINE void each_word(Each each) noexcept {
  if constexpr (Count <= 16) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (each(I), ...);
    }(std::make_index_sequence<Count>{});
  } else {
    for (std::size_t i = 0; i != Count; ++i) each(i);
  }
}

}  // namespace detail

// The entry as it was: each word is read exactly once, and the compiler cannot go back for more.
// Untorn per word, which is as wide as T is aligned (at most a pointer); a writer that is not held
// off may leave a mix of old and new words, never anything else. The caller has ordered the read
// (RingOrder::after_load).
template <WireStruct T>
[[nodiscard]] inline T snapshot(const T& shared) noexcept {
  using words = detail::words_of<T>;
  const auto* from = reinterpret_cast<const std::byte*>(&shared);
  words copy;
  detail::each_word<words::count>([&](std::size_t i) {
    copy.words[i] =
        detail::load_once<typename words::word>(from + i * sizeof(typename words::word));
  });
  return std::bit_cast<T>(copy);
}

// The other direction: writes each word of the entry once, so that a reader which is not held off
// sees old or new words and nothing else. Publishes nothing; that is RingOrder::store.
template <WireStruct T>
inline void overwrite(T& shared, const std::type_identity_t<T>& value) noexcept {
  using words = detail::words_of<T>;
  const auto copy = std::bit_cast<words>(value);
  auto* to = reinterpret_cast<std::byte*>(&shared);
  detail::each_word<words::count>([&](std::size_t i) {
    detail::store_once(to + i * sizeof(typename words::word), copy.words[i]);
  });
}

// Copies bytes that another party may be writing meanwhile: what is looked at in `to` afterwards
// cannot change any more, however often it is read. For data and tables; bytes that a writer was
// busy with are old or new each. The two do not overlap.
inline void copy_shared(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
  PHASEBIT_EXPECTS(to.size() == from.size(), "the two sides of a copy differ in size");
  if (!to.empty()) __builtin_memcpy(to.data(), from.data(), to.size());
  detail::compiler_barrier();
}

}  // namespace phasebit
