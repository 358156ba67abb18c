// SPDX-License-Identifier: BSL-1.0
// The front end of a vhost-user connection: a driver of this process for a device of another one, with
// no virtual machine.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/stream.hpp>
#include <phasebit/posix/unique_fd.hpp>
#include <phasebit/transport/vhost_user/message_channel.hpp>
#include <phasebit/transport/vhost_user/messages.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

namespace phasebit::transport::vhost_user {

// A queue as its back end needs it. Addresses are those of this process.
struct front_end_queue {
  std::uint16_t index = 0;
  std::uint32_t size = 0;
  std::uint32_t base = 0;  // see virtio::device::vring_base; packed rings begin at 0x80008000
  const std::byte* descriptors = nullptr;
  const std::byte* driver = nullptr;
  const std::byte* device = nullptr;
  int kick = -1;  // eventfds; -1: polled
  int call = -1;
};

// Set-up and control; the rings themselves need no messages. Each call waits for its answer where the
// protocol has one, at most `timeout_ms`. One thread at a time. The back end's answers are checked.
class front_end {
 public:
  front_end(posix::unique_fd socket, std::uint32_t timeout_ms = 5000) noexcept
      : channel_(std::move(socket)), timeout_ms_(timeout_ms) {}

  [[nodiscard]] static result<front_end> connect(std::string_view path,
                                                 std::uint32_t timeout_ms = 5000) noexcept {
    auto socket = posix::connect_unix(path);
    if (!socket) return socket.error();
    return front_end{std::move(*socket), timeout_ms};
  }

  // Takes the features in `wanted` that the back end offers; `needed` must be among them. Errors:
  // not_supported (a needed feature is not offered; `value` has the missing bits).
  [[nodiscard]] result<> negotiate(std::uint64_t wanted, std::uint64_t needed = 0) noexcept {
    const auto offered = ask<std::uint64_t>(request::get_features);
    if (!offered) return offered.error();
    if ((needed & ~*offered) != 0) {
      return failure(errc::not_supported, "the back end does not offer a feature that is needed",
                     needed & ~*offered);
    }
    features_ = *offered & (wanted | needed);
    const bool protocol = (*offered & feature_protocol_features) != 0;
    if (protocol) {
      const auto bits = ask<std::uint64_t>(request::get_protocol_features);
      if (!bits) return bits.error();
      protocol_features_ =
          *bits & (protocol_feature::mq | protocol_feature::reply_ack | protocol_feature::config);
      if (const auto sent = tell(request::set_protocol_features, protocol_features_); !sent) {
        return sent;
      }
    }
    if (const auto sent = send(request::set_owner, {}); !sent) return sent;
    return tell(request::set_features, features_ | (protocol ? feature_protocol_features : 0));
  }
  // As negotiated, without the bits of the transport.
  [[nodiscard]] std::uint64_t features() const noexcept { return features_; }

  // How many queues the back end has.
  [[nodiscard]] result<std::uint64_t> queue_count() noexcept {
    if ((protocol_features_ & protocol_feature::mq) == 0) return std::uint64_t{1};
    return ask<std::uint64_t>(request::get_queue_num);
  }

  // Shares memory: the bytes of a file, which is mapped here at `local`; buffers in it are named by
  // `guest` addresses. One region; again replaces it.
  [[nodiscard]] result<> set_memory(std::uint64_t guest, std::span<const std::byte> local, int fd,
                                    std::uint64_t offset = 0) noexcept {
    struct {
      memory_table_header head;
      memory_region region;
    } const table{{1, 0},
                  {guest, local.size(), reinterpret_cast<std::uintptr_t>(local.data()), offset}};
    const int fds[] = {fd};
    return command(request::set_mem_table, wire_bytes(table), fds);
  }

  [[nodiscard]] result<> start_queue(const front_end_queue& q) noexcept {
    const std::uint32_t i = q.index;
    if (const auto done = tell(request::set_vring_num, vring_state{i, q.size}); !done) return done;
    if (const auto done = tell(request::set_vring_base, vring_state{i, q.base}); !done) {
      return done;
    }
    const vring_addr addresses{i,
                               0,
                               reinterpret_cast<std::uintptr_t>(q.descriptors),
                               reinterpret_cast<std::uintptr_t>(q.device),
                               reinterpret_cast<std::uintptr_t>(q.driver),
                               0};
    if (const auto done = tell(request::set_vring_addr, addresses); !done) return done;
    if (const auto done = vring_fd(request::set_vring_call, q.index, q.call); !done) return done;
    if (const auto done = vring_fd(request::set_vring_kick, q.index, q.kick); !done) return done;
    if (protocol_features_ == 0) return {};
    return tell(request::set_vring_enable, vring_state{i, 1});
  }
  // Waits until the back end has completed what it took. Returns the base to start from again.
  [[nodiscard]] result<std::uint32_t> stop_queue(std::uint16_t index) noexcept {
    const auto answer = ask<vring_state>(request::get_vring_base, vring_state{index, 0});
    if (!answer) return answer.error();
    if (answer->index != index) {
      return failure(errc::protocol, "the back end answered for another queue", answer->index);
    }
    return answer->num;
  }

