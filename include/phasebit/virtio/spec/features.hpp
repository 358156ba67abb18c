// SPDX-License-Identifier: BSL-1.0
// Feature bits that all devices share, and the device status. virtio 1.3, sections 2.1 and 6; bit 43
// is of 1.4.
#pragma once

#include <cstdint>

namespace phasebit::virtio {

// Feature bits as masks of the 64-bit feature word.
namespace feature {

inline constexpr std::uint64_t notify_on_empty = 1ULL << 24;  // legacy
inline constexpr std::uint64_t any_layout = 1ULL << 27;       // legacy
inline constexpr std::uint64_t indirect_desc = 1ULL << 28;
inline constexpr std::uint64_t event_idx = 1ULL << 29;
inline constexpr std::uint64_t version_1 = 1ULL << 32;
inline constexpr std::uint64_t access_platform = 1ULL << 33;
inline constexpr std::uint64_t ring_packed = 1ULL << 34;
inline constexpr std::uint64_t in_order = 1ULL << 35;
inline constexpr std::uint64_t order_platform = 1ULL << 36;
inline constexpr std::uint64_t sr_iov = 1ULL << 37;
inline constexpr std::uint64_t notification_data = 1ULL << 38;
inline constexpr std::uint64_t notif_config_data = 1ULL << 39;
inline constexpr std::uint64_t ring_reset = 1ULL << 40;
inline constexpr std::uint64_t admin_vq = 1ULL << 41;
inline constexpr std::uint64_t suspend = 1ULL << 43;

// The ring features that this library implements on both sides.
inline constexpr std::uint64_t rings = indirect_desc | event_idx | version_1 | access_platform |
                                       ring_packed | in_order | order_platform | notification_data |
                                       ring_reset;

}  // namespace feature

// Bits of the device status field (2.1).
namespace device_status {

inline constexpr std::uint8_t acknowledge = 1;
inline constexpr std::uint8_t driver = 2;
inline constexpr std::uint8_t driver_ok = 4;
inline constexpr std::uint8_t features_ok = 8;
inline constexpr std::uint8_t suspend = 16;  // 1.4
inline constexpr std::uint8_t needs_reset = 64;
inline constexpr std::uint8_t failed = 128;

}  // namespace device_status

// Device types (section 5).
enum class device_id : std::uint16_t {
  network = 1,
  block = 2,
  console = 3,
  entropy = 4,
  scsi_host = 8
};

// The largest queue of either format (2.7, 2.8).
inline constexpr std::uint32_t max_queue_size = 32768;

// Sizes that a split queue may have: powers of two (2.7).
[[nodiscard]] constexpr bool is_split_queue_size(std::uint32_t entries) noexcept {
  return entries != 0 && entries <= max_queue_size && (entries & (entries - 1)) == 0;
}
// A packed queue may have any (2.8.10.1).
[[nodiscard]] constexpr bool is_packed_queue_size(std::uint32_t entries) noexcept {
  return entries != 0 && entries <= max_queue_size;
}

}  // namespace phasebit::virtio
