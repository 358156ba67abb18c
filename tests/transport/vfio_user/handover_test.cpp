// SPDX-License-Identifier: BSL-1.0
// A served controller moves from one server to the next under a client that writes and verifies, and the
// client notices nothing.
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <transport/vfio_user/served_disk.hpp>

using namespace phasebit;
using namespace phasebit_test;

namespace {

// Everything of `from`, which is idle afterwards, in a new one.
result<std::unique_ptr<served_disk>> move_to_next(served_disk& from,
                                                  const vfu::nvme_options& options) {
  while (!from.server->can_hand_over()) from.server->poll();
  from.device->pause();
  while (!from.device->can_hand_over()) from.device->poll();
  auto [mine, theirs] = socket_pair();
  vfu::message_channel out{std::move(mine)};
  vfu::message_channel in{std::move(theirs)};
  if (const auto sent = from.device->hand_over(out); !sent) return sent.error();
  if (const auto sent = from.server->hand_over(out); !sent) return sent.error();

  vfu::message state;
  auto doorbells = served_disk::device_type::receive(in, state);
  if (!doorbells) return doorbells.error();
  auto next =
      std::make_unique<served_disk>(options, vfu::server_options{},
                                    block::random_media_plan{.longest = 7}, std::move(*doorbells));
  std::memcpy(next->disk.data(), from.disk.data(), from.disk.size());
  if (const auto got = next->server->take_over(in); !got) return got.error();
  if (const auto got = next->device->take_over(state); !got) return got.error();
  return next;
}

// Polls a served disk and replaces it by the next one every few hundred rounds.
struct moving_server {
  explicit moving_server(const vfu::nvme_options& o)
      : options(o), current(std::make_unique<served_disk>(o)) {
    auto [mine, theirs] = socket_pair();
    client = std::move(mine);
    current->server->connect(std::move(theirs));
    thread = std::thread{[this] {
      std::mt19937 random{5};
      unsigned until = 2000;
      while (!stop.load()) {
        if (current->server->poll() == 0) std::this_thread::yield();
        if (--until != 0) continue;
        until = 1 + static_cast<unsigned>(random() % 600);
        auto next = move_to_next(*current, options);
        if (!next) {
          failed.store(true);
          return;
        }
        current = std::move(*next);
        moves.fetch_add(1);
      }
    }};
  }
  ~moving_server() {
    stop.store(true);
    thread.join();
  }

  vfu::nvme_options options;
  std::unique_ptr<served_disk> current;
  posix::unique_fd client;
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  std::atomic<unsigned> moves{0};
  std::thread thread;
};

void write_and_verify(const vfu::nvme_options& options, const vfu::client_options& how) {
  const std::size_t descriptors = open_descriptors();
  {
    moving_server served{options};
    auto function = vfu::client::connect(std::move(served.client), how);
    REQUIRE_MESSAGE(function, function.error().what);
    auto controller = nvme::attach(*function);
    REQUIRE_MESSAGE(controller, controller.error().what);
    auto disk = nvme::open_disk(*controller);
    REQUIRE_MESSAGE(disk, disk.error().what);
    std::mt19937 random{1};
    std::vector<std::byte> copy(std::size_t{4} << 20);
    std::vector<std::byte> data;
    for (int i = 0; i != 100'000 && served.moves.load() < 120 && !served.failed.load(); ++i) {
      const std::size_t blocks = 1 + random() % 200;
      const std::size_t lba = random() % (copy.size() / 512 - blocks);
      data.resize(blocks * 512);
      if (random() % 2 == 0) {
        for (std::byte& b : data) b = static_cast<std::byte>(random());
        std::memcpy(copy.data() + lba * 512, data.data(), data.size());
        REQUIRE(disk->write(lba, data));
      } else {
        REQUIRE(disk->read(lba, data));
        REQUIRE(std::memcmp(copy.data() + lba * 512, data.data(), data.size()) == 0);
      }
    }
    CHECK(!served.failed.load());
    CHECK(served.moves.load() >= 100);
    data.resize(copy.size());
    REQUIRE(disk->read(0, data));
    CHECK(data == copy);
  }
  CHECK(open_descriptors() == descriptors);
}

}  // namespace

