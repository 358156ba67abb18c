// SPDX-License-Identifier: BSL-1.0
// Virtqueues whose driver describes a buffer that there cannot be: each way in an execution of its own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <model/virtqueues.hpp>

namespace model {

// The memory that the device may reach: one region below 2^63, and the addresses at the end of 64 bits, which a
// translator may accept.
struct lenient_memory {
  using from = phasebit::guest_space;
  using to = phasebit::local_space;

  std::uintptr_t memory = 0;

  [[nodiscard]] phasebit::result<phasebit::segment<to>> translate(phasebit::address<from> a,
                                                                  std::uint64_t bytes,
                                                                  phasebit::access) const noexcept {
    const bool there = a.value() < std::uint64_t{1} << 63;
    return phasebit::segment<to>{phasebit::address<to>{there ? a.value() : memory}, bytes};
  }
};

template <class Format, class Order>
auto hostile_chains() {
  using virtio::device::fault_code;
  namespace flag = virtio::descriptor_flag;
  // The chosen variant, for both threads.
  return [chosen = std::make_shared<unsigned>(0U)](program& p) {
    struct part {
      std::uint64_t addr;
      std::uint32_t len;
      unsigned flags;
    };
    virtio::driver::queue_layout layout;
    layout.size = 4;
    layout.packed = is_packed<Format>;
    auto& memory = p.make<aligned_bytes<1024>>();
    // An indirect table, made of 16-byte descriptors. What lies behind it nothing has written.
    auto* const table = p.uninitialised<virtio::split_descriptor>(4);
    auto& go = p.make<explorer::word<std::uint32_t>>();
    std::byte* const base = memory.bytes.data();
    if (is_packed<Format>) p.atomic_bytes(base, 64);
    const auto at = [](const void* what) {
      return std::uint64_t{reinterpret_cast<std::uintptr_t>(what)};
    };
    p.thread("device", [=, &memory, &go] {
      std::array<virtio::device::buffer_state, 4> states;
      typename Format::template device<Order> queue;
      virtio::device::queue_setup with;
      with.size = 4;
      await([&] { return go.load(explorer::strength::acquire) != 0; });
      with.features = *chosen == 8 ? 0 : virtio::feature::indirect_desc;
      with.areas = {base, base + layout.driver_offset(), base + layout.device_offset()};
      with.buffers = states;
      with.max_indirect_entries = 2;
      check(static_cast<bool>(queue.start(with)), "the device's queue starts");
      const lenient_memory guest{reinterpret_cast<std::uintptr_t>(memory.bytes.data())};
      std::array<virtio::device::chain_segment, 4> places;
      virtio::device::chain chain{std::span{places}.first(2)};
      auto status = virtio::device::pop_status::empty;
      await([&] {
        status = queue.pop(guest, chain);
        return status != virtio::device::pop_status::empty;
      });
      constexpr std::array<fault_code, 13> expected = {fault_code::zero_length,
                                                       fault_code::length_overflow,
                                                       fault_code::writable_before_readable,
                                                       fault_code::address_overflow,
                                                       fault_code::too_many_segments,
                                                       fault_code::indirect_size,
                                                       fault_code::chain_too_long,
                                                       fault_code::indirect_nested,
                                                       fault_code::indirect_not_negotiated,
                                                       fault_code::indirect_with_next,
                                                       fault_code::address_overflow,
                                                       fault_code::next_out_of_range,
                                                       fault_code::chain_too_long};
      check(status == virtio::device::pop_status::refused &&
                queue.last_fault().code == expected[*chosen],
            "the fault is the one that the driver made");
    });
    p.service("driver", [=, &go] {
      *chosen = choose(is_packed<Format> ? 11U : 13U);
      go.store(1, explorer::strength::release);
      const std::uint64_t buffer = at(base);
      std::array<part, 4> parts{part{buffer, 4, flag::write}};
      std::size_t count = 1;
      auto indirect = [&](std::uint32_t entries) {
        parts[0] = {at(table), entries * 16, flag::indirect};
      };
      auto fill = [&](std::size_t i, unsigned flags, std::uint16_t next) {
        // A packed queue's tables have id and flags where a split one's have flags and next.
        table[i] = {.addr = buffer,
                    .len = 4U,
                    .flags = static_cast<std::uint16_t>(is_packed<Format> ? 0U : flags),
                    .next = is_packed<Format> ? static_cast<std::uint16_t>(flags) : next};
      };
      for (std::size_t i = 0; i != 2; ++i) fill(i, flag::write, 0);
      switch (*chosen) {
        case 0:
          parts[0].len = 0;
          break;
        case 1:
          parts[0] = {0, 0xffff'ffff, flag::write | flag::next};
          parts[1] = {0, 2, flag::write};
          count = 2;
          break;
        case 2:
          parts[0] = {buffer, 4, flag::write | flag::next};
          parts[1] = {buffer, 4, 0U};
          count = 2;
          break;
        case 3:
          parts[0] = {~std::uint64_t{1}, 4, flag::write};
          break;
        case 4:
          for (std::size_t i = 0; i != 3; ++i) {
            parts[i] = {buffer, 4, flag::write | (i != 2 ? flag::next : 0U)};
          }
          count = 3;
          break;
        case 5:
          indirect(1);
          parts[0].len = 17;
          break;
        case 6:
          for (std::size_t i = 0; i != 3; ++i) fill(i, flag::write, 0);
          indirect(3);
          break;
        case 7:
          fill(0, flag::indirect, 0);
          indirect(1);
          break;
        case 8:
          indirect(1);
          break;
        case 9:
          indirect(1);
          parts[0].flags |= flag::next;
          parts[1] = {buffer, 4, flag::write};
          count = 2;
          break;
        case 10:
          indirect(2);
          parts[0].addr = ~std::uint64_t{15};
          break;
        case 11:
          fill(0, flag::write | flag::next, 2);
          indirect(2);
          break;
        default:
          fill(0, flag::write | flag::next, 0);
          indirect(1);
      }
      if constexpr (is_packed<Format>) {
        virtio::detail::packed_ring ring{base};
        for (std::size_t i = count; i-- != 0;) {
          const auto index = static_cast<std::uint32_t>(i);
          ring.store_addr(index, parts[i].addr);
          ring.template publish_tail<Order>(
              index, ring.make_tail(parts[i].len, 0,
                                    static_cast<std::uint16_t>(parts[i].flags |
                                                               virtio::available_bits(true))));
        }
      } else {
        auto* const descriptors = reinterpret_cast<virtio::split_descriptor*>(base);
        auto& avail = *reinterpret_cast<virtio::avail_header*>(base + layout.driver_offset());
        for (std::size_t i = 0; i != count; ++i) {
          phasebit::overwrite(
              descriptors[i],
              virtio::split_descriptor{.addr = parts[i].addr,
                                       .len = parts[i].len,
                                       .flags = static_cast<std::uint16_t>(parts[i].flags),
                                       .next = static_cast<std::uint16_t>(i + 1)});
        }
        Order::store(avail.idx, phasebit::le<std::uint16_t>{std::uint16_t{1}});
      }
    });
  };
}

}  // namespace model
