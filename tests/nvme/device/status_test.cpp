// SPDX-License-Identifier: BSL-1.0
// The status for each kind of bad input. The expected statuses are those of the specification; an
// independent controller gives the same in nearly all of them.
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/spec/range_commands.hpp>

#include <set>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct started : machine<> {
  started() {
    enable();
    create(1, 16);
    create(2, 16);
    buffer = allocate(1U << 18);
  }
  bus_addr buffer{};
};

submission_entry create_cq(started& m, std::uint16_t qid, std::uint32_t cdw10_size = 15) {
  auto e = admin::create_io_cq({.qid = 3, .entries = 16, .memory = m.page(), .vector = 1});
  e.cdw10 = qid | cdw10_size << 16;
  return e;
}
submission_entry create_sq(started& m, std::uint16_t qid, std::uint16_t cqid,
                           std::uint32_t cdw10_size = 15) {
  auto e = admin::create_io_sq({.qid = 3, .entries = 16, .memory = m.page(), .cqid = cqid});
  e.cdw10 = qid | cdw10_size << 16;
  return e;
}

}  // namespace

TEST_CASE("a queue id that is 0, above the maximum or in use is invalid") {
  started m;
  for (const std::uint16_t qid :
       {std::uint16_t{0}, std::uint16_t{1}, std::uint16_t{9}, std::uint16_t{0xffff}}) {
    CAPTURE(qid);
    CHECK(m.admin_code(create_cq(m, qid)) == invalid_queue_id);
    CHECK(m.admin_code(create_sq(m, qid, 1)) == invalid_queue_id);
  }
  CHECK(m.admin_code(create_cq(m, 8)) == success);
  CHECK(m.admin_code(create_sq(m, 8, 8)) == success);
}

TEST_CASE("Number of Queues limits which queues can be created") {
  machine m;
  m.enable();
  CHECK(m.admin(admin::set_features(
                    {.fid = feature_id::number_of_queues, .cdw11 = number_of_queues::of(1, 2).raw}))
            .dw0 == number_of_queues::of(1, 2).raw);
  const auto cq = [&](std::uint16_t qid) {
    return admin::create_io_cq({.qid = qid, .entries = 4, .memory = m.page(), .vector = 0});
  };
  const auto sq = [&](std::uint16_t qid) {
    return admin::create_io_sq({.qid = qid, .entries = 4, .memory = m.page(), .cqid = 2});
  };
  CHECK(m.admin_code(cq(3)) == invalid_queue_id);
  CHECK(m.admin_code(cq(2)) == success);
  CHECK(m.admin_code(sq(2)) == invalid_queue_id);
  CHECK(m.admin_code(sq(1)) == success);
  CHECK(m.admin(admin::get_features({.fid = feature_id::number_of_queues})).dw0 ==
        number_of_queues::of(1, 2).raw);
}

TEST_CASE("a queue that is deleted twice, or was never there, has an invalid id") {
  started m;
  CHECK(m.admin_code(admin::delete_io_sq(0)) == invalid_queue_id);
  CHECK(m.admin_code(admin::delete_io_sq(5)) == invalid_queue_id);
  CHECK(m.admin_code(admin::delete_io_sq(0xffff)) == invalid_queue_id);
  CHECK(m.admin_code(admin::delete_io_cq(0)) == invalid_queue_id);
  CHECK(m.admin_code(admin::delete_io_cq(0xfff0)) == invalid_queue_id);
  CHECK(m.admin_code(admin::delete_io_sq(1)) == success);
  CHECK(m.admin_code(admin::delete_io_sq(1)) == invalid_queue_id);
  CHECK(m.admin_code(admin::delete_io_cq(1)) == success);
  CHECK(m.admin_code(admin::delete_io_cq(1)) == invalid_queue_id);
}

