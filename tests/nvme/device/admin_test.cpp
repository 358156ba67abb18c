// SPDX-License-Identifier: BSL-1.0
// Identify, features, log pages, and time: contents of the data returned.
#include <phasebit/nvme/device/admin_handlers.hpp>
#include <phasebit/nvme/device/features.hpp>
#include <phasebit/nvme/device/identify.hpp>
#include <phasebit/nvme/device/log_pages.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

struct started : machine<> {
  explicit started(const device::settings& s = small()) : machine(s) {
    enable();
    buffer = allocate(1U << 16);
  }
  template <class T>
  T log(log_page_id lid) {
    const auto e = admin::get_log_page({.lid = lid, .bytes = sizeof(T)});
    REQUIRE(admin_code(with_data(e, buffer, buffer + 4096)) == status_code::success);
    return load_wire<T>(ram.bytes(buffer, sizeof(T)));
  }
  std::uint32_t get(feature_id id, feature_select select = feature_select::current,
                    std::uint32_t dw11 = 0) {
    const auto c = admin(
        with_data(nvme::admin::get_features({.fid = id, .select = select, .cdw11 = dw11}), buffer));
    REQUIRE(c.status().ok());
    return c.dw0;
  }
  void set(feature_id id, std::uint32_t value) {
    REQUIRE(admin_code(nvme::admin::set_features({.fid = id, .cdw11 = value})) ==
            status_code::success);
  }
  bus_addr buffer{};
};

}  // namespace

