// SPDX-License-Identifier: BSL-1.0
// Who answers at a physical address of the simulated machine: its memory, or a BAR.
#pragma once

#include <phasebit/backend/simulated/bus_node.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/memory/translate.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::backend::simulated {

// Memory first; then the plain words of BARs, where their functions decode memory at the address
// that their BARs hold: peer to peer, as an SSD fetches from queues in an engine's BAR. Registers
// are out of reach of DMA, and windows of ports are not looked at. Asked by whoever polls devices.
class address_map {
 public:
  using from = host_space;
  using to = local_space;

  // `root` is the first of the root bus, whenever it is asked.
  address_map(const dma_memory& memory, detail::bus_node* const& root) noexcept
      : memory_(&memory), root_(&root) {}

  // Errors: not_mapped.
  [[nodiscard]] result<segment<local_space>> translate(host_phys address, std::uint64_t bytes,
                                                       access wanted) const noexcept {
    const auto piece = memory_->translate(address, bytes, wanted);
    if (piece) return *piece;
    if (const auto found = find(*root_, address, bytes)) return *found;
    return piece.error();
  }

 private:
  [[nodiscard]] static std::optional<segment<local_space>> find(detail::bus_node* node,
                                                                host_phys address,
                                                                std::uint64_t bytes) noexcept {
    for (; node != nullptr; node = node->next_) {
      auto found = node->memory_at(address, bytes);
      if (!found) found = find(node->first_child_, address, bytes);
      if (found) return found;
    }
    return std::nullopt;
  }

  const dma_memory* memory_;
  detail::bus_node* const* root_;
};
static_assert(AddressTranslator<address_map>);

}  // namespace phasebit::backend::simulated
