// SPDX-License-Identifier: BSL-1.0
// An NVMe disk behind a vfio-user server, with both ends of its socket in this process.
#pragma once

#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/planned_media.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/transport/vfio_user/client.hpp>
#include <phasebit/transport/vfio_user/nvme_device.hpp>
#include <phasebit/transport/vfio_user/server.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/socket.h>

namespace phasebit_test {

namespace vfu = phasebit::transport::vfio_user;

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

inline std::pair<phasebit::posix::unique_fd, phasebit::posix::unique_fd> socket_pair() {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  return {phasebit::posix::unique_fd{ends[0]}, phasebit::posix::unique_fd{ends[1]}};
}

// Media that complete later, in a random order, or synchronous ones, as the plan selects.
struct served_disk {
  using media_type = phasebit::block::planned_media<phasebit::block::memory_media,
                                                    phasebit::block::random_media_plan>;
  using namespaces_type = phasebit::nvme::device::single_namespace<media_type>;
  using device_type = vfu::nvme_device<namespaces_type>;
  using server_type = vfu::server<device_type>;

  explicit served_disk(const vfu::nvme_options& options = {}, const vfu::server_options& how = {},
                       const phasebit::block::random_media_plan& plan = {.longest = 7},
                       phasebit::posix::unique_fd doorbells = {})
      : disk(8 << 20),
        blocks(disk),
        operations(128),
        media(blocks, operations, plan),
        spaces(media),
        commands(64),
        segments(64 * 40),
        buffers(16 << 16),
        bounce(buffers, 1 << 16),
        host(options.controller.interrupt_vectors) {
    auto made = device_type::create(host, spaces, options, {commands, segments, &bounce},
                                    std::move(doorbells));
    REQUIRE(made);
    device = std::move(*made);
    auto serving = server_type::create(host, *device, how);
    REQUIRE(serving);
    server = std::move(*serving);
  }

  std::vector<std::byte> disk;
  phasebit::block::memory_media blocks;
  std::vector<phasebit::block::planned_operation> operations;
  media_type media;
  namespaces_type spaces;
  std::vector<phasebit::nvme::device::pending_command> commands;
  std::vector<phasebit::block::media_segment> segments;
  std::vector<std::byte> buffers;
  phasebit::block::bounce_pool bounce;
  vfu::host host;
  std::unique_ptr<device_type> device;
  std::unique_ptr<server_type> server;
};

// Polls a served_disk on a thread of its own until it is destroyed.
struct server_thread {
  explicit server_thread(served_disk& served) : disk(&served) {
    thread = std::thread{[this] {
      while (!stop.load()) {
        if (disk->server->state() == vfu::server_state::waiting) {
          const int fd = next.exchange(-1);
          if (fd >= 0) disk->server->connect(phasebit::posix::unique_fd{fd});
        }
        if (disconnect.exchange(false)) disk->server->disconnect();
        waiting.store(disk->server->state() == vfu::server_state::waiting);
        if (disk->server->poll() == 0) std::this_thread::yield();
      }
      disk->server->disconnect();
      while (disk->server->state() != vfu::server_state::waiting) disk->server->poll();
    }};
  }
  ~server_thread() {
    stop.store(true);
    thread.join();
  }
  // The client's end of a new connection.
  phasebit::posix::unique_fd connect() {
    auto [mine, theirs] = socket_pair();
    next.store(theirs.release());
    return std::move(mine);
  }

  served_disk* disk;
  std::atomic<int> next{-1};
  std::atomic<bool> stop{false};
  std::atomic<bool> disconnect{false};
  std::atomic<bool> waiting{true};
  std::thread thread;
};

}  // namespace phasebit_test
