// SPDX-License-Identifier: BSL-1.0
// The device side of virtio-blk: every request type, what breaks the protocol, and media that answer
// at once, later, in another order, with errors, or not yet.
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/virtio/blk/request_queue.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <virtio/queue_pair.hpp>

using namespace phasebit;
using namespace phasebit_test;
namespace blk = phasebit::virtio::blk;
using blk::request_status;
using blk::request_type;

namespace {

constexpr std::uint64_t all_features = blk::feature::flush | blk::feature::discard |
                                       blk::feature::write_zeroes | blk::feature::config_wce;
constexpr std::uint8_t untouched = 0xee;

// A driver that builds requests as it likes, over a device side with `Media`.
template <class Media>
struct blk_pair {
  blk_pair(Media& media, std::uint64_t features, blk::device_options options = {},
           std::size_t slots = 16, bool packed = false)
      : table(slots),
        device(media, table, options),
        layout{64, packed, 0},
        ring(layout.bytes() / 64 + 1),
        front_slots(64),
        buffers(64),
        data(256 * 1024) {
    if (packed) features |= virtio::feature::ring_packed;
    std::span<std::byte> bytes{ring[0].bytes, ring.size() * 64};
    REQUIRE(memory.add(dma_region{data, bus_addr{data_base}}));
    const dma_region region{bytes, bus_addr{ring_base}};
    if (packed) {
      REQUIRE(packed_front.start({layout, features, region, front_slots}));
    } else {
      REQUIRE(front.start({layout, features, region, front_slots}));
    }
    is_packed = packed;
    setup = {.size = 64,
             .features = features,
             .areas = {bytes.data(), bytes.data() + layout.driver_offset(),
                       bytes.data() + layout.device_offset()},
             .buffers = buffers};
    REQUIRE(device.start(setup));
  }

  struct part {
    std::uint64_t offset;
    std::uint64_t bytes;
  };
  // Offers a buffer of these parts of the data area.
  void offer(std::initializer_list<part> out, std::initializer_list<part> in, std::uint32_t token) {
    std::vector<driver::buffer_segment> readable, writable;
    for (const part& p : out) readable.push_back({bus_addr{data_base + p.offset}, p.bytes});
    for (const part& p : in) writable.push_back({bus_addr{data_base + p.offset}, p.bytes});
    if (is_packed) {
      REQUIRE(packed_front.add(readable, writable, token) == driver::add_status::added);
      static_cast<void>(packed_front.publish());
    } else {
      REQUIRE(front.add(readable, writable, token) == driver::add_status::added);
      static_cast<void>(front.publish());
    }
  }
  // Header at 0, status at 100, data from 4096 on; all of request `n` are 8 KiB further.
  void header(std::uint32_t n, request_type type, std::uint64_t sector) {
    const blk::request_header h{
        .type = static_cast<std::uint32_t>(type), .reserved = 0, .sector = sector};
    std::memcpy(&data[at(n)], &h, sizeof h);
    data[at(n) + 100] = std::byte{untouched};
  }
  static std::size_t at(std::uint32_t n) { return std::size_t{8192} * n; }
  std::uint8_t status(std::uint32_t n) const {
    return static_cast<std::uint8_t>(data[at(n) + 100]);
  }
  std::span<std::byte> payload(std::uint32_t n, std::size_t bytes) {
    return std::span{data}.subspan(at(n) + 4096, bytes);
  }

