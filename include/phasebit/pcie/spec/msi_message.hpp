// SPDX-License-Identifier: BSL-1.0
// An interrupt as it crosses the bus. PCIe 5.0, 6.1.4.
#pragma once

#include <phasebit/core/address.hpp>

#include <cstdint>

namespace phasebit::pcie {

// The write of a vector: `data` as 32 bits, little-endian, to a dword-aligned address.
struct msi_message {
  bus_addr address;
  std::uint32_t data = 0;

  friend constexpr bool operator==(const msi_message&, const msi_message&) noexcept = default;
};

}  // namespace phasebit::pcie
