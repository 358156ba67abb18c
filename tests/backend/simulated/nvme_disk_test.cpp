// SPDX-License-Identifier: BSL-1.0
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/driver/controller.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>

#include <array>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::literals;
namespace sim = phasebit::backend::simulated;

namespace {

using driver = nvme::driver::controller<sim::function>;
using media_type = block::memory_media;

struct fixture {
  std::vector<std::byte> bytes = std::vector<std::byte>(4_MiB);
  media_type media{bytes};
  sim::fabric fabric;
  sim::nvme_disk<media_type> disk = *sim::add_nvme_disk(fabric, media);

  fixture() {
    for (std::size_t i = 0; i != bytes.size(); ++i) bytes[i] = std::byte(i * 7 + i / 512);
  }
};

// One command at a time, and its data compared with what the media holds.
struct one_by_one {
  driver& host;
  sim::function& disk;
  driver::io_queue<unsigned> queue = *host.create_queue_pair<unsigned>({.depth = 4});
  dma_region page = *disk.allocate(64_KiB, 4096);

  result<nvme::driver::completion> run(nvme::driver::submitted posted) {
    REQUIRE(posted);
    queue.ring();
    nvme::driver::completion answer;
    if (!poll_until(disk.clock(), 1'000'000'000, [&]() noexcept {
          return queue.poll([&](unsigned&, nvme::driver::completion c) noexcept { answer = c; }) !=
                 0;
        })) {
      if (const auto well = host.check(); !well) return well.error();
      return failure(errc::timed_out, "no completion");
    }
    return answer;
  }
  result<nvme::driver::completion> read(std::uint64_t lba, std::uint32_t blocks) {
    return run(
        queue.read({.nsid = 1, .lba = lba, .blocks = blocks}, page.subregion(0, blocks * 512), 0));
  }
  result<nvme::driver::completion> write(std::uint64_t lba, std::uint32_t blocks) {
    return run(
        queue.write({.nsid = 1, .lba = lba, .blocks = blocks}, page.subregion(0, blocks * 512), 0));
  }
};

struct answers {
  std::array<unsigned, 16> count{};
  unsigned total = 0;
  nvme::driver::completion last{};
};

// Polls until `n` commands ended or the device does nothing more.
template <class Queue>
void collect(sim::fabric& fabric, Queue& queue, answers& out, unsigned n, unsigned steps = 2000) {
  for (unsigned i = 0; i != steps && out.total < n; ++i) {
    if (!fabric.threaded()) fabric.step();
    queue.poll([&](unsigned& token, nvme::driver::completion c) noexcept {
      ++out.count[token];
      ++out.total;
      out.last = c;
    });
  }
}

}  // namespace

TEST_CASE_FIXTURE(fixture, "the simulated controller looks like one on the bus") {
  auto config = disk.config();
  CHECK(pcie::read_class_code(config) == 0x01'08'02);
  const auto msix = pcie::read_msix(config);
  REQUIRE(msix);
  CHECK(msix->vectors == 65);
  CHECK(pcie::find_capability(config, pcie::capability_id::pci_express));
  auto bar = *disk.map_bar(0);
  CHECK(bar.size_bytes() >= nvme::register_bytes(64, 0));
  CHECK(nvme::driver::read_register<nvme::vs>(bar).raw == nvme::vs::of(2, 0).raw);
}

TEST_CASE_FIXTURE(fixture, "what is written through the driver lies on the media, and back") {
  auto host = driver::attach(disk);
  REQUIRE(host);
  one_by_one io{*host, disk};
  for (const std::uint64_t lba : {0U, 3U, 8192U - 128U}) {
    const auto read = io.read(lba, 128);
    REQUIRE((read && read->ok()));
    CHECK(std::memcmp(io.page.data(), bytes.data() + lba * 512, 64_KiB) == 0);
    for (auto& b : io.page.bytes) b ^= std::byte{0xff};
    const auto written = io.write(lba, 128);
    REQUIRE((written && written->ok()));
    CHECK(std::memcmp(io.page.data(), bytes.data() + lba * 512, 64_KiB) == 0);
  }
  CHECK_FALSE(io.read(8192, 1)->ok());
  CHECK(fabric.dma_faults().count() == 0);
}

