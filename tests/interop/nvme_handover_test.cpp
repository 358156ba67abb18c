// SPDX-License-Identifier: BSL-1.0
// A driver's process is killed and replaced while commands are in flight at QEMU's controller, which stays enabled. The
// next process gets the machine's memory and QEMU's socket as descriptors over a socket, and the driver's state as bytes.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/nvme/driver/handover.hpp>
#include <phasebit/nvme/driver/wait.hpp>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/area_content.hpp>
#include <support/skip.hpp>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace qtest = phasebit::backend::qtest;
using namespace phasebit_test;
using namespace phasebit;
using namespace phasebit::nvme::driver;

namespace {

constexpr unsigned areas = 24;
constexpr std::uint32_t area_blocks = 48;  // 24 KiB: with PRP lists
constexpr std::size_t area_bytes = area_blocks * 512;

// The state of the load, as it is passed on.
struct area_state {
  std::uint64_t bus;
  std::uint32_t version;  // of what is stored
  std::uint32_t attempt;  // of the write in flight
  std::uint8_t in_flight, writes, written, pad;
};
struct passed_on {
  std::array<area_state, areas> area;
  std::uint64_t commands, across;  // ended; ended in another process than they were submitted in
  std::uint32_t versions, generation, controller_bytes, queue_bytes;
  std::array<std::byte, 8192> controller;
  std::array<std::byte, 4096> queue;
};
static_assert(std::is_trivially_copyable_v<passed_on>);
static_assert(std::is_trivially_copyable_v<pcie::enumerated_function>);

// One message: bytes and up to two descriptors.
bool send_message(int to, const void* bytes, std::size_t size, std::span<const int> fds) {
  ::iovec part{const_cast<void*>(bytes), size};
  alignas(::cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))]{};
  ::msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  if (!fds.empty()) {
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(fds.size_bytes());
    ::cmsghdr* const c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  return ::sendmsg(to, &m, MSG_NOSIGNAL) == static_cast<::ssize_t>(size);
}
bool receive_message(int from, void* bytes, std::size_t size, std::span<int> fds) {
  ::iovec part{bytes, size};
  alignas(::cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))]{};
  ::msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  if (::recvmsg(from, &m, MSG_CMSG_CLOEXEC) != static_cast<::ssize_t>(size)) return false;
  const ::cmsghdr* const c = CMSG_FIRSTHDR(&m);
  if (fds.empty()) return true;
  if (c == nullptr || c->cmsg_len != CMSG_LEN(fds.size_bytes())) return false;
  std::memcpy(fds.data(), CMSG_DATA(c), fds.size_bytes());
  return true;
}

// In a child: a mistake ends the process with the line.
#define NEEDS(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      ::_exit(1);                                                                  \
    }                                                                              \
  } while (false)

using function_table = std::array<pcie::enumerated_function, 8>;
struct machine_message {
  function_table functions;
  std::size_t count;
};

// Starts QEMU, enumerates, passes the descriptors on, and ends QEMU when the test is over.
[[noreturn]] void keep_machine(int link, const std::string& image) {
  auto m = qtest::machine::start(
      {.drives = {{"d0", image}}, .devices = {"nvme,serial=handover,drive=d0,mdts=5"}});
  NEEDS(m);
  auto out = std::make_unique<machine_message>();
  out->count = m->functions().size();
  NEEDS(out->count <= out->functions.size());
  for (std::size_t i = 0; i != out->count; ++i) out->functions[i] = m->functions()[i];
  const std::array fds{m->socket_fd(), m->memory_fd()};
  NEEDS(send_message(link, out.get(), sizeof *out, fds));
  char end = 0;
  (void)::read(link, &end, 1);  // until the test closes its end
  m->stop();
  ::_exit(0);
}