  std::vector<std::pair<std::uint32_t, std::uint32_t>> collect() {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> done;
    const auto sink = [&](std::uint32_t token, std::uint32_t written) noexcept {
      done.emplace_back(token, written);
    };
    if (is_packed) {
      packed_front.poll(sink);
      CHECK_FALSE(packed_front.last_fault());
    } else {
      front.poll(sink);
      CHECK_FALSE(front.last_fault());
    }
    return done;
  }
  // One request whose media answers at once: its status and the bytes reported as written.
  std::pair<std::uint8_t, std::uint32_t> run(request_type type, std::uint64_t sector,
                                             std::uint64_t out, std::uint64_t in) {
    header(0, type, sector);
    if (out != 0) {
      offer({{0, 16}, {4096, out}}, {{100, 1}}, 0);
    } else if (in != 0) {
      offer({{0, 16}}, {{4096, in}, {100, 1}}, 0);
    } else {
      offer({{0, 16}}, {{100, 1}}, 0);
    }
    const auto did = device.poll(memory);
    CHECK(did.taken == 1);
    CHECK(did.completed == 1);
    const auto done = collect();
    REQUIRE(done.size() == 1);
    return {status(0), done[0].second};
  }
  std::uint8_t status_of(request_type type, std::uint64_t sector, std::uint64_t out,
                         std::uint64_t in) {
    return run(type, sector, out, in).first;
  }
  void ranges(std::initializer_list<blk::range_segment> list) {
    std::size_t offset = 4096;
    for (const auto& r : list) {
      std::memcpy(&data[offset], &r, sizeof r);
      offset += sizeof r;
    }
  }

  std::vector<blk::request_slot<>> table;
  blk::request_queue<Media, thread_order> device;
  driver::queue_layout layout;
  std::vector<queue_pair<split_format>::line> ring;
  std::vector<driver::buffer_slot<std::uint32_t>> front_slots;
  std::vector<device::buffer_state> buffers;
  std::vector<std::byte> data;
  local_dma<> memory;
  split_format::driver_queue front;
  packed_format::driver_queue packed_front;
  device::queue_setup setup;
  bool is_packed = false;
};

constexpr std::uint8_t ok = static_cast<std::uint8_t>(request_status::ok);
constexpr std::uint8_t ioerr = static_cast<std::uint8_t>(request_status::io_error);
constexpr std::uint8_t unsupp = static_cast<std::uint8_t>(request_status::unsupported);

// Records each access to a disk in memory.
struct recording_media {
  explicit recording_media(std::span<std::byte> bytes, std::uint32_t block = 512)
      : memory(bytes, block), media(memory) {}
  [[maybe_unused]] static constexpr bool always_done = true;
  std::uint32_t block_size() const noexcept { return media.block_size(); }
  std::uint64_t block_count() const noexcept { return media.block_count(); }
  block::media_answer submit(const block::media_request& r, block::media_tag tag) noexcept {
    seen.push_back(r);
    return media.submit(r, tag);
  }
  template <class Sink>
  std::size_t poll(Sink&&) noexcept {
    return 0;
  }
  void cancel(block::media_tag) noexcept {}
  bool drained() const noexcept { return true; }
  static bool reaches(memory_domain d) noexcept { return d == memory_domain::local; }

  block::memory_media memory;
  block::immediate_media<block::memory_media> media;
  std::vector<block::media_request> seen;
};

struct fixture {
  explicit fixture(std::uint64_t features = all_features, blk::device_options options = {},
                   std::uint32_t block = 512, bool packed = false)
      : media(disk, block), pair(media, features, options, 16, packed) {}
  std::vector<std::byte> disk = std::vector<std::byte>(1 << 20);
  recording_media media;
  blk_pair<recording_media> pair;
};

}  // namespace

TEST_CASE("virtio-blk: what is written is read back, in both ring formats") {
  for (const bool packed : {false, true}) {
    fixture f{all_features, {}, 512, packed};
    for (std::size_t i = 0; i != 2048; ++i) f.pair.payload(0, 2048)[i] = std::byte(i * 7);
    CHECK(f.pair.run(request_type::out, 5, 2048, 0) ==
          std::pair<std::uint8_t, std::uint32_t>{ok, 1});
    CHECK(std::equal(f.disk.begin() + 5 * 512, f.disk.begin() + 5 * 512 + 2048,
                     f.pair.payload(0, 2048).begin()));
    std::fill_n(f.pair.payload(0, 2048).begin(), 2048, std::byte{});
    CHECK(f.pair.run(request_type::in, 5, 0, 2048) ==
          std::pair<std::uint8_t, std::uint32_t>{ok, 2049});
    CHECK(f.pair.payload(0, 2048)[2047] == std::byte(2047 * 7 & 255));
    CHECK(f.media.seen.size() == 2);
    CHECK_FALSE(f.media.seen[0].fua);
  }
}

