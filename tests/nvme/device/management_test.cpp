// SPDX-License-Identifier: BSL-1.0
// Namespace Management and Attachment, Format, Sanitize, Device Self-test and firmware slots, over media
// that are done at once and media that complete later: the same cases for both.
#include <phasebit/nvme/device/namespace_commands.hpp>
#include <phasebit/nvme/spec/maintenance_logs.hpp>

#include <doctest/doctest.h>
#include <nvme/device/pool_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct maintained : device::default_policy {
  using maintenance = device::maintenance_commands;
};

template <class Backing>
struct managed : machine<maintained, Backing> {
  using base = machine<maintained, Backing>;
  explicit managed(const device::settings& s = base::small()) : base(s, 512) {
    this->enable();
    buffer = this->allocate(1U << 16);
  }
  completion_entry create(std::uint64_t size, std::uint8_t flbas = 0, std::uint8_t dps = 0,
                          std::uint8_t nmic = 0) {
    identify_namespace wanted{};
    wanted.nsze = wanted.ncap = size;
    wanted.flbas = flbas;
    wanted.dps = dps;
    wanted.nmic = nmic;
    store_wire(this->ram.bytes(buffer, 4096), wanted);
    return this->admin(with_data(nvme::admin::create_namespace(), buffer));
  }
  status_code attach(std::uint32_t nsid, std::vector<std::uint16_t> ids = {0}, bool on = true) {
    controller_list list{};
    list.count = static_cast<std::uint16_t>(ids.size());
    for (std::size_t i = 0; i != ids.size(); ++i) list.cntlid[i] = ids[i];
    store_wire(this->ram.bytes(buffer, 4096), list);
    return this->admin_code(with_data(
        on ? nvme::admin::attach_namespace(nsid) : nvme::admin::detach_namespace(nsid), buffer));
  }
  template <class T>
  T identify(cns what, std::uint32_t nsid) {
    REQUIRE(this->admin_code(
                with_data(nvme::admin::identify({.cns = what, .nsid = nsid}), buffer)) == success);
    return load_wire<T>(this->ram.bytes(buffer, sizeof(T)));
  }
  template <class T>
  T log(log_page_id lid) {
    REQUIRE(this->admin_code(with_data(nvme::admin::get_log_page({.lid = lid, .bytes = sizeof(T)}),
                                       buffer)) == success);
    return load_wire<T>(this->ram.bytes(buffer, sizeof(T)));
  }
  status_code write(std::uint32_t nsid, std::uint8_t value, std::uint64_t lba = 0) {
    std::memset(this->ram.at(buffer), value, 4096);
    return this->io_code(with_data(nvm::write({.nsid = nsid, .lba = lba}), buffer));
  }
  status_code read(std::uint32_t nsid, std::uint64_t lba = 0) {
    return this->io_code(with_data(nvm::read({.nsid = nsid, .lba = lba}), buffer));
  }
  std::uint8_t byte() { return static_cast<std::uint8_t>(*this->ram.at(buffer)); }
  // One namespace of everything there is.
  void everything() {
    REQUIRE(create(2048).status().ok());
    REQUIRE(attach(1) == success);
    base::create(1, 16);
  }
  void start_queue() { base::create(1, 16); }
  void turn(unsigned times) {
    while (times-- != 0) this->controller.poll();
  }
  bus_addr buffer{};
};

}  // namespace

