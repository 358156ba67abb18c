// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/simulated/fault_plan.hpp>

#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::backend::simulated;

TEST_CASE("an empty plan changes nothing") {
  fault_state state;
  for (int i = 0; i != 100; ++i) {
    CHECK(state.next_completion() == completion_action{});
    CHECK_FALSE(state.next_translation(bus_addr{0x1000}, 64));
    CHECK_FALSE(state.removed_before_poll());
    CHECK_FALSE(state.removed_before_completion());
    CHECK(state.seen(0x1c, 5) == 5);
  }
  CHECK(state.counts() == fault_counts{.completions = 100, .translations = 100});
}

TEST_CASE("scripted faults happen exactly where they were put") {
  fault_state state{fault_plan{}
                        .completion(2, completion_fault::drop)
                        .completion(5, completion_fault::delay, 9)
                        .fail_dma(1)
                        .fail_dma(4, 2, errc::not_mapped)};
  for (std::uint64_t i = 0; i != 10; ++i) {
    const auto action = state.next_completion();
    CHECK(action.fault == (i == 2   ? completion_fault::drop
                           : i == 5 ? completion_fault::delay
                                    : completion_fault::none));
    if (i == 5) CHECK(action.argument == 9);
    const auto reason = state.next_translation(bus_addr{0x1000}, 64);
    if (i == 1) {
      CHECK(reason == errc::access_denied);
    } else if (i == 4 || i == 5) {
      CHECK(reason == errc::not_mapped);
    } else {
      CHECK_FALSE(reason);
    }
  }
  CHECK(state.counts() == fault_counts{.completions = 10,
                                       .faulty_completions = 2,
                                       .translations = 10,
                                       .failed_translations = 3});
}

TEST_CASE("random faults are as often as asked, differ by seed and repeat by seed") {
  const auto run = [](std::uint64_t seed) {
    fault_state state{fault_plan{}
                          .sometimes(completion_fault::drop, 10, seed)
                          .completion(7, completion_fault::duplicate)};
    std::vector<unsigned> hit;
    for (unsigned i = 0; i != 10'000; ++i) {
      const auto action = state.next_completion();
      if (i == 7) {
        CHECK(action.fault == completion_fault::duplicate);
      } else if (action.fault == completion_fault::drop) {
        hit.push_back(i);
      }
    }
    return hit;
  };
  const auto first = run(1);
  CHECK(first == run(1));
  CHECK(first != run(2));
  CHECK(first.size() > 800);
  CHECK(first.size() < 1200);
}

TEST_CASE("a hole in the bus fails whatever touches it") {
  fault_state state{fault_plan{}.fail_dma_at(bus_addr{0x2000}, 0x1000)};
  CHECK_FALSE(state.next_translation(bus_addr{0x1000}, 0x1000));
  CHECK(state.next_translation(bus_addr{0x1000}, 0x1001) == errc::not_mapped);
  CHECK(state.next_translation(bus_addr{0x2fff}, 1) == errc::not_mapped);
  CHECK(state.next_translation(bus_addr{0}, ~std::uint64_t{0}) == errc::not_mapped);
  CHECK_FALSE(state.next_translation(bus_addr{0x3000}, 0x1000));
  CHECK(state.counts().failed_translations == 3);
}

TEST_CASE("stuck bits override the device's registers") {
  fault_state state{fault_plan{}
                        .stick({.offset = 0x1c, .mask = 0xc, .value = 0x4})
                        .stick({.offset = 0x1c, .mask = 0x1, .value = 0xff})};
  CHECK(state.seen(0x1c, 0xf0) == 0xf5);
  CHECK(state.seen(0x1c, 0x0f) == 0x07);
  CHECK(state.seen(0x18, 0x0f) == 0x0f);
}

TEST_CASE("removal waits for its completion or its poll") {
  fault_state by_completion{fault_plan{}.remove_at_completion(2)};
  for (int i = 0; i != 2; ++i) {
    CHECK_FALSE(by_completion.removed_before_completion());
    static_cast<void>(by_completion.next_completion());
  }
  CHECK(by_completion.removed_before_completion());
  CHECK_FALSE(by_completion.removed_before_completion());  // once
  fault_state by_poll{fault_plan{}.remove_at_poll(1)};
  CHECK_FALSE(by_poll.removed_before_poll());
  CHECK(by_poll.removed_before_poll());
  CHECK_FALSE(by_poll.removed_before_poll());
}
