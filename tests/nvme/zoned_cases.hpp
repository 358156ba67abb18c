// SPDX-License-Identifier: BSL-1.0
// Cases of the zoned namespace command set for any controller: 8 zones of 128 blocks of 512 bytes, of which
// 96 can be written; at most 2 open and 3 active zones; a descriptor extension of 64 bytes.
#pragma once

#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/identify.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>
#include <phasebit/nvme/spec/zoned.hpp>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <doctest/doctest.h>

namespace zoned_cases {

using namespace phasebit;
using namespace phasebit::nvme;
using enum status_code;
using action = zone_send_action;

inline constexpr std::uint64_t zone_blocks = 128;
inline constexpr std::uint64_t zone_capacity = 96;
inline constexpr std::uint32_t zone_count = 8;

// `Host` has admin(entry) and io(entry), which return a completion, and buffer(), two pages that
// data(entry) names.
template <class Host>
struct cases {
  Host& h;

  static constexpr std::uint64_t start(std::uint64_t zone) { return zone * zone_blocks; }
  status_code code(const submission_entry& e) { return h.io(h.data(e)).status().code(); }
  status_code send(action a, std::uint64_t zone, bool all = false) {
    return code(zns::zone_management_send(1, a, start(zone), all));
  }
  status_code write(std::uint64_t lba, std::uint32_t blocks = 1) {
    return code(nvm::write({.nsid = 1, .lba = lba, .blocks = blocks}));
  }
  status_code read(std::uint64_t lba, std::uint32_t blocks = 1) {
    return code(nvm::read({.nsid = 1, .lba = lba, .blocks = blocks}));
  }
  completion_entry append(std::uint64_t lba, std::uint32_t blocks = 1) {
    return h.io(h.data(zns::zone_append({.nsid = 1, .lba = lba, .blocks = blocks})));
  }
  status_code report(const zns::zone_report_options& o) {
    std::memset(h.buffer().data(), 0xee, h.buffer().size());
    return code(zns::zone_management_receive(o));
  }
  std::uint64_t listed() { return load_wire<zone_report>(h.buffer()).zones; }
  zone_descriptor entry(std::size_t i, std::size_t each = 64) {
    return load_wire<zone_descriptor>(h.buffer().subspan(64 + i * each));
  }
  zone_descriptor descriptor(std::uint64_t zone) {
    REQUIRE(report({.lba = start(zone), .bytes = 128, .partial = true}) == success);
    REQUIRE(listed() == 1);
    return entry(0);
  }
  zone_state state(std::uint64_t zone) { return descriptor(zone).state(); }
  std::uint64_t pointer(std::uint64_t zone) { return descriptor(zone).write_pointer - start(zone); }
  // Every zone is empty again.
  void reset() {
    REQUIRE(send(action::reset, 0, true) == success);
    for (std::uint64_t z = 0; z != zone_count; ++z) REQUIRE(state(z) == zone_state::empty);
  }
  // Brings a zone to a state, from empty.
  void bring(std::uint64_t zone, zone_state to) {
    switch (to) {
      case zone_state::implicitly_opened:
        REQUIRE(write(start(zone)) == success);
        break;
      case zone_state::explicitly_opened:
        REQUIRE(send(action::open, zone) == success);
        break;
      case zone_state::closed:
        REQUIRE(write(start(zone)) == success);
        REQUIRE(send(action::close, zone) == success);
        break;
      case zone_state::full:
        REQUIRE(send(action::finish, zone) == success);
        break;
      default:
        break;
    }
    REQUIRE(state(zone) == to);
  }