TEST_CASE("virtio-blk: header, data and status lie where the driver put them") {
  fixture f;
  // The header begins at an odd address and is in three segments; the status is the last byte of
  // the segment that holds the data.
  const blk::request_header h{.type = 0, .reserved = 0, .sector = 3};
  std::memcpy(&f.pair.data[1], &h, 5);
  std::memcpy(&f.pair.data[201], reinterpret_cast<const char*>(&h) + 5, 4);
  std::memcpy(&f.pair.data[301], reinterpret_cast<const char*>(&h) + 9, 7);
  f.disk[3 * 512] = std::byte{0x5a};
  f.disk[3 * 512 + 511] = std::byte{0xa5};
  f.pair.data[5000 + 512] = std::byte{untouched};
  f.pair.offer({{1, 5}, {201, 4}, {301, 7}}, {{4999, 100}, {5099, 413}}, 9);
  CHECK(f.pair.device.poll(f.pair.memory).completed == 1);
  CHECK(f.pair.collect() == std::vector<std::pair<std::uint32_t, std::uint32_t>>{{9, 513}});
  CHECK(f.pair.data[4999] == std::byte{0x5a});
  CHECK(f.pair.data[4999 + 511] == std::byte{0xa5});
  CHECK(f.pair.data[4999 + 512] == std::byte{ok});
  // Data behind the header in the same segment.
  const blk::request_header out{.type = 1, .reserved = 0, .sector = 7};
  std::memcpy(&f.pair.data[1000], &out, 16);
  f.pair.data[1016] = std::byte{0x77};
  f.pair.offer({{1000, 528}}, {{100, 1}}, 1);
  CHECK(f.pair.device.poll(f.pair.memory).completed == 1);
  CHECK(f.disk[7 * 512] == std::byte{0x77});
}

TEST_CASE("virtio-blk: lengths and places that are refused do not reach the media") {
  fixture f;
  const std::uint64_t sectors = f.disk.size() / 512;
  CHECK(f.pair.status_of(request_type::in, 0, 0, 0) == ioerr);
  CHECK(f.pair.status_of(request_type::out, 0, 0, 0) == ioerr);
  for (const std::uint64_t bytes : {1ULL, 511ULL, 513ULL, 1023ULL}) {
    CHECK(f.pair.status_of(request_type::in, 0, 0, bytes) == ioerr);
    CHECK(f.pair.status_of(request_type::out, 0, bytes, 0) == ioerr);
  }
  CHECK(f.pair.status_of(request_type::in, 0, 512, 0) == ioerr);  // data in the wrong direction
  CHECK(f.pair.status_of(request_type::out, 0, 0, 512) == ioerr);
  for (const std::uint64_t sector :
       {std::uint64_t{2048}, std::uint64_t{2047}, ~std::uint64_t{0}, ~std::uint64_t{1},
        std::uint64_t{1} << 55, std::uint64_t{1} << 63}) {
    CHECK(f.pair.status_of(request_type::in, sector, 0, 1024) == ioerr);
    CHECK(f.pair.status_of(request_type::out, sector, 1024, 0) == ioerr);
  }
  CHECK(f.pair.status_of(request_type::flush, 1, 0, 0) == ioerr);
  CHECK(f.pair.status_of(request_type::flush, 0, 512, 0) == ioerr);
  CHECK(f.pair.status_of(request_type::flush, 0, 0, 512) == ioerr);
  for (const unsigned type : {2U, 3U, 5U, 10U, 14U, 15U, 99U, 0x8000'0000U, 0xffff'ffffU}) {
    CHECK(f.pair.status_of(static_cast<request_type>(type), 0, 0, 0) == unsupp);
  }
  CHECK(f.media.seen.empty());
  CHECK_FALSE(f.pair.device.needs_reset());
  CHECK(f.pair.status_of(request_type::in, sectors - 2, 0, 1024) == ok);
}

