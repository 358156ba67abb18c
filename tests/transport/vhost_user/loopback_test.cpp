// SPDX-License-Identifier: BSL-1.0
// Our front end against our back end over a socket pair: reads, writes, both ring formats, several
// queues, stop and start, a changed memory table, a new connection with the in-flight record.
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>
#include <phasebit/transport/vhost_user/blk_device.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <transport/vhost_user/disk.hpp>

using namespace phasebit;
using namespace phasebit_test;
using virtio::blk::request_status;
using virtio::driver::add_status;

namespace {

using media_type = block::immediate_media<block::memory_media>;
using device_type = vhost::blk_device<media_type>;

// A back end in a thread, for one connection.
struct server {
  explicit server(std::uint16_t queues) : disk(1 << 20), blocks(disk) {
    for (std::uint16_t i = 0; i != queues; ++i) media.emplace_back(blocks);
    device = std::make_unique<device_type>(media, virtio::blk::device_options{.id = "loop"}, 64);
  }
  ~server() { join(); }
  int connect() {
    join();
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    thread = std::thread{[this, fd = ends[0]] {
      vhost::back_end<device_type> connection{*device, posix::unique_fd{fd}};
      device->set_log(&connection.log());
      while (connection.state() == vhost::connection_state::open) {
        if (connection.poll() == 0) std::this_thread::yield();
      }
      failed = connection.state() == vhost::connection_state::failed;
      connection.close_down();
      while (!connection.closed_down()) connection.poll();
      device->set_log(nullptr);
    }};
    return ends[1];
  }
  void join() {
    if (thread.joinable()) thread.join();
  }

  std::vector<std::byte> disk;
  block::memory_media blocks;
  std::vector<media_type> media;
  std::unique_ptr<device_type> device;
  std::thread thread;
  std::atomic<bool> failed{false};
};

constexpr std::uint64_t wanted = virtio::feature::version_1 | virtio::feature::event_idx |
                                 virtio::feature::indirect_desc | virtio::blk::feature::flush |
                                 virtio::blk::feature::discard | virtio::blk::feature::write_zeroes;

template <bool Packed>
void drive(std::uint64_t features) {
  server s{2};
  shared_memory memory{8 << 20};
  {
    vhost::front_end front{posix::unique_fd{s.connect()}};
    if (Packed) features |= virtio::feature::ring_packed;
    REQUIRE(front.negotiate(features, virtio::feature::version_1));
    CHECK(front.features() == features);
    CHECK(*front.queue_count() == 2);
    virtio::blk::config config{};
    REQUIRE(front.read_config(0, writable_wire_bytes(config)));
    CHECK(config.capacity == 2048);
    CHECK(config.num_queues == 2);
    REQUIRE(front.set_memory(shared_memory::base, memory.bytes(), memory.fd()));
    std::vector<std::unique_ptr<disk_queue<Packed>>> queues;
    for (std::uint16_t i = 0; i != 2; ++i) {
      queues.push_back(std::make_unique<disk_queue<Packed>>(memory, front.features()));
      queues[i]->start(front, i);
    }
    const dma_region data = memory.take(64 * 4096);
    for (std::size_t i = 0; i != data.size(); ++i) data.bytes[i] = std::byte(i * 13 + i / 512);
    const std::vector<std::byte> before(data.bytes.begin(), data.bytes.end());
    for (std::uint64_t i = 0; i != 64; ++i) {
      auto& q = *queues[i % 2];
      const virtio::driver::buffer_segment parts[] = {{data.bus + i * 4096, 1000},
                                                      {data.bus + i * 4096 + 1000, 3096}};
      REQUIRE(q.requests->write(i * 8, parts, i) == add_status::added);
    }
    for (auto& q : queues) {
      for (const auto& [token, status] : q->finish(32)) CHECK(status == request_status::ok);
    }
    REQUIRE(queues[0]->requests->flush(1) == add_status::added);
    CHECK(queues[0]->finish(1)[0].second == request_status::ok);
    CHECK(std::equal(before.begin(), before.end(), s.disk.begin()));

    std::fill(data.bytes.begin(), data.bytes.end(), std::byte{});
    // The other queue reads; in between, it is stopped and started where it stood.
    for (std::uint64_t i = 0; i != 64; ++i) {
      const virtio::driver::buffer_segment one[] = {{data.bus + i * 4096, 4096}};
      REQUIRE(queues[1]->requests->read(i * 8, one, i) == add_status::added);
      if (i == 20) {
        queues[1]->finish(21);
        const auto base = front.stop_queue(1);
        REQUIRE(base);
        CHECK(*front.stop_queue(1) == *base);  // again, with the same answer
        REQUIRE(front.set_memory(shared_memory::base, memory.bytes(), memory.fd()));
        queues[1]->start(front, 1, *base);
      }
    }
    queues[1]->finish(43);
    CHECK(std::equal(before.begin(), before.end(), data.bytes.begin()));
    REQUIRE(queues[0]->requests->write_zeroes(8, 8, true, 5) == add_status::added);
    REQUIRE(queues[0]->requests->discard(16, 8, 6) == add_status::added);
    REQUIRE(queues[0]->requests->get_id({data.bus, 20}, 7) == add_status::added);
    for (const auto& [token, status] : queues[0]->finish(3)) CHECK(status == request_status::ok);
    CHECK(s.disk[8 * 512] == std::byte{});
    CHECK(s.disk[7 * 512] == before[7 * 512]);
    CHECK(std::memcmp(data.data(), "loop\0", 5) == 0);
  }
  s.join();
  CHECK_FALSE(s.failed);
  CHECK_FALSE(s.device->needs_reset());
}

}  // namespace

TEST_CASE("vhost-user: a disk over split rings, written and read by our front end") {
  drive<false>(wanted);
  drive<false>(virtio::feature::version_1 | virtio::blk::feature::flush |
               virtio::blk::feature::discard | virtio::blk::feature::write_zeroes);
}
TEST_CASE("vhost-user: a disk over packed rings, written and read by our front end") {
  drive<true>(wanted);
  drive<true>(wanted | virtio::feature::in_order);
}
