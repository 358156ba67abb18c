// SPDX-License-Identifier: BSL-1.0
// A backend whose driver gets its memory elsewhere: rings in the BAR of another device, for example.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstddef>

namespace phasebit::systems {

// The function of `Backend` with memory from `Memory`, whose bus addresses the function reaches. With an
// arena over an engine's BAR, the function fetches commands from the engine, peer to peer. A view: both
// outlive it. Threads as of both.
template <PcieBackend Backend, DmaMemory Memory>
class memory_from {
 public:
  using bar_type = typename Backend::bar_type;
  using ring_order = typename Backend::ring_order;

  constexpr memory_from(Backend& function, Memory& memory) noexcept
      : function_(&function), memory_(&memory) {}

  [[nodiscard]] decltype(auto) config() noexcept { return function_->config(); }
  [[nodiscard]] result<bar_type> map_bar(unsigned index) noexcept {
    return function_->map_bar(index);
  }
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return memory_->allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { memory_->release(region); }
  [[nodiscard]] decltype(auto) clock() noexcept { return function_->clock(); }

 private:
  Backend* function_;
  Memory* memory_;
};

}  // namespace phasebit::systems
