// SPDX-License-Identifier: BSL-1.0
// NVMe submission and completion queues, explored: both halves as they are shipped.
#include <doctest/doctest.h>
#include <model/mutants.hpp>
#include <model/nvme_queues.hpp>

using namespace model;

namespace {

constexpr nvme_setup two_in_flight{3, 5, 2, false, false};

// Faults of the two orders. The last dword of an entry is stored with the order, the others before.
const mutation thread_faults[] = {
    {operation::load, "completion_queue.hpp", "pop", effect::unordered},
    {operation::store, "completion_queue.hpp", "post_completion", effect::unordered},
    {operation::load, "doorbells.hpp", "load", effect::unordered},
};
const mutation device_faults[] = {
    {operation::after_load, "completion_queue.hpp", "pop", effect::unordered},
    {operation::store, "completion_queue.hpp", "post_completion", effect::unordered},
    {operation::after_load, "doorbells.hpp", "load", effect::unordered},
};

}  // namespace

TEST_CASE_TEMPLATE("a queue pair that wraps delivers every command and every completion once",
                   Order, explorer::thread_order, explorer::device_order) {
  holds("one command at a time, ring of 2, three laps", nvme_pair<Order>({2, 6, 1, false, false}));
  holds("two in flight, ring of 3", nvme_pair<Order>({3, 6, 2, false, false}));
  holds("three in flight, ring of 4", nvme_pair<Order>({4, 8, 3, false, false}));
  holds("a doorbell each, ring of 3", nvme_pair<Order>({3, 4, 2, true, false}));
  holds("the completion queue is full: ring of 2", nvme_pair<Order>({2, 6, 1, false, true}));
  holds("the completion queue is full: ring of 3", nvme_pair<Order>({3, 6, 2, false, true}));
  holds("data, ring of 2, three laps", nvme_pair<Order>({2, 6, 1, false, false, 1}));
  holds("data that is used again from the callback, ring of 3",
        nvme_pair<Order>({3, 5, 2, false, true, 2}));
  holds("five commands, completion queue of 2, which is full",
        nvme_short_completion_queue<Order>(5, 2));
  holds("six commands, completion queue of 3, which is full",
        nvme_short_completion_queue<Order>(6, 3));
}

TEST_CASE("mutants of the queues between threads") {
  for (const mutation& fault : thread_faults) {
    with_fault(fault.file + " " + fault.function, {fault}, all_but_x86,
               nvme_pair<explorer::thread_order>(two_in_flight));
  }
}

TEST_CASE("mutants of the queues in front of a device") {
  for (const mutation& fault : device_faults) {
    with_fault(fault.file + " " + fault.function, {fault}, all_but_x86,
               nvme_pair<explorer::device_order>(two_in_flight));
  }
}

TEST_CASE("mutants of the doorbells") {
  auto program = nvme_pair<explorer::device_order>(two_in_flight);
  const mutation tail{operation::doorbell, "submission_queue.hpp", "ring", effect::unordered};
  const mutation head{operation::doorbell, "completion_queue.hpp", "ring", effect::unordered};
  auto stores_only = [](mutation m) {
    m.how = effect::stores_only;
    return m;
  };
  with_fault("SQ tail doorbell without its barrier", {tail}, all_but_x86, program);
  with_fault("completion that orders stores only",
             {{operation::store, "completion_queue.hpp", "post_completion", effect::stores_only}},
             all_but_x86, program);
  // A buffer whose data was read is used by the next command, which is submitted before the CQ head is rung.
  with_fault("SQ tail doorbell that orders stores only", {stores_only(tail)}, all_but_x86,
             nvme_pair<explorer::device_order>({3, 3, 1, false, true, 1}));
  // Where the completion queue is shorter than the submission queue, the CQ head alone gives back places.
  // One place stays free, so that another after_load() comes before a place is written again: processors
  // order the loads there, C++ does not.
  const caught_by cpp20_only{true, false, false, false};
  auto short_queue = nvme_short_completion_queue<explorer::device_order>(4, 2);
  with_fault("CQ head doorbell without its barrier", {head}, cpp20_only, short_queue);
  with_fault("CQ head doorbell that orders stores only", {stores_only(head)}, cpp20_only,
             short_queue);
}

TEST_CASE("every ordering of the queues has a mutant") {
  std::vector<mutation> faults{std::begin(device_faults), std::end(device_faults)};
  faults.push_back({operation::doorbell, "submission_queue.hpp", "ring", effect::unordered});
  faults.push_back({operation::doorbell, "completion_queue.hpp", "ring", effect::unordered});
  // The plain load of a device's order is ordered by after_load().
  faults.push_back({operation::load, "completion_queue.hpp", "pop", effect::unordered});
  faults.push_back({operation::load, "doorbells.hpp", "load", effect::unordered});
  covers(explorer::explore({}, nvme_pair<explorer::device_order>(two_in_flight)).sites, faults, {});
}
