// SPDX-License-Identifier: BSL-1.0
// The peer of a stream_sink: keeps stored blocks in memory.
#pragma once

#include <phasebit/systems/ipu/stream_protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// Stored blocks of `stored_bytes` bytes in `memory`. `buffer` holds a header's payload: the longest request.
// A frame that is malformed, or longer than the buffer, ends the connection: poll() then returns an error. One
// that names blocks beyond the end is answered with an error status. One thread.
template <ByteStream Stream>
class stream_store {
 public:
  stream_store(Stream& stream, std::span<std::byte> memory, std::span<std::byte> buffer,
               std::uint32_t stored_bytes) noexcept
      : stream_(&stream), memory_(memory), buffer_(buffer), stored_(stored_bytes) {}

  // Serves what has arrived. Errors: protocol, and the stream's.
  result<std::size_t> poll() noexcept {
    std::size_t served = 0;
    for (int turn = 0; turn != 64; ++turn) {
      if (!answering_) {
        const auto got = receive();
        if (!got) return got.error();
        if (!*got) return served;
        answer();
      }
      const auto sent =
          out_.advance(bytes_of(frame_), buffer_.first(payload_),
                       [this](std::span<std::byte> b) noexcept { return stream_->send(b); });
      if (!sent) return sent.error();
      if (!*sent) return served;
      answering_ = false;
      ++served;
    }
    return served;
  }

 private:
  [[nodiscard]] static std::span<std::byte> bytes_of(stored_frame& f) noexcept {
    return {reinterpret_cast<std::byte*>(&f), sizeof f};
  }
  [[nodiscard]] bool is(stored_operation op) const noexcept {
    return frame_.operation == static_cast<std::uint8_t>(op);
  }
  [[nodiscard]] result<bool> receive() noexcept {
    const auto take = [this](std::span<std::byte> b) noexcept { return stream_->receive(b); };
    if (!has_header_) {
      const auto got = in_.advance(bytes_of(frame_), {}, take);
      if (!got || !*got) return got;
      const bool known =
          is(stored_operation::write) || is(stored_operation::read) || is(stored_operation::flush);
      if (frame_.magic.get() != stored_frame::magic_value || frame_.is_answer != 0 || !known) {
        return failure(errc::protocol, "a frame that is no request for stored blocks");
      }
      if (frame_.bytes.get() > buffer_.size()) {
        return failure(errc::protocol, "a frame longer than the store's buffer",
                       frame_.bytes.get());
      }
      has_header_ = true;
    }
    const std::size_t payload = is(stored_operation::write) ? frame_.bytes.get() : 0;
    const auto got = in_.advance({}, buffer_.first(payload), take);
    if (got && *got) has_header_ = false;
    return got;
  }
  void answer() noexcept {
    payload_ = 0;
    answering_ = true;
    frame_.is_answer = 1;
    frame_.status = 0;
    if (is(stored_operation::flush)) return;
    const std::uint64_t blocks = memory_.size() / stored_;
    const std::size_t bytes = frame_.bytes.get();
    const std::uint64_t first = frame_.block.get();
    const std::uint64_t count = bytes / stored_;
    if (count * stored_ != bytes || first > blocks || count > blocks - first) {
      frame_.status = 1;
      return;
    }
    std::byte* at = memory_.data() + static_cast<std::size_t>(first) * stored_;
    if (is(stored_operation::write)) {
      __builtin_memcpy(at, buffer_.data(), bytes);
    } else {
      __builtin_memcpy(buffer_.data(), at, bytes);
      payload_ = bytes;
    }
  }

  Stream* stream_;
  std::span<std::byte> memory_;
  std::span<std::byte> buffer_;
  std::uint32_t stored_;
  stored_frame frame_{};
  frame_position in_{};
  frame_position out_{};
  std::size_t payload_ = 0;
  bool has_header_ = false;
  bool answering_ = false;
};

}  // namespace phasebit::systems