TEST_CASE("virtio-blk: a short header is answered, a missing status stops the queue") {
  {
    fixture f;
    f.pair.header(0, request_type::in, 0);
    f.pair.offer({{0, 15}}, {{4096, 512}, {100, 1}}, 0);
    CHECK(f.pair.device.poll(f.pair.memory).completed == 1);
    CHECK(f.pair.status(0) == ioerr);
    f.pair.header(0, request_type::in, 0);
    f.pair.offer({}, {{100, 1}}, 1);  // a header that only the device writes
    CHECK(f.pair.device.poll(f.pair.memory).completed == 1);
    CHECK(f.pair.status(0) == ioerr);
    CHECK(f.media.seen.empty());
  }
  fixture f;
  f.pair.header(0, request_type::out, 0);
  f.pair.offer({{0, 16}, {4096, 512}, {100, 1}}, {}, 7);  // a status that the device may only read
  f.pair.header(1, request_type::flush, 0);
  f.pair.offer({{8192, 16}}, {{8192 + 100, 1}}, 8);
  static_cast<void>(f.pair.device.poll(f.pair.memory));
  CHECK(f.pair.device.needs_reset());
  CHECK(f.media.seen.empty());
  CHECK(f.pair.collect() == std::vector<std::pair<std::uint32_t, std::uint32_t>>{{7, 0}});
  CHECK(f.pair.device.poll(f.pair.memory).taken == 0);
  CHECK(f.pair.status(1) == untouched);
  CHECK(f.pair.device.quiescent());
}

TEST_CASE("virtio-blk: flush, identification and write-through") {
  {
    fixture f;
    CHECK(f.pair.status_of(request_type::flush, 0, 0, 0) == ok);
    CHECK(f.media.seen.back().operation == block::media_operation::flush);
  }
  {
    fixture f{0};  // FLUSH not negotiated: writes are stable when they complete
    CHECK(f.pair.status_of(request_type::flush, 0, 0, 0) == unsupp);
    CHECK(f.pair.status_of(request_type::out, 0, 512, 0) == ok);
    CHECK(f.media.seen.back().fua);
  }
  {
    fixture f;
    f.pair.device.set_writeback(false);
    CHECK(f.pair.status_of(request_type::out, 0, 512, 0) == ok);
    CHECK(f.media.seen.back().fua);
  }
  for (const std::string_view id :
       {"short", "exactly twenty bytes", "more than twenty bytes of id"}) {
    fixture f{all_features, {.id = id}};
    CHECK(f.pair.run(request_type::get_id, 0, 0, 20) ==
          std::pair<std::uint8_t, std::uint32_t>{ok, 21});
    std::array<char, 20> expected{};
    std::copy_n(id.begin(), std::min<std::size_t>(id.size(), 20), expected.begin());
    CHECK(std::memcmp(f.pair.payload(0, 20).data(), expected.data(), 20) == 0);
    CHECK(f.pair.status_of(request_type::get_id, 0, 0, 19) == ioerr);
    CHECK(f.pair.status_of(request_type::get_id, 0, 0, 512) == ioerr);
    CHECK(f.pair.status_of(request_type::get_id, 0, 20, 0) == ioerr);
    CHECK(f.media.seen.empty());
  }
}

