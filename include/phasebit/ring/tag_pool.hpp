// SPDX-License-Identifier: BSL-1.0
// Command identifiers of 16 bits: those in flight, and the driver's token and age of each.
#pragma once

#include <phasebit/core/expects.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace phasebit::ring {

// Identifiers are taken in ascending order and wrap at 2^16. The low bits of an id select its slot, the bits
// above them count the laps: an id is used again only after about 65536 others, and a late or duplicated
// answer with an earlier id of the same slot is not in flight. FFFFh is never used (NVMe Base 2.0,
// 3.3.3.1). Each id in flight keeps a Token and the tick at which it was taken. Identifiers may be given
// back in any order.
//
// O(1) while few ids stay in flight much longer than the others; at most 2^k steps for a pool of up to
// 2^k - 1 ids. No memory but its own, which lies outside of what a device can reach. One thread at a time.
template <class Token, unsigned MaxCount>
class tag_pool {
  static_assert(MaxCount >= 1 && MaxCount <= 32767,
                "one bit of an id at least counts the laps, and one slot is spare");
  static_assert(std::is_trivially_copyable_v<Token>, "tokens are copied as bytes");

  [[nodiscard]] static constexpr std::uint32_t slots_for(unsigned count) noexcept {
    std::uint32_t slots = 2;
    while (slots < count + 1) slots <<= 1;
    return slots;
  }

 public:
  static constexpr unsigned capacity = MaxCount;

  tag_pool() noexcept { reset(0); }
  // Copies only the slots of the pool's count, and leaves the other pool without ids.
  tag_pool(tag_pool&& other) noexcept { take_over(other); }
  tag_pool& operator=(tag_pool&& other) noexcept {
    if (this != &other) take_over(other);
    return *this;
  }

  // All ids free, `count` at a time. At most MaxCount. The laps begin again.
  void reset(unsigned count) noexcept {
    PHASEBIT_EXPECTS(count <= MaxCount, "more ids than the pool's MaxCount");
    count_ = free_count_ = count;
    mask_ = slots_for(count) - 1;
    next_ = 0;
    for (std::uint32_t i = 0; i <= mask_; ++i) {
      slots_[i].token = Token{};
      slots_[i].tick = 0;
      slots_[i].number = free_number(i);
    }
  }

  // The numbers from which ids are taken go on from here: for a pool that replaces another, whose late answers
  // are then of no id in flight. No id is in flight.
  void begin_at(std::uint32_t mark) noexcept { next_ = mark; }

  // For a pool that goes on in another process: calls each(number, tick, token) for the ids in flight, and takes
  // them up again there. restore(): after reset() and begin_at() with the other pool's count() and mark(); false, and
  // nothing is changed, where the pool is full, the slot is taken, or no pool of this mark has the number in flight.
  template <class Each>
  void save(Each&& each) const noexcept {
    for (std::uint32_t i = 0; i <= mask_; ++i) {
      if (is_taken(i)) each(slots_[i].number, slots_[i].tick, slots_[i].token);
    }
  }
  [[nodiscard]] bool restore(std::uint32_t number, std::uint32_t tick,
                             const Token& token) noexcept {
    slot& s = slots_[number & mask_];
    if (full() || is_taken(number & mask_) || next_ - number - 1 >= 0xffff ||
        static_cast<std::uint16_t>(number) == 0xffffU) {
      return false;
    }
    s = {token, tick, number};
    --free_count_;
    return true;
  }

  [[nodiscard]] unsigned count() const noexcept { return count_; }
  [[nodiscard]] unsigned free_count() const noexcept { return free_count_; }
  [[nodiscard]] unsigned in_flight() const noexcept { return count_ - free_count_; }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool full() const noexcept { return free_count_ == 0; }

