// SPDX-License-Identifier: BSL-1.0
// Our NVMe driver over our vfio-user client, against our server with our NVMe controller: data verified
// against a copy, with shared memory and with all DMA by messages, interrupts, disconnect and reconnect.
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <transport/vfio_user/served_disk.hpp>

using namespace phasebit;
using namespace phasebit_test;

namespace {

// Random reads and writes of 1 to 200 blocks, several at a time on blocks of their own, each verified.
template <class Disk>
void exercise(vfu::client& function, Disk& disk, std::vector<std::byte>& copy, std::uint32_t seed,
              int rounds) {
  constexpr std::uint32_t slots = 6;
  constexpr std::uint32_t most_blocks = 200;
  auto queue = disk.create_queue_pair({.depth = 16});
  REQUIRE(queue);
  struct slot {
    std::optional<dma_buffer<vfu::client>> memory;
    std::uint64_t lba = 0;
    std::uint32_t blocks = 0;
    std::size_t offset = 0;
    bool busy = false;
    bool reading = false;
    nvme::status status;
  };
  std::vector<slot> all(slots);
  for (auto& s : all) {
    auto memory = allocate(function, most_blocks * 512 + 4096);
    REQUIRE(memory);
    s.memory.emplace(std::move(*memory));
  }
  std::mt19937 random{seed};
  const std::uint64_t blocks_each = copy.size() / 512 / slots;
  int done = 0;
  int begun = 0;
  while (done != rounds) {
    for (std::uint32_t i = 0; i != slots && begun != rounds; ++i) {
      slot& s = all[i];
      if (s.busy) continue;
      s.blocks = 1 + static_cast<std::uint32_t>(random() % most_blocks);
      s.lba = blocks_each * i + random() % (blocks_each - s.blocks);
      s.offset = random() % 2 == 0 ? 0 : random() % 1024 * 4;
      s.reading = random() % 2 == 0;
      s.busy = true;
      const std::size_t bytes = std::size_t{s.blocks} * 512;
      const auto data = (*s.memory)->subregion(s.offset, bytes);
      const auto finished = [&s, &done](nvme::completion c) noexcept {
        s.status = c.status();
        s.busy = false;
        ++done;
      };
      const nvme::block_range range{.lba = s.lba, .blocks = s.blocks};
      if (s.reading) {
        std::memset(data.data(), 0xee, bytes);
        REQUIRE(queue->read(range, data, finished));
      } else {
        for (std::size_t b = 0; b != bytes; ++b) data.data()[b] = static_cast<std::byte>(random());
        std::memcpy(copy.data() + s.lba * 512, data.data(), bytes);
        REQUIRE(queue->write(range, data, finished));
      }
      ++begun;
    }
    queue->ring();
    std::vector<bool> was(slots);
    for (std::uint32_t i = 0; i != slots; ++i) was[i] = all[i].busy;
    REQUIRE(nvme::wait(*queue, 10'000));
    for (std::uint32_t i = 0; i != slots; ++i) {
      slot& s = all[i];
      if (!was[i] || s.busy) continue;
      CHECK(s.status.ok());
      if (s.reading) {
        CHECK(std::memcmp(s.memory->data() + s.offset, copy.data() + s.lba * 512,
                          std::size_t{s.blocks} * 512) == 0);
      }
    }
  }
}

void run(const vfu::client_options& options, const vfu::nvme_options& controller = {},
         std::size_t messages_in_flight = 0) {
  served_disk served{controller};
  served.host.dma.set_messages_in_flight(messages_in_flight);
  std::vector<std::byte> copy(served.disk.size());
  {
    server_thread thread{served};
    auto function = vfu::client::connect(thread.connect(), options);
    REQUIRE_MESSAGE(function, function.error().what);
    auto disk = nvme::attach(*function);
    REQUIRE_MESSAGE(disk, disk.error().what);
    exercise(*function, *disk, copy, 1, 300);
    REQUIRE(disk->reset());
    exercise(*function, *disk, copy, 2, 100);
  }
  CHECK(std::memcmp(copy.data(), served.disk.data(), copy.size()) == 0);
  const bool by_messages = served.host.dma.message_bytes() != 0;
  CHECK(by_messages == !options.share_memory);
  CHECK(served.server->counters().refused == 0);
}

}  // namespace

TEST_CASE("vfio-user: our driver reads back what it wrote through our server") { run({}); }
TEST_CASE("vfio-user: the same with doorbells as messages") { run({}, {.map_doorbells = false}); }
TEST_CASE("vfio-user: the same with all DMA by messages") { run({.share_memory = false}); }
TEST_CASE("vfio-user: the same with all DMA by messages on a second socket") {
  run({.share_memory = false, .twin_socket = true});
}
TEST_CASE("vfio-user: the same with many messages of DMA on their way") {
  for (const std::size_t most : {1U, 3U, 256U}) {
    run({.share_memory = false}, {}, most);
    run({.share_memory = false, .twin_socket = true}, {}, most);
  }
}
