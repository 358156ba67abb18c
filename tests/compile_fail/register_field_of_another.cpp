// SPDX-License-Identifier: BSL-1.0
// A field names bits of a word: a wide register's do not fit into a narrow one.
// EXPECT: the field lies outside this word
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct control : pcie::device_register<control, 0x18> {
  using device_register::device_register;
  static constexpr field<31> run{};
  static constexpr field<32> done{};
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  block.modify<control>(control::run, true);
#else
  block.modify<control>(control::done, true);
#endif
}
