// SPDX-License-Identifier: BSL-1.0
// Virtqueues, explored: split and packed, with notifications by flag and by event index, indirect
// tables and in-order use, both sides asleep when they have nothing to do.
#include <phasebit/virtio/device/packed_queue.hpp>
#include <phasebit/virtio/device/split_queue.hpp>
#include <phasebit/virtio/driver/packed_queue.hpp>
#include <phasebit/virtio/driver/split_queue.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include <doctest/doctest.h>
#include <model/mutants.hpp>

using namespace model;
namespace virtio = phasebit::virtio;

namespace {

struct queue_options {
  std::uint32_t size = 2;
  std::uint32_t buffers = 3;
  std::uint64_t features = virtio::feature::event_idx;
  bool indirect = false;  // two segments behind one descriptor; else one segment
  bool asleep = true;     // without work, each side waits for a notification; else it polls
};

// What a driver hands over, and the words by which each side wakes the other.
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

template <class Format, class Order>
auto virtqueue_pair(queue_options setup) {
  return [setup](program& p) {
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
    const std::uint64_t features = setup.features |
                                   (is_packed<Format> ? virtio::feature::ring_packed : 0) |
                                   (setup.indirect ? virtio::feature::indirect_desc : 0);

    p.thread("driver", [=, &words] {
      std::array<virtio::driver::buffer_slot<std::uint32_t>, 4> slots;
      typename Format::template driver<Order> queue;
      virtio::driver::queue_setup<std::uint32_t> with;
      with.layout = layout;
      with.features = features;
      with.memory = {{base, layout.bytes()},
                     phasebit::bus_addr{reinterpret_cast<std::uintptr_t>(base)}};
      with.slots = slots;
      check(static_cast<bool>(queue.start(with)), "the driver's queue starts");
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
          const auto status = setup.indirect ? queue.add(std::span{segments}.first(1),
                                                         std::span{segments}.last(1), added)
                                             : queue.add({}, std::span{segments}.last(1), added);
          if (status == virtio::driver::add_status::full) break;
          check(status == virtio::driver::add_status::added, "the buffer is added");
          ++added;
          if (queue.publish()) kick.notify();
        }
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
      std::array<virtio::device::buffer_state, 4> states;
      typename Format::template device<Order> queue;
      virtio::device::queue_setup with;
      with.size = setup.size;
      with.features = features;
      with.areas = {base, base + layout.driver_offset(), base + layout.device_offset()};
      with.buffers = states;
      check(static_cast<bool>(queue.start(with)), "the device's queue starts");
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
        auto& buffer = *reinterpret_cast<explorer::plain<std::uint32_t>*>(chain.writable()[0].data);
        buffer.write(buffer.read() + 100);
        queue.push(chain.id(), 4);
        if (queue.flush()) interrupt.notify();
      }
    });
  };
}

}  // namespace

TEST_CASE_TEMPLATE("virtqueues return every buffer once, and neither side sleeps for ever", Format,
                   split, packed) {
  using virtio::feature::event_idx;
  using virtio::feature::in_order;
  const std::string name = is_packed<Format> ? "packed, " : "split, ";
  holds(name + "size 1, flags, asleep (device)",
        virtqueue_pair<Format, explorer::device_order>({1, 2, 0, false, true}));
  holds(name + "size 1, event index, asleep (threads)",
        virtqueue_pair<Format, explorer::thread_order>({1, 2, event_idx, false, true}));
  holds(name + "size 2, event index, asleep (device)",
        virtqueue_pair<Format, explorer::device_order>({2, 2, event_idx, false, true}));
  holds(name + "size 2, event index, indirect, in order, asleep (device)",
        virtqueue_pair<Format, explorer::device_order>({2, 2, event_idx | in_order, true, true}));
  holds(name + "size 1, polled, three laps (threads)",
        virtqueue_pair<Format, explorer::thread_order>({1, 4, 0, false, false}));
  holds(name + "size 2, polled, two laps (device)",
        virtqueue_pair<Format, explorer::device_order>({2, 4, 0, false, false}));
  holds(name + "size 2, polled, indirect, in order (device)",
        virtqueue_pair<Format, explorer::device_order>({2, 3, in_order, true, false}));
}

