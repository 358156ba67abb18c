// SPDX-License-Identifier: BSL-1.0
// A device side that keeps an in-flight record and ends at any store of it, and its successor.
#pragma once

#include <phasebit/virtio/device/inflight_packed.hpp>
#include <phasebit/virtio/device/inflight_split.hpp>

#include <array>
#include <bit>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <model/virtqueues.hpp>

namespace model {

// Ends the process behind one of its stores: what was stored stays, what follows does not happen.
struct mortal_order : phasebit::thread_order {
  template <phasebit::SharedWord T>
  static void store(T& mine, std::type_identity_t<T> value) noexcept {
    phasebit::thread_order::store(mine, value);
    if (left != 0 && --left == 0) std::longjmp(end, 1);
  }
  static inline unsigned left = 0;  // stores until the end; 0: none
  static inline std::jmp_buf end;
};

template <class Format, class Order>
using inflight_record =
    std::conditional_t<is_packed<Format>, virtio::device::inflight_packed<Order>,
                       virtio::device::inflight_split<Order>>;

// The record of a queue of two, and the words behind it, which are not the device's.
template <class Format>
struct record_memory {
  static constexpr std::size_t size =
      is_packed<Format> ? virtio::inflight_packed_bytes(2) : virtio::inflight_split_bytes(2);

  alignas(64) std::array<std::byte, size> bytes{};
  std::array<explorer::plain<std::uint32_t>, 8> behind{};

  template <class T>
  [[nodiscard]] T& at(std::size_t offset) {
    return *reinterpret_cast<T*>(bytes.data() + offset);
  }
  [[nodiscard]] auto& header() {
    using type = std::conditional_t<is_packed<Format>, virtio::inflight_packed_header,
                                    virtio::inflight_split_header>;
    return at<type>(0);
  }
  [[nodiscard]] auto& entry(std::size_t i) {
    using type = std::conditional_t<is_packed<Format>, virtio::inflight_packed_entry,
                                    virtio::inflight_split_entry>;
    return at<type>((is_packed<Format> ? 32 : 16) + i * sizeof(type));
  }
};

// The memory that both processes share with the driver, and the driver's state.
template <class Format, class Order>
struct inflight_world {
  static constexpr std::uint32_t size = 2;
  using device_queue = typename Format::template device<Order>;

  using buffers = std::array<explorer::plain<std::uint32_t>, 8>;

  // One process after the other needs no memory of the explorer's.
  aligned_bytes<1024> own_memory;
  record_memory<Format> own_record;
  buffers own_data;
  aligned_bytes<1024>* memory;
  record_memory<Format>* record;
  buffers* data;
  virtio::driver::queue_layout layout;
  std::array<virtio::driver::buffer_slot<std::uint32_t>, 4> slots;
  typename Format::template driver<Order> driver;
  std::array<virtio::device::buffer_state, 4> states;
  device_queue device;
  std::uint32_t added = 0;
  std::uint32_t returned = 0;  // a bit for each buffer
  std::array<virtio::device::chain_segment, 4> places;
  virtio::device::chain chain{places};

