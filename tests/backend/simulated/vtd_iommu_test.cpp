// SPDX-License-Identifier: BSL-1.0
// The driver that programs QEMU's intel-iommu programs the emulated IOMMU, in the same test body.
#include <phasebit/backend/simulated/emulated_iommu.hpp>
#include <phasebit/iommu/vtd/driver.hpp>

#include <backend/simulated/simulated_machine.hpp>
#include <interop/iommu/expected.hpp>

namespace {

using namespace phasebit_test;

struct simulated_vtd : simulated_machine<sim::vtd_iommu>, vtd_expected {
  using unit = iommu::vtd::driver<sim::vtd_iommu::bar_type, unit_tables, sim::function>;
  using format_type = iommu::vtd_second_stage;

  static result<unit> open(emulated& u, unit_tables& tables, sim::function& host) {
    return unit::open(u.bar(), tables, host);
  }
  static format_type format(const unit& u) { return u.format(); }
};

PHASEBIT_IOMMU_TESTS(simulated_vtd);

}  // namespace
