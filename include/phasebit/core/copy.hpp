// SPDX-License-Identifier: BSL-1.0
// Copies of memory that the other side may change at any time. Such memory is read once, and only the
// copy is validated and used.
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
  static constexpr std::size_t count =
      sizeof(T) / sizeof(word);  // NOLINT(bugprone-sizeof-expression)
  word words[count];
};

// Calls each(0) .. each(Count - 1), unrolled for the size of a queue entry: g++ does not unroll such a
// loop at -O2.
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

// A copy of the entry. Each word is read exactly once and untorn; a word is as wide as T is aligned, at
// most a pointer. With a concurrent writer the copy is a mix of old and new words. The caller has
// ordered the read (RingOrder::after_load).
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

// Writes each word of the entry exactly once, so that a concurrent reader sees old or new words. Does not
// publish the entry; RingOrder::store does.
template <WireStruct T>
inline void overwrite(T& shared, const std::type_identity_t<T>& value) noexcept {
  using words = detail::words_of<T>;
  const auto copy = std::bit_cast<words>(value);
  auto* to = reinterpret_cast<std::byte*>(&shared);
  detail::each_word<words::count>([&](std::size_t i) {
    detail::store_once(to + i * sizeof(typename words::word), copy.words[i]);
  });
}

// Copies bytes that the other side may write concurrently. `to` does not change afterwards. Each byte is
// old or new. The two ranges do not overlap.
inline void copy_shared(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
  PHASEBIT_EXPECTS(to.size() == from.size(), "the two sides of a copy differ in size");
  if (!to.empty()) __builtin_memcpy(to.data(), from.data(), to.size());
  detail::compiler_barrier();
}

}  // namespace phasebit
