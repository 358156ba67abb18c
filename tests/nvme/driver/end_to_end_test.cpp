// SPDX-License-Identifier: BSL-1.0
// Both sides of the library against each other: our driver and our controller, on the simulated bus.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>

#include <vector>

#include <doctest/doctest.h>
#include <support/nvme_end_to_end.hpp>

namespace sim = phasebit::backend::simulated;

namespace {

struct machine {
  std::vector<std::byte> bytes = std::vector<std::byte>(16U << 20);
  phasebit::block::memory_media media{bytes};
  sim::fabric fabric;
  sim::nvme_disk<phasebit::block::memory_media> disk = *sim::add_nvme_disk(fabric, media);
};

}  // namespace

TEST_CASE("our controller does everything that our driver asks of a disk, step by step") {
  machine m;
  phasebit_test::nvme_end_to_end<sim::function>{m.disk}.run_all();
}

TEST_CASE("our controller does everything that our driver asks of a disk, in a thread of its own") {
  machine m;
  REQUIRE(m.fabric.start());
  phasebit_test::nvme_end_to_end<sim::function>{m.disk}.run_all();
  m.fabric.stop();
}