  // The id that take() will take; the pool must not be full. Does not take it.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE std::uint16_t next() noexcept {
    while (unusable(next_)) [[unlikely]] {
      ++next_;
    }
    return static_cast<std::uint16_t>(next_);
  }
  // Takes the id that next() returned last.
  PHASEBIT_ALWAYS_INLINE void take(const Token& token, std::uint32_t tick) noexcept {
    take(tick) = token;
  }
  // The same, with the token to be filled in by the caller: it contains an earlier id's token.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE Token& take(std::uint32_t tick) noexcept {
    const std::uint32_t number = next_;
    next_ = number + 1;
    --free_count_;
    slot& s = slots_[number & mask_];
    s.tick = tick;
    s.number = number;
    return s.token;
  }

  // Returns whether `id`, as received from the other side, is in flight.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool is_in_flight(std::uint16_t id) const noexcept {
    return static_cast<std::uint16_t>(slots_[id & mask_].number) == id;
  }
  // Whether an id in flight was taken since mark() gave `mark`.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool is_since(std::uint32_t mark,
                                                     std::uint16_t id) const noexcept {
    return static_cast<std::int32_t>(slots_[id & mask_].number - mark) >= 0;
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE std::uint32_t mark() const noexcept { return next_; }

  // Gives back an id in flight and returns its token, which stays there until the slot is taken again;
  // is_in_flight(id) must hold.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE const Token& release(std::uint16_t id) noexcept {
    slot& s = slots_[id & mask_];
    s.number = free_number(s.number);
    ++free_count_;
    return s.token;
  }
  // The same for any id: false, and nothing is changed, where it is not in flight.
  [[nodiscard]] bool try_release(std::uint16_t id, Token& token) noexcept {
    if (!is_in_flight(id)) return false;
    token = release(id);
    return true;
  }

  // The slot of an id, for tables that lie beside the pool: less than slot_count().
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE std::uint32_t slot_of(std::uint16_t id) const noexcept {
    return id & mask_;
  }
  [[nodiscard]] std::uint32_t slot_count() const noexcept { return mask_ + 1; }

  // Ticks since an id in flight was taken (modulo 2^32).
  [[nodiscard]] std::uint32_t age(std::uint16_t id, std::uint32_t tick) const noexcept {
    return tick - slots_[id & mask_].tick;
  }
  // Calls each(id) for the ids in flight, in the order of their slots; `each` takes and releases none.
  template <class Each>
  void for_each_in_flight(Each&& each) const noexcept {
    for (std::uint32_t i = 0; i <= mask_; ++i) {
      if (is_taken(i)) each(static_cast<std::uint16_t>(slots_[i].number));
    }
  }
  // Ends every id in flight, calling each(token, id), and leaves no ids at all: full() is true from
  // before the first call, so that none can be taken meanwhile.
  template <class Each>
  unsigned drain(Each&& each) noexcept {
    unsigned ended = 0;
    count_ = free_count_ = 0;
    for (std::uint32_t i = 0; i <= mask_; ++i) {
      if (!is_taken(i)) continue;
      const auto id = static_cast<std::uint16_t>(slots_[i].number);
      slots_[i].number = free_number(slots_[i].number);
      ++ended;
      Token token = slots_[i].token;
      each(token, id);
    }
    return ended;
  }
  // Takes the free ids away: full() is true. Ids in flight stay so until drain() ends them.
  void close() noexcept {
    count_ -= free_count_;
    free_count_ = 0;
  }

 private:
  // `number` counts the allocations; its low 16 bits are the id. The number of a free slot has its
  // lowest bit inverted: it then belongs to another slot, so that no id that selects this one
  // compares equal.
  struct slot {
    Token token{};
    std::uint32_t tick = 0;
    std::uint32_t number = 1;
  };

  [[nodiscard]] static constexpr std::uint32_t free_number(std::uint32_t number) noexcept {
    return number ^ 1U;
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool is_taken(std::uint32_t index) const noexcept {
    return ((slots_[index].number ^ index) & 1U) == 0;
  }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool unusable(std::uint32_t number) const noexcept {
    return is_taken(number & mask_) || static_cast<std::uint16_t>(number) == 0xffffU;
  }
  void take_over(tag_pool& other) noexcept {
    count_ = other.count_;
    free_count_ = other.free_count_;
    mask_ = other.mask_;
    next_ = other.next_;
    for (std::uint32_t i = 0; i <= mask_; ++i) slots_[i] = other.slots_[i];
    other.reset(0);
  }

  unsigned count_ = 0;
  unsigned free_count_ = 0;
  std::uint32_t mask_ = 1;
  std::uint32_t next_ = 0;
  std::array<slot, slots_for(MaxCount)> slots_;
};

}  // namespace phasebit::ring
