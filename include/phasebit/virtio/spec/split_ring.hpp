// SPDX-License-Identifier: BSL-1.0
// Structures of the split virtqueue: virtio 1.3, section 2.7.
#pragma once

#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::virtio {

// Flags of descriptors, in both ring formats (2.7.5, 2.8.5).
namespace descriptor_flag {

inline constexpr std::uint16_t next = 1;
inline constexpr std::uint16_t write = 2;  // the device writes into the buffer
inline constexpr std::uint16_t indirect = 4;

}  // namespace descriptor_flag

// 2.7.5: an entry of the descriptor table, and of an indirect table.
struct split_descriptor {
  le<std::uint64_t> addr;
  le<std::uint32_t> len;
  le<std::uint16_t> flags;
  le<std::uint16_t> next;
};
static_assert(WireStruct<split_descriptor> && sizeof(split_descriptor) == 16);
static_assert(offsetof(split_descriptor, len) == 8 && offsetof(split_descriptor, flags) == 12 &&
              offsetof(split_descriptor, next) == 14);

// 2.7.6: the head of the available ring. le<uint16> ring[size] and le<uint16> used_event follow.
struct avail_header {
  le<std::uint16_t> flags;
  le<std::uint16_t> idx;
};
static_assert(WireStruct<avail_header> && sizeof(avail_header) == 4);
inline constexpr std::uint16_t avail_no_interrupt = 1;

// 2.7.8: an entry of the used ring.
struct used_element {
  le<std::uint32_t> id;
  le<std::uint32_t> len;
};
static_assert(WireStruct<used_element> && sizeof(used_element) == 8);

// 2.7.8: the head of the used ring. used_element ring[size] and le<uint16> avail_event follow.
struct used_header {
  le<std::uint16_t> flags;
  le<std::uint16_t> idx;
};
static_assert(WireStruct<used_header> && sizeof(used_header) == 4);
inline constexpr std::uint16_t used_no_notify = 1;

// Bytes of the three areas with both event words, and the alignment of each (2.7).
[[nodiscard]] constexpr std::size_t descriptor_table_bytes(std::uint32_t entries) noexcept {
  return std::size_t{16} * entries;
}
[[nodiscard]] constexpr std::size_t avail_ring_bytes(std::uint32_t entries) noexcept {
  return 6 + std::size_t{2} * entries;
}
[[nodiscard]] constexpr std::size_t used_ring_bytes(std::uint32_t entries) noexcept {
  return 6 + std::size_t{8} * entries;
}
inline constexpr std::size_t descriptor_table_alignment = 16;
inline constexpr std::size_t avail_ring_alignment = 2;
inline constexpr std::size_t used_ring_alignment = 4;

}  // namespace phasebit::virtio
