// SPDX-License-Identifier: BSL-1.0
#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/stream.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace phasebit;
using posix::unique_fd;

namespace {

struct two_ends {
  unique_fd a, b;
};

two_ends connected() {
  int fds[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {unique_fd{fds[0]}, unique_fd{fds[1]}};
}

}  // namespace

TEST_CASE("a message larger than any socket buffer arrives whole") {
  auto ends = connected();
  std::vector<std::byte> sent(3'000'000);
  for (std::size_t i = 0; i != sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 31 >> 3);
  std::thread writer{[&] { CHECK(posix::write_full(ends.a.get(), sent)); }};
  std::vector<std::byte> got(sent.size());
  CHECK(posix::read_full(ends.b.get(), got));
  writer.join();
  CHECK(got == sent);
}

TEST_CASE("a peer that closes in the middle is an error with the number of bytes read") {
  auto ends = connected();
  const std::array<std::byte, 5> five{};
  REQUIRE(posix::write_full(ends.a.get(), five));
  ends.a.reset();
  std::array<std::byte, 8> store{};
  const auto got = posix::read_full(ends.b.get(), store);
  REQUIRE_FALSE(got);
  CHECK(got.error().code == errc::removed);
  CHECK(got.error().value == 5);
  // No SIGPIPE, which would have ended this process.
  const auto put = posix::write_full(ends.b.get(), five);
  REQUIRE_FALSE(put);
  CHECK(put.error().value == EPIPE);
}

TEST_CASE("waiting for input ends when there is some, at the end of the stream, or in time") {
  auto ends = connected();
  CHECK_FALSE(*posix::wait_readable(ends.b.get(), 0));
  CHECK_FALSE(*posix::wait_readable(ends.b.get(), 5));
  REQUIRE(posix::write_full(ends.a.get(), std::array<std::byte, 1>{}));
  CHECK(*posix::wait_readable(ends.b.get(), 60'000));
  std::array<std::byte, 16> store{};
  CHECK(*posix::read_some(ends.b.get(), store) == 1);
  ends.a.reset();
  CHECK(*posix::wait_readable(ends.b.get(), 60'000));
  CHECK(*posix::read_some(ends.b.get(), store) == 0);
}

TEST_CASE("a wait without end ends when there is input, and poll(2) is given no negative time") {
  for (const std::uint64_t forever : {~std::uint64_t{0}, ~std::uint64_t{0} / 1'000'000 + 1}) {
    auto ends = connected();
    std::thread other{[&] {
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
      (void)posix::write_full(ends.a.get(), std::array<std::byte, 1>{});
    }};
    CHECK(*posix::wait_readable(ends.b.get(), forever));
    other.join();
  }
  CHECK(posix::poll_timeout(5, 5) == 0);
  CHECK(posix::poll_timeout(6, 5) == 0);
  CHECK(posix::poll_timeout(0, 1) == 1);
  CHECK(posix::poll_timeout(0, 3'000'000'000ULL * 1'000'000) == 0x7fff'ffff);
  CHECK(posix::poll_timeout(1, ~std::uint64_t{0}) == 0x7fff'ffff);
}

TEST_CASE("files are written as well as sockets, and a descriptor that is none is an error") {
  const unique_fd file{::memfd_create("phasebit", MFD_CLOEXEC)};
  const std::array<std::byte, 3> three{std::byte{1}, std::byte{2}, std::byte{3}};
  REQUIRE(posix::write_full(file.get(), three));
  REQUIRE(::lseek(file.get(), 0, SEEK_SET) == 0);
  std::array<std::byte, 3> back{};
  REQUIRE(posix::read_full(file.get(), back));
  CHECK(back == three);
  CHECK_FALSE(posix::write_full(-1, three));
  CHECK_FALSE(posix::read_full(-1, back));
}

TEST_CASE("a local socket is listened on, connected to and accepted from") {
  std::string folder = "/tmp/phasebit-XXXXXX";
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  const std::string path = folder + "/socket";
  {
    const auto listener = posix::listen_unix(path);
    REQUIRE(listener);
    const auto client = posix::connect_unix(path);
    REQUIRE(client);
    const auto server = posix::accept_unix(listener->get());
    REQUIRE(server);
    REQUIRE(posix::write_full(client->get(), std::array<std::byte, 1>{std::byte{9}}));
    std::array<std::byte, 1> got{};
    REQUIRE(posix::read_full(server->get(), got));
    CHECK(got[0] == std::byte{9});
    const auto twice = posix::listen_unix(path);
    REQUIRE_FALSE(twice);
    CHECK(twice.error().code == errc::busy);
    CHECK(twice.error().subject.view() == path);
  }
  const auto deaf = posix::connect_unix(path);  // the socket's file is still there
  REQUIRE_FALSE(deaf);
  CHECK(deaf.error().subject.view() == path);
  ::unlink(path.c_str());
  CHECK(posix::connect_unix(path).error().code == errc::not_found);
  ::rmdir(folder.c_str());
}

TEST_CASE("the path of a socket has its limit") {
  CHECK(posix::connect_unix("").error().code == errc::out_of_range);
  CHECK(posix::connect_unix("/tmp/" + std::string(103, 'x')).error().code == errc::out_of_range);
  CHECK(posix::connect_unix("/tmp/" + std::string(102, 'x')).error().code == errc::not_found);
}

TEST_CASE("the clock goes on, and a polling loop over it ends") {
  posix::steady_clock clock;
  const std::uint64_t before = clock.now();
  CHECK_FALSE(poll_until(clock, 2 * nanoseconds_per_ms, [] { return false; }));
  CHECK(clock.now() - before >= 2 * nanoseconds_per_ms);
}
