// SPDX-License-Identifier: BSL-1.0
// Corners where a controller once wrote beyond its page, ended the process, or did less than it
// reported.
#include <phasebit/nvme/device/controller.hpp>

#include <set>

#include <doctest/doctest.h>
#include <nvme/device/async_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

template <class Machine, class Log>
Log log_of(Machine& m, log_page_id id, bool retain = false) {
  const bus_addr page = m.ram.bus(m.ram.size - 8192);
  REQUIRE(m.admin_code(with_data(
              admin::get_log_page({.lid = id, .bytes = sizeof(Log), .retain_event = retain}), page,
              page + 4096)) == success);
  return load_wire<Log>(m.ram.bytes(page, sizeof(Log)));
}
template <class Machine>
identify_controller identity_of(Machine& m) {
  const bus_addr page = m.ram.bus(m.ram.size - 8192);
  REQUIRE(m.admin_code(with_data(admin::identify({}), page)) == success);
  return load_wire<identify_controller>(m.ram.bytes(page, 4096));
}

}  // namespace

TEST_CASE("shadow doorbells are offered exactly while all of them fit the page of the host") {
  for (std::uint8_t stride = 0; stride != 7; ++stride) {
    for (const std::uint16_t pairs :
         std::initializer_list<std::uint16_t>{1, 15, 16, 31, 32, 63, 64}) {
      for (const std::uint8_t mps : std::initializer_list<std::uint8_t>{0, 2}) {
        CAPTURE(int{stride});
        CAPTURE(pairs);
        auto s = machine<>::small();
        s.doorbell_stride = stride;
        s.io_queue_pairs = pairs;
        s.interrupt_vectors = 2;
        machine m{s};
        m.enable(32, m.enabled_cc().with(cc::mps, mps));
        const bus_addr shadow = m.allocate(1U << 17, 1U << 16);
        const bus_addr events = shadow + (1U << 16);
        const std::size_t page = std::size_t{4096} << mps;
        const bool fits = (std::size_t{pairs} + 1) * 8 << stride <= page;
        std::memset(m.ram.at(shadow), 0xee, 1U << 17);
        CHECK(identify_controller::oacs_doorbell_buffer.get(identity_of(m).oacs.get()) == fits);
        CHECK(m.admin_code(admin::doorbell_buffer_config(shadow, events)) ==
              (fits ? success : invalid_opcode));
        m.create(pairs, 4);
        CHECK(m.ram.at(shadow)[page] == std::byte{0xee});
        CHECK(m.ram.at(events)[page] == std::byte{0xee});
        // Queues work either way.
        if (!fits) CHECK(m.io_code(nvm::flush(1), pairs) == success);
      }
    }
  }
}

TEST_CASE("a controller without I/O queues has no feature Number of Queues") {
  auto s = machine<>::small();
  s.io_queue_pairs = 0;
  machine m{s};
  m.enable();
  CHECK(m.admin_code(admin::set_features({.fid = feature_id::number_of_queues})) == invalid_field);
  for (const auto select : {feature_select::current, feature_select::default_value,
                            feature_select::saved, feature_select::supported}) {
    CHECK(m.admin_code(admin::get_features(
              {.fid = feature_id::number_of_queues, .select = select})) == invalid_field);
  }
  const auto features = log_of<decltype(m), std::array<le<std::uint32_t>, 256>>(
      m, log_page_id::feature_identifiers_supported);
  CHECK(features[0x07].get() == 0);
  CHECK(m.admin_code(admin::create_io_cq({.qid = 1, .entries = 4, .memory = m.page()})) ==
        invalid_queue_id);
  CHECK(m.admin_code(admin::keep_alive()) == success);
}

