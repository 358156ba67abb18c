// SPDX-License-Identifier: BSL-1.0
// A function mapped through /sys, without vfio: what works, and what is refused.
#include "guest.hpp"

#include <phasebit/backend/mmio_linux.hpp>

#include <array>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>
#include <grp.h>
#include <support/nvme_end_to_end.hpp>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit_guest;
namespace mmio = phasebit::backend::mmio_linux;
using mmio_controller = nvme::driver::controller<mmio::function>;

TEST_CASE("mmio-suite") {
  auto function = must(mmio::function::open(bdf));
  phasebit_test::nvme_end_to_end<mmio::function>{function}.run_all();
}

// INTx through uio_pci_generic: one vector for all queues, switched on again by each wait.
TEST_CASE("mmio-interrupts") {
  constexpr auto ignore = [](auto&, nvme::driver::completion) noexcept {};
  auto function = must(mmio::function::open(bdf));
  auto host = must(mmio_controller::attach(function));
  REQUIRE(function.interrupt_vectors() == 1);
  CHECK(function.enable_interrupts(2).error().code == errc::out_of_range);
  must(function.enable_interrupts(1));
  // Number of interrupts of the admin queue so far.
  while (function.wait_interrupt(0, 200 * nanoseconds_per_ms)) {
  }
  auto queue =
      must(host.create_queue_pair<std::uint32_t>({.depth = 8, .interrupt = std::uint16_t{0}}));
  while (function.wait_interrupt(0, 200 * nanoseconds_per_ms)) {
  }
  for (int i = 0; i != 10; ++i) {
    REQUIRE(queue.submit(nvme::nvm::flush(1), 1U));
    queue.ring();
    CHECK(function.wait_interrupt(0, 10'000 * nanoseconds_per_ms));
    CHECK(queue.poll(ignore) == 1);
  }
  CHECK_FALSE(function.wait_interrupt(0, 300 * nanoseconds_per_ms));
  CHECK(host.delete_queue_pair(queue, ignore));
  must(function.disable_interrupts());
}

TEST_CASE("mmio-reset") {
  auto function = must(mmio::function::open(bdf));
  {
    auto host = must(mmio_controller::attach(function));
    auto bar = must(function.map_bar(0));
    CHECK(nvme::driver::read_register<nvme::csts>(bar)[nvme::csts::rdy]);
    must(function.reset());
    CHECK_FALSE(nvme::driver::read_register<nvme::csts>(bar)[nvme::csts::rdy]);
  }
  CHECK(mmio_controller::attach(function));
}

// The same register by way of /sys and by its physical address.
TEST_CASE("mmio-physical") {
  auto function = must(mmio::function::open(bdf));
  auto bar = must(function.map_bar(0));
  const auto mapping =
      must(mmio::map_physical(host_phys{function.bars()[0].address}, function.bars()[0].size));
  auto raw = mapping.bar();
  const auto version = nvme::driver::read_register<nvme::vs>(bar);
  CHECK(version.raw != 0);
  CHECK(nvme::driver::read_register<nvme::vs>(raw).raw == version.raw);
  CHECK(nvme::driver::read_register<nvme::cap>(raw).raw ==
        nvme::driver::read_register<nvme::cap>(bar).raw);
}

// BAR 2 of QEMU's ivshmem is prefetchable memory: written through resource2_wc, read through resource2.
TEST_CASE("mmio-write-combining") {
  auto function = must(mmio::function::open(bdf, {.dma = mmio::no_dma{}}));
  std::vector<std::byte> pattern(4096);
  phasebit_test::fill_block(pattern, 2, 2);
  {
    const auto gathered = must(function.map(2, mmio::bar_view::write_combining));
    REQUIRE(gathered.size() == std::size_t{1} << 20);
    std::memcpy(gathered.bytes().data() + 8192, pattern.data(), pattern.size());
    drain_write_combining();
  }
  auto bar = must(function.map_bar(2));
  for (std::uint32_t at = 0; at != pattern.size(); at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, pattern.data() + at, sizeof word);
    REQUIRE(bar.read32(8192 + at) == word);
  }
  // Its registers are no memory, and the kernel has no such view of them.
  CHECK(function.map(0, mmio::bar_view::write_combining).error().code == errc::not_supported);
}

// The kernel refuses access to the machine's own memory through /dev/mem.
TEST_CASE("mmio-no-ram") {
  const auto ram = mmio::map_physical(host_phys{16U << 20}, 4096);
  REQUIRE_FALSE(ram);
  CHECK(ram.error().code == errc::permission);
}

// Huge pages lie at the addresses in pagemap, each of them to its end.
TEST_CASE("mmio-huge") {
  constexpr std::size_t page = std::size_t{2} << 20;
  auto function = must(mmio::function::open(bdf));
  auto host = must(mmio_controller::attach(function, {.io_queues = 2}));
  auto disk = must(nvme::driver::disk<mmio_controller>::open(host));
  auto queue = must(host.create_queue_pair<std::uint32_t>({.depth = 8}));
  const std::array regions{must(function.allocate(page, page)),
                           must(function.allocate(page, page))};
  for (std::uint32_t i = 0; i != regions.size(); ++i) {
    CHECK(regions[i].bus.value() % page == 0);
    const auto last = regions[i].subregion(page - 8192, 8192);
    phasebit_test::fill_block(last.bytes, 1000, i);
    std::vector<std::byte> out(last.bytes.begin(), last.bytes.end());
    REQUIRE(queue.write({.nsid = 1, .lba = 1000, .blocks = 16}, last, 0));
    queue.ring();
    nvme::driver::completion answer;
    REQUIRE(phasebit_test::within_ten_seconds(function, [&]() noexcept {
      return queue.poll([&](std::uint32_t&, nvme::driver::completion c) noexcept { answer = c; }) !=
             0;
    }));
    CHECK(answer.ok());
    std::vector<std::byte> in(8192);
    must(disk.read(1000, in));
    CHECK(in == out);
  }
  CHECK(regions[0].bus != regions[1].bus);
  // regression: more than one page was refused, for the kernel hands them out last one first.
  // Two, for a kernel that has run for a while may have no longer run of them.
  const auto large = must(function.allocate(2 * page, page));
  phasebit_test::fill_block(large.bytes, 8, 8);
  std::vector<std::byte> in(large.size());
  for (std::uint32_t i = 0; i != 32; ++i) {
    REQUIRE(queue.write({.nsid = 1, .lba = 256 * std::uint64_t{i}, .blocks = 256},
                        large.subregion(std::size_t{i} << 17, std::size_t{1} << 17), i));
    queue.ring();
    REQUIRE(phasebit_test::within_ten_seconds(function, [&]() noexcept {
      return queue.poll([](std::uint32_t&, nvme::driver::completion) noexcept {}) != 0;
    }));
  }
  must(disk.read(0, in));
  CHECK(std::memcmp(in.data(), large.data(), in.size()) == 0);
  function.release(large);
  for (const auto& region : regions) function.release(region);
}

// Another process of ours may not have it too; and the function is whole when the first has gone.
TEST_CASE("mmio-two") {
  auto function = must(mmio::function::open(bdf));
  const auto again = mmio::function::open(bdf);
  REQUIRE_FALSE(again);
  CHECK(again.error().code == errc::busy);
}

namespace phasebit_guest {

// --mmio-unprivileged BDF: ends with the error of a user other than root.
void mmio_unprivileged() {
  if (::setgroups(0, nullptr) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) std::exit(2);
  (void)must(mmio::function::open(bdf));
}

}  // namespace phasebit_guest
