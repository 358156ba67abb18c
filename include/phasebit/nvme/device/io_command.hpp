// SPDX-License-Identifier: BSL-1.0
// The fields of an I/O command and their checks, which precede all changes, for synchronous and
// asynchronous media.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/namespace_format.hpp>
#include <phasebit/nvme/device/namespace_pool.hpp>
#include <phasebit/nvme/device/reservation_commands.hpp>
#include <phasebit/nvme/device/zoned_commands.hpp>
#include <phasebit/nvme/spec/features.hpp>
#include <phasebit/nvme/spec/identify_controller.hpp>
#include <phasebit/nvme/spec/log_pages.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// Limits of Copy, which Identify Namespace reports: ranges in all, blocks of one, blocks in all.
inline constexpr std::uint32_t max_copy_ranges = 16;
inline constexpr std::uint32_t max_copy_range_blocks = 65'535;
inline constexpr std::uint32_t max_copy_blocks = max_copy_ranges * max_copy_range_blocks;

// A command that passed check_io_command(). `media` is null for a flush of all namespaces.
template <class Media>
struct io_command {
  nvm_opcode opcode = nvm_opcode::flush;
  Media* media = nullptr;
  std::uint64_t lba = 0;
  std::uint32_t blocks = 0;
  std::uint64_t bytes = 0;  // of data that moves between host and media
  bool stable = false;      // what is written is stable before the command completes
};

// A command of the NVM command set: dispatch, the Commands Supported and Effects log and the ONCS
// field of Identify Controller all follow from this table.
struct nvm_command {
  nvm_opcode opcode;
  std::uint32_t effects;  // beside CSUPP
  std::uint16_t oncs;     // bits that report it
};
inline constexpr std::array nvm_commands{
    nvm_command{nvm_opcode::flush, 0, 0},
    nvm_command{nvm_opcode::write, commands_supported_log::lbcc.of(true), 0},
    nvm_command{nvm_opcode::read, 0, 0},
    nvm_command{nvm_opcode::compare, 0, identify_controller::oncs_compare.of<std::uint16_t>(true)},
    nvm_command{nvm_opcode::write_zeroes, commands_supported_log::lbcc.of(true),
                identify_controller::oncs_write_zeroes.of<std::uint16_t>(true)},
    nvm_command{nvm_opcode::verify, 0, identify_controller::oncs_verify.of<std::uint16_t>(true)},
    nvm_command{nvm_opcode::copy, commands_supported_log::lbcc.of(true),
                identify_controller::oncs_copy.of<std::uint16_t>(true)},
    nvm_command{nvm_opcode::dataset_management, commands_supported_log::lbcc.of(true),
                identify_controller::oncs_dataset_management.of<std::uint16_t>(true)}};

namespace detail {

// One bit for each opcode of the table.
inline constexpr auto supported_nvm_opcodes = [] {
  std::array<std::uint32_t, 8> bits{};
  for (const nvm_command& one : nvm_commands) {
    const auto opcode = static_cast<std::size_t>(one.opcode);
    bits[opcode / 32] |= std::uint32_t{1} << (opcode % 32);
  }
  return bits;
}();

}  // namespace detail

[[nodiscard]] constexpr bool is_supported(nvm_opcode opcode) noexcept {
  const auto at = static_cast<std::size_t>(opcode);
  return (detail::supported_nvm_opcodes[at / 32] >> (at % 32) & 1U) != 0;
}
// Commands that depend on the namespace set. visit(const nvm_command&) for every command that the
// controller has.
template <class Namespaces, class Visit>
constexpr void for_each_nvm_command(const Namespaces& namespaces, Visit&& visit) noexcept {
  for (const nvm_command& one : nvm_commands) visit(one);
  if constexpr (FormattedNamespaces<Namespaces>) {
    if (namespaces.marks_uncorrectable()) {
      visit(nvm_command{nvm_opcode::write_uncorrectable, commands_supported_log::lbcc.of(true),
                        identify_controller::oncs_write_uncorrectable.of<std::uint16_t>(true)});
    }
  }
  if constexpr (ReservableNamespaces<Namespaces>) {
    for (const nvm_opcode opcode :
         {nvm_opcode::reservation_register, nvm_opcode::reservation_report,
          nvm_opcode::reservation_acquire, nvm_opcode::reservation_release}) {
      visit(nvm_command{opcode, 0, identify_controller::oncs_reservations.of<std::uint16_t>(true)});
    }
  }
}
// And those that the zoned namespace command set adds.
template <class Visit>
constexpr void for_each_zone_command(Visit&& visit) noexcept {
  visit(nvm_command{nvm_opcode::zone_management_send, commands_supported_log::lbcc.of(true), 0});
  visit(nvm_command{nvm_opcode::zone_management_receive, 0, 0});
  visit(nvm_command{nvm_opcode::zone_append, commands_supported_log::lbcc.of(true), 0});
}
template <class Namespaces>
[[nodiscard]] constexpr bool is_supported_by(nvm_opcode opcode) noexcept {
  return is_supported(opcode) ||
         (FormattedNamespaces<Namespaces> && opcode == nvm_opcode::write_uncorrectable) ||
         (ReservableNamespaces<Namespaces> && is_reservation_command(opcode)) ||
         (ZonedNamespaces<Namespaces> && is_zone_command(opcode));
}
[[nodiscard]] constexpr bool moves_data(nvm_opcode opcode) noexcept {
  return opcode == nvm_opcode::read || opcode == nvm_opcode::write ||
         opcode == nvm_opcode::compare || opcode == nvm_opcode::zone_append;
}
[[nodiscard]] constexpr bool changes_blocks(nvm_opcode opcode) noexcept {
  return opcode == nvm_opcode::write || opcode == nvm_opcode::write_zeroes ||
         opcode == nvm_opcode::write_uncorrectable || opcode == nvm_opcode::zone_append;
}

