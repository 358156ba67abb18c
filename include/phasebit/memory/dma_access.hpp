// SPDX-License-Identifier: BSL-1.0
// How device models use the memory of their host, through a DmaPort or through a translator.
#pragma once

#include <phasebit/core/copy.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/dma_port.hpp>
#include <phasebit/memory/translate.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit {

// The memory access of a device model: a port, or a translator whose memory is all reachable by
// pointers.
template <class T> concept AnyDma = DmaTranslator<T> || DmaPort<T>;

template <AnyDma Dma>
[[nodiscard]] PHASEBIT_ALWAYS_INLINE result<mapped_range> map_dma(Dma& dma, bus_addr at,
                                                                  std::uint64_t bytes,
                                                                  access wanted) noexcept {
  if constexpr (DmaPort<Dma>) {
    auto range = dma.map(at, bytes, wanted);
    if (range && (range->bytes == 0 || range->bytes > bytes)) {
      return failure(errc::protocol, "the DMA port maps an impossible length", at.value());
    }
    return range;
  } else {
    const auto part = dma.translate(at, bytes, wanted);
    if (!part) return part.error();
    if (part->bytes == 0 || part->bytes > bytes) {
      return failure(errc::protocol, "the translator answered with an impossible length",
                     at.value());
    }
    return mapped_range{part->begin.value(), part->bytes, memory_domain::local};
  }
}

template <AnyDma Dma>
[[nodiscard]] result<> read_dma(Dma& dma, bus_addr at, std::span<std::byte> to) noexcept {
  if constexpr (DmaPort<Dma>) {
    return dma.read(at, to);
  } else {
    return dma_read(dma, at, to);
  }
}
template <AnyDma Dma>
[[nodiscard]] result<> write_dma(Dma& dma, bus_addr at, std::span<const std::byte> from) noexcept {
  if constexpr (DmaPort<Dma>) {
    return dma.write(at, from);
  } else {
    return dma_write(dma, at, from);
  }
}

// Lets code that reads lists through a LocalTranslator work over any DMA: memory without pointers is
// copied into a buffer of this object first, so that an answer is valid until the next call.
template <AnyDma Dma>
class list_access {
 public:
  using from = bus_space;
  using to = local_space;

  explicit constexpr list_access(Dma& dma) noexcept : dma_(&dma) {}

  [[nodiscard]] result<segment<local_space>> translate(bus_addr at, std::uint64_t bytes,
                                                       access wanted) noexcept {
    if constexpr (DmaTranslator<Dma>) {
      return dma_->translate(at, bytes, wanted);
    } else {
      if (bytes > copy_.size()) bytes = copy_.size();
      const auto range = map_dma(*dma_, at, bytes, wanted);
      if (!range) return range.error();
      if (range->domain == memory_domain::local) {
        return segment<local_space>{local_addr{range->address}, range->bytes};
      }
      if (writes(wanted)) {
        return failure(errc::access_denied, "a list is not written through a copy", at.value());
      }
      const auto copied = std::span{copy_}.first(static_cast<std::size_t>(range->bytes));
      if (const auto done = dma_->read(at, copied); !done) return done.error();
      return segment<local_space>{to_local(copied.data()), range->bytes};
    }
  }

 private:
  struct nothing {};
  static constexpr std::size_t copy_bytes = DmaTranslator<Dma> ? 1 : 512;

  Dma* dma_;
  alignas(16) std::array<std::byte, copy_bytes> copy_;
};

}  // namespace phasebit
