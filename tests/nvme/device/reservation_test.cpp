// SPDX-License-Identifier: BSL-1.0
// Reservations: the matrix of conflicts, every command from every state, and the notices to other
// hosts.
#include <phasebit/nvme/device/reservation_commands.hpp>

#include <doctest/doctest.h>
#include <nvme/device/pool_host.hpp>

using namespace test_host;

namespace {

using enum status_code;
using type = reservation_type;

using shared = device::reservations<4, 4>;
using shared_pool = device::namespace_pool<4, shared>;

// The namespace that the controllers of several hosts share: namespace 1 of 1000 blocks, attached
// to all.
struct subsystem {
  std::vector<std::byte> store = std::vector<std::byte>(pool_media_bytes);
  std::vector<std::uint8_t> marks = std::vector<std::uint8_t>(pool_media_bytes / 512 / 8);
  shared_pool pool{pool_media_bytes / 512, 512, {{}, 0, marks}};
  subsystem() {
    REQUIRE(pool.create(1000, {}, true).status == success);
    pool.finish(1);
  }
};

struct shared_memory {
  using media_type = block::memory_media;
  using namespaces = device::pooled_namespaces<media_type, 4, shared>;
  shared_memory(std::uint32_t, subsystem& s, std::uint16_t id)
      : media(s.store, 512), spaces(s.pool, media, id) {}
  device::pending_memory pending() noexcept { return {}; }
  media_type media;
  namespaces spaces;
};
struct shared_later {
  using media_type = block::planned_media<block::memory_media, steered_plan>;
  using namespaces = device::pooled_namespaces<media_type, 4, shared>;
  shared_later(std::uint32_t, subsystem& s, std::uint16_t id)
      : blocks(s.store, 512),
        operations(64),
        media(blocks, operations),
        spaces(s.pool, media, id),
        commands(32),
        segments(64),
        bounce_memory(4 * 8192),
        bounce(bounce_memory, 8192) {}
  device::pending_memory pending() noexcept { return {commands, segments, &bounce}; }
  block::memory_media blocks;
  std::vector<block::planned_operation> operations;
  media_type media;
  namespaces spaces;
  std::vector<device::pending_command> commands;
  std::vector<block::media_segment> segments;
  std::vector<std::byte> bounce_memory;
  block::bounce_pool bounce;
};

template <class Backing>
struct host_of : machine<device::default_policy, Backing> {
  using base = machine<device::default_policy, Backing>;
  static device::settings with_id(std::uint16_t id) {
    auto s = base::small();
    s.controller_id = id;
    return s;
  }
  // `id` is that of the controller, `host` the host's identifier, 0 for none.
  host_of(subsystem& s, std::uint16_t id, std::uint64_t host)
      : base(with_id(id), 512, std::size_t{2} << 20, s, id) {
    REQUIRE(s.pool.attach(1, id) == success);
    this->enable();
    this->create(1, 16);
    buffer = this->page();
    if (host != 0) {
      store_wire(this->ram.bytes(buffer, 8), le<std::uint64_t>{host});
      REQUIRE(this->admin_code(with_data(
                  nvme::admin::set_features({.fid = feature_id::host_identifier}), buffer)) ==
              success);
    }
  }
  status_code with_keys(const submission_entry& e, std::uint64_t current, std::uint64_t other) {
    store_wire(this->ram.bytes(buffer, 16), reservation_keys{current, other});
    return this->io_code(with_data(e, buffer));
  }
  status_code add(std::uint64_t key) {
    return with_keys(nvm::reservation_register(1, register_action::add), 0, key);
  }
  status_code remove(std::uint64_t key, bool ignore = false) {
    return with_keys(nvm::reservation_register(1, register_action::remove, ignore), key, 0);
  }
  status_code replace(std::uint64_t key, std::uint64_t by, bool ignore = false) {
    return with_keys(nvm::reservation_register(1, register_action::replace, ignore), key, by);
  }
  status_code acquire(std::uint64_t key, type t) {
    return with_keys(nvm::reservation_acquire(1, acquire_action::acquire, t), key, 0);
  }
  status_code preempt(std::uint64_t key, std::uint64_t whom, type t, bool abort = false) {
    return with_keys(nvm::reservation_acquire(
                         1, abort ? acquire_action::preempt_and_abort : acquire_action::preempt, t),
                     key, whom);
  }
  status_code release(std::uint64_t key, type t) {
    return with_keys(nvm::reservation_release(1, release_action::release, t), key, 0);
  }
  status_code clear(std::uint64_t key) {
    return with_keys(nvm::reservation_release(1, release_action::clear, type::none), key, 0);
  }
  reservation_status report() {
    REQUIRE(this->io_code(with_data(nvm::reservation_report(1, 4096), buffer)) == success);
    return load_wire<reservation_status>(this->ram.bytes(buffer, 24));
  }
  registered_controller entry(std::size_t i) {
    return load_wire<registered_controller>(this->ram.bytes(buffer + 24 * (i + 1), 24));
  }
  reservation_notice notice() {
    REQUIRE(
        this->admin_code(with_data(
            nvme::admin::get_log_page({.lid = log_page_id::reservation_notification, .bytes = 64}),
            buffer)) == success);
    return load_wire<reservation_log>(this->ram.bytes(buffer, 64)).what;
  }
  status_code access(nvm_opcode opcode) {
    std::memset(this->ram.at(buffer), 0, 4096);  // a list of empty ranges for Dataset Management
    auto e = nvm::read({.nsid = 1, .lba = 5});
    if (opcode == nvm_opcode::copy) {
      store_wire(this->ram.bytes(buffer, 32), copy_range::of(1, 1));
      e = nvm::copy({.nsid = 1, .lba = 9});
    }
    if (opcode == nvm_opcode::dataset_management) e = nvm::dataset_management({.nsid = 1});
    e.cdw0 = static_cast<std::uint32_t>(opcode);
    return this->io_code(with_data(e, buffer));
  }
  bus_addr buffer{};
};

constexpr std::array all_types{type::write_exclusive,
                               type::exclusive_access,
                               type::write_exclusive_registrants,
                               type::exclusive_access_registrants,
                               type::write_exclusive_all,
                               type::exclusive_access_all};

}  // namespace

