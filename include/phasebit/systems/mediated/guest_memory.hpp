// SPDX-License-Identifier: BSL-1.0
// A function's memory as the engine reaches it: the function's flat table, then the engine's own window to
// the machine's memory.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::systems {

// From the addresses that the function's host gives to pointers. A DmaTranslator; takes as many threads as
// `Host` does. Errors: those of both.
template <AddressTranslator Table, AddressTranslator Host>
  requires std::same_as<typename Table::from, bus_space> &&
           std::same_as<typename Table::to, typename Host::from> && LocalTranslator<Host>
class guest_memory {
 public:
  using from = bus_space;
  using to = local_space;

  constexpr guest_memory(const Table& table, Host& host) noexcept : table_(&table), host_(&host) {}

  [[nodiscard]] result<segment<local_space>> translate(bus_addr at, std::uint64_t bytes,
                                                       access wanted) noexcept {
    const auto piece = table_->translate(at, bytes, wanted);
    if (!piece) return piece.error();
    return host_->translate(piece->begin, piece->bytes, wanted);
  }

 private:
  const Table* table_;
  Host* host_;
};

}  // namespace phasebit::systems
