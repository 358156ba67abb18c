// SPDX-License-Identifier: BSL-1.0
// How a command ended: NVMe Base 2.0, section 3.3.3.2.1, and NVM Command Set 1.0,
// section 3.1.2. A status is data, not an `error`: it belongs to one command of one device.
// status_text.hpp has a sentence for each.
#pragma once

#include <phasebit/core/field.hpp>

#include <cstdint>

namespace phasebit::nvme {

// Status code type, SCT.
enum class status_type : std::uint8_t {
  generic = 0,
  command_specific = 1,
  media = 2,
  path = 3,
  vendor = 7,
};

// SCT and SC together, as 0xTCC: type in bits 10:8, code in 7:0.
enum class status_code : std::uint16_t {
  // Generic, for all command sets.
  success = 0x000,
  invalid_opcode = 0x001,
  invalid_field = 0x002,
  command_id_conflict = 0x003,
  data_transfer_error = 0x004,
  aborted_power_loss = 0x005,
  internal_error = 0x006,
  abort_requested = 0x007,
  aborted_queue_deletion = 0x008,
  aborted_failed_fused = 0x009,
  aborted_missing_fused = 0x00a,
  invalid_namespace_or_format = 0x00b,
  command_sequence_error = 0x00c,
  invalid_sgl_segment_descriptor = 0x00d,
  invalid_sgl_descriptor_count = 0x00e,
  data_sgl_length_invalid = 0x00f,
  metadata_sgl_length_invalid = 0x010,
  sgl_descriptor_type_invalid = 0x011,
  invalid_use_of_cmb = 0x012,
  prp_offset_invalid = 0x013,
  atomic_write_unit_exceeded = 0x014,
  operation_denied = 0x015,
  sgl_offset_invalid = 0x016,
  host_identifier_inconsistent = 0x018,
  keep_alive_expired = 0x019,
  keep_alive_timeout_invalid = 0x01a,
  aborted_preempt = 0x01b,
  sanitize_failed = 0x01c,
  sanitize_in_progress = 0x01d,
  sgl_granularity_invalid = 0x01e,
  command_not_supported_in_cmb = 0x01f,
  namespace_write_protected = 0x020,
  command_interrupted = 0x021,
  transient_transport_error = 0x022,
  prohibited_by_lockdown = 0x023,
  admin_media_not_ready = 0x024,

  // Generic, for the I/O command sets.
  lba_out_of_range = 0x080,
  capacity_exceeded = 0x081,
  namespace_not_ready = 0x082,
  reservation_conflict = 0x083,
  format_in_progress = 0x084,

  // Command specific, of the admin command set.
  completion_queue_invalid = 0x100,
  invalid_queue_id = 0x101,
  invalid_queue_size = 0x102,
  abort_limit_exceeded = 0x103,
  async_event_limit_exceeded = 0x105,
  invalid_firmware_slot = 0x106,
  invalid_firmware_image = 0x107,
  invalid_interrupt_vector = 0x108,
  invalid_log_page = 0x109,
  invalid_format = 0x10a,
  firmware_needs_conventional_reset = 0x10b,
  invalid_queue_deletion = 0x10c,
  feature_not_saveable = 0x10d,
  feature_not_changeable = 0x10e,
  feature_not_namespace_specific = 0x10f,
  firmware_needs_subsystem_reset = 0x110,
  firmware_needs_controller_reset = 0x111,
  firmware_needs_max_time_violation = 0x112,
  firmware_activation_prohibited = 0x113,
  overlapping_range = 0x114,
  namespace_insufficient_capacity = 0x115,
  namespace_id_unavailable = 0x116,
  namespace_already_attached = 0x118,
  namespace_is_private = 0x119,
  namespace_not_attached = 0x11a,
  thin_provisioning_not_supported = 0x11b,
  controller_list_invalid = 0x11c,
  self_test_in_progress = 0x11d,
  boot_partition_write_prohibited = 0x11e,
  invalid_controller_id = 0x11f,
  invalid_secondary_controller_state = 0x120,
  invalid_controller_resource_count = 0x121,
  invalid_resource_id = 0x122,
  sanitize_prohibited_by_pmr = 0x123,
  ana_group_id_invalid = 0x124,
  ana_attach_failed = 0x125,
  insufficient_capacity = 0x126,
  namespace_attachment_limit_exceeded = 0x127,
  lockdown_not_supported = 0x128,
  command_set_not_supported = 0x129,
  command_set_not_enabled = 0x12a,
  command_set_combination_rejected = 0x12b,
  invalid_command_set = 0x12c,
  identifier_unavailable = 0x12d,

