// SPDX-License-Identifier: BSL-1.0
// A register that keeps no value is not read.
// EXPECT: this register is write-only
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct kick : pcie::write_only_register<kick, 0x04> {
  using device_register::device_register;
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  block.write(kick{1});
#else
  (void)block.read<kick>();
#endif
}
