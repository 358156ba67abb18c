// SPDX-License-Identifier: BSL-1.0
// Registers are accessed in the widths that a bus of registers has.
// EXPECT: registers are accessed in 32 or 64 bits
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct command : pcie::device_register<command, 0x04, std::uint16_t> {
  using device_register::device_register;
};
struct whole : pcie::device_register<whole, 0x04> {
  using device_register::device_register;
  static constexpr field<15, 0> command{};
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  (void)block.read<whole>()[whole::command];
#else
  (void)block.read<command>();
#endif
}