TEST_CASE_TEMPLATE("the matrix of conflicts, every type, command and kind of host", B,
                   shared_memory, shared_later) {
  struct row {
    type held;
    // The access of a holder, a registrant and any other host: bit 0 reads, bit 1 writes.
    unsigned holder, registrant, other;
  };
  // Written out from figure 520.
  const row matrix[] = {{type::none, 3, 3, 3},
                        {type::write_exclusive, 3, 1, 1},
                        {type::exclusive_access, 3, 0, 0},
                        {type::write_exclusive_registrants, 3, 3, 1},
                        {type::exclusive_access_registrants, 3, 3, 0},
                        {type::write_exclusive_all, 3, 3, 1},
                        {type::exclusive_access_all, 3, 3, 0}};
  for (const row& r : matrix) {
    CAPTURE(static_cast<int>(r.held));
    subsystem s;
    host_of<B> holder{s, 0, 10};
    host_of<B> registrant{s, 1, 20};
    host_of<B> other{s, 2, 30};
    host_of<B> same_host{s, 3, 10};
    REQUIRE(holder.add(1) == success);
    REQUIRE(registrant.add(2) == success);
    if (r.held != type::none) REQUIRE(holder.acquire(1, r.held) == success);
    const auto check = [](auto& m, unsigned allowed) {
      for (const auto opcode : {nvm_opcode::read, nvm_opcode::compare, nvm_opcode::verify}) {
        CHECK(m.access(opcode) == ((allowed & 1U) != 0 ? success : reservation_conflict));
      }
      for (const auto opcode :
           {nvm_opcode::write, nvm_opcode::write_zeroes, nvm_opcode::dataset_management,
            nvm_opcode::copy, nvm_opcode::flush}) {
        CAPTURE(static_cast<int>(opcode));
        CHECK(m.access(opcode) == ((allowed & 2U) != 0 ? success : reservation_conflict));
      }
    };
    check(holder, r.holder);
    check(same_host, r.holder);
    check(registrant, r.registrant);
    check(other, r.other);
    // Reservation commands: a host that is not registered may only register and report.
    CHECK(other.acquire(0, type::write_exclusive) == reservation_conflict);
    CHECK(other.release(0, r.held) == reservation_conflict);
    CHECK(other.report().type == r.held);
    CHECK(other.add(3) == success);
  }
}

