// SPDX-License-Identifier: BSL-1.0
// The driver that programs QEMU's amd-iommu programs the emulated IOMMU, in the same test body.
#include <phasebit/backend/simulated/emulated_iommu.hpp>
#include <phasebit/iommu/amd/driver.hpp>

#include <backend/simulated/simulated_machine.hpp>

namespace {

using namespace phasebit_test;

struct simulated_amd : simulated_machine<sim::amd_iommu> {
  using unit = iommu::amd::driver<sim::amd_iommu::bar_type, unit_tables, sim::function>;
  using format_type = iommu::amd_v1;

  static result<unit> open(emulated& u, unit_tables& tables, sim::function& host) {
    return unit::open(u.bar(), tables, host);
  }
  static format_type format(const unit& u) {
    CHECK(u.format().mode == 6);
    return {.mode = 5, .address_bits = 48};
  }
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
        return 2;
      case wrong::reads_write_only:
        return 2;
      case wrong::writes_unmapped:
        return 2;
      case wrong::writes_read_only:
        return 2;
      case wrong::beyond_width:
        return 2;
      case wrong::malformed:
        return 2;
      case wrong::no_device:
        return 2;
    }
    return std::nullopt;
  }
  // An address that memory does not have.
  static std::uint64_t malformed(std::uint64_t entry) { return entry | std::uint64_t{1} << 50; }
};

PHASEBIT_IOMMU_TESTS(simulated_amd);

}  // namespace
