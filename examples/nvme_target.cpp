// SPDX-License-Identifier: BSL-1.0
// An NVMe disk for a virtual machine: serves a controller over vfio-user.
//
//   nvme_target --socket disk.sock --disk file:disk.img
//
// and for the machine, with memory that is shared (QEMU 10.1 or later):
//
//   qemu-system-x86_64 -object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m
//     -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"disk.sock"}}' ...
//
// A disk is a file (threads of a pool read and write it, or io_uring), memory, or an NVMe disk of our own
// driver: --disk file:PATH, uring:PATH, mem:1G, vfio:0000:01:00.0, qtest:IMAGE. One thread polls. When the client leaves, the next one is
// awaited; --once ends then.
#include <phasebit/block/bounce_pool.hpp>
#include <phasebit/hosted/format.hpp>
#include <phasebit/hosted/reactor.hpp>
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/transport/vfio_user/nvme_device.hpp>
#include <phasebit/transport/vfio_user/server.hpp>

#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <poll.h>
#include <support/target_disk.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace phasebit;
namespace vfu = phasebit::transport::vfio_user;
using device_type = vfu::nvme_device<example::target_namespaces>;
using server_type = vfu::server<device_type>;

volatile std::sig_atomic_t stop = 0;
void on_signal(int) { stop = 1; }

struct options {
  std::string socket;
  std::vector<std::string> disks;
  std::uint32_t namespaces = 1;
  std::uint16_t queues = 8;
  std::uint32_t depth = 256;
  std::uint32_t block_size = 512;
  unsigned threads = 2;
  std::uint32_t spin_us = 200;
  std::uint32_t sleep_ms = 1;
  std::uint32_t statistics_s = 0;
  std::string serial = "PHASEBIT0001";
  std::string model = "phasebit nvme_target";
  bool trap_doorbells = false;
  bool read_only = false;
  bool once = false;
  bool verbose = false;
};

struct statistics {
  vfu::server_counters messages;
  std::uint64_t work = 0;
  std::uint64_t interrupts = 0;
  std::uint64_t message_bytes = 0;
};

// The server on the reactor's thread. After `spin_us` without work it sleeps: until a message
// arrives, and at most `sleep_ms` where doorbells are shared memory, because no descriptor becomes
// readable for them.
class target final : public hosted::poller {
 public:
  target(vfu::host& host, device_type& device, server_type& server,
         const example::target_namespaces& namespaces, posix::unique_fd listener, const options& o)
      : host_(&host),
        device_(&device),
        server_(&server),
        namespaces_(&namespaces),
        listener_(std::move(listener)),
        options_(&o) {}

  unsigned poll() noexcept override {
    if (server_->state() == vfu::server_state::waiting) {
      if (left_) gone_ = true;
      left_ = false;
      return closing_ ? 0 : accept();
    }
    left_ = true;
    const unsigned did = server_->poll();
    if (did != 0) idle_since_ = 0;
    return did;
  }
  [[nodiscard]] bool arm() noexcept override {
    if (server_->busy() || namespaces_->any_to_poll()) return false;
    const std::uint64_t now = posix::steady_clock::now();
    if (idle_since_ == 0) idle_since_ = now;
    return now - idle_since_ >= std::uint64_t{options_->spin_us} * 1000;
  }
  [[nodiscard]] int wake_fd() const noexcept override {
    return server_->state() == vfu::server_state::waiting ? listener_.get() : server_->socket();
  }

  // The other members are called by messages to the reactor.
  void close() noexcept {
    closing_ = true;
    server_->disconnect();
  }
  [[nodiscard]] bool closed() const noexcept {
    return server_->state() == vfu::server_state::waiting;
  }
  [[nodiscard]] bool client_left() const noexcept { return gone_; }
  [[nodiscard]] error last_error() const noexcept { return server_->last_error(); }
  [[nodiscard]] statistics counters() const noexcept {
    return {server_->counters(), device_->work_done(), host_->interrupts.delivered(),
            host_->dma.message_bytes()};
  }

 private:
  unsigned accept() noexcept {
    ::pollfd one{listener_.get(), POLLIN, 0};
    if (::poll(&one, 1, 0) <= 0) return server_->poll();
    auto client = posix::accept_unix(listener_.get());
    if (!client) return 0;
    server_->connect(std::move(*client));
    return 1;
  }

  vfu::host* host_;
  device_type* device_;
  server_type* server_;
  const example::target_namespaces* namespaces_;
  posix::unique_fd listener_;
  const options* options_;
  std::uint64_t idle_since_ = 0;
  bool closing_ = false;
  bool left_ = false;
  bool gone_ = false;
};

int fail(const error& why) {
  fmt::print(stderr, "nvme_target: {}\n", why);
  return 1;
}

result<posix::unique_fd> listen_at(const std::string& path) {
  struct ::stat about {};
  if (::lstat(path.c_str(), &about) == 0) {
    return failure(errc::already_exists,
                   posix::connect_unix(path)
                       ? "another process serves at this path"
                       : "the path exists already, and nothing listens there: remove it first")
        .of(path);
  }
  return posix::listen_unix(path);
}

void print(const statistics& s, const hosted::reactor_counters& r) {
  fmt::print(
      "connections {} messages {} refused {} work {} interrupts {} message-dma {} busy {} sleeps "
      "{}\n",
      s.messages.connections, s.messages.messages, s.messages.refused, s.work, s.interrupts,
      s.message_bytes, r.busy_turns, r.sleeps);
  std::fflush(stdout);
}

