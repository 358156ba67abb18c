// SPDX-License-Identifier: BSL-1.0
// Complete reads and writes where the kernel may transfer fewer bytes, and Unix sockets.
#pragma once

#include <phasebit/posix/steady_clock.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace phasebit::posix {

// The time-out of a poll(2) that ends at `end`, rounded up: at most 2^31 - 1 ms, and never "no limit".
[[nodiscard]] constexpr int poll_timeout(std::uint64_t now, std::uint64_t end) noexcept {
  const std::uint64_t left = now < end ? to_milliseconds(end - now) : 0;
  return left > 0x7fff'ffff ? 0x7fff'ffff : static_cast<int>(left);
}

// Waits at most `milliseconds` until `fd` can be read, or is at its end; false: nothing came. ~0 is no limit.
[[nodiscard]] inline result<bool> wait_readable(int fd, std::uint64_t milliseconds) noexcept {
  const std::uint64_t end = deadline_after(steady_clock::now(), to_nanoseconds(milliseconds));
  for (;;) {
    const int left = poll_timeout(steady_clock::now(), end);
    ::pollfd one{fd, POLLIN, 0};
    const int ready = ::poll(&one, 1, left);
    if (ready > 0) return true;
    if (ready == 0 && left != 0x7fff'ffff) return false;
    if (ready < 0 && errno != EINTR) return os_error("waiting for input failed");
  }
}

// At least one byte and at most out.size(), which is not 0. Zero bytes: the other side has closed.
[[nodiscard]] inline result<std::size_t> read_some(int fd, std::span<std::byte> out) noexcept {
  for (;;) {
    const ::ssize_t got = ::read(fd, out.data(), out.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return os_error("reading failed");
  }
}

// Reads exactly out.size() bytes. An end before that is errc::removed, with the number of bytes
// read in `value`. For blocking descriptors.
[[nodiscard]] inline result<> read_full(int fd, std::span<std::byte> out) noexcept {
  std::size_t done = 0;
  while (done != out.size()) {
    const auto got = read_some(fd, out.subspan(done));
    if (!got) return got.error();
    if (*got == 0) return failure(errc::removed, "the other side closed the connection", done);
    done += *got;
  }
  return {};
}

// All of `bytes`, or the error. A peer that closed a socket is an error (EPIPE), never a signal.
// For blocking descriptors.
[[nodiscard]] inline result<> write_full(int fd, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    ::ssize_t put = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (put < 0 && errno == ENOTSOCK) put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0) {
      if (errno == EINTR) continue;
      return os_error("writing failed");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

namespace detail {

// The address of a Unix socket; its path is shorter than on any other kind of file.
[[nodiscard]] inline result<::sockaddr_un> unix_address(std::string_view path) noexcept {
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return failure(errc::out_of_range, "the path of a socket has 1 to 107 characters", path.size())
        .of(path);
  }
  __builtin_memcpy(address.sun_path, path.data(), path.size());
  return address;
}

[[nodiscard]] inline result<unique_fd> unix_socket() noexcept {
  unique_fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!fd) return os_error("a socket cannot be made");
  return fd;
}

}  // namespace detail

// Connects to the stream socket at `path`.
[[nodiscard]] inline result<unique_fd> connect_unix(std::string_view path) noexcept {
  const auto address = detail::unix_address(path);
  if (!address) return address.error();
  auto fd = detail::unix_socket();
  if (!fd) return fd;
  while (::connect(fd->get(), reinterpret_cast<const ::sockaddr*>(&*address), sizeof *address) !=
         0) {
    if (errno != EINTR) return os_error("no process listens on the socket").of(path);
  }
  return fd;
}

// Listens at `path`, which must not exist yet.
[[nodiscard]] inline result<unique_fd> listen_unix(std::string_view path) noexcept {
  const auto address = detail::unix_address(path);
  if (!address) return address.error();
  auto fd = detail::unix_socket();
  if (!fd) return fd;
  if (::bind(fd->get(), reinterpret_cast<const ::sockaddr*>(&*address), sizeof *address) != 0 ||
      ::listen(fd->get(), 1) != 0) {
    return os_error("the socket cannot be listened on").of(path);
  }
  return fd;
}

[[nodiscard]] inline result<unique_fd> accept_unix(int listener) noexcept {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) return unique_fd{fd};
    if (errno != EINTR) return os_error("a connection cannot be accepted");
  }
}

}  // namespace phasebit::posix