  // Command specific, of the NVM command set.
  conflicting_attributes = 0x180,
  invalid_protection_information = 0x181,
  write_to_read_only_range = 0x182,
  command_size_limit_exceeded = 0x183,

  // Command specific, of the zoned namespace command set (ZNS 1.1, figure 23).
  zone_boundary_error = 0x1b8,
  zone_is_full = 0x1b9,
  zone_is_read_only = 0x1ba,
  zone_is_offline = 0x1bb,
  zone_invalid_write = 0x1bc,
  too_many_active_zones = 0x1bd,
  too_many_open_zones = 0x1be,
  invalid_zone_state_transition = 0x1bf,

  // Media and data integrity.
  write_fault = 0x280,
  unrecovered_read_error = 0x281,
  guard_check_error = 0x282,
  application_tag_check_error = 0x283,
  reference_tag_check_error = 0x284,
  compare_failure = 0x285,
  access_denied = 0x286,
  deallocated_or_unwritten = 0x287,
  storage_tag_check_error = 0x288,

  // Path related.
  internal_path_error = 0x300,
  ana_persistent_loss = 0x301,
  ana_inaccessible = 0x302,
  ana_transition = 0x303,
  controller_pathing_error = 0x360,
  host_pathing_error = 0x370,
  aborted_by_host = 0x371,
};

// The 15 bits of the status field, as in DW3 bits 31:17 of a completion. Compares with a
// status_code by type and code alone; two statuses compare by all bits.
class status {
 public:
  static constexpr field<7, 0> sc_bits{};
  static constexpr field<10, 8, status_type> sct_bits{};
  static constexpr field<10, 0, status_code> code_bits{};
  static constexpr field<12, 11> crd_bits{};
  static constexpr field<13> more_bit{};
  static constexpr field<14> dnr_bit{};

  constexpr status() noexcept = default;
  constexpr status(status_code code) noexcept : raw_(static_cast<std::uint16_t>(code)) {}
  constexpr explicit status(std::uint16_t raw) noexcept : raw_(raw & 0x7fffU) {}

  [[nodiscard]] constexpr std::uint16_t raw() const noexcept { return raw_; }
  [[nodiscard]] constexpr bool ok() const noexcept { return code() == status_code::success; }
  [[nodiscard]] constexpr status_code code() const noexcept { return code_bits.get(raw_); }
  [[nodiscard]] constexpr status_type sct() const noexcept { return sct_bits.get(raw_); }
  [[nodiscard]] constexpr std::uint8_t sc() const noexcept { return sc_bits.get(raw_); }
  // The number of the command retry delay of Identify Controller that applies, 1 to 3; 0 is none.
  [[nodiscard]] constexpr std::uint8_t crd() const noexcept { return crd_bits.get(raw_); }
  // The error information log page has more about this command.
  [[nodiscard]] constexpr bool more() const noexcept { return more_bit.get(raw_); }
  // The same command will fail again.
  [[nodiscard]] constexpr bool dnr() const noexcept { return dnr_bit.get(raw_); }

  [[nodiscard]] constexpr status with_dnr() const noexcept {
    return status{dnr_bit.set(raw_, true)};
  }
  [[nodiscard]] constexpr status with_more() const noexcept {
    return status{more_bit.set(raw_, true)};
  }

  friend constexpr bool operator==(status, status) noexcept = default;
  friend constexpr bool operator==(status s, status_code c) noexcept { return s.code() == c; }

 private:
  std::uint16_t raw_ = 0;
};

}  // namespace phasebit::nvme
