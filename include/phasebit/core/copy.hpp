// SPDX-License-Identifier: BSL-1.0
// What the other side can change at any time is copied once, and the copy is what gets looked at:
// a length that was checked and then read again is another length.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstring>
#include <span>

namespace phasebit {

// The entry as it was: each word is read exactly once, and the compiler can not go back for more.
// The caller has ordered the read (after_load). Untorn only per word.
template <WireStruct T>
[[nodiscard]] inline T snapshot(const T& shared) noexcept {
  using word =
      std::conditional_t<alignof(T) % sizeof(detail::copy_word) == 0, detail::copy_word,
                         std::conditional_t<alignof(T) % 4 == 0, std::uint32_t, std::uint8_t>>;
  static_assert(sizeof(T) % sizeof(word) == 0);
  T copy;
  detail::copy_words<word>(&copy, &shared, sizeof(T) / sizeof(word));
  return copy;
}

// Copies bytes that another party may be writing meanwhile. Each byte is read once.
inline void copy_shared(std::span<std::byte> to, std::span<const std::byte> from) noexcept {
  PHASEBIT_EXPECTS(to.size() == from.size(), "the two sides of a copy differ in size");
  if (!to.empty()) __builtin_memcpy(to.data(), from.data(), to.size());
  detail::compiler_barrier();
}

}  // namespace phasebit
