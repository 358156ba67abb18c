// SPDX-License-Identifier: BSL-1.0
// Zoned Namespace Command Set 1.1: builders of Zone Management Send and Receive (3.4.3, 3.4.4) and Zone Append (3.4.1),
// and what they and Identify return. Command id and data pointer are left to the queue, as in nvm_commands.hpp.
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

// Figure 20.
enum class zoned_opcode : std::uint8_t {
  zone_management_send = 0x79,
  zone_management_receive = 0x7a,
  zone_append = 0x7d,
};

// Zone Send Action: 3.4.3.1.
enum class zone_action : std::uint8_t {
  close = 0x01,
  finish = 0x02,
  open = 0x03,
  reset = 0x04,
  offline = 0x05,
};
// Zone State: 2.1.1.3.
enum class zone_state : std::uint8_t {
  empty = 0x1,
  implicitly_opened = 0x2,
  explicitly_opened = 0x3,
  closed = 0x4,
  read_only = 0xd,
  full = 0xe,
  offline = 0xf,
};
// Which zones a report lists: Zone Receive Action Specific, 3.4.4.1.
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

struct zone_command {
  static constexpr field<7, 0, zone_action> zsa{};            // CDW13 of send
  static constexpr field<8> select_all{};                     // CDW13 of send
  static constexpr field<7, 0> zra{};                         // CDW13 of receive: 0 is Report Zones
  static constexpr field<15, 8, zone_filter> zra_specific{};  // CDW13 of receive
  static constexpr field<16> partial_report{};                // CDW13 of receive
};

// One zone: figure 37.
struct zone_descriptor {
  std::uint8_t type;   // bits 3:0: 2 is Sequential Write Required
  std::uint8_t state;  // bits 7:4
  std::uint8_t attributes;
  std::uint8_t information;
  std::uint8_t reserved4[4];
  le<std::uint64_t> zcap;   // blocks that can be written
  le<std::uint64_t> zslba;  // the first block
  le<std::uint64_t>
      wp;  // the next block to be written, where the zone is neither full, read only nor offline
  std::uint8_t reserved32[32];

  static constexpr field<7, 4, nvme::zone_state> state_bits{};
  [[nodiscard]] constexpr zone_state zone() const noexcept { return state_bits.get(state); }
};
static_assert(WireStruct<zone_descriptor> && sizeof(zone_descriptor) == 64);
static_assert(offsetof(zone_descriptor, zcap) == 8 && offsetof(zone_descriptor, zslba) == 16 &&
              offsetof(zone_descriptor, wp) == 24);

// What Report Zones begins with; descriptors follow: figure 36.
struct zone_report_header {
  le<std::uint64_t> nr_zones;  // that match, or, in a partial report, that follow
  std::uint8_t reserved8[56];
};
static_assert(WireStruct<zone_report_header> && sizeof(zone_report_header) == 64);

// I/O Command Set specific Identify Namespace (CNS 05h, CSI 02h): figure 48.
struct zoned_identify_namespace {
  struct format {
    le<std::uint64_t> zsze;  // blocks of a zone
    std::uint8_t zdes;       // of a descriptor extension, in 64 bytes
    std::uint8_t reserved9[7];
  };

  le<std::uint16_t> zoc;
  le<std::uint16_t> ozcs;
  le<std::uint32_t> mar;  // active zones at a time, minus one; FFFFFFFFh: no limit
  le<std::uint32_t> mor;  // open zones at a time, likewise
  std::uint8_t reserved12[2804];
  std::array<format, 64> lbafe;  // by the index of Identify Namespace's format
  std::uint8_t reserved3840[256];
};
static_assert(WireStruct<zoned_identify_namespace> && sizeof(zoned_identify_namespace) == 4096);
static_assert(offsetof(zoned_identify_namespace, mar) == 4 &&
              offsetof(zoned_identify_namespace, lbafe) == 2816);

// I/O Command Set specific Identify Controller (CNS 06h, CSI 02h): figure 49.
struct zoned_identify_controller {
  std::uint8_t zasl;  // most bytes of an append, log2 in units of CAP.MPSMIN; 0: MDTS
  std::uint8_t reserved1[4095];
};
static_assert(WireStruct<zoned_identify_controller> && sizeof(zoned_identify_controller) == 4096);

namespace zoned {

// An action on the zone that begins at this block.
[[nodiscard]] constexpr submission_entry send(std::uint32_t nsid, std::uint64_t zslba,
                                              zone_action action) noexcept {
  submission_entry e{};
  e.cdw0 = static_cast<std::uint8_t>(zoned_opcode::zone_management_send);
  e.nsid = nsid;
  e.cdw10 = static_cast<std::uint32_t>(zslba);
  e.cdw11 = static_cast<std::uint32_t>(zslba >> 32);
  e.cdw13 = zone_command::zsa.set(0U, action);
  return e;
}
// ... on all zones whose state allows it.
[[nodiscard]] constexpr submission_entry send_all(std::uint32_t nsid, zone_action action) noexcept {
  submission_entry e = send(nsid, 0, action);
  e.cdw13 = zone_command::select_all.set(e.cdw13.get(), true);
  return e;
}
[[nodiscard]] constexpr submission_entry reset(std::uint32_t nsid, std::uint64_t zslba) noexcept {
  return send(nsid, zslba, zone_action::reset);
}
[[nodiscard]] constexpr submission_entry finish(std::uint32_t nsid, std::uint64_t zslba) noexcept {
  return send(nsid, zslba, zone_action::finish);
}

// Report Zones from the zone that holds `lba`, into a buffer of `bytes`: a multiple of 4, at least 64. `partial`: the
// header counts the descriptors that the buffer holds.
[[nodiscard]] constexpr submission_entry report(std::uint32_t nsid, std::uint64_t lba,
                                                std::uint32_t bytes,
                                                zone_filter which = zone_filter::all,
                                                bool partial = true) noexcept {
  PHASEBIT_EXPECTS(bytes >= sizeof(zone_report_header) && bytes % 4 == 0,
                   "a report has a header of 64 bytes, and whole dwords");
  submission_entry e{};
  e.cdw0 = static_cast<std::uint8_t>(zoned_opcode::zone_management_receive);
  e.nsid = nsid;
  e.cdw10 = static_cast<std::uint32_t>(lba);
  e.cdw11 = static_cast<std::uint32_t>(lba >> 32);
  e.cdw12 = bytes / 4 - 1;
  e.cdw13 = zone_command::partial_report.set(zone_command::zra_specific.set(0U, which), partial);
  return e;
}

// Writes blocks wherever the zone's write pointer is; range.lba is the zone's first block. The completion reports where:
// appended_at().
[[nodiscard]] constexpr submission_entry append(const block_range& range) noexcept {
  submission_entry e = nvme::detail::block_command_of(nvm_opcode::write, range);
  e.cdw0 = static_cast<std::uint8_t>(zoned_opcode::zone_append);
  return e;
}
template <class Completion>
[[nodiscard]] constexpr std::uint64_t appended_at(const Completion& c) noexcept {
  return c.dw0() | std::uint64_t{c.dw1()} << 32;
}

}  // namespace zoned
}  // namespace phasebit::nvme
