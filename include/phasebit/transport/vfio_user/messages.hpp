// SPDX-License-Identifier: BSL-1.0
// Messages of the vfio-user protocol 0.0, as QEMU's interoperability documentation (vfio-user.rst)
// defines them. All words are in the byte order of the machine: both sides run on it.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace phasebit::transport::vfio_user {

enum class command : std::uint16_t {
  version = 1,
  dma_map = 2,
  dma_unmap = 3,
  device_get_info = 4,
  device_get_region_info = 5,
  device_get_region_io_fds = 6,
  device_get_irq_info = 7,
  device_set_irqs = 8,
  region_read = 9,
  region_write = 10,
  dma_read = 11,   // sent by the server
  dma_write = 12,  // sent by the server
  device_reset = 13,
  region_write_multi = 15,
  device_feature = 16,
  mig_data_read = 17,
  mig_data_write = 18,
};

[[nodiscard]] constexpr std::string_view name(command c) noexcept {
  constexpr std::string_view names[] = {"unknown",           "VERSION",
                                        "DMA_MAP",           "DMA_UNMAP",
                                        "DEVICE_GET_INFO",   "DEVICE_GET_REGION_INFO",
                                        "GET_REGION_IO_FDS", "DEVICE_GET_IRQ_INFO",
                                        "DEVICE_SET_IRQS",   "REGION_READ",
                                        "REGION_WRITE",      "DMA_READ",
                                        "DMA_WRITE",         "DEVICE_RESET",
                                        "unknown",           "REGION_WRITE_MULTI",
                                        "DEVICE_FEATURE",    "MIG_DATA_READ",
                                        "MIG_DATA_WRITE"};
  const auto number = static_cast<std::size_t>(c);
  return names[number < std::size(names) ? number : 0];
}

// Before each payload. A reply bears the message id and the command of its request.
struct message_header {
  std::uint16_t message_id;
  std::uint16_t command;
  std::uint32_t size;  // of header and payload
  std::uint32_t flags;
  std::uint32_t error;  // of a reply with flag_error: an errno
};
static_assert(WireStruct<message_header> && sizeof(message_header) == 16);

inline constexpr std::uint32_t type_mask = 0xf;  // flags, bits 3:0
inline constexpr std::uint32_t type_command = 0;
inline constexpr std::uint32_t type_reply = 1;
inline constexpr std::uint32_t flag_no_reply = 0x10;
inline constexpr std::uint32_t flag_error = 0x20;
inline constexpr std::uint32_t known_flags = type_mask | flag_no_reply | flag_error;

// Limits on the messages to one side of a connection, unless VERSION negotiates others.
inline constexpr std::uint32_t default_max_msg_fds = 1;
inline constexpr std::uint64_t default_max_transfer = 1 << 20;
inline constexpr std::uint32_t default_max_dma_maps = 65535;

// VERSION. A zero-terminated JSON text follows, or nothing.
struct version_header {
  std::uint16_t major;
  std::uint16_t minor;
};
static_assert(WireStruct<version_header> && sizeof(version_header) == 4);
inline constexpr std::uint16_t version_major = 0;
inline constexpr std::uint16_t version_minor = 0;

// DMA_MAP; with one descriptor, or none for memory that is reached by DMA_READ and DMA_WRITE.
struct dma_map {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t offset;  // in the file of the descriptor
  std::uint64_t address;
  std::uint64_t size;
};
static_assert(WireStruct<dma_map> && sizeof(dma_map) == 32);
inline constexpr std::uint32_t dma_flag_read = 1;
inline constexpr std::uint32_t dma_flag_write = 2;

struct dma_unmap {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t address;
  std::uint64_t size;
};
static_assert(WireStruct<dma_unmap> && sizeof(dma_unmap) == 24);
inline constexpr std::uint32_t dma_unmap_flag_dirty_bitmap = 1;
inline constexpr std::uint32_t dma_unmap_flag_all = 2;

