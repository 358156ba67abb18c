// SPDX-License-Identifier: BSL-1.0
// How a controller computes the guard of protection information.
#pragma once

#include <phasebit/nvme/spec/guard.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme::device {

// A bit at a time, without a table. A Policy may name a faster one: crc(bytes, so_far) continues a
// CRC-16/T10-DIF.
struct bitwise_guard {
  [[nodiscard]] static std::uint16_t crc(std::span<const std::byte> bytes,
                                         std::uint16_t so_far) noexcept {
    return guard16(bytes, so_far);
  }
};

}  // namespace phasebit::nvme::device
