// SPDX-License-Identifier: BSL-1.0
// The sink of a block pipeline over a byte stream.
#pragma once

#include <phasebit/block/async_media.hpp>
#include <phasebit/systems/ipu/stream_protocol.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::systems {

// A StoredBlockSink. Each slot's buffer is part of `memory`; a payload is sent from it and received into it.
// Everything that the peer sends is checked: after a frame that does not fit the request, or when the stream ends, every
// operation ends with an error, and so does each later one. One thread.
template <ByteStream Stream, std::size_t Slots = 8>
class stream_sink {
  static_assert(Slots >= 1 && Slots <= 256);

 public:
  stream_sink(Stream& stream, std::span<std::byte> memory, std::uint64_t block_count) noexcept
      : stream_(&stream), memory_(memory), blocks_(block_count) {}

  [[nodiscard]] std::uint64_t block_count() const noexcept { return blocks_; }
  [[nodiscard]] static constexpr std::size_t slots() noexcept { return Slots; }
  [[nodiscard]] std::span<std::byte> buffer(std::size_t slot) noexcept {
    const std::size_t each = memory_.size() / Slots;
    return memory_.subspan(slot * each, each);
  }

  [[nodiscard]] block::media_answer write(std::size_t slot, std::uint64_t block,
                                          std::size_t bytes) noexcept {
    return ask(slot, stored_operation::write, block, bytes);
  }
  [[nodiscard]] block::media_answer read(std::size_t slot, std::uint64_t block,
                                         std::size_t bytes) noexcept {
    return ask(slot, stored_operation::read, block, bytes);
  }
  [[nodiscard]] block::media_answer flush(std::size_t slot) noexcept {
    return ask(slot, stored_operation::flush, 0, 0);
  }

  // Whether the stream has ended, or the peer broke the protocol.
  [[nodiscard]] bool broken() const noexcept { return broken_; }

  template <class Sink>
  std::size_t poll(Sink&& sink) noexcept {
    std::size_t ended = 0;
    send();
    for (std::size_t turn = 0; turn != Slots && receive(); ++turn) {
      slot_state& s = slots_[answer_.slot];
      s.is = state::free;
      ++ended;
      sink(std::size_t{answer_.slot}, answer_.status == 0 ? block::media_status::good : failed(s));
    }
    if (!broken_) return ended;
    for (std::size_t k = 0; k != Slots; ++k) {
      if (slots_[k].is == state::free) continue;
      slots_[k].is = state::free;
      ++ended;
      sink(k, failed(slots_[k]));
    }
    return ended;
  }

 private:
  enum class state : std::uint8_t { free, to_send, asked };
  struct slot_state {
    stored_frame frame{};
    state is = state::free;
  };

  [[nodiscard]] static block::media_status failed(const slot_state& s) noexcept {
    return s.frame.operation == static_cast<std::uint8_t>(stored_operation::read)
               ? block::media_status::read_failed
               : block::media_status::write_failed;
  }
  [[nodiscard]] static std::span<std::byte> bytes_of(stored_frame& f) noexcept {
    return {reinterpret_cast<std::byte*>(&f), sizeof f};
  }

  [[nodiscard]] block::media_answer ask(std::size_t slot, stored_operation op, std::uint64_t block,
                                        std::size_t bytes) noexcept {
    slot_state& s = slots_[slot];
    if (s.is != state::free) return block::media_answer::busy();
    s.frame = {};
    s.frame.magic = stored_frame::magic_value;
    s.frame.operation = static_cast<std::uint8_t>(op);
    s.frame.slot = static_cast<std::uint8_t>(slot);
    s.frame.block = block;
    s.frame.bytes = static_cast<std::uint32_t>(bytes);
    if (broken_) return block::media_answer::done(failed(s));
    if (bytes > buffer(slot).size()) {
      return block::media_answer::done(block::media_status::not_supported);
    }
    s.is = state::to_send;
    return block::media_answer::pending();
  }

  void send() noexcept {
    for (std::size_t turn = 0; turn != Slots && !broken_; ++turn) {
      slot_state& s = slots_[sending_];
      if (s.is == state::to_send) {
        const bool writes = s.frame.operation == static_cast<std::uint8_t>(stored_operation::write);
        const std::size_t payload = writes ? s.frame.bytes.get() : 0;
        const auto sent =
            out_.advance(bytes_of(s.frame), buffer(sending_).first(payload),
                         [this](std::span<std::byte> b) noexcept { return stream_->send(b); });
        if (!sent) broken_ = true;
        if (!sent || !*sent) return;
        s.is = state::asked;
      }
      sending_ = (sending_ + 1) % Slots;
    }
  }
  // Whether an answer is complete; it is then in answer_.
  [[nodiscard]] bool receive() noexcept {
    if (broken_) return false;
    const auto take = [this](std::span<std::byte> b) noexcept { return stream_->receive(b); };
    if (!has_header_) {
      const auto got = in_.advance(bytes_of(answer_), {}, take);
      if (!got || (*got && !expected())) broken_ = true;
      if (broken_ || !*got) return false;
      has_header_ = true;
    }
    const bool reads = answer_.operation == static_cast<std::uint8_t>(stored_operation::read);
    const std::size_t payload = reads && answer_.status == 0 ? answer_.bytes.get() : 0;
    const auto got = in_.advance({}, buffer(answer_.slot).first(payload), take);
    if (!got) broken_ = true;
    if (broken_ || !*got) return false;
    has_header_ = false;
    return true;
  }
  [[nodiscard]] bool expected() const noexcept {
    if (answer_.magic.get() != stored_frame::magic_value || answer_.is_answer != 1) return false;
    if (answer_.slot >= Slots) return false;
    const slot_state& s = slots_[answer_.slot];
    return s.is == state::asked && s.frame.operation == answer_.operation &&
           s.frame.bytes.get() == answer_.bytes.get() && s.frame.block.get() == answer_.block.get();
  }

  Stream* stream_;
  std::span<std::byte> memory_;
  std::uint64_t blocks_;
  std::array<slot_state, Slots> slots_{};
  stored_frame answer_{};
  frame_position out_{};
  frame_position in_{};
  std::size_t sending_ = 0;
  bool has_header_ = false;
  bool broken_ = false;
};

}  // namespace phasebit::systems
