// SPDX-License-Identifier: BSL-1.0
// The driver that programs QEMU's smmuv3 programs the emulated IOMMU, in the same test body.
#include <phasebit/backend/simulated/emulated_iommu.hpp>
#include <phasebit/iommu/smmuv3/driver.hpp>

#include <backend/simulated/simulated_machine.hpp>

namespace {

using namespace phasebit_test;

struct simulated_smmuv3 : simulated_machine<sim::smmuv3_iommu> {
  using unit = iommu::smmuv3::driver<12, sim::smmuv3_iommu::bar_type, unit_tables, sim::function>;
  using format_type = iommu::arm_stage2<12>;

  static result<unit> open(emulated& u, unit_tables& tables, sim::function& host) {
    return unit::open(u.bar(), tables, host);
  }
  static format_type format(const unit& u) { return u.format(); }
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
        return 0x10;
      case wrong::reads_write_only:
        return 0x13;
      case wrong::writes_unmapped:
        return 0x10;
      case wrong::writes_read_only:
        return 0x13;
      case wrong::beyond_width:
        return 0x11;  // beyond the output's width as well
      case wrong::malformed:
        return 0x12;
      case wrong::no_device:
        return 0x04;
    }
    return std::nullopt;
  }
  // AF = 0, which no software sets here.
  static std::uint64_t malformed(std::uint64_t entry) { return entry & ~format_type::access_flag; }
};

PHASEBIT_IOMMU_TESTS(simulated_smmuv3);

}  // namespace