TEST_CASE("registering, replacing and unregistering, with the right key and without") {
  subsystem s;
  host_of<shared_memory> a{s, 0, 10};
  host_of<shared_memory> b{s, 1, 10};
  host_of<shared_memory> c{s, 2, 30};
  CHECK(a.add(0) == invalid_field);
  CHECK(a.remove(1) == reservation_conflict);
  CHECK(a.replace(1, 2) == reservation_conflict);
  CHECK(a.replace(1, 2, true) == reservation_conflict);
  CHECK(a.report().generation == 0);
  CHECK(a.add(1) == success);
  CHECK(a.add(1) == success);
  CHECK(b.add(1) == success);  // the same host through another controller
  CHECK(b.add(2) == reservation_conflict);
  CHECK(a.report().controllers[0] == 2);
  CHECK(a.entry(0).cntlid == 0);
  CHECK(a.entry(1).cntlid == 1);
  CHECK(a.entry(1).host_id == 10);
  CHECK(a.entry(1).key == 1);
  CHECK(a.replace(2, 3) == reservation_conflict);
  CHECK(a.replace(1, 0) == invalid_field);
  CHECK(a.replace(1, 3) == success);
  CHECK(a.replace(9, 4, true) == success);
  CHECK(a.remove(3) == reservation_conflict);
  CHECK(a.remove(3, true) == success);
  CHECK(a.report().controllers[0] == 0);
  CHECK(a.with_keys(nvm::reservation_register(1, static_cast<register_action>(5)), 0, 1) ==
        invalid_field);
  CHECK(a.with_keys(nvm::reservation_register(1, register_action::add, false, 1), 0, 1) ==
        invalid_field);
  // Persistence, by the command and by the feature.
  CHECK(a.with_keys(nvm::reservation_register(1, register_action::add, false, 3), 0, 1) == success);
  CHECK(a.report().persists == 1);
  REQUIRE(a.admin_code(admin::set_features(
              {.fid = feature_id::reservation_persistence, .cdw11 = 0, .nsid = 1})) == success);
  CHECK(a.report().persists == 0);
  CHECK(a.admin_code(admin::get_features({.fid = feature_id::reservation_persistence,
                                          .nsid = 0})) == invalid_namespace_or_format);
  // More hosts than there are places for.
  for (std::uint16_t i = 3; i != 6; ++i) {
    host_of<shared_memory> more{s, i, 100U + i};
    CHECK(more.add(7) == success);
  }
  CHECK(c.add(8) == insufficient_capacity);
}

