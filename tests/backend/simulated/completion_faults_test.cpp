// SPDX-License-Identifier: BSL-1.0
// Completions that are held back, as a controller without a driver sees them.
#include <phasebit/backend/simulated.hpp>

#include <chrono>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
namespace sim = phasebit::backend::simulated;

namespace {

struct silent_model {
  std::uint32_t read32(std::uint32_t) noexcept { return 0; }
  void write32(std::uint32_t, std::uint32_t) noexcept {}
  unsigned poll() noexcept { return 0; }
  void reset() noexcept {}
};

// Faults of a plan, and what was posted.
struct filter {
  sim::fabric fabric;
  std::optional<sim::function> function;
  std::optional<sim::completion_faults> faults;
  std::vector<unsigned> posted;
  bool full = false;

  explicit filter(const sim::fault_plan& plan) {
    auto made = fabric.add({.device = 3}, [this](const sim::device_port& port) noexcept {
      faults.emplace(port.faults());
      return silent_model{};
    });
    REQUIRE(made);
    function.emplace(std::move(*made));
    function->inject(plan);
  }
  auto post() {
    return [this](const nvme::device::outgoing_completion& c) noexcept {
      if (full) return false;
      posted.push_back(c.completion_queue * 1000U + c.entry.command_id());
      return true;
    };
  }
  void complete(std::uint16_t queue, std::uint16_t id) {
    nvme::device::outgoing_completion c{.completion_queue = queue};
    c.entry.dw3 = nvme::completion_dw3::of(id, {}, false).raw;
    faults->complete(c, post());
  }
};
using ids = std::vector<unsigned>;

}  // namespace

TEST_CASE("a reordered completion follows the next one of its own queue, not of another") {
  filter f{sim::fault_plan{}.completion(0, sim::completion_fault::reorder)};
  f.complete(1, 7);
  CHECK(f.posted.empty());
  f.complete(2, 8);
  CHECK(f.posted == ids{2008});
  f.complete(1, 9);
  CHECK(f.posted == ids{2008, 1009, 1007});
}

TEST_CASE("a completion that finds its queue full is posted when there is a place") {
  filter f{sim::fault_plan{}.completion(1, sim::completion_fault::duplicate)};
  f.full = true;
  f.complete(1, 1);
  f.complete(1, 2);
  f.faults->poll(f.post());
  CHECK(f.posted.empty());
  f.full = false;
  f.faults->poll(f.post());
  CHECK(f.posted == ids{1001, 1002, 1002});
}

TEST_CASE("what is delayed beyond the number that can be held is posted at once") {
  filter f{sim::fault_plan{}.sometimes(sim::completion_fault::delay, 1, 1, 3)};
  constexpr auto capacity = static_cast<std::uint16_t>(sim::completion_faults::capacity);
  for (std::uint16_t i = 0; i != capacity; ++i) f.complete(1, i);
  CHECK(f.posted.empty());
  f.complete(1, 500);
  CHECK(f.posted == ids{1500});
  for (int i = 0; i != 3; ++i) f.faults->poll(f.post());
  CHECK(f.posted.size() == 1);
  f.faults->poll(f.post());
  CHECK(f.posted.size() == capacity + 1U);
}

TEST_CASE("a wait without end for a simulated interrupt ends when it comes") {
  sim::interrupt_event event;
  std::thread device{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
    event.signal();
  }};
  CHECK(event.wait(~std::uint64_t{0}));
  device.join();
  CHECK_FALSE(event.wait(1000));
}
