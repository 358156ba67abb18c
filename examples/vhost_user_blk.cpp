// SPDX-License-Identifier: BSL-1.0
// A disk for a virtual machine: serves an image over vhost-user.
//
//   vhost_user_blk --socket disk.sock --image disk.img --queues 2 --io uring
//
// and for the machine, with memory that is shared:
//
//   qemu-system-x86_64 -object memory-backend-memfd,id=m,size=1G,share=on -machine memory-backend=m
//     -chardev socket,id=c,path=disk.sock,reconnect=1 -device vhost-user-blk-pci,chardev=c,num-queues=2 ...
//
// One thread polls and sleeps when there is nothing to do. When the front end leaves, the next one
// is awaited; --once ends then.
#include <phasebit/block/async_media.hpp>
#include <phasebit/hosted/file_media.hpp>
#include <phasebit/hosted/format.hpp>
#include <phasebit/hosted/uring_media.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vhost_user/back_end.hpp>
#include <phasebit/transport/vhost_user/blk_device.hpp>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace {

using namespace phasebit;
namespace vhost = phasebit::transport::vhost_user;
template <class Media>
using device_of = vhost::blk_device<Media>;

volatile std::sig_atomic_t stop = 0;
void on_signal(int) { stop = 1; }

struct options {
  std::string socket;
  std::string image;
  std::string io = "blocking";
  std::uint16_t queues = 1;
  std::uint32_t depth = 256;
  std::uint32_t block_size = 512;
  std::uint32_t spin = 2000;
  bool read_only = false;
  bool once = false;
  bool verbose = false;
};

// Sleeps until a kick or a message; at most 100 ms, for completions that announce themselves to none.
template <class Media>
void sleep_until_work(vhost::back_end<device_of<Media>>& connection, int finished) {
  std::vector<::pollfd> wait{{connection.socket(), POLLIN, 0}};
  if (finished >= 0) wait.push_back({finished, POLLIN, 0});
  connection.for_each_kick([&](int fd) { wait.push_back({fd, POLLIN, 0}); });
  ::poll(wait.data(), wait.size(), 100);
  std::uint64_t count = 0;
  if (finished >= 0 && ::read(finished, &count, sizeof count) < 0) count = 0;  // none had finished
}

// `finished` is signalled when media have finished an operation; -1: they finish at once.
template <class Media>
void serve(vhost::back_end<device_of<Media>>& connection, const options& o, int finished) {
  std::uint32_t idle = 0;
  while (stop == 0 && connection.state() == vhost::connection_state::open) {
    if (connection.poll() != 0) {
      idle = 0;
      continue;
    }
    if (++idle < o.spin) continue;
    if (!connection.arm()) sleep_until_work<Media>(connection, finished);
    connection.disarm();
    idle = 0;
  }
  connection.close_down();
  while (!connection.closed_down()) connection.poll();
}

template <class Media>
int run(std::vector<Media>& media, const options& o, int finished) {
  using device_type = device_of<Media>;
  device_type device{media, {.id = "phasebit-vhost-user", .read_only = o.read_only}, o.depth};

  ::unlink(o.socket.c_str());
  const auto listener = posix::listen_unix(o.socket);
  if (!listener) {
    fmt::print(stderr, "{}\n", listener.error());
    return 1;
  }
  fmt::print("serving {} at {}\n", o.image, o.socket);
  std::fflush(stdout);
  do {
    const auto ready = posix::wait_readable(listener->get(), 200);
    if (!ready || !*ready) continue;
    auto socket = posix::accept_unix(listener->get());
    if (!socket) break;
    vhost::back_end<device_type> connection{device, std::move(*socket)};
    device.set_log(&connection.log());
    serve<Media>(connection, o, finished);
    device.set_log(nullptr);
    if (connection.state() == vhost::connection_state::failed) {
      fmt::print(stderr, "connection: {}\n", connection.last_error());
    }
    if (device.needs_reset()) {
      for (std::uint16_t i = 0; i != o.queues; ++i) {
        if (device.queue_fault(i)) {
          fmt::print(stderr, "queue {}: {}\n", i, device.queue_fault(i).to_error());
        }
      }
    }
    if (o.verbose) fmt::print("front end left\n");
    if (o.once) break;
  } while (stop == 0);
  ::unlink(o.socket.c_str());
  return 0;
}

int fail(const error& why) {
  fmt::print(stderr, "{}\n", why);
  return 1;
}

#if __has_include(<liburing.h>)
// Requests of all queues are in flight at once, without threads.
int run_uring(std::vector<hosted::file_media> files, const options& o) {
  const posix::unique_fd finished{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::vector<hosted::uring_media> media;
  for (auto& file : files) {
    auto made = hosted::uring_media::make(
        std::move(file), {.capacity = std::min(o.depth, 1024U), .event_fd = finished.get()});
    if (!made) return fail(made.error());
    media.push_back(std::move(*made));
  }
  return run(media, o, finished.get());
}
#else
int run_uring(std::vector<hosted::file_media>, const options&) {
  return fail(failure(errc::not_supported, "--io uring: this program was built without liburing"));
}
#endif

int run(const options& o) {
  std::vector<hosted::file_media> files;
  for (std::uint16_t i = 0; i != o.queues; ++i) {
    auto file =
        hosted::file_media::open(o.image, {.block_size = o.block_size, .read_only = o.read_only});
    if (!file) return fail(file.error());
    files.push_back(std::move(*file));
  }
  if (o.io == "uring") return run_uring(std::move(files), o);
  std::vector<block::immediate_media<hosted::file_media>> media;
  for (auto& file : files) media.emplace_back(file);
  return run(media, o, -1);
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Serves a disk image to a virtual machine over vhost-user."};
  app.add_option("--socket", o.socket, "path of the socket, which is created")->required();
  app.add_option("--image", o.image, "raw image or block device")->required();
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
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGINT, on_signal);
  std::signal(SIGPIPE, SIG_IGN);
  return run(o);
}
