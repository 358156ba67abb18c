// SPDX-License-Identifier: BSL-1.0
// The device side of a hot-plug slot: what the slot registers of a downstream port show while a function
// is put in, powered, taken out or pulled. PCIe 5.0, 6.7.1 and 7.5.3.9 to 7.5.3.11.
#pragma once

#include <phasebit/pcie/spec/hotplug_capability.hpp>

#include <cstdint>

namespace phasebit::pcie {

// empty: nothing is there. off: a function is there without power. on: it is powered, and the link is
// up.
enum class slot_state : std::uint8_t { empty, off, on };

// The action that a call requires of the slot's owner.
struct slot_outcome {
  bool power_changed = false;  // link_up() is another than before
  bool interrupt = false;      // send the port's hot-plug interrupt

  constexpr slot_outcome& operator|=(slot_outcome other) noexcept {
    power_changed = power_changed || other.power_changed;
    interrupt = interrupt || other.interrupt;
    return *this;
  }
};

// One slot with attention button, power controller and both indicators, and no sensor of a latch.
// Commands complete at once. Software switches power on and off; a function that is pulled out
// takes the link down at once. One thread at a time.
class hotplug_slot {
 public:
  // The register is constant. `number` is the physical slot's, unique within the chassis.
  [[nodiscard]] static constexpr slot_capabilities capabilities(std::uint16_t number) noexcept {
    using c = slot_capabilities;
    return c{}
        .with(c::attention_button, true)
        .with(c::power_controller, true)
        .with(c::attention_indicator, true)
        .with(c::power_indicator, true)
        .with(c::hot_plug_surprise, true)
        .with(c::hot_plug_capable, true)
        .with(c::physical_slot_number, number);
  }

  [[nodiscard]] constexpr slot_state state() const noexcept {
    return !present_ ? slot_state::empty : control_[power_off] ? slot_state::off : slot_state::on;
  }
  // Whether requests pass: Data Link Layer Link Active of the port's Link Status register.
  [[nodiscard]] constexpr bool link_up() const noexcept { return state() == slot_state::on; }
  [[nodiscard]] constexpr slot_control control() const noexcept { return control_; }
  [[nodiscard]] constexpr slot_status status() const noexcept {
    return status_.with(slot_status::present, present_);
  }

  // A function is put into the empty slot.
  constexpr slot_outcome insert() noexcept {
    if (present_) return {};
    return change([&] {
      present_ = true;
      return slot_status{}.with(slot_status::presence_changed, true);
    });
  }
  // It is pulled out, with or without warning.
  constexpr slot_outcome remove() noexcept {
    if (!present_) return {};
    return change([&] {
      present_ = false;
      return slot_status{}.with(slot_status::presence_changed, true);
    });
  }
  // Asks software to release the function, or to take it in. It answers within some seconds by
  // switching power off or on, or not at all (6.7.1.5).
  constexpr slot_outcome press_attention_button() noexcept {
    return change([] { return slot_status{}.with(slot_status::attention_button_pressed, true); });
  }

  // Software's write to Slot Control. Each is a command, and completes.
  constexpr slot_outcome write_control(std::uint16_t value) noexcept {
    return change([&] {
      control_ = slot_control{static_cast<std::uint16_t>(value & writable)};
      return slot_status{}.with(slot_status::command_completed, true);
    });
  }
  // Software's write to Slot Status.
  constexpr void write_status(std::uint16_t value) noexcept {
    status_ = slot_status{
        static_cast<std::uint16_t>(status_.raw & ~(value & slot_status::write_one_to_clear))};
  }
  // As after a reset of the port: power is on where a function is there, and no event is pending.
  constexpr void reset() noexcept {
    control_ = {};
    status_ = {};
  }

 private:
  static constexpr auto power_off = slot_control::power_off;
  // All but Electromechanical Interlock Control, which this slot has not.
  static constexpr std::uint16_t writable = 0x17ff;

  // Applies a change of the slot, records the resulting events, and returns whether an interrupt is
  // due: when an enabled one becomes pending.
  template <class Change>
  constexpr slot_outcome change(Change&& apply) noexcept {
    const bool before = link_up();
    slot_status events = apply();
    slot_outcome outcome{};
    if (before != link_up()) {
      events = events.with(slot_status::link_state_changed, true);
      outcome.power_changed = true;
    }
    const auto fresh = static_cast<std::uint16_t>(events.raw & ~status_.raw);
    status_ = slot_status{static_cast<std::uint16_t>(status_.raw | events.raw)};
    // The enables of bits 4:0 are at the same places; that of bit 8 is at 12.
    const auto enabled = static_cast<std::uint16_t>(
        (control_.raw & 0x1f) | (control_[slot_control::link_state_enable] ? 0x100 : 0));
    outcome.interrupt = control_[slot_control::hot_plug_interrupt_enable] && (fresh & enabled) != 0;
    return outcome;
  }

  slot_control control_{};
  slot_status status_{};
  bool present_ = false;
};

}  // namespace phasebit::pcie