TEST_CASE("virtio-blk: discard and write zeroes") {
  fixture f{all_features, {.max_range_sectors = 64}};
  std::fill(f.disk.begin(), f.disk.end(), std::byte{0x11});
  f.pair.ranges({{10, 4, 0}, {20, 0, 0}, {30, 2, 1}});
  CHECK(f.pair.status_of(request_type::write_zeroes, 0, 48, 0) == ok);
  CHECK(f.media.seen.size() == 2);  // the empty range reaches nothing
  CHECK(f.disk[10 * 512 - 1] == std::byte{0x11});
  CHECK(f.disk[10 * 512] == std::byte{});
  CHECK(f.disk[14 * 512 - 1] == std::byte{});
  CHECK(f.disk[14 * 512] == std::byte{0x11});
  CHECK(f.disk[31 * 512] == std::byte{});
  f.pair.ranges({{50, 1, 0}});
  CHECK(f.pair.status_of(request_type::discard, 0, 16, 0) == ok);
  CHECK(f.media.seen.back().operation == block::media_operation::discard);
  f.media.seen.clear();
  const std::uint64_t sectors = f.disk.size() / 512;
  const auto refused = [&](request_type type, std::initializer_list<blk::range_segment> list,
                           std::uint64_t bytes, std::uint8_t status) {
    f.pair.ranges(list);
    CHECK(f.pair.status_of(type, 0, bytes, 0) == status);
  };
  for (const auto type : {request_type::discard, request_type::write_zeroes}) {
    refused(type, {{0, 1, 0}}, 8, ioerr);
    refused(type, {{0, 1, 0}}, 17, ioerr);
    refused(type, {}, 17 * 16, ioerr);  // more than the 16 ranges that are reported
    refused(type, {{0, 65, 0}}, 16, ioerr);
    refused(type, {{sectors, 1, 0}}, 16, ioerr);
    refused(type, {{sectors - 1, 2, 0}}, 16, ioerr);
    refused(type, {{~0ULL, 2, 0}}, 16, ioerr);  // sector + count wraps
    refused(type, {{0, 1, 2}}, 16, unsupp);
    refused(type, {{0, 1, 0x8000'0000}}, 16, unsupp);
    refused(type, {{0, 1, 0}, {sectors, 1, 0}}, 32, ioerr);  // nothing of it is done
    CHECK(f.pair.status_of(type, 0, 0, 16) == ioerr);
    CHECK(f.pair.status_of(type, 0, 0, 0) == ioerr);
  }
  refused(request_type::discard, {{0, 1, 1}}, 16, unsupp);  // unmap belongs to write zeroes
  CHECK(f.media.seen.empty());

  fixture without{blk::feature::flush};
  without.pair.ranges({{0, 1, 0}});
  CHECK(without.pair.status_of(request_type::discard, 0, 16, 0) == unsupp);
  CHECK(without.pair.status_of(request_type::write_zeroes, 0, 16, 0) == unsupp);
  CHECK(without.pair.status_of(request_type::secure_erase, 0, 16, 0) == unsupp);
}

TEST_CASE("virtio-blk: a read-only disk and blocks of 4096 bytes") {
  fixture f{all_features | blk::feature::ro, {.read_only = true}};
  CHECK(f.pair.status_of(request_type::out, 0, 512, 0) == ioerr);
  f.pair.ranges({{0, 1, 0}});
  CHECK(f.pair.status_of(request_type::discard, 0, 16, 0) == ioerr);
  CHECK(f.pair.status_of(request_type::write_zeroes, 0, 16, 0) == ioerr);
  CHECK(f.media.seen.empty());
  CHECK(f.pair.status_of(request_type::in, 0, 0, 512) == ok);
  CHECK((blk::device_features(f.media, {.read_only = true}) & blk::feature::ro) != 0);
  CHECK((blk::device_features(f.media, {.read_only = true}) & blk::feature::discard) == 0);

  fixture large{all_features, {}, 4096};
  CHECK(large.pair.status_of(request_type::in, 0, 0, 512) == ioerr);
  CHECK(large.pair.status_of(request_type::in, 1, 0, 4096) == ioerr);
  CHECK(large.media.seen.empty());
  CHECK(large.pair.status_of(request_type::in, 8, 0, 4096) == ok);
  CHECK(large.media.seen.back().lba == 1);
  const auto c = blk::make_config(large.media, {.queues = 4});
  CHECK(c.capacity == 2048);
  CHECK(c.blk_size == 4096);
  CHECK(c.num_queues == 4);
  CHECK(c.discard_sector_alignment == 8);
  CHECK(c.geometry.cylinders == 0);
}

TEST_CASE("virtio-blk: thousands of requests are pending and complete in any order") {
  std::vector<std::byte> disk(1 << 20);
  for (std::size_t i = 0; i != disk.size(); ++i) disk[i] = std::byte(i / 512 * 31);
  block::memory_media memory{disk};
  constexpr std::uint32_t many = 4096;
  std::vector<block::planned_operation> operations(many);
  block::planned_media media{memory, std::span{operations},
                             block::random_media_plan{.state = 3, .longest = 50, .busy_one_in = 7}};
  using media_type = decltype(media);
  std::vector<blk::request_slot<4>> slots(many);
  blk::request_queue<media_type, thread_order, 4> device{media, slots, {}};

  driver::queue_layout layout{16'384, false, 0};
  std::vector<queue_pair<split_format>::line> ring(layout.bytes() / 64 + 1);
  std::vector<driver::buffer_slot<std::uint32_t>> front_slots(layout.size);
  std::vector<device::buffer_state> buffers(layout.size);
  std::vector<std::byte> data(std::size_t{1024} * many);
  std::span<std::byte> bytes{ring[0].bytes, ring.size() * 64};
  local_dma<> map;
  REQUIRE(map.add(dma_region{data, bus_addr{data_base}}));
  split_format::driver_queue front;
  REQUIRE(front.start({layout, 0, {bytes, bus_addr{ring_base}}, front_slots}));
  REQUIRE(device.start({.size = layout.size,
                        .areas = {bytes.data(), bytes.data() + layout.driver_offset(),
                                  bytes.data() + layout.device_offset()},
                        .buffers = buffers}));
  for (std::uint32_t i = 0; i != many; ++i) {
    const blk::request_header h{.type = 0, .reserved = 0, .sector = i % 2048};
    std::memcpy(&data[std::size_t{1024} * i], &h, sizeof h);
    data[std::size_t{1024} * i + 16] = std::byte{untouched};
    const bus_addr at{data_base + std::uint64_t{1024} * i};
    const driver::buffer_segment out[] = {{at, 16}};
    const driver::buffer_segment in[] = {{at + 512, 512}, {at + 16, 1}};
    REQUIRE(front.add(out, in, i) == driver::add_status::added);
  }
  static_cast<void>(front.publish());
  std::uint32_t most = 0;
  std::vector<bool> seen(many);
  std::uint32_t done = 0;
  for (int round = 0; round != 100'000 && done != many; ++round) {
    static_cast<void>(device.poll(map, 4096));
    most = std::max(most, device.in_flight());
    done += front.poll([&](std::uint32_t token, std::uint32_t written) noexcept {
      CHECK_FALSE(seen[token]);
      seen[token] = true;
      CHECK(written == 513);
    });
  }
  CHECK(done == many);
  CHECK_FALSE(front.last_fault());
  CHECK(most > 100);
  for (std::uint32_t i = 0; i != many; ++i) {
    REQUIRE(data[std::size_t{1024} * i + 16] == std::byte{ok});
    REQUIRE(data[std::size_t{1024} * i + 512] == std::byte(i % 2048 * 31));
  }
  CHECK(device.quiescent());
}

namespace {

// Media whose operations are held until the test lets them go.
struct held_disk {
  explicit held_disk(std::size_t slots = 16)
      : media(memory, std::span{operations},
              block::random_media_plan{.longest = 0, .hold_one_in = 1}),
        pair(media, all_features, {}, slots) {}
  std::vector<std::byte> disk = std::vector<std::byte>(1 << 20);
  block::memory_media memory{disk};
  std::array<block::planned_operation, 64> operations{};
  block::planned_media<block::memory_media, block::random_media_plan> media;
  blk_pair<block::planned_media<block::memory_media, block::random_media_plan>> pair;
};

}  // namespace

TEST_CASE("virtio-blk: more requests than slots wait in the ring") {
  held_disk d{2};
  for (std::uint32_t n = 0; n != 5; ++n) {
    d.pair.header(n, request_type::in, n);
    d.pair.offer({{d.pair.at(n), 16}}, {{d.pair.at(n) + 4096, 512}, {d.pair.at(n) + 100, 1}}, n);
  }
  CHECK(d.pair.device.poll(d.pair.memory).taken == 2);
  CHECK(d.pair.device.poll(d.pair.memory).taken == 0);
  CHECK(d.pair.device.in_flight() == 2);
  std::size_t done = 0;
  for (int i = 0; i != 20 && done != 5; ++i) {
    d.media.release_all();
    static_cast<void>(d.pair.device.poll(d.pair.memory));
    done += d.pair.collect().size();
  }
  CHECK(done == 5);
}

TEST_CASE("virtio-blk: a pause completes what was taken and takes nothing more") {
  held_disk d;
  for (std::uint32_t n = 0; n != 3; ++n) {
    d.pair.header(n, request_type::in, n);
    d.pair.offer({{d.pair.at(n), 16}}, {{d.pair.at(n) + 4096, 512}, {d.pair.at(n) + 100, 1}}, n);
    if (n == 1) CHECK(d.pair.device.poll(d.pair.memory).taken == 2);
  }
  d.pair.device.pause();
  CHECK(d.pair.device.poll(d.pair.memory).taken == 0);
  CHECK_FALSE(d.pair.device.quiescent());
  d.media.release_all();
  for (int i = 0; i != 5; ++i) static_cast<void>(d.pair.device.poll(d.pair.memory));
  CHECK(d.pair.device.quiescent());
  CHECK(d.pair.collect().size() == 2);
  CHECK(d.pair.status(2) == untouched);
  // The base is the next available index, and another object continues there.
  CHECK(d.pair.device.queue().base().value == 2);
  const auto base = d.pair.device.queue().base();
  d.pair.device.stop();
  REQUIRE(d.pair.device.start_at(d.pair.setup, base));
  CHECK(d.pair.device.poll(d.pair.memory).taken == 1);
  d.media.release_all();
  for (int i = 0; i != 5; ++i) static_cast<void>(d.pair.device.poll(d.pair.memory));
  CHECK(d.pair.collect().size() == 1);
  CHECK(d.pair.status(2) == ok);
}

TEST_CASE(
    "virtio-blk: a reset writes no status and returns no buffer, and ends when media has let go") {
  held_disk d;
  d.pair.header(0, request_type::in, 0);
  d.pair.offer({{0, 16}}, {{4096, 512}, {100, 1}}, 0);
  CHECK(d.pair.device.poll(d.pair.memory).taken == 1);
  d.pair.device.abandon();
  CHECK_FALSE(d.pair.device.quiescent());
  for (int i = 0; i != 5; ++i) {
    const auto did = d.pair.device.poll(d.pair.memory);
    CHECK(did.completed == 0);
    CHECK_FALSE(did.notify);
  }
  d.media.release_all();
  for (int i = 0; i != 5; ++i) static_cast<void>(d.pair.device.poll(d.pair.memory));
  CHECK(d.pair.device.quiescent());
  CHECK(d.pair.status(0) == untouched);
  CHECK(d.pair.collect().empty());
  d.pair.device.stop();
  CHECK_FALSE(d.pair.device.running());
}

TEST_CASE("virtio-blk: media errors become IOERR, and requests after them are served") {
  std::vector<std::byte> disk(1 << 20);
  block::memory_media memory{disk};
  std::array<block::planned_operation, 64> operations{};
  block::planned_media media{memory, std::span{operations},
                             block::random_media_plan{.fail_one_in = 2, .busy_one_in = 3}};
  blk_pair<decltype(media)> pair{media, all_features};
  std::uint32_t failed = 0;
  std::uint32_t good = 0;
  for (std::uint32_t i = 0; i != 400; ++i) {
    const std::uint32_t n = i % 16;
    pair.header(n, i % 3 == 0 ? request_type::write_zeroes : request_type::in, i % 3 == 0 ? 0 : i);
    if (i % 3 == 0) {
      const blk::range_segment r[] = {{1, 1, 0}, {3, 1, 0}, {5, 1, 0}};
      std::memcpy(&pair.data[pair.at(n) + 4096], r, sizeof r);
      pair.offer({{pair.at(n), 16}, {pair.at(n) + 4096, 48}}, {{pair.at(n) + 100, 1}}, n);
    } else {
      pair.offer({{pair.at(n), 16}}, {{pair.at(n) + 4096, 512}, {pair.at(n) + 100, 1}}, n);
    }
    std::size_t done = 0;
    for (int round = 0; round != 300 && done == 0; ++round) {
      static_cast<void>(pair.device.poll(pair.memory));
      done = pair.collect().size();
    }
    REQUIRE(done == 1);
    (pair.status(n) == ok ? good : failed) += 1;
    CHECK((pair.status(n) == ok || pair.status(n) == ioerr));
  }
  CHECK(failed > 50);
  CHECK(good > 50);
}
