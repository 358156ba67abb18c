// SPDX-License-Identifier: BSL-1.0
// The setup of a driver-side queue: its areas in memory that the device reaches, its size, the
// negotiated features, and memory of its own.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/error.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/virtio/spec/features.hpp>
#include <phasebit/virtio/spec/packed_ring.hpp>
#include <phasebit/virtio/spec/split_ring.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::virtio::driver {

// A segment of a buffer, as the device addresses it. Has 1 to 2^32 - 1 bytes.
using buffer_segment = segment<bus_space>;

// The queue's state of one descriptor and of the buffer that begins there. The caller provides one
// for each entry of the queue, in memory that the device does not reach.
template <class Token>
struct buffer_slot {
  static_assert(std::is_trivially_copyable_v<Token>, "a token is copied bytewise");

  Token token{};
  std::uint32_t writable = 0;     // bytes that the device may write
  std::uint16_t descriptors = 0;  // of the buffer; 0: not in flight
  std::uint16_t last = 0;         // split: the buffer's last descriptor
  std::uint16_t next = 0;         // in the free list, in the buffer
  std::uint16_t younger = 0;      // in the order of availability (VIRTIO_F_IN_ORDER)
};

// The parts of one region, and how large it is: descriptors, driver area, device area, then one
// indirect table for each entry if `indirect_entries` is not 0.
struct queue_layout {
  std::uint32_t size = 0;
  bool packed = false;
  std::uint32_t indirect_entries = 0;

  [[nodiscard]] constexpr std::size_t driver_offset() const noexcept {
    return std::size_t{16} * size;
  }
  [[nodiscard]] constexpr std::size_t device_offset() const noexcept {
    return align_up(driver_offset() + (packed ? sizeof(event_suppression) : avail_ring_bytes(size)),
                    std::size_t{64});
  }
  [[nodiscard]] constexpr std::size_t tables_offset() const noexcept {
    return align_up(device_offset() + (packed ? sizeof(event_suppression) : used_ring_bytes(size)),
                    std::size_t{64});
  }
  [[nodiscard]] constexpr std::size_t bytes() const noexcept {
    return tables_offset() + std::size_t{size} * indirect_entries * 16;
  }
  static constexpr std::size_t alignment = 64;
};

template <class Token>
struct queue_setup {
  queue_layout layout{};
  std::uint64_t features = 0;  // as negotiated
  dma_region memory{};         // zeroed, layout.bytes() long, aligned as layout requires
  std::span<buffer_slot<Token>> slots{};
};

// Whether a buffer was added.
enum class add_status : std::uint8_t {
  added,
  full,     // not enough free descriptors now
  refused,  // no such buffer is allowed: no segments, an empty one, one above 4 GiB, or more segments
            // than the queue (and its indirect tables) can ever take
};

// Errors of a device. Each stops the queue.
enum class fault_code : std::uint8_t {
  none,
  used_index_jump,  // split: more buffers returned than are in flight
  id_out_of_range,  // a returned id that is not below the queue size
  not_in_flight,    // a returned id that the device does not have
  length_overflow,  // more bytes written than the buffer has
  out_of_order,     // VIRTIO_F_IN_ORDER and a batch that ends with a buffer outside of it
};

struct fault {
  fault_code code = fault_code::none;
  std::uint64_t value = 0;

  [[nodiscard]] constexpr explicit operator bool() const noexcept {
    return code != fault_code::none;
  }
  [[nodiscard]] constexpr error to_error() const noexcept {
    constexpr const char* texts[] = {
        "the queue has no fault",
        "the device returned more buffers than are in flight",
        "the device returned a buffer id beyond the queue",
        "the device returned a buffer that is not in flight",
        "the device reports more bytes written than the buffer has",
        "the device returned buffers out of order",
    };
    return failure(errc::protocol, texts[static_cast<std::size_t>(code)], value);
  }
};

namespace detail {

template <class Token>
[[nodiscard]] result<> check_setup(const queue_setup<Token>& s) noexcept {
  const queue_layout& l = s.layout;
  if (l.packed ? !is_packed_queue_size(l.size) : !is_split_queue_size(l.size)) {
    return failure(errc::invalid_argument,
                   l.packed ? "a packed queue has 1 to 32768 entries"
                            : "a split queue has a power of two of entries, at most 32768",
                   l.size);
  }
  if (s.memory.size() < l.bytes()) {
    return failure(errc::exhausted, "the memory is smaller than the queue's layout",
                   s.memory.size());
  }
  if (!is_aligned(s.memory.bus, 16) || !is_aligned(to_local(s.memory.data()), 16)) {
    return failure(errc::misaligned, "the memory of a queue is not aligned", s.memory.bus.value());
  }
  if (s.slots.size() < l.size) {
    return failure(errc::exhausted, "there are fewer slots than the queue has entries",
                   s.slots.size());
  }
  return {};
}

struct shape {
  std::uint32_t segments = 0;
  std::uint64_t writable = 0;
  bool good = false;
};
[[nodiscard]] PHASEBIT_ALWAYS_INLINE shape shape_of(
    std::span<const buffer_segment> readable, std::span<const buffer_segment> writable) noexcept {
  shape s;
  bool good = true;
  std::uint64_t total = 0;
  for (const buffer_segment& b : readable) {
    good = good && b.bytes - 1 < 0xffff'ffffU;
    total += b.bytes;
  }
  for (const buffer_segment& b : writable) {
    good = good && b.bytes - 1 < 0xffff'ffffU;
    s.writable += b.bytes;
  }
  const std::size_t count = readable.size() + writable.size();
  s.segments = static_cast<std::uint32_t>(count);
  s.good = good && count - 1 < max_queue_size && total + s.writable <= std::uint64_t{1} << 32 &&
           s.writable <= 0xffff'ffffU;
  return s;
}

}  // namespace detail

}  // namespace phasebit::virtio::driver