TEST_CASE_TEMPLATE("mutants of virtqueues", Format, split, packed) {
  using virtio::feature::event_idx;
  const std::string file = is_packed<Format> ? "packed_queue.hpp" : "split_queue.hpp";
  const std::string driver = "driver/" + file;
  const std::string device = "device/" + file;
  const std::string tail = is_packed<Format> ? "packed_access.hpp" : file;
  auto asleep = virtqueue_pair<Format, explorer::device_order>({2, 2, event_idx, false, true});
  auto polled = virtqueue_pair<Format, explorer::device_order>({1, 3, 0, false, false});
  auto between_threads = virtqueue_pair<Format, explorer::thread_order>({1, 3, 0, false, false});
  const caught_by all_but_arm{true, true, false, true};

  with_fault("driver: index before event index",
             {{operation::full, driver, "publish", effect::unordered}}, all_of_them, asleep);
  with_fault("driver: index before event index, acquire and release",
             {{operation::full, driver, "publish", effect::weaker}}, all_but_arm, asleep);
  with_fault("driver: event index before index",
             {{operation::full, driver, "enable_notifications", effect::unordered}}, all_of_them,
             asleep);
  with_fault("device: index before event index",
             {{operation::full, device, "flush", effect::unordered}}, all_of_them, asleep);
  with_fault("device: event index before index",
             {{operation::full, device, "enable_notifications", effect::unordered}}, all_of_them,
             asleep);
  // Not needed: an event index hands over nothing but itself, and full() follows its store.
  with_fault("driver: event index is released",
             {{operation::store, driver,
               is_packed<Format> ? "store_events" : "enable_notifications", effect::unordered}},
             none_of_them, asleep);
  with_fault("device: event index is released",
             {{operation::store, device,
               is_packed<Format> ? "store_events" : "enable_notifications", effect::unordered}},
             none_of_them, asleep);
  if (is_packed<Format>) {
    // One function stores what either side hands over, and one loads it.
    with_fault("descriptor before its flags",
               {{operation::store, tail, "publish_tail", effect::unordered}}, all_but_x86, polled);
    with_fault("flags that order stores only",
               {{operation::store, tail, "publish_tail", effect::stores_only}}, all_but_x86,
               polled);
    with_fault("flags before descriptor (threads)",
               {{operation::load, tail, "load_tail", effect::unordered}}, all_but_x86,
               between_threads);
    with_fault("driver: flags before buffer",
               {{operation::after_load, driver, "read_used", effect::unordered}}, all_but_x86,
               polled);
    with_fault("device: flags before descriptor",
               {{operation::after_load, device, "", effect::unordered}}, all_but_x86, polled);
  } else {
    with_fault("driver: entries before index",
               {{operation::store, driver, "publish", effect::unordered}}, all_but_x86, polled);
    with_fault("device: entries and data before index",
               {{operation::store, device, "flush", effect::unordered}}, all_but_x86, polled);
    with_fault("device: index that orders stores only",
               {{operation::store, device, "flush", effect::stores_only}}, all_but_x86, polled);
    with_fault("driver: index before entries",
               {{operation::after_load, driver, "look", effect::unordered}}, all_but_x86, polled);
    with_fault("device: index before entries",
               {{operation::after_load, device, "look", effect::unordered}}, all_but_x86, polled);
    with_fault("driver: index before entries (threads)",
               {{operation::load, driver, "look", effect::unordered}}, all_but_x86,
               between_threads);
    with_fault("device: index before entries (threads)",
               {{operation::load, device, "look", effect::unordered}}, all_but_x86,
               between_threads);
  }
}
