// SPDX-License-Identifier: BSL-1.0
// Flags that are cleared by ones would all be cleared by writing back what was read.
// EXPECT: cleared by ones is written with the flags to clear
#include <phasebit/pcie/driver/mapped_bar.hpp>
#include <phasebit/pcie/driver/register_block.hpp>

#include <cstdint>

using namespace phasebit;

struct events : pcie::device_register<events, 0x08, std::uint32_t,
                                      pcie::register_access::write_one_to_clear> {
  using device_register::device_register;
  static constexpr field<3> overrun{};
};

void mistake(pcie::register_block<pcie::mapped_bar>& block) {
#ifdef PHASEBIT_FAIL_FIXED
  block.write(events{}.with(events::overrun, true));
#else
  block.modify<events>(events::overrun, true);
#endif
}
