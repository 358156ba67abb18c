// SPDX-License-Identifier: BSL-1.0
// Requirements of NVMe 2.0 on every controller beyond commands: CRTO, the NVM subsystem reset, the
// lists of Identify, Host Behavior Support, and log pages 12h and 13h.
#include <phasebit/nvme/device/identify.hpp>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct started : machine<> {
  explicit started(const device::settings& s = small()) : machine(s) {
    enable();
    buffer = allocate(1U << 16);
  }
  status_code identify(cns what, std::uint32_t nsid, command_set csi = command_set::nvm) {
    std::memset(ram.at(buffer), 0xff, 4096);
    return admin_code(
        with_data(nvme::admin::identify({.cns = what, .nsid = nsid, .csi = csi}), buffer));
  }
  std::uint32_t word(std::size_t i) {
    return load_wire<le<std::uint32_t>>(ram.bytes(buffer + i * 4, 4)).get();
  }
  bus_addr buffer{};
};

}  // namespace

TEST_CASE("CRTO repeats the ready time-out that CAP has") {
  auto s = machine<>::small();
  s.ready_timeout = 9;
  machine m{s};
  CHECK(m.reg<cap>()[cap::crwms]);
  CHECK_FALSE(m.reg<cap>()[cap::crims]);
  CHECK(m.reg<crto>()[crto::crwmt] == 9);
  CHECK(m.reg<crto>()[crto::crimt] == 0);
}

