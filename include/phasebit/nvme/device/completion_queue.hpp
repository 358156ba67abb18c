// SPDX-License-Identifier: BSL-1.0
// The controller's half of a completion queue: where the ring lies, its phase, how far the host has
// read, and which slots commands in flight have reserved (NVMe Base 2.0, 3.3.1 and 3.3.3).
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/nvme/device/dma_object.hpp>
#include <phasebit/nvme/device/queue_index.hpp>
#include <phasebit/nvme/spec/completion.hpp>

#include <cstdint>

namespace phasebit::nvme::device {

// A ring that the controller fills. `tail` is the next slot, `head` how far the host has read.
struct completion_queue {
  bus_addr base{};
  std::uint32_t entries = 0;  // 0: the queue does not exist
  std::uint32_t head = 0;
  std::uint32_t tail = 0;
  std::uint64_t rejected = nothing_rejected;
  std::uint32_t reserved = 0;  // slots of commands in flight: each finds one when it completes
  std::uint16_t users = 0;     // submission queues that complete here
  std::uint16_t vector = 0;
  bool interrupts = false;
  bool phase = true;               // phase bit of the entries of this lap
  bool interrupt_pending = false;  // entries were posted since the last interrupt

  [[nodiscard]] constexpr bool exists() const noexcept { return entries != 0; }
  [[nodiscard]] constexpr std::uint32_t used() const noexcept {
    return tail >= head ? tail - head : tail + entries - head;
  }
  [[nodiscard]] constexpr bool full() const noexcept { return used() == entries - 1; }
  // Whether no further command may be fetched: those in flight need the free slots.
  [[nodiscard]] constexpr bool committed() const noexcept {
    return used() + reserved >= entries - 1;
  }
  [[nodiscard]] constexpr bus_addr next_slot() const noexcept {
    return base + std::uint64_t{tail} * 16;
  }
  constexpr void advance() noexcept {
    if (++tail == entries) {
      tail = 0;
      phase = !phase;
    }
    interrupt_pending = true;
  }

  // A head outside the ring, or one that has read what was never posted, is refused.
  constexpr doorbell_update set_head(std::uint32_t value) noexcept {
    if (value == head) return doorbell_update::unchanged;
    const std::uint32_t read = value >= head ? value - head : value + entries - head;
    if (value >= entries || read > used()) {
      if (value == rejected) return doorbell_update::unchanged;
      rejected = value;
      return doorbell_update::invalid;
    }
    head = value;
    rejected = nothing_rejected;
    return doorbell_update::moved;
  }
};

// Writes the entry so that its last dword, which holds the phase, becomes visible after the other
// dwords. Returns false where the memory cannot be reached.
template <RingOrder Order, AnyDma Dma>
[[nodiscard]] bool post_completion(Dma& dma, bus_addr where,
                                   const completion_entry& entry) noexcept {
  if (auto* const slot = local_object<completion_entry>(dma, where, access::write)) {
    slot->dw0 = entry.dw0;
    slot->dw1 = entry.dw1;
    slot->sq_head = entry.sq_head;
    slot->sq_id = entry.sq_id;
    Order::store(slot->dw3, entry.dw3);
    return true;
  }
  if constexpr (DmaPort<Dma>) {
    const auto bytes = wire_bytes(entry);
    constexpr std::size_t body = offsetof(completion_entry, dw3);
    return dma.write(where, bytes.first(body)).has_value() &&
           dma.write(where + body, bytes.subspan(body)).has_value();
  }
  return false;
}

}  // namespace phasebit::nvme::device