  void identify() {
    REQUIRE(h.admin(h.data(admin::identify(
                        {.cns = cns::command_set_namespace, .nsid = 1, .csi = command_set::zoned})))
                .status()
                .ok());
    const auto id = load_wire<zoned_identify_namespace>(h.buffer());
    CHECK(id.mar == 2);
    CHECK(id.mor == 1);
    CHECK(id.ozcs == 0);
    CHECK(id.lbafe[0].zone_blocks == zone_blocks);
    CHECK(id.lbafe[0].extension_units == 1);
    // The command set among the identifiers of the namespace, and in the lists.
    REQUIRE(h.admin(h.data(admin::identify({.cns = cns::namespace_id_descriptors, .nsid = 1})))
                .status()
                .ok());
    bool found = false;
    for (std::size_t at = 0; at + 4 <= 4096;) {
      const auto type = std::to_integer<unsigned>(h.buffer()[at]);
      const auto bytes = std::to_integer<unsigned>(h.buffer()[at + 1]);
      if (type == 0) break;
      if (type == 4) found = h.buffer()[at + 4] == std::byte{2};
      at += 4 + bytes;
    }
    CHECK(found);
    for (const auto csi : {command_set::nvm, command_set::zoned}) {
      REQUIRE(h.admin(h.data(admin::identify(
                          {.cns = cns::command_set_active_namespace_list, .nsid = 0, .csi = csi})))
                  .status()
                  .ok());
      CHECK((load_wire<le<std::uint32_t>>(h.buffer()) == 1U) == (csi == command_set::zoned));
    }
    CHECK(h.admin(h.data(admin::identify(
                      {.cns = cns::command_set_controller, .csi = command_set::zoned})))
              .status()
              .ok());
    CHECK(h.admin(h.data(admin::identify({.cns = cns::command_set_namespace,
                                          .nsid = 1,
                                          .csi = static_cast<command_set>(9)})))
              .status() == invalid_field);
    // Commands of the zoned command set in its effects log.
    auto log = admin::get_log_page(
        {.lid = log_page_id::commands_supported, .bytes = 4096, .csi = command_set::zoned});
    REQUIRE(h.admin(h.data(log)).status().ok());
    for (const std::size_t opcode : {0x01U, 0x02U, 0x79U, 0x7aU, 0x7dU}) {
      CAPTURE(opcode);
      CHECK((load_wire<le<std::uint32_t>>(h.buffer().subspan((256 + opcode) * 4)) & 1U) == 1);
    }
    log.cdw14 = 0;
    REQUIRE(h.admin(h.data(log)).status().ok());
    CHECK((load_wire<le<std::uint32_t>>(h.buffer().subspan((256 + 0x7d) * 4)) & 1U) == 0);
  }

  // Each action on a zone of each state: the status, and the state afterwards.
  void transitions() {
    struct row {
      zone_state from;
      action what;
      status_code status;
      zone_state to;
    };
    using enum zone_state;
    constexpr auto bad = invalid_zone_state_transition;
    const row rows[] = {
        {empty, action::close, bad, empty},
        {empty, action::finish, success, full},
        {empty, action::open, success, explicitly_opened},
        {empty, action::reset, success, empty},
        {empty, action::offline, bad, empty},
        {implicitly_opened, action::close, success, closed},
        {implicitly_opened, action::finish, success, full},
        {implicitly_opened, action::open, success, explicitly_opened},
        {implicitly_opened, action::reset, success, empty},
        {implicitly_opened, action::offline, bad, implicitly_opened},
        {explicitly_opened, action::close, success, closed},
        {explicitly_opened, action::finish, success, full},
        {explicitly_opened, action::open, success, explicitly_opened},
        {explicitly_opened, action::reset, success, empty},
        {explicitly_opened, action::offline, bad, explicitly_opened},
        {closed, action::close, success, closed},
        {closed, action::finish, success, full},
        {closed, action::open, success, explicitly_opened},
        {closed, action::reset, success, empty},
        {closed, action::offline, bad, closed},
        {full, action::close, bad, full},
        {full, action::finish, success, full},
        {full, action::open, bad, full},
        {full, action::reset, success, empty},
        {full, action::offline, bad, full},
    };
    for (const row& r : rows) {
      CAPTURE(static_cast<int>(r.from));
      CAPTURE(static_cast<int>(r.what));
      reset();
      bring(3, r.from);
      CHECK(send(r.what, 3) == r.status);
      CHECK(state(3) == r.to);
    }
    reset();
    CHECK(code(zns::zone_management_send(1, action::open, start(3) + 1)) == invalid_field);
    CHECK(send(action::open, zone_count) == lba_out_of_range);
    CHECK(send(static_cast<action>(0x20), 0) == invalid_field);
    CHECK(send(static_cast<action>(0), 0) == invalid_field);
    CHECK(send(action::flush_random_write_area, 0) != success);
  }

