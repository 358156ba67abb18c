// SPDX-License-Identifier: BSL-1.0
// A device cannot follow a guest's address: it is translated before PRPs are made of it.
// EXPECT: guest_space
// EXPECT: bus_space|bus_addr
#include <phasebit/nvme/prp/build.hpp>

bool mistake(phasebit::guest_addr buffer, phasebit::dma_region list,
             phasebit::nvme::prp::pointers& out) {
#ifdef PHASEBIT_FAIL_FIXED
  const phasebit::bus_addr where{buffer.value()};
#else
  const phasebit::guest_addr where = buffer;
#endif
  return static_cast<bool>(phasebit::nvme::prp::build_contiguous(where, 4096, 12, list, out));
}
