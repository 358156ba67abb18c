// SPDX-License-Identifier: BSL-1.0
// Shadow doorbells: the driver leaves its index in memory, and a controller in software says by an
// event index how far it may go before it has to be woken. NVMe Base 2.0, 5.8 and annex B.5.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>
#include <type_traits>

namespace phasebit::nvme {

// Whether a move from `old_index` to `new_index` passes the point at which the controller wants to be
// told. All three wrap at 2^16.
[[nodiscard]] constexpr bool event_due(std::uint16_t event_index, std::uint16_t new_index,
                                       std::uint16_t old_index) noexcept {
  return static_cast<std::uint16_t>(new_index - event_index - 1) <
         static_cast<std::uint16_t>(new_index - old_index);
}

// One word for the index and one for the event index, both in memory that the controller polls;
// `Sink` is the register it falls back on. The entry is stored before the shadow, and the shadow
// before the event index is read: if either were turned around, both sides could fall asleep.
template <DoorbellSink Sink, RingOrder Order>
class shadow_doorbell {
 public:
  shadow_doorbell() noexcept = default;
  // `shadow` and `event_index` are this doorbell's words in the two Doorbell Buffer Config pages.
  shadow_doorbell(le<std::uint32_t>& shadow, const le<std::uint32_t>& event_index,
                  Sink sink) noexcept
      : shadow_(&shadow), event_index_(&event_index), sink_(sink) {}

  void ring(std::uint32_t value) noexcept {
    const auto old = static_cast<std::uint16_t>(old_);
    old_ = value;
    Order::store(*shadow_, le<std::uint32_t>{value});
    Order::full();
    const std::uint32_t event = Order::load(*event_index_).get();
    if (event_due(static_cast<std::uint16_t>(event), static_cast<std::uint16_t>(value), old)) {
      sink_.ring(value);
    }
  }

 private:
  le<std::uint32_t>* shadow_ = nullptr;
  const le<std::uint32_t>* event_index_ = nullptr;
  std::uint32_t old_ = 0;
  [[no_unique_address]] Sink sink_{};
};

// Counts instead of telling anyone: for tests, and for engines that are polled.
class counting_doorbell {
 public:
  void ring(std::uint32_t value) noexcept {
    last_ = value;
    ++count_;
  }
  [[nodiscard]] std::uint32_t last() const noexcept { return last_; }
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

 private:
  std::uint32_t last_ = 0;
  std::uint64_t count_ = 0;
};
static_assert(DoorbellSink<counting_doorbell>);
static_assert(DoorbellSink<shadow_doorbell<counting_doorbell, thread_order>>);

}  // namespace phasebit::nvme