TEST_CASE("the magic word in NSSR resets the controller, and NSSRO stays until it is cleared") {
  started m;
  m.create(1, 8);
  REQUIRE(m.reg<cap>()[cap::nssrs]);
  for (const std::uint32_t word : {0U, 1U, nssr::reset_word + 1, 0xffff'ffffU}) {
    m.controller.write32(nssr::offset, word);
    CHECK(m.reg<csts>() == csts{}.with(csts::rdy, true));
  }
  CHECK(m.controller.subsystem_resets() == 0);
  m.controller.write32(nssr::offset, nssr::reset_word);
  CHECK(m.controller.subsystem_resets() == 1);
  CHECK(m.reg<csts>() == csts{}.with(csts::nssro, true));
  CHECK(m.reg<cc>().raw == 0);
  CHECK(m.reg<asq>().raw == 0);
  CHECK(m.controller.read32(nssr::offset) == 0);
  m.enable();
  CHECK(m.reg<csts>() == csts{}.with(csts::rdy, true).with(csts::nssro, true));
  CHECK(m.admin_code(admin::keep_alive()) == success);
  // Writing 0 keeps it, writing 1 clears it; no other bit of CSTS can be written.
  m.controller.write32(csts::offset, ~csts{}.with(csts::nssro, true).raw);
  CHECK(m.reg<csts>()[csts::nssro]);
  m.controller.write32(csts::offset, 0xffff'ffff);
  CHECK(m.reg<csts>() == csts{}.with(csts::rdy, true));
  // Another controller of the subsystem did it.
  m.controller.subsystem_reset();
  CHECK(m.reg<csts>() == csts{}.with(csts::nssro, true));
}

TEST_CASE("a controller without subsystem reset has no NSSR") {
  auto s = machine<>::small();
  s.subsystem_reset = false;
  started m{s};
  CHECK_FALSE(m.reg<cap>()[cap::nssrs]);
  m.controller.write32(nssr::offset, nssr::reset_word);
  CHECK(m.reg<csts>() == csts{}.with(csts::rdy, true));
}

TEST_CASE("a saved NSSRO is there after the restore") {
  machine m;
  m.controller.write32(nssr::offset, nssr::reset_word);
  m.enable();
  m.controller.quiesce();
  const auto state = m.controller.save();
  std::vector<std::uint32_t> words(m.words.size());
  machine<>::controller_type other{m.ram, m.irq, m.spaces, words, m.config, m.pending()};
  REQUIRE(other.restore(state));
  CHECK(other.read32(csts::offset) == csts{}.with(csts::rdy, true).with(csts::nssro, true).raw);
}

TEST_CASE("without namespace management what is allocated is what is active") {
  started m;
  CHECK(m.identify(cns::allocated_namespace_list, 0) == success);
  CHECK(m.word(0) == 1);
  CHECK(m.word(1) == 0);
  CHECK(m.identify(cns::allocated_namespace_list, 1) == success);
  CHECK(m.word(0) == 0);
  CHECK(m.identify(cns::allocated_namespace_list, 0xffff'fffe) == invalid_namespace_or_format);
  CHECK(m.identify(cns::allocated_namespace, 1) == success);
  CHECK(m.word(0) == 2048);
  CHECK(m.identify(cns::allocated_namespace, 2) == success);
  CHECK(m.word(0) == 0);
  CHECK(m.identify(cns::allocated_namespace, 0) == invalid_namespace_or_format);
  CHECK(m.identify(cns::attached_controller_list, 1) == success);
  CHECK(m.word(0) == 1);
  CHECK(m.identify(cns::attached_controller_list, 2) == invalid_field);
  CHECK(m.identify(cns::command_set_allocated_namespace_list, 0) == success);
  CHECK(m.word(0) == 1);
  CHECK(m.identify(cns::command_set_allocated_namespace_list, 0, command_set::zoned) ==
        invalid_field);
  CHECK(m.identify(cns::command_set_allocated_namespace, 1) == success);
  CHECK(m.identify(cns::command_set_allocated_namespace, 5) == invalid_namespace_or_format);
  CHECK(m.identify(cns::command_set_combinations, 0) == success);
  CHECK(m.word(0) == 1);
  for (std::size_t i = 1; i != 1024; ++i) REQUIRE(m.word(i) == 0);
}

TEST_CASE("every value of CNS is answered, or an invalid field") {
  started m;
  for (unsigned i = 0; i != 256; ++i) {
    CAPTURE(i);
    const bool known = i <= 0x03 || (i >= 0x05 && i <= 0x08) || (i >= 0x10 && i <= 0x13) ||
                       (i >= 0x1a && i <= 0x1c);
    const std::uint32_t nsid = i == 0x01 || i == 0x02 || i == 0x06 || i == 0x07 ? 0U : 1U;
    CHECK(m.identify(static_cast<cns>(i), nsid) == (known ? success : invalid_field));
  }
}

TEST_CASE("Host Behavior Support is what the host set, until a reset") {
  started m;
  const auto get = [&](feature_select select = feature_select::current) {
    std::memset(m.ram.at(m.buffer), 0xff, 512);
    REQUIRE(m.admin_code(with_data(
                admin::get_features({.fid = feature_id::host_behavior_support, .select = select}),
                m.buffer)) == success);
    return load_wire<host_behavior_support>(m.ram.bytes(m.buffer, 512));
  };
  const auto set = [&](const host_behavior_support& h, bool save = false) {
    store_wire(m.ram.bytes(m.buffer, 512), h);
    return m.admin_code(with_data(
        admin::set_features({.fid = feature_id::host_behavior_support, .save = save}), m.buffer));
  };
  host_behavior_support h{};
  CHECK(get().acre == 0);
  h.acre = 1;
  h.lbafee = 1;
  CHECK(set(h) == success);
  CHECK(get().acre == 1);
  CHECK(get().etdas == 0);
  CHECK(get().lbafee == 1);
  CHECK(get(feature_select::default_value).acre == 0);
  h.acre = 2;
  CHECK(set(h) == invalid_field);
  h.acre = 0;
  CHECK(set(h, true) == feature_not_saveable);
  CHECK(get().acre == 1);
  CHECK(m.admin_code(admin::set_features({.fid = feature_id::host_behavior_support})) ==
        data_transfer_error);
  m.enable();
  CHECK(get().acre == 0);
}

TEST_CASE("features of the controller are not those of one namespace") {
  started m;
  const auto set = [&](std::uint32_t nsid) {
    return m.admin_code(
        admin::set_features({.fid = feature_id::arbitration, .cdw11 = 3, .nsid = nsid}));
  };
  CHECK(set(0) == success);
  CHECK(set(all_namespaces) == success);
  CHECK(set(1) == feature_not_namespace_specific);
}

TEST_CASE("the log pages that are supported can be read, and the others cannot") {
  started m;
  const auto log = [&](unsigned lid) {
    return m.admin_code(with_data(
        admin::get_log_page({.lid = static_cast<log_page_id>(lid), .bytes = 512}), m.buffer));
  };
  REQUIRE(m.admin_code(with_data(
              admin::get_log_page({.lid = log_page_id::supported_log_pages, .bytes = 1024}),
              m.buffer)) == success);
  std::array<std::uint32_t, 256> listed{};
  for (std::size_t i = 0; i != 256; ++i) listed[i] = m.word(i);
  for (unsigned lid = 0; lid != 256; ++lid) {
    CAPTURE(lid);
    CHECK((log(lid) == success) == ((listed[lid] & 1U) != 0));
    CHECK(((listed[lid] & 1U) != 0) == (lid <= 5 || lid == 0x12 || lid == 0x13));
  }
  REQUIRE(m.identify(cns::identify_controller, 0) == success);
  CHECK(load_wire<identify_controller>(m.ram.bytes(m.buffer, 4096)).lpa == 0x26);
}
