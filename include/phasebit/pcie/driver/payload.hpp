// SPDX-License-Identifier: BSL-1.0
// Sets the payload size of packets: all functions that may exchange packets use one size. PCIe 5.0, 2.2.2 and
// 7.5.3.4.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/driver/topology.hpp>
#include <phasebit/pcie/spec/capability.hpp>
#include <phasebit/pcie/spec/express.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::pcie {

// Codes of Max_Payload_Size: 128 bytes << code, up to 4096.
inline constexpr std::uint8_t largest_payload = 5;

namespace detail {

// The index of the function on the root bus that `at` lies behind, or is.
[[nodiscard]] constexpr std::size_t top_of(std::span<const enumerated_function> all,
                                           std::size_t at) noexcept {
  while (all[at].bridge != enumerated_function::on_root_bus) at = all[at].bridge;
  return at;
}

}  // namespace detail

// Gives every function with a PCI Express capability the largest payload size that its whole hierarchy supports:
// the root port (or integrated endpoint) and all that lies behind it. With a hot-plug slot below a switch that is
// 128 bytes: a device that is added there may support no more, and the others cannot be changed while they run.
// `largest` bounds all of them (a code). `all` is the list of enumerate(); nothing in it is in use during the call.
// Errors: protocol (a function does not take the size that it supports; error::index is its place in the list, and
// its hierarchy is left at 128 bytes); the other hierarchies are set nevertheless.
template <ConfigAccess Root>
[[nodiscard]] result<> set_max_payload(Root& root, std::span<const enumerated_function> all,
                                       std::uint8_t largest = largest_payload) noexcept {
  const auto express_of = [&](std::size_t i) -> std::uint16_t {
    if (all[i].fault) return 0;
    auto&& config = root.function(all[i].id);
    const auto at = find_capability(config, capability_id::pci_express);
    return at ? *at : std::uint16_t{0};
  };
  // Whether each function of the hierarchy took the size; the first that did not.
  const auto set_all = [&](std::size_t top, std::uint8_t code) -> std::optional<std::size_t> {
    std::optional<std::size_t> refused;
    for (std::size_t i = top; i != all.size(); ++i) {
      if (detail::top_of(all, i) != top) continue;
      const std::uint16_t at = express_of(i);
      if (at == 0) continue;
      auto&& config = root.function(all[i].id);
      const auto control = static_cast<std::uint16_t>(at + express::device_control);
      const device_control now{config.read16(control)};
      if (now[device_control::max_payload_size] != code) {
        config.write16(control, now.with(device_control::max_payload_size, code).raw);
      }
      const device_control taken{config.read16(control)};
      if (taken[device_control::max_payload_size] != code && !refused) refused = i;
    }
    return refused;
  };

  result<> done{};
  for (std::size_t top = 0; top != all.size(); ++top) {
    if (all[top].bridge != enumerated_function::on_root_bus) continue;
    std::uint8_t code = largest < largest_payload ? largest : largest_payload;
    for (std::size_t i = top; i != all.size(); ++i) {
      if (detail::top_of(all, i) != top) continue;
      if (all[i].hot_plug && i != top) code = 0;
      const std::uint16_t at = express_of(i);
      if (at == 0) continue;
      auto&& config = root.function(all[i].id);
      const device_capabilities can{
          config.read32(static_cast<std::uint16_t>(at + express::device_capabilities))};
      const std::uint8_t own = can[device_capabilities::max_payload_size];
      if (own < code) code = own;
    }
    const auto refused = set_all(top, code);
    if (!refused) continue;
    if (code != 0) (void)set_all(top, 0);
    if (done) {
      done =
          failure(errc::protocol, "a function does not take a payload size that it supports", code)
              .at(static_cast<std::uint32_t>(*refused));
    }
  }
  return done;
}

}  // namespace phasebit::pcie
