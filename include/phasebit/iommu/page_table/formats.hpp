// SPDX-License-Identifier: BSL-1.0
// The list of page-table formats. Tests, fuzzers, stress tests, freestanding tests and benchmarks of
// page tables run over it: a new format is one header in formats/ and its line here.
#pragma once

#include <phasebit/iommu/page_table/formats/amdv1.hpp>
#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>
#include <phasebit/iommu/page_table/formats/riscv.hpp>
#include <phasebit/iommu/page_table/formats/vtd.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>

namespace phasebit::iommu {

// Calls each(name, usual, others...) for every format: its usual settings, which benchmarks use, and
// others whose geometry or encoding differs.
template <class Each>
constexpr void for_each_page_format(Each&& each) {
  // clang-format off
  each("vtd_second_stage", vtd_second_stage{}, vtd_second_stage{.width = vtd_width::bits_39, .track_dirty = true}, vtd_second_stage{.width = vtd_width::bits_57, .snoop_control = true});
  each("amd_v1", amd_v1{}, amd_v1{.mode = 2}, amd_v1{.mode = 3, .track_dirty = true}, amd_v1{.mode = 5, .pages_512g = true}, amd_v1{.mode = 6});
  each("arm_stage2<12>", arm_stage2<12>{}, arm_stage2<12>{.ipa_bits = 40, .track_dirty = true, .bbm_level = 2}, arm_stage2<12>{.concatenate = false, .contiguous_hint = false, .track_dirty = true});
  each("arm_stage2<14>", arm_stage2<14>{}, arm_stage2<14>{.ipa_bits = 44, .track_dirty = true});
  each("arm_stage2<16>", arm_stage2<16>{}, arm_stage2<16>{.ipa_bits = 42, .track_dirty = true});
  each("riscv_second_stage", riscv_second_stage{}, riscv_second_stage{.mode = riscv_mode::sv39x4, .track_dirty = true}, riscv_second_stage{.mode = riscv_mode::sv57x4, .svnapot = false, .svpbmt = false});
  each("x86_first_stage", x86_first_stage{}, x86_first_stage{.five_levels = true, .track_dirty = true}, x86_first_stage{.pages_1g = false});
  // clang-format on
}

}  // namespace phasebit::iommu
