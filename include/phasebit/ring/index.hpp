// SPDX-License-Identifier: BSL-1.0
// Positions in rings: free-running 16-bit indices, and indices with a wrap counter.
#pragma once

#include <cstdint>

namespace phasebit::ring {

// How many steps lead from `from` to `to`; both run freely and wrap at 2^16.
[[nodiscard]] constexpr std::uint16_t distance(std::uint16_t from, std::uint16_t to) noexcept {
  return static_cast<std::uint16_t>(to - from);
}

// A place in a ring of any size, and the wrap counter, which changes each time the ring's end is
// passed (virtio 1.3, section 2.8.1; NVMe's phase tag behaves alike). `index` is below the size of the
// ring that it is used with.
struct wrapped_index {
  std::uint16_t index = 0;
  bool wrap = true;

  // Moves on by `steps`, at most `size`. A move by exactly `size` ends at the same index with the
  // other wrap counter.
  constexpr void advance(std::uint16_t steps, std::uint16_t size) noexcept {
    const std::uint32_t moved = std::uint32_t{index} + steps;
    if (moved >= size) {
      index = static_cast<std::uint16_t>(moved - size);
      wrap = !wrap;
    } else {
      index = static_cast<std::uint16_t>(moved);
    }
  }

  // Bit 15 is the wrap counter: the form of event suppression structures and notification data.
  [[nodiscard]] constexpr std::uint16_t packed() const noexcept {
    return static_cast<std::uint16_t>(index | (wrap ? 0x8000U : 0U));
  }
  [[nodiscard]] static constexpr wrapped_index unpack(std::uint16_t word) noexcept {
    return {static_cast<std::uint16_t>(word & 0x7fffU), (word & 0x8000U) != 0};
  }

  friend constexpr bool operator==(wrapped_index, wrapped_index) noexcept = default;
};

}  // namespace phasebit::ring
