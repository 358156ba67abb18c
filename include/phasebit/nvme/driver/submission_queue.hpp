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
// (3.3.1.5). Free entries are not counted here: each entry belongs to a command in flight, and a
// queue pair never has more than depth - 1 of those, whatever the device reports as its head.
// One thread at a time. Independent of PCIe and of allocation.
template <DoorbellSink Doorbell, class EntryStore = cached_store>
class submission_queue {
 public:
  submission_queue() noexcept = default;
  // `entries` is the queue's memory, which the device reaches; 2 to 65536 entries.
  // Their distance is 64 bytes << (entry_shift - 6), as set in CC.IOSQES; `entries` is then the
  // memory of that many times as many.
  submission_queue(std::span<submission_entry> entries, Doorbell doorbell,
                   std::uint8_t entry_shift = 6) noexcept
      : entries_(entries.data()),
        last_(static_cast<std::uint32_t>((entries.size() >> (entry_shift - 6U)) - 1)),
        entry_shift_(entry_shift),
        doorbell_(doorbell) {
    PHASEBIT_EXPECTS(entry_shift >= 6 && entry_shift <= 15, "an entry has 64 bytes to 32 KiB");
    PHASEBIT_EXPECTS(last_ >= 1 && last_ <= 65535, "a submission queue has 2 to 65536 entries");
  }

  // Leaves the memory and the doorbell alone from now on.
  void close() noexcept {
    tail_ = rung_ = 0;
    entries_ = nullptr;
  }

  // Posts one entry. The device does not look at it before ring().
  PHASEBIT_ALWAYS_INLINE void push(const submission_entry& entry) noexcept {
    auto* const to = reinterpret_cast<std::byte*>(entries_) + (std::size_t{tail_} << entry_shift_);
    EntryStore::store(*reinterpret_cast<submission_entry*>(to), entry);
    tail_ = tail_ == last_ ? 0 : tail_ + 1;
  }

  // Notifies the device of all entries posted since the last call; does nothing where there are none.
  PHASEBIT_ALWAYS_INLINE void ring() noexcept {
    if (tail_ == rung_) return;
    EntryStore::before_doorbell();
    doorbell_.ring(tail_);
    rung_ = tail_;
  }

  // Goes on where another object has left off, which had rung for all of its entries.
  void resume_at(std::uint32_t tail) noexcept { tail_ = rung_ = tail; }

  [[nodiscard]] std::uint32_t depth() const noexcept { return last_ + 1; }
  [[nodiscard]] std::uint32_t tail() const noexcept { return tail_; }
  // Entries posted since the last ring().
  [[nodiscard]] std::uint32_t unrung() const noexcept {
    return tail_ >= rung_ ? tail_ - rung_ : tail_ + depth() - rung_;
  }

 private:
  submission_entry* entries_ = nullptr;
  std::uint32_t last_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t rung_ = 0;
  std::uint32_t entry_shift_ = 6;
  [[no_unique_address]] Doorbell doorbell_{};
};

}  // namespace phasebit::nvme::driver
