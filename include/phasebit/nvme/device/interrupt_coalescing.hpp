// SPDX-License-Identifier: BSL-1.0
// How many completions an interrupt of a vector waits for: NVMe Base 2.0, sections 5.27.1.6 and
// 5.27.1.7.
#pragma once

#include <phasebit/nvme/spec/features.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::nvme::device {

// Policy::coalescing: every vector is raised at the end of the round that posted completions.
struct no_coalescing {
  static constexpr bool present = false;
  struct saved {};
};

// Policy::coalescing of a controller whose vectors below Vectors wait for THR + 1 completions or
// for TIME, whichever comes first, unless Interrupt Vector Configuration disables that. Vector 0 is
// the admin queue's and never waits. An interrupt that is still pending when a round finds no work
// is raised at once, so that a program that never reports time loses no interrupt.
template <std::size_t Vectors>
class interrupt_coalescing_of {
  static_assert(Vectors >= 1 && Vectors <= 2048, "MSI-X has 1 to 2048 vectors");

 public:
  static constexpr bool present = true;
  struct saved {
    std::array<std::uint32_t, (Vectors + 31) / 32> disabled{};
  };

  void reset() noexcept {
    disabled_ = {};
    waiting_ = {};
    elapsed_us_ = 0;
  }
  [[nodiscard]] bool disabled(std::uint16_t vector) const noexcept {
    return vector == 0 || vector >= Vectors || (disabled_[vector / 32] >> (vector % 32) & 1U) != 0;
  }
  void disable(std::uint16_t vector, bool off) noexcept {
    if (vector >= Vectors) return;
    const std::uint32_t bit = std::uint32_t{1} << (vector % 32);
    disabled_[vector / 32] = off ? disabled_[vector / 32] | bit : disabled_[vector / 32] & ~bit;
  }
  void posted(std::uint16_t vector) noexcept {
    if (vector < Vectors && waiting_[vector] != 0xffff) ++waiting_[vector];
  }
  void advance(std::uint32_t milliseconds) noexcept {
    const std::uint64_t sum = elapsed_us_ + std::uint64_t{milliseconds} * 1000;
    elapsed_us_ = sum > 0xffff'ffff ? 0xffff'ffffU : static_cast<std::uint32_t>(sum);
  }
  // Whether the vector is raised now. `idle`: the round found nothing to do.
  [[nodiscard]] bool due(std::uint16_t vector, std::uint32_t feature, bool idle) const noexcept {
    const nvme::interrupt_coalescing f{feature};
    const std::uint32_t time = f[nvme::interrupt_coalescing::time];
    if (disabled(vector) || idle || time == 0) return true;
    return waiting_[vector] > f[nvme::interrupt_coalescing::thr] || elapsed_us_ >= time * 100;
  }
  void raised(std::uint16_t vector) noexcept {
    if (vector < Vectors) waiting_[vector] = 0;
    elapsed_us_ = 0;
  }

  [[nodiscard]] saved save() const noexcept { return {disabled_}; }
  void restore(const saved& from) noexcept {
    reset();
    disabled_ = from.disabled;
  }

 private:
  std::array<std::uint32_t, (Vectors + 31) / 32> disabled_{};
  std::array<std::uint16_t, Vectors> waiting_{};
  std::uint32_t elapsed_us_ = 0;  // since the last interrupt
};

}  // namespace phasebit::nvme::device
