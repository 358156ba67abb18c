// SPDX-License-Identifier: BSL-1.0
// The driver that programs QEMU's riscv-iommu-pci programs the emulated IOMMU, in the same test body.
#include <phasebit/backend/simulated/emulated_iommu.hpp>
#include <phasebit/iommu/riscv/driver.hpp>

#include <backend/simulated/simulated_machine.hpp>
#include <interop/iommu/expected.hpp>

namespace {

using namespace phasebit_test;

struct simulated_riscv : simulated_machine<sim::riscv_iommu>, riscv_expected {
  using unit = iommu::riscv::driver<sim::riscv_iommu::bar_type, unit_tables, sim::function>;
  using format_type = iommu::riscv_second_stage;

  static result<unit> open(emulated& u, unit_tables& tables, sim::function& host) {
    return unit::open(u.bar(), tables, host);
  }
  static format_type format(const unit& u) { return u.format(); }
};

PHASEBIT_IOMMU_TESTS(simulated_riscv);

}  // namespace
