// SPDX-License-Identifier: BSL-1.0
// Virtqueues whose other side breaks the protocol: in one way in each execution, at any moment.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <model/virtqueues.hpp>

namespace model {

// Two buffers in a queue of two. The driver stops with the fault, and has got back what was returned before it.
template <class Format, class Order>
auto hostile_device() {
  // The direction, for both threads.
  return [chosen = std::make_shared<unsigned>(0U)](program& p) {
    virtio::driver::queue_layout layout;
    layout.size = 2;
    layout.packed = is_packed<Format>;
    auto& memory = p.make<aligned_bytes<1024>>();
    auto& words = p.make<virtqueue_words>();
    std::byte* const base = memory.bytes.data();
    if (is_packed<Format>) p.atomic_bytes(base, 32);
    p.thread("driver", [=, &words] {
      using virtio::driver::fault_code;
      *chosen = is_packed<Format> ? choose(3) : choose(4);
      std::array<virtio::driver::buffer_slot<std::uint32_t>, 4> slots;
      typename Format::template driver<Order> queue;
      virtio::driver::queue_setup<std::uint32_t> with;
      with.layout = layout;
      with.memory = {{base, layout.bytes()},
                     phasebit::bus_addr{reinterpret_cast<std::uintptr_t>(base)}};
      with.slots = slots;
      check(static_cast<bool>(queue.start(with)), "the driver's queue starts");
      for (std::uint32_t i = 0; i != 2; ++i) {
        const virtio::driver::buffer_segment segment{bus_address_of(words.data[i]), 4};
        static_cast<void>(queue.add({}, std::span{&segment, 1}, i));
      }
      static_cast<void>(queue.publish());
      std::uint32_t returned = 0;
      while (!queue.last_fault()) {
        await([&] {
          const auto before = returned;
          static_cast<void>(queue.poll([&](std::uint32_t, std::uint32_t) noexcept { ++returned; }));
          check(returned <= 2, "no more buffers come back than were offered");
          return returned != before || queue.last_fault();
        });
      }
      const std::array expected = {fault_code::id_out_of_range, fault_code::not_in_flight,
                                   fault_code::length_overflow, fault_code::used_index_jump};
      check(queue.last_fault().code == expected[*chosen],
            "the fault is the one that the device made");
      check(returned == (*chosen == 1 ? 1U : 0U), "buffers from before the fault came back");
    });
    p.service("device", [=] {
      if constexpr (is_packed<Format>) {
        virtio::detail::packed_ring ring{base};
        const auto id = *chosen == 0 ? std::uint16_t{2} : std::uint16_t{0};
        const auto flags =
            static_cast<std::uint16_t>(virtio::used_bits(true) | virtio::descriptor_flag::write);
        await([&] {
          return virtio::is_available(ring.flags(ring.template load_tail<Order>(0)), true);
        });
        Order::after_load();
        const std::uint32_t bytes = *chosen == 2 ? 5 : 4;
        const auto tail = ring.make_tail(bytes, id, flags);
        ring.template publish_tail<Order>(0, tail);
        if (*chosen == 1) ring.template publish_tail<Order>(1, tail);
      } else {
        const auto& avail =
            *reinterpret_cast<const virtio::avail_header*>(base + layout.driver_offset());
        auto& used = *reinterpret_cast<virtio::used_header*>(base + layout.device_offset());
        auto* const entries = reinterpret_cast<virtio::used_element*>(
            base + layout.device_offset() + sizeof(virtio::used_header));
        await([&] { return Order::load(avail.idx) == 2; });
        Order::after_load();
        phasebit::overwrite(entries[0], virtio::used_element{.id = *chosen == 0 ? 2U : 0U,
                                                             .len = *chosen == 2 ? 5U : 4U});
        phasebit::overwrite(entries[1],
                            virtio::used_element{.id = *chosen == 1 ? 0U : 1U, .len = 4U});
        const std::array<std::uint16_t, 4> index = {1, 2, 1, 3};
        Order::store(used.idx, phasebit::le<std::uint16_t>{index[*chosen]});
      }
    });
  };
}

// The device stops with the fault, and has taken what was offered before it.
template <class Format, class Order>
auto hostile_driver() {
  // The direction, for both threads.
  return [chosen = std::make_shared<unsigned>(0U)](program& p) {
    virtio::driver::queue_layout layout;
    layout.size = 2;
    layout.packed = is_packed<Format>;
    auto& memory = p.make<aligned_bytes<1024>>();
    auto& words = p.make<virtqueue_words>();
    auto& progress = p.make<explorer::word<std::uint32_t>>();
    std::byte* const base = memory.bytes.data();
    if (is_packed<Format>) p.atomic_bytes(base, 32);
    const std::uint64_t buffer = bus_address_of(words.data[0]).value();
    p.thread("device", [=, &progress] {
      using virtio::device::fault_code;
      std::array<virtio::device::buffer_state, 4> states;
      typename Format::template device<Order> queue;
      virtio::device::queue_setup with;
      with.size = 2;
      with.areas = {base, base + layout.driver_offset(), base + layout.device_offset()};
      with.buffers = states;
      check(static_cast<bool>(queue.start(with)), "the device's queue starts");
      same_address<phasebit::guest_space> guest;
      std::array<virtio::device::chain_segment, 4> places;
      virtio::device::chain chain{places};
      std::uint32_t taken = 0;
      auto status = virtio::device::pop_status::empty;
      while (status != virtio::device::pop_status::refused) {
        await([&] {
          status = queue.pop(guest, chain);
          return status != virtio::device::pop_status::empty;
        });
        if (status == virtio::device::pop_status::ready) {
          progress.store(++taken, explorer::strength::release);
        }
        check(taken <= 2, "no more buffers are taken than the queue has entries");
      }
      const std::array<fault_code, 5> of_split = {
          fault_code::avail_index_jump, fault_code::head_out_of_range, fault_code::buffer_in_flight,
          fault_code::next_out_of_range, fault_code::chain_too_long};
      const std::array<fault_code, 4> of_packed = {
          fault_code::ring_overrun, fault_code::id_out_of_range, fault_code::buffer_in_flight,
          fault_code::wrong_flags};
      const auto expected = is_packed<Format> ? of_packed[*chosen % 4] : of_split[*chosen];
      check(queue.last_fault().code == expected, "the fault is the one that the driver made");
    });
    p.service("driver", [=, &progress] {
      *chosen = is_packed<Format> ? choose(4) : choose(5);
      if constexpr (is_packed<Format>) {
        virtio::detail::packed_ring ring{base};
        auto put = [&](std::uint32_t index, std::uint16_t id, unsigned flags, bool wrap = true) {
          ring.store_addr(index, buffer);
          ring.template publish_tail<Order>(
              index,
              ring.make_tail(4, id,
                             static_cast<std::uint16_t>(flags | virtio::descriptor_flag::write |
                                                        virtio::available_bits(wrap))));
        };
        put(0, *chosen == 1 ? 2 : 0, *chosen == 3 ? virtio::descriptor_flag::next : 0U);
        if (*chosen == 0) {
          // The first descriptor is in flight, and looks available in the next lap.
          await([&] { return progress.load(explorer::strength::acquire) == 1; });
          put(0, 1, 0U, false);
          put(1, 1, virtio::descriptor_flag::next);
        } else if (*chosen != 3) {
          put(1, 0, 0U);
        }
      } else {
        auto* const table = reinterpret_cast<virtio::split_descriptor*>(base);
        auto& avail = *reinterpret_cast<virtio::avail_header*>(base + layout.driver_offset());
        auto* const ring = reinterpret_cast<phasebit::le<std::uint16_t>*>(
            base + layout.driver_offset() + sizeof(virtio::avail_header));
        const bool next = *chosen >= 3;
        phasebit::overwrite(
            table[0],
            virtio::split_descriptor{
                .addr = buffer,
                .len = 4U,
                .flags = static_cast<std::uint16_t>(virtio::descriptor_flag::write |
                                                    (next ? virtio::descriptor_flag::next : 0U)),
                .next = *chosen == 3 ? std::uint16_t{2} : std::uint16_t{0}});
        phasebit::overwrite(ring[0], phasebit::le<std::uint16_t>{*chosen == 1 ? std::uint16_t{2}
                                                                              : std::uint16_t{0}});
        phasebit::overwrite(ring[1], phasebit::le<std::uint16_t>{std::uint16_t{0}});
        const std::array<std::uint16_t, 5> index = {3, 1, 2, 1, 1};
        Order::store(avail.idx, phasebit::le<std::uint16_t>{index[*chosen]});
      }
    });
  };
}

}  // namespace model
