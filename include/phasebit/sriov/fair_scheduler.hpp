// SPDX-License-Identifier: BSL-1.0
// Selects the function to serve next: shares in proportion to weights, whatever the size of each
// request.
#pragma once

#include <phasebit/core/expects.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::sriov {

// Deficit round robin over Count functions, with the cost charged after the service (surplus round
// robin), so that costs need not be known before. A function that has work is activated and takes its
// turn; in each round it may use `quantum` times its weight, and what it overdraws is taken off its
// next rounds. No active function waits longer than one round of the others. A turn costs the same for
// any number of functions, but for those that must be passed by because they overdrew or are held back.
// Thread safety: none.
template <std::size_t Count>
class fair_scheduler {
  static_assert(Count >= 1 && Count < 65535);

 public:
  static constexpr std::uint16_t none = 0xffff;

  // `quantum` is in the units of cost, such as bytes; about the largest request is right. A smaller one
  // is finer, and takes more passing by.
  constexpr explicit fair_scheduler(std::uint32_t quantum) noexcept : quantum_(quantum) {
    PHASEBIT_EXPECTS(quantum >= 1 && quantum <= 0x0fff'ffff, "a quantum of 1 to 2^28 - 1");
    for (function& f : functions_) f = {};
  }

  // 1 to 255.
  constexpr void set_weight(std::uint16_t f, std::uint8_t weight) noexcept {
    PHASEBIT_EXPECTS(f < Count && weight >= 1, "a weight is 1 to 255");
    functions_[f].weight = weight;
  }
  [[nodiscard]] constexpr bool active(std::uint16_t f) const noexcept {
    return functions_[f].next != none;
  }
  // The function has work. Nothing happens where it is active.
  constexpr void activate(std::uint16_t f) noexcept {
    PHASEBIT_EXPECTS(f < Count, "no such function");
    if (active(f)) return;
    function& mine = functions_[f];
    // It keeps what it overdrew and brings no credit along: idling saves nothing up.
    if (mine.deficit > 0) mine.deficit = 0;
    if (current_ == none) {
      mine.next = mine.previous = f;
      current_ = f;
      in_turn_ = false;
      active_ = 1;
      return;
    }
    // At the end of the round: just before the one whose turn it is.
    function& now = functions_[current_];
    mine.next = current_;
    mine.previous = now.previous;
    functions_[now.previous].next = f;
    now.previous = f;
    ++active_;
  }
  // The function has no more work.
  constexpr void deactivate(std::uint16_t f) noexcept {
    PHASEBIT_EXPECTS(f < Count, "no such function");
    if (!active(f)) return;
    function& mine = functions_[f];
    --active_;
    if (mine.next == f) {
      current_ = none;
    } else {
      functions_[mine.previous].next = mine.next;
      functions_[mine.next].previous = mine.previous;
      if (current_ == f) {
        current_ = mine.next;
        in_turn_ = false;
      }
    }
    mine.next = mine.previous = none;
  }

  // The function to serve, or `none` where none is active or all are delayed. `may_serve(f)`
  // returns whether the function conforms to its limits at the moment; one that does not is skipped
  // and gets no credit for it.
  template <std::predicate<std::uint16_t> MayServe>
  [[nodiscard]] constexpr std::uint16_t next(MayServe&& may_serve) noexcept {
    if (current_ == none) return none;
    for (std::uint16_t held_back = 0; held_back != active_;) {
      function& f = functions_[current_];
      if (!may_serve(current_)) {
        ++held_back;
        if (f.deficit > 0) f.deficit = 0;
      } else {
        held_back = 0;
        if (!in_turn_) f.deficit += std::int64_t{quantum_} * f.weight;
        in_turn_ = true;
        if (f.deficit > 0) return current_;
      }
      current_ = f.next;
      in_turn_ = false;
    }
    return none;
  }
  [[nodiscard]] constexpr std::uint16_t next() noexcept {
    return next([](std::uint16_t) noexcept { return true; });
  }
  // The function was served at this cost.
  constexpr void charge(std::uint16_t f, std::uint32_t cost) noexcept {
    PHASEBIT_EXPECTS(f < Count, "no such function");
    functions_[f].deficit -= cost;
  }

 private:
  struct function {
    std::int64_t deficit = 0;  // what it may still use in this round; negative is overdrawn
    std::uint16_t next = none;
    std::uint16_t previous = none;
    std::uint8_t weight = 1;
  };

  std::array<function, Count> functions_;
  std::uint32_t quantum_;
  std::uint16_t current_ = none;
  std::uint16_t active_ = 0;
  bool in_turn_ = false;  // the current one has had its share of this round
};

}  // namespace phasebit::sriov
