// SPDX-License-Identifier: BSL-1.0
// Buffers between a host's memory and media that do not reach it, in memory that the user gives.
#pragma once

#include <phasebit/block/async_media.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::block {

// Equal buffers of one span. An empty pool is back-pressure: take() returns no_buffer and the
// device side tries again when a buffer has been returned. One thread at a time. The memory
// outlives the pool. Media address it in `domain`: by pointers, or by the addresses of that domain.
class bounce_pool {
 public:
  static constexpr std::uint32_t no_buffer = 0xffff'ffff;

  constexpr bounce_pool() noexcept = default;
  // As many buffers of `buffer_bytes`, a multiple of max_block_size, as fit.
  bounce_pool(std::span<std::byte> memory, std::uint32_t buffer_bytes,
              memory_domain domain = memory_domain::local) noexcept
      : bounce_pool(memory, buffer_bytes, domain, reinterpret_cast<std::uintptr_t>(memory.data())) {
  }
  // ... whose first byte has `address` in the domain.
  bounce_pool(std::span<std::byte> memory, std::uint32_t buffer_bytes, memory_domain domain,
              std::uint64_t address) noexcept
      : memory_(memory), address_(address), buffer_bytes_(buffer_bytes), domain_(domain) {
    PHASEBIT_EXPECTS(buffer_bytes >= max_block_size && buffer_bytes % max_block_size == 0,
                     "a bounce buffer is a multiple of 4096 bytes");
    const std::size_t count = memory.size() / buffer_bytes;
    PHASEBIT_EXPECTS(count < no_buffer, "fewer than 2^32 - 1 bounce buffers");
    for (std::size_t i = count; i != 0; --i) give(static_cast<std::uint32_t>(i - 1));
    capacity_ = free_;
  }

  [[nodiscard]] constexpr std::uint32_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] constexpr std::uint32_t available() const noexcept { return free_; }
  [[nodiscard]] constexpr std::uint32_t buffer_bytes() const noexcept { return buffer_bytes_; }
  [[nodiscard]] constexpr memory_domain domain() const noexcept { return domain_; }

  [[nodiscard]] std::uint32_t take() noexcept {
    if (free_ == 0) return no_buffer;
    const std::uint32_t taken = first_;
    __builtin_memcpy(&first_, bytes(taken).data(), sizeof first_);
    --free_;
    return taken;
  }
  void give(std::uint32_t buffer) noexcept {
    __builtin_memcpy(bytes(buffer).data(), &first_, sizeof first_);
    first_ = buffer;
    ++free_;
  }
  [[nodiscard]] std::span<std::byte> bytes(std::uint32_t buffer) const noexcept {
    return memory_.subspan(std::size_t{buffer} * buffer_bytes_, buffer_bytes_);
  }
  // The first `bytes` of a buffer, for the media.
  [[nodiscard]] media_segment segment(std::uint32_t buffer, std::uint32_t bytes) const noexcept {
    return {.address = address_ + std::uint64_t{buffer} * buffer_bytes_,
            .bytes = bytes,
            .domain = domain_};
  }

 private:
  std::span<std::byte> memory_{};
  std::uint64_t address_ = 0;
  std::uint32_t buffer_bytes_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t free_ = 0;
  std::uint32_t first_ = no_buffer;  // the next is stored in the free buffer itself
  memory_domain domain_ = memory_domain::local;
};

}  // namespace phasebit::block
