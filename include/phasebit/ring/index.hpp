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
//
// One 16-bit word, with the wrap counter in bit 15: the form that event suppression structures and
// notification data have, and one load or store where it lies in memory.
class wrapped_index {
 public:
  constexpr wrapped_index() noexcept = default;
  constexpr wrapped_index(std::uint16_t index, bool wrap) noexcept
      : word_(static_cast<std::uint16_t>(index | (wrap ? 0x8000U : 0U))) {}

  [[nodiscard]] constexpr std::uint16_t index() const noexcept { return word_ & 0x7fffU; }
  [[nodiscard]] constexpr bool wrap() const noexcept { return (word_ & 0x8000U) != 0; }

  // Moves on by `steps`, at most `size`. A move by exactly `size` ends at the same index with the
  // other wrap counter.
  constexpr void advance(std::uint16_t steps, std::uint16_t size) noexcept {
    const std::uint32_t moved = std::uint32_t{index()} + steps;
    word_ = static_cast<std::uint16_t>(
        moved >= size ? (moved - size) | ((word_ & 0x8000U) ^ 0x8000U) : moved | (word_ & 0x8000U));
  }

  [[nodiscard]] constexpr std::uint16_t packed() const noexcept { return word_; }
  [[nodiscard]] static constexpr wrapped_index unpack(std::uint16_t word) noexcept {
    wrapped_index made;
    made.word_ = word;
    return made;
  }

  friend constexpr bool operator==(wrapped_index, wrapped_index) noexcept = default;

 private:
  std::uint16_t word_ = 0x8000;
};

}  // namespace phasebit::ring
