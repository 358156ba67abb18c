// SPDX-License-Identifier: BSL-1.0
// The zoned namespace command set: builders of its commands, zone descriptors, and what Identify reports
// about it. NVMe Zoned Namespace Command Set 1.1.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme {

// State of a zone: figure 37, bits 7:4 of byte 1.
enum class zone_state : std::uint8_t {
  empty = 0x1,
  implicitly_opened = 0x2,
  explicitly_opened = 0x3,
  closed = 0x4,
  read_only = 0xd,
  full = 0xe,
  offline = 0xf,
};

// Actions of Zone Management Send: figure 27, CDW13 bits 7:0.
enum class zone_send_action : std::uint8_t {
  close = 0x01,
  finish = 0x02,
  open = 0x03,
  reset = 0x04,
  offline = 0x05,
  set_descriptor_extension = 0x10,
  flush_random_write_area = 0x11,
};

struct zone_send_command {
  static constexpr field<7, 0, zone_send_action> action_bits{};  // CDW13
  static constexpr field<8> select_all{};                        // CDW13
};

// Actions of Zone Management Receive: figure 32, CDW13 bits 7:0.
enum class zone_receive_action : std::uint8_t { report = 0x00, extended_report = 0x01 };

// The zones that a report lists: figure 33, CDW13 bits 15:8.
enum class zone_filter : std::uint8_t {
  all = 0,
  empty = 1,
  implicitly_opened = 2,
  explicitly_opened = 3,
  closed = 4,
  full = 5,
  read_only = 6,
  offline = 7,
};

struct zone_receive_command {
  static constexpr field<7, 0, zone_receive_action> action_bits{};  // CDW13
  static constexpr field<15, 8, zone_filter> filter_bits{};         // CDW13
  static constexpr field<16> partial{};                             // CDW13
};

// The header of a report: figure 35. Descriptors of 64 bytes follow, each with its extension in an
// extended report.
struct zone_report {
  le<std::uint64_t> zones;
  std::uint8_t reserved8[56];
};
static_assert(WireStruct<zone_report> && sizeof(zone_report) == 64);
static_assert(offsetof(zone_report, zones) == 0 && offsetof(zone_report, reserved8) == 8);

// Figure 37.
struct zone_descriptor {
  std::uint8_t type;        // bits 3:0
  std::uint8_t state_byte;  // bits 7:4
  std::uint8_t attributes;
  std::uint8_t attribute_information;
  std::uint8_t reserved4[4];
  le<std::uint64_t> capacity;  // blocks that can be written
  le<std::uint64_t> start;
  le<std::uint64_t> write_pointer;  // all ones where the state has none
  std::uint8_t reserved32[32];

  static constexpr std::uint8_t sequential_write_required = 2;
  static constexpr field<7, 4, zone_state> state_bits{};
  static constexpr field<0> finished_by_controller{};
  static constexpr field<1> finish_recommended{};
  static constexpr field<2> reset_recommended{};
  static constexpr field<7> extension_valid{};

  [[nodiscard]] constexpr zone_state state() const noexcept { return state_bits.get(state_byte); }
};
static_assert(WireStruct<zone_descriptor> && sizeof(zone_descriptor) == 64);
static_assert(offsetof(zone_descriptor, type) == 0 && offsetof(zone_descriptor, state_byte) == 1 &&
              offsetof(zone_descriptor, attributes) == 2 &&
              offsetof(zone_descriptor, attribute_information) == 3 &&
              offsetof(zone_descriptor, capacity) == 8 && offsetof(zone_descriptor, start) == 16 &&
              offsetof(zone_descriptor, write_pointer) == 24 &&
              offsetof(zone_descriptor, reserved32) == 32);

// CNS 05h with CSI 02h: figure 48. One LBA format extension for each LBA format.
struct zoned_format_extension {
  le<std::uint64_t> zone_blocks;
  std::uint8_t extension_units;  // of 64 bytes, of a zone descriptor extension
  std::uint8_t reserved9[7];
};
static_assert(WireStruct<zoned_format_extension> && sizeof(zoned_format_extension) == 16);
static_assert(offsetof(zoned_format_extension, zone_blocks) == 0 &&
              offsetof(zoned_format_extension, extension_units) == 8 &&
              offsetof(zoned_format_extension, reserved9) == 9);

struct zoned_identify_namespace {
  le<std::uint16_t> zoc;
  le<std::uint16_t> ozcs;
  le<std::uint32_t> mar;  // active zones, minus one; all ones is no limit
  le<std::uint32_t> mor;  // open zones, minus one; all ones is no limit
  le<std::uint32_t> rrl;
  le<std::uint32_t> frl;
  std::array<le<std::uint32_t>, 6> more_limits;  // RRL1 to RRL3, FRL1 to FRL3
  le<std::uint32_t> numzrwa;
  le<std::uint16_t> zrwafg;
  le<std::uint16_t> zrwasz;
  std::uint8_t zrwacap;
  std::uint8_t reserved53[2763];
  std::array<zoned_format_extension, 64> lbafe;
  std::uint8_t vendor[256];

