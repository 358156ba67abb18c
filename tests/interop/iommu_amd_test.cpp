// SPDX-License-Identifier: BSL-1.0
// Our tables and our commands against QEMU's amd-iommu.
#include <interop/iommu/amd_machine.hpp>
#include <interop/iommu/body.hpp>

namespace {

using namespace phasebit_test;
using amd_3_levels = amd_machine<3>;
using amd_4_levels = amd_machine<4>;
using amd_5_levels = amd_machine<5>;

PHASEBIT_IOMMU_TESTS(amd_3_levels, amd_4_levels, amd_5_levels);

}  // namespace
