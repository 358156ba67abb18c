// SPDX-License-Identifier: BSL-1.0
// One translator's results are addresses of the space that the next one begins with.
// EXPECT: constraint|no viable constructor|class template argument deduction failed
// EXPECT: same_as|same type|is_same|constraints not satisfied
#include <phasebit/memory/region_map.hpp>
#include <phasebit/memory/translators.hpp>

using namespace phasebit;

#ifdef PHASEBIT_FAIL_FIXED
using between = guest_space;
#else
using between = host_space;
#endif

bool mistake(const identity_translator<bus_space, between>& iommu, const guest_memory<>& guest) {
  const chained<const identity_translator<bus_space, between>, const guest_memory<>> view{iommu,
                                                                                          guest};
  return view.translate(bus_addr{0}, 1, access::read).has_value();
}
