// SPDX-License-Identifier: BSL-1.0
// Time as drivers of simulated functions see it.
#pragma once

#include <phasebit/backend/simulated/detail/fabric_state.hpp>
#include <phasebit/core/clock.hpp>

#include <cstdint>
#include <thread>

namespace phasebit::backend::simulated {

// Single-step mode: time is a number, and each relax() is one step of the fabric; a time-out of
// half a minute is over at once (time runs faster while devices do nothing), and at the same step
// in every run. Threaded mode: real time, and
// relax() gives the processor to the device threads. The two have different origins.
class fabric_clock {
 public:
  [[nodiscard]] std::uint64_t now() const noexcept { return fabric_->now(); }
  void relax() noexcept {
    if (!fabric_->threaded) {
      static_cast<void>(fabric_->step());
    } else {
      std::this_thread::yield();
    }
  }

 private:
  friend class fabric;
  explicit fabric_clock(detail::fabric_state& fabric) noexcept : fabric_(&fabric) {}

  detail::fabric_state* fabric_;
};
static_assert(PollClock<fabric_clock>);

}  // namespace phasebit::backend::simulated