struct device_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t num_regions;
  std::uint32_t num_irqs;
};
static_assert(WireStruct<device_info> && sizeof(device_info) == 16);
inline constexpr std::uint32_t device_flag_reset = 1;
inline constexpr std::uint32_t device_flag_pci = 2;

// Regions of a PCI device: BAR 0 to 5, then these.
inline constexpr std::uint32_t rom_region = 6;
inline constexpr std::uint32_t config_region = 7;
inline constexpr std::uint32_t vga_region = 8;
inline constexpr std::uint32_t region_count = 9;

struct region_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t cap_offset;
  std::uint64_t size;
  std::uint64_t offset;  // in the file of the descriptor, of a region that may be mapped
};
static_assert(WireStruct<region_info> && sizeof(region_info) == 32);
inline constexpr std::uint32_t region_flag_read = 1;
inline constexpr std::uint32_t region_flag_write = 2;
inline constexpr std::uint32_t region_flag_mmap = 4;
inline constexpr std::uint32_t region_flag_caps = 8;

// Before each capability of a region; `next` is an offset from the region_info, 0 at the end.
struct capability_header {
  std::uint16_t id;
  std::uint16_t version;
  std::uint32_t next;
};
static_assert(WireStruct<capability_header> && sizeof(capability_header) == 8);
inline constexpr std::uint16_t sparse_mmap_capability = 1;

struct sparse_mmap_header {
  capability_header capability;
  std::uint32_t areas;
  std::uint32_t reserved;
};
static_assert(WireStruct<sparse_mmap_header> && sizeof(sparse_mmap_header) == 16);

struct sparse_mmap_area {
  std::uint64_t offset;  // in the region
  std::uint64_t size;
};
static_assert(WireStruct<sparse_mmap_area> && sizeof(sparse_mmap_area) == 16);

// Interrupts of a PCI device by index.
inline constexpr std::uint32_t intx_irq = 0;
inline constexpr std::uint32_t msi_irq = 1;
inline constexpr std::uint32_t msix_irq = 2;
inline constexpr std::uint32_t error_irq = 3;
inline constexpr std::uint32_t request_irq = 4;
inline constexpr std::uint32_t irq_count = 5;

struct irq_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t count;
};
static_assert(WireStruct<irq_info> && sizeof(irq_info) == 16);
inline constexpr std::uint32_t irq_info_eventfd = 1;
inline constexpr std::uint32_t irq_info_maskable = 2;

// DEVICE_SET_IRQS. Booleans follow, or descriptors come along.
struct irq_set {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t start;
  std::uint32_t count;
};
static_assert(WireStruct<irq_set> && sizeof(irq_set) == 20);
inline constexpr std::uint32_t irq_data_none = 1;
inline constexpr std::uint32_t irq_data_bool = 2;
inline constexpr std::uint32_t irq_data_eventfd = 4;
inline constexpr std::uint32_t irq_data_mask = 7;
inline constexpr std::uint32_t irq_action_mask = 8;
inline constexpr std::uint32_t irq_action_unmask = 16;
inline constexpr std::uint32_t irq_action_trigger = 32;
inline constexpr std::uint32_t irq_action_bits = 56;

// REGION_READ and REGION_WRITE; the bytes follow in the reply or in the request.
struct region_access {
  std::uint64_t offset;
  std::uint32_t region;
  std::uint32_t count;
};
static_assert(WireStruct<region_access> && sizeof(region_access) == 16);

// REGION_WRITE_MULTI: a count, then that many of these.
struct multi_write {
  std::uint64_t offset;
  std::uint32_t region;
  std::uint32_t count;  // 1 to 8
  std::uint8_t data[8];
};
static_assert(WireStruct<multi_write> && sizeof(multi_write) == 24);
inline constexpr std::uint64_t max_multi_writes = 200;

// DMA_READ and DMA_WRITE; the bytes follow in the reply or in the request.
struct dma_access {
  std::uint64_t address;
  std::uint64_t count;
};
static_assert(WireStruct<dma_access> && sizeof(dma_access) == 16);

}  // namespace phasebit::transport::vfio_user
