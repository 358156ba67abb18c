// SPDX-License-Identifier: BSL-1.0
// The setup of a device-side queue: the addresses of its areas, its size, the negotiated features,
// and memory of its own.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/memory/dma_copy.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/virtio/spec/features.hpp>
#include <phasebit/virtio/spec/packed_ring.hpp>
#include <phasebit/virtio/spec/split_ring.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::virtio::device {

// The queue's state of one buffer. The caller provides one for each entry of the queue and does not
// use them; they lie outside of the driver's reach.
struct buffer_state {
  enum class progress : std::uint8_t { free, taken, done };

  std::uint32_t written = 0;
  std::uint16_t descriptors = 0;
  std::uint16_t next = 0;      // in the order of availability (VIRTIO_F_IN_ORDER)
  std::uint16_t resubmit = 0;  // a list of buffers to take again
  std::uint16_t record = 0;    // packed: the buffer's entry in the in-flight record
  progress state = progress::free;
};

// The three areas (2.6) as this process sees them. Split: descriptor table, available ring, used ring.
// Packed: descriptor ring, the driver's event suppression, the device's.
struct queue_areas {
  std::byte* descriptors = nullptr;
  std::byte* driver = nullptr;
  std::byte* device = nullptr;
};

// Limits that a device chooses.
inline constexpr std::uint32_t default_indirect_entries = 1024;

struct queue_setup {
  std::uint32_t size = 0;
  std::uint64_t features = 0;  // as negotiated
  queue_areas areas{};
  // At least `size` of them.
  std::span<buffer_state> buffers{};
  std::uint32_t max_indirect_entries = default_indirect_entries;
};

// The outcome of taking a buffer from a queue.
enum class pop_status : std::uint8_t {
  empty,    // nothing is available
  ready,    // the chain holds a buffer
  refused,  // the driver broke a rule: see fault(). The queue is stopped until it is set up again
};

// Translates the addresses of the three areas. Each must be aligned and contiguous. Errors:
// invalid_argument (a size that the format does not have), misaligned, not_mapped, access_denied;
// `index` is 0, 1 or 2 for the descriptor, driver and device area.
template <LocalTranslator Memory>
[[nodiscard]] result<queue_areas> map_areas(Memory& memory, std::uint32_t size, bool packed,
                                            std::uint64_t descriptors, std::uint64_t driver,
                                            std::uint64_t device) noexcept {
  if (packed ? !is_packed_queue_size(size) : !is_split_queue_size(size)) {
    return failure(errc::invalid_argument,
                   "a queue has 1 to 32768 entries, a split one a power of two", size);
  }
  struct area {
    std::uint64_t at;
    std::size_t bytes;
    std::size_t alignment;
    access wanted;
  };
  const area areas[] = {
      {descriptors, packed ? packed_ring_bytes(size) : descriptor_table_bytes(size), 16,
       packed ? access::read_write : access::read},
      {driver, packed ? sizeof(event_suppression) : avail_ring_bytes(size),
       packed ? event_suppression_alignment : avail_ring_alignment, access::read},
      {device, packed ? sizeof(event_suppression) : used_ring_bytes(size),
       packed ? event_suppression_alignment : used_ring_alignment, access::write},
  };
  std::byte* found[3]{};
  for (std::uint32_t i = 0; i != 3; ++i) {
    const area& a = areas[i];
    if (!is_aligned(a.at, a.alignment)) {
      return failure(errc::misaligned, "an area of the queue is not aligned", a.at).at(i);
    }
    if (a.at + a.bytes < a.at) {
      return failure(errc::overflow, "an area of the queue wraps around", a.at).at(i);
    }
    const auto part = memory.translate(address<typename Memory::from>{a.at}, a.bytes, a.wanted);
    if (!part) return part.error().at(i);
    if (part->bytes != a.bytes) {
      return failure(errc::not_mapped, "an area of the queue is not contiguous in memory", a.at)
          .at(i);
    }
    found[i] = pointer_of(part->begin);
    if (!is_aligned(to_local(found[i]), a.alignment)) {
      return failure(errc::misaligned, "an area of the queue is not aligned in this process", a.at)
          .at(i);
    }
  }
  return queue_areas{found[0], found[1], found[2]};
}

namespace detail {

// The checks of start() for both formats.
[[nodiscard]] inline result<> check_setup(const queue_setup& s, bool packed) noexcept {
  if (packed ? !is_packed_queue_size(s.size) : !is_split_queue_size(s.size)) {
    return failure(errc::invalid_argument,
                   packed ? "a packed queue has 1 to 32768 entries"
                          : "a split queue has a power of two of entries, at most 32768",
                   s.size);
  }
  if (s.areas.descriptors == nullptr || s.areas.driver == nullptr || s.areas.device == nullptr) {
    return failure(errc::not_ready, "the queue's areas have no addresses yet");
  }
  if (s.buffers.size() < s.size) {
    return failure(errc::exhausted, "there is less buffer state than the queue has entries",
                   s.buffers.size());
  }
  return {};
}

}  // namespace detail

}  // namespace phasebit::virtio::device
