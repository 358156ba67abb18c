// SPDX-License-Identifier: BSL-1.0
// A driver-side and a device-side queue over the same memory, in either format.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/virtio/device/packed_queue.hpp>
#include <phasebit/virtio/device/split_queue.hpp>
#include <phasebit/virtio/driver/packed_queue.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <doctest/doctest.h>

namespace phasebit_test {

namespace driver = phasebit::virtio::driver;
namespace device = phasebit::virtio::device;
namespace feature = phasebit::virtio::feature;
using phasebit::bus_addr;
using phasebit::dma_region;
using phasebit::thread_order;

struct split_format {
  static constexpr bool packed = false;
  using driver_queue = driver::split_queue<thread_order, std::uint32_t>;
  using device_queue = device::split_queue<thread_order>;
  using record = device::inflight_split<thread_order>;
};
struct packed_format {
  static constexpr bool packed = true;
  using driver_queue = driver::packed_queue<thread_order, std::uint32_t>;
  using device_queue = device::packed_queue<thread_order>;
  using record = device::inflight_packed<thread_order>;
};

// Addresses of the two regions that buffers and rings lie in; neither is a pointer.
inline constexpr std::uint64_t ring_base = 0x10'0000;
inline constexpr std::uint64_t data_base = 0x7000'0000'0000;
inline constexpr std::size_t data_bytes = 64 * 1024;

template <class Format>
struct queue_pair {
  explicit queue_pair(std::uint32_t size, std::uint64_t features = 0,
                      std::uint32_t indirect_entries = 0)
      : layout{size, Format::packed, indirect_entries},
        features_(features),
        ring((layout.bytes() + 63) / 64),
        data(data_bytes),
        slots(size),
        buffers(size),
        places(64) {
    REQUIRE(memory.add(dma_region{ring_span(), bus_addr{ring_base}}));
    REQUIRE(memory.add(dma_region{data, bus_addr{data_base}}));
    const auto started =
        front.start({layout, features, dma_region{ring_span(), bus_addr{ring_base}}, slots});
    REQUIRE(started);
    REQUIRE(back.start(setup()));
    chain = device::chain{places};
  }
  queue_pair(const queue_pair&) = delete;
  queue_pair& operator=(const queue_pair&) = delete;

  std::span<std::byte> ring_span() {
    return {reinterpret_cast<std::byte*>(ring.data()), ring.size() * sizeof(line)};
  }
  device::queue_areas areas() {
    std::byte* const base = ring_span().data();
    return {base, base + layout.driver_offset(), base + layout.device_offset()};
  }
  device::queue_setup setup() {
    return {.size = layout.size, .features = features_, .areas = areas(), .buffers = buffers};
  }
  device::pop_status pop() { return back.pop(memory, chain); }

  struct alignas(64) line {
    std::byte bytes[64];
  };
  driver::queue_layout layout;
  std::uint64_t features_;
  std::vector<line> ring;
  std::vector<std::byte> data;
  std::vector<driver::buffer_slot<std::uint32_t>> slots;
  std::vector<device::buffer_state> buffers;
  std::vector<device::chain_segment> places;
  phasebit::local_dma<> memory;
  typename Format::driver_queue front;
  typename Format::device_queue back;
  device::chain chain;
};

inline driver::buffer_segment part(std::uint64_t offset, std::uint64_t bytes) {
  return {bus_addr{data_base + offset}, bytes};
}

}  // namespace phasebit_test
