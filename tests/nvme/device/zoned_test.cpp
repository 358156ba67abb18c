// SPDX-License-Identifier: BSL-1.0
// The zoned namespace command set over media that are done at once and media that complete later.
#include <phasebit/nvme/device/zoned_namespaces.hpp>

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>
#include <nvme/device/async_host.hpp>
#include <nvme/zoned_cases.hpp>

using namespace test_host;
using zoned_cases::zone_blocks;
using zoned_cases::zone_capacity;
using zoned_cases::zone_count;

namespace {

using enum status_code;

struct zone_parts {
  std::vector<device::zone> zones = std::vector<device::zone>(zone_count);
  std::vector<std::byte> extensions = std::vector<std::byte>(zone_count * 64);
  device::zone_table table{zones,
                           {.zone_blocks = zone_blocks,
                            .capacity_blocks = zone_capacity,
                            .max_open = 2,
                            .max_active = 3,
                            .extension_units = 1,
                            .extensions = extensions}};
};

// Namespace 1 is zoned; namespace 3 is not.
struct zoned_memory : zone_parts {
  using media_type = block::memory_media;
  using namespaces = device::zoned_namespaces<device::namespace_table<media_type, 4>, 4>;
  explicit zoned_memory(std::uint32_t)
      : store(1U << 20), media(store, 512), other_store(1U << 16), other(other_store, 512) {
    spaces.attach(1, media);
    spaces.attach(3, other);
    spaces.attach_zones(1, table);
  }
  device::pending_memory pending() noexcept { return {}; }
  std::vector<std::byte> store;
  media_type media;
  std::vector<std::byte> other_store;
  media_type other;
  namespaces spaces;
};
struct zoned_later : zone_parts {
  using media_type = block::planned_media<block::memory_media, steered_plan>;
  using namespaces = device::zoned_namespaces<device::namespace_table<media_type, 4>, 4>;
  explicit zoned_later(std::uint32_t)
      : store(1U << 20),
        blocks(store, 512),
        operations(64),
        media(blocks, operations),
        other_store(1U << 16),
        other_blocks(other_store, 512),
        other_operations(64),
        other(other_blocks, other_operations),
        commands(32),
        segments(64),
        bounce_memory(4 * 8192),
        bounce(bounce_memory, 8192) {
    media.plan().fixed = {.delay = 1};
    spaces.attach(1, media);
    spaces.attach(3, other);
    spaces.attach_zones(1, table);
  }
  device::pending_memory pending() noexcept { return {commands, segments, &bounce}; }
  std::vector<std::byte> store;
  block::memory_media blocks;
  std::vector<block::planned_operation> operations;
  media_type media;
  std::vector<std::byte> other_store;
  block::memory_media other_blocks;
  std::vector<block::planned_operation> other_operations;
  media_type other;
  namespaces spaces;
  std::vector<device::pending_command> commands;
  std::vector<block::media_segment> segments;
  std::vector<std::byte> bounce_memory;
  block::bounce_pool bounce;
};

template <class Backing>
struct zoned_host : machine<device::default_policy, Backing> {
  using base = machine<device::default_policy, Backing>;
  static nvme::cc all_sets() {
    return base::enabled_cc().with(nvme::cc::css, command_set_selected::all_supported);
  }
  explicit zoned_host(nvme::cc how = all_sets()) {
    this->enable(32, how);
    this->create(1, 16);
    pages = this->allocate(8192);
  }
  completion_entry admin(const submission_entry& e) { return base::admin(e); }
  completion_entry io(const submission_entry& e) { return this->run(1, e); }
  submission_entry data(const submission_entry& e) { return with_data(e, pages, pages + 4096); }
  std::span<std::byte> buffer() { return this->ram.bytes(pages, 8192); }
  zoned_cases::cases<zoned_host> zns() { return {*this}; }
  bus_addr pages{};
};

}  // namespace

TEST_CASE_TEMPLATE("zones: the cases of any controller", Backing, zoned_memory, zoned_later) {
  zoned_host<Backing> h;
  h.zns().run();
}

