// SPDX-License-Identifier: BSL-1.0
// Clocks of a machine without an operating system.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/ordering.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::backend::mmio {

// For a machine without a timer: each turn of a polling loop counts as a fixed time. A turn reads at least
// one device register, which takes about a microsecond over PCIe; time-outs are as accurate as that
// estimate.
template <std::uint32_t NanosecondsPerTurn = 1000>
class turn_clock {
  static_assert(NanosecondsPerTurn != 0, "a turn that takes no time ends no time-out");

 public:
  [[nodiscard]] std::uint64_t now() const noexcept { return now_; }
  void relax() noexcept {
    cpu_relax();
    now_ += NanosecondsPerTurn;
  }

 private:
  std::uint64_t now_ = 0;
};
static_assert(PollClock<turn_clock<>>);

// A counter of the machine's: read() returns it, unsigned, counting up TicksPerSecond. One of 32 bits
// may wrap, as long as now() is called once per turn of it; nothing is divided at run time. Within one
// part in 2^32 of the counter. One thread at a time.
template <auto Read, std::uint64_t TicksPerSecond>
  requires std::unsigned_integral<decltype(Read())>
class tick_clock {
  static_assert(TicksPerSecond != 0);
  static constexpr std::uint64_t second = 1'000'000'000;
  // Nanoseconds per tick: whole ones, and 2^-32 of one.
  static constexpr std::uint64_t whole = second / TicksPerSecond;
  static constexpr std::uint64_t part = []() consteval {
    std::uint64_t remaining = second % TicksPerSecond;
    std::uint64_t bits = 0;
    for (int i = 0; i != 32; ++i) {  // long division, because remaining << 32 may be too large
      const bool over = remaining >> 63 != 0 || remaining << 1 >= TicksPerSecond;
      remaining = over ? (remaining << 1) - TicksPerSecond : remaining << 1;
      bits = bits << 1 | static_cast<std::uint64_t>(over);
    }
    return bits;
  }();

 public:
  tick_clock() noexcept : last_(Read()) {}

  [[nodiscard]] std::uint64_t now() noexcept {
    const auto ticks = Read();
    elapsed_ += static_cast<decltype(ticks)>(ticks - last_);
    last_ = ticks;
    return elapsed_ * whole + (elapsed_ >> 32) * part + ((elapsed_ & 0xffff'ffff) * part >> 32);
  }
  void relax() noexcept { cpu_relax(); }

 private:
  decltype(Read()) last_;
  std::uint64_t elapsed_ = 0;
};

}  // namespace phasebit::backend::mmio
