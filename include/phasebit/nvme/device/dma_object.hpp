// SPDX-License-Identifier: BSL-1.0
// Single objects and words in the host's memory, read and written as a device does: each once, in the
// order that the ring's protocol needs.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/memory/dma_access.hpp>
#include <phasebit/memory/translate.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::nvme::device {

// Pointer to a T at `where`, or null: no translation, a segment that ends within the T, memory that
// is not aligned as a T is, or memory without pointers. Page-aligned rings over pages always have
// one where the host's memory is mapped.
template <class T, AnyDma Dma>
[[nodiscard]] T* local_object(Dma& dma, bus_addr where, access wanted) noexcept {
  local_addr at{};
  if constexpr (DmaTranslator<Dma>) {
    const auto segment = dma.translate(where, sizeof(T), wanted);
    if (!segment || segment->bytes < sizeof(T)) return nullptr;
    at = segment->begin;
  } else {
    const auto range = map_dma(dma, where, sizeof(T), wanted);
    if (!range || range->bytes < sizeof(T) || range->domain != memory_domain::local) {
      return nullptr;
    }
    at = local_addr{range->address};
  }
  return is_aligned(at, alignof(T)) ? reinterpret_cast<T*>(pointer_of(at)) : nullptr;
}

// A copy of the T at `where`; nothing where the memory cannot be reached.
template <class T, AnyDma Dma>
[[nodiscard]] std::optional<T> read_object(Dma& dma, bus_addr where) noexcept {
  if (const auto* const object = local_object<T>(dma, where, access::read)) {
    return snapshot(*object);
  }
  if constexpr (DmaPort<Dma>) {
    T copy;
    if (dma.read(where, writable_wire_bytes(copy))) return copy;
  }
  return std::nullopt;
}

// A word that the host writes, such as a shadow doorbell; what the host wrote before it is visible
// to reads that follow.
template <RingOrder Order, AnyDma Dma>
[[nodiscard]] std::optional<std::uint32_t> load_word(Dma& dma, bus_addr where) noexcept {
  std::optional<std::uint32_t> value;
  if (const auto* const word = local_object<le<std::uint32_t>>(dma, where, access::read)) {
    value = Order::load(*word).get();
  } else if constexpr (DmaPort<Dma>) {
    le<std::uint32_t> copy;
    if (dma.read(where, writable_wire_bytes(copy))) value = copy.get();
  }
  if (value) Order::after_load();
  return value;
}

// Writes a word that hands over nothing but itself, such as an event index: once and whole, in no order with
// other accesses. False where the memory cannot be reached.
template <AnyDma Dma>
[[nodiscard]] bool store_word(Dma& dma, bus_addr where, std::uint32_t value) noexcept {
  if (auto* const word = local_object<le<std::uint32_t>>(dma, where, access::write)) {
    overwrite(*word, le<std::uint32_t>{value});
    return true;
  }
  if constexpr (DmaPort<Dma>) {
    const le<std::uint32_t> copy{value};
    return dma.write(where, wire_bytes(copy)).has_value();
  }
  return false;
}

}  // namespace phasebit::nvme::device
