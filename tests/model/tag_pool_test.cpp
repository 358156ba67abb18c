// SPDX-License-Identifier: BSL-1.0
// Command identifiers, explored against a controller that completes twice, completes what it was not
// given, or answers after the driver has given up.
#include <doctest/doctest.h>
#include <model/hostile_controllers.hpp>
#include <model/mutants.hpp>

using namespace model;

TEST_CASE_TEMPLATE("each command ends once, whatever the controller completes", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("a completion twice, or of a free identifier", hostile_controller<Order>());
}

TEST_CASE_TEMPLATE("each command ends once where a time-out meets its completion", Order,
                   explorer::thread_order, explorer::device_order) {
  holds("given up at any moment", given_up<Order>());
}

TEST_CASE_TEMPLATE("identifiers are distinguished", Order, explorer::thread_order,
                   explorer::device_order) {
  holds("a command is kept while the slots go round", kept_command<Order>(5));
  holds("a completion of an earlier lap", late_completion<Order>());
  holds("a completion before the doorbell", completion_before_doorbell<Order>());
}

TEST_CASE("identifiers wrap at 2^16 and pass over FFFFh") {
  holds("four commands across the wrap", identifiers_wrap<explorer::device_order>(4));
}
