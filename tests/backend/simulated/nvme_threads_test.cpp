// SPDX-License-Identifier: BSL-1.0
// Several queues, each a thread of its own, over one controller in the device thread.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/driver/controller.hpp>

#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;
namespace sim = phasebit::backend::simulated;

namespace {

using driver = nvme::driver::controller<sim::function>;

constexpr unsigned depth = 16;
constexpr unsigned slots = depth - 1;

// Writes blocks of its own range and reads them back, many in flight; returns how many reads brought
// back what was written.
template <class Queue>
unsigned write_and_verify(sim::function disk, Queue& queue, std::uint64_t first_lba,
                          unsigned rounds) {
  const auto pages = disk.allocate(slots * 4096, 4096);
  if (!pages) return 0;
  unsigned right = 0;
  const auto all = [&](auto&& post) {
    unsigned ended = 0;
    unsigned good = 0;
    for (unsigned i = 0; i != slots; ++i) good += post(i) ? 1U : 0U;
    queue.ring();
    const bool done = good == slots && poll_until(disk.clock(), 60'000'000'000, [&]() noexcept {
                        ended += queue.poll([&](unsigned&, nvme::driver::completion c) noexcept {
                          good += c.ok() ? 1U : 0U;
                        });
                        return ended == slots;
                      });
    return done && good == 2 * slots;
  };
  for (unsigned round = 0; round != rounds; ++round) {
    const auto page = [&](unsigned i) { return pages->subregion(i * 4096, 4096); };
    const auto io = [&](unsigned i) {
      return nvme::block_range{.nsid = 1, .lba = first_lba + i * 8, .blocks = 8};
    };
    for (unsigned i = 0; i != slots; ++i) {
      std::memset(page(i).data(), static_cast<int>(round * 31 + i + first_lba), 4096);
    }
    if (!all([&](unsigned i) { return bool(queue.write(io(i), page(i), i)); })) return right;
    std::memset(pages->data(), 0, pages->size());
    if (!all([&](unsigned i) { return bool(queue.read(io(i), page(i), i)); })) return right;
    for (unsigned i = 0; i != slots; ++i) {
      const auto wanted = static_cast<unsigned char>(round * 31 + i + first_lba);
      right +=
          page(i).bytes.front() == std::byte{wanted} && page(i).bytes.back() == std::byte{wanted}
              ? 1U
              : 0U;
    }
  }
  disk.release(*pages);
  return right;
}

}  // namespace

TEST_CASE("four queues in four threads lose nothing and mix nothing up") {
  std::vector<std::byte> bytes(4_MiB);
  block::memory_media media{bytes};
  sim::fabric fabric;
  auto disk = *sim::add_nvme_disk(fabric, media);
  REQUIRE(fabric.start());
  {
    auto host = driver::attach(disk, {.io_queues = 4});
    REQUIRE(host);
    CHECK(host->granted_queues() == 4);
    std::array<std::optional<driver::io_queue<unsigned>>, 4> queues;
    for (auto& q : queues) q.emplace(*host->create_queue_pair<unsigned>({.depth = depth}));
    std::array<std::atomic<unsigned>, 4> right{};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t != 4; ++t) {
      threads.emplace_back([&, t] { right[t] = write_and_verify(disk, *queues[t], t * 1024, 20); });
    }
    for (auto& t : threads) t.join();
    for (auto& r : right) CHECK(r == 20 * slots);
  }
  fabric.stop();
  CHECK(fabric.dma_faults().count() == 0);
}

TEST_CASE("shadow doorbells: the driver leaves its index in memory, the device thread finds it") {
  std::vector<std::byte> bytes(1_MiB);
  block::memory_media media{bytes};
  sim::fabric fabric;
  auto disk = *sim::add_nvme_disk(fabric, media);
  for (const bool threaded : {false, true}) {
    CAPTURE(threaded);
    if (threaded) REQUIRE(fabric.start());
    {
      auto host = driver::attach(disk);
      REQUIRE(host);
      REQUIRE(host->enable_shadow_doorbells());
      auto queue = host->create_shadowed_queue_pair<unsigned>({.depth = depth});
      REQUIRE(queue);
      CHECK(write_and_verify(disk, *queue, 0, 20) == 20 * slots);
    }
    fabric.stop();
    CHECK(fabric.dma_faults().count() == 0);
  }
}
