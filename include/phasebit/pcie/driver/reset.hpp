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
// How long a function may answer with Configuration Request Retry Status after that. Devices exist
// that need tens of seconds.
inline constexpr std::uint64_t reset_ready_ns = 60'000 * nanoseconds_per_ms;

// The Advanced Features capability, offsets from it (Advanced Capabilities for Conventional PCI ECN):
// the function-level reset of functions without a PCI Express capability.
namespace advanced_features {

inline constexpr std::uint16_t capabilities = 0x03;
inline constexpr std::uint16_t control = 0x04;
inline constexpr std::uint16_t status = 0x05;
inline constexpr std::uint8_t transactions_pending = 1 << 0;  // in capabilities and status
inline constexpr std::uint8_t function_level_reset = 1 << 1;  // in capabilities
inline constexpr std::uint8_t initiate = 1 << 0;              // in control

}  // namespace advanced_features

namespace detail {

// Where a function's reset is started, and where it reports requests that are still on their way.
struct reset_registers {
  bool advanced_features = false;
  std::uint16_t capability = 0;
};

template <ConfigSpace Config>
[[nodiscard]] result<reset_registers> find_reset(Config& config) noexcept {
  const auto express_at = find_capability(config, capability_id::pci_express);
  if (express_at) {
    const device_capabilities can{
        config.read32(static_cast<std::uint16_t>(*express_at + express::device_capabilities))};
    if (can[device_capabilities::function_level_reset]) return reset_registers{false, *express_at};
  } else if (express_at.error().code != errc::not_found) {
    return express_at.error();
  }
  const auto at = find_capability(config, capability_id::advanced_features);
  if (at) {
    const std::uint8_t can =
        config.read8(static_cast<std::uint16_t>(*at + advanced_features::capabilities));
    if ((can & advanced_features::function_level_reset) != 0) return reset_registers{true, *at};
  } else if (at.error().code != errc::not_found) {
    return at.error();
  }
  return failure(errc::not_supported, "the function has no function-level reset");
}

}  // namespace detail

// Resets the function, waits, and puts its BARs, command and device control back. Interrupts stay
// off and, for a physical function, its virtual functions with them. The driver has stopped its work:
// what is in flight is lost. Waits up to 100 ms for requests on their way, 100 ms for the reset, and
// up to `ready_ns` as long as the function requests retries or does not answer. Errors:
// not_supported, removed (it does not answer in that time), and those of find_capability.
template <ConfigSpace Config, PollClock Clock>
[[nodiscard]] result<> function_level_reset(Config& config, Clock& clock,
                                            std::uint64_t ready_ns = reset_ready_ns) noexcept {
  const auto found = detail::find_reset(config);
  if (!found) return found.error();
  const auto reg = [&](unsigned offset) {
    return static_cast<std::uint16_t>(found->capability + offset);
  };
  const bool advanced = found->advanced_features;

  const command_register command = read_command(config);
  device_control control{};
  if (!advanced) control = device_control{config.read16(reg(express::device_control))};
  std::array<std::uint32_t, type0_bars> bars{};
  for (unsigned i = 0; i != type0_bars; ++i) {
    bars[i] = config.read32(static_cast<std::uint16_t>(header::bar0 + 4 * i));
  }

  // No new requests from here on, so that none is cut off in the middle.
  set_command(config, command.with(command_register::bus_master, false));
  (void)poll_until(clock, reset_wait_ns, [&] {
    if (advanced) {
      return (config.read8(reg(advanced_features::status)) &
              advanced_features::transactions_pending) == 0;
    }
    const device_status now{config.read16(reg(express::device_status))};
    return !now[device_status::transactions_pending];
  });
  if (advanced) {
    config.write8(reg(advanced_features::control), advanced_features::initiate);
  } else {
    config.write16(reg(express::device_control),
                   control.with(device_control::initiate_function_level_reset, true).raw);
  }
  (void)poll_until(clock, reset_wait_ns, [] { return false; });
  // While a function answers with Configuration Request Retry Status, a root complex reports all ones
  // or, with CRS Software Visibility, ids of its own (2.3.1).
  const bool ready = poll_until(clock, ready_ns, [&] {
    return config.read32(header::vendor_id) != retry_ids && !is_removed(config);
  });
  if (!ready) return failure(errc::removed, "the function does not answer after its reset");

  for (unsigned i = 0; i != type0_bars; ++i) {
    config.write32(static_cast<std::uint16_t>(header::bar0 + 4 * i), bars[i]);
  }
  if (!advanced) {
    config.write16(reg(express::device_control),
                   control.with(device_control::initiate_function_level_reset, false).raw);
  }
  set_command(config, command);
  return {};
}

}  // namespace phasebit::pcie
