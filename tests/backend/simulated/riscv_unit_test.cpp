// SPDX-License-Identifier: BSL-1.0
// The driver that programs QEMU's riscv-iommu-pci programs the emulated unit, in the same test body.
#include <phasebit/backend/simulated/riscv_unit.hpp>
#include <phasebit/iommu/unit/riscv.hpp>

#include <backend/simulated/simulated_machine.hpp>

namespace {

using namespace phasebit_test;

struct simulated_riscv : simulated_machine<sim::riscv_unit> {
  using unit = iommu::unit::riscv<sim::riscv_unit::bar_type, unit_tables, sim::function>;
  using format_type = iommu::riscv_second_stage;

  static result<unit> open(emulated& u, unit_tables& tables, sim::function& host) {
    return unit::open(u.bar(), tables, host);
  }
  static format_type format(const unit& u) { return u.format(); }
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
        return 21;
      case wrong::reads_write_only:
        return 21;
      case wrong::writes_unmapped:
        return 23;
      case wrong::writes_read_only:
        return 23;
      case wrong::beyond_width:
        return 23;
      case wrong::malformed:
        return 23;
      case wrong::no_device:
        return 258;
    }
    return std::nullopt;
  }
  // U = 0, which a second stage has not.
  static std::uint64_t malformed(std::uint64_t entry) { return entry & ~format_type::user; }
};

PHASEBIT_IOMMU_TESTS(simulated_riscv);

}  // namespace