TEST_CASE("Identify Controller reports the settings") {
  auto s = machine<>::small();
  s.serial = "S1";
  s.model = "a model with a name that is far too long for its field";
  s.firmware = "9.9";
  s.pci_vendor = 0x1234;
  s.controller_id = 7;
  s.mdts = 3;
  s.volatile_write_cache = false;
  s.scatter_gather_lists = false;
  started m{s};
  REQUIRE(m.admin_code(with_data(admin::identify({}), m.buffer)) == status_code::success);
  const auto id = load_wire<identify_controller>(m.ram.bytes(m.buffer, 4096));
  CHECK(text_of(id.sn) == "S1");
  CHECK(text_of(id.mn) == "a model with a name that is far too long");
  CHECK(text_of(id.fr) == "9.9");
  CHECK(text_of(id.subnqn) == "nqn.2026-11.org.phasebit:controller");
  CHECK(id.vid == 0x1234);
  CHECK(id.cntlid == 7);
  CHECK(id.mdts == 3);
  CHECK(id.ver == vs::of(2, 0).raw);
  CHECK(id.sqes == 0x66);
  CHECK(id.cqes == 0x44);
  CHECK(id.sgls == 0);
  CHECK_FALSE(identify_controller::vwc_present.get(id.vwc));
  CHECK(identify_controller::oncs_copy.get(id.oncs.get()));
  CHECK_FALSE(identify_controller::oncs_write_uncorrectable.get(id.oncs.get()));
  CHECK(id.elpe == 15);
  CHECK(id.aerl == 3);
  // The controller is in its own list, up to its own number.
  const auto listed = [&](std::uint16_t from) {
    m.admin(with_data(admin::identify({.cns = cns::controller_list, .cntid = from}), m.buffer));
    return load_wire<le<std::uint32_t>>(m.ram.bytes(m.buffer, 4)).get();
  };
  CHECK(listed(0) == 0x0007'0001);
  CHECK(listed(7) == 0x0007'0001);
  CHECK(listed(8) == 0);
}

TEST_CASE("namespaces have names of their own, which follow from the serial number") {
  auto s = machine<>::small();
  CHECK(device::eui64_of(s, 1) + 1 == device::eui64_of(s, 2));
  auto other = s;
  other.serial = "PHASEBIT0002";
  CHECK(device::eui64_of(s, 1) != device::eui64_of(other, 1));
  // Locally administered, and no group.
  CHECK((device::eui64_of(s, 1) >> 56 & 3U) == 2);
  s.first_eui64 = 0x1122'3344'5566'7788;
  CHECK(device::eui64_of(s, 3) == 0x1122'3344'5566'778a);
  started m{s};
  m.admin(with_data(admin::identify({.cns = cns::identify_namespace, .nsid = 1}), m.buffer));
  const auto ns = load_wire<identify_namespace>(m.ram.bytes(m.buffer, 4096));
  CHECK(ns.eui64[0] == 0x11);
  CHECK(ns.eui64[7] == 0x88);
  CHECK(ns.mssrl == 65535);
  CHECK(ns.msrc == 15);
  CHECK(ns.nvmcap.saturated() == 1U << 20);
}

TEST_CASE("a feature is what was set until a reset, and its default and abilities stay known") {
  started m;
  struct row {
    feature_id id;
    std::uint32_t initial;
    std::uint32_t value;
    std::uint32_t kept;
  };
  for (const row& r : {row{feature_id::arbitration, 7, 0x0302'0104, 0x0302'0104},
                       row{feature_id::power_management, 0, 0x20, 0x20},
                       row{feature_id::temperature_threshold, 343, 300, 300},
                       row{feature_id::error_recovery, 0, 0x1'0005, 5},
                       row{feature_id::volatile_write_cache, 1, 0, 0},
                       row{feature_id::interrupt_coalescing, 0, 0x0403, 0x0403},
                       row{feature_id::write_atomicity, 0, 1, 1},
                       row{feature_id::async_event_configuration, 0, 0x1ff, 0x1ff},
                       row{feature_id::keep_alive_timer, 0, 5000, 5000}}) {
    CAPTURE(static_cast<int>(r.id));
    CHECK(m.get(r.id) == r.initial);
    m.set(r.id, r.value);
    CHECK(m.get(r.id) == r.kept);
    CHECK(m.get(r.id, feature_select::default_value) == r.initial);
    CHECK(m.get(r.id, feature_select::saved) == r.initial);
    CHECK(m.get(r.id, feature_select::supported) == 4);
  }
  m.enable();
  CHECK(m.get(feature_id::arbitration) == 7);
  CHECK(m.get(feature_id::volatile_write_cache) == 1);
}

TEST_CASE("the two temperature thresholds are two values") {
  started m;
  m.set(feature_id::temperature_threshold, 290 | 1U << 20);
  CHECK(m.get(feature_id::temperature_threshold) == 343);
  CHECK(m.get(feature_id::temperature_threshold, feature_select::current, 1U << 20) == 290);
}

TEST_CASE("no interrupt vector is coalesced") {
  started m;
  m.set(feature_id::interrupt_vector_configuration, 8);
  CHECK(m.get(feature_id::interrupt_vector_configuration, feature_select::current, 8) ==
        (8U | 1U << 16));
}

TEST_CASE("the timestamp starts at the host's value and advances when the program reports time") {
  started m;
  store_wire(m.ram.bytes(m.buffer, 8), timestamp::of(0x1234'5678'9abc));
  REQUIRE(m.admin_code(with_data(admin::set_features({.fid = feature_id::timestamp}), m.buffer)) ==
          status_code::success);
  m.controller.advance(1000);
  m.get(feature_id::timestamp);
  const auto now = load_wire<timestamp>(m.ram.bytes(m.buffer, 8));
  CHECK(now.value() == 0x1234'5678'9abc + 1000);
  CHECK(timestamp::origin.get(now.attributes) == 1);
  m.get(feature_id::timestamp, feature_select::default_value);
  CHECK(load_wire<timestamp>(m.ram.bytes(m.buffer, 8)).value() == 0);
}

TEST_CASE("a host that falls silent for longer than its own timer finds a fatal status") {
  started m;
  m.controller.advance(0xffff'ffff);
  m.set(feature_id::keep_alive_timer, 1000);
  m.controller.advance(1000);
  CHECK(m.admin_code(admin::keep_alive()) == status_code::success);
  m.controller.advance(1000);
  CHECK_FALSE(m.reg<csts>()[csts::cfs]);
  m.controller.advance(0xffff'ffff);
  CHECK(m.reg<csts>()[csts::cfs]);
  CHECK(m.controller.poll() == 0);
  m.enable();
  CHECK(m.admin_code(admin::keep_alive()) == status_code::success);
}

TEST_CASE("the error log has the newest error first, and goes on counting over a reset") {
  started m;
  for (std::uint32_t i = 0; i != 20; ++i) {
    CHECK(m.admin_code(command(static_cast<admin_opcode>(0xc0 + i))) ==
          status_code::invalid_opcode);
  }
  m.create(1, 8);
  const auto failed = m.run(1, nvm::read({.nsid = 1, .lba = 5000}));
  CHECK(failed.status().more());
  using entries = std::array<error_information, 16>;
  static_assert(WireStruct<entries>);
  const auto log = m.log<entries>(log_page_id::error_information);
  CHECK(log[0].error_count == 21);
  CHECK(log[0].sqid == 1);
  CHECK(log[0].lba == 5000);
  CHECK(log[0].nsid == 1);
  CHECK(log[0].command_id == failed.command_id());
  CHECK(nvme::status{static_cast<std::uint16_t>(log[0].status_field >> 1)} ==
        status_code::lba_out_of_range);
  for (std::size_t i = 1; i != 16; ++i) CHECK(log[i].error_count == 21 - i);
  CHECK(m.log<health_log>(log_page_id::health).error_log_entries.low == 21);
  m.enable();
  CHECK(m.log<entries>(log_page_id::error_information)[0].error_count == 21);
}

TEST_CASE("the health log counts what the host did, in thousands of sectors, rounded up") {
  started m;
  m.create(1, 8);
  for (int i = 0; i != 3; ++i) {
    m.run(1, with_data(nvm::read({.nsid = 1, .blocks = 8}), m.buffer));
  }
  m.run(1, with_data(nvm::write({.nsid = 1}), m.buffer));
  const auto log = m.log<health_log>(log_page_id::health);
  CHECK(log.host_read_commands.low == 3);
  CHECK(log.data_units_read.low == 1);
  CHECK(log.host_write_commands.low == 1);
  CHECK(log.data_units_written.low == 1);
  CHECK(log.temperature_kelvin() == 313);
  CHECK(log.available_spare == 100);
  for (const std::uint64_t sectors :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{999}, std::uint64_t{1000},
        std::uint64_t{1001}, std::uint64_t{123'456'789'012}, ~std::uint64_t{0}}) {
    CHECK(device::detail::thousands(sectors) == sectors / 1000 + (sectors % 1000 != 0));
  }
}

TEST_CASE("the log of commands has those that work, and no other") {
  started m;
  m.create(1, 16);
  const auto log = m.log<commands_supported_log>(log_page_id::commands_supported);
  for (unsigned opcode = 0; opcode != 256; ++opcode) {
    CAPTURE(opcode);
    submission_entry e{};
    e.cdw0 = opcode;
    e.nsid = 1;
    CHECK(commands_supported_log::csupp.get(log.iocs[opcode].get()) ==
          (m.io_code(e) != status_code::invalid_opcode));
    // Requests complete when there is an event to report.
    if (opcode == static_cast<unsigned>(admin_opcode::async_event_request)) continue;
    CHECK(commands_supported_log::csupp.get(log.acs[opcode].get()) ==
          (m.admin_code(e) != status_code::invalid_opcode));
  }
  CHECK(commands_supported_log::lbcc.get(log.iocs[1].get()));
  CHECK_FALSE(commands_supported_log::lbcc.get(log.iocs[2].get()));
}

TEST_CASE("a log page is sent from where and as far as the host asks, and not beyond its end") {
  started m;
  CHECK(text_of(m.log<firmware_slot_log>(log_page_id::firmware_slots).frs[0]) == "1.0");
  std::memset(m.ram.at(m.buffer), 0xee, 4096);
  REQUIRE(m.admin_code(with_data(
              admin::get_log_page({.lid = log_page_id::firmware_slots, .bytes = 4096, .offset = 8}),
              m.buffer)) == status_code::success);
  CHECK(*m.ram.at(m.buffer) == std::byte{'1'});
  CHECK(*m.ram.at(m.buffer + 503) == std::byte{0});
  CHECK(*m.ram.at(m.buffer + 504) == std::byte{0xee});
}

TEST_CASE(
    "forced unit access, and a disabled cache, flush; media without a cache are never flushed") {
  struct flushed : block::memory_media {
    using memory_media::memory_media;
    unsigned flushes = 0;
    block::media_status flush() noexcept {
      ++flushes;
      return block::media_status::good;
    }
  };
  memory ram{1U << 20};
  interrupts irq;
  for (const bool cache : {true, false}) {
    std::vector<std::byte> store(8192);
    flushed media{store};
    device::single_namespace<flushed> spaces{media};
    std::vector<std::uint32_t> words(4);
    device::settings s;
    s.volatile_write_cache = cache;
    device::controller_state<memory, interrupts, device::single_namespace<flushed>, thread_order,
                             device::default_policy>
        state{ram, irq, spaces, words, s, {}};
    state.set_group(0, {&spaces, {}});
    device::io_handlers io{state, state.groups[0]};
    const auto on = [&](submission_entry e) {
      e.prp1 = memory::base;
      REQUIRE(io.execute(e).ok());
      return std::exchange(media.flushes, 0);
    };
    CHECK(on(nvm::write({.nsid = 1})) == 0);
    CHECK(on(nvm::write({.nsid = 1, .fua = true})) == unsigned{cache});
    CHECK(on(nvm::write_zeroes({.nsid = 1, .fua = true})) == unsigned{cache});
    state.features.stored(feature_id::volatile_write_cache) = 0;
    CHECK(on(nvm::write({.nsid = 1})) == unsigned{cache});
    CHECK(on(nvm::read({.nsid = 1, .fua = true})) == 0);
    CHECK(on(nvm::flush(1)) == 1);
  }
}
