// SPDX-License-Identifier: BSL-1.0
// The commands of the zoned namespace command set, and what it adds to those of the NVM command set. NVMe
// Zoned Namespace Command Set 1.1, section 3.
#pragma once

#include <phasebit/block/media.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/device/command_result.hpp>
#include <phasebit/nvme/device/data_transfer.hpp>
#include <phasebit/nvme/device/zoned_namespaces.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>
#include <phasebit/nvme/spec/registers.hpp>
#include <phasebit/nvme/spec/zoned.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

[[nodiscard]] constexpr bool is_zone_management(nvm_opcode opcode) noexcept {
  return opcode == nvm_opcode::zone_management_send ||
         opcode == nvm_opcode::zone_management_receive;
}
[[nodiscard]] constexpr bool is_zone_command(nvm_opcode opcode) noexcept {
  return is_zone_management(opcode) || opcode == nvm_opcode::zone_append;
}

// The host has selected all command sets: zoned namespaces are active for it.
template <class State>
[[nodiscard]] constexpr bool all_command_sets(const State& s) noexcept {
  return s.regs.configuration()[cc::css] == command_set_selected::all_supported;
}

// Whether a command may go to its namespace: zone commands to zoned ones, nothing to a zoned one that is not
// active.
template <class State, class Namespaces>
[[nodiscard]] status_code check_zoned(const State& s, Namespaces& set, std::uint32_t nsid,
                                      nvm_opcode opcode) noexcept {
  if constexpr (ZonedNamespaces<Namespaces>) {
    if (set.zones(nsid) != nullptr) {
      return all_command_sets(s) ? status_code::success : status_code::invalid_field;
    }
  }
  return is_zone_command(opcode) ? status_code::invalid_opcode : status_code::success;
}

// A write that begin_zone_write() has accepted, until end_zone_write().
struct accepted_write {
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;  // 0: none
  bool append = false;
};

// Reads are checked, writes accepted; a Zone Append becomes a Write at the block that it is assigned.
template <ZonedNamespaces Namespaces, class Command>
[[nodiscard]] status_code begin_zone_access(Namespaces& set, submission_entry& c, Command& what,
                                            accepted_write& accepted) noexcept {
  zone_table* const zones = what.media == nullptr ? nullptr : set.zones(c.nsid);
  if (zones == nullptr) return status_code::success;
  status_code done = status_code::success;
  switch (what.opcode) {
    case nvm_opcode::read:
    case nvm_opcode::compare:
    case nvm_opcode::verify:
      return zones->check_read(what.lba, what.blocks);
    case nvm_opcode::write:
    case nvm_opcode::write_zeroes:
    case nvm_opcode::write_uncorrectable:
      done = zones->begin_write(what.lba, what.blocks);
      break;
    case nvm_opcode::zone_append:
      done = zones->begin_append(what.lba, what.blocks, what.lba);
      if (done != status_code::success) break;
      what.opcode = nvm_opcode::write;
      c.cdw0 = (c.cdw0.get() & ~0xffU) | static_cast<std::uint32_t>(nvm_opcode::write);
      c.cdw10 = static_cast<std::uint32_t>(what.lba);
      c.cdw11 = static_cast<std::uint32_t>(what.lba >> 32);
      accepted.append = true;
      break;
    default:
      return status_code::success;
  }
  if (done == status_code::success) {
    accepted.lba = what.lba;
    accepted.blocks = what.blocks;
  }
  return done;
}
// Copy, when its ranges were read and checked.
template <ZonedNamespaces Namespaces>
[[nodiscard]] status_code begin_zone_copy(Namespaces& set, const submission_entry& c,
                                          std::span<const std::byte> list,
                                          accepted_write& accepted) noexcept {
  zone_table* const zones = set.zones(c.nsid);
  if (zones == nullptr) return status_code::success;
  std::uint64_t total = 0;
  for (std::size_t at = 0; at != list.size(); at += sizeof(copy_range)) {
    const auto range = load_wire<copy_range>(list.subspan(at));
    const std::uint64_t blocks = std::uint64_t{range.nlb.get()} + 1;
    const auto bad = zones->check_read(range.lba, blocks);
    if (bad != status_code::success) return bad;
    total += blocks;
  }
  const auto done = zones->begin_write(c.cdw10_11(), total);
  if (done == status_code::success) accepted = {c.cdw10_11(), total, false};
  return done;
}
template <ZonedNamespaces Namespaces>
void end_zone_access(Namespaces& set, std::uint32_t nsid, const accepted_write& accepted,
                     command_result& result) noexcept {
  zone_table* const zones = set.zones(nsid);
  if (accepted.blocks == 0 || zones == nullptr) return;
  zones->end_write(accepted.lba, accepted.blocks, result.ok());
  if (!accepted.append || !result.ok()) return;
  result.dw0 = static_cast<std::uint32_t>(accepted.lba);
  result.dw1 = static_cast<std::uint32_t>(accepted.lba >> 32);
}

// -- Zone Management Send --

// The zones [first, end) that a Zone Management Send is for, after its fields were checked.
struct zone_send {
  status_code status = status_code::success;
  zone_send_action action = zone_send_action::close;
  bool all = false;
  std::size_t first = 0;
  std::size_t end = 0;
};

