// SPDX-License-Identifier: BSL-1.0
// Selects the submission queue to serve next, and the number of commands: NVMe Base 2.0, section
// 3.4.4.
#pragma once

#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/features.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::device {

// Policy::arbitration: every queue in turn, each for a burst.
struct round_robin {
  static constexpr bool weighted = false;
  struct saved {};
};

// Policy::arbitration: the admin queue, then urgent queues, then three classes by their weights, as the
// Arbitration feature has them. CC.AMS selects it; a host that does not gets round robin.
//
// Each call of the controller's poll() is one round: urgent queues have a burst each, and while any of
// them has more, no other class is served. Otherwise each class has as many commands as its weight,
// shared among its queues in turn, a burst of 2^AB at most at a time.
class weighted_round_robin {
 public:
  static constexpr bool weighted = true;
  struct saved {};

  // serve(qid, commands) serves queue `qid` for at most so many commands, and returns how many there
  // were; priority(qid) is that of a queue that exists, more(qid) whether it holds commands still.
  template <class Exists, class Priority, class Serve, class More>
  void round(std::uint16_t highest, std::uint32_t features, unsigned burst, Exists exists,
             Priority priority, Serve serve, More more) noexcept {
    const nvme::arbitration a{features};
    const unsigned exponent = a[arbitration::ab];
    // 7 is no limit; the controller's own holds then.
    const unsigned at_once = exponent == 7 || 1U << exponent > burst ? burst : 1U << exponent;
    bool urgent = false;
    for (std::uint16_t q = 1; q <= highest; ++q) {
      if (!exists(q) || priority(q) != queue_priority::urgent) continue;
      serve(q, at_once);
      urgent = urgent || more(q);
    }
    if (urgent) return;
    const std::array<unsigned, 3> weights{a[arbitration::hpw] + 1U, a[arbitration::mpw] + 1U,
                                          a[arbitration::lpw] + 1U};
    for (std::size_t c = 0; c != weights.size(); ++c) {
      const auto wanted = static_cast<queue_priority>(c + 1);
      unsigned left = weights[c];
      // Each queue of the class once, from the one behind the last that was served.
      for (std::uint16_t n = 0; n != highest && left != 0; ++n) {
        next_[c] =
            next_[c] >= highest ? std::uint16_t{1} : static_cast<std::uint16_t>(next_[c] + 1);
        const std::uint16_t q = next_[c];
        if (!exists(q) || priority(q) != wanted) continue;
        const unsigned served = serve(q, left < at_once ? left : at_once);
        left -= served < left ? served : left;
      }
    }
  }

 private:
  std::array<std::uint16_t, 3> next_{};
};

}  // namespace phasebit::nvme::device