// Fields, namespace, size, range and write protection, in the order in which a host sees them.
// Dataset Management and Copy are checked further when their lists were read.
template <class State, class Namespaces>
[[nodiscard]] PHASEBIT_ALWAYS_INLINE status_code
check_io_command(const State& s, Namespaces& namespaces, const submission_entry& c,
                 io_command<typename Namespaces::media_type>& out) noexcept {
  if (c.psdt() == data_pointer::reserved || c.fuse() != fused::none ||
      (c.psdt() != data_pointer::prp && !s.config.scatter_gather_lists)) {
    return status_code::invalid_field;
  }
  const auto opcode = static_cast<nvm_opcode>(c.opcode());
  if (!is_supported_by<Namespaces>(opcode)) return status_code::invalid_opcode;
  out.opcode = opcode;
  const std::uint32_t nsid = c.nsid;
  if (opcode == nvm_opcode::flush && nsid == all_namespaces) return status_code::success;
  if (nsid == 0 || nsid > namespaces.highest_nsid()) {
    return status_code::invalid_namespace_or_format;
  }
  auto* const media = namespaces.find(nsid);
  if (media == nullptr) return status_code::invalid_field;
  out.media = media;
  if constexpr (ZonedNamespaces<Namespaces>) {
    const auto bad = check_zoned(s, namespaces, nsid, opcode);
    if (bad != status_code::success) return bad;
  }

  // Forced unit access, or a host that has disabled the cache (Base 2.0, 5.27.1.4): written data is
  // stable before the command completes. With media without a cache it always is.
  const auto stable = [&](bool fua) noexcept {
    return s.config.volatile_write_cache &&
           (fua || (s.features.stored(feature_id::volatile_write_cache) & 1U) == 0);
  };
  switch (opcode) {
    case nvm_opcode::flush:
    case nvm_opcode::dataset_management:
    case nvm_opcode::reservation_register:
    case nvm_opcode::reservation_report:
    case nvm_opcode::reservation_acquire:
    case nvm_opcode::reservation_release:
    case nvm_opcode::zone_management_receive:
      return status_code::success;
    case nvm_opcode::zone_management_send:
      return block::read_only(*media) ? status_code::write_to_read_only_range
                                      : status_code::success;
    case nvm_opcode::copy:
      out.stable = stable(copy_command::fua_bit.get(c.cdw12.get()));
      return status_code::success;
    default:
      break;
  }
  const std::uint32_t dw12 = c.cdw12;
  out.lba = c.cdw10_11();
  out.blocks = std::uint32_t{block_command::nlb.get(dw12)} + 1;
  out.bytes = std::uint64_t{out.blocks} << block::block_shift(*media);
  out.stable = changes_blocks(opcode) && stable(block_command::fua.get(dw12));
  if (moves_data(opcode) && s.config.mdts != 0 &&
      out.bytes > std::uint64_t{4096} << s.config.mdts) {
    return status_code::invalid_field;
  }
  if (!block::in_range(*media, out.lba, out.blocks)) {
    return status_code::lba_out_of_range;
  }
  if (changes_blocks(opcode) && block::read_only(*media)) {
    return status_code::write_to_read_only_range;
  }
  return status_code::success;
}