TEST_CASE_TEMPLATE("zones: a host that selects the NVM command set does not see zoned namespaces",
                   Backing, zoned_memory, zoned_later) {
  zoned_host<Backing> h{zoned_host<Backing>::enabled_cc()};
  CHECK(h.io(h.data(nvm::read({.nsid = 1}))).status() == invalid_field);
  CHECK(h.io(h.data(zns::zone_append({.nsid = 1}))).status() == invalid_field);
  CHECK(h.io(h.data(nvm::read({.nsid = 3}))).status() == success);
  REQUIRE(h.admin_code(h.data(nvme::admin::identify({.cns = cns::active_namespace_list}))) ==
          success);
  CHECK(load_wire<le<std::uint32_t>>(h.buffer()) == 3U);
  REQUIRE(h.admin_code(h.data(
              nvme::admin::identify({.cns = cns::identify_namespace, .nsid = 1}))) == success);
  CHECK(load_wire<le<std::uint64_t>>(h.buffer()) == 0U);
}

TEST_CASE_TEMPLATE("zones: zone commands to a namespace without zones are invalid opcodes", Backing,
                   zoned_memory, zoned_later) {
  zoned_host<Backing> h;
  CHECK(h.io(h.data(zns::zone_append({.nsid = 3}))).status() == invalid_opcode);
  CHECK(h.io(h.data(zns::zone_management_send(3, zone_send_action::open, 0))).status() ==
        invalid_opcode);
  CHECK(h.io(h.data(zns::zone_management_receive({.nsid = 3, .bytes = 64}))).status() ==
        invalid_opcode);
  CHECK(h.io(h.data(nvm::write({.nsid = 3, .lba = 7}))).status() == success);
}

