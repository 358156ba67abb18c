// SPDX-License-Identifier: BSL-1.0
// The event index of rings: one side publishes the index at which it wants to be notified, the other
// side compares. virtio 1.3, section 2.7.7; NVMe shadow doorbells follow the same rule.
#pragma once

#include <cstdint>

namespace phasebit::ring {

// Whether a move from `old_index` to `new_index` passes `event_index`, that is, whether one of the
// steps was event_index -> event_index + 1. All three wrap at 2^16. A move of 0 passes nothing.
[[nodiscard]] constexpr bool need_event(std::uint16_t event_index, std::uint16_t new_index,
                                        std::uint16_t old_index) noexcept {
  return static_cast<std::uint16_t>(new_index - event_index - 1) <
         static_cast<std::uint16_t>(new_index - old_index);
}

}  // namespace phasebit::ring
