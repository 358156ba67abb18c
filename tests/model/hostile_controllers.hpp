// SPDX-License-Identifier: BSL-1.0
// A driver before a controller that completes twice, completes what it was not given, or answers after the
// driver has given up.
#pragma once

#include <phasebit/ring/tag_pool.hpp>

#include <model/nvme_queues.hpp>

namespace model {

// Two commands to a controller that may complete each of them a second time, or an id that is free.
template <class Order>
inline auto hostile_controller() {
  return [](program& p) {
    const nvme_memory memory{p, 4};
    p.thread("driver", [memory] {
      auto queue = make_queue<Order>(memory);
      std::uint32_t seen = 0;
      std::uint64_t unexpected = 0;
      for (std::uint32_t i = 0; i != 2; ++i) {
        nvme::submission_entry command{};
        command.cdw10 = i;
        check(static_cast<bool>(queue.submit(command, i)),
              "a queue with a free place takes a command");
      }
      queue.ring();
      while (seen != 3) {
        await([&] {
          const unsigned ended =
              queue.poll([&](std::uint32_t number, nvme::driver::completion) noexcept {
                check(number < 2 && (seen & (1U << number)) == 0, "a command completes once");
                seen |= 1U << number;
              });
          const auto before = unexpected;
          unexpected = queue.unexpected_completions();
          return ended != 0 || unexpected != before;
        });
      }
      check(queue.in_flight() == 0, "every identifier is free again");
    });
    p.service("controller", [memory] {
      nvme_controller<Order> controller{memory};
      await([&] { return controller.update_tail(); });
      // Entries in the queue are 3 at most.
      const unsigned where = choose(4);
      if (where == 0) controller.complete_as(7);
      controller.complete_one();
      if (where == 1) controller.complete_as(controller.last_id());
      if (where == 2) controller.complete_as(0xffff);
      controller.complete_one();
      if (where == 3) controller.complete_as(controller.last_id());
    });
  };
}

// The driver gives up at any moment, while the controller answers.
template <class Order>
inline auto given_up() {
  return [](program& p) {
    const nvme_memory memory{p, 3};
    p.thread("driver", [memory] {
      auto queue = make_queue<Order>(memory);
      std::uint32_t seen = 0;
      auto done = [&](std::uint32_t number, nvme::driver::completion) noexcept {
        check(number < 2 && (seen & (1U << number)) == 0, "a command completes once");
        seen |= 1U << number;
      };
      for (std::uint32_t i = 0; i != 2; ++i) {
        nvme::submission_entry command{};
        command.cdw10 = i;
        check(static_cast<bool>(queue.submit(command, i)),
              "a queue with a free place takes a command");
      }
      queue.ring();
      for (unsigned polls = choose(3); polls != 0; --polls) static_cast<void>(queue.poll(done));
      // Nothing has come within two ticks: a time-out of what is still in flight.
      queue.tick();
      queue.tick();
      unsigned overdue = 0;
      queue.for_each_overdue(2, [&](std::uint16_t) noexcept { ++overdue; });
      check(overdue == queue.in_flight(), "what is in flight is overdue");
      static_cast<void>(queue.fail_all(nvme::status_code::aborted_by_host, done));
      check(seen == 3, "every command has ended");
      // A closed queue touches its rings no more, so that late completions find no command.
      nvme::submission_entry command{};
      check(!queue.submit(command, 2), "a closed queue takes no command");
    });
    p.service("controller", [memory] {
      nvme_controller<Order> controller{memory};
      controller.serve();
    });
  };
}

// Polls until command `number` has completed; `seen` holds all that have.
template <class Queue>
void await_command(Queue& queue, std::uint32_t number, std::uint32_t& seen) {
  while ((seen & (1U << number)) == 0) {
    await([&] {
      const auto before = queue.unexpected_completions();
      const unsigned ended =
          queue.poll([&](std::uint32_t token, nvme::driver::completion c) noexcept {
            check(c.dw1() == token, "the completion is that of the command");
            check((seen & (1U << token)) == 0, "a command completes once");
            seen |= 1U << token;
          });
      // A completion of a command that is not in flight is a step, too.
      return ended != 0 || queue.unexpected_completions() != before;
    });
  }
}
template <class Queue>
void submit_number(Queue& queue, std::uint32_t number) {
  nvme::submission_entry command{};
  command.cdw10 = number;
  check(static_cast<bool>(queue.submit(command, number)),
        "a queue with a free place takes a command");
  queue.ring();
}

// The controller keeps the first command until `others` more have completed, each in turn.
template <class Order>
auto kept_command(std::uint32_t others) {
  return [others](program& p) {
    const nvme_memory memory{p, 3};
    p.thread("driver", [=] {
      auto queue = make_queue<Order>(memory);
      std::uint32_t seen = 0;
      submit_number(queue, 0);
      for (std::uint32_t i = 1; i <= others; ++i) {
        submit_number(queue, i);
        await_command(queue, i, seen);
      }
      await_command(queue, 0, seen);
      check(static_cast<bool>(queue.health()), "each command had an identifier of its own");
    });
    p.service("controller", [=] {
      nvme_controller<Order> controller{memory};
      await([&] { return controller.update_tail(); });
      const auto first = controller.take_one();
      for (std::uint32_t i = 1; i <= others; ++i) {
        await([&] { return controller.update_tail(); });
        controller.await_place();
        controller.complete_one();
      }
      controller.await_place();
      controller.complete(*first);
    });
  };
}

// One command at a time. Before the last one the controller completes the first one again, whose slot the
// last one has.
template <class Order>
auto late_completion() {
  return [](program& p) {
    const nvme_memory memory{p, 3};
    p.thread("driver", [memory] {
      auto queue = make_queue<Order>(memory);
      std::uint32_t seen = 0;
      for (std::uint32_t i = 0; i != 4; ++i) {
        submit_number(queue, i);
        await_command(queue, i, seen);
      }
      submit_number(queue, 4);
      await_command(queue, 4, seen);
      check(queue.unexpected_completions() == 1, "the late completion is counted");
    });
    p.service("controller", [memory] {
      nvme_controller<Order> controller{memory};
      for (std::uint32_t i = 0; i != 5; ++i) {
        await([&] { return controller.update_tail(); });
        if (i == 4) {
          controller.await_place();
          controller.complete_as(0);
        }
        controller.await_place();
        controller.complete_one();
      }
    });
  };
}

// A command is posted, and its doorbell not rung, while the controller completes it.
template <class Order>
auto completion_before_doorbell() {
  return [](program& p) {
    const nvme_memory memory{p, 3};
    p.thread("driver", [memory] {
      auto queue = make_queue<Order>(memory);
      submit_number(queue, 0);
      nvme::submission_entry command{};
      check(static_cast<bool>(queue.submit(command, 1)),
            "a queue with a free place takes a command");
      bool rung = false;
      auto done = [&](std::uint32_t number, nvme::driver::completion) noexcept {
        check(number == 0 || rung, "a command completes after its doorbell");
      };
      await([&] { return queue.poll(done) != 0; });
      for (int i = 0; i != 2; ++i) static_cast<void>(queue.poll(done));
      rung = true;
      queue.ring();
      while (queue.in_flight() != 0) await([&] { return queue.poll(done) != 0; });
    });
    p.service("controller", [memory] {
      nvme_controller<Order> controller{memory};
      await([&] { return controller.update_tail(); });
      controller.complete_one();
      controller.await_place();
      const bool early = choose(2) == 0;
      if (early) controller.complete_as(static_cast<std::uint16_t>(controller.last_id() + 1));
      await([&] { return controller.update_tail(); });
      controller.await_place();
      controller.complete_one();
    });
  };
}

// Identifiers that wrap at 2^16: the first 65534 commands are over when the threads begin.
template <class Order>
auto identifiers_wrap(std::uint32_t commands) {
  return [commands, earlier = past{}](program& p) mutable {
    const nvme_memory memory{p, 3};
    auto& queue = p.make<nvme_queue<Order>>(make_queue<Order>(memory));
    auto& controller = p.make<nvme_controller<Order>>(memory);
    earlier(
        {past::bytes_of(queue), past::bytes_of(controller),
         std::as_writable_bytes(memory.submission), std::as_writable_bytes(memory.completion),
         past::bytes_of(*memory.doorbells)},
        [&] {
          for (std::uint32_t i = 0; i != 65534; ++i) {
            static_cast<void>(queue.submit({}, 0));
            queue.ring();
            static_cast<void>(controller.update_tail());
            controller.complete_one();
            static_cast<void>(queue.poll([](std::uint32_t, nvme::driver::completion) noexcept {}));
            controller.update_head();
          }
        });
    p.thread("driver", [&queue, commands] {
      nvme_driver driver{queue, nvme_setup{3, commands, 2, false, false}};
      driver.run();
    });
    p.service("controller", [&controller] {
      for (;;) {
        controller.serve();
        check(controller.last_id() != 0xffff, "FFFFh is no command identifier");
      }
    });
  };
}

}  // namespace model
