// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <phasebit/iommu/smmuv3/driver.hpp>

#include <interop/iommu/rig.hpp>

namespace phasebit_test {

// The SMMUv3 of QEMU's virtual Arm machine, stage 2, with tables of this granule and width.
template <unsigned GranuleShift, unsigned IpaBits, bool Concatenate = false>
struct smmuv3_machine {
  using unit = iommu::smmuv3::driver<GranuleShift, qtest::bar, unit_tables, qtest::function>;
  using format_type = typename unit::format_type;

  static qtest::options options() {
    qtest::options o;
    o.board = qtest::arm_virt;
    o.board.machine = "virt,iommu=smmuv3";
    o.program = newer_qemu(o.board.program);
    return o;
  }
  static constexpr bool logs_cached_refusals = false;
  static constexpr bool claims_pasids = false;
  static bool looks_at_upper_bits() { return true; }
  static constexpr bool forgets_by_range = true;
  static constexpr bool knows_malformed = true;
  static result<unit> open(qtest::machine& m, unit_tables& tables, qtest::function& host) {
    return unit::open(m.registers(0x0905'0000, 0x2'0000), tables, host);
  }
  static constexpr unsigned output_bits = 44;
  static format_type format(const unit& u) {
    format_type f = u.format();
    CHECK(f.address_bits == output_bits);
    f.ipa_bits = IpaBits;
    f.concatenate = Concatenate;
    return f;
  }
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
      case wrong::writes_unmapped:
        return 0x10;
      case wrong::beyond_width:
        // Where stage 1 is bypassed, what exceeds the output width is stage 1's address size fault
        // (3.4.1), which QEMU takes care of and does not record.
        if (IpaBits == output_bits) return std::nullopt;
        return 0x10;
      case wrong::writes_read_only:
      case wrong::reads_write_only:
        return 0x13;
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

}  // namespace phasebit_test
