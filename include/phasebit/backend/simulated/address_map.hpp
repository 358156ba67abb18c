// SPDX-License-Identifier: BSL-1.0
// Resolves physical addresses of the simulated machine: its memory, or a BAR.
#pragma once

#include <phasebit/backend/simulated/detail/bus_node.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/memory/translate.hpp>

#include <atomic>
#include <cstdint>

namespace phasebit::backend::simulated {

namespace detail {

struct fabric_state;

}  // namespace detail

// Memory first; then the plain words of BARs, where their functions decode memory at the address
// that their BARs hold: peer to peer, as an SSD fetches from queues in an engine's BAR. Registers
// are out of reach of DMA, and windows of ports are not looked at. Any thread, without a lock.
class address_map {
 public:
  using from = host_space;
  using to = local_space;

  // Errors: not_mapped.
  [[nodiscard]] result<segment<local_space>> translate(host_phys address, std::uint64_t bytes,
                                                       access wanted) const noexcept {
    const auto found = memory_->translate(address, bytes, wanted);
    if (found) return *found;
    for (detail::bus_node* n = first_->load(std::memory_order_acquire); n != nullptr;
         n = n->next_.load(std::memory_order_acquire)) {
      if (const auto here = n->memory_at(address, bytes)) return *here;
    }
    return found.error();
  }

 private:
  friend struct detail::fabric_state;
  address_map(const dma_memory& memory, const std::atomic<detail::bus_node*>& first) noexcept
      : memory_(&memory), first_(&first) {}

  const dma_memory* memory_;
  const std::atomic<detail::bus_node*>* first_;
};
static_assert(AddressTranslator<const address_map>);

}  // namespace phasebit::backend::simulated
