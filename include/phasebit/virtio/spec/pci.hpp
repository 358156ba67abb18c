// SPDX-License-Identifier: BSL-1.0
// virtio over PCI, without the legacy interface: virtio 1.3, section 4.1.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::virtio::pci {

inline constexpr std::uint16_t vendor_id = 0x1af4;
inline constexpr std::uint16_t device_id_base = 0x1040;  // + device type (4.1.2)
inline constexpr std::uint8_t vendor_capability = 0x09;  // the PCI capability ID of all structures

// 4.1.4: what a capability points at.
enum class structure : std::uint8_t {
  common = 1,
  notify = 2,
  isr = 3,
  device = 4,
  pci_access = 5,
  shared_memory = 8,
  vendor = 9,
};

// 4.1.4
struct capability {
  std::uint8_t cap_vndr;
  std::uint8_t cap_next;
  std::uint8_t cap_len;
  std::uint8_t cfg_type;
  std::uint8_t bar;
  std::uint8_t id;
  std::uint8_t padding[2];
  le<std::uint32_t> offset;
  le<std::uint32_t> length;
};
static_assert(WireStruct<capability> && sizeof(capability) == 16);
static_assert(offsetof(capability, bar) == 4 && offsetof(capability, offset) == 8);

// 4.1.4.4: the notification structure has one more word behind the capability.
struct notify_capability {
  capability cap;
  le<std::uint32_t> notify_off_multiplier;
};
static_assert(WireStruct<notify_capability> && sizeof(notify_capability) == 20);

// 4.1.4.3: the common configuration. Offsets, for drivers and devices access it as registers.
namespace common {

inline constexpr std::uint32_t device_feature_select = 0;
inline constexpr std::uint32_t device_feature = 4;
inline constexpr std::uint32_t driver_feature_select = 8;
inline constexpr std::uint32_t driver_feature = 12;
inline constexpr std::uint32_t config_msix_vector = 16;  // 16 bits
inline constexpr std::uint32_t num_queues = 18;          // 16 bits
inline constexpr std::uint32_t device_status = 20;       // 8 bits
inline constexpr std::uint32_t config_generation = 21;   // 8 bits
inline constexpr std::uint32_t queue_select = 22;        // 16 bits, as the next five
inline constexpr std::uint32_t queue_size = 24;
inline constexpr std::uint32_t queue_msix_vector = 26;
inline constexpr std::uint32_t queue_enable = 28;
inline constexpr std::uint32_t queue_notify_off = 30;
inline constexpr std::uint32_t queue_desc = 32;         // 64 bits, as two halves
inline constexpr std::uint32_t queue_driver = 40;       // available ring, or the driver's events
inline constexpr std::uint32_t queue_device = 48;       // used ring, or the device's events
inline constexpr std::uint32_t queue_notify_data = 56;  // 16 bits, as the next two
inline constexpr std::uint32_t queue_reset = 58;
inline constexpr std::uint32_t admin_queue_index = 60;
inline constexpr std::uint32_t admin_queue_num = 62;
inline constexpr std::uint32_t bytes = 64;

}  // namespace common

inline constexpr std::uint16_t no_vector = 0xffff;

// 4.1.4.5: bits of the ISR status.
inline constexpr std::uint8_t isr_queue = 1;
inline constexpr std::uint8_t isr_config = 2;

}  // namespace phasebit::virtio::pci
