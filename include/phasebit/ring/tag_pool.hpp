// SPDX-License-Identifier: BSL-1.0
// Command identifiers: who has which, and what the driver remembers meanwhile.
#pragma once

#include <phasebit/core/expects.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace phasebit::ring {

// Ids 0 .. count-1, taken and given back in O(1), the one given back last first (it is still in
// the cache). Each id in flight keeps a Token, and the tick at which it was taken. No memory but
// its own; lies outside of what the device can reach. One thread at a time.
template <class Token, unsigned MaxCount>
class tag_pool {
  static_assert(MaxCount >= 1 && MaxCount <= 65535, "FFFFh is no command id (Base 2.0, 3.3.3.1)");
  static_assert(std::is_trivially_copyable_v<Token>, "a token is copied without anyone being told");

 public:
  static constexpr unsigned capacity = MaxCount;

  tag_pool() noexcept { reset(0); }

  // All ids free, `count` of them. At most MaxCount.
  void reset(unsigned count) noexcept {
    PHASEBIT_EXPECTS(count <= MaxCount, "more ids than there is room for");
    count_ = free_count_ = count;
    for (unsigned i = 0; i != MaxCount; ++i) {
      free_[i] = static_cast<std::uint16_t>(count - 1 - i);
      slots_[i] = {};
    }
  }

  [[nodiscard]] unsigned count() const noexcept { return count_; }
  [[nodiscard]] unsigned free_count() const noexcept { return free_count_; }
  [[nodiscard]] unsigned in_flight() const noexcept { return count_ - free_count_; }
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool full() const noexcept { return free_count_ == 0; }

  // The id that take() gives next; there must be one. Looking does not take it.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE std::uint16_t next() const noexcept {
    return free_[free_count_ - 1];
  }
  // Takes next().
  PHASEBIT_ALWAYS_INLINE void take(const Token& token, std::uint32_t tick) noexcept {
    slot& s = slots_[free_[--free_count_]];
    s.token = token;
    s.tick = tick;
    s.in_flight = true;
  }

  // Whether `id`, as the device wrote it, is a command that it owes us.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE bool is_in_flight(std::uint16_t id) const noexcept {
    return id < count_ && slots_[id].in_flight;
  }
  // Gives an owed id back and says what was remembered.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE Token release(std::uint16_t id) noexcept {
    slot& s = slots_[id];
    s.in_flight = false;
    free_[free_count_++] = id;
    return s.token;
  }

  // How many ticks ago an owed id was taken (modulo 2^32).
  [[nodiscard]] std::uint32_t age(std::uint16_t id, std::uint32_t tick) const noexcept {
    return tick - slots_[id].tick;
  }
  // Calls each(id) for the ids in flight, in ascending order; `each` does not take or release any.
  template <class Each>
  void for_each_in_flight(Each&& each) const noexcept {
    for (unsigned id = 0; id != count_; ++id) {
      if (slots_[id].in_flight) each(static_cast<std::uint16_t>(id));
    }
  }
  // Ends every id in flight, calling each(token, id), and leaves no ids at all: full() is true
  // from before the first call on, so that nothing can be taken meanwhile.
  template <class Each>
  unsigned drain(Each&& each) noexcept {
    const unsigned count = count_;
    unsigned ended = 0;
    count_ = free_count_ = 0;
    for (unsigned id = 0; id != count; ++id) {
      if (!slots_[id].in_flight) continue;
      slots_[id].in_flight = false;
      ++ended;
      Token token = slots_[id].token;
      each(token, static_cast<std::uint16_t>(id));
    }
    return ended;
  }

 private:
  struct slot {
    Token token{};
    std::uint32_t tick = 0;
    bool in_flight = false;
  };

  unsigned count_ = 0;
  unsigned free_count_ = 0;
  std::array<std::uint16_t, MaxCount> free_;
  std::array<slot, MaxCount> slots_;
};

}  // namespace phasebit::ring
