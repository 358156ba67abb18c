// SPDX-License-Identifier: BSL-1.0
// Windows of the host bridge: bus addresses as the processor sees them.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace phasebit::backend::mmio {

// A stretch of bus addresses that the host bridge shows the processor from `begin` on, mapped uncached.
struct bus_window {
  bus_addr bus{};
  std::uint64_t bytes = 0;
  local_addr begin{};
};

// The registers at [at, at + bytes) of the bus. Without windows the bus has the processor's addresses,
// as on most machines; then 0 means that the BAR has not been placed. The address may come
// from a device; it is checked against the windows. Errors: not_ready, not_mapped.
[[nodiscard]] inline result<std::span<std::byte>> find_on_bus(std::span<const bus_window> windows,
                                                              bus_addr at,
                                                              std::uint64_t bytes) noexcept {
  constexpr std::uint64_t reach = std::numeric_limits<std::uintptr_t>::max();
  const auto end = range_end(at, bytes);
  if (!end || bytes == 0 || bytes > std::numeric_limits<std::ptrdiff_t>::max()) {
    return failure(errc::not_mapped, "the registers wrap around the address space", at.value());
  }
  if (windows.empty()) {
    if (at.value() == 0) {
      return failure(errc::not_ready, "the BAR has no address yet: enumerate the bus first");
    }
    if (end->value() - 1 > reach) {
      return failure(errc::not_mapped, "the registers lie beyond what a pointer reaches",
                     at.value());
    }
    return std::span{pointer_of(local_addr{at.value()}), int_cast<std::size_t>(bytes)};
  }
  for (const bus_window& window : windows) {
    if (at < window.bus || at - window.bus > window.bytes ||
        bytes > window.bytes - (at - window.bus)) {
      continue;
    }
    return std::span{pointer_of(window.begin + (at - window.bus)), int_cast<std::size_t>(bytes)};
  }
  return failure(errc::not_mapped, "the processor reaches this bus address through no window",
                 at.value());
}

}  // namespace phasebit::backend::mmio
