// SPDX-License-Identifier: BSL-1.0
// Structures of the packed virtqueue: virtio 1.3, section 2.8.
#pragma once

#include <phasebit/core/wire.hpp>
#include <phasebit/virtio/spec/split_ring.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::virtio {

namespace descriptor_flag {

// 2.8.1: availability and use, each read against the wrap counter of the side that wrote it.
inline constexpr std::uint16_t avail = 1U << 7;
inline constexpr std::uint16_t used = 1U << 15;

}  // namespace descriptor_flag

// 2.8.13: an entry of the descriptor ring, and of an indirect table, where `id` and all flags but
// `write` are reserved.
struct packed_descriptor {
  le<std::uint64_t> addr;
  le<std::uint32_t> len;
  le<std::uint16_t> id;
  le<std::uint16_t> flags;
};
static_assert(WireStruct<packed_descriptor> && sizeof(packed_descriptor) == 16);
static_assert(offsetof(packed_descriptor, len) == 8 && offsetof(packed_descriptor, id) == 12 &&
              offsetof(packed_descriptor, flags) == 14);

// Whether flags mean "made available, not used yet" under the driver's wrap counter (2.8.1).
[[nodiscard]] constexpr bool is_available(std::uint16_t flags, bool wrap) noexcept {
  const bool avail = (flags & descriptor_flag::avail) != 0;
  const bool used = (flags & descriptor_flag::used) != 0;
  return avail == wrap && used != wrap;
}
// Whether flags mean "used" under the device's wrap counter.
[[nodiscard]] constexpr bool is_used(std::uint16_t flags, bool wrap) noexcept {
  const bool avail = (flags & descriptor_flag::avail) != 0;
  const bool used = (flags & descriptor_flag::used) != 0;
  return avail == wrap && used == wrap;
}
// The availability bits that the driver, and those that the device writes.
[[nodiscard]] constexpr std::uint16_t available_bits(bool wrap) noexcept {
  return wrap ? descriptor_flag::avail : descriptor_flag::used;
}
[[nodiscard]] constexpr std::uint16_t used_bits(bool wrap) noexcept {
  return wrap ? static_cast<std::uint16_t>(descriptor_flag::avail | descriptor_flag::used)
              : std::uint16_t{0};
}

// 2.8.14: event suppression. `off_wrap` is a descriptor's offset with the wrap counter in bit 15.
struct event_suppression {
  le<std::uint16_t> off_wrap;
  le<std::uint16_t> flags;
};
static_assert(WireStruct<event_suppression> && sizeof(event_suppression) == 4);

inline constexpr std::uint16_t event_enable = 0;
inline constexpr std::uint16_t event_disable = 1;
inline constexpr std::uint16_t event_descriptor = 2;  // only with VIRTIO_F_EVENT_IDX

inline constexpr std::size_t packed_ring_alignment = 16;
inline constexpr std::size_t event_suppression_alignment = 4;

[[nodiscard]] constexpr std::size_t packed_ring_bytes(std::uint32_t entries) noexcept {
  return std::size_t{16} * entries;
}

}  // namespace phasebit::virtio
