// SPDX-License-Identifier: BSL-1.0
// Our virtio driver side against QEMU's virtio-blk-pci, with no guest between: split and packed rings,
// with and without event index and indirect tables.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/virtio/blk/driver_queue.hpp>
#include <phasebit/virtio/driver/packed_queue.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>
#include <phasebit/virtio/pci/transport.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/skip.hpp>
#include <unistd.h>

namespace qtest = phasebit::backend::qtest;
using namespace phasebit_test;
using namespace phasebit;
using virtio::blk::request_status;
using virtio::driver::add_status;
namespace feature = phasebit::virtio::feature;

namespace {

struct image {
  std::string path = "/tmp/phasebit-virtio-" + std::to_string(::getpid()) + ".img";
  std::vector<char> bytes = std::vector<char>(4 << 20);
  image() {
    std::mt19937 random{5};
    for (char& c : bytes) c = static_cast<char>(random());
    std::ofstream{path, std::ios::binary}.write(bytes.data(),
                                                static_cast<std::streamsize>(bytes.size()));
  }
  image(const image&) = delete;
  image& operator=(const image&) = delete;
  ~image() { ::unlink(path.c_str()); }
};

template <class Ring>
void drive(bool packed, std::uint64_t wanted) {
  if (std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) {
    skip("qemu-system-x86_64 is not installed");
  }
  const image disk;
  auto machine = qtest::machine::start(
      {.drives = {{"d0", disk.path}},
       .devices = {"virtio-blk-pci,drive=d0,disable-legacy=on,packed=on,num-queues=2,queue-size=64,"
                   "serial=phasebit-serial"}});
  REQUIRE_MESSAGE(machine, machine.error().what);
  auto function = machine->open_device(0x1af4, 0x1042);
  REQUIRE_MESSAGE(function, function.error().what);
  auto device = virtio::pci::transport<qtest::function>::attach(*function, function->clock());
  REQUIRE_MESSAGE(device, device.error().what);
  const std::uint64_t needed = packed ? feature::ring_packed : 0;
  const auto features = device->negotiate(
      wanted | feature::ring_reset | virtio::blk::feature::flush | virtio::blk::feature::discard |
          virtio::blk::feature::write_zeroes | virtio::blk::feature::mq,
      needed);
  REQUIRE_MESSAGE(features, features.error().what);
  CHECK((*features & wanted) == wanted);
  CHECK(device->queue_count() == 2);
  CHECK(device->max_queue_size(2) == 0);
  virtio::blk::config config{};
  REQUIRE(device->read_config(0, writable_wire_bytes(config).template first<60>()));
  CHECK(config.capacity == disk.bytes.size() / 512);
  CHECK(config.num_queues == 2);
  std::array<std::byte, 4097> large{};
  CHECK_FALSE(device->read_config(0, large));

  const virtio::driver::queue_layout layout{64, packed,
                                            (*features & feature::indirect_desc) != 0 ? 8U : 0U};
  auto ring_memory = function->allocate(layout.bytes(), 4096);
  auto request_memory = function->allocate(64 * 64, 4096);
  auto data = function->allocate(1 << 20, 4096);
  REQUIRE(ring_memory);
  REQUIRE(request_memory);
  REQUIRE(data);
  std::vector<virtio::driver::buffer_slot<std::uint32_t>> slots(64);
  std::vector<virtio::blk::driver_slot<std::uint64_t>> request_slots(64);
  Ring ring;
  REQUIRE(ring.start({layout, *features, *ring_memory, slots}));
  virtio::blk::driver_queue<Ring> queue{ring, *request_memory, request_slots};
  auto bell = device->enable_queue(0, {.size = 64,
                                       .descriptors = ring_memory->bus,
                                       .driver = ring_memory->bus + layout.driver_offset(),
                                       .device = ring_memory->bus + layout.device_offset()});
  REQUIRE_MESSAGE(bell, bell.error().what);
  CHECK_FALSE(device->enable_queue(7, {.size = 1}));
  CHECK_FALSE(device->enable_queue(1, {.size = 2048}));
  device->start();
  CHECK_FALSE(device->needs_reset());

  const auto finish = [&](std::size_t count) {
    if (queue.publish()) bell->ring(ring.notification_data());
    std::vector<std::pair<std::uint64_t, request_status>> done;
    const std::uint64_t end = function->clock().now() + 20'000 * nanoseconds_per_ms;
    while (done.size() != count && function->clock().now() < end) {
      queue.poll([&](std::uint64_t token, request_status status) noexcept {
        done.emplace_back(token, status);
      });
    }
    REQUIRE(done.size() == count);
    for (const auto& [token, status] : done) CHECK(status == request_status::ok);
  };

  // The image, 20 requests of three segments at a time.
  std::uint64_t sector = 0;
  for (int round = 0; round != 12; ++round) {
    const std::uint64_t begin = sector;
    for (std::uint64_t i = 0; i != 12; ++i, sector += 16) {
      const bus_addr at = data->bus + i * 8192;
      const virtio::driver::buffer_segment parts[] = {
          {at, 1000}, {at + 1000, 3000}, {at + 4000, 4192}};
      REQUIRE(queue.read(sector, parts, i) == add_status::added);
    }
    finish(12);
    CHECK(std::memcmp(data->data(), disk.bytes.data() + begin * 512, 12 * 8192) == 0);
  }
  // Written, flushed, read back in another place.
  for (std::size_t i = 0; i != 8192; ++i) data->bytes[i] = std::byte(i * 11);
  const virtio::driver::buffer_segment out[] = {{data->bus, 100}, {data->bus + 100, 8092}};
  REQUIRE(queue.write(100, out, 1) == add_status::added);
  finish(1);
  REQUIRE(queue.flush(2) == add_status::added);
  finish(1);
  const virtio::driver::buffer_segment in[] = {{data->bus + 65'536, 8192}};
  REQUIRE(queue.read(100, in, 3) == add_status::added);
  finish(1);
  CHECK(std::memcmp(data->data(), data->data() + 65'536, 8192) == 0);
  if ((*features & virtio::blk::feature::write_zeroes) != 0) {
    REQUIRE(queue.write_zeroes(100, 1, false, 4) == add_status::added);
    finish(1);
    REQUIRE(queue.read(100, in, 5) == add_status::added);
    finish(1);
    CHECK(data->bytes[65'536] == std::byte{});
    CHECK(data->bytes[65'536 + 511] == std::byte{});
    CHECK(data->bytes[65'536 + 512] == data->bytes[512]);
  }
  REQUIRE(queue.get_id({data->bus, 20}, 6) == add_status::added);
  finish(1);
  CHECK(std::memcmp(data->data(), "phasebit-serial", 15) == 0);
  CHECK_FALSE(ring.last_fault());
  CHECK_FALSE(device->needs_reset());

  // The queue is reset alone and used again from its beginning.
  if ((*features & feature::ring_reset) != 0) {
    REQUIRE(device->reset_queue(0, function->clock()));
    std::memset(ring_memory->data(), 0, ring_memory->size());
    Ring again;
    REQUIRE(again.start({layout, *features, *ring_memory, slots}));
    virtio::blk::driver_queue<Ring> anew{again, *request_memory, request_slots};
    bell = device->enable_queue(0, {.size = 64,
                                    .descriptors = ring_memory->bus,
                                    .driver = ring_memory->bus + layout.driver_offset(),
                                    .device = ring_memory->bus + layout.device_offset()});
    REQUIRE(bell);
    REQUIRE(anew.read(0, in, 7) == add_status::added);
    if (anew.publish()) bell->ring(again.notification_data());
    std::uint32_t done = 0;
    const std::uint64_t end = function->clock().now() + 20'000 * nanoseconds_per_ms;
    while (done == 0 && function->clock().now() < end) {
      done = anew.poll([](std::uint64_t, request_status status) noexcept {
        CHECK(status == request_status::ok);
      });
    }
    CHECK(done == 1);
  }
  CHECK(device->reset(function->clock()));
}

using split = virtio::driver::split_queue<qtest::function::ring_order, std::uint32_t>;
using packed = virtio::driver::packed_queue<qtest::function::ring_order, std::uint32_t>;

}  // namespace

TEST_CASE("QEMU's virtio-blk over split rings") { drive<split>(false, 0); }
TEST_CASE("QEMU's virtio-blk over split rings with event index and indirect tables") {
  drive<split>(false, feature::event_idx | feature::indirect_desc);
}
TEST_CASE("QEMU's virtio-blk over packed rings") { drive<packed>(true, 0); }
TEST_CASE("QEMU's virtio-blk over packed rings with event index and indirect tables") {
  drive<packed>(true, feature::event_idx | feature::indirect_desc);
}
