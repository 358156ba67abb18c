// SPDX-License-Identifier: BSL-1.0
// Shadow doorbells with event indices: a driver and a controller that sleeps when it has nothing to do.
#pragma once

#include <phasebit/ring/doorbell.hpp>

#include <model/nvme_queues.hpp>

namespace model {

// Doorbell Buffer Config's two pages for queue 0, the interrupt message, and the registers.
struct shadow_words {
  std::array<phasebit::le<std::uint32_t>, 2> shadow;
  std::array<phasebit::le<std::uint32_t>, 2> events;
  std::uint32_t interrupt = 0;
};

template <class Order>
using shadow_sink = phasebit::ring::shadow_doorbell<explorer::register_doorbell, Order>;

template <class Order>
using shadow_queue = nvme::driver::queue_pair<Order, shadow_sink<Order>, std::uint32_t, 8>;

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

  void take_kick() { registers_.store(0, side::submission, nvme::device::doorbell_seen); }
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
inline auto shadow_pair(nvme_setup setup, bool interrupts = true, without step = without::nothing) {
  return [=](program& p) {
    const nvme_memory memory{p, setup.depth};
    auto& words = p.make<shadow_words>();
    words.shadow = {};
    words.events = {};
    p.atomic(words.events);
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
      nvme_driver driver{queue, setup, memory};
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

// The words of a ring of 65536 entries whose index wraps: event indices are compared modulo 2^16. The driver
// waits until the controller, which sleeps between kicks, has seen the last index.
template <class Order>
auto shadow_indices_wrap() {
  return [](program& p) {
    auto& doorbells = p.make<std::array<std::uint32_t, 2>>();
    auto& words = p.make<shadow_words>();
    doorbells.fill(nvme::device::doorbell_seen);
    p.atomic(doorbells);
    constexpr std::uint32_t start = 65533;
    words.shadow = {};
    words.events = {};
    p.atomic(words.events);
    words.events[0] = start;
    words.interrupt = start;
    p.name(words.shadow[0], "the shadow of the SQ tail");
    p.name(words.events[0], "the event index of the SQ tail");
    p.name(words.interrupt, "what the controller has seen");
    p.name(doorbells[0], "the SQ tail doorbell");
    auto& sink = p.make<shadow_sink<Order>>(words.shadow[0], words.events[0],
                                            explorer::register_doorbell{doorbells[0]});
    sink.ring(start);
    p.thread("driver", [&sink, &words] {
      for (const std::uint32_t tail : {65534U, 65535U, 0U, 1U}) sink.ring(tail);
      await([&] { return Order::load(words.interrupt) == 1; });
    });
    p.service("controller", [&words, &doorbells] {
      using side = nvme::device::ring_side;
      same_address<> dma;
      nvme::device::doorbell_words<Order> registers{doorbells, 0};
      nvme::device::shadow_doorbells<Order, same_address<>> shadow{dma, 0};
      shadow.enable(bus_address_of(words.shadow[0]), bus_address_of(words.events[0]));
      std::uint32_t tail = start;
      for (;;) {
        await([&] { return registers.load(0, side::submission) != nvme::device::doorbell_seen; });
        registers.store(0, side::submission, nvme::device::doorbell_seen);
        std::uint32_t next = *shadow.load(0, side::submission);
        do {
          tail = next;
          Order::store(words.interrupt, tail);
          next = *shadow.arm(0, side::submission, tail);
        } while (next != tail);
      }
    });
  };
}

}  // namespace model
