// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/iommu/amd/driver.hpp>

#include <interop/iommu/rig.hpp>

namespace phasebit_test {

// QEMU's amd-iommu in front of the disks of a Q35, with tables of so many levels.
template <unsigned Levels, bool Newer = false>
struct amd_machine {
  using unit = iommu::amd::driver<qtest::bar, unit_tables, qtest::function>;
  using format_type = iommu::amd_v1;

  static qtest::options options() {
    qtest::options o;
    o.program = Newer ? newer_qemu(o.board.program) : installed_qemu(o.board.program);
    o.devices = {"amd-iommu"};
    return o;
  }
  static constexpr bool logs_cached_refusals = false;
  static constexpr bool claims_pasids = false;
  static constexpr bool looks_at_upper_bits = false;
  static constexpr bool forgets_by_range = false;
  static constexpr bool knows_malformed = false;
  static result<unit> open(qtest::machine& m, unit_tables& tables, qtest::function& host) {
    return unit::open(m.registers(0xfed8'0000, 0x4000), tables, host);
  }
  static format_type format(const unit& u) {
    CHECK(u.format().mode >= Levels);
    return {.mode = Levels};
  }
  // No event comes for what is not mapped or not permitted.
  static std::optional<std::uint16_t> code(wrong) { return std::nullopt; }
};

}  // namespace phasebit_test
