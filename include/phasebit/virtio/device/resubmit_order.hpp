// SPDX-License-Identifier: BSL-1.0
// Sorts the buffers of an in-flight record by age, without memory of its own.
#pragma once

#include <phasebit/virtio/device/queue_setup.hpp>

#include <cstdint>
#include <span>

namespace phasebit::virtio::device::detail {

// Sorts buffers[0 .. count).resubmit ascending by age(value), a heap sort. The ages come from memory
// that another party may write: whatever they are, the result is a permutation and the time bounded.
template <class Age>
inline void sort_resubmits(std::span<buffer_state> buffers, std::uint32_t count,
                           Age&& age) noexcept {
  const auto at = [&](std::uint32_t i) noexcept -> std::uint16_t& { return buffers[i].resubmit; };
  const auto sift = [&](std::uint32_t root, std::uint32_t end) noexcept {
    for (;;) {
      std::uint32_t child = 2 * root + 1;
      if (child >= end) return;
      if (child + 1 < end && age(at(child)) < age(at(child + 1))) ++child;
      if (age(at(root)) >= age(at(child))) return;
      const std::uint16_t moved = at(root);
      at(root) = at(child);
      at(child) = moved;
      root = child;
    }
  };
  for (std::uint32_t i = count / 2; i-- != 0;) sift(i, count);
  for (std::uint32_t end = count; end > 1;) {
    --end;
    const std::uint16_t largest = at(0);
    at(0) = at(end);
    at(end) = largest;
    sift(0, end);
  }
}

}  // namespace phasebit::virtio::device::detail