TEST_CASE("each type is acquired once, released by its type, and ends with its holder") {
  for (const type held : all_types) {
    CAPTURE(static_cast<int>(held));
    const bool all = held >= type::write_exclusive_all;
    const bool quiet = held <= type::exclusive_access;
    subsystem s;
    host_of<shared_memory> a{s, 0, 10};
    host_of<shared_memory> b{s, 1, 20};
    CHECK(a.acquire(1, held) == reservation_conflict);
    REQUIRE(a.add(1) == success);
    REQUIRE(b.add(2) == success);
    CHECK(a.acquire(2, held) == reservation_conflict);
    CHECK(a.acquire(1, type::none) == invalid_field);
    CHECK(a.acquire(1, static_cast<type>(7)) == invalid_field);
    const auto generation = a.report().generation.get();
    CHECK(a.acquire(1, held) == success);
    CHECK(a.acquire(1, held) == success);
    CHECK(a.report().generation == generation);
    CHECK(a.entry(0).status == 1);
    CHECK((a.entry(1).status == 1) == all);
    for (const type t : all_types) {
      if (t == held) continue;
      CHECK(a.acquire(1, t) == reservation_conflict);
      CHECK(a.release(1, t) == invalid_field);
    }
    CHECK(b.acquire(2, held) == (all ? success : reservation_conflict));
    CHECK(b.release(1, held) == reservation_conflict);  // not its key
    if (!all) CHECK(b.release(2, held) == success);     // nothing of its own to release
    CHECK(a.report().type == held);
    CHECK(a.release(1, held) == success);
    CHECK(a.report().type == type::none);
    CHECK(b.notice() ==
          (quiet ? reservation_notice::empty : reservation_notice::reservation_released));
    CHECK(a.notice() == reservation_notice::empty);
    CHECK(a.release(1, held) == success);
    // Unregistering the holder ends it, unless every registrant holds it.
    REQUIRE(a.acquire(1, held) == success);
    REQUIRE(a.remove(1) == success);
    CHECK(b.report().type == (all ? held : type::none));
    if (all) {
      REQUIRE(b.remove(2) == success);
      CHECK(b.report().type == type::none);
    }
  }
}

TEST_CASE(
    "preempting takes a reservation over, or removes registrations, and notifies their hosts") {
  for (const type held : all_types) {
    for (const type wanted : all_types) {
      CAPTURE(static_cast<int>(held));
      CAPTURE(static_cast<int>(wanted));
      const bool all = held >= type::write_exclusive_all;
      subsystem s;
      host_of<shared_memory> a{s, 0, 10};
      host_of<shared_memory> b{s, 1, 20};
      host_of<shared_memory> c{s, 2, 30};
      REQUIRE(a.add(1) == success);
      REQUIRE(b.add(2) == success);
      REQUIRE(c.add(3) == success);
      REQUIRE(a.acquire(1, held) == success);
      CHECK(b.preempt(2, 99, wanted) == reservation_conflict);
      CHECK(b.preempt(1, 1, wanted) == reservation_conflict);
      if (!all) CHECK(b.preempt(2, 0, wanted) == invalid_field);
      // A registrant that holds nothing, or shares it, loses its registration alone.
      CHECK(b.preempt(2, 3, wanted) == success);
      CHECK(b.report().controllers[0] == 2);
      CHECK(b.report().type == held);
      CHECK(c.notice() == reservation_notice::registration_preempted);
      CHECK(c.acquire(3, wanted) == reservation_conflict);
      REQUIRE(c.add(3) == success);
      // The holder loses the reservation too.
      CHECK(b.preempt(2, all ? 0 : 1, wanted) == success);
      CHECK(b.report().type == wanted);
      CHECK(a.notice() == reservation_notice::registration_preempted);
      CHECK(b.report().controllers[0] == (all ? 1 : 2));
      CHECK(b.entry(0).status == 1);
      CHECK(b.notice() == reservation_notice::empty);
    }
  }
}

