// SPDX-License-Identifier: BSL-1.0
#include "page_table_walks.hpp"

#include <phasebit/iommu/page_table/formats/amdv1.hpp>
#include <phasebit/iommu/page_table/formats/arm_stage2.hpp>
#include <phasebit/iommu/page_table/formats/riscv.hpp>
#include <phasebit/iommu/page_table/formats/x86.hpp>

namespace phasebit::page_table_harness {

TEST_CASE("a hundred thousand random steps agree with the oracle: AMD v1, modes 1 to 6") {
  for (unsigned mode = 2; mode <= 6; ++mode) {
    CAPTURE(mode);
    random_steps<amd_v1>({.mode = mode}, {.coherent = mode == 4}, mode == 4 ? 100000 : 20000, mode,
                         4096);
  }
  random_steps<amd_v1>({}, {}, 20000, 9, 14);
}

TEST_CASE("a hundred thousand random steps agree with the oracle: Arm stage 2, 4 KiB granules") {
  random_steps<arm_stage2<12>>({}, {}, 100000, 11, 4096);
  random_steps<arm_stage2<12>>({.ipa_bits = 40}, {.memory = memory_type::device}, 20000, 12, 4096);
  random_steps<arm_stage2<12>>({.concatenate = false, .track_dirty = true, .bbm_level = 2},
                               {.execute = true}, 20000, 13, 4096);
  random_steps<arm_stage2<12>>({.contiguous_hint = false}, {}, 20000, 14, 14);
}

TEST_CASE("a hundred thousand random steps agree with the oracle: Arm stage 2, 16 KiB granules") {
  random_steps<arm_stage2<14>>({}, {}, 100000, 21, 1024);
  random_steps<arm_stage2<14>>({.ipa_bits = 44, .track_dirty = true}, {}, 20000, 22, 20);
}

TEST_CASE("a hundred thousand random steps agree with the oracle: Arm stage 2, 64 KiB granules") {
  random_steps<arm_stage2<16>>({}, {}, 100000, 31, 256);
  random_steps<arm_stage2<16>>({.ipa_bits = 42}, {.memory = memory_type::uncached}, 20000, 32, 8);
}

TEST_CASE("a hundred thousand random steps agree with the oracle: RISC-V, all three modes") {
  random_steps<riscv_second_stage>({.mode = riscv_mode::sv39x4}, {}, 20000, 41, 4096);
  random_steps<riscv_second_stage>({}, {.execute = true}, 100000, 42, 4096);
  random_steps<riscv_second_stage>({.mode = riscv_mode::sv57x4, .track_dirty = true},
                                   {.memory = memory_type::device}, 20000, 43, 4096);
  random_steps<riscv_second_stage>({.svnapot = false, .svpbmt = false}, {}, 20000, 44, 16);
}

TEST_CASE("a hundred thousand random steps agree with the oracle: x86-64, both halves") {
  random_steps<x86_first_stage>({}, {}, 100000, 51, 4096);
  random_steps<x86_first_stage>({.five_levels = true}, {.memory = memory_type::uncached}, 20000, 52,
                                4096);
  random_steps<x86_first_stage>({.track_dirty = true}, {}, 20000, 53, 14);
}

TEST_CASE("many mappers: what piecewise unmaps leave behind, trim takes away, in every format") {
  const page_table_options many{.who = mappers::concurrent};
  random_steps<amd_v1>({}, {}, 20000, 61, 4096, many);
  random_steps<arm_stage2<12>>({}, {}, 20000, 62, 4096, many);
  random_steps<arm_stage2<16>>({}, {}, 20000, 63, 128, many);
  random_steps<riscv_second_stage>({}, {}, 20000, 64, 4096, many);
  random_steps<x86_first_stage>({}, {}, 20000, 65, 4096, many);
}

}  // namespace phasebit::page_table_harness
