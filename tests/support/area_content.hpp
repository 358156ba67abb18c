// SPDX-License-Identifier: BSL-1.0
// Content of an area of a disk that follows from its number and its version, so that a verifying load detects lost,
// repeated and misplaced writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace phasebit_test {

// `out` is a multiple of 8 bytes long.
inline void fill_area(std::span<std::byte> out, unsigned area, std::uint32_t version) noexcept {
  std::uint64_t x = area * 0x9e37'79b9'7f4a'7c15ULL + version * 0xbf58'476d'1ce4'e5b9ULL + 1;
  for (std::size_t i = 0; i != out.size(); i += 8) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    std::memcpy(out.data() + i, &x, 8);
  }
}

}  // namespace phasebit_test
