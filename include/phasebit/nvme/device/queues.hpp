// SPDX-License-Identifier: BSL-1.0
// The controller's half of its queues: where the rings lie, how far each side has come, and what of
// a doorbell's value is believed (NVMe Base 2.0, sections 3.3.1 and 3.3.2).
#pragma once

#include <phasebit/core/address.hpp>

#include <cstdint>

namespace phasebit::nvme::device {

// What became of a value that the host wrote to a doorbell.
enum class doorbell_verdict : std::uint8_t { unchanged, moved, invalid };

// No doorbell has this value.
inline constexpr std::uint64_t nothing_rejected = ~std::uint64_t{0};

// A ring that the host fills. `head` is the next entry to fetch, `tail` where the host stopped.
struct submission_queue {
  bus_addr base{};
  std::uint32_t entries = 0;  // 0: the queue does not exist
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  std::uint64_t rejected = nothing_rejected;  // the last invalid value, which is reported once
  std::uint16_t completion_queue = 0;
  bool kicked = false;  // the shadow doorbell is worth reading

  [[nodiscard]] constexpr bool exists() const noexcept { return entries != 0; }
  [[nodiscard]] constexpr bool empty() const noexcept { return head == tail; }
  [[nodiscard]] constexpr bus_addr next_entry() const noexcept {
    return base + std::uint64_t{head} * 64;
  }
  constexpr void advance() noexcept { head = head + 1 == entries ? 0 : head + 1; }

  // A tail outside the ring, or one that would hold more entries than a ring can (one slot stays
  // free), is refused and changes nothing.
  constexpr doorbell_verdict set_tail(std::uint32_t value) noexcept {
    if (value == tail) return doorbell_verdict::unchanged;
    if (value >= entries) return reject(value);
    const std::uint32_t waiting = distance(head, tail);
    const std::uint32_t added = distance(tail, value);
    if (waiting + added > entries - 1) return reject(value);
    tail = value;
    rejected = nothing_rejected;
    return doorbell_verdict::moved;
  }

 private:
  [[nodiscard]] constexpr std::uint32_t distance(std::uint32_t from,
                                                 std::uint32_t to) const noexcept {
    return to >= from ? to - from : to + entries - from;
  }
  constexpr doorbell_verdict reject(std::uint32_t value) noexcept {
    if (value == rejected) return doorbell_verdict::unchanged;
    rejected = value;
    return doorbell_verdict::invalid;
  }
};

// A ring that the controller fills. `tail` is the next slot, `head` how far the host has read.
struct completion_queue {
  bus_addr base{};
  std::uint32_t entries = 0;  // 0: the queue does not exist
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  std::uint64_t rejected = nothing_rejected;
  std::uint16_t users = 0;  // submission queues that complete here
  std::uint16_t vector = 0;
  bool interrupts = false;
  bool phase = true;      // what the host takes for new in this lap
  bool announce = false;  // entries were posted since the last interrupt

  [[nodiscard]] constexpr bool exists() const noexcept { return entries != 0; }
  [[nodiscard]] constexpr std::uint32_t used() const noexcept {
    return tail >= head ? tail - head : tail + entries - head;
  }
  [[nodiscard]] constexpr bool full() const noexcept { return used() == entries - 1; }
  [[nodiscard]] constexpr bus_addr next_slot() const noexcept {
    return base + std::uint64_t{tail} * 16;
  }
  constexpr void advance() noexcept {
    if (++tail == entries) {
      tail = 0;
      phase = !phase;
    }
    announce = true;
  }

  // A head outside the ring, or one that has read what was never posted, is refused.
  constexpr doorbell_verdict set_head(std::uint32_t value) noexcept {
    if (value == head) return doorbell_verdict::unchanged;
    const std::uint32_t read = value >= head ? value - head : value + entries - head;
    if (value >= entries || read > used()) {
      if (value == rejected) return doorbell_verdict::unchanged;
      rejected = value;
      return doorbell_verdict::invalid;
    }
    head = value;
    rejected = nothing_rejected;
    return doorbell_verdict::moved;
  }
};

}  // namespace phasebit::nvme::device
