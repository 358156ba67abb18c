// SPDX-License-Identifier: BSL-1.0
// Shared by the vhost-user servers: images as media, and one front end after the other.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/hosted/file_media.hpp>
#include <phasebit/hosted/format.hpp>
#include <phasebit/hosted/uring_media.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <poll.h>
#include <support/stop_signal.hpp>
#include <sys/eventfd.h>
#include <unistd.h>

namespace example {

namespace vhost = phasebit::transport::vhost_user;

struct vhost_options {
  std::string socket;
  std::string io = "blocking";
  std::uint16_t queues = 1;
  std::uint32_t depth = 256;
  std::uint32_t block_size = 512;
  std::uint32_t spin = 2000;
  bool read_only = false;
  bool once = false;
  bool verbose = false;
};

inline void add_vhost_options(CLI::App& app, vhost_options& o) {
  app.add_option("--socket", o.socket, "path of the socket, which is created")->required();
  app.add_option("--io", o.io, "blocking: one request at a time; uring: all at once, by io_uring")
      ->check(CLI::IsMember({"blocking", "uring"}));
  app.add_option("--queues", o.queues, "request queues")->check(CLI::Range(1, 64));
  app.add_option("--depth", o.depth, "requests in flight for each queue")
      ->check(CLI::Range(1, 65534));
  app.add_option("--block-size", o.block_size, "logical block size: 512 to 4096");
  app.add_option("--spin", o.spin, "idle rounds before the thread sleeps; larger: lower latency");
  app.add_flag("--read-only", o.read_only, "refuse writes");
  app.add_flag("--once", o.once, "end when the front end leaves");
  app.add_flag("--verbose", o.verbose, "report connections");
}

inline int fail(const phasebit::error& why) {
  fmt::print(stderr, "{}\n", why);
  return 1;
}

// Sleeps until a kick or a message; at most 100 ms, for completions that no descriptor signals.
template <class Device>
void sleep_until_work(vhost::back_end<Device>& connection, int finished) {
  std::vector<::pollfd> wait{{connection.socket(), POLLIN, 0}};
  if (finished >= 0) wait.push_back({finished, POLLIN, 0});
  connection.for_each_kick([&](int fd) { wait.push_back({fd, POLLIN, 0}); });
  ::poll(wait.data(), wait.size(), 100);
  std::uint64_t count = 0;
  if (finished >= 0 && ::read(finished, &count, sizeof count) < 0) count = 0;  // none had finished
}

// `finished` is signalled when media have finished an operation; -1: they finish at once.
template <class Device>
void serve(vhost::back_end<Device>& connection, const vhost_options& o, int finished) {
  std::uint32_t idle = 0;
  while (!stop_requested() && connection.state() == vhost::connection_state::open) {
    if (connection.poll() != 0) {
      idle = 0;
      continue;
    }
    if (++idle < o.spin) continue;
    if (!connection.arm()) sleep_until_work(connection, finished);
    connection.disarm();
    idle = 0;
  }
  connection.close_down();
  while (!connection.closed_down()) connection.poll();
}

// Serves one front end after the other until a signal.
template <class Device>
int serve_socket(Device& device, const vhost_options& o, int finished, const std::string& what) {
  handle_stop_signals(second_signal::ignored);
  std::signal(SIGPIPE, SIG_IGN);
  ::unlink(o.socket.c_str());
  const auto listener = phasebit::posix::listen_unix(o.socket);
  if (!listener) return fail(listener.error());
  fmt::print("serving {} at {}\n", what, o.socket);
  std::fflush(stdout);
  do {
    const auto ready = phasebit::posix::wait_readable(listener->get(), 200);
    if (!ready || !*ready) continue;
    auto socket = phasebit::posix::accept_unix(listener->get());
    if (!socket) break;
    vhost::back_end<Device> connection{device, std::move(*socket)};
    device.set_log(&connection.log());
    serve(connection, o, finished);
    device.set_log(nullptr);
    if (connection.state() == vhost::connection_state::failed) {
      fmt::print(stderr, "connection: {}\n", connection.last_error());
    }
    if (device.needs_reset()) {
      for (std::uint16_t i = 0; i != device.queue_count(); ++i) {
        if (device.queue_fault(i)) {
          fmt::print(stderr, "queue {}: {}\n", i, device.queue_fault(i).to_error());
        }
      }
    }
    if (o.verbose) fmt::print("front end left\n");
    if (o.once) break;
  } while (!stop_requested());
  ::unlink(o.socket.c_str());
  return 0;
}

// Opens each image once for each queue, the images of the first queue first, and calls
// run(std::vector<Media>&, finished).
template <class Run>
int with_media(const std::vector<std::string>& images, const vhost_options& o, Run&& run) {
  using namespace phasebit;
  std::vector<hosted::file_media> files;
  for (std::uint16_t i = 0; i != o.queues; ++i) {
    for (const std::string& image : images) {
      auto file =
          hosted::file_media::open(image, {.block_size = o.block_size, .read_only = o.read_only});
      if (!file) return fail(file.error());
      files.push_back(std::move(*file));
    }
  }
  if (o.io != "uring") {
    std::vector<block::immediate_media<hosted::file_media>> media;
    for (auto& file : files) media.emplace_back(file);
    return run(media, -1);
  }
#if __has_include(<liburing.h>)
  // Requests of all queues are in flight at once, without threads.
  const posix::unique_fd finished{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::vector<hosted::uring_media> media;
  for (auto& file : files) {
    auto made = hosted::uring_media::make(
        std::move(file), {.capacity = std::min(o.depth, 1024U), .event_fd = finished.get()});
    if (!made) return fail(made.error());
    media.push_back(std::move(*made));
  }
  return run(media, finished.get());
#else
  return fail(failure(errc::not_supported, "--io uring: this program was built without liburing"));
#endif
}

}  // namespace example
