// SPDX-License-Identifier: BSL-1.0
// The driver's side of a submission queue. NVMe Base 2.0, 3.3.1 (memory-based transport queue model).
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/nvme/spec/submission.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::driver {

// Writes entries through the cache: the device's fetch snoops them. The right choice wherever DMA is
// coherent; see entry_store.hpp for the one that goes past the cache.
struct cached_store {
  PHASEBIT_ALWAYS_INLINE static void store(submission_entry& to,
                                           const submission_entry& from) noexcept {
    to = from;
  }
  static void before_doorbell() noexcept {}
};

// A producer's ring. It holds depth - 1 entries at most: a full ring would look like an empty one
// (3.3.1.5). Whether there is room is not decided here: each entry belongs to a command in flight,
// and a queue pair never has more than depth - 1 of those, whatever the device says its head is.
// One thread at a time. Knows neither PCIe nor allocation.
template <DoorbellSink Doorbell, class EntryStore = cached_store>
class submission_queue {
 public:
  submission_queue() noexcept = default;
  // `entries` is the queue's memory as the device knows it; 2 to 65536 entries.
  submission_queue(std::span<submission_entry> entries, Doorbell doorbell) noexcept
      : entries_(entries.data()),
        last_(static_cast<std::uint32_t>(entries.size() - 1)),
        doorbell_(doorbell) {
    PHASEBIT_EXPECTS(entries.size() >= 2 && entries.size() <= 65536,
                     "a submission queue has 2 to 65536 entries");
  }

  // Posts one entry. The device does not know of it before ring().
  PHASEBIT_ALWAYS_INLINE void push(const submission_entry& entry) noexcept {
    EntryStore::store(entries_[tail_], entry);
    tail_ = tail_ == last_ ? 0 : tail_ + 1;
  }

  // Tells the device of all entries posted since the last call; nothing where there are none.
  PHASEBIT_ALWAYS_INLINE void ring() noexcept {
    if (tail_ == rung_) return;
    EntryStore::before_doorbell();
    doorbell_.ring(tail_);
    rung_ = tail_;
  }

  [[nodiscard]] std::uint32_t depth() const noexcept { return last_ + 1; }
  [[nodiscard]] std::uint32_t tail() const noexcept { return tail_; }
  // Entries posted that the device has not been told of.
  [[nodiscard]] std::uint32_t unrung() const noexcept {
    return tail_ >= rung_ ? tail_ - rung_ : tail_ + depth() - rung_;
  }

 private:
  submission_entry* entries_ = nullptr;
  std::uint32_t last_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t rung_ = 0;
  [[no_unique_address]] Doorbell doorbell_{};
};

}  // namespace phasebit::nvme::driver
