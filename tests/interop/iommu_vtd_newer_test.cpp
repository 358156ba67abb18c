// SPDX-License-Identifier: BSL-1.0
// The same against a newer QEMU's intel-iommu.
#include <interop/iommu/body.hpp>
#include <interop/iommu/vtd_interrupts.hpp>
#include <interop/iommu/vtd_machine.hpp>

namespace {

using namespace phasebit_test;
using vtd_48_bits = vtd_machine<iommu::vtd_width::bits_48, 10>;

using vtd_with_interrupts = vtd_interrupt_machine<10>;

PHASEBIT_IOMMU_TESTS(vtd_48_bits);
TEST_CASE_TEMPLATE_INVOKE(vtd_interrupts, vtd_with_interrupts);

}  // namespace
