// SPDX-License-Identifier: BSL-1.0
// Shadow doorbells with event indices, explored: the controller sleeps when it has nothing to do, the
// driver sleeps until an interrupt.
#include <doctest/doctest.h>
#include <model/mutants.hpp>
#include <model/shadow_pair.hpp>

using namespace model;

TEST_CASE_TEMPLATE("neither side sleeps for ever with shadow doorbells", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("ring of 2, four commands", shadow_pair<Order>({2, 4, 1, false, false}));
  holds("ring of 3, four commands, two in flight", shadow_pair<Order>({3, 4, 2, false, false}));
  holds("ring of 3, a doorbell each, three commands", shadow_pair<Order>({3, 3, 2, true, false}));
  holds("ring of 3, a doorbell each, three commands, polled",
        shadow_pair<Order>({3, 3, 2, true, false}, false));
  holds("indices across 2^16", shadow_indices_wrap<Order>());
}

TEST_CASE("mutants of shadow doorbells") {
  const nvme_setup setup{4, 3, 3, true, false};
  auto between_threads = shadow_pair<explorer::thread_order>(setup);
  auto with_device = shadow_pair<explorer::device_order>(setup);
  auto both = [&](const std::string& name, const mutation& fault, caught_by expected) {
    with_fault(name + " (threads)", {fault}, expected, between_threads);
    with_fault(name + " (device)", {fault}, expected, with_device);
  };
  const std::string driver = "ring/doorbell.hpp";
  const std::string device = "dma_object.hpp";
  // A release barrier is `dmb osh` on Arm, which is as strong as the full one.
  const caught_by all_but_arm{true, true, false, true};

  both("driver: entry before shadow", {operation::store, driver, "ring", effect::unordered},
       all_but_x86);
  both("driver: shadow before event index", {operation::full, driver, "ring", effect::unordered},
       all_of_them);
  both("driver: shadow before event index, acquire and release",
       {operation::full, driver, "ring", effect::weaker}, all_but_arm);
  both("controller: event index before shadow",
       {operation::full, "doorbells.hpp", "arm", effect::unordered}, all_of_them);
  both("controller: event index before shadow, acquire and release",
       {operation::full, "doorbells.hpp", "arm", effect::weaker}, all_but_arm);
  with_fault("controller: shadow before entry (threads)",
             {{operation::load, device, "load_word", effect::unordered}}, all_but_x86,
             between_threads);
  with_fault("controller: shadow before entry (device)",
             {{operation::after_load, device, "load_word", effect::unordered}}, all_but_x86,
             with_device);

  // A buffer whose data was read is used by the next command, whose shadow is stored before anything else.
  const nvme_setup reuse{3, 3, 1, false, true, 1};
  const mutation stores_only{operation::store, driver, "ring", effect::stores_only};
  with_fault("driver: shadow orders stores only (threads)", {stores_only}, all_but_x86,
             shadow_pair<explorer::thread_order>(reuse, false));
  with_fault("driver: shadow orders stores only (device)", {stores_only}, all_but_x86,
             shadow_pair<explorer::device_order>(reuse, false));

  // With shadow doorbells the register hands nothing over but itself; without them it is the tail
  // (nvme_queue_test.cpp).
  with_fault("controller: register is acquired (threads)",
             {{operation::load, "doorbells.hpp", "load", effect::unordered}}, none_of_them,
             between_threads);
  with_fault("controller: register is acquired (device)",
             {{operation::after_load, "doorbells.hpp", "load", effect::unordered}}, none_of_them,
             with_device);
}

TEST_CASE("a controller that does not look again after moving its event index sleeps for ever") {
  const report r = explorer::explore(
      {}, shadow_pair<explorer::device_order>({3, 3, 2, false, false}, true, without::second_look));
  REQUIRE(r.failure);
  CHECK(r.failure->kind == explorer::failure_kind::blocked);
  MESSAGE(r.failure->text());
}
TEST_CASE(
    "a kick may be taken after the shadow was read, as long as the event index moves after it") {
  holds("kick taken late", shadow_pair<explorer::device_order>({4, 3, 3, true, false}, true,
                                                               without::taking_the_kick_first));
}
