// SPDX-License-Identifier: BSL-1.0
// The record of requests in flight that vhost-user back ends keep in memory which outlives them:
// vhost-user protocol, section "Inflight I/O tracking". All words are in the byte order of the
// machine, for both sides run on it.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::virtio {

// The only version that there is.
inline constexpr std::uint16_t inflight_version = 1;

// One entry for each descriptor of a split queue; only heads of chains are in use.
struct inflight_split_entry {
  std::uint8_t inflight;
  std::uint8_t padding[5];
  std::uint16_t next;     // the entry before this one in the last batch of used buffers
  std::uint64_t counter;  // the order in which buffers became available
};
static_assert(WireStruct<inflight_split_entry> && sizeof(inflight_split_entry) == 16);
static_assert(offsetof(inflight_split_entry, next) == 6 &&
              offsetof(inflight_split_entry, counter) == 8);

// Followed by inflight_split_entry[desc_num].
struct inflight_split_header {
  std::uint64_t features;
  std::uint16_t version;
  std::uint16_t desc_num;
  std::uint16_t last_batch_head;
  std::uint16_t used_idx;
};
static_assert(WireStruct<inflight_split_header> && sizeof(inflight_split_header) == 16);
static_assert(offsetof(inflight_split_header, version) == 8 &&
              offsetof(inflight_split_header, used_idx) == 14);

// One entry for each descriptor of a packed queue. The entries that hold no buffer form a free list;
// a chain takes as many entries from it as it has descriptors.
struct inflight_packed_entry {
  std::uint8_t inflight;
  std::uint8_t padding;
  std::uint16_t next;     // of the free list, or of the chain
  std::uint16_t last;     // of a head: the last entry of the chain
  std::uint16_t num;      // of a head: how many descriptors the chain has
  std::uint64_t counter;  // of a head: the order in which buffers became available
  std::uint16_t id;       // the descriptor, copied, because the ring's own may be overwritten
  std::uint16_t flags;
  std::uint32_t len;
  std::uint64_t addr;
};
static_assert(WireStruct<inflight_packed_entry> && sizeof(inflight_packed_entry) == 32);
static_assert(offsetof(inflight_packed_entry, counter) == 8 &&
              offsetof(inflight_packed_entry, id) == 16 &&
              offsetof(inflight_packed_entry, addr) == 24);

// Followed by inflight_packed_entry[desc_num].
struct inflight_packed_header {
  std::uint64_t features;
  std::uint16_t version;
  std::uint16_t desc_num;
  std::uint16_t free_head;
  std::uint16_t old_free_head;
  std::uint16_t used_idx;
  std::uint16_t old_used_idx;
  std::uint8_t used_wrap_counter;
  std::uint8_t old_used_wrap_counter;
  std::uint8_t padding[10];
};
static_assert(WireStruct<inflight_packed_header> && sizeof(inflight_packed_header) == 32);
static_assert(offsetof(inflight_packed_header, free_head) == 12 &&
              offsetof(inflight_packed_header, used_wrap_counter) == 20);

// Bytes of one queue's record.
[[nodiscard]] constexpr std::size_t inflight_split_bytes(std::uint32_t entries) noexcept {
  return sizeof(inflight_split_header) + std::size_t{entries} * sizeof(inflight_split_entry);
}
[[nodiscard]] constexpr std::size_t inflight_packed_bytes(std::uint32_t entries) noexcept {
  return sizeof(inflight_packed_header) + std::size_t{entries} * sizeof(inflight_packed_entry);
}

}  // namespace phasebit::virtio
