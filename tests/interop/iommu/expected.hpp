// SPDX-License-Identifier: BSL-1.0
// The records that the specifications require, for QEMU's IOMMUs and for the emulated ones alike.
#pragma once

#include <phasebit/iommu/page_table/formats/riscv.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>

#include <cstdint>
#include <optional>

#include <interop/iommu/rig.hpp>

namespace phasebit_test {

struct vtd_expected {
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
      case wrong::reads_write_only:
        return 0x06;
      case wrong::writes_unmapped:
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
  static std::uint64_t malformed(std::uint64_t entry) {
    return entry | iommu::vtd_second_stage::snoop;
  }
};

struct riscv_expected {
  static std::optional<std::uint16_t> code(wrong what) {
    switch (what) {
      case wrong::reads_unmapped:
      case wrong::reads_write_only:
        return 21;
      case wrong::writes_unmapped:
      case wrong::writes_read_only:
      case wrong::beyond_width:
      case wrong::malformed:
        return 23;
      case wrong::no_device:
        return 258;
    }
    return std::nullopt;
  }
  // U = 0, which a second stage has not.
  static std::uint64_t malformed(std::uint64_t entry) {
    return entry & ~iommu::riscv_second_stage::user;
  }
};

}  // namespace phasebit_test
