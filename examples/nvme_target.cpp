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
// driver: --disk file:PATH, uring:PATH, mem:1G, vfio:0000:01:00.0, qtest:IMAGE. One thread polls. When the
// client leaves, the next one is awaited; --once ends then. With several --socket, each has as many of the
// disks, in their order.
//
// --managed makes the disk a pool of namespaces with Format, Namespace Management, Sanitize, Device Self-test,
// firmware slots and reservations; --metadata and --pi give them metadata and protection information, kept in
// IMAGE.metadata; --zone-size makes the last one zoned.
//
// SIGTERM and SIGINT end it when the disks are flushed. With --hand-over, SIGHUP starts the program anew from its file, with
// the same arguments, and hands connections, the clients' memory and the controllers over to it; the clients
// notice a pause. When the new process cannot take over, this one goes on.
#include <phasebit/hosted/format.hpp>
#include <phasebit/hosted/reactor.hpp>
#include <phasebit/posix/steady_clock.hpp>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <spawn.h>
#include <support/stop_signal.hpp>
#include <support/target_server.hpp>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using namespace phasebit;
namespace vfu = phasebit::transport::vfio_user;
using example::target_options;
using example::target_server;
using servers_type = std::vector<std::unique_ptr<target_server>>;

volatile std::sig_atomic_t hand_over_wanted = 0;

int fail(const error& why) {
  fmt::print(stderr, "nvme_target: {}\n", why);
  return 1;
}

void print(const std::string& name, const example::target_statistics& s,
           const hosted::reactor_counters& r) {
  fmt::print(
      "{}connections {} messages {} refused {} work {} interrupts {} message-dma {} busy {} sleeps "
      "{}\n",
      name, s.messages.connections, s.messages.messages, s.messages.refused, s.work, s.interrupts,
      s.message_bytes, r.busy_turns, r.sleeps);
  std::fflush(stdout);
}

result<std::unique_ptr<target_server>> make_server(std::size_t index, const target_options& o,
                                                   hosted::reactor& reactor,
                                                   vfu::message_channel* from) {
  vfu::message record;
  if (from != nullptr) {
    if (const auto got = vfu::receive_record(*from, vfu::record_kind::program, record); !got) {
      return got.error();
    }
  }
  const std::size_t each = o.disks.size() / o.sockets.size();
  if (from != nullptr && record.fds.size() != each + 1) {
    return failure(errc::protocol, "the other process serves another number of disks",
                   record.fds.size());
  }
  std::vector<std::unique_ptr<example::target_disk>> disks;
  for (std::size_t i = 0; i != each; ++i) {
    const std::string& where = o.disks[index * each + i];
    example::target_disk_options how{.block_size = o.block_size, .read_only = o.read_only};
    if (from != nullptr) how.taken = std::move(record.fds[i + 1]);
    auto disk = example::target_disk::open(where, std::move(how));
    if (!disk) return disk.error();
    if ((*disk)->block_count() < o.namespaces) {
      return failure(errc::out_of_range, "has fewer blocks than namespaces").of(where);
    }
    if (o.managed && (*disk)->own_fd() < 0) {
      return failure(errc::not_supported, "--managed is for files and memory").of(where);
    }
    if (o.zone_bytes != 0 && !(*disk)->in_memory()) {
      return failure(errc::not_supported,
                     "--zone-size is for memory: zones are empty at each start")
          .of(where);
    }
    disks.push_back(std::move(*disk));
  }
  posix::unique_fd listener;
  if (from != nullptr) listener = std::move(record.fds[0]);
  const auto wake = [&reactor] { reactor.wake(); };
  return o.managed ? example::target_server_of<example::managed_namespaces>::make(
                         o.sockets[index], std::move(disks), o, wake, std::move(listener), from)
                   : example::target_server_of<example::plain_namespaces>::make(
                         o.sockets[index], std::move(disks), o, wake, std::move(listener), from);
}

// ---- hand-over -------------------------------------------------------------------------------------

// Starts the program's file with the same arguments and a socket.
result<::pid_t> start_next(const std::vector<std::string>& arguments, int socket) {
  constexpr int where = 3;
  ::posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, socket, where);
  std::vector<std::string> all = arguments;
  all.push_back("--take-over");
  all.push_back(std::to_string(where));
  std::vector<char*> argv;
  for (std::string& one : all) argv.push_back(one.data());
  argv.push_back(nullptr);
  ::pid_t pid = 0;
  const bool is_path = all[0].find('/') != std::string::npos;
  const int failed = ::posix_spawn(&pid, is_path ? all[0].c_str() : "/proc/self/exe", &actions,
                                   nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return posix::os_error("the next process cannot be started", failed);
  return pid;
}

