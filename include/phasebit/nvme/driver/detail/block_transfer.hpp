// SPDX-License-Identifier: BSL-1.0
// From blocks of a namespace with metadata and protection information to a command: the lengths that the
// buffers must have, PRACT, PRCHK and the reference tag. NVM Command Set 1.0, section 5.2.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/nvme/driver/namespace_info.hpp>
#include <phasebit/nvme/driver/submitted.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::nvme::driver::detail {

// A command for blocks, and how many bytes of metadata the device moves at MPTR for it.
struct block_transfer {
  submission_entry command{};
  std::uint64_t metadata_bytes = 0;
};

// Makes the command for a transfer of `data_bytes` and, if the caller gave a metadata buffer, of
// `given_metadata`; a refusal names what does not fit.
[[nodiscard]] constexpr submitted prepare_transfer(nvm_opcode opcode, const namespace_info& ns,
                                                   block_range range, std::uint64_t data_bytes,
                                                   std::optional<std::uint64_t> given_metadata,
                                                   block_transfer& out) noexcept {
  if (range.blocks - 1 > 0xffffU) {
    return submitted::as_refused(errc::out_of_range, "a command is for 1 to 65536 blocks");
  }
  if (range.nsid == 0) range.nsid = ns.nsid;
  if (ns.nsid != 0 && range.nsid != ns.nsid) {
    return submitted::as_refused(errc::invalid_argument,
                                 "the blocks are of another namespace than the queue's: pass that "
                                 "namespace's handle (identify_namespace)");
  }
  const std::uint64_t plain = std::uint64_t{range.blocks} * ns.block_bytes;
  const std::uint64_t metadata = std::uint64_t{range.blocks} * ns.metadata_bytes;
  const bool extended = ns.metadata_inline && data_bytes == plain + metadata && metadata != 0;
  if (data_bytes != plain && !extended) {
    return submitted::as_refused(errc::invalid_argument,
                                 ns.takes_plain_data()
                                     ? "the buffer is not as long as the blocks are"
                                     : "the buffer is not as long as the blocks and their inline "
                                       "metadata are");
  }
  if (!extended && !ns.takes_plain_data()) {
    return submitted::as_refused(errc::invalid_argument,
                                 "the namespace keeps metadata behind each block: the buffer needs "
                                 "space for it");
  }
  if (given_metadata && ns.metadata_inline && *given_metadata != 0) {
    return submitted::as_refused(errc::invalid_argument,
                                 "the namespace keeps metadata in the data buffer, not apart");
  }
  const bool metadata_moves = extended || (given_metadata && metadata != 0);
  const bool asked_nothing = range.pi.bits() == 0;
  if (ns.is_protected() && !metadata_moves) {
    // Data alone: the controller makes the tuples of a write and checks those of a read.
    if (asked_nothing) {
      range.pi.action = true;
      range.pi.check_guard = opcode != nvm_opcode::write;
      range.pi.check_reference = range.pi.check_guard && ns.protection == protection_type::type1;
    } else if (!range.pi.action && (ns.metadata_inline || opcode == nvm_opcode::write)) {
      return submitted::as_refused(errc::invalid_argument,
                                   "without PRACT the protection information comes from the "
                                   "metadata: pass a metadata buffer");
    }
  }
  if (range.pi.action && ns.strips() && metadata_moves) {
    return submitted::as_refused(errc::invalid_argument,
                                 "with PRACT this namespace transfers no metadata: leave the "
                                 "metadata out, or PRACT");
  }
  out.metadata_bytes = ns.metadata_inline || (range.pi.action && ns.strips()) ? 0 : metadata;
  if (given_metadata && *given_metadata != out.metadata_bytes) {
    return submitted::as_refused(
        errc::invalid_argument, ns.metadata_bytes == 0
                                    ? "the namespace has no metadata"
                                    : "the metadata buffer is not as long as the blocks' metadata");
  }
  out.command = nvme::detail::checked_block_command(opcode, range);
  if (ns.is_protected() && (range.pi.action || range.pi.check_reference)) {
    // Type 1: the tag of the first block is the LBA's low bits, or the command is invalid. Type 2 takes
    // the caller's, and the LBA as well where the caller named none.
    const bool lba =
        ns.protection == protection_type::type1 ||
        (ns.protection == protection_type::type2 && asked_nothing && range.reference_tag == 0);
    if (lba) set_reference_tag(out.command, range.lba, ns.reference_tag_bits);
  }
  return submitted::as_posted(0);
}

// The bytes that a command of the NVM command set moves, if opcode and fields determine it; nullopt
// otherwise. `ns` is the format of the command's namespace.
[[nodiscard]] constexpr std::optional<std::uint64_t> transfer_bytes_of(
    const submission_entry& e, const namespace_info& ns) noexcept {
  const std::uint64_t blocks = std::uint64_t{block_command::nlb.get(e.cdw12.get())} + 1;
  switch (static_cast<nvm_opcode>(e.opcode())) {
    case nvm_opcode::read:
    case nvm_opcode::write:
    case nvm_opcode::compare: {
      if (ns.nsid != 0 && e.nsid != ns.nsid) return std::nullopt;
      const bool stripped =
          ns.strips() && prinfo::of(block_command::prinfo_bits.get(e.cdw12.get())).action;
      return blocks * (stripped ? ns.block_bytes : ns.extended_bytes());
    }
    case nvm_opcode::dataset_management:
      return (std::uint64_t{e.cdw10 & 0xffU} + 1) * 16;
    case nvm_opcode::copy:
      return (std::uint64_t{e.cdw12 & 0xffU} + 1) * 32;
    case nvm_opcode::flush:
    case nvm_opcode::verify:
    case nvm_opcode::write_zeroes:
    case nvm_opcode::write_uncorrectable:
      return 0;
    default:
      return std::nullopt;
  }
}

// Whether a command moves separate metadata, and names no place for it: the device would use bus address 0.
[[nodiscard]] constexpr bool lacks_metadata_pointer(const submission_entry& e,
                                                    const namespace_info& ns) noexcept {
  const auto opcode = static_cast<nvm_opcode>(e.opcode());
  const bool moves =
      opcode == nvm_opcode::read || opcode == nvm_opcode::write || opcode == nvm_opcode::compare;
  const bool stripped =
      ns.strips() && prinfo::of(block_command::prinfo_bits.get(e.cdw12.get())).action;
  return moves && !ns.metadata_inline && ns.metadata_bytes != 0 && !stripped && e.mptr == 0U;
}

}  // namespace phasebit::nvme::driver::detail
