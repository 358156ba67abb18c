// SPDX-License-Identifier: BSL-1.0
// The device side of virtio-scsi: every command, what is refused and with which sense data, task management
// and events, buffers that are cut in odd ways, and media that answer at once, later, or with errors.
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/virtio/scsi/request_queue.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <virtio/scsi_host.hpp>

using namespace phasebit;
using namespace phasebit_test;
using scsi::response;
using scsi::task_management;

namespace {

struct steered {
  block::media_fate fixed{};
  std::optional<block::random_media_plan> random{};
  bool refuses_zeroes = false;
  block::media_fate operator()(const block::media_request& r, std::uint64_t n) noexcept {
    if (refuses_zeroes && r.operation == block::media_operation::write_zeroes) {
      return {.status = block::media_status::not_supported};
    }
    return random ? (*random)(r, n) : fixed;
  }
};
using planned = block::planned_media<block::memory_media, steered>;

// Logical units 0 and 1 exist, 2 is an empty place; 1 is read only and has blocks of 4096 bytes.
struct disks {
  disks() {
    media.reserve(3);
    for (std::size_t i = 0; i != 3; ++i) {
      blocks.emplace_back(stores[i], i == 1 ? 4096U : 512U);
      operations[i].resize(40);
    }
    for (std::size_t i = 0; i != 3; ++i) media.emplace_back(blocks[i], operations[i]);
    units[0] = scsi::logical_unit{{.naa = 0x5000'1234'5678'9abc}};
    units[1] = scsi::logical_unit{{.read_only = true, .unmap = false}};
    for (std::size_t i = 0; i != 3; ++i) {
      for (std::size_t b = 0; b != stores[i].size(); ++b) {
        stores[i][b] = static_cast<std::byte>(b / 512 + i + 1);
      }
    }
  }
  disks(const disks&) = delete;

  std::vector<std::byte> stores[3] = {std::vector<std::byte>(1U << 20),
                                      std::vector<std::byte>(1U << 20),
                                      std::vector<std::byte>(4096)};
  std::vector<block::memory_media> blocks = [] {
    std::vector<block::memory_media> v;
    v.reserve(3);
    return v;
  }();
  std::vector<block::planned_operation> operations[3];
  std::vector<planned> media;
  std::array<scsi::logical_unit, 3> units{};
};

struct host : disks, scsi_host<planned> {
  explicit host(bool packed = false) : scsi_host<planned>(media, units, packed) { settle(); }
  std::vector<std::byte>& disk(std::size_t i = 0) { return stores[i]; }
};

std::uint64_t number(const std::vector<std::byte>& from, std::size_t offset, std::size_t bytes) {
  REQUIRE(offset + bytes <= from.size());
  return scsi::get_be(from, offset, bytes);
}
std::string text(const std::vector<std::byte>& from, std::size_t offset, std::size_t length) {
  REQUIRE(offset + length <= from.size());
  return {reinterpret_cast<const char*>(from.data()) + offset, length};
}

constexpr scsi::sense bad_cdb = scsi::invalid_field_in_cdb;

}  // namespace

TEST_CASE("virtio-scsi: INQUIRY describes the logical unit, and an empty place") {
  host h;
  const auto a = h.run({0x12, 0, 0, 0, 96, 0}, 0, 96);
  REQUIRE(a.good());
  CHECK(a.data.size() == 74);
  CHECK(a.residual == 96 - 74);
  CHECK(a.written == 12 + 96 + 74);
  CHECK(a.data[0] == std::byte{0});
  CHECK(number(a.data, 4, 1) == 69);
  CHECK(text(a.data, 8, 8) == "phasebit");
  CHECK(text(a.data, 16, 16) == "virtio disk     ");
  CHECK(text(a.data, 32, 4) == "0.1 ");
  CHECK(h.run({0x12, 0, 0, 0, 36, 0}, 0, 36).data.size() == 36);
  CHECK(h.run({0x12, 0, 0, 0, 5, 0}, 0, 36).data.size() == 5);
  CHECK(h.run({0x12, 0, 0, 0, 0, 0}).good());
  CHECK(h.sense_of({0x12, 0, 1, 0, 96, 0}, 0, 96) == bad_cdb);     // a page without EVPD
  CHECK(h.sense_of({0x12, 2, 0, 0, 96, 0}, 0, 96) == bad_cdb);     // CMDDT
  CHECK(h.sense_of({0x12, 1, 0x99, 0, 96, 0}, 0, 96) == bad_cdb);  // no such page
  for (const std::uint16_t lun : std::initializer_list<std::uint16_t>{2, 3, 200}) {
    const auto none = h.run({0x12, 0, 0, 0, 96, 0}, 0, 96, lun);
    REQUIRE(none.good());
    CHECK(none.data[0] == std::byte{0x7f});
  }
}

TEST_CASE("virtio-scsi: vital product data") {
  host h;
  const auto page = [&](std::uint8_t p, std::uint16_t lun = 0) {
    const auto a = h.run({0x12, 1, p, 0, 255, 0}, 0, 255, lun);
    REQUIRE(a.good());
    CHECK(number(a.data, 1, 1) == p);
    CHECK(number(a.data, 2, 2) == a.data.size() - 4);
    return a.data;
  };
  CHECK(page(0) == std::vector<std::byte>{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{6},
                                          std::byte{0}, std::byte{0x80}, std::byte{0x83},
                                          std::byte{0xb0}, std::byte{0xb1}, std::byte{0xb2}});
  CHECK(text(page(0x80), 4, 12) == "PHASEBIT0001");
  const auto ids = page(0x83);
  CHECK(number(ids, 4, 4) == 0x02010014);
  CHECK(text(ids, 8, 20) == "phasebitPHASEBIT0001");
  CHECK(number(ids, 28, 4) == 0x01030008);
  CHECK(number(ids, 32, 8) == 0x5000'1234'5678'9abc);
  const auto limits = page(0xb0);
  CHECK(limits.size() == 64);
  CHECK(number(limits, 4, 1) == 1);
  CHECK(number(limits, 20, 4) == 0x20'0000);
  CHECK(number(limits, 24, 4) == 16);
  CHECK(number(limits, 36, 8) == 0x20'0000);
  CHECK(number(page(0xb1), 4, 2) == 1);
  CHECK(number(page(0xb2), 5, 1) == 0xe0);
  CHECK(number(page(0xb2), 6, 1) == 2);
  CHECK(number(page(0xb0, 1), 20, 4) == 0);
  CHECK(number(page(0xb2, 1), 5, 1) == 0);
  CHECK(h.sense_of({0x12, 1, 0x80, 0, 255, 0}, 0, 255, 2) == scsi::logical_unit_not_supported);
}

TEST_CASE(
    "virtio-scsi: REPORT LUNS lists the logical units, at every place and the well known logical "
    "unit") {
  host h;
  const std::vector<std::uint8_t> cdb{0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
  for (const auto& lun : {scsi::lun_of(0, 0), scsi::lun_of(0, 2), scsi::lun_of(0, 77),
                          scsi::lun_bytes{0xc1, 1, 0, 0, 0, 0, 0, 0}}) {
    const auto a = h.run(cdb, 0, 256, lun);
    REQUIRE(a.good());
    REQUIRE(a.data.size() == 24);
    CHECK(number(a.data, 0, 8) == std::uint64_t{16} << 32);
    CHECK(number(a.data, 8, 8) == 0);
    CHECK(number(a.data, 16, 8) == std::uint64_t{1} << 48);
  }
  CHECK(h.run({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0}, 0, 256).data.size() == 20);
  CHECK(h.run({0xa0, 0, 1, 0, 0, 0, 0, 0, 0, 64, 0, 0}, 0, 256).data.size() == 8);
  CHECK(h.sense_of({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0}, 0, 256) == bad_cdb);
  CHECK(h.sense_of({0xa0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0}, 0, 256) == bad_cdb);
  h.units[2] = scsi::logical_unit{scsi::logical_unit_options{}};
  CHECK(h.run({0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, 0, 256).data.size() == 32);
}

TEST_CASE("virtio-scsi: addresses without a logical unit of the target") {
  host h;
  const std::vector<std::uint8_t> tur(6);
  const auto code = [&](scsi::lun_bytes lun) { return h.run(tur, 0, 0, lun).response; };
  CHECK(code({1, 0, 0, 0, 0, 0, 0, 0}) == response::ok);     // peripheral addressing
  CHECK(code({1, 0, 0x40, 0, 0, 0, 0, 0}) == response::ok);  // flat
  CHECK(code({1, 1, 0x40, 0, 0, 0, 0, 0}) == response::bad_target);
  CHECK(code({0, 0, 0x40, 0, 0, 0, 0, 0}) == response::bad_target);
  CHECK(code({1, 0, 0x80, 0, 0, 0, 0, 0}) == response::bad_target);
  CHECK(code({1, 0, 1, 0, 0, 0, 0, 0}) == response::bad_target);
  CHECK(code({1, 0, 0x40, 0, 0, 0, 0, 1}) == response::bad_target);
  for (const std::uint16_t lun : std::initializer_list<std::uint16_t>{2, 3, 0x3fff}) {
    CHECK(h.sense_of({0, 0, 0, 0, 0, 0}, 0, 0, lun) == scsi::logical_unit_not_supported);
    CHECK(h.sense_of({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, 512, lun) ==
          scsi::logical_unit_not_supported);
  }
}

TEST_CASE("virtio-scsi: READ CAPACITY") {
  host h;
  auto a = h.run({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 8);
  CHECK(number(a.data, 0, 4) == 2047);
  CHECK(number(a.data, 4, 4) == 512);
  a = h.run({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 8, 1);
  CHECK(number(a.data, 0, 4) == 255);
  CHECK(number(a.data, 4, 4) == 4096);
  a = h.run({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, 0, 32);
  CHECK(number(a.data, 0, 8) == 2047);
  CHECK(number(a.data, 8, 4) == 512);
  CHECK(number(a.data, 14, 1) == 0x80);
  CHECK(h.sense_of({0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, 0, 32) == bad_cdb);
  CHECK(h.run({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 7).response == response::overrun);
}

TEST_CASE("virtio-scsi: MODE SENSE reports the cache, the control page and write protection") {
  host h;
  auto a = h.run({0x1a, 0, 0x3f, 0, 255, 0}, 0, 255);
  REQUIRE(a.good());
  CHECK(a.data.size() == 4 + 8 + 20 + 12);
  CHECK(number(a.data, 0, 1) == a.data.size() - 1);
  CHECK(number(a.data, 2, 2) == 0x1008);
  CHECK(number(a.data, 4, 4) == 2048);
  CHECK(number(a.data, 8, 4) == 512);
  CHECK(number(a.data, 12, 3) == 0x08'12'04);
  CHECK(number(a.data, 32, 2) == 0x0a0a);
  a = h.run({0x5a, 8, 8, 0, 0, 0, 0, 0, 255, 0}, 0, 255, 1);
  CHECK(a.data.size() == 8 + 20);
  CHECK(number(a.data, 0, 2) == a.data.size() - 2);
  CHECK(number(a.data, 3, 1) == 0x90);
  CHECK(number(a.data, 6, 2) == 0);
  // Nothing is changeable.
  a = h.run({0x1a, 8, 0x48, 0, 255, 0}, 0, 255);
  CHECK(number(a.data, 6, 8) == 0);
  CHECK(h.sense_of({0x1a, 0, 0xc8, 0, 255, 0}, 0, 255) == scsi::saving_parameters_not_supported);
  CHECK(h.sense_of({0x1a, 0, 0x01, 0, 255, 0}, 0, 255) == bad_cdb);
  CHECK(h.sense_of({0x1a, 0, 0x08, 1, 255, 0}, 0, 255) == bad_cdb);
}

TEST_CASE("virtio-scsi: reads and writes of every length of CDB") {
  host h;
  std::memset(h.payload(0), 0x5a, 4096);
  REQUIRE(h.run({0x0a, 0, 0, 10, 2, 0}, 1024).good());
  CHECK(h.disk()[10 * 512] == std::byte{0x5a});
  CHECK(h.disk()[12 * 512 - 1] == std::byte{0x5a});
  CHECK(h.disk()[12 * 512] == std::byte{13});
  REQUIRE(h.run({0x2a, 0, 0, 0, 0, 20, 0, 0, 1, 0}, 512).good());
  REQUIRE(h.run({0xaa, 0, 0, 0, 0, 21, 0, 0, 0, 1, 0, 0}, 512).good());
  REQUIRE(h.run({0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 22, 0, 0, 0, 1, 0, 0}, 512).good());
  for (std::size_t i = 20; i != 23; ++i) CHECK(h.disk()[i * 512] == std::byte{0x5a});
  auto a = h.run({0x08, 0, 0, 30, 1, 0}, 0, 512);
  REQUIRE(a.good());
  CHECK(a.data[0] == std::byte{31});
  CHECK(a.written == 12 + 96 + 512);
  CHECK(h.run({0x28, 0, 0, 0, 0, 31, 0, 0, 1, 0}, 0, 512).data[511] == std::byte{32});
  CHECK(h.run({0xa8, 0, 0, 0, 0, 32, 0, 0, 0, 1, 0, 0}, 0, 512).data[0] == std::byte{33});
  CHECK(h.run({0x88, 0, 0, 0, 0, 0, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0}, 0, 512).data[0] ==
        std::byte{34});
  // 0 blocks are 256 in the short command, and none in the others.
  a = h.run({0x08, 0, 0, 0, 0, 0}, 0, 100'000);
  CHECK(a.response == response::overrun);
  CHECK(h.run({0x28, 0, 0, 0, 0, 31, 0, 0, 0, 0}, 0, 512).residual == 512);
  // More buffer than blocks: the remainder is reported.
  a = h.run({0x28, 0, 0, 0, 0, 31, 0, 0, 1, 0}, 0, 1000);
  CHECK(a.residual == 488);
  CHECK(h.run({0x28, 0, 0, 0, 0, 31, 0, 0, 2, 0}, 0, 1023).response == response::overrun);
  CHECK(h.run({0x2a, 0, 0, 0, 0, 31, 0, 0, 2, 0}, 1023).response == response::overrun);
  CHECK(h.run({0x28, 0, 0, 0, 0, 31, 0xff, 0xff, 0xff, 0}, 0, 512).sense == scsi::lba_out_of_range);
  CHECK(h.run({0x28, 0, 0, 0, 0, 31, 0, 0, 1, 0}, 512, 512).response == response::failure);
}

TEST_CASE("virtio-scsi: what a command that moves blocks is refused for") {
  host h;
  CHECK(h.sense_of({0x28, 0, 0, 0, 8, 0, 0, 0, 1, 0}, 0, 512) == scsi::lba_out_of_range);
  CHECK(h.sense_of({0x28, 0, 0, 0, 7, 0xff, 0, 0, 2, 0}, 0, 1024) == scsi::lba_out_of_range);
  CHECK(h.sense_of({0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0, 0}, 0,
                   1024) == scsi::lba_out_of_range);
  CHECK(h.sense_of({0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0}, 0, 512) == bad_cdb);  // RDPROTECT
  CHECK(h.sense_of({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4}, 0, 512) == bad_cdb);     // NACA
  CHECK(h.sense_of({0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 4096, 0, 1) == scsi::write_protected);
  CHECK(h.sense_of({0x0a, 0, 0, 0, 1, 0}, 4096, 0, 1) == scsi::write_protected);
  CHECK(h.sense_of({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}, 4096, 0, 1) ==
        scsi::write_protected);
  CHECK(h.disk(1)[0] == std::byte{2});
  CHECK(h.sense_of({0x1b, 0, 0, 0, 0, 0}) == bad_cdb);  // stop
  CHECK(h.sense_of({0x1b, 0, 0, 0, 3, 0}) == bad_cdb);  // eject
  CHECK(h.run({0x1b, 0, 0, 0, 1, 0}).good());
}

TEST_CASE("virtio-scsi: errors of the media become sense data") {
  host h;
  const auto write = [&] { return h.sense_of({0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512); };
  h.media[0].plan().fixed = {.status = block::media_status::write_failed};
  CHECK(write() == scsi::write_error);
  h.media[0].plan().fixed = {.status = block::media_status::no_space};
  CHECK(write() == scsi::space_allocation_failed);
  h.media[0].plan().fixed = {.status = block::media_status::read_only};
  CHECK(write() == scsi::write_protected);
  h.media[0].plan().fixed = {.status = block::media_status::read_failed};
  CHECK(h.sense_of({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, 512) == scsi::unrecovered_read_error);
  CHECK(h.run({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, 512).residual == 512);
}

TEST_CASE("virtio-scsi: SYNCHRONIZE CACHE and FUA reach the media") {
  host h;
  CHECK(h.run({0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}).good());
  CHECK(h.run({0x91, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}).good());
  CHECK(h.media[0].flushes() == 2);
  CHECK(h.sense_of({0x35, 0, 0, 0, 8, 1, 0, 0, 0, 0}) == scsi::lba_out_of_range);
  REQUIRE(h.run({0x2a, 8, 0, 0, 0, 0, 0, 0, 1, 0}, 512).good());
  CHECK(h.media[0].forced_writes() == 1);
}

TEST_CASE("virtio-scsi: UNMAP checks the whole list before the first range has an effect") {
  host h;
  const auto list = [&](std::initializer_list<std::pair<std::uint64_t, std::uint32_t>> ranges) {
    std::byte* const to = h.payload(0);
    std::memset(to, 0, 512);
    scsi::put_be({to, 8}, 0, 2, 6 + 16 * ranges.size());
    scsi::put_be({to, 8}, 2, 2, 16 * ranges.size());
    std::size_t at = 8;
    for (const auto& [lba, blocks] : ranges) {
      scsi::put_be({to + at, 16}, 0, 8, lba);
      scsi::put_be({to + at, 16}, 8, 4, blocks);
      at += 16;
    }
    return static_cast<std::uint8_t>(at);
  };
  const auto unmap = [&](std::uint8_t length) {
    return h.run({0x42, 0, 0, 0, 0, 0, 0, 0, length, 0}, length);
  };
  const std::uint64_t before = h.media[0].submitted();
  CHECK(unmap(list({{100, 8}, {0, 0}, {200, 1}})).good());
  CHECK(h.media[0].submitted() == before + 2);
  CHECK(unmap(list({})).good());
  CHECK(unmap(list({{1, 1}, {2047, 2}})).sense == scsi::lba_out_of_range);
  CHECK(unmap(list({{1, 1}, {0, 0x20'0001}})).sense == scsi::invalid_field_in_parameter_list);
  CHECK(h.media[0].submitted() == before + 2);
  list({{1, 1}});
  CHECK(h.sense_of({0x42, 0, 0, 0, 0, 0, 0, 0, 7, 0}, 24) == scsi::parameter_list_length_error);
  CHECK(h.sense_of({0x42, 0, 0, 0, 0, 0, 0, 0, 23, 0}, 24) == scsi::parameter_list_length_error);
  CHECK(h.sense_of({0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0}, 24) == bad_cdb);  // ANCHOR
  CHECK(h.run({0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, 20).response == response::overrun);
  CHECK(h.run({0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0}).good());
  CHECK(h.sense_of({0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, 24, 0, 1) ==
        scsi::invalid_command_operation_code);
}

TEST_CASE(
    "virtio-scsi: WRITE SAME writes zeros or a pattern, over media with and without zeroing") {
  for (const bool zeroing : {true, false}) {
    host h;
    h.media[0].plan().refuses_zeroes = !zeroing;
    std::memset(h.payload(0), 0x77, 512);
    REQUIRE(h.run({0x41, 0, 0, 0, 0, 5, 0, 1, 45, 0}, 512).good());  // 301 blocks
    CHECK(h.disk()[5 * 512 - 1] == std::byte{5});
    for (std::size_t i = 5 * 512; i != 306 * 512; ++i) REQUIRE(h.disk()[i] == std::byte{0x77});
    CHECK(h.disk()[306 * 512] == std::byte{307 - 256});
    std::memset(h.payload(0), 0, 512);
    REQUIRE(h.run({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0}, 512).good());
    for (std::size_t i = 7 * 512; i != 10 * 512; ++i) REQUIRE(h.disk()[i] == std::byte{0});
    CHECK(h.disk()[10 * 512] == std::byte{0x77});
    // NDOB: no data at all.
    REQUIRE(h.run({0x93, 1, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0}).good());
    CHECK(h.disk()[13 * 512] == std::byte{0});
    REQUIRE(h.run({0x93, 9, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0}).good());
    CHECK(h.disk()[21 * 512] == std::byte{0});
    CHECK(h.sense_of({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0}, 512) == bad_cdb);
    CHECK(h.sense_of({0x93, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 0, 2, 0, 0}, 512) ==
          scsi::lba_out_of_range);
    CHECK(h.sense_of({0x41, 1, 0, 0, 0, 5, 0, 0, 1, 0}, 512) == bad_cdb);
    CHECK(h.sense_of({0x93, 0x10, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0}, 512) == bad_cdb);
    CHECK(h.run({0x93, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0}, 511).response ==
          response::overrun);
  }
}

TEST_CASE("virtio-scsi: unit attentions are reported once, in their order, and not to INQUIRY") {
  host h;
  h.units[0].raise(scsi::capacity_data_has_changed);
  h.units[0].raise(scsi::bus_device_reset);
  h.units[0].raise(scsi::bus_device_reset);
  CHECK(h.run({0x12, 0, 0, 0, 36, 0}, 0, 36).good());
  CHECK(h.sense_of({0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, 512) == scsi::bus_device_reset);
  const auto sense = h.run({0x03, 0, 0, 0, 18, 0}, 0, 18);
  REQUIRE(sense.good());
  CHECK(sense.data[2] == std::byte{6});
  CHECK(number(sense.data, 12, 2) == 0x2a09);
  CHECK(h.run({0x03, 0, 0, 0, 18, 0}, 0, 18).data[2] == std::byte{0});
  CHECK(h.run({0, 0, 0, 0, 0, 0}).good());
  CHECK(h.sense_of({0x03, 1, 0, 0, 18, 0}, 0, 18) == bad_cdb);
  h.target.reset();
  CHECK(h.sense_of({0, 0, 0, 0, 0, 0}) == scsi::power_on);
  const auto nowhere = h.run({0x03, 0, 0, 0, 18, 0}, 0, 18, 9);
  CHECK(number(nowhere.data, 12, 2) == 0x2500);
}

TEST_CASE("virtio-scsi: every opcode without a row is refused by name") {
  host h;
  unsigned refused = 0;
  for (unsigned op = 0; op != 256; ++op) {
    std::vector<std::uint8_t> cdb(16);
    cdb[0] = static_cast<std::uint8_t>(op);
    const auto a = h.run(cdb, 0, 4096, scsi::lun_of(0, 0));
    if (a.response != response::ok) {
      CHECK(a.response == response::overrun);
      continue;
    }
    if (a.sense == scsi::invalid_command_operation_code) ++refused;
  }
  CHECK(refused == 256 - 22);
}

TEST_CASE("virtio-scsi: ABORT TASK ends a command once, and is answered afterwards") {
  for (const bool firmly : {false, true}) {
    host h;
    h.media[0].plan().fixed = {.delay = block::media_fate::held, .ignores_cancel = firmly};
    const std::vector<std::uint8_t> read{0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0};
    for (std::uint32_t n = 0; n != 3; ++n) h.post(n, read, 0, 512, scsi::lun_of(0, 0), 100 + n);
    static_cast<void>(h.poll());
    h.manage(task_management::query_task, 0, 101);
    CHECK(h.managed() == response::function_succeeded);
    h.manage(task_management::query_task, 0, 999);
    CHECK(h.managed() == response::ok);
    h.manage(task_management::abort_task, 0, 101);
    if (firmly) {
      CHECK_FALSE(h.managed());
      static_cast<void>(h.poll());
      CHECK_FALSE(h.managed());
      h.media[0].release_all();
    } else {
      CHECK_FALSE(h.managed());
    }
    static_cast<void>(h.poll());
    CHECK(h.managed() == response::ok);
    const auto done = h.request_ring.collect();
    CHECK(done.size() == (firmly ? 3 : 1));
    for (const auto& [n, written] : done) {
      const auto a = h.answer(n, written);
      // An operation that had its effect reports its own result.
      CHECK(a.response == (n == 1 && !firmly ? response::aborted : response::ok));
    }
    h.media[0].release_all();
    static_cast<void>(h.poll());
  }
}

TEST_CASE("virtio-scsi: resets and set functions end the commands of their logical units only") {
  struct row {
    task_management what;
    response ends_with;
    bool both;
    bool attention;
  };
  for (const row& r : {row{task_management::abort_task_set, response::aborted, false, false},
                       row{task_management::clear_task_set, response::aborted, false, false},
                       row{task_management::logical_unit_reset, response::reset, false, true},
                       row{task_management::i_t_nexus_reset, response::reset, true, true}}) {
    host h;
    for (auto& m : h.media) m.plan().fixed = {.delay = block::media_fate::held};
    const std::vector<std::uint8_t> read{0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0};
    h.post(0, read, 0, 512, scsi::lun_of(0, 0), 1);
    h.post(1, read, 0, 4096, scsi::lun_of(0, 1), 1);
    static_cast<void>(h.poll());
    h.manage(task_management::query_task_set, 1);
    CHECK(h.managed() == response::function_succeeded);
    h.manage(r.what, 0);
    CHECK_FALSE(h.managed());
    static_cast<void>(h.poll());
    CHECK(h.managed() == response::ok);
    const auto done = h.request_ring.collect();
    REQUIRE(done.size() == (r.both ? 2 : 1));
    CHECK(h.answer(0, done[0].second).response == r.ends_with);
    for (auto& m : h.media) {
      m.plan().fixed = {};
      m.release_all();
    }
    static_cast<void>(h.poll());
    static_cast<void>(h.request_ring.collect());
    const auto after = h.run({0, 0, 0, 0, 0, 0});
    CHECK(after.sense == (r.attention ? scsi::bus_device_reset : scsi::no_sense));
    CHECK(h.run({0, 0, 0, 0, 0, 0}, 0, 0, 1).sense ==
          (r.both ? scsi::bus_device_reset : scsi::no_sense));
  }
}

TEST_CASE("virtio-scsi: requests on the control queue that are refused") {
  host h;
  h.manage(task_management::clear_aca, 0);
  CHECK(h.managed() == response::function_rejected);
  h.manage(static_cast<task_management>(8), 0);
  CHECK(h.managed() == response::function_rejected);
  for (const std::uint16_t lun : std::initializer_list<std::uint16_t>{2, 9}) {
    h.manage(task_management::abort_task, lun, 1);
    CHECK(h.managed() == response::incorrect_lun);
  }
  // An asynchronous notification is not supported: nothing is subscribed.
  scsi::notification_request n{};
  n.type = static_cast<std::uint32_t>(scsi::control_type::subscribe);
  n.lun = scsi::lun_of(0, 0);
  n.event_requested = 0x3f;
  std::memcpy(h.at(39), &n, sizeof n);
  std::memset(h.at(39) + 256, 0xee, 8);
  h.control_ring.offer({h.part(39, 0, sizeof n)}, {h.part(39, 256, 5)}, 39);
  static_cast<void>(h.control.poll(h.memory));
  CHECK(h.control_ring.collect().at(0).second == 5);
  CHECK(scsi::get_be({h.at(39) + 256, 5}, 0, 5) == 0);
  // Too short to contain its type.
  h.control_ring.offer({h.part(39, 0, 3)}, {h.part(39, 256, 5)}, 39);
  static_cast<void>(h.control.poll(h.memory));
  CHECK(h.at(39)[260] == static_cast<std::byte>(response::failure));
  static_cast<void>(h.control_ring.collect());
  // No place for an answer.
  h.control_ring.offer({h.part(39, 0, 24)}, {}, 39);
  static_cast<void>(h.control.poll(h.memory));
  CHECK(h.control.needs_reset());
}

TEST_CASE("virtio-scsi: events wait for buffers, and those that were missed are reported") {
  host h;
  h.events.report_unit(2, true);
  h.events.report_change(0, scsi::capacity_data_has_changed);
  static_cast<void>(h.events.poll(h.memory));
  CHECK(h.events.waiting() == 2);
  const auto next = [&] {
    h.event_ring.offer({}, {h.part(38, 0, 16)}, 38);
    static_cast<void>(h.events.poll(h.memory));
    const auto done = h.event_ring.collect();
    REQUIRE(done.size() == 1);
    CHECK(done[0].second == 16);
    return load_wire<scsi::event>(std::span<const std::byte>{h.at(38), 16});
  };
  auto e = next();
  CHECK(e.event == 1);
  CHECK(e.lun == scsi::lun_of(0, 2));
  CHECK(e.reason == 1);
  e = next();
  CHECK(e.event == 3);
  CHECK(e.reason == 0x092a);
  for (int i = 0; i != 20; ++i) h.events.report_unit(2, i % 2 == 0);
  e = next();
  CHECK(e.event == (scsi::events_missed | 1));
  for (int i = 0; i != 15; ++i) CHECK(next().event == 1);
  h.event_ring.offer({}, {h.part(38, 0, 15)}, 38);
  static_cast<void>(h.events.poll(h.memory));
  CHECK_FALSE(h.events.needs_reset());  // nothing is to be reported
  h.events.report_unit(1, false);
  static_cast<void>(h.events.poll(h.memory));
  CHECK(h.events.needs_reset());
}

TEST_CASE("virtio-scsi: buffers in any number of segments, and buffers without a place") {
  host h;
  const std::vector<std::uint8_t> read{0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0};
  h.write_header(0, read, scsi::lun_of(0, 0), 1);
  // 51 bytes of header in three segments; response and data in segments of 20 bytes.
  std::vector<driver::buffer_segment> out{h.part(0, 0, 1), h.part(0, 1, 30), h.part(0, 31, 20)};
  std::vector<driver::buffer_segment> in;
  for (std::size_t at = 0; at < 108 + 512; at += 20) {
    in.push_back(h.part(0, 256 + at, 20));
  }
  h.request_ring.offer(out, in, 0);
  for (int i = 0; i != 5; ++i) static_cast<void>(h.poll());
  REQUIRE(h.request_ring.collect().size() == 1);
  CHECK(h.at(0)[256 + 11] == std::byte{0});
  CHECK(h.at(0)[256 + 108] == std::byte{4});
  CHECK(h.at(0)[256 + 108 + 511] == std::byte{4});
  // Too few bytes of request are answered; too few of response cannot be.
  h.request_ring.offer({h.part(0, 0, 50)}, {h.part(0, 256, 108)}, 0);
  static_cast<void>(h.poll());
  CHECK(h.answer(0, 0).response == response::failure);
  static_cast<void>(h.request_ring.collect());
  h.request_ring.offer({h.part(0, 0, 51)}, {h.part(0, 256, 107)}, 0);
  static_cast<void>(h.poll());
  CHECK(h.requests.needs_reset());
  CHECK(h.request_ring.collect().at(0).second == 0);
}

TEST_CASE("virtio-scsi: a response that is cut into more segments than are kept ends the queue") {
  for (const std::size_t segments : {16U, 17U, 108U}) {
    host h;
    h.write_header(0, std::vector<std::uint8_t>(6), scsi::lun_of(0, 0), 1);
    std::vector<driver::buffer_segment> in;
    for (std::size_t i = 0; i + 1 != segments; ++i) in.push_back(h.part(0, 256 + i, 1));
    in.push_back(h.part(0, 256 + segments - 1, 108 - (segments - 1)));
    // A table of descriptors would be needed for more than the ring has.
    if (in.size() + 1 > 64) in.resize(63);
    h.request_ring.offer({h.part(0, 0, 51)}, in, 0);
    static_cast<void>(h.poll());
    CHECK(h.requests.needs_reset() == (segments > 16));
    CHECK(h.request_ring.collect().size() == 1);
  }
}

TEST_CASE("virtio-scsi: the driver's sizes of CDB and sense data hold") {
  host h;
  const auto size = [](std::uint32_t n) {
    const le<std::uint32_t> value{n};
    std::array<std::byte, 4> bytes;
    std::memcpy(bytes.data(), &value, 4);
    return bytes;
  };
  CHECK_FALSE(h.target.write_config(20, size(253)));
  CHECK_FALSE(h.target.write_config(24, size(15)));
  CHECK_FALSE(h.target.write_config(0, size(1)));
  REQUIRE(h.target.write_config(20, size(4)));
  REQUIRE(h.target.write_config(24, size(16)));
  CHECK(h.target.config().sense_size == 4);
  CHECK(h.target.config().cdb_size == 16);
  h.write_header(0, std::vector<std::uint8_t>{0x28, 0, 0, 0, 99, 0, 0, 0, 1, 0}, scsi::lun_of(0, 0),
                 1);
  h.request_ring.offer({h.part(0, 0, 19 + 16)}, {h.part(0, 256, 16), h.part(0, 1024, 512)}, 0);
  static_cast<void>(h.poll());
  CHECK(h.request_ring.collect().at(0).second == 16);
  scsi::command_response r;
  std::memcpy(&r, h.at(0) + 256, sizeof r);
  CHECK(r.sense_len == 4);
  CHECK(h.at(0)[256 + 14] == std::byte{5});
}

TEST_CASE("virtio-scsi: random commands over media that reorder and fail, against a copy") {
  std::mt19937_64 random{17};
  for (int round = 0; round != 6; ++round) {
    host h{round % 2 == 1};
    h.media[0].plan().random = block::random_media_plan{
        .state = random(), .longest = 5, .busy_one_in = 6, .at_once_one_in = 4};
    std::vector<std::byte> copy = h.disk();
    struct outstanding {
      bool busy = false;
      bool reading = false;
      std::uint64_t lba = 0;
      std::size_t bytes = 0;
    };
    std::array<outstanding, 12> all;
    unsigned ended = 0;
    while (ended < 1500) {
      const auto n = static_cast<std::uint32_t>(random() % all.size());
      outstanding& o = all[n];
      if (!o.busy) {
        const std::uint64_t blocks = random() % 40 + 1;
        o = {.busy = true,
             .reading = random() % 2 == 0,
             .lba = n * 160 + random() % 100,
             .bytes = blocks * 512};
        std::vector<std::uint8_t> cdb(16);
        std::span<std::byte> c{reinterpret_cast<std::byte*>(cdb.data()), cdb.size()};
        switch (random() % 4) {
          case 0:
            cdb[0] = o.reading ? 0x08 : 0x0a;
            scsi::put_be(c, 1, 3, o.lba);
            scsi::put_be(c, 4, 1, blocks);
            break;
          case 1:
            cdb[0] = o.reading ? 0x28 : 0x2a;
            scsi::put_be(c, 2, 4, o.lba);
            scsi::put_be(c, 7, 2, blocks);
            break;
          case 2:
            cdb[0] = o.reading ? 0xa8 : 0xaa;
            scsi::put_be(c, 2, 4, o.lba);
            scsi::put_be(c, 6, 4, blocks);
            break;
          default:
            cdb[0] = o.reading ? 0x88 : 0x8a;
            scsi::put_be(c, 2, 8, o.lba);
            scsi::put_be(c, 10, 4, blocks);
        }
        for (std::size_t i = 0; i != o.bytes; i += 8) {
          store_wire(std::span{h.payload(n) + i, 8}, le<std::uint64_t>{random()});
        }
        h.post(n, cdb, o.reading ? 0 : o.bytes, o.reading ? o.bytes : 0, scsi::lun_of(0, 0), n);
      }
      static_cast<void>(h.poll());
      for (const auto& [m, written] : h.request_ring.collect()) {
        outstanding& e = all[m];
        REQUIRE(e.busy);
        e.busy = false;
        ++ended;
        const auto a = h.answer(m, written);
        REQUIRE(a.good());
        REQUIRE(a.residual == 0);
        std::byte* const there = copy.data() + e.lba * 512;
        if (e.reading) {
          REQUIRE(std::memcmp(h.payload(m), there, e.bytes) == 0);
        } else {
          std::memcpy(there, h.payload(m), e.bytes);
        }
      }
    }
  }
}

TEST_CASE("virtio-scsi: random bytes as commands are answered, and touch their buffers alone") {
  std::mt19937_64 random{23};
  host h;
  constexpr std::array<std::uint8_t, 22> known{0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x25,
                                               0x28, 0x2a, 0x35, 0x41, 0x42, 0x5a, 0x88, 0x8a,
                                               0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa};
  for (int i = 0; i != 30'000; ++i) {
    std::vector<std::uint8_t> cdb(16);
    for (auto& b : cdb) b = random() % 3 == 0 ? 0 : static_cast<std::uint8_t>(random());
    if (random() % 8 != 0) cdb[0] = known[random() % known.size()];
    // Most addresses and counts are small, so that many commands get far.
    if (random() % 2 == 0) cdb[2] = cdb[3] = 0;
    const bool reading = random() % 2 == 0;
    const std::size_t bytes = random() % 3000;
    std::memset(h.payload(0) + bytes, 0xc3, 64);
    std::memset(h.payload(0) - 64, 0xc3, 64);
    const auto lun =
        random() % 10 == 0
            ? scsi::lun_bytes{static_cast<std::uint8_t>(random()),    0, 0x40, 0, 0, 0, 0,
                              static_cast<std::uint8_t>(random() % 2)}
            : scsi::lun_of(0, static_cast<std::uint16_t>(random() % 4));
    const auto a = h.run(cdb, reading ? 0 : bytes, reading ? bytes : 0, lun);
    for (std::size_t k = 0; k != 64; ++k) {
      REQUIRE(h.payload(0)[bytes + k] == std::byte{0xc3});
      REQUIRE((h.payload(0) - 64)[k] == std::byte{0xc3});
    }
    REQUIRE(a.residual <= bytes);
    REQUIRE(a.response <= response::failure);
    REQUIRE((a.status == scsi::status::good || a.sense != scsi::no_sense));
  }
}
