// SPDX-License-Identifier: BSL-1.0
// A driver and a device around one virtqueue, split or packed: the library's two halves, each in its own
// thread.
#pragma once

#include <phasebit/virtio/device/packed_queue.hpp>
#include <phasebit/virtio/device/split_queue.hpp>
#include <phasebit/virtio/driver/packed_queue.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include <model/support.hpp>

namespace model {

namespace virtio = phasebit::virtio;

struct queue_options {
  std::uint32_t size = 2;
  std::uint32_t buffers = 3;
  std::uint64_t features = virtio::feature::event_idx;
  bool indirect = false;      // two segments behind one descriptor; else one segment
  bool asleep = true;         // without work, each side waits for a notification; else it polls
  bool chained = false;       // two segments in two descriptors
  std::uint32_t batch = 1;    // buffers that the device returns at once, if there are so many
  std::uint32_t earlier = 0;  // buffers that have come and gone before the threads begin
  bool together = false;      // the driver publishes all that it has added at once
};

// The driver's buffers, and the words by which each side wakes the other.
struct virtqueue_words {
  std::array<explorer::plain<std::uint32_t>, 8> data{};  // one for each buffer
  std::uint32_t kick = 0;
  std::uint32_t interrupt = 0;
};

struct split {
  template <class Order>
  using driver = virtio::driver::split_queue<Order, std::uint32_t>;
  template <class Order>
  using device = virtio::device::split_queue<Order>;
};
struct packed {
  template <class Order>
  using driver = virtio::driver::packed_queue<Order, std::uint32_t>;
  template <class Order>
  using device = virtio::device::packed_queue<Order>;
};
template <class Format>
inline constexpr bool is_packed = std::is_same_v<Format, packed>;

// Counts notifications into a word, as a register write or a message does: everything before it is
// visible before it.
template <class Order>
class notifier {
 public:
  explicit notifier(std::uint32_t& word) noexcept : word_(&word) {}
  void notify() noexcept { Order::store(*word_, ++count_); }

 private:
  std::uint32_t* word_;
  std::uint32_t count_ = 0;
};
template <class Order>
class sleeper {
 public:
  explicit sleeper(const std::uint32_t& word) noexcept : word_(&word) {}
  void sleep() {
    await([&] { return Order::load(*word_) != seen_; });
    seen_ = Order::load(*word_);
    Order::after_load();
  }

