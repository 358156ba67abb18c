// SPDX-License-Identifier: BSL-1.0
// Doorbell sinks: how one side of a ring notifies the other that its index has moved. Registers are sinks
// of their backend; here are those that lie in memory.
#pragma once

#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/ring/event_index.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit {

// Notifies the other side of a new ring index. All earlier loads and stores are complete, as the other
// side sees it, before the value arrives: the sink contains the fence, rings add none. Does not
// block and cannot fail (a removed device ignores it). One thread per sink.
template <class T>
concept DoorbellSink = requires(T& sink, std::uint32_t value) {
  { sink.ring(value) } noexcept -> std::same_as<void>;
};

}  // namespace phasebit

namespace phasebit::ring {

// Shadow doorbells: the driver stores its index in memory that the controller polls, and the controller
// publishes an event index up to which it needs no register write. NVMe Base 2.0, 5.8 and annex B.5.
//
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
    const std::uint32_t event = snapshot(*event_index_).get();
    if (need_event(static_cast<std::uint16_t>(event), static_cast<std::uint16_t>(value), old)) {
      sink_.ring(value);
    }
  }

 private:
  le<std::uint32_t>* shadow_ = nullptr;
  const le<std::uint32_t>* event_index_ = nullptr;
  std::uint32_t old_ = 0;
  [[no_unique_address]] Sink sink_{};
};

// Counts its calls and notifies no one: for tests, and for engines that are polled.
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

}  // namespace phasebit::ring
