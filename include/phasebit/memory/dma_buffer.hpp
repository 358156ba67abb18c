// SPDX-License-Identifier: BSL-1.0
// DMA memory with an owner.
#pragma once

#include <phasebit/memory/dma_region.hpp>

#include <cstddef>
#include <span>
#include <utility>

namespace phasebit {

// A region that goes back to its memory when the buffer is destroyed, which must be after the last device
// access. Move-only; converts to the region for calls that take one. The memory outlives it.
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
  operator const dma_region&() const noexcept { return region_; }
  explicit operator bool() const noexcept { return memory_ != nullptr; }

  [[nodiscard]] std::byte* data() const noexcept { return region_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return region_.size(); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return region_.bytes; }
  [[nodiscard]] bus_addr bus() const noexcept { return region_.bus; }

  // Gives the memory back now.
  void reset() noexcept {
    if (memory_ != nullptr) std::exchange(memory_, nullptr)->release(region_);
    region_ = {};
  }
  // Gives the memory up without giving it back: a device that does not stop may still write to it.
  dma_region leak() noexcept {
    memory_ = nullptr;
    return std::exchange(region_, {});
  }

 private:
  Memory* memory_ = nullptr;
  dma_region region_{};
};

// Allocates a buffer of a backend's memory: zeroed, and aligned to 4 KiB unless `alignment`
// differs.
template <DmaMemory Memory>
[[nodiscard]] result<dma_buffer<Memory>> allocate(Memory& memory, std::size_t bytes,
                                                  std::size_t alignment = 4096) noexcept {
  return dma_buffer<Memory>::allocate(memory, bytes, alignment);
}

}  // namespace phasebit
