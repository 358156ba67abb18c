// SPDX-License-Identifier: BSL-1.0
// The 64-bit words of page tables: written by us, read at any moment by hardware and by other
// threads. Little-endian in memory, native as values.
#pragma once

#include <phasebit/core/byte_order.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// A word as it lies in a table; only the functions below look at it.
using table_word = std::uint64_t;

namespace detail {

inline constexpr bool whole_words = std::atomic_ref<std::uint64_t>::is_always_lock_free;

[[nodiscard]] constexpr std::uint64_t wire(std::uint64_t value) noexcept {
  return le<std::uint64_t>::to_wire(value);
}

// A machine without 64-bit atomic accesses (Cortex-M) writes a word in halves: the half that holds
// the present bits, which is the low one in every format, is cleared first and written last. Such a
// machine has one writer at a time, of all tables together; readers are any number.
//
// This counts the writes, so that a reader detects those that happened between its own accesses: an
// entry that changes twice could otherwise show the low half of one value with the high half of
// another. `word` is the one that a write is in progress for while `count` is odd.
struct write_record {
  std::atomic<std::uint32_t> count{0};
  std::atomic<const void*> word{nullptr};
};
inline constinit write_record writes_in_halves{};

struct no_pause {
  void operator()() const noexcept {}
};

// Guarantee: load() returns a value that was stored, or 0 while a store to this word is in progress
// (an interrupt handler that interrupts the writer cannot wait for it). `between` is called between
// the accesses to memory: tests change the word there.
class halves {
 public:
  explicit halves(const table_word* word, write_record& record = writes_in_halves) noexcept
      : low_(reinterpret_cast<half*>(const_cast<table_word*>(word)) + low_index),
        high_(reinterpret_cast<half*>(const_cast<table_word*>(word)) + (1 - low_index)),
        record_(record) {}

  template <class Between = no_pause>
  [[nodiscard]] std::uint64_t load(Between between = {}) const noexcept {
    for (;;) {
      const std::uint32_t before = record_.count.load(std::memory_order_acquire);
      between();
      const std::uint32_t low = at(low_).load(std::memory_order_acquire);
      between();
      const std::uint32_t high = at(high_).load(std::memory_order_acquire);
      between();
      // Within one write the low half is the old one, zero, then the new one: where it is the same
      // before and after the high half was read, the halves belong together.
      const bool same = at(low_).load(std::memory_order_acquire) == low;
      between();
      const void* const writing = record_.word.load(std::memory_order_acquire);
      between();
      if (record_.count.load(std::memory_order_relaxed) != before) continue;
      if (before % 2 != 0 && writing == low_ && (low == 0 || !same)) return 0;
      if (same) return std::uint64_t{high} << 32 | low;
    }
  }
  template <class Between = no_pause>
  void store(std::uint64_t value, Between between = {}) const noexcept {
    const std::uint32_t count = record_.count.load(std::memory_order_relaxed);
    record_.word.store(low_, std::memory_order_relaxed);
    between();
    record_.count.store(count + 1, std::memory_order_release);
    between();
    at(low_).store(0, std::memory_order_release);
    between();
    at(high_).store(static_cast<std::uint32_t>(value >> 32), std::memory_order_release);
    between();
    at(low_).store(static_cast<std::uint32_t>(value), std::memory_order_release);
    between();
    record_.count.store(count + 2, std::memory_order_release);
    between();
  }

 private:
  using half [[gnu::may_alias]] = std::uint32_t;
  static constexpr int low_index = std::endian::native == std::endian::little ? 0 : 1;
  static std::atomic_ref<std::uint32_t> at(half* word) noexcept {
    std::uint32_t& plain = *word;
    return std::atomic_ref<std::uint32_t>{plain};
  }
  half* low_;
  half* high_;
  write_record& record_;
};

// Never torn: returns a value that was stored, or, on a machine without 64-bit atomics, 0 while the
// word changes. Everything that the writer did before its store_entry is visible after this load.
[[nodiscard]] inline std::uint64_t load_entry(const table_word* word) noexcept {
  if constexpr (whole_words) {
    return wire(std::atomic_ref{*const_cast<table_word*>(word)}.load(std::memory_order_acquire));
  } else {
    return wire(halves{word}.load());
  }
}
// For loops over entries of a table that the caller owns: orders nothing.
[[nodiscard]] inline std::uint64_t load_entry_relaxed(const table_word* word) noexcept {
  if constexpr (whole_words) {
    return wire(std::atomic_ref{*const_cast<table_word*>(word)}.load(std::memory_order_relaxed));
  } else {
    return wire(halves{word}.load());
  }
}

// Starts to load the word's cache line, for a read that follows soon. A hint: it changes nothing.
inline void prefetch_entry(const table_word* word) noexcept { __builtin_prefetch(word); }

// Publishes an entry that points at a table: the table's words are seen before it.
inline void store_entry(table_word* word, std::uint64_t value) noexcept {
  if constexpr (whole_words) {
    std::atomic_ref{*word}.store(wire(value), std::memory_order_release);
  } else {
    halves{word}.store(wire(value));
  }
}
// For leaves and zeros, which point at nothing that a walker would read.
inline void store_entry_relaxed(table_word* word, std::uint64_t value) noexcept {
  if constexpr (whole_words) {
    std::atomic_ref{*word}.store(wire(value), std::memory_order_relaxed);
  } else {
    halves{word}.store(wire(value));
  }
}

// On a machine without 64-bit atomics there is one writer.
[[nodiscard]] inline bool exchange_in_halves(table_word* word, std::uint64_t& expected,
                                             std::uint64_t value) noexcept {
  const std::uint64_t there = wire(halves{word}.load());
  if (there != expected) {
    expected = there;
    return false;
  }
  halves{word}.store(wire(value));
  return true;
}

// Replaces `expected`, and otherwise puts into it what is there. Hardware that sets accessed and dirty
// bits meanwhile loses nothing. A table's words are seen before the entry that points at it: by walkers
// of the new entry, and by the caller where another mapper's entry is there.
[[nodiscard]] inline bool exchange_entry(table_word* word, std::uint64_t& expected,
                                         std::uint64_t value) noexcept {
  if constexpr (whole_words) {
    std::uint64_t there = wire(expected);
    const bool done = std::atomic_ref{*word}.compare_exchange_strong(
        there, wire(value), std::memory_order_release, std::memory_order_acquire);
    expected = wire(there);
    return done;
  } else {
    return exchange_in_halves(word, expected, value);
  }
}
// For leaves and zeros, which point at nothing that a walker would read: orders nothing.
[[nodiscard]] inline bool exchange_entry_relaxed(table_word* word, std::uint64_t& expected,
                                                 std::uint64_t value) noexcept {
  if constexpr (whole_words) {
    std::uint64_t there = wire(expected);
    const bool done = std::atomic_ref{*word}.compare_exchange_strong(
        there, wire(value), std::memory_order_relaxed, std::memory_order_relaxed);
    expected = wire(there);
    return done;
  } else {
    return exchange_in_halves(word, expected, value);
  }
}

}  // namespace detail

}  // namespace phasebit::iommu
