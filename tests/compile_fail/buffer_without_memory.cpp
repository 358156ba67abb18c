// SPDX-License-Identifier: BSL-1.0
// Whoever hands out DMA regions takes them back; what cannot is no DmaMemory.
// EXPECT: DmaMemory
// EXPECT: release
#include <phasebit/memory/dma_buffer.hpp>

struct forgetful {
  phasebit::result<phasebit::dma_region> allocate(std::size_t, std::size_t) noexcept {
    return phasebit::dma_region{};
  }
#ifdef PHASEBIT_FAIL_FIXED
  void release(phasebit::dma_region) noexcept {}
#endif
};

phasebit::dma_buffer<forgetful> mistake;