TEST_CASE_TEMPLATE("the reported capabilities match the tables of commands", B, pooled_memory,
                   pooled_later) {
  managed<B> m;
  m.start_queue();
  const auto id = m.template identify<identify_controller>(cns::identify_controller, 0);
  CHECK(id.oacs == 0x11e);
  CHECK(id.sanicap == 0x4000'0002);
  CHECK(id.frmw == 0x14);
  CHECK(id.tnvmcap.low == 1U << 20);
  CHECK(id.unvmcap.low == 1U << 20);
  CHECK(id.nn == 4);
  const auto effects = m.template log<commands_supported_log>(log_page_id::commands_supported);
  using log = commands_supported_log;
  for (const unsigned opcode : {0x0dU, 0x10U, 0x11U, 0x14U, 0x15U, 0x80U, 0x84U}) {
    CHECK(log::csupp.get(effects.acs[opcode].get()));
  }
  CHECK(log::nic.get(effects.acs[0x0d].get()));
  CHECK(log::lbcc.get(effects.acs[0x80].get()));
  CHECK(log::csupp.get(effects.iocs[4].get()));
  using supported = std::array<le<std::uint32_t>, 256>;
  const auto pages = m.template log<supported>(log_page_id::supported_log_pages);
  CHECK(pages[0x06] == 1U);
  CHECK(pages[0x81] == 1U);
  // And a controller without them has none.
  machine<> plain;
  plain.enable();
  for (const unsigned opcode : {0x0dU, 0x10U, 0x11U, 0x14U, 0x15U, 0x80U, 0x84U}) {
    CHECK(plain.admin_code(command(static_cast<admin_opcode>(opcode))) == invalid_opcode);
  }
}

TEST_CASE_TEMPLATE("a namespace is created, attached, used, detached and deleted", B, pooled_memory,
                   pooled_later) {
  managed<B> m;
  m.start_queue();
  std::memset(m.store.data(), 0x99, m.store.size());
  const auto made = m.create(1000, 1, 1);
  REQUIRE(made.status().ok());
  CHECK(made.dw0 == 1);
  const auto listed = [&](cns what, std::uint32_t nsid = 0) {
    return m.template identify<le<std::uint32_t>>(what, nsid).get();
  };
  CHECK(listed(cns::allocated_namespace_list) == 1);
  CHECK(listed(cns::active_namespace_list) == 0);
  CHECK(listed(cns::attached_controller_list, 1) == 0);
  CHECK(m.template identify<identify_namespace>(cns::allocated_namespace, 1).nsze == 1000);
  CHECK(m.template identify<identify_namespace>(cns::identify_namespace, 1).nsze == 0);
  CHECK(m.read(1) == invalid_field);
  CHECK(m.attach(1, {1}) == controller_list_invalid);
  CHECK(m.attach(1, {}) == controller_list_invalid);
  CHECK(m.attach(1, {0}, false) == namespace_not_attached);
  CHECK(m.attach(2) == invalid_field);
  CHECK(m.attach(5) == invalid_namespace_or_format);
  REQUIRE(m.attach(1) == success);
  CHECK(m.attach(1) == namespace_already_attached);
  CHECK(listed(cns::active_namespace_list) == 1);
  CHECK(listed(cns::attached_controller_list, 1) == 0x0000'0001);
  const auto id = m.template identify<identify_namespace>(cns::identify_namespace, 1);
  CHECK(id.nlbaf == 7);
  CHECK(id.flbas == 1);
  CHECK(id.dps == 1);
  CHECK(id.mc == 3);
  CHECK(id.lbaf[1].ms == 8);
  CHECK(id.lbaf[7].lbads == 12);
  CHECK(id.lbaf[7].ms == 64);
  // The previous contents are gone.
  auto e = with_data(
      nvm::read({.nsid = 1, .lba = 999, .pi = {.action = true, .check_guard = true}}), m.buffer);
  CHECK(m.io_code(e) == success);
  CHECK(m.byte() == 0);
  CHECK(m.store[1000 * 512] == std::byte{0x99});
  CHECK(m.template identify<identify_controller>(cns::identify_controller, 0).unvmcap.low ==
        (1U << 20) - 1000 * 512);

  CHECK(m.create(0).status() == invalid_field);
  CHECK(m.create(2000).status() == namespace_insufficient_capacity);
  CHECK(m.create(10, 8).status() == invalid_format);
  CHECK(m.create(10, 0, 1).status() == invalid_format);
  CHECK(m.create(10, 1, 4).status() == invalid_format);
  CHECK(m.create(10, 0, 0, 2).status() == invalid_field);
  identify_namespace thin{};
  thin.nsze = 10;
  thin.ncap = 5;
  store_wire(m.ram.bytes(m.buffer, 4096), thin);
  CHECK(m.admin_code(with_data(admin::create_namespace(), m.buffer)) ==
        thin_provisioning_not_supported);
  CHECK(m.admin_code(with_data(admin::create_namespace(command_set::zoned), m.buffer)) ==
        command_set_not_supported);
  CHECK(m.admin_code(admin::delete_namespace(3)) == invalid_field);
  CHECK(m.admin_code(admin::delete_namespace(9)) == invalid_namespace_or_format);
  // Blocks of 4096 begin on a boundary of 4096 bytes.
  CHECK(m.create(100, 4).dw0 == 2);
  CHECK(m.pool.at(2).first % 8 == 0);
  REQUIRE(m.attach(2) == success);
  CHECK(m.create(1).dw0 == 3);
  CHECK(m.create(1).dw0 == 4);
  CHECK(m.create(1).status() == namespace_id_unavailable);
  CHECK(m.attach(1, {0}, false) == success);
  CHECK(m.read(1) == invalid_field);
  m.turn(2);
  CHECK(m.admin_code(admin::delete_namespace(all_namespaces)) == success);
  m.turn(2);
  CHECK(listed(cns::allocated_namespace_list) == 0);
  CHECK(m.read(2) == invalid_field);
  CHECK(m.pool.unallocated_bytes() == 1U << 20);
  CHECK(m.create(2048).dw0 == 1);
}

TEST_CASE_TEMPLATE("a change of namespaces is an event of every controller that it concerns", B,
                   pooled_memory, pooled_later) {
  managed<B> m;
  typename B::namespaces other_view{m.pool, m.media, 5};
  REQUIRE(m.admin_code(admin::set_features(
              {.fid = feature_id::async_event_configuration, .cdw11 = 1U << 8})) == success);
  m.submit(0, admin::async_event_request(), 0x55);
  REQUIRE(m.create(100, 0, 0, 1).status().ok());
  REQUIRE(m.create(100).status().ok());
  CHECK(m.attach(2, {0, 5}) == namespace_is_private);
  CHECK(m.attach(1, {5, 0}) == controller_list_invalid);
  REQUIRE(m.attach(1, {0, 5}) == success);
  m.turn(2);
  std::optional<completion_entry> event;
  for (const auto& c : m.strays) {
    if (c.command_id() == 0x55) event = c;
  }
  if (!event) event = m.reap(0);
  REQUIRE(event);
  CHECK(event->dw0 == 0x0004'0002);
  CHECK(m.template log<le<std::uint32_t>>(log_page_id::changed_namespaces) == 1U);
  CHECK(other_view.find(1) != nullptr);
  CHECK(other_view.find(2) == nullptr);
  CHECK(m.pool.take_change(5) == 1);
  CHECK(m.pool.take_change(5) == 0);
  // Both controllers have it, and both have to let it go before its blocks are used again.
  REQUIRE(m.admin_code(admin::delete_namespace(1)) == success);
  m.turn(1);
  CHECK(m.pool.draining(1) == 1U << 5);
  CHECK(m.create(2000).status() == namespace_insufficient_capacity);
  m.pool.drained(1, 5);
  CHECK(m.create(1800).status().ok());
}

TEST_CASE_TEMPLATE("Format changes the format and erases, and fails for formats that are not there",
                   B, pooled_memory, pooled_later) {
  managed<B> m;
  m.everything();
  REQUIRE(m.write(1, 0x42, 7) == success);
  REQUIRE(m.io_code(nvm::write_uncorrectable({.nsid = 1, .lba = 9})) == success);
  const auto format = [&](const format_command& f) { return m.admin_code(admin::format(f)); };
  CHECK(format({.nsid = 1, .format = 8}) == invalid_format);
  CHECK(format({.nsid = 1, .format = 0, .pi = protection_type::type1}) == invalid_format);
  CHECK(format({.nsid = 2}) == invalid_field);
  CHECK(format({.nsid = 0}) == invalid_namespace_or_format);
  CHECK(format({.nsid = 1, .erase = secure_erase::cryptographic}) == invalid_field);
  CHECK(m.read(1, 7) == success);
  CHECK(m.byte() == 0x42);
  REQUIRE(format({.nsid = 1, .format = 6, .pi = protection_type::type2, .pi_first = true}) ==
          success);
  const auto id = m.template identify<identify_namespace>(cns::identify_namespace, 1);
  CHECK(id.nsze == 256);
  CHECK(id.flbas == 6);
  CHECK(id.dps == 0x0a);
  for (std::uint64_t lba = 0; lba != 256; ++lba) {
    REQUIRE(m.pool.metadata(1, lba)[0] == std::byte{0xff});
    REQUIRE(m.pool.metadata(1, lba)[8] == std::byte{0});
  }
  for (const std::byte b : m.store) REQUIRE(b == std::byte{0});
  // All namespaces at once.
  REQUIRE(format({.nsid = all_namespaces, .format = 0}) == success);
  CHECK(m.read(1, 9) == success);
  CHECK(m.template identify<identify_namespace>(cns::identify_namespace, 1).nsze == 2048);
}

TEST_CASE("commands find a format in progress, and one that fails is not in progress for ever") {
  managed<pooled_later> m;
  m.everything();
  m.media.plan().fixed = {.delay = block::media_fate::held};
  auto read = with_data(nvm::read({.nsid = 1}), m.buffer);
  m.submit(1, read, 1);
  m.turn(1);
  m.submit(0, admin::format({.nsid = 1, .format = 4}), 2);
  m.turn(3);
  // The read that was in flight ends first; later ones are refused.
  CHECK(m.media.in_flight() == 1);
  m.submit(1, read, 3);
  m.submit(0, admin::format({.nsid = 1}), 4);
  m.turn(2);
  auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 3);
  CHECK(c->status() == format_in_progress);
  c = m.reap(0);
  REQUIRE(c);
  CHECK(c->status() == format_in_progress);
  m.media.release_all();
  m.media.plan().fixed = {.delay = 1, .status = block::media_status::write_failed};
  m.turn(6);
  c = m.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 1);
  CHECK(c->status().ok());
  c = m.reap(0);
  REQUIRE(c);
  CHECK(c->command_id() == 2);
  CHECK(c->status() == write_fault);
  m.media.plan().fixed = {};
  CHECK(m.read(1) == success);
}

TEST_CASE("a reset during a format waits for the step at the media, and the format goes on") {
  managed<pooled_later> m;
  m.everything();
  std::memset(m.store.data(), 0x31, m.store.size());
  m.media.plan().fixed = {.delay = block::media_fate::held};
  m.submit(0, admin::format({.nsid = 1}), 2);
  m.turn(2);
  REQUIRE(m.media.in_flight() == 1);
  m.controller.write32(cc::offset, 0);
  m.turn(2);
  CHECK(m.reg<csts>()[csts::rdy]);
  m.media.release_all();
  m.turn(1);
  CHECK_FALSE(m.reg<csts>()[csts::rdy]);
  m.media.plan().fixed = {};
  m.enable();
  m.start_queue();
  m.turn(8);
  CHECK(m.read(1) == success);
  CHECK(m.store[0] == std::byte{0});
  CHECK(m.store.back() == std::byte{0});
}

TEST_CASE_TEMPLATE("Sanitize erases everything while its progress is read, and reports its end", B,
                   pooled_memory, pooled_later) {
  managed<B> m;
  m.everything();
  std::memset(m.store.data(), 0x31, m.store.size());
  auto log = m.template log<sanitize_log>(log_page_id::sanitize_status);
  CHECK(sanitize_log::state_bits.get(log.status.get()) == sanitize_state::never);
  CHECK(log.progress == 0xffff);
  CHECK(m.admin_code(admin::sanitize({.action = sanitize_action::crypto_erase})) == invalid_field);
  CHECK(m.admin_code(admin::sanitize({.action = sanitize_action::overwrite})) == invalid_field);
  CHECK(m.admin_code(admin::sanitize({.action = sanitize_action::exit_failure})) == success);
  m.submit(0, admin::async_event_request(), 0x55);
  m.submit(0, admin::sanitize({}), 0x56);
  m.submit(
      0,
      with_data(admin::get_log_page({.lid = log_page_id::sanitize_status, .bytes = 512}), m.buffer),
      0x57);
  m.submit(0, admin::format({.nsid = 1}), 0x58);
  m.submit(0, admin::sanitize({}), 0x59);
  m.submit(1, with_data(nvm::write({.nsid = 1}), m.buffer), 0x60);
  m.turn(1);
  std::map<unsigned, status_code> ended;
  while (const auto c = m.reap(0)) ended[c->command_id()] = c->status().code();
  CHECK(ended[0x56] == success);
  CHECK(ended[0x57] == success);
  CHECK(ended[0x58] == sanitize_in_progress);
  CHECK(ended[0x59] == sanitize_in_progress);
  const auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->status() == sanitize_in_progress);
  log = load_wire<sanitize_log>(m.ram.bytes(m.buffer, 512));
  CHECK(sanitize_log::state_bits.get(log.status.get()) == sanitize_state::in_progress);
  CHECK(log.progress < 0xffff);
  m.turn(12);
  const auto event = m.reap(0);
  REQUIRE(event);
  CHECK(event->dw0 == 0x0081'0106);
  log = m.template log<sanitize_log>(log_page_id::sanitize_status);
  CHECK(sanitize_log::state_bits.get(log.status.get()) == sanitize_state::succeeded);
  CHECK(log.progress == 0xffff);
  for (const std::byte b : m.store) REQUIRE(b == std::byte{0});
  CHECK(m.write(1, 1) == success);
}

TEST_CASE("a Sanitize that failed is left as its command allowed, and survives a restore") {
  for (const bool unrestricted : {false, true}) {
    managed<pooled_later> m;
    m.everything();
    m.media.plan().fixed = {.delay = 1, .status = block::media_status::write_failed};
    REQUIRE(m.admin_code(admin::sanitize({.unrestricted_exit = unrestricted})) == success);
    m.turn(8);
    m.media.plan().fixed = {.delay = 1};
    CHECK(m.read(1) == sanitize_failed);
    CHECK(m.admin_code(admin::format({.nsid = 1})) == sanitize_failed);
    m.controller.quiesce();
    REQUIRE(m.controller.quiesced());
    const auto state = m.controller.save();
    std::vector<std::uint32_t> words(m.words.size());
    managed<pooled_later>::controller_type next{m.ram, m.irq,    m.spaces,
                                                words, m.config, m.pending()};
    REQUIRE(next.restore(state));
    CHECK(next.maintenance().sanitize_failed());
    m.controller.resume();
    const auto exit = m.admin_code(admin::sanitize({.action = sanitize_action::exit_failure}));
    CHECK(exit == (unrestricted ? success : sanitize_failed));
    CHECK(m.read(1) == (unrestricted ? success : sanitize_failed));
    if (!unrestricted) {
      REQUIRE(m.admin_code(admin::sanitize({})) == success);
      m.turn(12);
      CHECK(m.read(1) == success);
    }
  }
}

TEST_CASE_TEMPLATE("a self-test reads the namespaces while its progress is in the log", B,
                   pooled_memory, pooled_later) {
  managed<B> m;
  m.everything();
  const auto log = [&] { return m.template log<self_test_log>(log_page_id::device_self_test); };
  const auto result = [&](std::size_t i) {
    return self_test_entry::result_bits.get(log().result[i].status);
  };
  CHECK(result(0) == self_test_result::none);
  CHECK(m.admin_code(admin::device_self_test(static_cast<self_test>(5))) == invalid_field);
  CHECK(m.admin_code(admin::device_self_test(self_test::brief, 2)) == invalid_field);
  CHECK(m.admin_code(admin::device_self_test(self_test::brief, 7)) == invalid_namespace_or_format);
  REQUIRE(m.admin_code(admin::device_self_test(self_test::extended)) == success);
  CHECK(log().current == 2);
  CHECK(m.admin_code(admin::device_self_test(self_test::brief)) == self_test_in_progress);
  CHECK(m.read(1) == success);  // goes on meanwhile
  unsigned seen = 0;
  for (auto now = log(); now.current != 0; now = log()) {
    CHECK(now.completion >= seen);
    seen = now.completion;
  }
  CHECK(seen > 50);
  CHECK(result(0) == self_test_result::passed);
  CHECK(self_test_entry::code_bits.get(log().result[0].status) == 2);
  REQUIRE(m.admin_code(admin::device_self_test(self_test::extended)) == success);
  REQUIRE(m.admin_code(admin::device_self_test(self_test::abort)) == success);
  CHECK(result(0) == self_test_result::aborted_by_command);
  CHECK(result(1) == self_test_result::passed);
  REQUIRE(m.admin_code(admin::device_self_test(self_test::extended)) == success);
  REQUIRE(m.admin_code(admin::format({.nsid = 1})) == success);
  CHECK(result(0) == self_test_result::aborted_by_format);
  // The controller alone.
  REQUIRE(m.admin_code(admin::device_self_test(self_test::brief, 0)) == success);
  m.turn(2);
  CHECK(result(0) == self_test_result::passed);
  // A short one ends with a reset, an extended one does not.
  for (const auto what : {self_test::brief, self_test::extended}) {
    REQUIRE(m.admin_code(admin::device_self_test(what)) == success);
    m.controller.write32(cc::offset, 0);
    m.turn(4);
    m.enable();
    while (log().current != 0) {
    }
    CHECK(result(0) == (what == self_test::brief ? self_test_result::aborted_by_reset
                                                 : self_test_result::passed));
  }
}

TEST_CASE("a self-test reports the block that it cannot read") {
  managed<pooled_later> m;
  m.everything();
  m.media.plan().fixed = {.delay = 1, .status = block::media_status::read_failed};
  REQUIRE(m.admin_code(admin::device_self_test(self_test::brief)) == success);
  m.turn(4);
  const auto e = m.log<self_test_log>(log_page_id::device_self_test).result[0];
  CHECK(self_test_entry::result_bits.get(e.status) == self_test_result::segment_failed);
  CHECK(e.nsid == 1);
  CHECK(e.valid == 3);
}

TEST_CASE(
    "firmware is downloaded, committed to a slot, and activated at the time its action selects") {
  managed<pooled_memory> m;
  std::vector<std::byte> image(8192);
  const auto download = [&](std::string_view text, std::uint32_t bytes = 4096,
                            std::uint32_t offset = 0) {
    std::memset(m.ram.at(m.buffer), 0, 4096);
    std::memcpy(m.ram.at(m.buffer), text.data(), text.size());
    return m.admin_code(with_data(admin::firmware_download(bytes, offset), m.buffer));
  };
  const auto commit = [&](std::uint8_t slot, firmware_action action) {
    return m.admin_code(admin::firmware_commit(slot, action));
  };
  const auto revision = [&] {
    return std::string{text_of(m.identify<identify_controller>(cns::identify_controller, 0).fr)};
  };
  CHECK(download("2.0     ") == invalid_firmware_image);  // no memory for one
  m.controller.maintenance().set_firmware_memory(image);
  CHECK(commit(1, firmware_action::replace) == invalid_firmware_image);
  CHECK(download("2.0     ") == success);
  CHECK(download("xx", 4096, 2048) == overlapping_range);
  CHECK(download("xx", 4096, 8192) == invalid_firmware_image);
  CHECK(download("tail", 4096, 4096) == success);
  CHECK(commit(3, firmware_action::replace) == invalid_firmware_slot);
  CHECK(commit(2, static_cast<firmware_action>(5)) == invalid_field);
  CHECK(commit(2, firmware_action::replace_and_activate_at_reset) == success);
  CHECK(m.controller.maintenance().firmware_generation() == 1);
  CHECK(m.controller.maintenance().firmware_image().size() == 8192);
  auto slots = m.log<firmware_slot_log>(log_page_id::firmware_slots);
  CHECK(slots.afi == 0x21);
  CHECK(text_of(slots.frs[0]) == "1.0");
  CHECK(text_of(slots.frs[1]) == "2.0");
  CHECK(revision() == "1.0");
  m.enable();
  CHECK(revision() == "2.0");
  CHECK(m.log<firmware_slot_log>(log_page_id::firmware_slots).afi == 0x02);
  // Back at once, and to a slot that the controller chooses.
  CHECK(commit(1, firmware_action::activate_now) == success);
  CHECK(revision() == "1.0");
  CHECK(download(std::string_view{"\x01not", 4}) == success);
  CHECK(commit(0, firmware_action::replace) == invalid_firmware_image);
  CHECK(download("3.0     ") == success);
  CHECK(commit(0, firmware_action::replace) == success);
  CHECK(text_of(m.log<firmware_slot_log>(log_page_id::firmware_slots).frs[1]) == "3.0");
  // The state goes to another controller.
  CHECK(commit(2, firmware_action::activate_at_reset) == success);
  m.controller.quiesce();
  const auto state = m.controller.save();
  std::vector<std::uint32_t> words(m.words.size());
  managed<pooled_memory>::controller_type next{m.ram, m.irq,    m.spaces,
                                               words, m.config, m.pending()};
  REQUIRE(next.restore(state));
  CHECK(next.maintenance().active_revision() == "1.0     ");
  next.reset();
  CHECK(next.maintenance().active_revision() == "3.0     ");
}

TEST_CASE("a pool is saved and restored, and a state that commands cannot produce is refused") {
  managed<pooled_memory> m;
  REQUIRE(m.create(500, 2, 1, 1).status().ok());
  REQUIRE(m.create(30, 4).status().ok());
  REQUIRE(m.attach(1) == success);
  const auto state = m.pool.save();
  pooled_memory other{512};
  REQUIRE(other.pool.restore(state));
  CHECK(other.pool.allocated(2));
  REQUIRE(other.spaces.find(1) != nullptr);
  CHECK(other.spaces.find(1)->block_count() == 500);
  CHECK(other.spaces.format(1) == m.spaces.format(1));
  CHECK(other.spaces.find(2) == nullptr);
  const auto refused = [&](auto spoil) {
    auto bad = state;
    spoil(bad);
    CHECK_FALSE(other.pool.restore(bad));
    CHECK(other.spaces.find(1)->block_count() == 500);
  };
  refused([](auto& s) { s.version = 9; });
  refused([](auto& s) { s.all[0].blocks = 1U << 20; });
  refused([](auto& s) { s.all[0].first = ~std::uint64_t{0}; });
  refused([](auto& s) { s.all[0].blocks = 0; });
  refused([](auto& s) { s.all[1].first = 0; });
  refused([](auto& s) { s.all[0].shift = 12; });
  refused([](auto& s) { s.all[0].format.metadata_bytes = 4096; });
  refused([](auto& s) { s.all[0].format.index = 200; });
  refused([](auto& s) { s.all[1].format.pi = protection_type::type1; });
}
