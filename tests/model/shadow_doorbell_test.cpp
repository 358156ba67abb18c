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

// As nvme::device::controller does in its rounds: a doorbell register is a wake-up, taken before the
// shadow is read; the event index is moved, and the shadow read again, before sleeping.
template <class Order>
class shadow_controller {
 public:
  shadow_controller(const nvme_memory& memory, shadow_words& words)
      : controller_(memory),
        registers_(*memory.doorbells, 0),
        shadow_(dma_, 0),
        words_(&words) {
    shadow_.enable(bus_address_of(words.shadow[0]), bus_address_of(words.events[0]));
  }

  void run() {
    for (;;) {
      if (registers_.load(0, side::submission) != nvme::device::doorbell_seen) {
        registers_.store(0, side::submission, nvme::device::doorbell_seen);
        Order::full();
        awake_ = true;
      }
      if (awake_) move_tail(shadow_.load(0, side::submission));
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
        move_tail(shadow_.ask(0, side::submission, controller_.sq().tail));
        awake_ = !controller_.sq().empty();
      }
      if (!awake_) {
        await([&] { return registers_.load(0, side::submission) != nvme::device::doorbell_seen; });
      }
    }
  }

 private:
  using side = nvme::device::ring_side;

  void move_tail(std::optional<std::uint32_t> tail) {
    const auto moved = controller_.sq().set_tail(*tail);
    check(moved != nvme::device::doorbell_verdict::invalid, "the shadow tail lies within the ring");
  }
  void move_head() {
    const auto moved = controller_.cq().set_head(*shadow_.load(0, side::completion));
    check(moved != nvme::device::doorbell_verdict::invalid, "the shadow head lies within the ring");
  }

  same_address<> dma_;
  nvme_controller<Order> controller_;
  nvme::device::doorbell_words<Order> registers_;
  nvme::device::shadow_doorbells<Order, same_address<>> shadow_;
  shadow_words* words_;
  std::uint32_t interrupts_ = 0;
  bool awake_ = false;
};

template <class Order>
auto shadow_pair(nvme_setup setup) {
  return [setup](program& p) {
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
    p.thread("driver", [memory, setup, &words] {
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
      nvme_driver{queue, setup}.template run_asleep<Order>(words.interrupt);
    });
    p.service("controller", [memory, &words] {
      shadow_controller<Order> controller{memory, words};
      controller.run();
    });
  };
}

}  // namespace

TEST_CASE_TEMPLATE("neither side sleeps for ever with shadow doorbells", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("ring of 2, four commands", shadow_pair<Order>({2, 4, 1, false}));
  holds("ring of 3, four commands, two in flight", shadow_pair<Order>({3, 4, 2, false}));
}