TEST_CASE("a range of Copy that overlaps its destination arrives as it was") {
  for (const std::uint32_t block_size : {512U, 4096U}) {
    machine m{machine<>::small(), block_size};
    m.enable();
    m.create(1, 8);
    const bus_addr list = m.page();
    for (std::uint64_t from = 40; from < 80; from += 3) {
      for (const std::uint32_t blocks : {1U, 2U, 9U, 17U, 40U}) {
        for (std::size_t i = 0; i != m.store.size(); ++i) {
          m.store[i] = static_cast<std::byte>((i >> 9) * 29 + i);
        }
        auto expected = m.store;
        const std::uint64_t to = 60;
        std::memmove(expected.data() + to * block_size, m.store.data() + from * block_size,
                     std::size_t{blocks} * block_size);
        store_wire(m.ram.bytes(list, 32), copy_range::of(from, blocks));
        REQUIRE(m.io_code(with_data(nvm::copy({.nsid = 1, .lba = to, .ranges = 1}), list)) ==
                success);
        REQUIRE(m.store == expected);
      }
    }
  }
}

TEST_CASE("a Copy that is refused has written nothing") {
  machine m;
  m.enable();
  m.create(1, 8);
  const bus_addr list = m.page();
  for (std::size_t i = 0; i != m.store.size(); ++i) m.store[i] = static_cast<std::byte>(i >> 9);
  const auto before = m.store;
  store_wire(m.ram.bytes(list, 32), copy_range::of(3, 20));
  CHECK(m.io_code(with_data(nvm::copy({.nsid = 1, .lba = 2040, .ranges = 1}), list)) ==
        lba_out_of_range);
  store_wire(m.ram.bytes(list + 32, 32), copy_range::of(2040, 9));
  CHECK(m.io_code(with_data(nvm::copy({.nsid = 1, .lba = 0, .ranges = 2}), list)) ==
        lba_out_of_range);
  CHECK(m.store == before);
}

TEST_CASE("log page 00h lists the log pages that can be read, and no other") {
  machine m;
  m.enable();
  const auto log =
      log_of<machine<>, std::array<le<std::uint32_t>, 256>>(m, log_page_id::supported_log_pages);
  const bus_addr page = m.page();
  for (unsigned id = 0; id != 256; ++id) {
    CAPTURE(id);
    const auto code = m.admin_code(
        with_data(admin::get_log_page({.lid = static_cast<log_page_id>(id), .bytes = 64}), page));
    CHECK((log[id].get() & 1U) == (code == success ? 1U : 0U));
    CHECK((code == success || code == invalid_log_page));
  }
  // Requirements of VS 2.0 on an I/O controller.
  for (const unsigned id : {0x00U, 0x01U, 0x02U, 0x03U, 0x05U, 0x12U})
    CHECK((log[id].get() & 1U) == 1);
}

TEST_CASE("log page 12h lists exactly the features that Get Features supports") {
  machine m;
  m.enable();
  const auto log = log_of<machine<>, std::array<le<std::uint32_t>, 256>>(
      m, log_page_id::feature_identifiers_supported);
  const bus_addr page = m.page();
  for (unsigned id = 0; id != 256; ++id) {
    CAPTURE(id);
    const auto code =
        m.admin_code(with_data(admin::get_features({.fid = static_cast<feature_id>(id)}), page));
    CHECK((log[id].get() & 1U) == (code == success ? 1U : 0U));
    CHECK((log[id].get() >> 21 & 1U) == (log[id].get() & 1U));
  }
}