// Both processes agree in two steps: the next one is ready, this one lets go.
result<> hand_over(servers_type& servers, hosted::reactor& reactor, vfu::message_channel& to) {
  const std::uint64_t end = posix::steady_clock::now() + 10'000 * nanoseconds_per_ms;
  for (auto& one : servers) {
    static_cast<void>(reactor.call([&]() noexcept { one->begin_hand_over(); }));
  }
  reactor.wake();
  for (bool all = false; !all;) {
    all = true;
    static_cast<void>(reactor.call([&]() noexcept {
      for (auto& one : servers) all = one->ready_to_hand_over() && all;
    }));
    if (posix::steady_clock::now() > end) {
      return failure(errc::timed_out, "commands in flight do not end");
    }
    if (!all) std::this_thread::sleep_for(std::chrono::microseconds{200});
  }
  result<> sent{};
  static_cast<void>(reactor.call([&]() noexcept {
    for (auto& one : servers) {
      if (sent) sent = one->hand_over(to);
    }
  }));
  if (!sent) return sent;
  vfu::message ready;
  if (const auto got = vfu::receive_record(to, vfu::record_kind::program, ready); !got) return got;
  return vfu::send_record(to, vfu::record_kind::program, {});
}

// True: another process serves now.
bool try_hand_over(servers_type& servers, hosted::reactor& reactor, const target_options& o,
                   const std::vector<std::string>& arguments) {
  const auto refuse = [](const error& why) {
    fmt::print(stderr, "nvme_target: not handed over: {}\n", why);
    return false;
  };
  if (!o.hand_over) {
    return refuse(failure(errc::not_supported, "the program was started without --hand-over"));
  }
  if (o.managed) {
    return refuse(failure(errc::not_supported, "managed namespaces cannot be handed over"));
  }
  for (const std::string& disk : o.disks) {
    if (!disk.starts_with("file:") && !disk.starts_with("uring:") && !disk.starts_with("mem:")) {
      return refuse(
          failure(errc::not_supported, "a disk that this process drives cannot be handed over")
              .of(disk));
    }
  }
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return refuse(posix::os_error("no socket for the hand-over"));
  }
  vfu::message_channel to{posix::unique_fd{ends[0]}};
  posix::unique_fd theirs{ends[1]};
  const std::uint64_t begun = posix::steady_clock::now();
  const auto pid = start_next(arguments, theirs.get());
  theirs.reset();
  if (!pid) return refuse(pid.error());
  const auto done = hand_over(servers, reactor, to);
  if (done) {
    fmt::print("handed over to {} in {} ms\n", *pid,
               (posix::steady_clock::now() - begun) / nanoseconds_per_ms);
    std::fflush(stdout);
    return true;
  }
  to.close();
  static_cast<void>(::kill(*pid, SIGKILL));
  static_cast<void>(::waitpid(*pid, nullptr, 0));
  static_cast<void>(reactor.call([&]() noexcept {
    for (auto& one : servers) one->abandon_hand_over();
  }));
  reactor.wake();
  return refuse(done.error());
}

// ---- the program -----------------------------------------------------------------------------------