TEST_CASE("a queue of one entry, or of more than MQES allows, has an invalid size") {
  started m;
  CHECK(m.admin_code(create_cq(m, 3, 0)) == invalid_queue_size);
  CHECK(m.admin_code(create_cq(m, 3, 256)) == invalid_queue_size);
  CHECK(m.admin_code(create_cq(m, 3, 0xffff)) == invalid_queue_size);
  CHECK(m.admin_code(create_sq(m, 3, 1, 0)) == invalid_queue_size);
  CHECK(m.admin_code(create_sq(m, 3, 1, 256)) == invalid_queue_size);
  CHECK(m.admin_code(create_cq(m, 3, 255)) == success);
  CHECK(m.admin_code(create_sq(m, 3, 3, 255)) == success);
}

TEST_CASE("a queue is refused while CC names another size of its entries") {
  started m;
  const auto usual = started::enabled_cc();
  m.enable(32, usual.with(nvme::cc::iosqes, 7));
  CHECK(m.admin_code(create_cq(m, 3, 15)) == success);
  CHECK(m.admin_code(create_sq(m, 3, 3, 15)) == invalid_queue_size);
  m.enable(32, usual.with(nvme::cc::iocqes, 5));
  CHECK(m.admin_code(create_cq(m, 3, 15)) == invalid_queue_size);
}

TEST_CASE("a submission queue needs a completion queue that exists") {
  started m;
  CHECK(m.admin_code(create_sq(m, 3, 3)) == completion_queue_invalid);
  CHECK(m.admin_code(create_sq(m, 3, 8)) == completion_queue_invalid);
  CHECK(m.admin_code(create_sq(m, 3, 0)) == invalid_queue_id);
  CHECK(m.admin_code(create_sq(m, 3, 9)) == invalid_queue_id);
}

TEST_CASE("a completion queue is not deleted under its submission queues") {
  started m;
  CHECK(m.admin_code(create_sq(m, 3, 1)) == success);
  CHECK(m.admin_code(admin::delete_io_cq(1)) == invalid_queue_deletion);
  CHECK(m.admin_code(admin::delete_io_sq(1)) == success);
  CHECK(m.admin_code(admin::delete_io_cq(1)) == invalid_queue_deletion);
  CHECK(m.admin_code(admin::delete_io_sq(3)) == success);
  CHECK(m.admin_code(admin::delete_io_cq(1)) == success);
}

TEST_CASE("rings are contiguous, on a page, and do not wrap around the address space") {
  started m;
  auto e = create_cq(m, 3);
  e.cdw11 = e.cdw11 & ~1U;
  CHECK(m.admin_code(e) == invalid_field);
  e = create_sq(m, 3, 1);
  e.cdw11 = e.cdw11 & ~1U;
  CHECK(m.admin_code(e) == invalid_field);
  for (const std::uint64_t off : {1U, 4U, 64U, 2048U}) {
    e = create_cq(m, 3);
    e.prp1 = e.prp1 + off;
    CHECK(m.admin_code(e) == prp_offset_invalid);
    e = create_sq(m, 3, 1);
    e.prp1 = e.prp1 + off;
    CHECK(m.admin_code(e) == prp_offset_invalid);
  }
  e = create_sq(m, 3, 1, 255);
  e.prp1 = ~std::uint64_t{4095};
  CHECK(m.admin_code(e) == invalid_field);
}

TEST_CASE("an interrupt vector out of range is refused where interrupts are enabled") {
  started m;
  auto e = create_cq(m, 3);
  e.cdw11 = 3U | 9U << 16;
  CHECK(m.admin_code(e) == invalid_interrupt_vector);
  e.cdw11 = 3U | 8U << 16;
  CHECK(m.admin_code(e) == success);
  e = create_cq(m, 4);
  e.cdw11 = 1U | 9U << 16;
  CHECK(m.admin_code(e) == success);
}

TEST_CASE("PRPs with an offset where none may be are refused") {
  started m;
  const auto read = [](std::uint32_t blocks) { return nvm::read({.nsid = 1, .blocks = blocks}); };
  CHECK(m.io_code(with_data(read(1), m.buffer + 2)) == prp_offset_invalid);
  CHECK(m.io_code(with_data(read(16), m.buffer, m.buffer + 4096 + 4)) == prp_offset_invalid);
  CHECK(m.io_code(with_data(read(16), m.buffer, m.buffer + 4096)) == success);
  // A list that begins off an entry, and one with an entry off a page.
  CHECK(m.io_code(with_data(read(32), m.buffer, m.buffer + 4)) == prp_offset_invalid);
  store_wire(m.ram.bytes(m.buffer, 8), le<std::uint64_t>{m.buffer.value() + 8});
  CHECK(m.io_code(with_data(read(32), m.buffer + 4096, m.buffer)) == prp_offset_invalid);
}

