// SPDX-License-Identifier: BSL-1.0
// Shadow doorbells with event indices, explored: the controller sleeps when it has nothing to do, the
// driver sleeps until an interrupt.
#include <phasebit/ring/doorbell.hpp>

#include <doctest/doctest.h>
#include <model/mutants.hpp>
#include <model/nvme_queues.hpp>

using namespace model;

namespace {

// Doorbell Buffer Config's two pages for queue 0, the interrupt message, and the registers.
struct shadow_words {
  std::array<phasebit::le<std::uint32_t>, 2> shadow;
  std::array<phasebit::le<std::uint32_t>, 2> events;
  std::uint32_t interrupt = 0;
};

template <class Order>
using shadow_sink = phasebit::ring::shadow_doorbell<explorer::register_doorbell, Order>;

template <class Order>
using shadow_queue = nvme::driver::queue_pair<Order, shadow_sink<Order>, std::uint32_t, 4>;

// Steps of the protocol that are no orderings, left out.
enum class without : std::uint8_t { nothing, second_look, taking_the_kick_first };

// As nvme::device::controller does in its rounds: a doorbell register is a wake-up, taken before the
// shadow is read; the event index is moved, and the shadow read again, before sleeping.
template <class Order>
class shadow_controller {
 public:
  shadow_controller(const nvme_memory& memory, shadow_words& words, without step)
      : controller_(memory),
        registers_(*memory.doorbells, 0),
        shadow_(dma_, 0),
        words_(&words),
        without_(step) {
    shadow_.enable(bus_address_of(words.shadow[0]), bus_address_of(words.events[0]));
  }

  void run() {
    for (;;) {
      if (registers_.load(0, side::submission) != nvme::device::doorbell_seen) {
        if (without_ != without::taking_the_kick_first) take_kick();
        awake_ = true;
      }
      if (awake_) move_tail(shadow_.load(0, side::submission));
      if (awake_ && without_ == without::taking_the_kick_first) take_kick();
      const bool posted = !controller_.sq().empty();
      while (!controller_.sq().empty()) {
        if (controller_.cq().full()) {
          await([&] {
            move_head();
            return !controller_.cq().full();
          });
        }
        controller_.complete_one();
      }
      if (posted) Order::store(words_->interrupt, ++interrupts_);
      if (awake_) {
        const auto tail = shadow_.arm(0, side::submission, controller_.sq().tail);
        if (without_ != without::second_look) move_tail(tail);
        awake_ = !controller_.sq().empty();
      }
      if (!awake_) {
        await([&] { return registers_.load(0, side::submission) != nvme::device::doorbell_seen; });
      }
    }
  }

 private:
  using side = nvme::device::ring_side;

  void take_kick() {
    registers_.store(0, side::submission, nvme::device::doorbell_seen);
    Order::full();
  }
  void move_tail(std::optional<std::uint32_t> tail) {
    const auto moved = controller_.sq().set_tail(*tail);
    check(moved != nvme::device::doorbell_update::invalid, "the shadow tail lies within the ring");
  }
  void move_head() {
    const auto moved = controller_.cq().set_head(*shadow_.load(0, side::completion));
    check(moved != nvme::device::doorbell_update::invalid, "the shadow head lies within the ring");
  }

  same_address<> dma_;
  nvme_controller<Order> controller_;
  nvme::device::doorbell_words<Order> registers_;
  nvme::device::shadow_doorbells<Order, same_address<>> shadow_;
  shadow_words* words_;
  without without_;
  std::uint32_t interrupts_ = 0;
  bool awake_ = false;
};

template <class Order>
auto shadow_pair(nvme_setup setup, bool interrupts = true, without step = without::nothing) {
  return [=](program& p) {
    const nvme_memory memory{p, setup.depth};
    auto& words = p.make<shadow_words>();
    words.shadow = {};
    words.events = {};
    memory.doorbells->fill(nvme::device::doorbell_seen);
    p.name(words.shadow[0], "the shadow of the SQ tail");
    p.name(words.shadow[1], "the shadow of the CQ head");
    p.name(words.events[0], "the event index of the SQ tail");
    p.name(words.events[1], "the event index of the CQ head");
    p.name(words.interrupt, "the interrupt");
    p.thread("driver", [memory, setup, interrupts, &words] {
      nvme::driver::queue_layout layout;
      static std::array<std::byte, 4> no_lists;
      layout.submission = memory.submission;
      layout.completion = memory.completion;
      layout.lists.bytes = no_lists;
      layout.list_bytes = 1;
      shadow_queue<Order> queue{
          layout,
          shadow_sink<Order>{words.shadow[0], words.events[0],
                             explorer::register_doorbell{(*memory.doorbells)[0]}},
          shadow_sink<Order>{words.shadow[1], words.events[1],
                             explorer::register_doorbell{(*memory.doorbells)[1]}}};
      nvme_driver driver{queue, setup};
      if (interrupts) {
        driver.template run_asleep<Order>(words.interrupt);
      } else {
        driver.run();
      }
    });
    p.service("controller", [memory, &words, step] {
      shadow_controller<Order> controller{memory, words, step};
      controller.run();
    });
  };
}

}  // namespace

TEST_CASE_TEMPLATE("neither side sleeps for ever with shadow doorbells", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("ring of 2, four commands", shadow_pair<Order>({2, 4, 1, false, false}));
  holds("ring of 3, four commands, two in flight", shadow_pair<Order>({3, 4, 2, false, false}));
  holds("ring of 3, a doorbell each, three commands", shadow_pair<Order>({3, 3, 2, true, false}));
  holds("ring of 3, a doorbell each, three commands, polled",
        shadow_pair<Order>({3, 3, 2, true, false}, false));
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

  // Not needed. The loads of completions are ordered by full(), which follows each doorbell.
  both("driver: shadow orders stores only", {operation::store, driver, "ring", effect::stores_only},
       none_of_them);
  // The event index and the register hand nothing over but themselves.
  both("controller: event index is released",
       {operation::store, device, "store_word", effect::unordered}, none_of_them);
  both("controller: kick is released",
       {operation::store, "doorbells.hpp", "store", effect::unordered}, none_of_them);
  with_fault("driver: event index is acquired",
             {{operation::load, driver, "ring", effect::unordered}}, none_of_them, between_threads);
  with_fault("controller: register is acquired (threads)",
             {{operation::load, "doorbells.hpp", "load", effect::unordered}}, none_of_them,
             between_threads);
  with_fault("controller: register is acquired (device)",
             {{operation::after_load, "doorbells.hpp", "load", effect::unordered}}, none_of_them,
             with_device);
  // The kick is taken before the event index is moved, and the shadow is read again after that.
  both("controller: kick taken before shadow is read",
       {operation::full, "shadow_doorbell_test.cpp", "take_kick", effect::unordered}, none_of_them);
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
