// SPDX-License-Identifier: BSL-1.0
// The format of one namespace, as commands for it need it: block, metadata, protection information.
#pragma once

#include <phasebit/nvme/spec/identify_namespace.hpp>
#include <phasebit/nvme/spec/identify_nvm.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/protection.hpp>

#include <cstdint>

namespace phasebit::nvme::driver {

// A small handle that is passed instead of a namespace id, so that a queue does not look formats
// up. Created by controller::identify_namespace(). `generation` is the controller's count of
// namespace changes at that moment: a queue refuses a handle that is older than a change reported
// to it.
struct namespace_info {
  std::uint32_t nsid = 0;  // 0: no particular namespace
  std::uint32_t generation = 0;
  std::uint64_t blocks = 0;
  std::uint32_t block_bytes = 512;    // data bytes of a block
  std::uint16_t metadata_bytes = 0;   // beside each block
  std::uint16_t boundary_blocks = 0;  // NOIOB: no command should cross a multiple of it; 0: none
  std::uint8_t block_shift = 9;
  std::uint8_t reference_tag_bits = 32;
  bool metadata_inline = false;   // behind each block in the data buffer, not at MPTR
  bool protection_first = false;  // the tuple begins the metadata, not ends it
  protection_type protection = protection_type::none;
  guard_format guard = guard_format::bits16;

  // Data bytes of the namespace.
  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return blocks << block_shift; }

  [[nodiscard]] constexpr bool is_protected() const noexcept {
    return protection != protection_type::none;
  }
  [[nodiscard]] constexpr std::uint32_t tuple_bytes() const noexcept {
    return is_protected() ? static_cast<std::uint32_t>(protection_bytes(guard)) : 0;
  }
  // Whether the controller inserts and strips the whole metadata where PRACT is set.
  [[nodiscard]] constexpr bool strips() const noexcept {
    return is_protected() && metadata_bytes == tuple_bytes();
  }
  // Bytes of one block in the data buffer where metadata is transferred.
  [[nodiscard]] constexpr std::uint32_t extended_bytes() const noexcept {
    return block_bytes + (metadata_inline ? metadata_bytes : 0U);
  }
  // Whether a buffer contains data only, without metadata.
  [[nodiscard]] constexpr bool takes_plain_data() const noexcept {
    return !metadata_inline || metadata_bytes == 0 || strips();
  }
};

namespace detail {

// The parts of a handle: the fields of Identify Namespace that matter to commands, each read once, and the extended
// format of the NVM command set (0 where it is not known).
struct namespace_fields {
  std::uint64_t nsze = 0;
  std::uint16_t noiob = 0;
  std::uint8_t flbas = 0;
  std::uint8_t dps = 0;
  lba_format format{};
  std::uint32_t extended_format = 0;

  // Data bytes of a block, or 0 where the device's answer makes no sense.
  [[nodiscard]] constexpr std::uint32_t block_bytes() const noexcept {
    return format.lbads < 9 || format.lbads > 31 ? 0 : std::uint32_t{1} << format.lbads;
  }
};

[[nodiscard]] constexpr namespace_info describe(std::uint32_t nsid,
                                                const namespace_fields& ns) noexcept {
  namespace_info out;
  out.nsid = nsid;
  out.blocks = ns.nsze;
  out.block_bytes = ns.block_bytes();
  out.block_shift = ns.format.lbads;
  out.metadata_bytes = ns.format.ms;
  out.boundary_blocks = ns.noiob;
  out.metadata_inline =
      out.metadata_bytes != 0 && identify_namespace::flbas_metadata_inline.get(ns.flbas);
  const auto type = identify_namespace::dps_type.get(ns.dps);
  out.protection = type <= 3 ? static_cast<protection_type>(type) : protection_type::none;
  out.protection_first = identify_namespace::dps_first_bytes.get(ns.dps);
  const auto guard = nvm_identify_namespace::elbaf_guard.get(ns.extended_format);
  const auto storage = nvm_identify_namespace::elbaf_storage_tag_bits.get(ns.extended_format);
  out.guard = guard <= 2 ? static_cast<guard_format>(guard) : guard_format::bits16;
  const unsigned both = out.guard == guard_format::bits16   ? 32U
                        : out.guard == guard_format::bits32 ? 80U
                                                            : 48U;
  const unsigned tag = storage < both ? both - storage : 0U;
  out.reference_tag_bits = static_cast<std::uint8_t>(tag < 64 ? tag : 64);
  if (out.metadata_bytes < out.tuple_bytes()) out.protection = protection_type::none;
  return out;
}

}  // namespace detail

// The handle's fields from Identify Namespace (CNS 00h), and from the NVM command set's structure (CNS
// 05h) where the controller has it. block_bytes is 0 where the format makes no sense.
[[nodiscard]] constexpr namespace_info describe_namespace(
    std::uint32_t nsid, const identify_namespace& ns,
    const nvm_identify_namespace* nvm = nullptr) noexcept {
  return detail::describe(
      nsid, {.nsze = ns.nsze,
             .noiob = ns.noiob,
             .flbas = ns.flbas,
             .dps = ns.dps,
             .format = ns.format(),
             .extended_format = nvm != nullptr ? nvm->elbaf[ns.format_index()].get() : 0U});
}

// Reference tags of 32 to 64 bits, with a storage tag above them: NVM Command Set 1.0, 5.2.1.4 and
// figures 113 to 115. The lowest dword is CDW14, the next CDW3.
[[nodiscard]] constexpr std::uint64_t reference_tag_of(const submission_entry& e) noexcept {
  return e.cdw14.get() | std::uint64_t{e.cdw3.get()} << 32;
}
// Replaces the tag's bits and keeps the storage tag.
constexpr void set_reference_tag(submission_entry& e, std::uint64_t tag, unsigned bits) noexcept {
  const std::uint64_t mask = bits >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits) - 1;
  const std::uint64_t both = (reference_tag_of(e) & ~mask) | (tag & mask);
  e.cdw14 = static_cast<std::uint32_t>(both);
  e.cdw3 = static_cast<std::uint32_t>(both >> 32);
}

}  // namespace phasebit::nvme::driver