int run(const options& o) {
  std::vector<std::unique_ptr<example::target_disk>> disks;
  for (const std::string& where : o.disks) {
    auto disk =
        example::target_disk::open(where, {.block_size = o.block_size, .read_only = o.read_only});
    if (!disk) return fail(disk.error());
    if ((*disk)->block_count() < o.namespaces) {
      return fail(failure(errc::out_of_range, "has fewer blocks than namespaces").of(where));
    }
    disks.push_back(std::move(*disk));
  }
  auto reactor = hosted::reactor::start(
      {.idle_turns = 64, .longest_sleep_ms = o.trap_doorbells ? 100 : o.sleep_ms});
  if (!reactor) return fail(reactor.error());
  example::target_namespaces namespaces;
  for (auto& disk : disks) {
    const std::uint64_t each = disk->block_count() / o.namespaces;
    for (std::uint32_t i = 0; i != o.namespaces; ++i) {
      auto media = example::target_media::make(*disk, each * i, each, o.threads,
                                               [r = reactor->get()] { r->wake(); });
      if (!media) return fail(media.error());
      namespaces.add(std::move(*media));
    }
  }

  std::vector<nvme::device::pending_command> commands(o.depth);
  std::vector<block::media_segment> segments(std::size_t{o.depth} * 33);
  std::vector<std::byte> buffers(std::size_t{64} << 16);
  block::bounce_pool bounce{buffers, 1U << 16};
  nvme::device::settings settings{.serial = o.serial,
                                  .model = o.model,
                                  .io_queue_pairs = o.queues,
                                  .interrupt_vectors = static_cast<std::uint16_t>(o.queues + 1)};
  vfu::host host{settings.interrupt_vectors};
  auto device = device_type::create(host, namespaces,
                                    {.controller = settings, .map_doorbells = !o.trap_doorbells},
                                    {commands, segments, &bounce});
  if (!device) return fail(device.error());
  auto server = server_type::create(host, **device);
  if (!server) return fail(server.error());
  auto listener = listen_at(o.socket);
  if (!listener) return fail(listener.error());
  target served{host, **device, **server, namespaces, std::move(*listener), o};
  if (const auto added = (*reactor)->add(served); !added) return fail(added.error());
  fmt::print("serving {} namespaces at {}\n", namespaces.highest_nsid(), o.socket);
  std::fflush(stdout);

  const auto snapshot = [&] {
    statistics s;
    static_cast<void>((*reactor)->call([&]() noexcept { s = served.counters(); }));
    return s;
  };
  std::uint64_t next = posix::steady_clock::now();
  while (stop == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
    if (o.statistics_s != 0 && posix::steady_clock::now() >= next) {
      next += std::uint64_t{o.statistics_s} * 1'000'000'000;
      print(snapshot(), (*reactor)->counters());
    }
    bool left = false;
    static_cast<void>((*reactor)->call([&]() noexcept { left = served.client_left(); }));
    if (o.once && left) break;
  }
  // The device lets go of the client's memory first, and what it has written is made stable.
  bool closed = false;
  static_cast<void>((*reactor)->call([&]() noexcept { served.close(); }));
  for (int i = 0; !closed && i != 200; ++i) {
    static_cast<void>((*reactor)->call([&]() noexcept { closed = served.closed(); }));
    if (!closed) std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  const statistics last = snapshot();
  error why{};
  static_cast<void>((*reactor)->call([&]() noexcept { why = served.last_error(); }));
  (*reactor)->remove(served);
  for (auto& disk : disks) {
    if (disk->flush() != block::media_status::good) {
      fmt::print(stderr, "nvme_target: a disk could not be flushed\n");
    }
  }
  ::unlink(o.socket.c_str());
  if (o.verbose) {
    print(last, (*reactor)->counters());
    if (why.what[0] != '\0') fmt::print("last refused: {}\n", why);
  }
  return closed ? 0 : fail(failure(errc::timed_out, "the disk did not finish its operations"));
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{"Serves an NVMe disk to a virtual machine over vfio-user."};
  app.add_option("--socket", o.socket, "path of the socket, which is created")->required();
  app.add_option(
         "--disk", o.disks,
         "file:PATH, uring:PATH, mem:SIZE, vfio:BDF, mmio:BDF, qtest:IMAGE; several: one namespace "
         "after the other")
      ->required();
  app.add_option("--namespaces", o.namespaces, "divides each disk into so many namespaces")
      ->check(CLI::Range(1, 64));
  app.add_option("--queues", o.queues, "I/O queue pairs")->check(CLI::Range(1, 64));
  app.add_option("--depth", o.depth, "commands in flight, of all queues")
      ->check(CLI::Range(1, 65536));
  app.add_option("--block-size", o.block_size, "logical block size")
      ->check(CLI::IsMember({512, 1024, 2048, 4096}));
  app.add_option("--threads", o.threads, "threads of each namespace in a file; 0: none")
      ->check(CLI::Range(0, 64));
  app.add_option("--spin", o.spin_us, "microseconds without work before the server sleeps");
  app.add_option("--sleep", o.sleep_ms,
                 "longest sleep in milliseconds: the latency of a first request")
      ->check(CLI::Range(1, 1000));
  app.add_option("--statistics", o.statistics_s, "prints counters every so many seconds");
  app.add_option("--serial", o.serial, "serial number");
  app.add_option("--model", o.model, "model number");
  app.add_flag("--trap-doorbells", o.trap_doorbells,
               "doorbells are messages, not shared memory: slower, and no polling while idle");
  app.add_flag("--read-only", o.read_only, "refuse writes");
  app.add_flag("--once", o.once, "end when the client leaves");
  app.add_flag("--verbose", o.verbose, "print counters at the end");
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGINT, on_signal);
  std::signal(SIGPIPE, SIG_IGN);
  return run(o);
}
