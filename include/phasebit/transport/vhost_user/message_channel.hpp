// SPDX-License-Identifier: BSL-1.0
// A socket that carries vhost-user messages and the file descriptors that go with them.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vhost_user/messages.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <sys/socket.h>
#include <sys/uio.h>

namespace phasebit::transport::vhost_user {

// A message as it arrived. Descriptors that are not moved out are closed with it.
struct message {
  message_header header{};
  std::array<std::byte, max_payload> payload{};
  std::vector<posix::unique_fd> fds;

  [[nodiscard]] std::span<const std::byte> body() const noexcept {
    return std::span{payload}.first(header.size);
  }
  [[nodiscard]] bool needs_reply() const noexcept { return (header.flags & flag_need_reply) != 0; }
};

// The result of receive().
enum class receive_status : std::uint8_t { nothing, complete, closed };

// Receives without waiting, however the bytes are cut; sends whole messages. One thread at a time.
class message_channel {
 public:
  message_channel() noexcept = default;
  explicit message_channel(posix::unique_fd socket) noexcept : socket_(std::move(socket)) {}

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  void close() noexcept {
    socket_.reset();
    received_ = 0;
    incoming_.fds.clear();
  }

  // The next message, once it is complete. Errors: protocol (a version other than 1, reserved flags, a
  // payload above 4096 bytes, more descriptors than a message may have), io. The connection is of
  // no use after an error.
  [[nodiscard]] result<receive_status> receive(message& to) noexcept {
    for (;;) {
      constexpr std::size_t head = sizeof(message_header);
      if (received_ >= head) {
        if (const auto good = check_header(); !good) return good.error();
      }
      const std::size_t wanted = received_ < head ? head : head + incoming_.header.size;
      if (received_ == wanted) {
        to.header = incoming_.header;
        std::memcpy(to.payload.data(), incoming_.payload.data(), incoming_.header.size);
        to.fds = std::exchange(incoming_.fds, {});
        received_ = 0;
        return receive_status::complete;
      }
      std::byte* const at = received_ < head
                                ? reinterpret_cast<std::byte*>(&incoming_.header) + received_
                                : incoming_.payload.data() + (received_ - head);
      const auto got = receive_bytes({at, wanted - received_});
      if (!got) return got.error();
      if (*got < 0) return receive_status::nothing;
      if (*got == 0) return receive_status::closed;
      received_ += static_cast<std::size_t>(*got);
    }
  }

  // Sends header, payload and descriptors. A socket that takes no more is an error (busy): the other
  // side does not read what it requested.
  [[nodiscard]] result<> send(std::uint32_t number, std::uint32_t flags,
                              std::span<const std::byte> payload,
                              std::span<const int> fds = {}) noexcept {
    std::array<std::byte, sizeof(message_header) + max_payload> whole;
    if (payload.size() > max_payload || fds.size() > max_fds) {
      return failure(errc::out_of_range, "a message has at most 4096 bytes", payload.size());
    }
    const message_header h{number, flags | version, static_cast<std::uint32_t>(payload.size())};
    std::memcpy(whole.data(), &h, sizeof h);
    if (!payload.empty()) std::memcpy(whole.data() + sizeof h, payload.data(), payload.size());
    std::span<const std::byte> left{whole.data(), sizeof h + payload.size()};
    bool first = true;
    while (!left.empty()) {
      ::iovec vector{const_cast<std::byte*>(left.data()), left.size()};
      ::msghdr m{};
      m.msg_iov = &vector;
      m.msg_iovlen = 1;
      alignas(::cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * max_fds)> control{};
      if (first && !fds.empty()) {
        m.msg_control = control.data();
        m.msg_controllen = CMSG_SPACE(fds.size_bytes());
        ::cmsghdr* const c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
      }
      const ::ssize_t put = ::sendmsg(socket_.get(), &m, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
          return failure(errc::busy, "the other side does not read its vhost-user messages");
        }
        return posix::os_error("a vhost-user message cannot be sent");
      }
      first = false;
      left = left.subspan(static_cast<std::size_t>(put));
    }
    return {};
  }
  template <WireStruct T>
  [[nodiscard]] result<> send(std::uint32_t number, std::uint32_t flags, const T& payload,
                              std::span<const int> fds = {}) noexcept
    requires(!std::convertible_to<const T&, std::span<const std::byte>>)
  {
    return send(number, flags, std::span<const std::byte>{wire_bytes(payload)}, fds);
  }

 private:
  [[nodiscard]] result<> check_header() const noexcept {
    const message_header& h = incoming_.header;
    if ((h.flags & version_mask) != version) {
      return failure(errc::protocol, "a vhost-user message has a version other than 1",
                     h.flags & version_mask);
    }
    if ((h.flags & ~known_flags) != 0) {
      return failure(errc::protocol, "a vhost-user message has reserved flags set", h.flags);
    }
    if (h.size > max_payload) {
      return failure(errc::protocol, "a vhost-user message is longer than 4096 bytes", h.size);
    }
    return {};
  }
  // Bytes that came; 0 at the end, -1 when there are none now.
  [[nodiscard]] result<std::int64_t> receive_bytes(std::span<std::byte> to) noexcept {
    ::iovec vector{to.data(), to.size()};
    alignas(::cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * max_fds)> control;
    ::msghdr m{};
    m.msg_iov = &vector;
    m.msg_iovlen = 1;
    m.msg_control = control.data();
    m.msg_controllen = control.size();
    ::ssize_t got = 0;
    do {
      got = ::recvmsg(socket_.get(), &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return std::int64_t{-1};
      if (errno == ECONNRESET) return std::int64_t{0};
      return posix::os_error("a vhost-user message cannot be received");
    }
    for (::cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i != count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
        incoming_.fds.emplace_back(fd);
      }
    }
    if ((m.msg_flags & MSG_CTRUNC) != 0 || incoming_.fds.size() > max_fds) {
      return failure(errc::protocol, "a vhost-user message has too many file descriptors",
                     incoming_.fds.size());
    }
    return int_cast<std::int64_t>(got);
  }

  posix::unique_fd socket_;
  message incoming_;
  std::size_t received_ = 0;
};

}  // namespace phasebit::transport::vhost_user
