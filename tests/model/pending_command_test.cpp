// SPDX-License-Identifier: BSL-1.0
// Commands in flight in an NVMe controller, explored: a driver, the controller as it is shipped, and media on
// a thread of their own.
#include <doctest/doctest.h>
#include <model/mutants.hpp>
#include <model/pending_commands.hpp>

using namespace model;

namespace {

const options wanted{.most_executions = 200'000, .arena_bytes = 32768};

}  // namespace

TEST_CASE_TEMPLATE("commands at the media complete once, with their data", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("two commands", pending_commands<Order>({}), wanted);
  holds("two commands, media that take one", pending_commands<Order>({then_does::nothing, 2, 4, 1}),
        wanted);
  holds("two commands, a table of one", pending_commands<Order>({then_does::nothing, 2, 4, 2, 1}),
        wanted);
  holds("three commands, a completion queue of 2",
        pending_commands<Order>({then_does::nothing, 3, 2, 3, 3}), wanted);
  holds("an operation that is delivered twice",
        pending_commands<Order>({then_does::nothing, 2, 4, 2, 1, true, true}), wanted);
}
TEST_CASE_TEMPLATE("a reset ends with memory that is the driver's", Order, explorer::thread_order,
                   explorer::device_order) {
  holds("reset, one command", pending_commands<Order>({then_does::reset, 1}), wanted);
  holds("reset, two commands", pending_commands<Order>({then_does::reset, 2}), wanted);
  holds("reset, two commands, media that take one",
        pending_commands<Order>({then_does::reset, 2, 4, 1}), wanted);
}
TEST_CASE_TEMPLATE("an aborted command completes once", Order, explorer::thread_order,
                   explorer::device_order) {
  holds("abort, one command", pending_commands<Order>({then_does::abort_first, 1}), wanted);
  holds("abort, two commands", pending_commands<Order>({then_does::abort_first, 2}), wanted);
  holds("abort, two commands, media that take one",
        pending_commands<Order>({then_does::abort_first, 2, 4, 1}), wanted);
}

TEST_CASE_TEMPLATE("a controller with shadow doorbells finds every command", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("two commands", pending_commands<Order>({.commands = 2, .shadow = true}), wanted);
  holds("three commands, one at a time",
        pending_commands<Order>({.commands = 3, .one_at_a_time = true, .shadow = true}), wanted);
}
