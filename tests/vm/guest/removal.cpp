// SPDX-License-Identifier: BSL-1.0
// A device that is pulled out while commands are in flight: asked for first, or not.
#include "guest.hpp"

#include <phasebit/pcie/spec/capability.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include <doctest/doctest.h>
#include <fcntl.h>

using namespace phasebit;
using namespace phasebit_guest;

namespace {

constexpr std::uint32_t tokens = 100'000;

// Reads until the device goes, then lets go of it. Each command has to end exactly once. The script
// bounds the time; after a surprise that it has not noticed, the kernel itself waits a minute for the
// device when the function is closed.
void read_until_removed(bool dead_already) {
  std::vector<std::uint8_t> ended(tokens);
  std::uint32_t posted = 0;
  std::size_t after = 0;
  std::uint64_t began = 0;
  const posix::steady_clock clock{};
  auto function = must(vfio::function::open(bdf));
  {
    auto host = must(nvme_controller::attach(function, {.admin_timeout_ms = 2000}));
    auto queue = must(host.create_queue_pair<std::uint32_t>({.depth = 32}));
    const auto memory = must(function.allocate(32 * 4096, 4096));
    const auto count = [&](std::uint32_t token, nvme::driver::completion) noexcept {
      ++ended[token];
    };
    bool told = false;
    std::uint64_t last = clock.now();
    for (;;) {
      while (posted != tokens && queue.read({.nsid = 1, .lba = 8 * (posted % 64), .blocks = 8},
                                            memory.subregion(4096 * (posted % 32), 4096), posted)) {
        ++posted;
      }
      queue.ring();
      const bool some = queue.poll(count) != 0;
      const std::uint64_t now = clock.now();
      if (some) last = now;
      if (some && !told) {
        std::printf("PB-RUNNING %s\n", bdf.c_str());
        std::fflush(stdout);
        told = true;
      }
      // The two ways to notice: the kernel asks for the device, or it is just silent.
      if (function.removal_requested() || now - last > 5'000 * nanoseconds_per_ms) break;
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    began = clock.now();
    if (!dead_already) CHECK(function.removal_requested());
    after = queue.fail_all(nvme::status_code::aborted_by_host, count);
    CHECK(after != 0);  // the disk is slow on purpose: something was in flight
    CHECK(queue.fail_all(nvme::status_code::aborted_by_host, count) == 0);
    // No attempt now hangs; the result does not matter.
    (void)host.check();
    const auto gone = host.delete_queue_pair(queue, count);
    if (dead_already) CHECK_FALSE(gone);
  }
  const auto took = clock.now() - began;
  std::printf("%u commands, %zu of them ended by removal; let go in %llu ms\n", posted, after,
              static_cast<unsigned long long>(took / nanoseconds_per_ms));
  CHECK(std::all_of(ended.begin(), ended.begin() + posted,
                    [](std::uint8_t times) { return times == 1; }));
}

}  // namespace

TEST_CASE("removal") { read_until_removed(false); }
TEST_CASE("surprise-removal") { read_until_removed(true); }

// Cuts the power of a root port's slot without notice: PCIe 5.0, 7.5.3.10, Slot Control. QEMU 7.2
// does not notify the kernel, so that the driver only sees missing responses: the harder case.
TEST_CASE("power-off") {
  const std::string path = "/sys/bus/pci/devices/" + bdf + "/config";
  const auto file = must(posix::open_file(path.c_str(), O_RDWR));
  vfio::config_space config{file.get(), 0, 4096};
  const auto at = must(pcie::find_capability(config, pcie::capability_id::pci_express));
  const auto slot_control = static_cast<std::uint16_t>(at + 0x18);
  constexpr std::uint16_t indicator_off = 3U << 8;
  constexpr std::uint16_t power_off = 1U << 10;
  config.write16(slot_control, static_cast<std::uint16_t>(config.read16(slot_control) |
                                                          indicator_off | power_off));
}
