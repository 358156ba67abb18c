// SPDX-License-Identifier: BSL-1.0
// Where a device model sends its interrupts.
#pragma once

#include <phasebit/pcie/spec/msi_message.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit {

// raise(vector) is called after everything that the interrupt reports is visible to the driver, once
// for all that was reported in one call of the model. `vector` is below the model's number of vectors.
// Masking and delivery are the sink's. It does not block, and does not call back into the model.
template <class T>
concept InterruptSink = requires(T& sink, std::uint16_t vector) {
  { sink.raise(vector) } noexcept;
};

// For models that build their messages from registers of their own, as a VT-d IOMMU does: `source`
// numbers the model's interrupts, the message is what the driver programmed for it.
template <class T>
concept MessageSink = requires(T& sink, std::uint16_t source, const pcie::msi_message& message) {
  { sink.send(source, message) } noexcept;
};

// Drops all interrupts: the driver polls.
struct no_interrupts {
  static constexpr void raise(std::uint16_t) noexcept {}
  static constexpr void send(std::uint16_t, const pcie::msi_message&) noexcept {}
};
static_assert(InterruptSink<no_interrupts>);
static_assert(MessageSink<no_interrupts>);

}  // namespace phasebit