TEST_CASE(
    "a temperature beyond a threshold is a warning, and an event if the host has enabled it") {
  machine m;
  m.enable();
  for (std::uint16_t i = 0; i != 4; ++i) m.submit(0, admin::async_event_request(), i);
  const auto event = [&]() -> std::optional<std::uint32_t> {
    for (int turn = 0; turn != 4; ++turn) {
      m.controller.poll();
      if (const auto c = m.reap(0)) return c->dw0.get();
    }
    return std::nullopt;
  };
  const auto warning = [&](bool retain = false) {
    return log_of<machine<>, health_log>(m, log_page_id::health, retain).critical_warning;
  };
  const auto threshold = [&](std::uint16_t kelvin, std::uint8_t which) {
    return m.admin_code(
        admin::set_features({.fid = feature_id::temperature_threshold,
                             .cdw11 = temperature_threshold{}
                                          .with(temperature_threshold::tmpth, kelvin)
                                          .with(temperature_threshold::thsel, which)
                                          .raw}));
  };
  CHECK(warning() == 0);
  m.controller.set_temperature(342);
  CHECK(warning() == 0);
  m.controller.set_temperature(343);
  CHECK(warning() == 2);
  CHECK_FALSE(event());
  // Enabled while it is crossed already: reported once.
  REQUIRE(m.admin_code(admin::set_features(
              {.fid = feature_id::async_event_configuration, .cdw11 = 2})) == success);
  CHECK(event() == 0x0002'0101U);
  m.controller.set_temperature(350);
  CHECK_FALSE(event());
  CHECK(log_of<machine<>, health_log>(m, log_page_id::health).composite_temperature[0] ==
        350 - 256);
  // Below again, and above again: another event.
  m.controller.set_temperature(300);
  CHECK(warning() == 0);
  m.controller.set_temperature(343);
  CHECK(event() == 0x0002'0101U);
  CHECK(warning() == 2);
  m.controller.set_temperature(300);
  // The threshold may move instead of the temperature, and there is one below.
  CHECK(threshold(300, 0) == success);
  CHECK(event() == 0x0002'0101U);
  CHECK(warning() == 2);
  CHECK(threshold(400, 0) == success);
  CHECK(warning() == 0);
  CHECK(threshold(301, 1) == success);
  CHECK(event() == 0x0002'0101U);
  CHECK(warning() == 2);
}

TEST_CASE("a flush of all namespaces and a shutdown reach each of them") {
  async_machine<> m;
  m.enable();
  m.create(1, 8);
  CHECK(m.io_code(nvm::flush(all_namespaces)) == success);
  CHECK(m.media.flushes() == 1);
  CHECK(m.other.flushes() == 1);
  m.controller.write32(cc::offset, m.enabled_cc().with(cc::shn, shutdown_notification::normal).raw);
  m.poll(4);
  CHECK(m.media.flushes() == 2);
  CHECK(m.other.flushes() == 2);

  struct counting : block::memory_media {
    using memory_media::memory_media;
    unsigned flushes = 0;
    block::media_status flush() noexcept {
      ++flushes;
      return block::media_status::good;
    }
  };
  struct two_media {
    using namespaces = device::namespace_table<counting, 4>;
    explicit two_media(std::uint32_t block_size)
        : store(8192), first(store, block_size), third(store, block_size) {
      spaces.attach(1, first);
      spaces.attach(3, third);
    }
    device::pending_memory pending() noexcept { return {}; }
    std::vector<std::byte> store;
    counting first;
    counting third;
    namespaces spaces;
  };
  machine<device::default_policy, two_media> now;
  now.enable();
  now.create(1, 8);
  CHECK(now.io_code(nvm::flush(all_namespaces)) == success);
  CHECK(now.first.flushes == 1);
  CHECK(now.third.flushes == 1);
  now.controller.write32(cc::offset,
                         now.enabled_cc().with(cc::shn, shutdown_notification::normal).raw);
  CHECK(now.first.flushes == 2);
  CHECK(now.third.flushes == 2);
}

TEST_CASE("read-only media refuse every command that changes blocks, before anything happens") {
  struct guarded : block::memory_media {
    using memory_media::memory_media;
    bool read_only() const noexcept { return true; }
  };
  struct guarded_backing {
    using namespaces = device::namespace_table<guarded, 4>;
    explicit guarded_backing(std::uint32_t block_size)
        : store(1U << 16, std::byte{0x33}), media(store, block_size) {
      spaces.attach(1, media);
    }
    device::pending_memory pending() noexcept { return {}; }
    std::vector<std::byte> store;
    guarded media;
    namespaces spaces;
  };
  machine<device::default_policy, guarded_backing> m;
  m.enable();
  m.create(1, 8);
  const bus_addr page = m.page();
  const auto before = m.store;
  CHECK(m.io_code(with_data(nvm::write({.nsid = 1}), page)) == write_to_read_only_range);
  CHECK(m.io_code(nvm::write_zeroes({.nsid = 1})) == write_to_read_only_range);
  store_wire(m.ram.bytes(page, 16),
             dataset_range{.context = {}, .blocks = std::uint32_t{1}, .lba = std::uint64_t{0}});
  CHECK(m.io_code(with_data(nvm::dataset_management({.nsid = 1, .deallocate = true}), page)) ==
        write_to_read_only_range);
  CHECK(m.io_code(with_data(nvm::dataset_management({.nsid = 1}), page)) == success);
  store_wire(m.ram.bytes(page, 32), copy_range::of(3, 1));
  CHECK(m.io_code(with_data(nvm::copy({.nsid = 1, .lba = 8}), page)) == write_to_read_only_range);
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1}), page)) == success);
  CHECK(m.store == before);
}

