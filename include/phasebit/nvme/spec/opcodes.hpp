// SPDX-License-Identifier: BSL-1.0
// Numbers of the commands: admin (NVMe Base 2.0, figure 138) and NVM command set (NVM Command Set
// 1.0, section 3.2).
#pragma once

#include <cstdint>

namespace phasebit::nvme {

enum class admin_opcode : std::uint8_t {
  delete_io_sq = 0x00,
  create_io_sq = 0x01,
  get_log_page = 0x02,
  delete_io_cq = 0x04,
  create_io_cq = 0x05,
  identify = 0x06,
  abort = 0x08,
  set_features = 0x09,
  get_features = 0x0a,
  async_event_request = 0x0c,
  namespace_management = 0x0d,
  firmware_commit = 0x10,
  firmware_image_download = 0x11,
  device_self_test = 0x14,
  namespace_attachment = 0x15,
  keep_alive = 0x18,
  directive_send = 0x19,
  directive_receive = 0x1a,
  virtualization_management = 0x1c,
  nvme_mi_send = 0x1d,
  nvme_mi_receive = 0x1e,
  capacity_management = 0x20,
  lockdown = 0x24,
  // Live migration: TP4159, part of the base specification since 2.1.
  track_send = 0x3d,
  track_receive = 0x3e,
  migration_send = 0x41,
  migration_receive = 0x42,
  controller_data_queue = 0x45,
  doorbell_buffer_config = 0x7c,
  fabrics = 0x7f,
  format_nvm = 0x80,
  security_send = 0x81,
  security_receive = 0x82,
  sanitize = 0x84,
  get_lba_status = 0x86,
};
// From here to FFh the vendor decides.
inline constexpr std::uint8_t first_vendor_admin_opcode = 0xc0;

enum class nvm_opcode : std::uint8_t {
  flush = 0x00,
  write = 0x01,
  read = 0x02,
  write_uncorrectable = 0x04,
  compare = 0x05,
  write_zeroes = 0x08,
  dataset_management = 0x09,
  verify = 0x0c,
  reservation_register = 0x0d,
  reservation_report = 0x0e,
  reservation_acquire = 0x11,
  reservation_release = 0x15,
  copy = 0x19,
  // Zoned Namespace Command Set 1.1, figure 24.
  zone_management_send = 0x79,
  zone_management_receive = 0x7a,
  zone_append = 0x7d,
};
inline constexpr std::uint8_t first_vendor_nvm_opcode = 0x80;

// The direction of a command's data, from bits 1:0 of its opcode (Base 2.0, figure 138, footnote 3;
// command sets and vendors follow it).
enum class data_direction : std::uint8_t { none = 0, to_device = 1, from_device = 2, both = 3 };

[[nodiscard]] constexpr data_direction direction_of(std::uint8_t opcode) noexcept {
  return static_cast<data_direction>(opcode & 3U);
}

}  // namespace phasebit::nvme