TEST_CASE("a command id of an event request that is in flight is a conflict") {
  machine m;
  m.enable();
  m.submit(0, admin::async_event_request(), 77);
  m.controller.poll();
  m.submit(0, admin::keep_alive(), 77);
  m.controller.poll();
  const auto c = m.reap(0);
  REQUIRE(c);
  CHECK(c->status() == command_id_conflict);
}

TEST_CASE("commands that do not exist have an invalid opcode") {
  started m;
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    CAPTURE(opcode);
    submission_entry e{};
    e.cdw0 = opcode;
    e.nsid = 1;
    // Written out, so that a command which appears or vanishes is noticed.
    const std::set<unsigned> admin_opcodes{0x00, 0x01, 0x02, 0x04, 0x05, 0x06,
                                           0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7c};
    const std::set<unsigned> nvm_opcodes{0x00, 0x01, 0x02, 0x05, 0x08, 0x09, 0x0c, 0x19};
    if (opcode != 0x0c) {
      CHECK((m.admin_code(e) == invalid_opcode) == !admin_opcodes.contains(opcode));
    }
    CHECK((m.io_code(e) == invalid_opcode) == !nvm_opcodes.contains(opcode));
  }
}

TEST_CASE("fields that no command may have are invalid") {
  started m;
  CHECK(m.admin_code(with_data(admin::identify({.cns = static_cast<cns>(0xff)}), m.buffer)) ==
        invalid_field);
  auto e = with_data(nvm::read({.nsid = 1}), m.buffer);
  e.set_psdt(data_pointer::reserved);
  CHECK(m.io_code(e) == invalid_field);
  e = with_data(admin::identify({}), m.buffer);
  e.set_psdt(data_pointer::sgl_metadata_buffer);
  CHECK(m.admin_code(e) == invalid_field);
  e = with_data(nvm::read({.nsid = 1}), m.buffer);
  e.set_fuse(fused::first);
  CHECK(m.io_code(e) == invalid_field);
  const auto bad = m.run(1, e).status();
  CHECK(bad.dnr());
}

TEST_CASE("a transfer longer than MDTS is an invalid field, one as long is not") {
  started m;
  // PRP list for 128 KiB: MDTS is 5.
  const bus_addr list = m.page();
  for (std::uint64_t i = 0; i != 64; ++i) {
    store_wire(m.ram.bytes(list + i * 8, 8),
               le<std::uint64_t>{(m.buffer + 4096 * (i + 1)).value()});
  }
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1, .blocks = 257}), m.buffer, list)) ==
        invalid_field);
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1, .blocks = 256}), m.buffer, list)) == success);
  CHECK(m.io_code(with_data(nvm::write({.nsid = 1, .blocks = 65536}), m.buffer, list)) ==
        invalid_field);
  CHECK(m.admin_code(with_data(admin::get_log_page({.bytes = 128 * 1024 + 4}), m.buffer, list)) ==
        invalid_field);
  // Commands that transfer nothing have no such limit.
  CHECK(m.io_code(nvm::verify({.nsid = 1, .blocks = 2048})) == success);
  CHECK(m.io_code(nvm::write_zeroes({.nsid = 1, .blocks = 2048})) == success);
}

TEST_CASE("namespaces: 0 and beyond the last are invalid, an inactive one is an invalid field") {
  started m;
  for (const auto& [opcode, effects, oncs] : device::nvm_commands) {
    CAPTURE(static_cast<int>(opcode));
    const auto on = [&](std::uint32_t nsid) { return with_data(command(opcode, nsid), m.buffer); };
    CHECK(m.io_code(on(0)) == invalid_namespace_or_format);
    CHECK(m.io_code(on(2)) == invalid_field);
    CHECK(m.io_code(on(5)) == invalid_namespace_or_format);
    const auto all = m.io_code(on(all_namespaces));
    CHECK(all == (opcode == nvm_opcode::flush ? success : invalid_namespace_or_format));
  }
}

