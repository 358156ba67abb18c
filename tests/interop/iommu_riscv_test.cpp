// SPDX-License-Identifier: BSL-1.0
// Our tables and our commands against QEMU's riscv-iommu-pci.
#include <interop/iommu/body.hpp>
#include <interop/iommu/riscv_machine.hpp>

namespace {

using namespace phasebit_test;
using riscv_sv39x4 = riscv_machine<iommu::riscv_mode::sv39x4>;
using riscv_sv48x4 = riscv_machine<iommu::riscv_mode::sv48x4>;
using riscv_sv57x4 = riscv_machine<iommu::riscv_mode::sv57x4>;

PHASEBIT_IOMMU_TESTS(riscv_sv39x4, riscv_sv48x4, riscv_sv57x4);

}  // namespace
