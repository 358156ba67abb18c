// SPDX-License-Identifier: BSL-1.0
// The same against a newer QEMU's amd-iommu.
#include <interop/iommu/amd_machine.hpp>
#include <interop/iommu/body.hpp>

namespace {

using namespace phasebit_test;
using amd_4_levels = amd_machine<4, 10>;

PHASEBIT_IOMMU_TESTS(amd_4_levels);

}  // namespace
