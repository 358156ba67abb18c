// SPDX-License-Identifier: BSL-1.0
// Builders of the admin commands that manage a device: queue and interrupt resources of virtual
// functions, namespaces, formats, firmware, self-test, sanitize. NVMe Base 2.0, section 5. Command
// id and data pointer are left to the queue, as in admin_commands.hpp.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/protection.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstdint>

namespace phasebit::nvme {

// Virtualization Management: 5.28.
enum class virtualization_action : std::uint8_t {
  allocate_primary = 1,  // flexible resources of the primary controller, from its next reset
  offline = 7,           // a secondary controller
  assign = 8,            // resources to a secondary controller that is offline
  online = 9,
};
enum class virtualization_resource : std::uint8_t { queues = 0, interrupts = 1 };

struct virtualization_command {
  static constexpr field<3, 0, virtualization_action> act{};    // CDW10
  static constexpr field<10, 8, virtualization_resource> rt{};  // CDW10
  static constexpr field<31, 16> cntlid{};                      // CDW10
  static constexpr field<15, 0> nr{};                           // CDW11; also DW0 of the completion

  virtualization_action action = virtualization_action::online;
  std::uint16_t controller = 0;
  virtualization_resource resource = virtualization_resource::queues;
  std::uint16_t count = 0;
};

// Namespace Management and Attachment: 5.23 and 5.22.
struct namespace_management_command {
  static constexpr field<3, 0> sel{};                      // CDW10: 0 create, 1 delete
  static constexpr field<31, 24, command_set> csi_bits{};  // CDW11
};
struct namespace_attachment_command {
  static constexpr field<3, 0> sel{};  // CDW10: 0 attach, 1 detach
};

// Format NVM: 5.14.
enum class secure_erase : std::uint8_t { none = 0, user_data = 1, cryptographic = 2 };

struct format_command {
  static constexpr field<3, 0> lbafl{};                     // CDW10: format index, low bits
  static constexpr field<4> mset{};                         // CDW10
  static constexpr field<7, 5, protection_type> pi_bits{};  // CDW10
  static constexpr field<8> pil{};                          // CDW10
  static constexpr field<11, 9, secure_erase> ses{};        // CDW10
  static constexpr field<13, 12> lbafu{};                   // CDW10: format index, high bits

  std::uint32_t nsid = 0;
  std::uint8_t format = 0;       // index into lbaf, 0 to 63
  bool metadata_inline = false;  // metadata ends each block, rather than lying at MPTR
  protection_type pi = protection_type::none;
  bool pi_first = false;  // it starts the metadata, not ends it
  secure_erase erase = secure_erase::none;
};

// Firmware Commit and Image Download: 5.12 and 5.13.
enum class firmware_action : std::uint8_t {
  replace = 0,
  replace_and_activate_at_reset = 1,
  activate_at_reset = 2,
  activate_now = 3,
  replace_boot_partition = 6,
  activate_boot_partition = 7,
};
struct firmware_commit_command {
  static constexpr field<2, 0> slot_bits{};                     // CDW10; 0: the controller chooses
  static constexpr field<5, 3, firmware_action> action_bits{};  // CDW10
  static constexpr field<31> bpid_bit{};                        // CDW10
};

// Device Self-test: 5.9.
enum class self_test : std::uint8_t { brief = 1, extended = 2, vendor = 0xe, abort = 0xf };

// Sanitize: 5.24.
enum class sanitize_action : std::uint8_t {
  exit_failure = 1,
  block_erase = 2,
  overwrite = 3,
  crypto_erase = 4,
};
struct sanitize_command {
  static constexpr field<2, 0, sanitize_action> action_bits{};  // CDW10
  static constexpr field<3> ause_bit{};                         // CDW10: unrestricted exit
  static constexpr field<7, 4> passes_bits{};                   // CDW10: of overwrite, 0 is 16
  static constexpr field<8> invert_bit{};         // CDW10: the pattern, between passes
  static constexpr field<9> no_deallocate_bit{};  // CDW10

