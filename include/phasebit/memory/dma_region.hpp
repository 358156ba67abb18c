// SPDX-License-Identifier: BSL-1.0
// Memory that a device can reach, and whoever hands it out.
#pragma once

#include <phasebit/core/address.hpp>
#include <phasebit/core/expects.hpp>
#include <phasebit/core/result.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace phasebit {

// The same bytes as the processor and as the device see them; contiguous for both. A value that
// owns nothing: whoever allocated it releases it.
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

// Hands out zeroed regions, contiguous on the bus. `alignment` is a power of two and holds for both
// the pointer and the bus address. release() takes exactly what allocate() gave, after the last
// device access. Not for hot paths; one thread at a time unless the model says otherwise.
template <class T>
concept DmaMemory = requires(T& memory, std::size_t bytes, std::size_t alignment, dma_region r) {
  { memory.allocate(bytes, alignment) } noexcept -> std::same_as<result<dma_region>>;
  { memory.release(r) } noexcept -> std::same_as<void>;
};

// A region that goes back to its memory at the end of its scope. Move-only.
template <DmaMemory Memory>
class dma_buffer {
 public:
  dma_buffer() noexcept = default;
  dma_buffer(Memory& memory, dma_region region) noexcept : memory_(&memory), region_(region) {}
  dma_buffer(dma_buffer&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), region_(std::exchange(other.region_, {})) {}
  dma_buffer& operator=(dma_buffer&& other) noexcept {
    if (this != &other) {
      reset();
      memory_ = std::exchange(other.memory_, nullptr);
      region_ = std::exchange(other.region_, {});
    }
    return *this;
  }
  ~dma_buffer() { reset(); }

  [[nodiscard]] static result<dma_buffer> allocate(Memory& memory, std::size_t bytes,
                                                   std::size_t alignment) noexcept {
    const auto region = memory.allocate(bytes, alignment);
    if (!region) return region.error();
    return dma_buffer{memory, *region};
  }

  [[nodiscard]] const dma_region& operator*() const noexcept { return region_; }
  [[nodiscard]] const dma_region* operator->() const noexcept { return &region_; }
  explicit operator bool() const noexcept { return memory_ != nullptr; }

  void reset() noexcept {
    if (memory_ != nullptr) std::exchange(memory_, nullptr)->release(region_);
    region_ = {};
  }

 private:
  Memory* memory_ = nullptr;
  dma_region region_{};
};

}  // namespace phasebit