TEST_CASE("blocks beyond the end are out of range, whatever the sum wraps to") {
  started m;
  for (const nvm_opcode opcode : {nvm_opcode::read, nvm_opcode::write, nvm_opcode::compare,
                                  nvm_opcode::verify, nvm_opcode::write_zeroes}) {
    CAPTURE(static_cast<int>(opcode));
    const auto code = [&](std::uint64_t lba, std::uint32_t blocks) {
      auto e = with_data(nvm::read({.nsid = 1, .lba = lba, .blocks = blocks}), m.buffer,
                         m.buffer + 4096);
      e.cdw0 = static_cast<std::uint32_t>(opcode);
      return m.io_code(e);
    };
    CHECK(code(2047, 1) == success);
    CHECK(code(2047, 2) == lba_out_of_range);
    CHECK(code(2048, 1) == lba_out_of_range);
    CHECK(code(~std::uint64_t{0}, 1) == lba_out_of_range);
    CHECK(code(~std::uint64_t{0}, 2) == lba_out_of_range);
    CHECK(code(std::uint64_t{1} << 55, 1) == lba_out_of_range);
  }
}

TEST_CASE("Number of Queues comes before the first I/O queue, and FFFFh is no number") {
  started m;
  const auto e = admin::set_features({.fid = feature_id::number_of_queues, .cdw11 = 0x0001'0001});
  CHECK(m.admin_code(e) == command_sequence_error);
  m.enable();
  CHECK(m.admin_code(e) == success);
  for (const std::uint32_t bad : {0xffff'0001U, 0x0001'ffffU}) {
    CHECK(m.admin_code(admin::set_features({.fid = feature_id::number_of_queues, .cdw11 = bad})) ==
          invalid_field);
  }
}

TEST_CASE("one event request more than AERL allows is refused") {
  machine m;
  m.enable();
  const bus_addr page = m.page();
  m.admin(with_data(admin::identify({}), page));
  const auto id = load_wire<identify_controller>(m.ram.bytes(page, 4096));
  for (std::uint16_t i = 0; i <= id.aerl; ++i) m.submit(0, admin::async_event_request(), i);
  m.controller.poll();
  CHECK_FALSE(m.peek(0));
  m.submit(0, admin::async_event_request(), 99);
  m.controller.poll();
  const auto c = m.reap(0);
  REQUIRE(c);
  CHECK(c->command_id() == 99);
  CHECK(c->status() == async_event_limit_exceeded);
}

TEST_CASE("Doorbell Buffer Config off a page is an invalid field") {
  started m;
  CHECK(m.admin_code(admin::doorbell_buffer_config(m.buffer + 4, m.buffer + 4096)) ==
        invalid_field);
  CHECK(m.admin_code(admin::doorbell_buffer_config(m.buffer, m.buffer + 4096 + 2048)) ==
        invalid_field);
  // A refused configuration has no effect: the doorbell registers stay in use.
  CHECK(m.io_code(nvm::flush(1)) == success);
  CHECK(m.admin_code(admin::doorbell_buffer_config(m.buffer, m.buffer + 4096)) == success);
}

TEST_CASE("data that cannot be reached is a transfer error, and the controller lives on") {
  started m;
  const bus_addr nowhere{0x10};
  const auto error = m.run(1, with_data(nvm::read({.nsid = 1}), bus_addr{0x1000})).status();
  CHECK(error == data_transfer_error);
  CHECK_FALSE(error.dnr());
  CHECK(m.io_code(with_data(nvm::write({.nsid = 1}), nowhere)) == data_transfer_error);
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1, .blocks = 32}), m.buffer, bus_addr{0x8000})) ==
        data_transfer_error);
  CHECK(m.admin_code(with_data(admin::identify({}), nowhere)) == data_transfer_error);
  m.ram.hole_begin = m.buffer.value() - memory::base + 512;
  m.ram.hole_end = m.ram.hole_begin + 512;
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1, .blocks = 3}), m.buffer)) == data_transfer_error);
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1, .blocks = 1}), m.buffer)) == success);
  m.ram.hole_read = false;
  CHECK(m.io_code(with_data(nvm::write({.nsid = 1, .blocks = 3}), m.buffer)) == success);
  CHECK(m.io_code(with_data(nvm::read({.nsid = 1, .blocks = 3}), m.buffer)) == data_transfer_error);
}

