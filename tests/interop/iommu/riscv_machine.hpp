// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/iommu/riscv/driver.hpp>

#include <interop/iommu/expected.hpp>
#include <interop/iommu/rig.hpp>

namespace phasebit_test {

// QEMU's riscv-iommu-pci in front of the disks of the virtual RISC-V machine, with tables of this
// mode.
template <iommu::riscv_mode Mode>
struct riscv_machine : riscv_expected {
  using unit = iommu::riscv::driver<qtest::bar, unit_tables, qtest::function>;
  using format_type = iommu::riscv_second_stage;

  static qtest::options options() {
    qtest::options o;
    o.board = qtest::riscv_virt;
    o.program = newer_qemu(o.board.program);
    o.devices = {"riscv-iommu-pci"};
    return o;
  }
  static constexpr bool logs_cached_refusals = false;
  static constexpr bool claims_pasids = true;
  static bool looks_at_upper_bits() { return true; }
  static constexpr bool forgets_by_range = true;
  static constexpr bool knows_malformed = true;
  static result<unit> open(qtest::machine& m, unit_tables& tables, qtest::function& host) {
    auto function = must(m.open_class(0x080600));
    return unit::open(must(function.map_bar(0)), tables, host);
  }
  static format_type format(const unit& u) {
    format_type f = u.format();
    CHECK(f.mode == iommu::riscv_mode::sv57x4);
    f.mode = Mode;
    return f;
  }
};

}  // namespace phasebit_test
