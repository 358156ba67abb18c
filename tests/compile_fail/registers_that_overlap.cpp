// SPDX-License-Identifier: BSL-1.0
// A slip in a table of offsets: two registers at one place.
// EXPECT: two registers of the block overlap
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct base : pcie::device_register<base, 0x10, std::uint64_t> {
  using device_register::device_register;
};
struct length : pcie::device_register<length, 0x14> {
  using device_register::device_register;
};
struct control : pcie::device_register<control, 0x18> {
  using device_register::device_register;
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  (void)block.attach<base, control>(block.bar());
#else
  (void)block.attach<base, length>(block.bar());
#endif
}