// No I/O while a Sanitize is in progress or has failed (Base 2.0, 8.21).
template <class State>
[[nodiscard]] constexpr status_code check_sanitize(const State& s) noexcept {
  if constexpr (State::policy::maintenance::present) {
    if (s.maintenance.sanitizing()) return status_code::sanitize_in_progress;
    if (s.maintenance.sanitize_failed()) return status_code::sanitize_failed;
  }
  return status_code::success;
}

// The fields in which the two halves of Compare and Write must agree (NVM Command Set 1.0, 3.4.1).
[[nodiscard]] constexpr status_code check_fused_pair(const submission_entry& first,
                                                     const submission_entry& second) noexcept {
  const bool pair =
      static_cast<nvm_opcode>(first.opcode()) == nvm_opcode::compare &&
      static_cast<nvm_opcode>(second.opcode()) == nvm_opcode::write && first.nsid == second.nsid &&
      first.cdw10_11() == second.cdw10_11() &&
      block_command::nlb.get(first.cdw12.get()) == block_command::nlb.get(second.cdw12.get());
  return pair ? status_code::success : status_code::invalid_field;
}

// The ranges of Dataset Management, as copied from the host: hints but for Deallocate. All are
// checked before the first is trimmed (NVM Command Set 1.0, 3.2.3).
template <class Media>
[[nodiscard]] status_code check_dataset_ranges(const submission_entry& c, const Media& media,
                                               std::span<const std::byte> list) noexcept {
  for (std::size_t at = 0; at != list.size(); at += sizeof(dataset_range)) {
    const auto range = load_wire<dataset_range>(list.subspan(at));
    if (!block::in_range(media, range.lba, range.blocks)) return status_code::lba_out_of_range;
  }
  if (!dataset_management_command::ad.get(c.cdw11.get())) return status_code::success;
  return block::read_only(media) ? status_code::write_to_read_only_range : status_code::success;
}

[[nodiscard]] constexpr std::size_t dataset_list_bytes(const submission_entry& c) noexcept {
  return (std::size_t{dataset_management_command::nr.get(c.cdw10.get())} + 1) *
         sizeof(dataset_range);
}

// The list of Copy: format and count before it is read, the ranges afterwards.
[[nodiscard]] constexpr status_code check_copy_fields(const submission_entry& c) noexcept {
  const std::uint32_t dw12 = c.cdw12;
  if (copy_command::format.get(dw12) != 0) return status_code::invalid_field;
  if (std::size_t{copy_command::nr.get(dw12)} + 1 > max_copy_ranges) {
    return status_code::command_size_limit_exceeded;
  }
  return status_code::success;
}
[[nodiscard]] constexpr std::size_t copy_list_bytes(const submission_entry& c) noexcept {
  return (std::size_t{copy_command::nr.get(c.cdw12.get())} + 1) * sizeof(copy_range);
}
template <class Media>
[[nodiscard]] status_code check_copy_ranges(const submission_entry& c, const Media& media,
                                            std::span<const std::byte> list) noexcept {
  std::uint64_t total = 0;
  for (std::size_t at = 0; at != list.size(); at += sizeof(copy_range)) {
    const auto range = load_wire<copy_range>(list.subspan(at));
    const std::uint32_t blocks = std::uint32_t{range.nlb.get()} + 1;
    if (blocks > max_copy_range_blocks) return status_code::command_size_limit_exceeded;
    if (!block::in_range(media, range.lba, blocks)) return status_code::lba_out_of_range;
    total += blocks;
  }
  if (!block::in_range(media, c.cdw10_11(), total)) return status_code::lba_out_of_range;
  return block::read_only(media) ? status_code::write_to_read_only_range : status_code::success;
}

// The next part of copying `blocks` blocks from one place to another of the same media, `done` of
// them copied: where it begins within the range. A range is copied from its end where it overlaps a
// later destination, so that no source block is overwritten before it was read.
[[nodiscard]] constexpr std::uint64_t next_copy_part(std::uint64_t from, std::uint64_t to,
                                                     std::uint64_t blocks, std::uint64_t done,
                                                     std::uint64_t part) noexcept {
  const bool backwards = to > from && to - from < blocks;
  return backwards ? blocks - done - part : done;
}

// The counts that a command adds to the health log.
template <class Counters>
constexpr void count_command(Counters& health, nvm_opcode opcode, std::uint64_t bytes) noexcept {
  if (opcode == nvm_opcode::read || opcode == nvm_opcode::compare) {
    ++health.read_commands;
    health.sectors_read += bytes >> 9;
  } else if (opcode == nvm_opcode::write) {
    ++health.write_commands;
    health.sectors_written += bytes >> 9;
  }
}

}  // namespace phasebit::nvme::device