TEST_CASE("clearing removes everything and notifies other registrants") {
  subsystem s;
  host_of<shared_memory> a{s, 0, 10};
  host_of<shared_memory> b{s, 1, 20};
  REQUIRE(a.add(1) == success);
  REQUIRE(b.add(2) == success);
  REQUIRE(a.acquire(1, type::exclusive_access) == success);
  a.submit(0, admin::async_event_request(), 0x55);
  CHECK(b.clear(1) == reservation_conflict);
  CHECK(b.clear(2) == success);
  a.controller.poll();
  const auto event = a.reap(0);
  REQUIRE(event);
  CHECK(event->dw0 == 0x0080'0006);
  CHECK(a.notice() == reservation_notice::reservation_preempted);
  CHECK(a.notice() == reservation_notice::empty);
  CHECK(b.report().type == type::none);
  CHECK(b.report().controllers[0] == 0);
  // A notice that is masked is none.
  REQUIRE(a.add(1) == success);
  REQUIRE(b.add(2) == success);
  REQUIRE(a.admin_code(admin::set_features({.fid = feature_id::reservation_notification_mask,
                                            .cdw11 = 1U << 3,
                                            .nsid = all_namespaces})) == success);
  CHECK(b.clear(2) == success);
  CHECK(a.notice() == reservation_notice::empty);
}

TEST_CASE("Preempt and Abort ends the commands in flight of the host that is preempted") {
  subsystem s;
  host_of<shared_later> a{s, 0, 10};
  host_of<shared_later> b{s, 1, 20};
  REQUIRE(a.add(1) == success);
  REQUIRE(b.add(2) == success);
  a.media.plan().fixed = {.delay = block::media_fate::held};
  a.submit(1, with_data(nvm::read({.nsid = 1}), a.buffer), 7);
  a.controller.poll();
  REQUIRE(a.controller.in_flight() == 1);
  CHECK(b.preempt(2, 1, type::write_exclusive, true) == success);
  for (int i = 0; i != 3; ++i) a.controller.poll();
  const auto c = a.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 7);
  CHECK(c->status() == aborted_preempt);
}

TEST_CASE("host identifiers of 64 and of 128 bits, and hosts that have none") {
  subsystem s;
  host_of<shared_memory> a{s, 0, 0};
  host_of<shared_memory> b{s, 1, 0};
  REQUIRE(a.add(1) == success);
  // Another host, although neither has an identifier.
  CHECK(b.remove(1) == reservation_conflict);
  CHECK(b.acquire(1, type::write_exclusive) == reservation_conflict);
  REQUIRE(a.remove(1) == success);
  for (std::size_t i = 0; i != 16; ++i) *a.ram.at(a.buffer + i) = static_cast<std::byte>(i + 1);
  REQUIRE(a.admin_code(with_data(
              admin::set_features({.fid = feature_id::host_identifier, .cdw11 = 1}), a.buffer)) ==
          success);
  CHECK(a.admin_code(with_data(admin::get_features({.fid = feature_id::host_identifier}),
                               a.buffer)) == host_identifier_inconsistent);
  std::memset(a.ram.at(a.buffer), 0, 16);
  CHECK(a.admin_code(with_data(
            admin::get_features({.fid = feature_id::host_identifier, .cdw11 = 1}), a.buffer)) ==
        success);
  CHECK(*a.ram.at(a.buffer + 15) == std::byte{16});
  REQUIRE(a.add(5) == success);
  CHECK(a.io_code(with_data(nvm::reservation_report(1, 4096), a.buffer)) ==
        host_identifier_inconsistent);
  REQUIRE(a.io_code(with_data(nvm::reservation_report(1, 4096, true), a.buffer)) == success);
  const auto e = load_wire<registered_controller_extended>(a.ram.bytes(a.buffer + 64, 64));
  CHECK(e.key == 5);
  CHECK(e.host_id[15] == 16);
  REQUIRE(a.admin_code(with_data(admin::identify({}), a.buffer)) == success);
  const auto id = load_wire<identify_controller>(a.ram.bytes(a.buffer, 4096));
  CHECK(identify_controller::oncs_reservations.get(id.oncs.get()));
  CHECK(id.ctratt == 1);
  REQUIRE(a.admin_code(with_data(admin::identify({.cns = cns::identify_namespace, .nsid = 1}),
                                 a.buffer)) == success);
  CHECK(load_wire<identify_namespace>(a.ram.bytes(a.buffer, 4096)).rescap == 0xff);
  CHECK(load_wire<identify_namespace>(a.ram.bytes(a.buffer, 4096)).nmic == 1);
}
