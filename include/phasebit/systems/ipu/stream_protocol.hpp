// SPDX-License-Identifier: BSL-1.0
// Stored blocks over a byte stream: the frames that stream_sink sends and stream_store answers. A private
// format of this library, without authentication: run it inside a protected channel.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/core/wire.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// Bytes in order. Both return how many were moved, 0 where it must be tried again later, and removed where
// the peer is gone. Neither waits.
template <class T>
concept ByteStream = requires(T& s, std::span<const std::byte> out, std::span<std::byte> in) {
  { s.send(out) } noexcept -> std::same_as<result<std::size_t>>;
  { s.receive(in) } noexcept -> std::same_as<result<std::size_t>>;
};

enum class stored_operation : std::uint8_t { write = 1, read = 2, flush = 3 };

// Before the payload of a write and of the answer to a read. An answer repeats operation and slot.
struct stored_frame {
  static constexpr std::uint32_t magic_value = 0x3142'5250;

  le<std::uint32_t> magic;
  std::uint8_t operation;
  std::uint8_t slot;
  std::uint8_t status;  // of an answer: 0 is good
  std::uint8_t is_answer;
  le<std::uint64_t> block;
  le<std::uint32_t> bytes;  // of the stored blocks, whether or not they follow
  le<std::uint32_t> reserved;
};
static_assert(sizeof(stored_frame) == 24 && offsetof(stored_frame, block) == 8 &&
              offsetof(stored_frame, bytes) == 16);

// A frame on its way, in as many calls as the stream needs.
class frame_position {
 public:
  // Moves the remainder of header and payload. Returns whether all of it has been moved.
  template <class Move>
  [[nodiscard]] result<bool> advance(std::span<std::byte> header, std::span<std::byte> payload,
                                     Move&& move) noexcept {
    while (done_ != header.size() + payload.size()) {
      const auto rest =
          done_ < header.size() ? header.subspan(done_) : payload.subspan(done_ - header.size());
      const result<std::size_t> n = move(rest);
      if (!n) return n.error();
      if (*n > rest.size()) return failure(errc::protocol, "the stream moved too many bytes", *n);
      if (*n == 0) return false;
      done_ += *n;
    }
    done_ = 0;
    return true;
  }
  [[nodiscard]] bool idle() const noexcept { return done_ == 0; }

 private:
  std::size_t done_ = 0;
};

}  // namespace phasebit::systems
