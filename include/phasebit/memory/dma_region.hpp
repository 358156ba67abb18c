// SPDX-License-Identifier: BSL-1.0
// Memory that a device can reach, and what hands it out.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/result.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit {

// The same bytes as the processor and as the device see them; contiguous for both. A value that
// owns nothing: the code that allocated it releases it, or a dma_buffer does.
struct dma_region {
  std::span<std::byte> bytes;
  bus_addr bus;

  [[nodiscard]] constexpr std::byte* data() const noexcept { return bytes.data(); }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return bytes.size(); }
  // `offset + count` must lie within the region.
  [[nodiscard]] constexpr dma_region subregion(std::size_t offset,
                                               std::size_t count) const noexcept {
    PHASEBIT_EXPECTS(offset <= size() && count <= size() - offset, "a part beyond the region");
    return {bytes.subspan(offset, count), bus + offset};
  }
};

// Allocates zeroed regions, contiguous on the bus. `alignment` is a power of two and applies to
// both the pointer and the bus address. release() takes exactly the region that allocate()
// returned, after the last device access. Not for hot paths; one thread at a time unless the model
// documents otherwise.
template <class T>
concept DmaMemory = requires(T& memory, std::size_t bytes, std::size_t alignment, dma_region r) {
  { memory.allocate(bytes, alignment) } noexcept -> std::same_as<result<dma_region>>;
  { memory.release(r) } noexcept -> std::same_as<void>;
};

}  // namespace phasebit
