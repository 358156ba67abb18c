// SPDX-License-Identifier: BSL-1.0
// The doorbells of a controller: doorbell registers, which are plain words that the host stores to
// and the controller polls, and shadow doorbells in the host's memory (NVMe PCIe Transport 1.0,
// 3.1.2; Base 2.0, 5.8 and annex B.5).
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/nvme/device/dma_object.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::nvme::device {

enum class ring_side : std::uint8_t { submission = 0, completion = 1 };

// The doorbell registers. The host stores to a word while its queue exists; before and after that
// the controller may.
template <RingOrder Order>
class doorbell_words {
 public:
  // `words` is BAR memory from offset 1000h on, little-endian.
  constexpr doorbell_words(std::span<std::uint32_t> words, std::uint8_t stride) noexcept
      : words_(words), stride_(stride) {
    PHASEBIT_EXPECTS(stride <= 8, "a doorbell stride of more than a kilobyte");
    PHASEBIT_EXPECTS(pairs() >= 1, "a controller has the doorbells of the admin queue at least");
  }

  // Queue pairs that have doorbells, the admin queue included.
  [[nodiscard]] constexpr std::size_t pairs() const noexcept {
    return words_.size() >> (stride_ + 1U);
  }
  [[nodiscard]] std::uint32_t load(std::size_t qid, ring_side side) const noexcept {
    const std::uint32_t value = le<std::uint32_t>::from_wire(Order::load(words_[at(qid, side)]));
    Order::after_load();
    return value;
  }
  // The value alone: nothing that the host wrote before it is read because of it.
  [[nodiscard]] std::uint32_t peek(std::size_t qid, ring_side side) const noexcept {
    return le<std::uint32_t>::from_wire(Order::load(words_[at(qid, side)]));
  }
  // Orders nothing: the register hands over nothing but itself.
  void store(std::size_t qid, ring_side side, std::uint32_t value) noexcept {
    overwrite(words_[at(qid, side)], le<std::uint32_t>::to_wire(value));
  }
  void clear_all() noexcept {
    for (std::size_t q = 0; q != pairs(); ++q) {
      store(q, ring_side::submission, 0);
      store(q, ring_side::completion, 0);
    }
  }

 private:
  [[nodiscard]] constexpr std::size_t at(std::size_t qid, ring_side side) const noexcept {
    return (qid * 2 + static_cast<std::size_t>(side)) << stride_;
  }

  std::span<std::uint32_t> words_;
  std::uint8_t stride_;
};

// The value of a doorbell register between two writes while shadow doorbells are on. No ring has
// such an index, so that a host that writes the same index again is detected.
inline constexpr std::uint32_t doorbell_seen = 0xffff'ffff;

// The two pages that Doorbell Buffer Config names. The admin queue never uses them, because a host
// need not keep its shadow.
template <RingOrder Order, AnyDma Dma>
class shadow_doorbells {
 public:
  constexpr shadow_doorbells(Dma& dma, std::uint8_t stride) noexcept
      : dma_(&dma), stride_(stride) {}

  [[nodiscard]] constexpr bool enabled() const noexcept { return enabled_; }
  // Whether one memory page holds the doorbells of the admin queue and `io_pairs` more: the buffers
  // are a page each, and nothing behind it is the controller's (5.8).
  [[nodiscard]] constexpr bool fits_page(std::uint16_t io_pairs,
                                         unsigned page_shift) const noexcept {
    return at(io_pairs, ring_side::completion) + sizeof(std::uint32_t) <= std::uint64_t{1}
                                                                              << page_shift;
  }
  constexpr void enable(bus_addr shadow, bus_addr events) noexcept {
    shadow_ = shadow;
    events_ = events;
    enabled_ = true;
  }
  constexpr void disable() noexcept { enabled_ = false; }
  [[nodiscard]] constexpr bus_addr shadow_page() const noexcept { return shadow_; }
  [[nodiscard]] constexpr bus_addr event_page() const noexcept { return events_; }

  // The index that the host left; nothing where its memory cannot be reached.
  [[nodiscard]] std::optional<std::uint32_t> load(std::size_t qid, ring_side side) noexcept {
    return load_word<Order>(*dma_, shadow_ + at(qid, side));
  }
  // Both words as for a queue whose index is `index`: before the host uses them.
  [[nodiscard]] bool begin(std::size_t qid, ring_side side, std::uint32_t index) noexcept {
    return store_word(*dma_, shadow_ + at(qid, side), index) &&
           store_word(*dma_, events_ + at(qid, side), index);
  }
  // Sets the event index, beyond which the host writes the register, and loads the shadow again: the
  // host may have gone beyond it before it could see the event index.
  [[nodiscard]] std::optional<std::uint32_t> arm(std::size_t qid, ring_side side,
                                                 std::uint32_t index) noexcept {
    if (!store_word(*dma_, events_ + at(qid, side), index)) return std::nullopt;
    Order::full();
    return load(qid, side);
  }

 private:
  [[nodiscard]] constexpr std::uint64_t at(std::size_t qid, ring_side side) const noexcept {
    return (std::uint64_t{qid} * 2 + static_cast<std::uint64_t>(side)) << (2U + stride_);
  }

  Dma* dma_;
  bus_addr shadow_{};
  bus_addr events_{};
  std::uint8_t stride_;
  bool enabled_ = false;
};

}  // namespace phasebit::nvme::device
