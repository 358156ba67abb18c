// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/iommu/vtd/driver.hpp>

#include <interop/iommu/expected.hpp>
#include <interop/iommu/rig.hpp>

namespace phasebit_test {

// QEMU's intel-iommu in front of the disks of a Q35: tables of 39 or 48 bits.
template <iommu::vtd_width Width, unsigned Major = 0>
struct vtd_machine : vtd_expected {
  using unit = iommu::vtd::driver<qtest::bar, unit_tables, qtest::function>;
  using format_type = iommu::vtd_second_stage;

  // A refusal out of the IOTLB is not recorded (QEMU 7.2 and 10.0), though 7.2.1 does not exempt it.
  static constexpr bool logs_cached_refusals = false;
  static constexpr bool claims_pasids = false;
  static bool looks_at_upper_bits() { return true; }
  static constexpr bool forgets_by_range = true;
  static constexpr bool knows_malformed = true;

  static qtest::options options() {
    qtest::options o;
    o.program = qemu_of(Major, o.board.program);
    o.devices = {Width == iommu::vtd_width::bits_39 ? "intel-iommu,aw-bits=39"
                                                    : "intel-iommu,aw-bits=48"};
    return o;
  }
  static result<unit> open(qtest::machine& m, unit_tables& tables, qtest::function& host) {
    return unit::open(m.registers(0xfed9'0000, 0x1000), tables, host);
  }
  static format_type format(const unit& u) {
    CHECK(u.format().width == Width);
    CHECK(u.format().pages_2m);
    CHECK(u.format().pages_1g);
    return u.format();
  }
};

}  // namespace phasebit_test
