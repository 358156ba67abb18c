// SPDX-License-Identifier: BSL-1.0
// Single entries and words of rings that lie in the host's memory, read and written as a device
// does: each once, in the order that the ring's protocol needs.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/spec/completion.hpp>
#include <phasebit/nvme/spec/submission.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::nvme::device {

// Pointer to a T at `where`, or null: no translation, a piece that ends within the T, or memory that
// is not aligned as a T is. The last two can not happen to page-aligned rings over pages.
template <class T, DmaTranslator Dma>
[[nodiscard]] T* local_object(Dma& dma, bus_addr where, access wanted) noexcept {
  const auto piece = dma.translate(where, sizeof(T), wanted);
  if (!piece || piece->bytes < sizeof(T) || !is_aligned(piece->begin, alignof(T))) return nullptr;
  return reinterpret_cast<T*>(pointer_of(piece->begin));
}

// The one copy of a command that is ever looked at. The caller has ordered the read by loading the
// tail. Nothing where the memory can not be reached.
template <DmaTranslator Dma>
[[nodiscard]] std::optional<submission_entry> fetch_command(Dma& dma, bus_addr where) noexcept {
  const auto* const entry = local_object<submission_entry>(dma, where, access::read);
  if (entry == nullptr) return std::nullopt;
  return snapshot(*entry);
}

// Writes the entry so that its last dword, which holds the phase, becomes visible after the rest.
// False where the memory can not be reached.
template <RingOrder Order, DmaTranslator Dma>
[[nodiscard]] bool post_completion(Dma& dma, bus_addr where,
                                   const completion_entry& entry) noexcept {
  auto* const slot = local_object<completion_entry>(dma, where, access::write);
  if (slot == nullptr) return false;
  slot->dw0 = entry.dw0;
  slot->dw1 = entry.dw1;
  slot->sq_head = entry.sq_head;
  slot->sq_id = entry.sq_id;
  Order::store(slot->dw3, entry.dw3);
  return true;
}

// A word that the host writes, such as a shadow doorbell; what the host wrote before it is visible
// to reads that follow.
template <RingOrder Order, DmaTranslator Dma>
[[nodiscard]] std::optional<std::uint32_t> load_word(Dma& dma, bus_addr where) noexcept {
  const auto* const word = local_object<le<std::uint32_t>>(dma, where, access::read);
  if (word == nullptr) return std::nullopt;
  const std::uint32_t value = Order::load(*word).get();
  Order::after_load();
  return value;
}

template <RingOrder Order, DmaTranslator Dma>
[[nodiscard]] bool store_word(Dma& dma, bus_addr where, std::uint32_t value) noexcept {
  auto* const word = local_object<le<std::uint32_t>>(dma, where, access::write);
  if (word == nullptr) return false;
  Order::store(*word, le<std::uint32_t>{value});
  return true;
}

}  // namespace phasebit::nvme::device
