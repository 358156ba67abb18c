// SPDX-License-Identifier: BSL-1.0
// Scalable mode and first-stage tables against intel-iommu of QEMU 11.
#include <interop/iommu/vtd_scalable_machine.hpp>

namespace {

using namespace phasebit_test;

TEST_CASE_TEMPLATE_INVOKE(iommu_end_to_end, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_permissions, vtd_first_stage_machine);
TEST_CASE_TEMPLATE_INVOKE(iommu_domains, vtd_first_stage_machine);

}  // namespace