[[nodiscard]] inline zone_send zone_send_of(const zone_table& zones,
                                            const submission_entry& c) noexcept {
  using f = zone_send_command;
  zone_send to;
  to.action = f::action_bits.get(c.cdw13.get());
  to.all = f::select_all.get(c.cdw13.get());
  switch (to.action) {
    case zone_send_action::close:
    case zone_send_action::finish:
    case zone_send_action::open:
    case zone_send_action::reset:
    case zone_send_action::offline:
      break;
    case zone_send_action::set_descriptor_extension:
      if (!to.all) break;
      to.status = status_code::invalid_field;
      return to;
    default:  // also the flush of a random write area, which is not there
      to.status = status_code::invalid_field;
      return to;
  }
  if (to.all) {
    to.end = zones.count();
    if (to.action == zone_send_action::open && !zones.can_open_closed()) {
      to.status = status_code::too_many_open_zones;
    }
    return to;
  }
  const std::uint64_t lba = c.cdw10_11();
  const std::uint64_t index = zones.index_of(lba);
  if (index >= zones.count()) {
    to.status = status_code::lba_out_of_range;
  } else if (lba != zones.start_of(int_cast<std::size_t>(index))) {
    to.status = status_code::invalid_field;
  } else {
    to.first = int_cast<std::size_t>(index);
    to.end = to.first + 1;
  }
  return to;
}
// Whether the action of a Select All is for this zone: section 3.4.3.1.
[[nodiscard]] constexpr bool is_selected(zone_send_action action, zone_state s) noexcept {
  const bool open = s == zone_state::implicitly_opened || s == zone_state::explicitly_opened;
  switch (action) {
    case zone_send_action::close:
      return open;
    case zone_send_action::finish:
      return open || s == zone_state::closed;
    case zone_send_action::open:
      return s == zone_state::closed;
    case zone_send_action::reset:
      return open || s == zone_state::closed || s == zone_state::full;
    case zone_send_action::offline:
      return s == zone_state::read_only;
    default:
      return false;
  }
}
// Every action but reset, on one zone. `wait` is set where writes to the zone have to end first.
template <AnyDma Dma>
[[nodiscard]] status_code send_to_zone(zone_table& zones, zone_send_action action, std::size_t i,
                                       data_transfer<Dma> data, bool& wait) noexcept {
  switch (action) {
    case zone_send_action::close:
      return zones.close(i);
    case zone_send_action::open:
      return zones.open(i);
    case zone_send_action::finish:
      wait = zones.at(i).in_flight != 0;
      return wait ? status_code::success : zones.finish(i);
    case zone_send_action::offline:
      return zones.take_offline(i);
    case zone_send_action::set_descriptor_extension: {
      if (const auto bad = zones.check_extension(i); bad != status_code::success) return bad;
      const auto got = data.from_host(zones.extension(i));
      if (got == status_code::success) zones.set_extension_valid(i);
      return got;
    }
    default:
      return status_code::invalid_field;
  }
}

// -- Zone Management Receive --

template <class State>
[[nodiscard]] status_code report_zones(State& s, const zone_table& zones,
                                       const submission_entry& c) noexcept {
  using f = zone_receive_command;
  const std::uint32_t dw13 = c.cdw13;
  const auto action = f::action_bits.get(dw13);
  const auto filter = f::filter_bits.get(dw13);
  const bool extended = action == zone_receive_action::extended_report;
  if (!extended && action != zone_receive_action::report) return status_code::invalid_field;
  if (extended && zones.extension_bytes() == 0) return status_code::invalid_field;
  if (static_cast<std::uint8_t>(filter) > static_cast<std::uint8_t>(zone_filter::offline)) {
    return status_code::invalid_field;
  }
  const std::uint64_t first = zones.index_of(c.cdw10_11());
  if (first >= zones.count()) return status_code::lba_out_of_range;
  const std::uint64_t asked = (std::uint64_t{c.cdw12.get()} + 1) * 4;
  if (s.config.mdts != 0 && asked > std::uint64_t{4096} << s.config.mdts) {
    return status_code::invalid_field;
  }
  if (asked < sizeof(zone_report)) return status_code::invalid_field;

  const std::size_t each = sizeof(zone_descriptor) + (extended ? zones.extension_bytes() : 0);
  data_transfer data{*s.dma, c, s.regs.page_shift()};
  std::array<std::byte, 1024> part;
  std::size_t filled = 0;
  std::uint64_t sent = sizeof(zone_report);  // bytes of the answer before `part`
  std::uint64_t matching = 0;
  std::uint64_t listed = 0;
  status_code done = status_code::success;
  const auto flush = [&]() noexcept {
    if (filled == 0 || done != status_code::success) return;
    done = data.to_host(asked, sent, std::span<const std::byte>{part}.first(filled));
    sent += filled;
    filled = 0;
  };
  const auto put = [&](std::span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
      const std::size_t space = part.size() - filled;
      const std::size_t n = bytes.size() < space ? bytes.size() : space;
      __builtin_memcpy(part.data() + filled, bytes.data(), n);
      filled += n;
      bytes = bytes.subspan(n);
      if (filled == part.size()) flush();
    }
  };
  const bool counts_all = !f::partial.get(dw13);
  for (auto i = int_cast<std::size_t>(first); i != zones.count(); ++i) {
    if (!zone_table::matches(zones.at(i).state, filter)) continue;
    ++matching;
    if (sizeof(zone_report) + (listed + 1) * each > asked) {
      if (counts_all) continue;
      break;
    }
    ++listed;
    const zone_descriptor d = zones.descriptor(i);
    put(wire_bytes(d));
    if (extended) put(zones.extension(i));
  }
  flush();
  if (done != status_code::success) return done;
  zone_report header{};
  header.zones = counts_all ? matching : listed;
  return data.to_host(asked, 0, wire_bytes(header));
}

}  // namespace phasebit::nvme::device
