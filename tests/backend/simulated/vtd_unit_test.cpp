// SPDX-License-Identifier: BSL-1.0
// The driver that programs QEMU's intel-iommu programs the emulated unit, in the same test body.
#include <phasebit/backend/simulated/vtd_unit.hpp>
#include <phasebit/iommu/unit/vtd.hpp>

#include <backend/simulated/simulated_machine.hpp>

namespace {

using namespace phasebit_test;

struct simulated_vtd : simulated_machine<sim::vtd_unit> {
  using unit = iommu::unit::vtd<sim::vtd_unit::bar_type, unit_tables, sim::function>;
  using format_type = iommu::vtd_second_stage;

  static result<unit> open(emulated& u, unit_tables& tables, sim::function& host) {
    return unit::open(u.bar(), tables, host);
  }
  static format_type format(const unit& u) { return u.format(); }
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
        return 0x06;
      case wrong::reads_write_only:
        return 0x06;
      case wrong::writes_unmapped:
        return 0x05;
      case wrong::writes_read_only:
        return 0x05;
      case wrong::beyond_width:
        return 0x04;
      case wrong::malformed:
        return 0x0c;
      case wrong::no_device:
        return 0x02;
    }
    return std::nullopt;
  }
  // SNP, for ECAP.SC is 0.
  static std::uint64_t malformed(std::uint64_t entry) { return entry | format_type::snoop; }
};

PHASEBIT_IOMMU_TESTS(simulated_vtd);

}  // namespace
