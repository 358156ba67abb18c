// SPDX-License-Identifier: BSL-1.0
// A socket that carries vfio-user messages and the file descriptors that go with them.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/posix/os_error.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vfio_user/messages.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace phasebit::transport::vfio_user {

// The longest payload that a side of ours takes: a transfer of the default size with the largest header,
// or as many writes as one REGION_WRITE_MULTI has.
inline constexpr std::size_t max_payload = default_max_transfer + 64;
// How many descriptors a side of ours takes with one message. QEMU splits longer lists of eventfds.
inline constexpr std::size_t max_fds = 16;

// A message as it arrived. Descriptors that are not moved out are closed with it.
struct message {
  message_header header{};
  std::vector<std::byte> payload;
  std::vector<posix::unique_fd> fds;
  // An errno: the channel refuses the message. Its payload is empty and its descriptors are closed.
  int refused = 0;

  [[nodiscard]] std::span<const std::byte> body() const noexcept { return payload; }
  [[nodiscard]] vfio_user::command command() const noexcept {
    return static_cast<vfio_user::command>(header.command);
  }
  [[nodiscard]] bool is_reply() const noexcept { return (header.flags & type_mask) == type_reply; }
  [[nodiscard]] bool wants_reply() const noexcept { return (header.flags & flag_no_reply) == 0; }
};

// The result of receive().
enum class receive_status : std::uint8_t { nothing, complete, closed };

// Receives without waiting, however the bytes are cut; sends whole messages, and waits for space in the
// socket at most `send_limit_ms`. A message that cannot be taken (too short, too long, too many
// descriptors) is read to its end and returned with message::refused set, so that the stream stays
// usable. One thread at a time.
class message_channel {
 public:
  static constexpr int send_limit_ms = 5000;

  message_channel() noexcept = default;
  explicit message_channel(posix::unique_fd socket) noexcept : socket_(std::move(socket)) {}

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  // No part of a message was received.
  [[nodiscard]] bool between_messages() const noexcept { return received_ == 0; }
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  void close() noexcept {
    socket_.reset();
    received_ = 0;
    incoming_ = {};
  }

  // The next message, once it is complete. Error: io, after which the connection is of no use.
  [[nodiscard]] result<receive_status> receive(message& to) {
    constexpr std::size_t head = sizeof(message_header);
    // Bounded: a message that is refused may be 4 GiB long.
    for (int parts = 0; parts != 1024; ++parts) {
      if (received_ == head) begin_payload();
      if (received_ >= head && received_ == head + length_) {
        std::swap(to, incoming_);  // keeps the memory of both payloads
        incoming_.fds.clear();
        incoming_.refused = 0;
        if (to.refused != 0) {
          to.payload.clear();
          to.fds.clear();
        }
        received_ = 0;
        return receive_status::complete;
      }
      std::array<std::byte, 4096> ignored;
      std::span<std::byte> part;
      if (received_ < head) {
        part = writable_wire_bytes(incoming_.header).subspan(received_);
      } else if (incoming_.refused != 0) {
        part = std::span{ignored}.first(std::min(ignored.size(), head + length_ - received_));
      } else {
        part = std::span{incoming_.payload}.subspan(received_ - head);
      }
      const auto got = receive_bytes(part);
      if (!got) return got.error();
      if (*got < 0) return receive_status::nothing;
      if (*got == 0) return receive_status::closed;
      received_ += static_cast<std::size_t>(*got);
    }
    return receive_status::nothing;
  }

  // Sends header, up to two parts of a payload, and descriptors. Errors: out_of_range (too long, too many
  // descriptors), busy (the other side does not read its messages), removed (it has closed the
  // connection), io.
  [[nodiscard]] result<> send(message_header h, std::span<const std::byte> payload,
                              std::span<const std::byte> more = {},
                              std::span<const int> fds = {}) noexcept {
    if (payload.size() + more.size() > max_payload || fds.size() > max_fds) {
      return failure(errc::out_of_range, "a vfio-user message is too long", payload.size());
    }
    h.size = static_cast<std::uint32_t>(sizeof h + payload.size() + more.size());
    std::array<::iovec, 3> parts{{{&h, sizeof h},
                                  {const_cast<std::byte*>(payload.data()), payload.size()},
                                  {const_cast<std::byte*>(more.data()), more.size()}}};
    std::size_t first = 0;
    bool with_fds = !fds.empty();
    while (first != parts.size()) {
      ::msghdr m{};
      m.msg_iov = parts.data() + first;
      m.msg_iovlen = parts.size() - first;
      alignas(::cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * max_fds)> control{};
      if (with_fds) {
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
          if (const auto space = wait_for_space(); !space) return space;
          continue;
        }
        if (errno == EPIPE || errno == ECONNRESET) {
          return failure(errc::removed, "the other side has closed the vfio-user connection");
        }
        return posix::os_error("a vfio-user message cannot be sent");
      }
      with_fds = false;
      auto sent = static_cast<std::size_t>(put);
      while (first != parts.size() && sent >= parts[first].iov_len) sent -= parts[first++].iov_len;
      if (first != parts.size()) {
        parts[first].iov_base = static_cast<std::byte*>(parts[first].iov_base) + sent;
        parts[first].iov_len -= sent;
      }
    }
    return {};
  }

 private:
  // The header is there: what of the payload is kept.
  void begin_payload() {
    const std::size_t size = incoming_.header.size;
    length_ = size < sizeof(message_header) ? 0 : size - sizeof(message_header);
    if (incoming_.refused != 0) return;
    if (size < sizeof(message_header)) {
      incoming_.refused = EINVAL;
    } else if (length_ > max_payload) {
      incoming_.refused = E2BIG;
    } else {
      incoming_.payload.resize(length_);
    }
  }
  [[nodiscard]] result<> wait_for_space() noexcept {
    ::pollfd one{socket_.get(), POLLOUT, 0};
    const int ready = ::poll(&one, 1, send_limit_ms);
    if (ready > 0 || (ready < 0 && errno == EINTR)) return {};
    return failure(errc::busy, "the other side does not read its vfio-user messages");
  }
  // Bytes that came; 0 at the end, -1 when there are none now.
  [[nodiscard]] result<std::int64_t> receive_bytes(std::span<std::byte> to) {
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
      return posix::os_error("a vfio-user message cannot be received");
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
      incoming_.fds.clear();
      incoming_.refused = EINVAL;
    }
    return int_cast<std::int64_t>(got);
  }

  posix::unique_fd socket_;
  message incoming_;
  std::size_t received_ = 0;
  std::size_t length_ = 0;  // of the payload that is being received
};

}  // namespace phasebit::transport::vfio_user