TEST_CASE_FIXTURE(fixture, "all that a driver allocated is free again when it is gone") {
  {
    auto host = driver::attach(disk, {.io_queues = 4});
    REQUIRE(host);
    one_by_one io{*host, disk};
    REQUIRE(io.read(0, 8));
    disk.release(io.page);
  }
  CHECK(fabric.memory().allocate(fabric.memory().size_bytes(), 64));
}

TEST_CASE("a controller behind a port works after the library's own enumeration") {
  std::vector<std::byte> bytes(1_MiB);
  media_type media{bytes};
  sim::fabric fabric;
  const auto port = fabric.add_port(1);
  REQUIRE(port);
  sim::nvme_options options{.device = 0, .enabled = false};
  auto description = sim::describe_nvme(options);
  using set = nvme::device::single_namespace<media_type>;
  auto disk = fabric.add(*port, description, [&](const sim::device_port& inside) noexcept {
    return sim::nvme_model<set>{inside, set{media}, options.controller};
  });
  REQUIRE(disk);
  auto bridge = fabric.function(port->id());
  bridge.write32(pcie::bridge_header::primary_bus, 0);
  CHECK(driver::attach(*disk).error().code == errc::removed);

  std::array<pcie::enumerated_function, 8> list;
  const auto found =
      pcie::enumerate(fabric,
                      {.memory = {.base = 0xc000'0000, .size = 0x2000'0000},
                       .prefetchable = {.base = 0x80'0000'0000, .size = 0x80'0000'0000}},
                      list);
  REQUIRE(found);
  REQUIRE(found->size() == 2);
  CHECK((*found)[0].is_bridge());
  CHECK((*found)[1].class_code == 0x01'08'02);
  CHECK_FALSE((*found)[1].fault);
  CHECK((*found)[1].id == disk->id());
  auto host = driver::attach(*disk);
  REQUIRE(host);
  one_by_one io{*host, *disk};
  CHECK(io.read(0, 8)->ok());
}