  [[nodiscard]] std::uint64_t features() const {
    return is_packed<Format> ? virtio::feature::ring_packed : 0;
  }
  void begin(aligned_bytes<1024>& queue, record_memory<Format>& from, buffers& to) {
    queue = {};
    from.bytes = {};
    memory = &queue;
    record = &from;
    data = &to;
    added = returned = 0;
    chain = virtio::device::chain{places};
  }
  void start_driver() {
    layout.size = size;
    layout.packed = is_packed<Format>;
    virtio::driver::queue_setup<std::uint32_t> with;
    with.layout = layout;
    with.features = features();
    std::byte* const base = memory->bytes.data();
    with.memory = {{base, layout.bytes()},
                   phasebit::bus_addr{reinterpret_cast<std::uintptr_t>(base)}};
    with.slots = slots;
    check(static_cast<bool>(driver.start(with)), "the driver's queue starts");
  }
  // A process begins, with the record that is there. False where the record is refused.
  bool start_device() {
    device = {};
    states = {};
    std::byte* const base = memory->bytes.data();
    virtio::device::queue_setup with;
    with.size = size;
    with.features = features();
    with.areas = {base, base + layout.driver_offset(), base + layout.device_offset()};
    with.buffers = states;
    check(static_cast<bool>(device.start(with)), "the device's queue starts");
    const auto attached = inflight_record<Format, Order>::attach(record->bytes, size);
    return attached && device.resume(*attached);
  }
  void add() {
    const virtio::driver::buffer_segment segment{bus_address_of((*data)[added]), 4};
    check(driver.add({}, std::span{&segment, 1}, added) == virtio::driver::add_status::added,
          "the queue has a place for what was returned");
    ++added;
  }
  // Two buffers are outstanding, of eight in all.
  void fill() {
    while (added != 8 && added - static_cast<std::uint32_t>(std::popcount(returned)) != size) add();
    static_cast<void>(driver.publish());
  }
  void poll() {
    static_cast<void>(driver.poll([&](std::uint32_t token, std::uint32_t) noexcept {
      check((returned & (1U << token)) == 0, "a buffer is returned once");
      returned |= 1U << token;
    }));
    check(!driver.last_fault(), "a successor returns what is in flight, once");
  }
  [[nodiscard]] std::uint32_t number() const {
    const auto at = reinterpret_cast<std::uintptr_t>(chain.writable()[0].data);
    return static_cast<std::uint32_t>((at - reinterpret_cast<std::uintptr_t>(data->data())) /
                                      sizeof((*data)[0]));
  }
  // Takes all buffers, returns the last first, and makes each visible or, if `together`, all at once.
  void serve(bool together) {
    same_address<phasebit::guest_space> guest;
    std::array<std::uint16_t, 4> ids{};
    std::size_t count = 0;
    std::uint32_t before = 0;
    while (count != ids.size() && device.pop(guest, chain) == virtio::device::pop_status::ready) {
      check(count == 0 || number() > before, "buffers are taken again in their order");
      before = number();
      ids[count++] = chain.id();
    }
    check(!device.last_fault(), "a queue goes on after its predecessor's end");
    while (count != 0) {
      device.push(ids[--count], 4);
      if (!together) static_cast<void>(device.flush());
    }
    static_cast<void>(device.flush());
  }
};

// Two laps of a queue of two; the process ends behind any store of the second lap, and the
// successor serves the remaining buffers and two laps more.
template <class Format>
auto process_that_ends(bool together) {
  return [together, kept = std::make_shared<inflight_world<Format, mortal_order>>()](program& p) {
    p.thread("device", [together, kept] {
      inflight_world<Format, mortal_order>& w = *kept;
      w.begin(w.own_memory, w.own_record, w.own_data);
      mortal_order::left = 0;
      w.start_driver();
      check(w.start_device(), "a new record is taken");
      w.fill();
      w.serve(together);
      w.poll();
      w.fill();
      // More than there are stores: the process does not end.
      mortal_order::left = 1 + choose(24);
      if (setjmp(mortal_order::end) == 0) w.serve(together);
      mortal_order::left = 0;
      // The driver may go on before the successor begins.
      if (choose(2) == 0) {
        w.poll();
        w.fill();
      }
      check(w.start_device(), "the record of a process that ended is taken");
      w.serve(true);
      w.poll();
      check(w.returned == (1U << w.added) - 1, "no buffer is lost");
      for (int lap = 0; lap != 2; ++lap) {
        w.fill();
        w.serve(together);
        w.poll();
      }
      check(w.returned == 255U, "the queue goes on");
    });
  };
}

// A record that the front end has changed while two buffers were in flight is refused, at once or
// at the buffer concerned.
template <class Format>
auto changed_record() {
  return [kept = std::make_shared<inflight_world<Format, mortal_order>>()](program& p) {
    p.thread("device", [kept] {
      inflight_world<Format, mortal_order>& w = *kept;
      w.begin(w.own_memory, w.own_record, w.own_data);
      mortal_order::left = 0;
      w.start_driver();
      check(w.start_device(), "a new record is taken");
      w.add();
      w.add();
      static_cast<void>(w.driver.publish());
      same_address<phasebit::guest_space> guest;
      for (int i = 0; i != 2; ++i) static_cast<void>(w.device.pop(guest, w.chain));
      auto header = phasebit::snapshot(w.own_record.header());
      bool at_once = true;
      if constexpr (is_packed<Format>) {
        auto first = phasebit::snapshot(w.own_record.entry(0));
        auto second = phasebit::snapshot(w.own_record.entry(1));
        switch (choose(5)) {
          case 0:
            header.old_free_head = 3;
            break;
          case 1:
            header.used_idx = header.old_used_idx = 2;
            break;
          case 2:
            first.num = 2;
            break;
          case 3:
            first.num = 0;
            at_once = false;
            break;
          default:
            first.num = 2;
            first.flags = static_cast<std::uint16_t>(first.flags | virtio::descriptor_flag::next);
            first.next = 2;
            second.num = 0;
            at_once = false;
        }
        phasebit::overwrite(w.own_record.entry(0), first);
        phasebit::overwrite(w.own_record.entry(1), second);
      } else {
        if (choose(2) == 0) {
          header.used_idx = static_cast<std::uint16_t>(-3);
        } else {
          header.used_idx = static_cast<std::uint16_t>(-1);
          header.last_batch_head = 2;
        }
      }
      phasebit::overwrite(w.own_record.header(), header);
      const bool taken = w.start_device();
      check(taken != at_once, "a record that contradicts itself is refused");
      if (!taken) return;
      check(w.device.pop(guest, w.chain) == virtio::device::pop_status::refused &&
                w.device.last_fault().code == virtio::device::fault_code::inflight_record,
            "a buffer that the record contradicts is refused");
    });
  };
}

// The front end changes a link of the record at any moment: the device stays within the record.
template <class Format>
auto changing_record() {
  return [kept = std::make_shared<inflight_world<Format, explorer::device_order>>()](program& p) {
    auto& memory = p.make<aligned_bytes<1024>>();
    auto& record = p.make<record_memory<Format>>();
    auto& data = p.make<std::array<explorer::plain<std::uint32_t>, 8>>();
    p.atomic(memory);
    p.atomic(record.bytes);
    p.name(memory, "the queue");
    p.name(record.bytes, "the record");
    p.name(record.behind, "what lies behind the record");
    inflight_world<Format, explorer::device_order>& w = *kept;
    w.begin(memory, record, data);
    w.start_driver();
    check(w.start_device(), "a new record is taken");
    p.thread("device", [kept] {
      inflight_world<Format, explorer::device_order>& mine = *kept;
      mine.add();
      mine.add();
      static_cast<void>(mine.driver.publish());
      same_address<phasebit::guest_space> guest;
      std::array<std::uint16_t, 2> ids{};
      for (std::uint16_t& id : ids) {
        if (mine.device.pop(guest, mine.chain) != virtio::device::pop_status::ready) return;
        id = mine.chain.id();
      }
      for (const std::uint16_t id : ids) mine.device.push(id, 4);
      static_cast<void>(mine.device.flush());
    });
    p.thread("its neighbour", [&record] {
      for (auto& word : record.behind) word.write(1);
    });
    p.thread("front end", [&record] {
      const unsigned which = choose(2);
      auto& e = record.entry(which);
      if constexpr (is_packed<Format>) {
        explorer::device_order::store(choose(2) == 0 ? e.next : e.last, std::uint16_t{2});
      } else {
        explorer::device_order::store(e.next, std::uint16_t{2});
      }
    });
  };
}

}  // namespace model