TEST_CASE("a Compare that finds a difference is no media error") {
  machine m;
  m.enable();
  m.create(1, 8);
  const bus_addr page = m.page();
  std::memset(m.ram.at(page), 0x77, 512);
  CHECK(m.io_code(with_data(nvm::compare({.nsid = 1}), page)) == compare_failure);
  CHECK(log_of<machine<>, health_log>(m, log_page_id::health).media_errors.low == 0);
}

TEST_CASE("more changed namespaces than the log holds are reported as all of them") {
  machine m;
  m.enable();
  for (std::uint32_t i = 32; i != 0; --i) m.controller.namespace_changed(i);
  auto log = log_of<machine<>, changed_namespace_log>(m, log_page_id::changed_namespaces, true);
  for (std::uint32_t i = 0; i != 32; ++i) CHECK(log.nsid[i] == i + 1);
  m.controller.namespace_changed(33);
  log = log_of<machine<>, changed_namespace_log>(m, log_page_id::changed_namespaces);
  CHECK(log.nsid[0] == 0xffff'ffff);
  CHECK(log.nsid[1] == 0);
  log = log_of<machine<>, changed_namespace_log>(m, log_page_id::changed_namespaces);
  CHECK(log.nsid[0] == 0);
}

TEST_CASE("Retain Asynchronous Event keeps the type masked") {
  machine m;
  m.enable();
  m.create(1, 8);
  for (std::uint16_t i = 0; i != 3; ++i) m.submit(0, admin::async_event_request(), i);
  const auto event = [&] {
    for (int turn = 0; turn != 4; ++turn) {
      m.controller.poll();
      if (m.reap(0)) return true;
    }
    return false;
  };
  m.ring_tail(1, 100);
  REQUIRE(event());
  using log = std::array<std::byte, 64>;
  static_cast<void>(log_of<machine<>, log>(m, log_page_id::error_information, true));
  // A new event, which only a mask that is still there holds back.
  m.ring_tail(1, 102);
  CHECK_FALSE(event());
  static_cast<void>(log_of<machine<>, log>(m, log_page_id::error_information, false));
  m.ring_tail(1, 103);
  CHECK(event());
}

TEST_CASE("INTMS has 32 vectors: later ones are never masked by it") {
  auto s = machine<>::small();
  s.interrupt_vectors = 40;
  machine m{s};
  m.enable();
  m.create(1, 8, 33);
  m.create(2, 8, 1);
  m.irq.raised.clear();
  m.controller.write32(intms::offset, 0xffff'ffff);
  CHECK(m.controller.read32(intms::offset) == 0xffff'ffff);
  m.submit(1, nvm::flush(1), 1);
  m.submit(2, nvm::flush(1), 2);
  m.controller.poll();
  CHECK(m.irq.raised[33] == 1);
  CHECK(m.irq.raised[1] == 0);
}

TEST_CASE("a translation longer than was asked for is no data") {
  machine m;
  m.enable();
  m.create(1, 8);
  const bus_addr page = m.page();
  m.ram.too_long = 4096;
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1}), page)) == data_transfer_error);
  m.ram.too_long = 0;
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1}), page)) == success);
}

TEST_CASE("data that would reach past the end of the address space is a transfer error") {
  machine m;
  m.enable();
  m.create(1, 8);
  const std::uint64_t translations = m.ram.translations;
  CHECK(m.io_code(nvm::flush(1)) == success);
  const std::uint64_t of_flush = m.ram.translations - translations;
  auto e = nvm::read({.nsid = 1, .blocks = 8});
  e.set_sgl(sgl_descriptor::of(sgl_type::data_block, bus_addr{~std::uint64_t{0} - 100}, 4096));
  CHECK(m.io_code(e) == data_transfer_error);
  // The translator was not asked for a range that wraps.
  CHECK(m.ram.translations - translations == 2 * of_flush);
}
