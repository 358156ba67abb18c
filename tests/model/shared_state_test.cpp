// SPDX-License-Identifier: BSL-1.0
// State that threads share outside of rings, explored, and with each ordering weakened.
#include <doctest/doctest.h>
#include <model/mutants.hpp>
#include <model/shared_state.hpp>

using namespace model;

namespace {

const options larger{.most_executions = 100'000, .arena_bytes = 65536};

template <class Program>
void weakened(const std::string& name, operation what, effect how, caught_by expected,
              Program program) {
  with_fault(name, {{what, "", "", how}}, expected, program, larger);
}

}  // namespace

TEST_CASE("entries of device tables change under a walker") {
  holds("VT-d context entry is changed", vtd_entry_is_changed());
  holds("VT-d context entry is made", vtd_entry_is_made());
  holds("VT-d context entry, one word", vtd_root_is_changed());
  weakened("device table: stores of an entry", operation::atomic_store, effect::unordered,
           all_but_x86, vtd_entry_is_made());
  weakened("device table: loads of an entry", operation::atomic_load, effect::unordered,
           all_but_x86, vtd_entry_is_made());
}
TEST_CASE("fault records are read whole and in order") {
  holds("five records, a ring of 2", faults_are_read(5));
}
TEST_CASE("a page of an arena is one owner's") {
  holds("two threads", arena_pages(2));
  holds("three threads", arena_pages(3), larger);
  weakened("arena: the exchange of allocate()", operation::atomic_exchange, effect::not_acquired,
           all_but_x86, arena_pages(2));
  weakened("arena: the exchange of release()", operation::atomic_exchange, effect::not_released,
           all_but_x86, arena_pages(2));
}
TEST_CASE("no dirty bit is lost, and the page is read behind it") {
  holds("two writers and a reader", dirty_pages());
  weakened("dirty bitmap: set()", operation::atomic_exchange, effect::not_released, all_but_x86,
           dirty_pages());
  weakened("dirty bitmap: take()", operation::atomic_exchange, effect::not_acquired, all_but_x86,
           dirty_pages());
  weakened("dirty bitmap: test()", operation::atomic_load, effect::unordered, all_but_x86,
           dirty_pages());
}
TEST_CASE("look-ups in a region map by two threads") { holds("two threads", region_hint()); }
TEST_CASE("a register of configuration space orders memory") {
  holds("driver and device", configuration_register(), larger);
  weakened("configuration space: store", operation::atomic_store, effect::unordered, all_but_x86,
           configuration_register());
  weakened("configuration space: load", operation::atomic_load, effect::unordered, all_but_x86,
           configuration_register());
}
TEST_CASE("a ticket lock excludes") {
  holds("two threads, twice each", ticket_locked(2, false));
  holds("two threads, one of which only tries", ticket_locked(2, true));
  weakened("ticket lock: load of the number that is served", operation::atomic_load,
           effect::unordered, all_but_x86, ticket_locked(2, false));
  weakened("ticket lock: store of unlock()", operation::atomic_store, effect::unordered,
           all_but_x86, ticket_locked(2, false));
  weakened("ticket lock: load of try_lock()", operation::atomic_load, effect::unordered,
           all_but_x86, ticket_locked(2, true));
}
TEST_CASE("nodes of the simulated fabric appear whole") {
  holds("two nodes", appended_nodes(), larger);
  weakened("list of nodes: store of a link", operation::atomic_store, effect::unordered,
           all_but_x86, appended_nodes());
  weakened("list of nodes: load of a link", operation::atomic_load, effect::unordered, all_but_x86,
           appended_nodes());
}
TEST_CASE("messages to a simulated function are taken once") {
  holds("two messages", messages_to_a_function(), larger);
}
TEST_CASE("an interrupt of the simulated machine wakes its driver") {
  holds("one device, two signals", signalled(1, 2));
  holds("two devices", signalled(2, 1));
  holds("data behind a signal", signalled_with_data());
  weakened("interrupt: exchanges against the look at sleepers", operation::atomic_exchange,
           effect::unordered, all_but_x86, signalled(1, 2));
  weakened("interrupt: signal()", operation::atomic_exchange, effect::not_released, all_but_x86,
           signalled_with_data());
  weakened("interrupt: poll() and wait()", operation::atomic_exchange, effect::not_acquired,
           all_but_x86, signalled_with_data());
}
TEST_CASE("the controller's words of a queue object") {
  holds("a change", namespaces_change(false));
  holds("a change, and the end", namespaces_change(true));
  holds("a short way of an old generation", short_way_of_an_old_generation());
  const std::string file = "queue_link.hpp";
  with_fault("queue: short way before the generation", {{operation::full, file, "set_short_way"}},
             all_of_them, short_way_of_an_old_generation());
  with_fault("queue: generation before the end of the short way",
             {{operation::full, file, "end_short_way"}}, {true, false, true, true},
             short_way_of_an_old_generation());
  with_fault("queue: what was done before the generation",
             {{operation::store, file, "end_short_way"}}, all_but_x86, namespaces_change(false));
  with_fault("queue: generation before what was done", {{operation::load, file, "namespaces"}},
             all_but_x86, namespaces_change(false));
}
TEST_CASE("a completion record of DSA is read behind its status") {
  holds("one step", completion_records<explorer::device_order>());
  with_fault("DSA: status before the record", {{operation::after_load, "dsa/driver.hpp", "poll"}},
             all_but_x86, completion_records<explorer::device_order>());
}
TEST_CASE("a reactor that falls asleep misses neither a message nor the stop") {
  holds("a message, then the stop", posted_and_stopped(true));
  holds("a message and the stop", posted_and_stopped(false));
  holds("work of a poller", woken_for_work());
  weakened("reactor: fences", operation::full, effect::unordered, all_of_them, woken_for_work());
}