  void writes() {
    reset();
    CHECK(write(start(1) + 1) == zone_invalid_write);
    CHECK(state(1) == zone_state::empty);
    CHECK(write(start(1), 8) == success);
    CHECK(state(1) == zone_state::implicitly_opened);
    CHECK(pointer(1) == 8);
    CHECK(write(start(1)) == zone_invalid_write);
    CHECK(write(start(1) + 9) == zone_invalid_write);
    CHECK(code(nvm::write_zeroes({.nsid = 1, .lba = start(1) + 8, .blocks = 72})) == success);
    CHECK(write(start(1) + 80, 16) == success);
    CHECK(state(1) == zone_state::full);
    CHECK(descriptor(1).write_pointer == ~std::uint64_t{0});
    CHECK(descriptor(1).capacity == zone_capacity);
    CHECK(write(start(1) + 96) == zone_is_full);
    CHECK(code(nvm::write_zeroes({.nsid = 1, .lba = start(1), .blocks = 1})) == zone_is_full);
    // Beyond the capacity.
    CHECK(code(nvm::write_zeroes({.nsid = 1, .lba = start(2), .blocks = 97})) ==
          zone_boundary_error);
    CHECK(code(nvm::write_zeroes({.nsid = 1, .lba = start(2), .blocks = 90})) == success);
    CHECK(write(start(2) + 90, 7) == zone_boundary_error);
    CHECK(write(start(2) + 90, 6) == success);
    CHECK(state(2) == zone_state::full);
    // The last zone ends with the namespace.
    CHECK(write(start(zone_count)) == lba_out_of_range);
    CHECK(append(start(zone_count)).status() == lba_out_of_range);
  }

  void appends() {
    reset();
    for (std::uint32_t i = 0; i != 6; ++i) {
      std::memset(h.buffer().data(), static_cast<int>('a' + i), 8192);
      const auto c = append(start(4), 2);
      REQUIRE(c.status().ok());
      CHECK((c.dw0.get() | std::uint64_t{c.dw1.get()} << 32) == start(4) + 2 * i);
    }
    CHECK(pointer(4) == 12);
    for (std::uint32_t i = 0; i != 6; ++i) {
      REQUIRE(read(start(4) + 2 * i, 2) == success);
      CHECK(h.buffer()[0] == static_cast<std::byte>('a' + i));
      CHECK(h.buffer()[1023] == static_cast<std::byte>('a' + i));
    }
    CHECK(append(start(4) + 2).status() == invalid_field);
    CHECK(code(nvm::write_zeroes({.nsid = 1, .lba = start(4) + 12, .blocks = 80})) == success);
    CHECK(append(start(4), 5).status() == zone_boundary_error);
    CHECK(append(start(4), 4).status() == success);
    CHECK(append(start(4), 1).status() == zone_is_full);
  }

  void reads() {
    reset();
    CHECK(read(start(1) - 1, 2) == zone_boundary_error);
    CHECK(read(start(1) + 5, 2) == success);  // not written
    std::memset(h.buffer().data(), 'x', 8192);
    REQUIRE(write(start(1), 16) == success);
    REQUIRE(send(action::reset, 1) == success);
    // Nothing of what was written before a reset is read.
    std::memset(h.buffer().data(), 'y', 8192);
    REQUIRE(read(start(1), 16) == success);
    CHECK(h.buffer()[0] == std::byte{0});
    CHECK(h.buffer()[8191] == std::byte{0});
  }

  // Three active zones at most, two open ones.
  void limits() {
    using enum zone_state;
    reset();
    REQUIRE(send(action::open, 0) == success);
    REQUIRE(send(action::open, 1) == success);
    CHECK(send(action::open, 2) == too_many_open_zones);
    CHECK(write(start(2)) == too_many_open_zones);
    CHECK(append(start(2)).status() == too_many_open_zones);
    CHECK(state(2) == empty);
    REQUIRE(send(action::close, 0) == success);
    REQUIRE(write(start(2)) == success);  // zone 1 explicitly, 2 implicitly open, 0 closed
    CHECK(write(start(3)) == too_many_active_zones);
    CHECK(send(action::open, 3) == too_many_active_zones);
    CHECK(state(3) == empty);
    // The controller closes an implicitly opened zone for another that becomes open.
    CHECK(send(action::open, 0) == success);
    CHECK(state(2) == closed);
    CHECK(write(start(2) + 1) == too_many_open_zones);
    CHECK(send(action::finish, 1) == success);
    CHECK(write(start(2) + 1) == success);
    CHECK(state(2) == implicitly_opened);
    CHECK(write(start(3)) == success);
    CHECK(state(2) == closed);
    // A zone that becomes full gives its place back.
    CHECK(code(nvm::write_zeroes({.nsid = 1, .lba = start(3) + 1, .blocks = 95})) == success);
    CHECK(write(start(5)) == success);
  }

