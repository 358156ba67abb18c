// SPDX-License-Identifier: BSL-1.0
// The mailbox of a reactor, explored.
#include <doctest/doctest.h>
#include <model/hosted_mailboxes.hpp>
#include <model/mutants.hpp>

using namespace model;

TEST_CASE("a mailbox that is closed runs exactly the messages that it accepted") {
  holds("one sender, two messages", post_and_close<2>(1, 2));
  holds("one sender, four messages, a mailbox of 2", post_and_close<2>(1, 4));
  holds("two senders, a message each", post_and_close<2>(2, 1));
}

// std::atomic's operations have no place in the source: each kind is weakened wherever it is.
TEST_CASE("mutants of the mailbox of a reactor") {
  auto program = post_and_close<2>(1, 2);
  auto fault = [&](const std::string& name, operation what, caught_by expected) {
    with_fault(name, {{what, "", "", effect::unordered}}, expected, program);
  };
  fault("loads of the mailbox", operation::atomic_load, all_but_x86);
  fault("stores of the mailbox", operation::atomic_store, all_of_them);
  fault("exchanges of the mailbox", operation::atomic_exchange, all_but_x86);
}