  // Error: not_supported (no configuration space, or not so large).
  [[nodiscard]] result<> read_config(std::uint32_t offset, std::span<std::byte> to) noexcept {
    if ((protocol_features_ & protocol_feature::config) == 0 || to.size() > max_config) {
      return failure(errc::not_supported, "the back end does not offer its configuration space");
    }
    std::array<std::byte, sizeof(config_header) + max_config> payload{};
    const config_header h{offset, static_cast<std::uint32_t>(to.size()), 0};
    std::memcpy(payload.data(), &h, sizeof h);
    const std::span<const std::byte> out{payload.data(), sizeof h + to.size()};
    if (const auto sent = send(request::get_config, out); !sent) return sent;
    if (const auto got = receive(request::get_config); !got) return got;
    if (answer_.header.size != out.size()) {
      return failure(errc::not_supported, "the back end's configuration space is smaller",
                     answer_.header.size);
    }
    std::memcpy(to.data(), answer_.payload.data() + sizeof h, to.size());
    return {};
  }

 private:
  [[nodiscard]] result<> send(request number, std::span<const std::byte> payload,
                              std::span<const int> fds = {}, std::uint32_t flags = 0) noexcept {
    return channel_.send(static_cast<std::uint32_t>(number), flags, payload, fds);
  }
  [[nodiscard]] result<> receive(request number) noexcept {
    for (;;) {
      const auto got = channel_.receive(answer_);
      if (!got) return got.error();
      if (*got == receive_status::closed) {
        return failure(errc::removed, "the back end closed the connection");
      }
      if (*got == receive_status::complete) break;
      const auto ready = posix::wait_readable(channel_.fd(), timeout_ms_);
      if (!ready) return ready.error();
      if (!*ready) return failure(errc::timed_out, "the back end does not answer");
    }
    if (answer_.header.request != static_cast<std::uint32_t>(number) ||
        (answer_.header.flags & flag_reply) == 0) {
      return failure(errc::protocol, "the back end answered another request",
                     answer_.header.request);
    }
    return {};
  }
  // A request without an answer of its own: acknowledged where that was negotiated.
  [[nodiscard]] result<> command(request number, std::span<const std::byte> payload,
                                 std::span<const int> fds = {}) noexcept {
    const bool acknowledged = (protocol_features_ & protocol_feature::reply_ack) != 0 &&
                              number != request::set_protocol_features;
    if (const auto sent = send(number, payload, fds, acknowledged ? flag_need_reply : 0); !sent) {
      return sent;
    }
    if (!acknowledged) return {};
    if (const auto got = receive(number); !got) return got;
    if (answer_.header.size != sizeof(std::uint64_t)) {
      return failure(errc::protocol, "the back end acknowledged with a payload of the wrong size",
                     answer_.header.size);
    }
    if (load_wire<std::uint64_t>(answer_.body()) != 0) {
      return failure(errc::protocol, "the back end refused a request",
                     static_cast<std::uint64_t>(number));
    }
    return {};
  }
  template <WireStruct T>
  [[nodiscard]] result<> tell(request number, const T& payload) noexcept {
    return command(number, wire_bytes(payload));
  }
  [[nodiscard]] result<> vring_fd(request number, std::uint16_t index, int fd) noexcept {
    const std::uint64_t word = index | (fd < 0 ? vring_no_fd : 0);
    const int fds[] = {fd};
    return command(number, wire_bytes(word),
                   fd < 0 ? std::span<const int>{} : std::span<const int>{fds});
  }
  template <WireStruct T>
  [[nodiscard]] result<T> ask(request number) noexcept {
    if (const auto sent = send(number, {}); !sent) return sent.error();
    return answer<T>(number);
  }
  template <WireStruct T, WireStruct Payload>
  [[nodiscard]] result<T> ask(request number, const Payload& payload) noexcept {
    if (const auto sent = send(number, wire_bytes(payload)); !sent) return sent.error();
    return answer<T>(number);
  }
  template <WireStruct T>
  [[nodiscard]] result<T> answer(request number) noexcept {
    if (const auto got = receive(number); !got) return got.error();
    if (answer_.header.size != sizeof(T)) {
      return failure(errc::protocol, "the back end answered with a payload of the wrong size",
                     answer_.header.size);
    }
    return load_wire<T>(answer_.body());
  }

  message_channel channel_;
  std::uint32_t timeout_ms_;
  std::uint64_t features_ = 0;
  std::uint64_t protocol_features_ = 0;
  message answer_;
};

}  // namespace phasebit::transport::vhost_user