  void all_at_once() {
    using enum zone_state;
    reset();
    bring(0, full);
    bring(1, closed);
    bring(2, explicitly_opened);
    bring(3, implicitly_opened);
    CHECK(send(action::close, 0, true) == success);
    CHECK(state(0) == full);
    CHECK(state(2) == closed);
    CHECK(state(3) == closed);
    CHECK(state(4) == empty);
    CHECK(send(action::finish, 0, true) == success);
    for (std::uint64_t z = 0; z != 4; ++z) CHECK(state(z) == full);
    CHECK(state(4) == empty);
    CHECK(send(action::offline, 0, true) == success);
    CHECK(send(action::reset, 0, true) == success);
    for (std::uint64_t z = 0; z != zone_count; ++z) CHECK(state(z) == empty);
    bring(5, closed);
    bring(6, closed);
    CHECK(send(action::open, 0, true) == success);
    CHECK(state(5) == explicitly_opened);
    CHECK(state(6) == explicitly_opened);
    CHECK(state(7) == empty);
  }

  void reports() {
    reset();
    REQUIRE(write(start(2), 3) == success);
    REQUIRE(send(action::finish, 5) == success);
    REQUIRE(report({.bytes = 4096}) == success);
    CHECK(listed() == zone_count);
    for (std::size_t z = 0; z != zone_count; ++z) {
      CHECK(entry(z).start == start(z));
      CHECK(entry(z).capacity == zone_capacity);
      CHECK((entry(z).type & 0xf) == 2);
    }
    CHECK(entry(2).write_pointer == start(2) + 3);
    REQUIRE(report({.lba = start(6) + 77, .bytes = 4096}) == success);
    CHECK(listed() == 2);
    CHECK(entry(0).start == start(6));
    REQUIRE(report({.bytes = 4096, .filter = zone_filter::full}) == success);
    CHECK(listed() == 1);
    CHECK(entry(0).start == start(5));
    // The count is that of all, or that of the buffer.
    REQUIRE(report({.bytes = 64 + 2 * 64 + 32}) == success);
    CHECK(listed() == zone_count);
    REQUIRE(report({.bytes = 64 + 2 * 64 + 32, .partial = true}) == success);
    CHECK(listed() == 2);
    CHECK(report({.lba = start(zone_count), .bytes = 4096}) == lba_out_of_range);
    CHECK(report({.bytes = 60}) == invalid_field);
    CHECK(report({.bytes = 4096, .filter = static_cast<zone_filter>(8)}) == invalid_field);
    CHECK(report({.bytes = 4096, .action = static_cast<zone_receive_action>(7)}) == invalid_field);
  }

  void extensions() {
    reset();
    std::memset(h.buffer().data(), 'e', 64);
    REQUIRE(send(action::set_descriptor_extension, 6) == success);
    CHECK(state(6) == zone_state::closed);
    CHECK((descriptor(6).attributes & 0x80) == 0x80);
    REQUIRE(report({.lba = start(6),
                    .bytes = 64 + 128,
                    .action = zone_receive_action::extended_report}) == success);
    CHECK(h.buffer()[128] == std::byte{'e'});
    CHECK(h.buffer()[191] == std::byte{'e'});
    CHECK(send(action::set_descriptor_extension, 6) == invalid_zone_state_transition);
    REQUIRE(send(action::reset, 6) == success);
    CHECK((descriptor(6).attributes & 0x80) == 0);
  }

  void run() {
    identify();
    transitions();
    writes();
    appends();
    reads();
    limits();
    all_at_once();
    reports();
    extensions();
    reset();
  }
};

}  // namespace zoned_cases
