// SPDX-License-Identifier: BSL-1.0
// A sentence for people for each NVMe status. Our own words for what NVMe Base 2.0, section
// 3.3.3.2.1, and NVM Command Set 1.0 define. Apart from status.hpp, for most code never prints one.
#pragma once

#include <phasebit/nvme/spec/status.hpp>

#include <string_view>

namespace phasebit::nvme {

// Static storage, no trailing full stop; never empty, whatever the device wrote. The suffix sv
// matters: where there is no library, some compilers measure a bare literal with strlen.
[[nodiscard]] constexpr std::string_view text(status_code code) noexcept {
  using namespace std::string_view_literals;
  using enum status_code;
  switch (code) {
    case success:
      return "the command completed"sv;
    case invalid_opcode:
      return "the controller does not support this opcode"sv;
    case invalid_field:
      return "a field of the command has a value that is not allowed"sv;
    case command_id_conflict:
      return "the command id is already in use"sv;
    case data_transfer_error:
      return "moving the data or metadata failed"sv;
    case aborted_power_loss:
      return "aborted because power is about to be lost"sv;
    case internal_error:
      return "the controller failed internally"sv;
    case abort_requested:
      return "aborted by an Abort command"sv;
    case aborted_queue_deletion:
      return "aborted because its submission queue was deleted"sv;
    case aborted_failed_fused:
      return "aborted because the other fused command failed"sv;
    case aborted_missing_fused:
      return "aborted because the other fused command is missing"sv;
    case invalid_namespace_or_format:
      return "no such namespace, or its format is not valid"sv;
    case command_sequence_error:
      return "the command came at the wrong point of a sequence"sv;
    case invalid_sgl_segment_descriptor:
      return "an SGL segment descriptor is not valid"sv;
    case invalid_sgl_descriptor_count:
      return "the SGL has too many or too few descriptors"sv;
    case data_sgl_length_invalid:
      return "the SGL is too short, or too long, for the data"sv;
    case metadata_sgl_length_invalid:
      return "the SGL is too short, or too long, for the metadata"sv;
    case sgl_descriptor_type_invalid:
      return "the SGL has a descriptor of a type not supported"sv;
    case invalid_use_of_cmb:
      return "the controller memory buffer does not support this use"sv;
    case prp_offset_invalid:
      return "a PRP entry has an offset where none is allowed"sv;
    case atomic_write_unit_exceeded:
      return "the write is longer than the atomic write unit"sv;
    case operation_denied:
      return "the host lacks the rights for this command"sv;
    case sgl_offset_invalid:
      return "the offset in an SGL descriptor is not valid"sv;
    case host_identifier_inconsistent:
      return "hosts use identifiers of different formats"sv;
    case keep_alive_expired:
      return "the keep alive timer expired"sv;
    case keep_alive_timeout_invalid:
      return "the keep alive time-out is not valid"sv;
    case aborted_preempt:
      return "aborted by a reservation's preempt and abort"sv;
    case sanitize_failed:
      return "the last sanitize failed and has not been recovered from"sv;
    case sanitize_in_progress:
      return "not allowed while a sanitize is running"sv;
    case sgl_granularity_invalid:
      return "an SGL address or length is not a multiple of 4"sv;
    case command_not_supported_in_cmb:
      return "not supported from a queue in controller memory"sv;
    case namespace_write_protected:
      return "the namespace is write protected"sv;
    case command_interrupted:
      return "interrupted; try again later"sv;
    case transient_transport_error:
      return "the transport failed for a moment; try again"sv;
    case prohibited_by_lockdown:
      return "prohibited by a Lockdown command"sv;
    case admin_media_not_ready:
      return "the media is not ready yet"sv;

    case lba_out_of_range:
      return "the blocks lie beyond the end of the namespace"sv;
    case capacity_exceeded:
      return "the namespace's capacity is used up"sv;
    case namespace_not_ready:
      return "the namespace is not ready"sv;
    case reservation_conflict:
      return "another host's reservation stands in the way"sv;
    case format_in_progress:
      return "the namespace is being formatted"sv;

    case completion_queue_invalid:
      return "the completion queue does not exist"sv;
    case invalid_queue_id:
      return "the queue id is not valid, or is in use"sv;
    case invalid_queue_size:
      return "the queue's size is not one that the controller allows"sv;
    case abort_limit_exceeded:
      return "too many Abort commands at a time"sv;
    case async_event_limit_exceeded:
      return "too many asynchronous event requests at a time"sv;
    case invalid_firmware_slot:
      return "the firmware slot is not valid, or is read only"sv;
    case invalid_firmware_image:
      return "the firmware image is not valid"sv;
    case invalid_interrupt_vector:
      return "the interrupt vector does not exist"sv;
    case invalid_log_page:
      return "no such log page"sv;
    case invalid_format:
      return "the format is not supported"sv;
    case firmware_needs_conventional_reset:
      return "the firmware starts with the next conventional reset"sv;
    case invalid_queue_deletion:
      return "a submission queue still uses this completion queue"sv;
    case feature_not_saveable:
      return "the feature cannot be saved"sv;
    case feature_not_changeable:
      return "the feature cannot be changed"sv;
    case feature_not_namespace_specific:
      return "the feature belongs to no single namespace"sv;
    case firmware_needs_subsystem_reset:
      return "the firmware starts with the next NVM subsystem reset"sv;
    case firmware_needs_controller_reset:
      return "the firmware starts with the next controller reset"sv;
    case firmware_needs_max_time_violation:
      return "starting the firmware now would take longer than the host allows"sv;
    case firmware_activation_prohibited:
      return "this firmware must not be started"sv;
    case overlapping_range:
      return "the ranges overlap"sv;
    case namespace_insufficient_capacity:
      return "too little free capacity for the namespace"sv;
    case namespace_id_unavailable:
      return "no namespace id is left"sv;
    case namespace_already_attached:
      return "the namespace is already attached"sv;
    case namespace_is_private:
      return "the namespace is private to another controller"sv;
    case namespace_not_attached:
      return "the namespace is not attached"sv;
    case thin_provisioning_not_supported:
      return "thin provisioning is not supported"sv;
    case controller_list_invalid:
      return "the list of controllers is not valid"sv;
    case self_test_in_progress:
      return "a self-test is already running"sv;
    case boot_partition_write_prohibited:
      return "the boot partition is write protected"sv;
    case invalid_controller_id:
      return "no such controller"sv;
    case invalid_secondary_controller_state:
      return "the secondary controller's state does not allow this"sv;
    case invalid_controller_resource_count:
      return "the number of resources is not valid"sv;
    case invalid_resource_id:
      return "no such resource type"sv;
    case sanitize_prohibited_by_pmr:
      return "no sanitize while the persistent memory region is enabled"sv;
    case ana_group_id_invalid:
      return "the ANA group does not exist"sv;
    case ana_attach_failed:
      return "the ANA group did not take the namespace"sv;
    case insufficient_capacity:
      return "too little free capacity"sv;
    case namespace_attachment_limit_exceeded:
      return "too many namespaces are attached"sv;
    case lockdown_not_supported:
      return "this command cannot be locked down"sv;
    case command_set_not_supported:
      return "the I/O command set is not supported"sv;
    case command_set_not_enabled:
      return "the I/O command set is not enabled"sv;
    case command_set_combination_rejected:
      return "these command sets do not go together"sv;
    case invalid_command_set:
      return "no such I/O command set"sv;
    case identifier_unavailable:
      return "no identifier is left"sv;

    case conflicting_attributes:
      return "attributes of the command contradict each other"sv;
    case invalid_protection_information:
      return "the protection settings do not suit the namespace"sv;
    case write_to_read_only_range:
      return "the blocks are read only"sv;
    case zone_boundary_error:
      return "the blocks cross the boundary of a zone"sv;
    case zone_is_full:
      return "the zone is full"sv;
    case zone_is_read_only:
      return "the zone is read only"sv;
    case zone_is_offline:
      return "the zone is offline"sv;
    case zone_invalid_write:
      return "a write into a zone does not begin at its write pointer"sv;
    case too_many_active_zones:
      return "too many zones are active"sv;
    case too_many_open_zones:
      return "too many zones are open"sv;
    case invalid_zone_state_transition:
      return "the zone's state does not allow this"sv;
    case command_size_limit_exceeded:
      return "the command is for more blocks than allowed"sv;

    case write_fault:
      return "the media could not be written"sv;
    case unrecovered_read_error:
      return "the media could not be read"sv;
    case guard_check_error:
      return "the data does not match its guard"sv;
    case application_tag_check_error:
      return "the application tag does not match"sv;
    case reference_tag_check_error:
      return "the reference tag does not match"sv;
    case compare_failure:
      return "the data compared is different"sv;
    case access_denied:
      return "access to these blocks is locked"sv;
    case deallocated_or_unwritten:
      return "the blocks were deallocated or never written"sv;
    case storage_tag_check_error:
      return "the storage tag does not match"sv;

    case internal_path_error:
      return "the path to the namespace failed in the controller"sv;
    case ana_persistent_loss:
      return "the namespace can no longer be reached this way"sv;
    case ana_inaccessible:
      return "the namespace cannot be reached this way now"sv;
    case ana_transition:
      return "the path to the namespace is changing; try again"sv;
    case controller_pathing_error:
      return "the controller found the path broken"sv;
    case host_pathing_error:
      return "the host found the path broken"sv;
    case aborted_by_host:
      return "aborted by the host"sv;
  }
  const status unknown{code};
  switch (unknown.sct()) {
    case status_type::generic:
      return "an unknown generic status"sv;
    case status_type::command_specific:
      return "an unknown status of this command"sv;
    case status_type::media:
      return "an unknown media or data integrity error"sv;
    case status_type::path:
      return "an unknown path error"sv;
    case status_type::vendor:
      return "a status that the vendor defined"sv;
  }
  return "a status of a reserved type"sv;
}

[[nodiscard]] constexpr std::string_view text(status s) noexcept { return text(s.code()); }

}  // namespace phasebit::nvme
