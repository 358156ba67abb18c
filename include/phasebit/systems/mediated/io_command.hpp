// SPDX-License-Identifier: BSL-1.0
// An I/O command of a function, made into one of the drive: checked, moved to the function's blocks, its
// PRPs translated.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/nvme/prp/list_reader.hpp>
#include <phasebit/nvme/prp/rewrite.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/status.hpp>
#include <phasebit/nvme/spec/submission.hpp>
#include <phasebit/systems/mediated/policy.hpp>

#include <cstdint>

namespace phasebit::systems::detail {

inline constexpr unsigned guest_page_shift = 12;  // CC.MPS is 0: nothing else is offered

// The fields of an entry that an I/O command is made of, each read once.
struct io_fields {
  std::uint32_t cdw0 = 0;
  std::uint32_t nsid = 0;
  std::uint64_t prp1 = 0;
  std::uint64_t prp2 = 0;
  std::uint32_t cdw10 = 0;
  std::uint32_t cdw11 = 0;
  std::uint32_t cdw12 = 0;
  std::uint32_t cdw13 = 0;

  // Of an entry in the host's memory, which the host may be changing.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE static io_fields of(
      const nvme::submission_entry& e) noexcept {
    return {snapshot(e.cdw0),  snapshot(e.nsid),  snapshot(e.prp1),  snapshot(e.prp2),
            snapshot(e.cdw10), snapshot(e.cdw11), snapshot(e.cdw12), snapshot(e.cdw13)};
  }
  [[nodiscard]] std::uint16_t command_id() const noexcept {
    return static_cast<std::uint16_t>(cdw0 >> 16);
  }
};

// The checked fields besides the PRPs. `bytes` is the length of the transfer, 0 where the command
// has none.
struct io_request {
  nvme::submission_entry command{};  // for the drive; no data pointer and no id yet
  std::uint32_t bytes = 0;
  access wanted = access::read;  // what the drive does with the data
};

// The entry for the drive is built from the checked fields: no other field of the host's entry
// reaches the drive. Statuses are those that the specification names.
template <class Function>
[[nodiscard]] PHASEBIT_ALWAYS_INLINE nvme::status_code check_io(const io_fields& c,
                                                                const Function& f,
                                                                const drive_namespace& drive,
                                                                io_request& made) noexcept {
  using code = nvme::status_code;
  using block = nvme::block_command;
  const std::uint32_t cdw0 = c.cdw0;
  const auto opcode = static_cast<nvme::nvm_opcode>(cdw0 & 0xffU);
  bool known = true;
  bool writes_media = false;
  bool moves_data = false;
  switch (opcode) {
    case nvme::nvm_opcode::flush:
      break;
    case nvme::nvm_opcode::write:
      writes_media = moves_data = true;
      break;
    case nvme::nvm_opcode::read:
      moves_data = true;
      break;
    case nvme::nvm_opcode::compare:
      known = drive.compare;
      moves_data = true;
      break;
    case nvme::nvm_opcode::write_zeroes:
      known = drive.write_zeroes;
      writes_media = true;
      break;
    case nvme::nvm_opcode::verify:
      known = drive.verify;
      break;
    default:
      known = false;
      break;
  }
  if (!known) [[unlikely]] {
    return code::invalid_opcode;
  }
  // Fused operations and SGLs are not offered (FUSES, SGLS); CDW0 bits 13:10 are reserved.
  if ((cdw0 & 0xff00U) != 0) [[unlikely]] {
    return code::invalid_field;
  }
  const std::uint32_t nsid = c.nsid;
  if (opcode == nvme::nvm_opcode::flush) {
    if (nsid != 1 && nsid != nvme::all_namespaces) return code::invalid_namespace_or_format;
    made.command = nvme::nvm::flush(drive.nsid);
    return code::success;
  }
  if (nsid != 1) [[unlikely]] {
    return code::invalid_namespace_or_format;
  }
  const std::uint32_t dw12 = c.cdw12;
  const std::uint64_t lba = c.cdw10 | std::uint64_t{c.cdw11} << 32;
  const std::uint64_t blocks = std::uint64_t{dw12 & 0xffffU} + 1;
  if (blocks > f.blocks || lba > f.blocks - blocks) [[unlikely]] {
    return code::lba_out_of_range;
  }
  // No directives; the namespace has no protection information, so that PRINFO means nothing.
  if (block::dtype.get(dw12) != 0) [[unlikely]] {
    return code::invalid_field;
  }
  if (writes_media && f.read_only) [[unlikely]] {
    return code::namespace_write_protected;
  }
  const std::uint64_t bytes = blocks << drive.block_shift;
  if (moves_data) {
    if (bytes > drive.max_transfer) [[unlikely]] {
      return code::invalid_field;
    }
    made.bytes = static_cast<std::uint32_t>(bytes);
    made.wanted = opcode == nvme::nvm_opcode::read ? access::write : access::read;
  }
  const std::uint64_t there = f.first_lba + lba;
  std::uint32_t kept = 0xffffU | 1U << block::fua.lo | 1U << block::lr.lo;
  if (opcode == nvme::nvm_opcode::write_zeroes) kept |= 1U << block::deac.lo;
  made.command.cdw0 = static_cast<std::uint32_t>(opcode);
  made.command.nsid = drive.nsid;
  made.command.cdw10 = static_cast<std::uint32_t>(there);
  made.command.cdw11 = static_cast<std::uint32_t>(there >> 32);
  made.command.cdw12 = dw12 & kept;
  made.command.cdw13 = c.cdw13 & 0xffU;
  return code::success;
}

}  // namespace phasebit::systems::detail
