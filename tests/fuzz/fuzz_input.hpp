// SPDX-License-Identifier: BSL-1.0
// A fuzzer's bytes, taken one word after the other; zeros when there are none left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace phasebit_test {

struct fuzz_input {
  const std::uint8_t* data;
  std::size_t left;

  std::uint64_t word() {
    std::uint64_t value = 0;
    const std::size_t taken = left < 8 ? left : 8;
    if (taken != 0) std::memcpy(&value, data, taken);
    data += taken;
    left -= taken;
    return value;
  }
};

}  // namespace phasebit_test
