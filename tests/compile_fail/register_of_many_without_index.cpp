// SPDX-License-Identifier: BSL-1.0
// Access to one of several registers requires an index.
// EXPECT: there are several instances of this register: pass an index
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct tail : pcie::device_register<tail, 0x100> {
  using device_register::device_register;
  static constexpr std::uint32_t count = 8;
  static constexpr std::uint32_t stride = 4;
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  block.write(3, tail{1});
#else
  block.write(tail{1});
#endif
}
