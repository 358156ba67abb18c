// SPDX-License-Identifier: BSL-1.0
// Cache line size, and a wrapper that gives an object cache lines of its own.
#pragma once

#include <cstddef>

namespace phasebit {

// 64 on x86, RISC-V and most Arm cores. A constant rather than
// std::hardware_destructive_interference_size, which changes with -mtune and so breaks the ABI of
// anything laid out by it.
inline constexpr std::size_t cache_line = 64;

// A T alone on its cache line or lines.
template <class T>
struct alignas(alignof(T) > cache_line ? alignof(T) : cache_line) own_line {
  T value;

  [[nodiscard]] constexpr T& operator*() noexcept { return value; }
  [[nodiscard]] constexpr const T& operator*() const noexcept { return value; }
  [[nodiscard]] constexpr T* operator->() noexcept { return &value; }
  [[nodiscard]] constexpr const T* operator->() const noexcept { return &value; }
};

}  // namespace phasebit