 private:
  const std::uint32_t* word_;
  std::uint32_t seen_ = 0;
};

// The private state of each side.
template <class Format, class Order>
struct virtqueue_sides {
  std::array<virtio::driver::buffer_slot<std::uint32_t>, 4> slots;
  typename Format::template driver<Order> driver;
  std::array<virtio::device::buffer_state, 4> states;
  typename Format::template device<Order> device;
};

// The words that are read and written without an order, and hand over nothing but themselves.
inline void declare_event_words(program& p, std::byte* base,
                                const virtio::driver::queue_layout& layout) {
  std::byte* const driver = base + layout.driver_offset();
  std::byte* const device = base + layout.device_offset();
  p.atomic_bytes(driver, 4);  // flags and index, or the event structure of a packed queue
  p.atomic_bytes(device, 4);
  if (layout.packed) return;
  p.atomic_bytes(driver + 4 + 2 * layout.size, 2);
  p.atomic_bytes(device + 4 + 8 * layout.size, 2);
}

template <class Format, class Order>
auto virtqueue_pair(queue_options setup) {
  return [setup, earlier = past{},
          sides = std::make_shared<virtqueue_sides<Format, Order>>()](program& p) mutable {
    virtio::driver::queue_layout layout;
    layout.size = setup.size;
    layout.packed = is_packed<Format>;
    layout.indirect_entries = setup.indirect ? 2 : 0;
    auto& memory = p.make<aligned_bytes<1024>>();
    auto& words = p.make<virtqueue_words>();
    std::byte* const base = memory.bytes.data();
    p.name_bytes(base, layout.driver_offset(), "the descriptors");
    p.name_bytes(base + layout.driver_offset(), layout.device_offset() - layout.driver_offset(),
                 "the driver's area");
    p.name_bytes(base + layout.device_offset(), layout.tables_offset() - layout.device_offset(),
                 "the device's area");
    p.name(words.kick, "the notification");
    p.name(words.interrupt, "the interrupt");
    for (std::size_t i = 0; i != words.data.size(); ++i) {
      p.name(words.data[i], "buffer " + std::to_string(i));
    }
    if (is_packed<Format>) {
      // Length, id and flags are one word, of which only the first of a buffer is ordered.
      for (std::uint32_t i = 0; i != setup.size; ++i) p.atomic_bytes(base + 16 * i + 8, 8);
    }
    declare_event_words(p, base, layout);
    const std::uint64_t features = setup.features |
                                   (is_packed<Format> ? virtio::feature::ring_packed : 0) |
                                   (setup.indirect ? virtio::feature::indirect_desc : 0);

    earlier({past::bytes_of(memory), past::bytes_of(*sides)}, [&] {
      virtio::driver::queue_setup<std::uint32_t> driver;
      driver.layout = layout;
      driver.features = features;
      driver.memory = {{base, layout.bytes()},
                       phasebit::bus_addr{reinterpret_cast<std::uintptr_t>(base)}};
      driver.slots = sides->slots;
      check(static_cast<bool>(sides->driver.start(driver)), "the driver's queue starts");
      virtio::device::queue_setup device;
      device.size = setup.size;
      device.features = features;
      device.areas = {base, base + layout.driver_offset(), base + layout.device_offset()};
      device.buffers = sides->states;
      check(static_cast<bool>(sides->device.start(device)), "the device's queue starts");
      same_address<phasebit::guest_space> guest;
      std::array<virtio::device::chain_segment, 4> places;
      virtio::device::chain chain{places};
      const virtio::driver::buffer_segment segment{bus_address_of(words.data[0]), 4};
      for (std::uint32_t i = 0; i != setup.earlier; ++i) {
        static_cast<void>(sides->driver.add({}, std::span{&segment, 1}, 0));
        static_cast<void>(sides->driver.publish());
        static_cast<void>(sides->device.pop(guest, chain));
        sides->device.push(chain.id(), 4);
        static_cast<void>(sides->device.flush());
        static_cast<void>(sides->driver.poll([](std::uint32_t, std::uint32_t) noexcept {}));
      }
    });

    p.thread("driver", [=, &words] {
      auto& queue = sides->driver;
      notifier<Order> kick{words.kick};
      sleeper<Order> interrupts{words.interrupt};
      std::uint32_t added = 0;
      std::uint32_t returned = 0;
      std::uint32_t seen = 0;
      while (returned != setup.buffers) {
        while (added != setup.buffers) {
          const std::array<virtio::driver::buffer_segment, 2> segments = {
              virtio::driver::buffer_segment{bus_address_of(words.data[added]), 4},
              virtio::driver::buffer_segment{bus_address_of(words.data[added]), 4}};
          words.data[added].write(added + 1);
          const bool two = setup.indirect || setup.chained;
          const auto status =
              two ? queue.add(std::span{segments}.first(1), std::span{segments}.last(1), added)
                  : queue.add({}, std::span{segments}.last(1), added);
          if (status == virtio::driver::add_status::full) break;
          check(status == virtio::driver::add_status::added, "the buffer is added");
          ++added;
          if (!setup.together && queue.publish()) kick.notify();
        }
        if (setup.together && queue.publish()) kick.notify();
        auto take = [&](std::uint32_t number, std::uint32_t written) noexcept {
          check(written == 4, "the device has written the buffer");
          check((seen & (1U << number)) == 0, "a buffer is returned once");
          check(words.data[number].read() == number + 101, "the device's data is there");
          seen |= 1U << number;
          ++returned;
        };
        if (!setup.asleep) {
          queue.disable_notifications();
          await([&] { return queue.poll(take) != 0; });
        } else if (queue.poll(take) == 0 && !queue.enable_notifications()) {
          interrupts.sleep();
        }
        check(!queue.last_fault(), "the device keeps to the protocol");
      }
    });
    p.service("device", [=, &words] {
      auto& queue = sides->device;
      same_address<phasebit::guest_space> guest;
      notifier<Order> interrupt{words.interrupt};
      sleeper<Order> kicks{words.kick};
      std::array<virtio::device::chain_segment, 4> places;
      virtio::device::chain chain{places};
      for (;;) {
        auto status = virtio::device::pop_status::empty;
        if (setup.asleep) {
          status = queue.pop(guest, chain);
        } else {
          await([&] {
            status = queue.pop(guest, chain);
            return status != virtio::device::pop_status::empty;
          });
        }
        check(status != virtio::device::pop_status::refused, "the driver keeps to the protocol");
        if (status == virtio::device::pop_status::empty) {
          if (!queue.enable_notifications()) kicks.sleep();
          continue;
        }
        for (std::uint32_t taken = 1; status == virtio::device::pop_status::ready; ++taken) {
          auto& buffer =
              *reinterpret_cast<explorer::plain<std::uint32_t>*>(chain.writable()[0].data);
          buffer.write(buffer.read() + 100);
          queue.push(chain.id(), 4);
          if (taken == setup.batch) break;
          status = queue.pop(guest, chain);
        }
        if (queue.flush()) interrupt.notify();
      }
    });
  };
}

}  // namespace model