TEST_CASE("dataset management checks every range before it trims the first") {
  started m;
  std::memset(m.store.data(), 0x5a, 4096);
  const auto range = [&](std::size_t i, std::uint64_t lba, std::uint32_t blocks) {
    dataset_range r{};
    r.lba = lba;
    r.blocks = blocks;
    store_wire(m.ram.bytes(m.buffer + i * 16, 16), r);
  };
  range(0, 1, 2);
  range(1, 2048, 1);
  const auto trim = [&](std::uint32_t ranges, bool deallocate = true) {
    return m.io_code(
        with_data(nvm::dataset_management({.nsid = 1, .ranges = ranges, .deallocate = deallocate}),
                  m.buffer));
  };
  CHECK(trim(2) == lba_out_of_range);
  CHECK(m.store[512] == std::byte{0x5a});
  range(1, 2047, 0);
  CHECK(trim(2, false) == success);
  CHECK(m.store[512] == std::byte{0x5a});
  CHECK(trim(2) == success);
  CHECK(m.store[511] == std::byte{0x5a});
  CHECK(m.store[512] == std::byte{0});
  CHECK(m.store[1535] == std::byte{0});
  CHECK(m.store[1536] == std::byte{0x5a});
  CHECK(trim(256) == success);
}

TEST_CASE("copy moves its ranges one after the other and keeps to its limits") {
  started m;
  for (std::size_t i = 0; i != 64 * 512; ++i) m.store[i] = static_cast<std::byte>(i / 512 + 1);
  const auto source = [&](std::size_t i, std::uint64_t lba, std::uint32_t blocks) {
    store_wire(m.ram.bytes(m.buffer + i * 32, 32), copy_range::of(lba, blocks));
  };
  const auto copy = [&](std::uint64_t to, std::uint32_t ranges, std::uint8_t format = 0) {
    return m.io_code(
        with_data(nvm::copy({.nsid = 1, .lba = to, .ranges = ranges, .descriptor_format = format}),
                  m.buffer));
  };
  source(0, 3, 20);
  source(1, 40, 1);
  CHECK(copy(100, 2) == success);
  for (std::size_t i = 0; i != 20; ++i) CHECK(m.store[(100 + i) * 512] == std::byte(3 + i + 1));
  CHECK(m.store[120 * 512] == std::byte{41});
  CHECK(m.store[121 * 512] == std::byte{0});
  CHECK(copy(2040, 2) == lba_out_of_range);
  CHECK(copy(100, 1, 1) == invalid_field);
  CHECK(copy(100, 17) == command_size_limit_exceeded);
  source(0, 0, 65536);
  CHECK(copy(0, 1) == command_size_limit_exceeded);
  source(0, 2048, 1);
  CHECK(copy(0, 1) == lba_out_of_range);
}

TEST_CASE("log pages: an unknown one, an offset beyond its end or off a dword are refused") {
  started m;
  const auto log = [&](log_page_options o) {
    return m.admin_code(with_data(admin::get_log_page(o), m.buffer));
  };
  CHECK(log({.lid = log_page_id::health, .bytes = 512}) == success);
  CHECK(log({.lid = log_page_id::telemetry_host, .bytes = 512}) == invalid_log_page);
  CHECK(log({.lid = static_cast<log_page_id>(0xc0), .bytes = 512}) == invalid_log_page);
  CHECK(log({.lid = log_page_id::health, .bytes = 4, .offset = 508}) == success);
  CHECK(log({.lid = log_page_id::health, .bytes = 4, .offset = 512}) == invalid_field);
  CHECK(log({.lid = log_page_id::health, .bytes = 4, .offset = 2}) == invalid_field);
  CHECK(log({.lid = log_page_id::health, .bytes = 4, .offset = ~std::uint64_t{3}}) ==
        invalid_field);
}