// One driver's process: takes the state up, works, saves it with commands in flight, and waits to be killed. The
// last one waits for all commands and verifies all areas.
[[noreturn]] void drive(int link, bool last) {
  auto about = std::make_unique<machine_message>();
  auto state = std::make_unique<passed_on>();
  std::array<int, 2> fds{};
  NEEDS(receive_message(link, about.get(), sizeof *about, fds));
  NEEDS(receive_message(link, state.get(), sizeof *state, {}));
  // Nothing lies where it lay in the process before.
  std::mt19937 random{state->generation * 77 + 5};
  auto m = qtest::machine::join(posix::unique_fd{fds[0]}, posix::unique_fd{fds[1]},
                                std::span{about->functions}.first(about->count));
  NEEDS(m);
  auto function = m->open_class(0x010802);
  NEEDS(function);
  const bool first = state->generation == 0;
  auto host = first ? attach(*function, {.io_queues = 2})
                    : restore_controller(
                          *function, std::span{state->controller}.first(state->controller_bytes),
                          {.io_queues = 2});
  if (!host) std::fprintf(stderr, "%s\n", host.error().what);
  NEEDS(host);
  const auto kind = tokens<std::uint32_t, 32>;
  auto queue = first
                   ? host->create_queue_pair({.depth = 17}, kind)
                   : restore_queue(*host, std::span{state->queue}.first(state->queue_bytes), kind);
  if (!queue) std::fprintf(stderr, "%s\n", queue.error().what);
  NEEDS(queue);
  std::array<dma_region, areas> buffers;
  unsigned flying = 0;
  for (unsigned a = 0; a != areas; ++a) {
    const auto buffer = first ? function->allocate(area_bytes, 4096)
                              : function->adopt(bus_addr{state->area[a].bus}, area_bytes);
    NEEDS(buffer);
    buffers[a] = *buffer;
    state->area[a].bus = buffer->bus.value();
    flying += state->area[a].in_flight;
  }
  NEEDS(queue->in_flight() == flying);
  std::array<bool, areas> inherited{};
  for (unsigned a = 0; a != areas; ++a) inherited[a] = state->area[a].in_flight != 0;

  std::vector<std::byte> expected(area_bytes);
  const auto ended = [&](std::uint32_t& a, completion c) noexcept {
    NEEDS(a < areas);
    area_state& s = state->area[a];
    NEEDS(s.in_flight);
    NEEDS(c.ok());
    s.in_flight = 0;
    ++state->commands;
    if (inherited[a]) ++state->across;
    inherited[a] = false;
    if (s.writes) {
      s.version = s.attempt;
      s.written = 1;
    } else {
      phasebit_test::fill_area(expected, a, s.version);
      NEEDS(std::memcmp(expected.data(), buffers[a].data(), area_bytes) == 0);
    }
  };
  const auto post = [&](unsigned a, bool write) {
    area_state& s = state->area[a];
    const nvme::block_range range{.lba = std::uint64_t{a} * area_blocks, .blocks = area_blocks};
    if (queue->available() == 0) return;
    s.writes = write;
    if (write) {
      s.attempt = ++state->versions;
      phasebit_test::fill_area(buffers[a].bytes, a, s.attempt);
    } else {
      std::memset(buffers[a].data(), 0xee, area_bytes);
    }
    NEEDS(write ? queue->write(range, buffers[a], a) : queue->read(range, buffers[a], a));
    s.in_flight = 1;
  };
  const auto post_all = [&] {
    const unsigned from = static_cast<unsigned>(random() % areas);
    for (unsigned i = 0; i != areas; ++i) {
      const unsigned a = (from + i) % areas;
      if (!state->area[a].in_flight) post(a, !state->area[a].written || random() % 2 == 0);
    }
  };
  const std::uint64_t enough = state->commands + (last ? 0 : 40 + random() % 60);
  const auto turn = [&](bool submit) {
    if (submit) post_all();
    queue->ring();
    if (queue->in_flight() != 0) NEEDS(wait(*queue, 10'000, ended));
  };
  while (state->commands < enough) turn(true);
  if (last) {
    while (queue->in_flight() != 0) turn(false);
    for (unsigned a = 0; a != areas; ++a) {
      if (!state->area[a].written) post(a, true);
      while (queue->available() == 0 || state->area[a].in_flight) turn(false);
      NEEDS(state->area[a].written);
      while (queue->available() == 0) turn(false);
      post(a, false);
    }
    while (queue->in_flight() != 0) turn(false);
    NEEDS(host->check());
    NEEDS(queue->remove());
    for (const auto& b : buffers) function->release(b);
  } else {
    // As many as there may be, some of them posted this moment.
    post_all();
    const auto queue_bytes = save_queue(*host, *queue, state->queue);
    NEEDS(queue_bytes);
    const auto controller_bytes = save_controller(*host, state->controller);
    NEEDS(controller_bytes);
    state->queue_bytes = static_cast<std::uint32_t>(*queue_bytes);
    state->controller_bytes = static_cast<std::uint32_t>(*controller_bytes);
    NEEDS(m->socket_fd() >= 0);  // all register writes have been answered
  }
  ++state->generation;
  NEEDS(send_message(link, state.get(), sizeof *state, {}));
  if (!last) {
    for (;;) ::pause();
  }
  { auto done = std::move(*host); }
  ::_exit(0);
}

// A child with one end of a socket; it ends with this process.
struct child {
  ::pid_t pid = -1;
  posix::unique_fd link;

  template <class Body>
  explicit child(Body body) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const ::timeval limit{60, 0};
    (void)::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    pid = ::fork();
    if (pid == 0) {
      (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(ends[0]);
      body(ends[1]);
      ::_exit(2);
    }
    ::close(ends[1]);
    link.reset(ends[0]);
    REQUIRE(pid > 0);
  }
  ~child() {
    if (pid > 0) (void)finish(SIGKILL);
  }
  int finish(int signal) {
    if (signal != 0) ::kill(pid, signal);
    int status = 0;
    ::waitpid(std::exchange(pid, -1), &status, 0);
    return status;
  }
};

}  // namespace

TEST_CASE(
    "a driver's process is killed and replaced under load, and the controller stays enabled") {
  if (std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") != 0) {
    skip("qemu-system-x86_64 is not installed");
  }
  const char* const wanted = std::getenv("PHASEBIT_HANDOVERS");
  const unsigned handovers = wanted != nullptr ? static_cast<unsigned>(std::atoi(wanted)) : 100;
  const std::string image = "/tmp/phasebit-handover-" + std::to_string(::getpid()) + ".img";
  { std::ofstream{image, std::ios::binary} << std::string(4U << 20, '\0'); }
  struct remover {
    const std::string& path;
    ~remover() { ::unlink(path.c_str()); }
  } const removes{image};

  child keeper{[&](int link) { keep_machine(link, image); }};
  auto about = std::make_unique<machine_message>();
  std::array<int, 2> fds{};
  REQUIRE(receive_message(keeper.link.get(), about.get(), sizeof *about, fds));
  const posix::unique_fd socket{fds[0]};
  const posix::unique_fd memory{fds[1]};
  auto state = std::make_unique<passed_on>();
  std::memset(static_cast<void*>(state.get()), 0, sizeof *state);
  for (unsigned i = 0; i <= handovers; ++i) {
    CAPTURE(i);
    const bool last = i == handovers;
    child driver{[&](int link) { drive(link, last); }};
    REQUIRE(send_message(driver.link.get(), about.get(), sizeof *about, fds));
    REQUIRE(send_message(driver.link.get(), state.get(), sizeof *state, {}));
    REQUIRE(receive_message(driver.link.get(), state.get(), sizeof *state, {}));
    const int status = driver.finish(last ? 0 : SIGKILL);
    CHECK((last ? WIFEXITED(status) && WEXITSTATUS(status) == 0 : WIFSIGNALED(status)));
  }
  MESSAGE(handovers << " hand-overs, " << state->commands << " commands, of which " << state->across
                    << " ended in another process than they began in");
  CHECK(state->across >= handovers * 8);
  keeper.link.reset();
  const int status = keeper.finish(0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
}
