// SPDX-License-Identifier: BSL-1.0
// Rings in memory that IOMMUs write fault records into, and drivers read: AMD's event log, SMMUv3's
// event queue, RISC-V's fault queue.
#pragma once

#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/fault/fault.hpp>

#include <concepts>
#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// How one architecture's records look, and what its ring does when it is full.
template <class F>
concept FaultFormat = requires(const translation_fault& fault, const typename F::record& record) {
  { F::encode(fault) } noexcept -> std::same_as<typename F::record>;
  { F::decode(record) } noexcept -> std::same_as<translation_fault>;
  { F::turns_flip } -> std::convertible_to<bool>;
  { F::overflow_stops } -> std::convertible_to<bool>;
};

// Where a ring is: 2^log2_entries records at `base`.
struct fault_ring {
  std::uint64_t base = 0;
  unsigned log2_entries = 0;

  // Indices: with turns, one bit more than the entries need, which flips with every turn.
  [[nodiscard]] constexpr std::uint32_t index_mask(bool turns) const noexcept {
    return ((turns ? 2U : 1U) << log2_entries) - 1;
  }
  [[nodiscard]] constexpr std::uint32_t slot(std::uint32_t index) const noexcept {
    return index & ((1U << log2_entries) - 1);
  }
  [[nodiscard]] constexpr bool full(std::uint32_t producer, std::uint32_t consumer,
                                    bool turns) const noexcept {
    const std::uint32_t used = (producer - consumer) & index_mask(turns);
    return used >= (turns ? 1U << log2_entries : (1U << log2_entries) - 1);
  }
};

// The IOMMU's side: records faults while it is enabled. A consumer index that the driver has set
// beyond the ring is reduced to it. A ring that does not lie in memory drops records and sets
// `broken`. One thread.
template <FaultFormat Format, TableReader Tables>
class fault_queue {
 public:
  explicit fault_queue(Tables& tables) noexcept : tables_(&tables) {}

  void enable(const fault_ring& ring) noexcept {
    ring_ = ring;
    enabled_ = true;
  }
  void disable() noexcept { enabled_ = false; }
  [[nodiscard]] bool enabled() const noexcept { return enabled_; }

  void record(const translation_fault& fault) noexcept { put(Format::encode(fault)); }
  // Any record of this format, also one that no translation has caused.
  void put(const typename Format::record& r) noexcept {
    if (!enabled_ || (Format::overflow_stops && overflow_)) {
      ++lost_;
      return;
    }
    if (ring_.full(producer_, consumer_, Format::turns_flip)) {
      overflow_ = true;
      event_ = true;
      ++lost_;
      return;
    }
    using record_type = typename Format::record;
    const std::uint64_t at =
        ring_.base + std::uint64_t{ring_.slot(producer_)} * sizeof(record_type);
    table_word* const words = detail::find_inside(*tables_, at, sizeof(record_type));
    if (words == nullptr) {
      broken_ = true;
      event_ = true;
      ++lost_;
      return;
    }
    for (std::size_t i = 0; i != record_type::word_count; ++i) {
      // The index that is published behind it orders the record.
      detail::store_entry_relaxed(words + i, r.words[i].get());
    }
    producer_ = (producer_ + 1) & ring_.index_mask(Format::turns_flip);
    event_ = true;
  }

  [[nodiscard]] std::uint32_t producer() const noexcept { return producer_; }
  [[nodiscard]] std::uint32_t consumer() const noexcept { return consumer_; }
  void set_producer(std::uint32_t index) noexcept {
    producer_ = index & ring_.index_mask(Format::turns_flip);
  }
  void set_consumer(std::uint32_t index) noexcept {
    consumer_ = index & ring_.index_mask(Format::turns_flip);
  }
  // A record was lost because the queue was full: EventOverflow, OVFLG against OVACKFLG, fqof.
  [[nodiscard]] bool overflow() const noexcept { return overflow_; }
  void clear_overflow() noexcept { overflow_ = false; }
  // The ring is not in memory: EVENTQ_ABT_ERR, fqmf.
  [[nodiscard]] bool broken() const noexcept { return broken_; }
  void clear_broken() noexcept { broken_ = false; }
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_; }
  // Whether something happened since the last call: the interrupt that is due.
  [[nodiscard]] bool take_event() noexcept {
    const bool happened = event_;
    event_ = false;
    return happened;
  }

 private:
  Tables* tables_;
  fault_ring ring_{};
  std::uint32_t producer_ = 0;
  std::uint32_t consumer_ = 0;
  std::uint64_t lost_ = 0;
  bool enabled_ = false;
  bool overflow_ = false;
  bool broken_ = false;
  bool event_ = false;
};

// The driver's side: reads records between its own index and the producer's, which the caller
// passes (from the register), and returns the new consumer index.
template <FaultFormat Format, TableReader Tables>
class fault_queue_reader {
 public:
  fault_queue_reader(Tables& tables, const fault_ring& ring) noexcept
      : tables_(&tables), ring_(ring) {}

  // The next record, if there is one. The producer index comes from hardware: it is masked.
  [[nodiscard]] std::optional<translation_fault> next(std::uint32_t producer) noexcept {
    const std::uint32_t mask = ring_.index_mask(Format::turns_flip);
    if ((producer & mask) == consumer_) return std::nullopt;
    using record_type = typename Format::record;
    const table_word* const words = detail::find_inside(
        *tables_, ring_.base + std::uint64_t{ring_.slot(consumer_)} * sizeof(record_type),
        sizeof(record_type));
    if (words == nullptr) return std::nullopt;
    consumer_ = (consumer_ + 1) & mask;
    return Format::decode(load_entry_words<record_type>(words));
  }
  [[nodiscard]] std::uint32_t consumer() const noexcept { return consumer_; }

 private:
  Tables* tables_;
  fault_ring ring_;
  std::uint32_t consumer_ = 0;
};

}  // namespace phasebit::iommu
