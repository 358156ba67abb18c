// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/spec/admin_commands.hpp>

#include <cstdint>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;

TEST_CASE("Identify asks for a structure, of a namespace or a controller") {
  const auto ctrl = admin::identify({});
  CHECK(ctrl.cdw0 == 0x06U);
  CHECK(ctrl.nsid == 0U);
  CHECK(ctrl.cdw10 == 0x01U);
  const auto list = admin::identify({.cns = cns::secondary_controller_list, .cntid = 0x0102});
  CHECK(list.cdw10 == 0x0102'0015U);
  const auto zoned = admin::identify({.cns = cns::command_set_namespace,
                                      .nsid = 3,
                                      .cnssid = 0x77,
                                      .csi = command_set::zoned,
                                      .uuid = 0x7f});
  CHECK(zoned.nsid == 3U);
  CHECK(zoned.cdw10 == 0x05U);
  CHECK(zoned.cdw11 == 0x0200'0077U);
  CHECK(zoned.cdw14 == 0x7fU);
}

TEST_CASE("creating a completion queue writes its size minus one and its vector") {
  const auto e =
      admin::create_io_cq({.qid = 1, .entries = 256, .memory = bus_addr{0x12345000}, .vector = 9});
  CHECK(e.cdw0 == 0x05U);
  CHECK(e.prp1 == 0x12345000U);
  CHECK(e.cdw10 == 0x00ff'0001U);
  CHECK(e.cdw11 == 0x0009'0003U);
  CHECK(admin::create_io_cq({.qid = 1, .entries = 2, .interrupts = false}).cdw11 == 0x1U);
}

TEST_CASE("creating a submission queue names the completion queue and a priority") {
  const auto e = admin::create_io_sq({.qid = 0x0203,
                                      .entries = 65536,
                                      .memory = bus_addr{0x1'0000'0000},
                                      .cqid = 0x0405,
                                      .priority = queue_priority::medium});
  CHECK(e.cdw0 == 0x01U);
  CHECK(e.prp1 == 0x1'0000'0000U);
  CHECK(e.cdw10 == 0xffff'0203U);
  CHECK(e.cdw11 == 0x0405'0005U);
  CHECK(admin::create_io_sq({.qid = 1, .entries = 2, .contiguous = false}).cdw11 == 0U);
}

TEST_CASE("what a host asks of a new queue is what a controller reads") {
  using f = create_queue_command;
  const auto e = admin::create_io_sq({.qid = 5, .entries = 1024, .cqid = 6, .nvm_set = 8});
  CHECK(f::qid_bits.get(e.cdw10.get()) == 5);
  CHECK(f::qsize_bits.get(e.cdw10.get()) == 1023);
  CHECK(f::cqid_bits.get(e.cdw11.get()) == 6);
  CHECK(f::pc_bit.get(e.cdw11.get()));
  CHECK(f::nvmsetid_bits.get(e.cdw12.get()) == 8);
}

TEST_CASE("deleting a queue names it") {
  CHECK(admin::delete_io_cq(3).cdw0 == 0x04U);
  CHECK(admin::delete_io_cq(3).cdw10 == 3U);
  CHECK(admin::delete_io_sq(0xffff).cdw0 == 0x00U);
  CHECK(admin::delete_io_sq(0xffff).cdw10 == 0xffffU);
}

TEST_CASE("features are set and read by number") {
  const auto set = admin::set_features(
      {.fid = feature_id::number_of_queues, .cdw11 = number_of_queues::of(4, 8).raw, .save = true});
  CHECK(set.cdw0 == 0x09U);
  CHECK(set.cdw10 == 0x8000'0007U);
  CHECK(set.cdw11 == 0x0007'0003U);
  const auto get = admin::get_features({.fid = feature_id::temperature_threshold,
                                        .select = feature_select::supported,
                                        .cdw11 = 0x10000});
  CHECK(get.cdw0 == 0x0aU);
  CHECK(get.cdw10 == 0x0304U);
  CHECK(get.cdw11 == 0x10000U);
}

TEST_CASE("a log page's length is in dwords minus one, over two fields") {
  const auto health = admin::get_log_page({.lid = log_page_id::health, .bytes = 512});
  CHECK(health.cdw0 == 0x02U);
  CHECK(health.nsid == 0xffff'ffffU);
  CHECK(health.cdw10 == 0x007f'0002U);
  CHECK(health.cdw11 == 0U);
  const auto large = admin::get_log_page({.lid = log_page_id::persistent_events,
                                          .bytes = 0x40004,
                                          .offset = 0x1'2345'6788,
                                          .nsid = 0,
                                          .lsp = 0x7f,
                                          .lsi = 0xabcd,
                                          .retain_event = true,
                                          .offset_is_index = true,
                                          .csi = command_set::key_value,
                                          .uuid = 1});
  CHECK(large.cdw10 == 0x0000'ff0dU);
  CHECK(large.cdw11 == 0xabcd'0001U);
  CHECK(large.cdw12 == 0x2345'6788U);
  CHECK(large.cdw13 == 1U);
  CHECK(large.cdw14 == 0x0180'0001U);
}

TEST_CASE("a log page of the greatest length keeps both halves of its count") {
  const auto e = admin::get_log_page({.lid = log_page_id::telemetry_host, .bytes = 0xffff'fffc});
  CHECK(e.cdw10 == 0xfffe'0007U);
  CHECK(e.cdw11 == 0x3fffU);
}

TEST_CASE("abort names a submission queue and a command") {
  const auto e = admin::abort(0x0001, 0xbeef);
  CHECK(e.cdw0 == 0x08U);
  CHECK(e.cdw10 == 0xbeef'0001U);
}

TEST_CASE("doorbell buffers are two addresses in the place of the data pointer") {
  const auto e = admin::doorbell_buffer_config(bus_addr{0x1000}, bus_addr{0x2000});
  CHECK(e.cdw0 == 0x7cU);
  CHECK(e.prp1 == 0x1000U);
  CHECK(e.prp2 == 0x2000U);
}

TEST_CASE("requests without parameters are an opcode") {
  CHECK(admin::async_event_request() == command(admin_opcode::async_event_request));
  CHECK(admin::keep_alive().cdw0 == 0x18U);
}

// Builders work at compile time.
static_assert(admin::identify({.cns = cns::active_namespace_list, .nsid = 4}).cdw10 == 2U);
static_assert(admin::create_io_cq({.qid = 1, .entries = 64}).cdw10 == 0x003f'0001U);
static_assert(admin::get_log_page({.bytes = 64}).cdw10 == 0x000f'0001U);