TEST_CASE("vfio-user: 100 hand-overs under a verifying writer") { write_and_verify({}, {}); }
TEST_CASE("vfio-user: 100 hand-overs with doorbells as messages") {
  write_and_verify({.map_doorbells = false}, {});
}
TEST_CASE("vfio-user: 100 hand-overs with DMA by messages, on one socket and on two") {
  write_and_verify({}, {.share_memory = false});
  write_and_verify({}, {.share_memory = false, .twin_socket = true});
}

TEST_CASE("vfio-user: hand-overs of deep queues complete every command once") {
  for (const bool shadowed : {false, true}) {
    CAPTURE(shadowed);
    moving_server served{{}};
    auto function = vfu::client::connect(std::move(served.client));
    REQUIRE(function);
    auto controller = nvme::attach(*function);
    REQUIRE(controller);
    const auto drive = [&](auto& queue) {
      constexpr std::size_t most = 30;
      auto memory = allocate(*function, most * 8192);
      REQUIRE(memory);
      std::mt19937 random{3};
      while (served.moves.load() < 110 && !served.failed.load()) {
        unsigned begun = 0;
        unsigned ended = 0;
        const std::size_t count = 1 + random() % most;
        for (std::size_t i = 0; i != count; ++i) {
          const auto done = [&ended](nvme::completion c) noexcept {
            CHECK(c.status().ok());
            ++ended;
          };
          const nvme::block_range range{.lba = random() % 8000,
                                        .blocks = 1 + static_cast<std::uint32_t>(random() % 16)};
          const auto data = (*memory)->subregion(i * 8192, std::size_t{range.blocks} * 512);
          const auto sent =
              random() % 2 == 0 ? queue->read(range, data, done) : queue->write(range, data, done);
          if (sent) ++begun;
          if (random() % 4 == 0) queue->ring();
        }
        queue->ring();
        while (begun != ended) REQUIRE(nvme::wait(*queue, 20'000));
        REQUIRE(queue->unexpected_completions() == 0);
      }
    };
    if (shadowed) {
      REQUIRE(controller->enable_shadow_doorbells());
      auto queue = controller->create_shadowed_queue_pair({.depth = 32});
      REQUIRE(queue);
      drive(queue);
    } else {
      auto queue = controller->create_queue_pair({.depth = 32});
      REQUIRE(queue);
      drive(queue);
    }
    CHECK(served.moves.load() >= 100);
  }
}

TEST_CASE("vfio-user: a hand-over that breaks off leaves the first server as it was") {
  served_disk first;
  server_thread thread{first};
  auto function = vfu::client::connect(thread.connect());
  REQUIRE(function);
  auto [mine, theirs] = socket_pair();
  theirs.reset();
  vfu::message_channel gone{std::move(mine)};
  served_disk other;
  CHECK(!other.server->hand_over(gone));
}

TEST_CASE("vfio-user: a hand-over of another layout is refused") {
  served_disk next;
  const auto offer = [&](vfu::record_kind kind, std::span<const std::byte> payload) {
    auto [mine, theirs] = socket_pair();
    vfu::message_channel out{std::move(mine)};
    vfu::message_channel in{std::move(theirs)};
    REQUIRE(vfu::send_record(out, kind, payload));
    out.close();
    return next.server->take_over(in);
  };
  const std::vector<std::byte> zeros(1 << 16);
  CHECK(offer(vfu::record_kind::server, {}).error().code == errc::not_supported);
  CHECK(offer(vfu::record_kind::server, zeros).error().code == errc::not_supported);
  CHECK(offer(vfu::record_kind::device, zeros).error().code == errc::protocol);
  auto [mine, theirs] = socket_pair();
  mine.reset();
  vfu::message_channel in{std::move(theirs)};
  CHECK(next.server->take_over(in).error().code == errc::removed);
  // Of a device: a state of another size, and one of zeros, which no version has.
  vfu::message m;
  m.payload.resize(3);
  CHECK(next.device->take_over(m).error().code == errc::not_supported);
  m.payload.assign(sizeof(nvme::device::saved_controller<nvme::device::default_policy>),
                   std::byte{0});
  CHECK(next.device->take_over(m).error().code == errc::not_supported);
}
