// SPDX-License-Identifier: BSL-1.0
// The value of an available buffer notification: virtio 1.3, sections 2.9 and 4.1.5.2.
#pragma once

#include <phasebit/ring/index.hpp>

#include <cstdint>

namespace phasebit::virtio {

// With VIRTIO_F_NOTIFICATION_DATA the driver writes 32 bits: the queue in bits 15:0, and above it how
// far it has come. Without, it writes the queue alone (16 bits).
struct notification {
  std::uint16_t queue = 0;
  std::uint16_t next =
      0;  // split: the available index; packed: offset, with the wrap counter in bit 15

  [[nodiscard]] static constexpr notification of(std::uint32_t value) noexcept {
    return {static_cast<std::uint16_t>(value), static_cast<std::uint16_t>(value >> 16)};
  }
  [[nodiscard]] constexpr std::uint32_t value() const noexcept {
    return queue | std::uint32_t{next} << 16;
  }
  [[nodiscard]] constexpr ring::wrapped_index packed_position() const noexcept {
    return ring::wrapped_index::unpack(next);
  }
};

}  // namespace phasebit::virtio
