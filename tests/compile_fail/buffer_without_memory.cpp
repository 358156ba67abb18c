// SPDX-License-Identifier: BSL-1.0
// A DmaMemory allocates and releases regions; a type without release is none.
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
