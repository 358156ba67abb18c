// SPDX-License-Identifier: BSL-1.0
// Virtqueues, explored: split and packed, with notifications by flag and by event index, indirect
// tables and in-order use, both sides asleep when they have nothing to do.
#include <doctest/doctest.h>
#include <model/hostile_chains.hpp>
#include <model/mutants.hpp>
#include <model/virtqueues.hpp>

using namespace model;

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
  holds(name + "size 2, chains of two, polled, three laps (device)",
        virtqueue_pair<Format, explorer::device_order>({2, 3, 0, false, false, true}));
  holds(name + "size 4, chains of two, polled (device)",
        virtqueue_pair<Format, explorer::device_order>({4, 3, 0, false, false, true}));
  holds(name + "size 2, returned in pairs, polled, two laps (device)",
        virtqueue_pair<Format, explorer::device_order>({2, 4, 0, false, false, false, 2}));
}

TEST_CASE_TEMPLATE("a device refuses a buffer that there cannot be", Format, split, packed) {
  const std::string name = is_packed<Format> ? "packed, " : "split, ";
  holds(name + "chains and indirect tables", hostile_chains<Format, explorer::device_order>());
}

TEST_CASE("split virtqueues across the wrap of their indices at 2^16") {
  using virtio::feature::event_idx;
  holds("size 1, event index, asleep, from 65535 (threads)",
        virtqueue_pair<split, explorer::thread_order>(
            {1, 2, event_idx, false, true, false, 1, 65535}));
  holds("size 2, event index, asleep, from 65535 (device)",
        virtqueue_pair<split, explorer::device_order>(
            {2, 2, event_idx, false, true, false, 1, 65535}));
  holds("size 2, polled, from 65534 (device)",
        virtqueue_pair<split, explorer::device_order>({2, 4, 0, false, false, false, 1, 65534}));
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
