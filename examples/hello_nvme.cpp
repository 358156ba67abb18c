// SPDX-License-Identifier: BSL-1.0
// Writes a sentence to one block of an NVMe disk and reads it back. Usage: hello_nvme [LBA]
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/hosted/format.hpp>
#include <phasebit/memory/dma_buffer.hpp>
#include <phasebit/nvme/driver.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <fmt/format.h>

using namespace phasebit;
using namespace phasebit::literals;
namespace simulated = backend::simulated;

result<> hello(std::uint64_t lba) {
  std::vector<std::byte> bytes(16_MiB);
  block::memory_media media{bytes};                    // storage of the disk's blocks
  simulated::fabric bus;                               // a PCIe bus in this process
  auto device = simulated::add_nvme_disk(bus, media);  // an NVMe controller on it
  if (!device) return device.error();

  auto disk = nvme::attach(*device);  // reset, enable, identify
  if (!disk) return disk.error();
  auto queue = disk->create_queue_pair({.depth = 8});  // in memory of the device's bus
  if (!queue) return queue.error();
  auto block = allocate(*device, 512);  // so is the data; it frees itself
  if (!block) return block.error();

  nvme::status status;
  const auto done = [&](nvme::completion c) noexcept { status = c.status(); };
  const auto finish = [&](nvme::submitted posted) -> result<> {
    if (!posted) return posted.as_error();  // refused: never reached the device
    queue->ring();                          // one doorbell for all that is posted
    if (const auto answered = nvme::wait(*queue, 1000); !answered) return answered.error();
    if (!status.ok()) return failure(errc::io, text(status).data()).of("the disk reports");
    return {};
  };

  std::strcpy(reinterpret_cast<char*>(block->data()), "hello, block!");
  if (auto r = finish(queue->write({.lba = lba, .blocks = 1}, *block, done)); !r) return r;
  std::memset(block->data(), 0, block->size());
  if (auto r = finish(queue->read({.lba = lba, .blocks = 1}, *block, done)); !r) return r;
  std::printf("block %llu contains: %s\n", static_cast<unsigned long long>(lba),
              reinterpret_cast<const char*>(block->data()));
  return {};
}

int main(int argc, char** argv) {
  char* end = nullptr;
  const std::uint64_t lba = argc > 1 ? std::strtoull(argv[1], &end, 0) : 7;
  const auto outcome = end == nullptr || (end != argv[1] && *end == '\0')
                           ? hello(lba)
                           : failure(errc::invalid_argument, "is no block number").of(argv[1]);
  if (outcome) return 0;
  fmt::print(stderr, "hello_nvme: {}\n", outcome.error());
  return 1;
}