TEST_CASE_FIXTURE(fixture, "interrupts arrive on the queue's vector") {
  auto host = driver::attach(disk);
  REQUIRE(host);
  REQUIRE(disk.enable_interrupts(3));
  auto queue = host->create_queue_pair<unsigned>({.depth = 8, .interrupt = 2});
  REQUIRE(queue);
  static_cast<void>(disk.poll_interrupt(0));
  const auto page = *disk.allocate(4096, 4096);
  CHECK_FALSE(disk.wait_interrupt(2, 100'000));
  REQUIRE(queue->read({.nsid = 1, .lba = 8, .blocks = 8}, page, 1));
  queue->ring();
  CHECK(disk.wait_interrupt(2, 100'000));
  CHECK_FALSE(disk.poll_interrupt(1));
  CHECK(queue->poll([](unsigned&, nvme::driver::completion c) noexcept { CHECK(c.ok()); }) == 1);
  CHECK(std::memcmp(page.data(), bytes.data() + 4096, 4096) == 0);
  disk.release(page);
}

TEST_CASE_FIXTURE(fixture, "completions are lost, late, turned around, doubled and falsified") {
  auto host = driver::attach(disk);
  REQUIRE(host);
  auto queue = host->create_queue_pair<unsigned>({.depth = 16});
  REQUIRE(queue);
  const auto page = *disk.allocate(4096, 4096);
  std::vector<unsigned> order;
  answers got;
  const auto post = [&](unsigned count, const sim::fault_plan& plan) {
    disk.inject(plan);
    got = {};
    for (unsigned i = 0; i != count; ++i) {
      REQUIRE(queue->read({.nsid = 1, .lba = 0, .blocks = 8}, page, i));
    }
    queue->ring();
  };

  SUBCASE("dropped: one command never ends") {
    post(4, sim::fault_plan{}.completion(1, sim::completion_fault::drop));
    collect(fabric, *queue, got, 4);
    CHECK(got.total == 3);
    CHECK(got.count[1] == 0);
    CHECK(queue->in_flight() == 1);
    CHECK(disk.injected().faulty_completions == 1);
    CHECK(disk.injected().completions == 4);
  }
  SUBCASE("delayed: it ends after so many rounds") {
    post(2, sim::fault_plan{}.completion(0, sim::completion_fault::delay, 50));
    collect(fabric, *queue, got, 2, 50);
    CHECK(got.total == 1);
    CHECK(got.count[1] == 1);
    collect(fabric, *queue, got, 2, 2);
    CHECK(got.total == 2);
  }
  SUBCASE("reordered: the next one comes first") {
    post(3, sim::fault_plan{}.completion(0, sim::completion_fault::reorder));
    fabric.step();
    queue->poll(
        [&](unsigned& token, nvme::driver::completion) noexcept { order.push_back(token); });
    CHECK(order == std::vector<unsigned>{1, 0, 2});
  }
  SUBCASE("reordered with nothing behind it: it comes all the same") {
    post(1, sim::fault_plan{}.completion(0, sim::completion_fault::reorder));
    collect(fabric, *queue, got, 1);
    CHECK(got.total == 1);
  }
  SUBCASE("duplicated: the driver counts the unexpected one") {
    post(2, sim::fault_plan{}.completion(1, sim::completion_fault::duplicate));
    collect(fabric, *queue, got, 3, 20);
    CHECK(got.total == 2);
    CHECK(queue->unexpected_completions() == 1);
    CHECK(queue->health().error().code == errc::protocol);
  }
  SUBCASE("an unknown command id ends no command") {
    post(1, sim::fault_plan{}.completion(0, sim::completion_fault::wrong_id, 0x4000));
    collect(fabric, *queue, got, 1, 20);
    CHECK(got.total == 0);
    CHECK(queue->unexpected_completions() == 1);
    CHECK(queue->in_flight() == 1);
  }
  SUBCASE("another status arrives as it was ordered") {
    post(1, sim::fault_plan{}.completion(0, sim::completion_fault::wrong_status, 0x06));
    collect(fabric, *queue, got, 1);
    CHECK(got.total == 1);
    CHECK_FALSE(got.last.ok());
    CHECK(got.last.status().raw() == 0x06);
  }
  SUBCASE("a phase that never flips hides the completion and all behind it") {
    post(3, sim::fault_plan{}.completion(1, sim::completion_fault::wrong_phase));
    collect(fabric, *queue, got, 3, 20);
    CHECK(got.total == 1);
    CHECK(queue->in_flight() == 2);
  }
  SUBCASE("a seed gives the same faults in every run") {
    unsigned total[2];
    for (unsigned& t : total) {
      post(12, sim::fault_plan{}.sometimes(sim::completion_fault::wrong_status, 3, 42, 0x80));
      unsigned bad = 0;
      fabric.step();
      queue->poll([&](unsigned&, nvme::driver::completion c) noexcept { bad += c.ok() ? 0U : 1U; });
      t = bad;
    }
    CHECK(total[0] == total[1]);
    CHECK(total[0] != 0);
    CHECK(total[0] != 12);
  }
  disk.inject({});
}

TEST_CASE_FIXTURE(fixture, "a controller that never becomes ready is a time-out, at once") {
  disk.inject(sim::fault_plan{}.stick(sim::never_ready));
  const auto host = driver::attach(disk);
  REQUIRE_FALSE(host);
  CHECK(host.error().code == errc::timed_out);
  CHECK(fabric.clock().now() >= 1'000'000'000);
}

TEST_CASE_FIXTURE(fixture, "a controller that never stops is distinguished from a broken one") {
  disk.inject(sim::fault_plan{}.stick(sim::never_stopped));
  CHECK(driver::attach(disk).error().code == errc::timed_out);
  disk.inject(sim::fault_plan{}.stick(sim::fatal));
  CHECK(driver::attach(disk).error().code == errc::protocol);
}

TEST_CASE_FIXTURE(fixture, "a shutdown that is never finished is a time-out") {
  auto host = driver::attach(disk);
  REQUIRE(host);
  disk.inject(sim::fault_plan{}.stick(sim::never_shut_down));
  CHECK(host->shut_down().error().code == errc::timed_out);
  disk.inject({});
  CHECK(host->shut_down());
}

TEST_CASE_FIXTURE(fixture, "a controller that is pulled out is noticed, and nothing hangs") {
  auto host = driver::attach(disk);
  REQUIRE(host);
  one_by_one io{*host, disk};
  REQUIRE(io.read(0, 8));
  disk.inject(sim::fault_plan{}.remove_at_completion(2));
  CHECK(io.read(0, 8));
  CHECK(io.read(0, 8));
  CHECK(io.read(0, 8).error().code == errc::removed);
  CHECK(disk.removed());
  CHECK(host->check().error().code == errc::removed);
  CHECK(host->reset().error().code == errc::removed);
}

TEST_CASE_FIXTURE(fixture, "data that DMA cannot reach is a transfer error, not a lost command") {
  auto host = driver::attach(disk);
  REQUIRE(host);
  auto queue = host->create_queue_pair<unsigned>({.depth = 8});
  REQUIRE(queue);
  const auto page = *disk.allocate(4096, 4096);
  // The first translation of the round is the command, the second its data.
  disk.inject(sim::fault_plan{}.fail_dma(1));
  answers got;
  REQUIRE(queue->read({.nsid = 1, .lba = 0, .blocks = 8}, page, 0));
  queue->ring();
  collect(fabric, *queue, got, 1);
  CHECK(got.total == 1);
  CHECK_FALSE(got.last.ok());
  const auto fault = fabric.dma_faults().take();
  REQUIRE(fault);
  CHECK(fault->requester == disk.id());
  CHECK(fault->address == page.bus);
  CHECK(fault->wanted == access::write);

  // A ring that cannot be reached is a fatal status.
  disk.inject(sim::fault_plan{}.fail_dma(0));
  REQUIRE(queue->read({.nsid = 1, .lba = 0, .blocks = 8}, page, 0));
  queue->ring();
  fabric.settle();
  CHECK(host->check().error().code == errc::protocol);
}

TEST_CASE_FIXTURE(fixture, "a driver and the device thread: data, faults and interrupts") {
  REQUIRE(fabric.start());
  {
    auto host = driver::attach(disk);
    REQUIRE(host);
    REQUIRE(disk.enable_interrupts(2));
    auto queue = host->create_queue_pair<unsigned>({.depth = 16, .interrupt = 1});
    REQUIRE(queue);
    const auto page = *disk.allocate(64_KiB, 4096);
    disk.inject(sim::fault_plan{}
                    .sometimes(sim::completion_fault::delay, 5, 1, 20)
                    .sometimes(sim::completion_fault::reorder, 7, 2));
    unsigned ended = 0;
    unsigned posted = 0;
    while (ended != 500) {
      while (posted != 500 && queue->read({.nsid = 1, .lba = posted % 100U, .blocks = 8},
                                          page.subregion(posted % 16 * 4096, 4096), posted)) {
        ++posted;
      }
      queue->ring();
      REQUIRE(disk.wait_interrupt(1, 20'000'000'000));
      ended += queue->poll([](unsigned&, nvme::driver::completion c) noexcept { CHECK(c.ok()); });
    }
    CHECK(disk.injected().faulty_completions > 50);
    CHECK(fabric.dma_faults().count() == 0);
  }
  fabric.stop();
  CHECK_FALSE(fabric.threaded());
}
