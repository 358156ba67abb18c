// SPDX-License-Identifier: BSL-1.0
// A number, or a value without an offset, is not a register.
// EXPECT: a register is a type with an offset
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct operand : pcie::device_register<operand, 0x08> {
  using device_register::device_register;
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  block.write(operand{5});
#else
  block.write(5U);
#endif
}