  sanitize_action action = sanitize_action::block_erase;
  bool unrestricted_exit = false;
  std::uint8_t passes = 1;    // 1 to 16
  std::uint32_t pattern = 0;  // CDW11
  bool invert = false;
  bool no_deallocate = false;
};

namespace admin {

[[nodiscard]] constexpr submission_entry virtualization_management(
    const virtualization_command& o) noexcept {
  using f = virtualization_command;
  auto e = command(admin_opcode::virtualization_management);
  e.cdw10 = f::act.of(o.action) | f::rt.of(o.resource) | f::cntlid.of(o.controller);
  e.cdw11 = f::nr.of(o.count);
  return e;
}

// The data is an identify_namespace with size, capacity, format and the like filled in; the new
// namespace's id comes in DW0 of the completion. It is attached to no controller yet.
[[nodiscard]] constexpr submission_entry create_namespace(
    command_set csi = command_set::nvm) noexcept {
  auto e = command(admin_opcode::namespace_management);
  e.cdw11 = namespace_management_command::csi_bits.of(csi);
  return e;
}
[[nodiscard]] constexpr submission_entry delete_namespace(std::uint32_t nsid) noexcept {
  auto e = command(admin_opcode::namespace_management, nsid);
  e.cdw10 = namespace_management_command::sel.of(1);
  return e;
}

// The data is a controller_list.
[[nodiscard]] constexpr submission_entry attach_namespace(std::uint32_t nsid) noexcept {
  return command(admin_opcode::namespace_attachment, nsid);
}
[[nodiscard]] constexpr submission_entry detach_namespace(std::uint32_t nsid) noexcept {
  auto e = command(admin_opcode::namespace_attachment, nsid);
  e.cdw10 = namespace_attachment_command::sel.of(1);
  return e;
}

[[nodiscard]] constexpr submission_entry format(const format_command& o) noexcept {
  using f = format_command;
  PHASEBIT_EXPECTS(o.format < 64, "a namespace has at most 64 formats");
  auto e = command(admin_opcode::format_nvm, o.nsid);
  e.cdw10 = f::lbafl.of(o.format & 0xfU) | f::lbafu.of(static_cast<std::uint8_t>(o.format >> 4)) |
            f::mset.of(o.metadata_inline) | f::pi_bits.of(o.pi) | f::pil.of(o.pi_first) |
            f::ses.of(o.erase);
  return e;
}

[[nodiscard]] constexpr submission_entry firmware_commit(std::uint8_t slot, firmware_action action,
                                                         bool boot_partition = false) noexcept {
  using f = firmware_commit_command;
  auto e = command(admin_opcode::firmware_commit);
  e.cdw10 = f::slot_bits.of(slot) | f::action_bits.of(action) | f::bpid_bit.of(boot_partition);
  return e;
}
// A part of the image; offset and length are in bytes and multiples of 4.
[[nodiscard]] constexpr submission_entry firmware_download(std::uint32_t bytes,
                                                           std::uint32_t offset) noexcept {
  PHASEBIT_EXPECTS(bytes != 0 && bytes % 4 == 0 && offset % 4 == 0,
                   "a firmware image is sent in dwords");
  auto e = command(admin_opcode::firmware_image_download);
  e.cdw10 = bytes / 4 - 1;
  e.cdw11 = offset / 4;
  return e;
}

// nsid 0: the controller alone; FFFFFFFFh: all namespaces too.
[[nodiscard]] constexpr submission_entry device_self_test(
    self_test what, std::uint32_t nsid = all_namespaces) noexcept {
  auto e = command(admin_opcode::device_self_test, nsid);
  e.cdw10 = static_cast<std::uint32_t>(what);
  return e;
}

[[nodiscard]] constexpr submission_entry sanitize(const sanitize_command& o) noexcept {
  using f = sanitize_command;
  PHASEBIT_EXPECTS(o.passes >= 1 && o.passes <= 16, "an overwrite has 1 to 16 passes");
  auto e = command(admin_opcode::sanitize);
  e.cdw10 = f::action_bits.of(o.action) | f::ause_bit.of(o.unrestricted_exit) |
            f::passes_bits.of(o.passes & 0xfU) | f::invert_bit.of(o.invert) |
            f::no_deallocate_bit.of(o.no_deallocate);
  e.cdw11 = o.pattern;
  return e;
}

}  // namespace admin
}  // namespace phasebit::nvme
