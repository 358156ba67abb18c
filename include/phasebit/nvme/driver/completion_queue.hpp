// SPDX-License-Identifier: BSL-1.0
// The driver's side of a completion queue: an entry is new when its phase tag has flipped.
// NVMe Base 2.0, 3.3.1 and 3.3.3.2 (Phase Tag).
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::driver {

// A consumer's ring. The memory begins zeroed, so that the first lap's tag is 1. The dword with
// command id, phase and status is loaded once, by itself; the entry's other words are read only
// once the phase shows that they are valid. One thread at a time.
template <RingOrder Order, DoorbellSink Doorbell>
class completion_queue {
 public:
  completion_queue() noexcept = default;
  // `entries` is the queue's zeroed memory, which the device reaches; 2 to 65536 entries.
  completion_queue(std::span<completion_entry> entries, Doorbell doorbell) noexcept
      : entries_(entries.data()),
        last_(static_cast<std::uint32_t>(entries.size() - 1)),
        doorbell_(doorbell) {
    PHASEBIT_EXPECTS(entries.size() >= 2 && entries.size() <= 65536,
                     "a completion queue has 2 to 65536 entries");
  }

  // Reads and writes nothing of the ring from now on: pop() finds no entry, ring() does nothing.
  void close() noexcept {
    entries_ = &no_entry;
    head_ = rung_ = last_ = 0;
    phase_ = phase_bit;
  }

  // Takes the next entry if there is one. Its place goes back to the device at ring().
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool pop(completion_entry& out) noexcept {
    const completion_entry& next = entries_[head_];
    const le<std::uint32_t> dw3 = Order::load(next.dw3);
    if (((dw3.get() ^ phase_) & phase_bit) != 0) return false;
    Order::after_load();
    out.dw0 = next.dw0;
    out.dw1 = next.dw1;
    out.sq_head = next.sq_head;
    out.sq_id = next.sq_id;
    out.dw3 = dw3;
    if (head_ == last_) {
      head_ = 0;
      phase_ ^= phase_bit;
    } else {
      ++head_;
    }
    return true;
  }

  // Gives back the places of all entries taken since the last call.
  PHASEBIT_ALWAYS_INLINE void ring() noexcept {
    if (head_ == rung_) return;
    doorbell_.ring(head_);
    rung_ = head_;
  }

  // Goes on where another object has left off, which had given all places back.
  void resume_at(std::uint32_t head, bool phase) noexcept {
    head_ = rung_ = head;
    phase_ = phase ? phase_bit : 0;
  }

  [[nodiscard]] std::uint32_t depth() const noexcept { return last_ + 1; }
  [[nodiscard]] std::uint32_t head() const noexcept { return head_; }
  // The phase tag of the next new entry.
  [[nodiscard]] bool phase() const noexcept { return phase_ != 0; }

 private:
  static constexpr std::uint32_t phase_bit = completion_dw3::phase_bit.mask<std::uint32_t>;
  // An entry whose phase tag never flips.
  static constexpr completion_entry no_entry{};

  const completion_entry* entries_ = &no_entry;
  std::uint32_t last_ = 0;
  std::uint32_t head_ = 0;
  std::uint32_t rung_ = 0;
  std::uint32_t phase_ = phase_bit;
  [[no_unique_address]] Doorbell doorbell_{};
};

}  // namespace phasebit::nvme::driver
