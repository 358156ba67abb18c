// SPDX-License-Identifier: BSL-1.0
// Faults to inject, and their times. For tests of drivers: every fault that a device, a cable or an
// IOMMU produces, at the same place in every run.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/expects.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::backend::simulated {

// The faults of a completion.
enum class completion_fault : std::uint8_t {
  none,
  drop,          // never posted
  delay,         // posted `argument` polls of the device later
  reorder,       // posted after the next one (or after a while, where none follows)
  duplicate,     // posted twice
  wrong_id,      // the command id is XORed with `argument`
  wrong_status,  // the status field (phase bit not counted) becomes `argument`
  wrong_phase,   // posted with the phase of the lap before: a driver does not see it
};

struct completion_action {
  completion_fault fault = completion_fault::none;
  std::uint32_t argument = 0;

  friend bool operator==(completion_action, completion_action) noexcept = default;
};

// Bits of a 32-bit register of the device's register BAR that always read as `value`: a device that
// hangs.
struct stuck_bits {
  std::uint32_t offset = 0;
  std::uint32_t mask = 0;
  std::uint32_t value = 0;

  friend bool operator==(stuck_bits, stuck_bits) noexcept = default;
};

// A list of faults, built by its user and handed to a function (function::inject), which counts
// completions, DMA translations and polls from that moment, each from 0. A value; does nothing by
// itself, and an empty one is a device without faults. The same plan and the same workload give
// the same faults in single-step mode.
class fault_plan {
 public:
  static constexpr std::size_t capacity = 32;  // entries of each kind

  // The `nth` completion that the device posts.
  constexpr fault_plan& completion(std::uint64_t nth, completion_fault fault,
                                   std::uint32_t argument = 1) noexcept {
    PHASEBIT_EXPECTS(scripted_count_ != capacity, "more completion faults than a plan holds");
    scripted_[scripted_count_++] = {nth, {fault, argument}};
    return *this;
  }
  // About one completion in `one_in` (at least 1) meets `fault`, chosen by `seed`. May be given for
  // several faults; scripted ones come first.
  constexpr fault_plan& sometimes(completion_fault fault, std::uint32_t one_in, std::uint64_t seed,
                                  std::uint32_t argument = 1) noexcept {
    PHASEBIT_EXPECTS(one_in != 0, "one completion in none");
    PHASEBIT_EXPECTS(random_count_ != capacity, "more random faults than a plan holds");
    random_[random_count_++] = {one_in, seed, {fault, argument}};
    return *this;
  }
  // `count` DMA translations from the `nth` on end with `reason`, and are recorded as faults.
  constexpr fault_plan& fail_dma(std::uint64_t nth, std::uint64_t count = 1,
                                 errc reason = errc::access_denied) noexcept {
    PHASEBIT_EXPECTS(dma_count_ != capacity, "more DMA faults than a plan holds");
    dma_[dma_count_++] = {nth, count, reason};
    return *this;
  }
  // Every translation that touches one of these bytes, likewise.
  constexpr fault_plan& fail_dma_at(bus_addr begin, std::uint64_t bytes,
                                    errc reason = errc::not_mapped) noexcept {
    PHASEBIT_EXPECTS(hole_count_ != capacity, "more DMA faults than a plan holds");
    holes_[hole_count_++] = {begin, bytes, reason};
    return *this;
  }
  constexpr fault_plan& stick(stuck_bits bits) noexcept {
    PHASEBIT_EXPECTS(stuck_count_ != capacity, "more stuck registers than a plan holds");
    stuck_[stuck_count_++] = bits;
    return *this;
  }
  // The function is pulled out as it is about to post its `nth` completion, or at its `nth` poll.
  constexpr fault_plan& remove_at_completion(std::uint64_t nth) noexcept {
    remove_at_completion_ = nth;
    return *this;
  }
  constexpr fault_plan& remove_at_poll(std::uint64_t nth) noexcept {
    remove_at_poll_ = nth;
    return *this;
  }

 private:
  friend class fault_state;

  struct scripted {
    std::uint64_t nth = 0;
    completion_action action{};
  };
  struct random {
    std::uint32_t one_in = 1;
    std::uint64_t seed = 0;
    completion_action action{};
  };
  struct dma {
    std::uint64_t nth = 0;
    std::uint64_t count = 0;
    errc reason = errc::access_denied;
  };
  struct hole {
    bus_addr begin{};
    std::uint64_t bytes = 0;
    errc reason = errc::not_mapped;
  };

