// SPDX-License-Identifier: BSL-1.0
// Builders of the admin commands that every host needs: NVMe Base 2.0, section 5. Each returns a
// whole entry except for the command id and the data pointer; commands whose PRP fields are no data
// pointer (queues, doorbell buffers) fill them in. The field constants beside each builder are the
// ones that a controller decodes with. Other admin commands are in management_commands.hpp.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/nvme/spec/features.hpp>
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstdint>

namespace phasebit::nvme {

// Identify: 5.17.
struct identify_command {
  static constexpr field<7, 0, nvme::cns> cns_bits{};      // CDW10
  static constexpr field<31, 16> cntid_bits{};             // CDW10
  static constexpr field<15, 0> cnssid_bits{};             // CDW11
  static constexpr field<31, 24, command_set> csi_bits{};  // CDW11
  static constexpr field<6, 0> uuid_bits{};                // CDW14

  nvme::cns cns = nvme::cns::identify_controller;
  std::uint32_t nsid = no_namespace;
  std::uint16_t cntid = 0;
  std::uint16_t cnssid = 0;  // an NVM set, a domain, an endurance group, depending on `cns`
  command_set csi = command_set::nvm;
  std::uint8_t uuid = 0;
};

// Create I/O Completion Queue and Submission Queue: 5.4 and 5.5.
struct create_queue_command {
  static constexpr field<15, 0> qid_bits{};       // CDW10
  static constexpr field<31, 16> qsize_bits{};    // CDW10, entries minus one
  static constexpr field<0> pc_bit{};             // CDW11
  static constexpr field<1> ien_bit{};            // CDW11 of a completion queue
  static constexpr field<31, 16> iv_bits{};       // CDW11 of a completion queue
  static constexpr field<2, 1> qprio_bits{};      // CDW11 of a submission queue
  static constexpr field<31, 16> cqid_bits{};     // CDW11 of a submission queue
  static constexpr field<15, 0> nvmsetid_bits{};  // CDW12 of a submission queue
};

struct completion_queue_options {
  std::uint16_t qid = 0;
  std::uint32_t entries = 0;  // 2 to 65536; one fewer can be outstanding
  bus_addr memory = {};       // page aligned; of a PRP list where not contiguous
  std::uint16_t vector = 0;
  bool interrupts = true;
  bool contiguous = true;
};

// Used with weighted round robin alone.
enum class queue_priority : std::uint8_t { urgent = 0, high = 1, medium = 2, low = 3 };

struct submission_queue_options {
  std::uint16_t qid = 0;
  std::uint32_t entries = 0;  // 2 to 65536; one fewer can be outstanding
  bus_addr memory = {};       // page aligned; of a PRP list where not contiguous
  std::uint16_t cqid = 0;
  queue_priority priority = queue_priority::urgent;
  bool contiguous = true;
  std::uint16_t nvm_set = 0;
};

// Set Features and Get Features: 5.27 and 5.15.
struct features_command {
  static constexpr field<7, 0, feature_id> fid_bits{};          // CDW10
  static constexpr field<10, 8, feature_select> select_bits{};  // CDW10 of Get
  static constexpr field<31> save_bit{};                        // CDW10 of Set
};

struct set_features_options {
  feature_id fid = feature_id::arbitration;
  std::uint32_t cdw11 = 0;
  std::uint32_t nsid = no_namespace;
  bool save = false;
  std::uint32_t cdw12 = 0;
  std::uint32_t cdw13 = 0;
  std::uint32_t cdw14 = 0;
  std::uint32_t cdw15 = 0;
};

struct get_features_options {
  feature_id fid = feature_id::arbitration;
  feature_select select = feature_select::current;
  std::uint32_t nsid = no_namespace;
  std::uint32_t cdw11 = 0;
};

// Get Log Page: 5.16, figures 197 to 201.
struct log_page_command {
  static constexpr field<7, 0, log_page_id> lid_bits{};    // CDW10
  static constexpr field<14, 8> lsp_bits{};                // CDW10
  static constexpr field<15> rae_bit{};                    // CDW10
  static constexpr field<31, 16> numdl_bits{};             // CDW10: dwords minus one, low half
  static constexpr field<15, 0> numdu_bits{};              // CDW11: and high half
  static constexpr field<31, 16> lsi_bits{};               // CDW11
  static constexpr field<6, 0> uuid_bits{};                // CDW14
  static constexpr field<23> ot_bit{};                     // CDW14: the offset is an index
  static constexpr field<31, 24, command_set> csi_bits{};  // CDW14
};

struct log_page_options {
  log_page_id lid = log_page_id::error_information;
  std::uint32_t bytes = 0;   // a multiple of 4, not 0
  std::uint64_t offset = 0;  // bytes, a multiple of 4; or an index, see offset_is_index
  std::uint32_t nsid = all_namespaces;
  std::uint8_t lsp = 0;
  std::uint16_t lsi = 0;
  bool retain_event = false;  // the asynchronous event stays masked
  bool offset_is_index = false;
  command_set csi = command_set::nvm;
  std::uint8_t uuid = 0;
};

// Abort: 5.1.
struct abort_command {
  static constexpr field<15, 0> sqid_bits{};  // CDW10
  static constexpr field<31, 16> cid_bits{};  // CDW10
  static constexpr field<0> not_aborted{};    // DW0 of the completion
};

namespace admin {

[[nodiscard]] constexpr submission_entry identify(const identify_command& o) noexcept {
  auto e = command(admin_opcode::identify, o.nsid);
  e.cdw10 = identify_command::cns_bits.of(o.cns) | identify_command::cntid_bits.of(o.cntid);
  e.cdw11 = identify_command::cnssid_bits.of(o.cnssid) | identify_command::csi_bits.of(o.csi);
  e.cdw14 = identify_command::uuid_bits.of(o.uuid);
  return e;
}

[[nodiscard]] constexpr submission_entry create_io_cq(const completion_queue_options& o) noexcept {
  using f = create_queue_command;
  PHASEBIT_EXPECTS(o.qid != 0, "queue 0 is the admin queue");
  PHASEBIT_EXPECTS(o.entries >= 2 && o.entries <= 65'536, "a queue has 2 to 65536 entries");
  auto e = command(admin_opcode::create_io_cq);
  e.prp1 = o.memory.value();
  e.cdw10 = f::qid_bits.of(o.qid) | (o.entries - 1) << f::qsize_bits.lo;
  e.cdw11 = f::pc_bit.of(o.contiguous) | f::ien_bit.of(o.interrupts) | f::iv_bits.of(o.vector);
  return e;
}

[[nodiscard]] constexpr submission_entry create_io_sq(const submission_queue_options& o) noexcept {
  using f = create_queue_command;
  PHASEBIT_EXPECTS(o.qid != 0, "queue 0 is the admin queue");
  PHASEBIT_EXPECTS(o.entries >= 2 && o.entries <= 65'536, "a queue has 2 to 65536 entries");
  auto e = command(admin_opcode::create_io_sq);
  e.prp1 = o.memory.value();
  e.cdw10 = f::qid_bits.of(o.qid) | (o.entries - 1) << f::qsize_bits.lo;
  e.cdw11 = f::pc_bit.of(o.contiguous) | f::cqid_bits.of(o.cqid) |
            f::qprio_bits.of(static_cast<std::uint8_t>(o.priority));
  e.cdw12 = f::nvmsetid_bits.of(o.nvm_set);
  return e;
}

// A completion queue goes after the submission queues that complete to it.
[[nodiscard]] constexpr submission_entry delete_io_cq(std::uint16_t qid) noexcept {
  auto e = command(admin_opcode::delete_io_cq);
  e.cdw10 = create_queue_command::qid_bits.of(qid);
  return e;
}
[[nodiscard]] constexpr submission_entry delete_io_sq(std::uint16_t qid) noexcept {
  auto e = command(admin_opcode::delete_io_sq);
  e.cdw10 = create_queue_command::qid_bits.of(qid);
  return e;
}

[[nodiscard]] constexpr submission_entry set_features(const set_features_options& o) noexcept {
  auto e = command(admin_opcode::set_features, o.nsid);
  e.cdw10 = features_command::fid_bits.of(o.fid) | features_command::save_bit.of(o.save);
  e.cdw11 = o.cdw11;
  e.cdw12 = o.cdw12;
  e.cdw13 = o.cdw13;
  e.cdw14 = o.cdw14;
  e.cdw15 = o.cdw15;
  return e;
}
[[nodiscard]] constexpr submission_entry get_features(const get_features_options& o) noexcept {
  auto e = command(admin_opcode::get_features, o.nsid);
  e.cdw10 = features_command::fid_bits.of(o.fid) | features_command::select_bits.of(o.select);
  e.cdw11 = o.cdw11;
  return e;
}

[[nodiscard]] constexpr submission_entry get_log_page(const log_page_options& o) noexcept {
  using f = log_page_command;
  PHASEBIT_EXPECTS(o.bytes != 0 && o.bytes % 4 == 0, "a log page is read in dwords");
  const std::uint32_t dwords = o.bytes / 4 - 1;
  auto e = command(admin_opcode::get_log_page, o.nsid);
  e.cdw10 = f::lid_bits.of(o.lid) | f::lsp_bits.of(o.lsp) | f::rae_bit.of(o.retain_event) |
            (dwords & 0xffffU) << f::numdl_bits.lo;
  e.cdw11 = f::lsi_bits.of(o.lsi) | dwords >> 16;
  e.cdw12 = static_cast<std::uint32_t>(o.offset);
  e.cdw13 = static_cast<std::uint32_t>(o.offset >> 32);
  e.cdw14 = f::csi_bits.of(o.csi) | f::ot_bit.of(o.offset_is_index) | f::uuid_bits.of(o.uuid);
  return e;
}

// Best effort: DW0 of the completion reports whether the command was aborted.
[[nodiscard]] constexpr submission_entry abort(std::uint16_t sqid, std::uint16_t cid) noexcept {
  auto e = command(admin_opcode::abort);
  e.cdw10 = abort_command::sqid_bits.of(sqid) | abort_command::cid_bits.of(cid);
  return e;
}

[[nodiscard]] constexpr submission_entry async_event_request() noexcept {
  return command(admin_opcode::async_event_request);
}
[[nodiscard]] constexpr submission_entry keep_alive() noexcept {
  return command(admin_opcode::keep_alive);
}

// Two pages laid out as the doorbells are: one the host writes, one the controller writes. 5.8.
[[nodiscard]] constexpr submission_entry doorbell_buffer_config(bus_addr shadow,
                                                                bus_addr event_idx) noexcept {
  auto e = command(admin_opcode::doorbell_buffer_config);
  e.prp1 = shadow.value();
  e.prp2 = event_idx.value();
  return e;
}

}  // namespace admin
}  // namespace phasebit::nvme