TEST_CASE_TEMPLATE("zones: what the program changes is an event, a log, and a state", Backing,
                   zoned_memory, zoned_later) {
  zoned_host<Backing> h;
  auto z = h.zns();
  REQUIRE(h.admin_code(nvme::admin::set_features(
              {.fid = feature_id::async_event_configuration, .cdw11 = 1U << 27})) == success);
  h.submit(0, nvme::admin::async_event_request(), 0x77);
  h.controller.poll();
  REQUIRE(z.write(z.start(2), 4) == success);
  h.table.set_read_only(2);
  h.table.set_offline(5);
  for (int i = 0; i != 4; ++i) h.controller.poll();
  const auto c = h.reap(0);
  REQUIRE(c);
  CHECK(c->command_id() == 0x77);
  CHECK(c->dw0 == 0x00bf'ef02U);
  REQUIRE(h.admin_code(h.data(nvme::admin::get_log_page(
              {.lid = log_page_id::changed_zones, .bytes = 4096, .nsid = 1}))) == success);
  const auto log = load_wire<changed_zone_log>(h.buffer());
  CHECK(log.zones == 2);
  CHECK(log.starts[0] == z.start(2));
  CHECK(log.starts[1] == z.start(5));
  REQUIRE(h.admin_code(h.data(nvme::admin::get_log_page(
              {.lid = log_page_id::changed_zones, .bytes = 4096, .nsid = 1}))) == success);
  CHECK(load_wire<changed_zone_log>(h.buffer()).zones == 0);
  CHECK(h.admin_code(h.data(nvme::admin::get_log_page(
            {.lid = log_page_id::changed_zones, .bytes = 4096, .nsid = 3}))) == invalid_field);

  CHECK(z.read(z.start(2), 4) == success);
  CHECK(z.write(z.start(2) + 4) == zone_is_read_only);
  CHECK(z.append(z.start(2)).status() == zone_is_read_only);
  CHECK(z.read(z.start(5)) == zone_is_offline);
  CHECK(z.write(z.start(5)) == zone_is_offline);
  for (const auto a : {zone_send_action::close, zone_send_action::finish, zone_send_action::open,
                       zone_send_action::reset}) {
    CHECK(z.send(a, 2) == invalid_zone_state_transition);
    CHECK(z.send(a, 5) == invalid_zone_state_transition);
  }
  CHECK(z.send(zone_send_action::reset, 0, true) == success);
  CHECK(z.state(2) == zone_state::read_only);
  CHECK(z.send(zone_send_action::offline, 2) == success);
  CHECK(z.state(2) == zone_state::offline);
  CHECK(z.send(zone_send_action::offline, 2) == success);
}

TEST_CASE_TEMPLATE("zones: a write that fails leaves the write pointer where it was", Backing,
                   zoned_memory, zoned_later) {
  zoned_host<Backing> h;
  auto z = h.zns();
  auto e = nvm::write({.nsid = 1, .lba = z.start(3), .blocks = 4});
  e.prp1 = 0x10;  // no memory there
  CHECK(h.io(e).status() == data_transfer_error);
  CHECK(z.state(3) == zone_state::empty);
  CHECK(h.table.active_zones() == 0);
  REQUIRE(z.write(z.start(3), 4) == success);
  e.cdw10 = static_cast<std::uint32_t>(z.start(3) + 4);
  CHECK(h.io(e).status() == data_transfer_error);
  CHECK(z.pointer(3) == 4);
  auto a = zns::zone_append({.nsid = 1, .lba = z.start(3)});
  a.prp1 = 0x10;
  CHECK(h.io(a).status() == data_transfer_error);
  CHECK(z.append(z.start(3)).dw0 == z.start(3) + 4);
}

TEST_CASE_TEMPLATE("zones: Copy writes at a write pointer and reads within a zone", Backing,
                   zoned_memory, zoned_later) {
  zoned_host<Backing> h;
  auto z = h.zns();
  std::memset(h.buffer().data(), 'c', 8192);
  REQUIRE(z.write(z.start(0), 10) == success);
  const auto copy = [&](std::uint64_t from, std::uint16_t blocks, std::uint64_t to) {
    copy_range r{};
    r.lba = from;
    r.nlb = static_cast<std::uint16_t>(blocks - 1);
    store_wire(h.buffer(), r);
    auto e = command(nvm_opcode::copy, 1);
    e.cdw10 = static_cast<std::uint32_t>(to);
    return h.io(h.data(e)).status().code();
  };
  CHECK(copy(z.start(0), 10, z.start(1) + 1) == zone_invalid_write);
  CHECK(copy(z.start(1) - 2, 4, z.start(1)) == zone_boundary_error);
  CHECK(copy(z.start(0), 10, z.start(1)) == success);
  CHECK(z.pointer(1) == 10);
  CHECK(copy(z.start(0), 10, z.start(1)) == zone_invalid_write);
  REQUIRE(z.read(z.start(1), 10) == success);
  CHECK(h.buffer()[5119] == std::byte{'c'});
}

TEST_CASE("zones: a reset waits for writes in flight, and others wait for it") {
  zoned_host<zoned_later> h;
  auto z = h.zns();
  h.media.plan().fixed = {.delay = block::media_fate::held};
  const auto put = [&](std::uint16_t cid, const submission_entry& e) {
    h.submit(1, e, cid);
    for (int i = 0; i != 3; ++i) h.controller.poll();
  };
  put(1, h.data(nvm::write({.nsid = 1, .lba = z.start(1), .blocks = 2})));
  put(2, h.data(nvm::write({.nsid = 1, .lba = z.start(1) + 2, .blocks = 2})));
  put(3, zns::zone_management_send(1, zone_send_action::reset, z.start(1)));
  CHECK(!h.reap(1));
  CHECK(h.table.at(1).written == 4);
  CHECK(h.table.at(1).in_flight == 2);
  h.media.release_all();
  for (int i = 0; i != 3; ++i) h.controller.poll();
  REQUIRE(h.reap(1));
  REQUIRE(h.reap(1));
  // The reset has begun: its zeroes are held.
  CHECK(!h.reap(1));
  CHECK(h.table.at(1).resetting);
  put(4, h.data(nvm::write({.nsid = 1, .lba = z.start(1) + 4})));
  const auto refused = h.reap(1);
  REQUIRE(refused);
  CHECK(refused->command_id() == 4);
  CHECK(refused->status() == zone_invalid_write);
  put(5, zns::zone_management_send(1, zone_send_action::finish, z.start(1)));
  CHECK(!h.reap(1));
  h.media.plan().fixed = {};
  h.media.release_all();
  for (int i = 0; i != 4; ++i) h.controller.poll();
  const auto reset = h.reap(1);
  REQUIRE(reset);
  CHECK(reset->command_id() == 3);
  CHECK(reset->status().ok());
  const auto finish = h.reap(1);
  REQUIRE(finish);
  CHECK(finish->status().ok());
  CHECK(z.state(1) == zone_state::full);
}

TEST_CASE("zones: a controller reset during a zone reset leaves the zone as it was") {
  zoned_host<zoned_later> h;
  auto z = h.zns();
  REQUIRE(z.write(z.start(1), 2) == success);
  h.media.plan().fixed = {.delay = block::media_fate::held};
  h.submit(1, zns::zone_management_send(1, zone_send_action::reset, z.start(1)), 9);
  for (int i = 0; i != 3; ++i) h.controller.poll();
  CHECK(h.table.at(1).resetting);
  h.media.plan().fixed = {};
  h.enable(32, zoned_host<zoned_later>::all_sets());
  h.media.release_all();
  for (int i = 0; i != 8; ++i) h.controller.poll();
  CHECK(!h.table.at(1).resetting);
  CHECK(h.table.at(1).in_flight == 0);
  CHECK(h.table.at(1).written == 2);
  h.create(2, 16);
  REQUIRE(
      h.run(2, zns::zone_management_send(1, zone_send_action::reset, z.start(1))).status().ok());
  CHECK(h.table.at(1).state == zone_state::empty);
}

TEST_CASE("zones: appends in flight at once get different blocks") {
  zoned_host<zoned_later> h;
  auto z = h.zns();
  h.media.plan().random.emplace(7);
  for (std::uint16_t i = 0; i != 12; ++i) {
    h.push(1, h.data(zns::zone_append({.nsid = 1, .lba = z.start(6), .blocks = 4})), i);
  }
  h.ring_tail(1, h.pairs[1].tail);
  std::vector<std::uint32_t> places;
  for (int turn = 0; turn != 1000 && places.size() != 12; ++turn) {
    h.controller.poll();
    while (const auto c = h.reap(1)) {
      if (c->status().ok())
        places.push_back(c->dw0);
      else
        places.push_back(0xffff'ffff);
    }
  }
  std::sort(places.begin(), places.end());
  REQUIRE(places.size() == 12);
  CHECK(h.table.at(6).in_flight == 0);
  for (std::size_t i = 1; i != places.size(); ++i) {
    CHECK((places[i] == 0xffff'ffff || places[i] - places[i - 1] >= 4));
  }
}

TEST_CASE("zones: a table takes up where another left off") {
  std::vector<device::zone> zones(6);
  zones[0] = {.written = 10, .in_flight = 3, .state = zone_state::implicitly_opened};
  zones[1] = {.written = 0, .state = zone_state::explicitly_opened};
  zones[2] = {.written = 1000, .state = zone_state::closed};
  zones[3] = {.written = 5, .state = static_cast<zone_state>(0)};
  zones[4] = {.written = 128, .state = zone_state::full, .resetting = true};
  zones[5] = {.written = 9, .state = zone_state::empty};
  const device::zone_table t{zones, {.zone_blocks = 128}};
  CHECK(t.at(0).state == zone_state::closed);
  CHECK(t.at(0).in_flight == 0);
  CHECK(t.at(1).state == zone_state::empty);
  CHECK(t.at(2).state == zone_state::offline);
  CHECK(t.at(3).state == zone_state::offline);
  CHECK(t.at(4).state == zone_state::full);
  CHECK(!t.at(4).resetting);
  CHECK(t.at(5).written == 0);
  CHECK(t.active_zones() == 1);
  CHECK(t.open_zones() == 0);
}
