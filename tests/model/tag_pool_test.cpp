// SPDX-License-Identifier: BSL-1.0
// Command identifiers, explored against a controller that completes twice, completes what it was not
// given, or answers after the driver has given up.
#include <phasebit/ring/tag_pool.hpp>

#include <doctest/doctest.h>
#include <model/mutants.hpp>
#include <model/nvme_queues.hpp>

using namespace model;

namespace {

// Two commands to a controller that may complete each of them a second time, or an id that is free.
template <class Order>
auto hostile_controller() {
  return [](program& p) {
    const nvme_memory memory{p, 4};
    p.thread("driver", [memory] {
      auto queue = make_queue<Order>(memory);
      std::uint32_t seen = 0;
      std::uint64_t unexpected = 0;
      for (std::uint32_t i = 0; i != 2; ++i) {
        nvme::submission_entry command{};
        command.cdw10 = i;
        check(static_cast<bool>(queue.submit(command, i)), "a queue with room takes a command");
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
auto given_up() {
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
        check(static_cast<bool>(queue.submit(command, i)), "a queue with room takes a command");
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

}  // namespace

TEST_CASE_TEMPLATE("each command ends once, whatever the controller completes", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("a completion twice, or of a free identifier", hostile_controller<Order>());
}

TEST_CASE_TEMPLATE("each command ends once where a time-out meets its completion", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("given up at any moment", given_up<Order>());
}