int run(const target_options& o, const std::vector<std::string>& arguments) {
  auto reactor = hosted::reactor::start(
      {.idle_turns = 64, .longest_sleep_ms = o.trap_doorbells ? 100 : o.sleep_ms});
  if (!reactor) return fail(reactor.error());
  std::optional<vfu::message_channel> from;
  if (o.take_over >= 0) from.emplace(posix::unique_fd{o.take_over});
  servers_type servers;
  const auto give_up = [&](const error& why) {
    if (!from) {
      for (std::size_t i = 0; i != servers.size(); ++i) ::unlink(o.sockets[i].c_str());
    }
    return fail(why);
  };
  for (std::size_t i = 0; i != o.sockets.size(); ++i) {
    auto made = make_server(i, o, **reactor, from ? &*from : nullptr);
    if (!made) return give_up(made.error());
    servers.push_back(std::move(*made));
  }
  if (from) {
    vfu::message go;
    if (const auto sent = vfu::send_record(*from, vfu::record_kind::program, {}); !sent) {
      return fail(sent.error());
    }
    if (const auto got = vfu::receive_record(*from, vfu::record_kind::program, go); !got) {
      return fail(got.error());
    }
  }
  for (std::size_t i = 0; i != servers.size(); ++i) {
    if (const auto added = (*reactor)->add(*servers[i]); !added) return give_up(added.error());
    fmt::print("{} {} namespaces at {}\n", from ? "took over" : "serving",
               servers[i]->namespace_count(), o.sockets[i]);
  }
  std::fflush(stdout);

  const auto label = [&](std::size_t i) {
    return servers.size() == 1 ? std::string{} : o.sockets[i] + ": ";
  };
  const auto snapshot = [&](std::size_t i) {
    example::target_statistics s;
    static_cast<void>((*reactor)->call([&]() noexcept { s = servers[i]->counters(); }));
    return s;
  };
  std::uint64_t next = posix::steady_clock::now();
  while (!example::stop_requested()) {
    std::this_thread::sleep_for(std::chrono::milliseconds{hand_over_wanted != 0 ? 0 : 20});
    if (hand_over_wanted != 0) {
      hand_over_wanted = 0;
      if (try_hand_over(servers, **reactor, o, arguments)) {
        for (auto& one : servers) (*reactor)->remove(*one);
        return 0;
      }
    }
    if (o.statistics_s != 0 && posix::steady_clock::now() >= next) {
      next += std::uint64_t{o.statistics_s} * 1'000'000'000;
      for (std::size_t i = 0; i != servers.size(); ++i) {
        print(label(i), snapshot(i), (*reactor)->counters());
      }
    }
    bool left = true;
    static_cast<void>((*reactor)->call([&]() noexcept {
      for (auto& one : servers) left = one->client_left() && left;
    }));
    if (o.once && left) break;
  }
  // The devices let go of the clients' memory first, and what they have written is made stable.
  bool closed = false;
  static_cast<void>((*reactor)->call([&]() noexcept {
    for (auto& one : servers) one->close();
  }));
  for (int i = 0; !closed && i != 200; ++i) {
    static_cast<void>((*reactor)->call([&]() noexcept {
      closed = true;
      for (auto& one : servers) closed = one->closed() && closed;
    }));
    if (!closed) std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }
  for (std::size_t i = 0; i != servers.size(); ++i) {
    const auto last = snapshot(i);
    error why{};
    static_cast<void>((*reactor)->call([&]() noexcept { why = servers[i]->last_error(); }));
    (*reactor)->remove(*servers[i]);
    if (!servers[i]->flush()) fmt::print(stderr, "nvme_target: a disk could not be flushed\n");
    ::unlink(o.sockets[i].c_str());
    if (o.verbose) {
      print(label(i), last, (*reactor)->counters());
      if (why.what[0] != '\0') fmt::print("last refused: {}\n", why);
    }
  }
  return closed ? 0 : fail(failure(errc::timed_out, "the disk did not finish its operations"));
}

}  // namespace

int main(int argc, char** argv) {
  target_options o;
  CLI::App app{"Serves an NVMe disk to a virtual machine over vfio-user."};
  app.add_option("--socket", o.sockets,
                 "path of the socket, which is created; several: one VM each")
      ->required();
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
  app.add_flag("--managed", o.managed,
               "namespaces that the host creates, formats, reserves and sanitizes");
  app.add_option("--metadata", o.metadata, "bytes of metadata of each block; implies --managed")
      ->check(CLI::IsMember({0, 8, 16, 64}));
  app.add_option("--pi", o.pi, "type of protection information; needs --metadata")
      ->check(CLI::Range(0, 3));
  app.add_option("--zone-size", o.zone_bytes,
                 "bytes of a zone, a power of two: the last namespace is zoned; implies --managed")
      ->transform(CLI::AsSizeValue(false));
  app.add_flag(
      "--hand-over", o.hand_over,
      "SIGHUP hands over to a new process; not yet for Linux guests, whose memory it damages");
  app.add_option("--take-over", o.take_over, "a socket to a process that hands over")->group("");
  app.add_flag("--trap-doorbells", o.trap_doorbells,
               "doorbells are messages, not shared memory: slower, and no polling while idle");
  app.add_flag("--read-only", o.read_only, "refuse writes");
  app.add_flag("--once", o.once, "end when the client leaves");
  app.add_flag("--verbose", o.verbose, "print counters at the end");
  CLI11_PARSE(app, argc, argv);
  if (o.pi != 0 && o.metadata == 0) {
    return fail(failure(errc::invalid_argument, "--pi needs --metadata of 8 bytes or more"));
  }
  if (o.disks.size() % o.sockets.size() != 0) {
    return fail(failure(errc::invalid_argument,
                        "each socket has the same number of disks; there are", o.disks.size()));
  }
  if (o.zone_bytes != 0 &&
      (!std::has_single_bit(o.zone_bytes) || o.zone_bytes < o.block_size || o.metadata != 0)) {
    return fail(failure(errc::invalid_argument,
                        "zones are powers of two in bytes, and have no metadata", o.zone_bytes));
  }
  o.managed = o.managed || o.metadata != 0 || o.zone_bytes != 0;
  std::vector<std::string> arguments;
  for (int i = 0; i != argc; ++i) {
    if (std::string_view{argv[i]} == "--take-over") {
      ++i;
      continue;
    }
    arguments.emplace_back(argv[i]);
  }
  example::handle_stop_signals(example::second_signal::ignored);
  std::signal(SIGHUP, [](int) { hand_over_wanted = 1; });
  std::signal(SIGPIPE, SIG_IGN);
  return run(o, arguments);
}
