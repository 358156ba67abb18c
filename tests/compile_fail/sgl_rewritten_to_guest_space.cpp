// SPDX-License-Identifier: BSL-1.0
// The list that a rewrite makes is a device's: its addresses are bus addresses.
// EXPECT: constraint|no matching function
// EXPECT: same_as|is_same|bus_space
#include <phasebit/memory/region_map.hpp>
#include <phasebit/nvme/sgl.hpp>

using namespace phasebit;

#ifdef PHASEBIT_FAIL_FIXED
using target = bus_space;
#else
using target = host_space;
#endif

bool mistake(guest_memory<>& guest, identity_translator<guest_space, target>& blocks,
             nvme::submission_entry& command, const dma_region& shadow) {
  return static_cast<bool>(nvme::sgl::rewrite(guest, blocks, command, 4096, {}, shadow));
}
