// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/driver/controller.hpp>

#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
namespace sim = phasebit::backend::simulated;

namespace {

struct machine {
  std::vector<std::byte> bytes = std::vector<std::byte>(1U << 20);
  block::memory_media media{bytes};
  sim::fabric fabric;
  sim::nvme_disk<block::memory_media> disk = *sim::add_nvme_disk(fabric, media);
  nvme::driver::controller<sim::function> host =
      *nvme::driver::controller<sim::function>::attach(disk);

  // Flushes one after another; how many of them ended.
  template <class Queue>
  unsigned flush(Queue& queue, unsigned count) {
    unsigned ended = 0;
    for (unsigned i = 0; i != count; ++i) {
      if (!queue.submit(nvme::nvm::flush(1), 0U)) break;
      queue.ring();
      for (unsigned steps = 0; steps != 100 && ended == i; ++steps) {
        fabric.step();
        ended += queue.poll([](unsigned&, nvme::driver::completion) noexcept {});
      }
    }
    return ended;
  }
};
constexpr auto drop = [](unsigned&, nvme::driver::completion) noexcept {};

}  // namespace

TEST_CASE_FIXTURE(machine, "regression: a queue that the device would not follow is not made") {
  REQUIRE(host.enable_shadow_doorbells());
  const auto plain = host.create_queue_pair<unsigned>({.depth = 4});
  REQUIRE_FALSE(plain);
  CHECK(plain.error().code == errc::not_supported);
  auto queue = host.create_shadowed_queue_pair<unsigned>({.depth = 4});
  REQUIRE(queue);
  CHECK(flush(*queue, 20) == 20);
}

TEST_CASE_FIXTURE(machine, "regression: a queue that is followed by its register stays followed") {
  auto queue = host.create_queue_pair<unsigned>({.depth = 4});
  REQUIRE(queue);
  const auto refused = host.enable_shadow_doorbells();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::busy);
  CHECK(refused.error().index == queue->qid());
  CHECK(flush(*queue, 20) == 20);
  REQUIRE(host.delete_queue_pair(*queue, drop));
  CHECK(host.enable_shadow_doorbells());
  CHECK(host.enable_shadow_doorbells());  // twice is no mistake
}

TEST_CASE_FIXTURE(machine, "shadowed queues may be deleted and made again, wherever they stopped") {
  REQUIRE(host.enable_shadow_doorbells());
  for (unsigned count = 0; count != 10; ++count) {
    auto queue = host.create_shadowed_queue_pair<unsigned>({.depth = 8});
    REQUIRE(queue);
    CHECK(flush(*queue, count) == count);
    REQUIRE(host.delete_queue_pair(*queue, drop));
  }
}
