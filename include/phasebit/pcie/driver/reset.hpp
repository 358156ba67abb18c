// SPDX-License-Identifier: BSL-1.0
// Function-level reset: a function forgets everything but its place on the bus. PCIe 5.0, 6.6.2.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/bar.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <array>
#include <cstdint>

namespace phasebit::pcie {

// The time that a function has to finish its reset (6.6.2): it is left alone for so long.
inline constexpr std::uint64_t reset_wait_ns = 100 * nanoseconds_per_ms;

// Resets the function, waits, and puts its BARs, command and device control back. Interrupts stay
// off and, for a physical function, virtual ones with them. The driver has stopped its work: what is
// in flight is lost. Errors: not_supported, removed (it does not answer afterwards), and those of
// find_capability.
template <ConfigSpace Config, PollClock Clock>
[[nodiscard]] result<> function_level_reset(Config& config, Clock& clock) noexcept {
  const auto at = find_capability(config, capability_id::pci_express);
  if (!at) {
    return at.error().code == errc::not_found
               ? failure(errc::not_supported, "only a PCI Express function can be reset alone")
               : at.error();
  }
  const auto reg = [&](unsigned offset) { return static_cast<std::uint16_t>(*at + offset); };
  const device_capabilities can{config.read32(reg(express::device_capabilities))};
  if (!can[device_capabilities::function_level_reset]) {
    return failure(errc::not_supported, "the function does not know function-level reset");
  }

  const command_register command = read_command(config);
  const device_control control{config.read16(reg(express::device_control))};
  std::array<std::uint32_t, type0_bars> bars{};
  for (unsigned i = 0; i != type0_bars; ++i) {
    bars[i] = config.read32(static_cast<std::uint16_t>(header::bar0 + 4 * i));
  }

  // No new requests from here on, so that none is cut off in the middle.
  set_command(config, command.with(command_register::bus_master, false));
  config.write16(reg(express::device_control),
                 control.with(device_control::initiate_function_level_reset, true).raw);
  (void)poll_until(clock, reset_wait_ns, [] { return false; });
  if (is_removed(config)) {
    return failure(errc::removed, "the function does not answer after its reset");
  }

  for (unsigned i = 0; i != type0_bars; ++i) {
    config.write32(static_cast<std::uint16_t>(header::bar0 + 4 * i), bars[i]);
  }
  config.write16(reg(express::device_control),
                 control.with(device_control::initiate_function_level_reset, false).raw);
  set_command(config, command);
  return {};
}

}  // namespace phasebit::pcie
