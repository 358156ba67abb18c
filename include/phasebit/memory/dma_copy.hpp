// SPDX-License-Identifier: BSL-1.0
// DMA of device models in software: copies to and from memory that is reached through a translator. The
// other side may write concurrently, so that each byte is read once.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/int_cast.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/core/wire.hpp>
#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit {

// From any space to pointers of this process.
template <class T>
concept LocalTranslator = AddressTranslator<T> && std::same_as<typename T::to, local_space>;

// Copies to.size() bytes from `begin`. Errors are the translator's; bytes before the fault have been
// copied, as by a device whose transfer was cut off.
template <LocalTranslator T>
[[nodiscard]] inline result<> dma_read(T& memory, address<typename T::from> begin,
                                       std::span<std::byte> to) noexcept {
  return for_each_segment(memory, begin, to.size(), access::read,
                          [&](segment<local_space> part) noexcept {
                            const auto bytes = int_cast<std::size_t>(part.bytes);
                            copy_shared(to.first(bytes), {pointer_of(part.begin), bytes});
                            to = to.subspan(bytes);
                          });
}

// Copies data.size() bytes to `begin`. Errors as above; bytes before the fault have been written.
// Does not order the writes: the completion or index that publishes them is stored through a RingOrder.
template <LocalTranslator T>
[[nodiscard]] inline result<> dma_write(T& memory, address<typename T::from> begin,
                                        std::span<const std::byte> data) noexcept {
  return for_each_segment(memory, begin, data.size(), access::write,
                          [&](segment<local_space> part) noexcept {
                            const auto bytes = int_cast<std::size_t>(part.bytes);
                            copy_shared({pointer_of(part.begin), bytes}, data.first(bytes));
                            data = data.subspan(bytes);
                          });
}

// Reads and writes one struct at `begin`, at any alignment.
template <WireStruct W, LocalTranslator T>
[[nodiscard]] inline result<W> dma_read(T& memory, address<typename T::from> begin) noexcept {
  W value;
  if (const auto done = dma_read(memory, begin, writable_wire_bytes(value)); !done) {
    return done.error();
  }
  return value;
}
template <LocalTranslator T, WireStruct W>
  requires(!std::convertible_to<const W&, std::span<const std::byte>>)  // that is dma_write's
[[nodiscard]] inline result<> dma_write(T& memory, address<typename T::from> begin,
                                        const W& value) noexcept {
  return dma_write(memory, begin, wire_bytes(value));
}

// Sets `bytes` bytes to `value`.
template <LocalTranslator T>
[[nodiscard]] inline result<> dma_fill(T& memory, address<typename T::from> begin,
                                       std::uint64_t bytes, std::byte value) noexcept {
  return for_each_segment(memory, begin, bytes, access::write,
                          [&](segment<local_space> part) noexcept {
                            __builtin_memset(pointer_of(part.begin), static_cast<int>(value),
                                             int_cast<std::size_t>(part.bytes));
                          });
}

}  // namespace phasebit
