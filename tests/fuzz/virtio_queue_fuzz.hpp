// SPDX-License-Identifier: BSL-1.0
// A driver that writes arbitrary bytes into its rings, tables and buffers while the device side of a
// queue works: what the device hands out lies in the driver's memory, ids are never in flight twice.
#pragma once

#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/virtio/device/chain.hpp>
#include <phasebit/virtio/device/queue_setup.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <fuzz/fuzz_input.hpp>

namespace phasebit_test {

inline void must(bool condition) {
  if (!condition) std::abort();
}

template <class Queue, bool Packed>
void fuzz_virtqueue(const std::uint8_t* data, std::size_t bytes) {
  using namespace phasebit;
  namespace device = phasebit::virtio::device;
  constexpr std::uint64_t base = 0x10'0000;
  constexpr std::size_t half = 4096;
  constexpr std::size_t places = 24;
  static constexpr std::uint32_t sizes[] = {1, 2, 4, 8, 16, 3, 5, 7};

  fuzz_input in{data, bytes};
  // Two regions that are neighbours for the driver and not in this process.
  struct memory_block {
    alignas(64) std::array<std::byte, half> first{};
    std::array<std::byte, 64> gap{};
    alignas(64) std::array<std::byte, half> second{};
  };
  static memory_block memory;
  memory = {};
  local_dma<> map;
  must(static_cast<bool>(map.add({bus_addr{base}, half, memory.first.data()})));
  must(static_cast<bool>(
      map.add({bus_addr{base + half}, half, memory.second.data(), access::read_write})));

  const std::uint64_t how = in.word();
  std::array<device::buffer_state, 16> buffers{};
  device::queue_setup setup;
  setup.size = sizes[how % (Packed ? 8 : 5)];
  if ((how & 0x10) != 0) setup.features |= virtio::feature::event_idx;
  if ((how & 0x20) != 0) setup.features |= virtio::feature::indirect_desc;
  if ((how & 0x40) != 0) setup.features |= virtio::feature::in_order;
  setup.areas = {memory.first.data(), memory.first.data() + 256, memory.first.data() + 320};
  setup.buffers = buffers;
  setup.max_indirect_entries = 12;

  Queue queue;
  must(static_cast<bool>(queue.start(setup)));
  std::array<device::chain_segment, places> segments;
  device::chain chain{segments};
  std::array<std::uint16_t, 16> taken{};
  std::uint32_t in_flight = 0;

  const auto inside = [&](const device::chain_segment& s) {
    const std::uint64_t offset = s.address - base;
    must(s.bytes != 0 && offset < 2 * half);
    const std::byte* const at =
        offset < half ? memory.first.data() + offset : memory.second.data() + (offset - half);
    must(s.data == at);
    must(s.bytes <= (offset < half ? half - offset : 2 * half - offset));
  };

  while (in.left != 0) {
    const std::uint64_t word = in.word();
    switch (word % 8) {
      case 0:
      case 1:
      case 2: {  // the driver writes 1 to 8 bytes
        const std::size_t offset = (word >> 8) % (half - 8);
        std::byte* const to = (word & 0x80) != 0 ? memory.second.data() : memory.first.data();
        const std::uint64_t value = in.word();
        std::memcpy(to + offset, &value, 1 + (word >> 4) % 8);
        break;
      }
      case 3: {  // a whole descriptor that is nearly right
        const std::size_t index = (word >> 8) % 16;
        const std::uint64_t addr = base + (word >> 16) % (2 * half);
        const std::uint32_t tail[2] = {static_cast<std::uint32_t>(word >> 32) % 300,
                                       static_cast<std::uint32_t>(in.word())};
        std::memcpy(memory.first.data() + 16 * index, &addr, 8);
        std::memcpy(memory.first.data() + 16 * index + 8, tail, 8);
        break;
      }
      case 4: {
        const auto got = queue.pop(map, chain);
        if (got == device::pop_status::refused) {
          must(static_cast<bool>(queue.last_fault()));
          must(chain.readable().empty() && chain.writable().empty());
          break;
        }
        if (got == device::pop_status::empty) break;
        must(chain.id() < setup.size);
        for (std::uint32_t i = 0; i != in_flight; ++i) must(taken[i] != chain.id());
        must(in_flight < setup.size);
        taken[in_flight++] = chain.id();
        std::uint64_t total = 0;
        for (const auto& s : chain.readable()) {
          inside(s);
          total += s.bytes;
        }
        must(total == chain.readable_bytes());
        for (const auto& s : chain.writable()) {
          inside(s);
          total += s.bytes;
        }
        must(total == chain.readable_bytes() + chain.writable_bytes());
        break;
      }
      case 5:
        if (in_flight != 0) {
          const auto which = static_cast<std::uint32_t>((word >> 8) % in_flight);
          queue.push(taken[which], static_cast<std::uint32_t>(word >> 32));
          taken[which] = taken[--in_flight];
        }
        break;
      case 6:
        static_cast<void>(queue.flush());
        break;
      default:
        if ((word & 0x80) != 0) {
          static_cast<void>(queue.enable_notifications());
        } else if ((word & 0x40) != 0 && queue.last_fault()) {
          must(static_cast<bool>(queue.start(setup)));
          in_flight = 0;
        } else {
          queue.disable_notifications();
        }
        break;
    }
  }
  for (const std::byte b : memory.gap) must(b == std::byte{});
}

}  // namespace phasebit_test
