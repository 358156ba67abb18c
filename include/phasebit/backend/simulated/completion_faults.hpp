// SPDX-License-Identifier: BSL-1.0
// Carries out what a fault plan has for the completions of an NVMe controller.
#pragma once

#include <phasebit/backend/simulated/device_port.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/nvme/device/completion_filter.hpp>
#include <phasebit/nvme/spec/completion.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::backend::simulated {

// A CompletionFilter. Holds back up to `capacity` completions; beyond that they are posted at once.
// A completion that finds its queue full waits until an entry is free: only a plan loses one.
class completion_faults {
 public:
  static constexpr std::size_t capacity = 128;

  explicit completion_faults(fault_port faults) noexcept : faults_(faults) {}

  template <class Post>
  void complete(const nvme::device::outgoing_completion& c, Post&& post) noexcept {
    auto changed = c;
    const completion_action action = faults_.next_completion();
    const nvme::completion_dw3 last = c.entry.last();
    switch (action.fault) {
      case completion_fault::drop:
        return;
      case completion_fault::delay:
        if (hold(c, when::in_polls, action.argument)) return;
        break;
      case completion_fault::reorder:
        if (hold(c, when::after_next, patience)) return;
        break;
      case completion_fault::duplicate:
        emit(c, post);
        break;
      case completion_fault::wrong_id:
        changed.entry.dw3 = last.raw ^ (action.argument & 0xffff);
        break;
      case completion_fault::wrong_status:
        changed.entry.dw3 = last.with(nvme::completion_dw3::status_bits,
                                      static_cast<std::uint16_t>(action.argument & 0x7fff))
                                .raw;
        break;
      case completion_fault::wrong_phase:
        changed.entry.dw3 = last.raw ^ nvme::completion_dw3::phase_bit.mask<std::uint32_t>;
        break;
      case completion_fault::none:
        break;
    }
    emit(changed, post);
    overtaken(c.completion_queue, post);
  }

  template <class Post>
  void poll(Post&& post) noexcept {
    for (std::size_t i = 0; i < count_;) {
      if (held_[i].polls != 0) {
        --held_[i++].polls;
      } else if (post(held_[i].completion)) {
        drop(i);
      } else {
        ++i;
      }
    }
  }
  void reset() noexcept { count_ = 0; }

 private:
  // For a reordered completion that nothing follows.
  static constexpr std::uint32_t patience = 64;

  enum class when : std::uint8_t { in_polls, after_next };
  struct held {
    nvme::device::outgoing_completion completion{};
    when due = when::in_polls;
    std::uint32_t polls = 0;
  };

  [[nodiscard]] bool hold(const nvme::device::outgoing_completion& c, when due,
                          std::uint32_t polls) noexcept {
    if (count_ == capacity) return false;
    held_[count_++] = {c, due, polls};
    return true;
  }
  template <class Post>
  void emit(const nvme::device::outgoing_completion& c, Post& post) noexcept {
    // A completion that cannot be delayed either is lost; it is a duplicate.
    if (!post(c)) static_cast<void>(hold(c, when::in_polls, 0));
  }
  // One was posted: the reordered ones of that queue come after it.
  template <class Post>
  void overtaken(std::uint16_t queue, Post& post) noexcept {
    for (std::size_t i = 0; i < count_;) {
      if (held_[i].due == when::after_next && held_[i].completion.completion_queue == queue &&
          post(held_[i].completion)) {
        drop(i);
      } else {
        ++i;
      }
    }
  }
  void drop(std::size_t i) noexcept {
    for (; i + 1 != count_; ++i) held_[i] = held_[i + 1];
    --count_;
  }

  fault_port faults_;
  std::array<held, capacity> held_{};
  std::size_t count_ = 0;
};
static_assert(nvme::device::CompletionFilter<completion_faults>);

}  // namespace phasebit::backend::simulated