  std::array<scripted, capacity> scripted_{};
  std::array<random, capacity> random_{};
  std::array<dma, capacity> dma_{};
  std::array<hole, capacity> holes_{};
  std::array<stuck_bits, capacity> stuck_{};
  std::size_t scripted_count_ = 0;
  std::size_t random_count_ = 0;
  std::size_t dma_count_ = 0;
  std::size_t hole_count_ = 0;
  std::size_t stuck_count_ = 0;
  std::optional<std::uint64_t> remove_at_completion_;
  std::optional<std::uint64_t> remove_at_poll_;
};

// How much of each kind a function has met since its plan was injected.
struct fault_counts {
  std::uint64_t completions = 0;         // seen, faulty or not
  std::uint64_t faulty_completions = 0;  // of those
  std::uint64_t translations = 0;        // seen, faulty or not
  std::uint64_t failed_translations = 0;

  friend bool operator==(const fault_counts&, const fault_counts&) noexcept = default;
};

// A plan being carried out. Device side only, one thread at a time.
class fault_state {
 public:
  constexpr fault_state() noexcept = default;
  constexpr explicit fault_state(const fault_plan& plan) noexcept : plan_(plan) {}

  // The fault of the completion that is about to be posted.
  [[nodiscard]] constexpr completion_action next_completion() noexcept {
    const std::uint64_t nth = counts_.completions++;
    completion_action action{};
    for (std::size_t i = 0; i != plan_.random_count_; ++i) {
      auto& random = plan_.random_[i];
      if (draw(random.seed) % random.one_in == 0 && action.fault == completion_fault::none) {
        action = random.action;
      }
    }
    for (std::size_t i = 0; i != plan_.scripted_count_; ++i) {
      if (plan_.scripted_[i].nth == nth) action = plan_.scripted_[i].action;
    }
    if (action.fault != completion_fault::none) ++counts_.faulty_completions;
    return action;
  }
  // Why the translation that is about to be made fails; nothing where it does not.
  [[nodiscard]] constexpr std::optional<errc> next_translation(bus_addr begin,
                                                               std::uint64_t bytes) noexcept {
    const std::uint64_t nth = counts_.translations++;
    for (std::size_t i = 0; i != plan_.dma_count_; ++i) {
      const auto& dma = plan_.dma_[i];
      if (nth >= dma.nth && nth - dma.nth < dma.count) {
        ++counts_.failed_translations;
        return dma.reason;
      }
    }
    for (std::size_t i = 0; i != plan_.hole_count_; ++i) {
      const auto& hole = plan_.holes_[i];
      if (begin - hole.begin < hole.bytes || hole.begin - begin < bytes) {
        ++counts_.failed_translations;
        return hole.reason;
      }
    }
    return std::nullopt;
  }
  [[nodiscard]] constexpr std::uint32_t seen(std::uint32_t offset,
                                             std::uint32_t value) const noexcept {
    for (std::size_t i = 0; i != plan_.stuck_count_; ++i) {
      const stuck_bits& bits = plan_.stuck_[i];
      if (bits.offset == offset) value = (value & ~bits.mask) | (bits.value & bits.mask);
    }
    return value;
  }
  // Returns true once, when it is time to pull the function out.
  [[nodiscard]] constexpr bool removed_before_completion() noexcept {
    return is_time(plan_.remove_at_completion_, counts_.completions);
  }
  [[nodiscard]] constexpr bool removed_before_poll() noexcept {
    return is_time(plan_.remove_at_poll_, polls_++);
  }
  [[nodiscard]] constexpr const fault_counts& counts() const noexcept { return counts_; }

 private:
  static constexpr bool is_time(std::optional<std::uint64_t>& at, std::uint64_t now) noexcept {
    if (!at || now < *at) return false;
    at.reset();
    return true;
  }
  // splitmix64: any seed is a good one, and it is the same everywhere.
  static constexpr std::uint64_t draw(std::uint64_t& state) noexcept {
    std::uint64_t z = state += 0x9e37'79b9'7f4a'7c15;
    z = (z ^ z >> 30) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ z >> 27) * 0x94d0'49bb'1331'11eb;
    return z ^ z >> 31;
  }

  fault_plan plan_{};
  fault_counts counts_{};
  std::uint64_t polls_ = 0;
};

}  // namespace phasebit::backend::simulated
