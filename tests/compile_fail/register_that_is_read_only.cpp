// SPDX-License-Identifier: BSL-1.0
// A register that only the device changes cannot be written.
// EXPECT: this register is read-only
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct version : pcie::read_only_register<version, 0x00> {
  using device_register::device_register;
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  (void)block.read<version>();
#else
  block.write(version{1});
#endif
}
