// SPDX-License-Identifier: BSL-1.0
// The guards of protection information: CRC-16/T10-DIF, CRC-32C and the NVM command set's CRC-64 over the data
// of a block and the metadata in front of the tuple. NVM Command Set 1.0, section 5.2.1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::nvme {

// All three continue a guard over more bytes when they are given its value. A bit at a time, without tables:
// for checks and small devices.
[[nodiscard]] constexpr std::uint16_t guard16(std::span<const std::byte> bytes,
                                              std::uint16_t so_far = 0) noexcept {
  std::uint32_t crc = so_far;
  for (const std::byte b : bytes) {
    crc ^= std::to_integer<std::uint32_t>(b) << 8;
    for (int i = 0; i != 8; ++i) crc = (crc << 1) ^ ((crc & 0x8000U) != 0 ? 0x8bb7U : 0U);
  }
  return static_cast<std::uint16_t>(crc);
}
[[nodiscard]] constexpr std::uint32_t guard32(std::span<const std::byte> bytes,
                                              std::uint32_t so_far = 0) noexcept {
  std::uint32_t crc = ~so_far;
  for (const std::byte b : bytes) {
    crc ^= std::to_integer<std::uint32_t>(b);
    for (int i = 0; i != 8; ++i) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82f6'3b78U : 0U);
  }
  return ~crc;
}
[[nodiscard]] constexpr std::uint64_t guard64(std::span<const std::byte> bytes,
                                              std::uint64_t so_far = 0) noexcept {
  std::uint64_t crc = ~so_far;
  for (const std::byte b : bytes) {
    crc ^= std::to_integer<std::uint64_t>(b);
    for (int i = 0; i != 8; ++i) {
      crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x9a6c'9329'ac4b'c9b5U : 0U);
    }
  }
  return ~crc;
}

}  // namespace phasebit::nvme