TEST_CASE("features: unknown ones, savings and values that cannot be are refused") {
  started m;
  const auto set = [&](feature_id id, std::uint32_t value, bool save = false) {
    return m.admin_code(admin::set_features({.fid = id, .cdw11 = value, .save = save}));
  };
  const auto get = [&](feature_id id, std::uint32_t dw11 = 0,
                       feature_select select = feature_select::current) {
    return m.admin_code(admin::get_features({.fid = id, .select = select, .cdw11 = dw11}));
  };
  CHECK(set(static_cast<feature_id>(0), 0) == invalid_field);
  CHECK(get(static_cast<feature_id>(0)) == invalid_field);
  CHECK(set(feature_id::host_memory_buffer, 1) == invalid_field);
  CHECK(set(feature_id::arbitration, 1, true) == feature_not_saveable);
  CHECK(set(feature_id::timestamp, 0, true) == feature_not_saveable);
  CHECK(set(feature_id::power_management, 1) == invalid_field);
  CHECK(set(feature_id::temperature_threshold, 1U << 16) == invalid_field);
  CHECK(get(feature_id::temperature_threshold, 2U << 20) == invalid_field);
  CHECK(set(feature_id::interrupt_vector_configuration, 9) == invalid_field);
  CHECK(get(feature_id::interrupt_vector_configuration, 9) == invalid_field);
  CHECK(get(feature_id::arbitration, 0, static_cast<feature_select>(5)) == invalid_field);
  auto s = machine<>::small();
  s.volatile_write_cache = false;
  machine without{s};
  without.enable();
  CHECK(without.admin_code(admin::set_features(
            {.fid = feature_id::volatile_write_cache, .cdw11 = 1})) == invalid_field);
}

TEST_CASE("an abort names a queue that exists, and reports when there was nothing to abort") {
  started m;
  CHECK(m.admin_code(admin::abort(9, 1)) == invalid_field);
  CHECK(m.admin_code(admin::abort(5, 1)) == invalid_field);
  const auto late = m.admin(admin::abort(1, 1));
  CHECK(late.status().ok());
  CHECK(late.dw0 == 1);
}

TEST_CASE("identify answers what there is, zeros for what is inactive, errors for what cannot be") {
  started m;
  const auto identify = [&](cns what, std::uint32_t nsid, command_set csi = command_set::nvm) {
    std::memset(m.ram.at(m.buffer), 0xff, 4096);
    return m.admin_code(
        with_data(admin::identify({.cns = what, .nsid = nsid, .csi = csi}), m.buffer));
  };
  const auto word = [&](std::size_t i) {
    return load_wire<le<std::uint32_t>>(m.ram.bytes(m.buffer + i * 4, 4)).get();
  };
  CHECK(identify(cns::identify_namespace, 0) == invalid_namespace_or_format);
  CHECK(identify(cns::identify_namespace, 5) == invalid_namespace_or_format);
  CHECK(identify(cns::identify_namespace, 2) == success);
  for (std::size_t i = 0; i != 1024; ++i) REQUIRE(word(i) == 0);
  CHECK(identify(cns::active_namespace_list, 0) == success);
  CHECK(word(0) == 1);
  CHECK(word(1) == 0);
  CHECK(identify(cns::active_namespace_list, 1) == success);
  CHECK(word(0) == 0);
  CHECK(identify(cns::active_namespace_list, 0xffff'fffe) == invalid_namespace_or_format);
  CHECK(identify(cns::active_namespace_list, 0xffff'ffff) == invalid_namespace_or_format);
  CHECK(identify(cns::namespace_id_descriptors, 1) == success);
  CHECK(word(0) == 0x0801);
  CHECK(identify(cns::namespace_id_descriptors, 0) == invalid_namespace_or_format);
  CHECK(identify(cns::command_set_namespace, 1) == success);
  CHECK(identify(cns::command_set_namespace, 1, command_set::zoned) == invalid_field);
  CHECK(identify(cns::command_set_controller, 0) == success);
  CHECK(identify(cns::command_set_controller, 0, command_set::key_value) == invalid_field);
  CHECK(identify(cns::controller_list, 0) == success);
  CHECK(word(0) == 1);
}
