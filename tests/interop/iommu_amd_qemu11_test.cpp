// SPDX-License-Identifier: BSL-1.0
// The same against amd-iommu of QEMU 11, which writes events.
#include <interop/iommu/amd_machine.hpp>
#include <interop/iommu/body.hpp>

namespace {

using namespace phasebit_test;
using amd_4_levels = amd_machine<4, 11>;

PHASEBIT_IOMMU_TESTS(amd_4_levels);

}  // namespace
