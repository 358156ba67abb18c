// SPDX-License-Identifier: BSL-1.0
// Receives the accesses of the instrumented models; is not instrumented itself, and comes first for the
// linker, so that the explorer's own functions are not either.
#define PHASEBIT_EXPLORER_INSTRUMENTED 1
#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/instrumentation.hpp>
#include <phasebit/testing/explorer/order.hpp>

// std::this_thread::yield() in a loop of explored code.
extern "C" int sched_yield() noexcept {
  phasebit::testing::explorer::spin();
  return 0;
}

namespace phasebit::testing::explorer {

report uninstrumented_copies(const options& wanted) {
  return explore(wanted, [](program& p) {
    auto& word = p.make<std::uint32_t>();
    p.name(word, "word");
    p.thread("thread", [&word] {
      device_order::full();
      device_order::store(word, device_order::load(word));
      await([] { return choose(1) == 0; });
    });
  });
}

}  // namespace phasebit::testing::explorer