  static constexpr field<0> ozcs_read_across_zones{};
  static constexpr std::uint32_t no_limit = 0xffff'ffff;
};
static_assert(WireStruct<zoned_identify_namespace> && sizeof(zoned_identify_namespace) == 4096);
static_assert(offsetof(zoned_identify_namespace, zoc) == 0 &&
              offsetof(zoned_identify_namespace, ozcs) == 2 &&
              offsetof(zoned_identify_namespace, mar) == 4 &&
              offsetof(zoned_identify_namespace, mor) == 8 &&
              offsetof(zoned_identify_namespace, rrl) == 12 &&
              offsetof(zoned_identify_namespace, frl) == 16 &&
              offsetof(zoned_identify_namespace, more_limits) == 20 &&
              offsetof(zoned_identify_namespace, numzrwa) == 44 &&
              offsetof(zoned_identify_namespace, zrwafg) == 48 &&
              offsetof(zoned_identify_namespace, zrwasz) == 50 &&
              offsetof(zoned_identify_namespace, zrwacap) == 52 &&
              offsetof(zoned_identify_namespace, reserved53) == 53 &&
              offsetof(zoned_identify_namespace, lbafe) == 2816 &&
              offsetof(zoned_identify_namespace, vendor) == 3840);

// CNS 06h with CSI 02h: figure 50.
struct zoned_identify_controller {
  std::uint8_t zasl;  // longest Zone Append, 2^zasl pages of CAP.MPSMIN; 0 is MDTS
  std::uint8_t reserved1[4095];
};
static_assert(WireStruct<zoned_identify_controller> && sizeof(zoned_identify_controller) == 4096);
static_assert(offsetof(zoned_identify_controller, zasl) == 0 &&
              offsetof(zoned_identify_controller, reserved1) == 1);

// The Changed Zone List log, BFh: figure 43.
struct changed_zone_log {
  le<std::uint16_t> zones;  // FFFFh: more than the list has
  std::uint8_t reserved2[6];
  std::array<le<std::uint64_t>, 511> starts;
};
static_assert(WireStruct<changed_zone_log> && sizeof(changed_zone_log) == 4096);
static_assert(offsetof(changed_zone_log, zones) == 0 && offsetof(changed_zone_log, starts) == 8);

namespace zns {

// `start` is the first block of the zone; with `all` it is ignored. Of a set_descriptor_extension the data
// pointer names the extension.
[[nodiscard]] constexpr submission_entry zone_management_send(std::uint32_t nsid,
                                                              zone_send_action action,
                                                              std::uint64_t start,
                                                              bool all = false) noexcept {
  auto e = command(nvm_opcode::zone_management_send, nsid);
  e.cdw10 = static_cast<std::uint32_t>(start);
  e.cdw11 = static_cast<std::uint32_t>(start >> 32);
  e.cdw13 = zone_send_command::action_bits.of(action) |
            zone_send_command::select_all.of<std::uint32_t>(all);
  return e;
}

struct zone_report_options {
  std::uint32_t nsid = 1;
  std::uint64_t lba = 0;    // the zone that has it comes first
  std::uint32_t bytes = 0;  // of the host's buffer: a multiple of 4, not 0
  zone_receive_action action = zone_receive_action::report;
  zone_filter filter = zone_filter::all;
  bool partial = false;  // the count is that of the descriptors in the buffer
};
[[nodiscard]] constexpr submission_entry zone_management_receive(
    const zone_report_options& o) noexcept {
  PHASEBIT_EXPECTS(o.bytes != 0 && o.bytes % 4 == 0, "a report is read in dwords");
  auto e = command(nvm_opcode::zone_management_receive, o.nsid);
  e.cdw10 = static_cast<std::uint32_t>(o.lba);
  e.cdw11 = static_cast<std::uint32_t>(o.lba >> 32);
  e.cdw12 = o.bytes / 4 - 1;
  e.cdw13 = zone_receive_command::action_bits.of(o.action) |
            zone_receive_command::filter_bits.of(o.filter) |
            zone_receive_command::partial.of<std::uint32_t>(o.partial);
  return e;
}

// `range.lba` is the first block of the zone. The completion holds the first block that was written: appended_at().
[[nodiscard]] constexpr submission_entry zone_append(const block_range& range) noexcept {
  return nvme::detail::block_command_of(nvm_opcode::zone_append, range);
}
template <class Completion>
[[nodiscard]] constexpr std::uint64_t appended_at(const Completion& c) noexcept {
  return c.dw0() | std::uint64_t{c.dw1()} << 32;
}

}  // namespace zns
}  // namespace phasebit::nvme
