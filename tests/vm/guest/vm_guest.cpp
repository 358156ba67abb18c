// SPDX-License-Identifier: BSL-1.0
// The program inside the test guests: one small command per case, driven by the guest's script.
#define DOCTEST_CONFIG_IMPLEMENT
#include "guest.hpp"

#include <cstring>
#include <string_view>

#include <doctest/doctest.h>
#include <grp.h>
#include <support/nvme_end_to_end.hpp>
#include <sys/resource.h>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit_guest;
using phasebit_test::fill_block;
using phasebit_test::nvme_end_to_end;
using phasebit_test::within_ten_seconds;
namespace posix = phasebit::posix;

namespace {

constexpr auto ignore = [](auto&, nvme::driver::completion) noexcept {};

void identify() {
  auto function = must(vfio::function::open(bdf));
  auto host = must(nvme_controller::attach(function));
  const auto model = nvme::text_of(host.identity().mn);
  std::printf("%.*s\n", static_cast<int>(model.size()), model.data());
}

// The whole namespace into a file.
void dump() {
  auto function = must(vfio::function::open(bdf));
  auto host = must(nvme_controller::attach(function));
  auto disk = must(nvme::driver::disk<nvme_controller>::open(host));
  std::FILE* const out = std::fopen(rest.at(0).c_str(), "wb");
  std::vector<std::byte> bytes(128U << 10);
  for (std::uint64_t lba = 0; lba < disk.info().blocks; lba += bytes.size() / 512) {
    must(disk.read(lba, bytes));
    if (std::fwrite(bytes.data(), 1, bytes.size(), out) != bytes.size()) std::exit(1);
  }
  std::fclose(out);
}

void fill() {
  auto function = must(vfio::function::open(bdf));
  auto host = must(nvme_controller::attach(function));
  auto disk = must(nvme::driver::disk<nvme_controller>::open(host));
  std::vector<std::byte> bytes(std::stoul(rest.at(1)) * 512);
  fill_block(bytes, std::stoul(rest.at(2)), 0);
  must(disk.write(std::stoul(rest.at(0)), bytes));
  must(disk.flush());
  must(host.shut_down());
}

// A user other than root who may pin at most 1 MiB.
void unprivileged() {
  const ::rlimit limit{1U << 20, 1U << 20};
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || ::setgroups(0, nullptr) != 0 ||
      ::setgid(65534) != 0 || ::setuid(65534) != 0) {
    std::exit(2);
  }
  auto function = must(vfio::function::open(bdf));
  (void)must(function.allocate(4096, 4096));
}

// Keeps the function for so many seconds.
void hold() {
  auto function = must(vfio::function::open(bdf));
  std::printf("holding\n");
  std::fflush(stdout);
  ::sleep(static_cast<unsigned>(std::stoul(rest.at(0))));
}

}  // namespace

TEST_CASE("suite") {
  auto function = must(vfio::function::open(bdf));
  nvme_end_to_end<vfio::function>{function}.run_all();
}

TEST_CASE("interrupts") {
  auto function = must(vfio::function::open(bdf));
  auto host = must(nvme_controller::attach(function, {.io_queues = 2}));
  REQUIRE(function.interrupt_vectors() >= 3);
  must(function.enable_interrupts(3));
  auto queue =
      must(host.create_queue_pair<std::uint32_t>({.depth = 8, .interrupt = std::uint16_t{2}}));
  CHECK_FALSE(function.poll_interrupt(2));
  for (int i = 0; i != 10; ++i) {
    REQUIRE(queue.submit(nvme::nvm::flush(1), 1U));
    queue.ring();
    CHECK(function.wait_interrupt(2, 10'000 * nanoseconds_per_ms));
    CHECK(queue.poll(ignore) == 1);
  }
  CHECK_FALSE(function.poll_interrupt(1));
  CHECK(host.delete_queue_pair(queue, ignore));
  must(function.disable_interrupts());
}

TEST_CASE("outside") {
  auto function = must(vfio::function::open(bdf));
  auto host = must(nvme_controller::attach(function));
  auto queue = must(host.create_queue_pair<std::uint32_t>({.depth = 8}));
  const auto good = must(function.allocate(4096, 4096));
  std::memset(good.data(), 0x5a, 4096);
  const auto finish = [&](const dma_region& where) {
    nvme::driver::completion answer;
    REQUIRE(queue.read({.nsid = 1, .lba = 0, .blocks = 8}, where, 0));
    queue.ring();
    REQUIRE(within_ten_seconds(function, [&]() noexcept {
      return queue.poll([&](std::uint32_t&, nvme::driver::completion c) noexcept { answer = c; }) !=
             0;
    }));
    return answer;
  };
  // Checked by the data and by the kernel's log: QEMU 7.2 reports success for such a read.
  const auto stopped_at = [&](bus_addr where) {
    const auto said = function.dma_faults(5'000 * nanoseconds_per_ms);
    REQUIRE_FALSE(said);
    CHECK(said.error().code == errc::access_denied);
    CHECK(said.error().value == where.value());
    std::array<char, 256> text{};
    CHECK(said.error().message(text).starts_with(bdf + ": the IOMMU stopped a DMA write"));
    while (!function.dma_faults(200 * nanoseconds_per_ms)) {  // the transfer's other lines
    }
  };
  CHECK(function.dma_faults());
  // Never mapped; and mapped, then taken away.
  const dma_region nowhere{good.bytes, bus_addr{0x7f'0000'0000}};
  CHECK(function.reaches(good));
  CHECK_FALSE(function.reaches(nowhere));
  (void)finish(nowhere);
  CHECK(good.bytes[0] == std::byte{0x5a});
  stopped_at(nowhere.bus);
  // Of such lines the kernel logs ten in five seconds at most, several for one transfer, and drops the
  // others: the next transfer begins with as many as this one.
  ::sleep(6);
  auto pages = must(posix::memory_mapping::anonymous(8192));
  const auto mapped = must(function.map(pages.bytes()));
  CHECK(function.reaches(mapped));
  CHECK(finish(mapped.subregion(0, 4096)).ok());
  must(function.unmap(mapped));
  CHECK_FALSE(function.reaches(mapped));
  CHECK(function.unmap(mapped).error().code == errc::not_found);
  std::memset(pages.data(), 0x5a, 4096);
  (void)finish(mapped.subregion(0, 4096));
  CHECK(pages.bytes()[0] == std::byte{0x5a});
  stopped_at(mapped.bus);
  // And life goes on.
  CHECK(finish(good).ok());
  CHECK(host.check());
  CHECK(host.delete_queue_pair(queue, ignore));
}

TEST_CASE("reset") {
  auto function = must(vfio::function::open(bdf));
  {
    auto host = must(nvme_controller::attach(function));
    auto bar = must(function.map_bar(0));
    CHECK(nvme::driver::read_register<nvme::csts>(bar)[nvme::csts::rdy]);
    must(function.reset());
    CHECK_FALSE(nvme::driver::read_register<nvme::csts>(bar)[nvme::csts::rdy]);
  }
  auto again = must(nvme_controller::attach(function));
  CHECK(again.check());
}

TEST_CASE("huge") {
  const auto free_pages = [] {
    std::FILE* const info = std::fopen("/proc/meminfo", "r");
    std::array<char, 128> line{};
    long count = -1;
    while (std::fgets(line.data(), static_cast<int>(line.size()), info) != nullptr) {
      (void)std::sscanf(line.data(), "HugePages_Free: %ld", &count);
    }
    std::fclose(info);
    return count;
  };
  const long before = free_pages();
  REQUIRE(before > 0);
  auto function = must(vfio::function::open(bdf));
  const auto region = must(function.allocate(1U << 20, 4096));
  // The pool took a huge page for it: one is missing from the system's.
  CHECK(free_pages() == before - 1);
  function.release(region);
  nvme_end_to_end<vfio::function>{function}.run_all();
}

// The kernel takes three entries: the pool's chunk, and two of the caller's.
TEST_CASE("entry-limit") {
  auto function = must(vfio::function::open(bdf));
  (void)must(function.allocate(4096, 4096));
  auto pages = must(posix::memory_mapping::anonymous(3 * 4096));
  const auto first = must(function.map(pages.bytes().subspan(0, 4096)));
  (void)must(function.map(pages.bytes().subspan(4096, 4096)));
  const auto third = function.map(pages.bytes().subspan(8192, 4096));
  REQUIRE_FALSE(third);
  CHECK(third.error().code == errc::exhausted);
  CHECK(std::string_view{third.error().what}.find("dma_entry_limit") != std::string_view::npos);
  must(function.unmap(first));
  CHECK(function.map(pages.bytes().subspan(8192, 4096)));
}

TEST_CASE("ranges") {
  auto opened = must(
      vfio::open_device(*pcie::parse_function_address(bdf), vfio::kernel_interface::automatic));
  const auto ranges = must(opened.space.ranges());
  // x86: interrupts are written to feexxxxx, and that is no memory.
  constexpr std::uint64_t hole = 0xfee0'0000;
  for (const auto& range : ranges) {
    std::printf("%llx-%llx\n", static_cast<unsigned long long>(range.first),
                static_cast<unsigned long long>(range.last));
    CHECK_FALSE((range.first <= hole && hole <= range.last));
  }
  CHECK(ranges.size() >= 2);
  auto page = must(posix::memory_mapping::anonymous(4096));
  CHECK(opened.space.map(page.bytes(), bus_addr{hole}).error().code == errc::out_of_range);
  CHECK(opened.space.map(page.bytes(), bus_addr{0x10'0000}));
  CHECK(opened.space.map(page.bytes(), bus_addr{0x10'0000}).error().code == errc::overlap);
  CHECK(opened.space.unmap(bus_addr{0x10'0000}, 4096));
  // The addresses that the pool allocates lie in the ranges, also beyond the hole: more than 4 GiB
  // of the same 16 MiB.
  auto pool = must(vfio::dma_pool::over(std::move(opened.space)));
  auto memory = must(posix::memory_mapping::anonymous(16U << 20));
  bool beyond = false;
  for (int i = 0; i != 272; ++i) {
    const auto region = must(pool.map(memory.bytes()));
    const std::uint64_t last = region.bus.value() + region.size() - 1;
    bool within = false;
    for (const auto& range : ranges) {
      within = within || (range.first <= region.bus.value() && last <= range.last);
    }
    CHECK(within);
    CHECK(pool.covers(region));
    beyond = beyond || region.bus.value() > hole;
  }
  CHECK(beyond);
}

TEST_CASE("mask") {
  auto function = must(vfio::function::open(bdf));
  auto host = must(nvme_controller::attach(function, {.io_queues = 1}));
  must(function.enable_interrupts(2));
  auto queue =
      must(host.create_queue_pair<std::uint32_t>({.depth = 8, .interrupt = std::uint16_t{1}}));
  must(function.mask_interrupt(1));
  REQUIRE(queue.submit(nvme::nvm::flush(1), 1U));
  queue.ring();
  // Its completion is there, so that its interrupt is due.
  CHECK(within_ten_seconds(function, [&]() noexcept { return queue.poll(ignore) == 1; }));
  CHECK_FALSE(function.wait_interrupt(1, 300 * nanoseconds_per_ms));
  must(function.unmask_interrupt(1));
  REQUIRE(queue.submit(nvme::nvm::flush(1), 1U));
  queue.ring();
  CHECK(function.wait_interrupt(1, 10'000 * nanoseconds_per_ms));
  CHECK(within_ten_seconds(function, [&]() noexcept { return queue.poll(ignore) == 1; }));
  must(function.disable_interrupts());
  CHECK(host.delete_queue_pair(queue, ignore));
}

TEST_CASE("hot-reset") {
  auto function = must(vfio::function::open(bdf));
  {
    auto host = must(nvme_controller::attach(function));
    auto bar = must(function.map_bar(0));
    CHECK(nvme::driver::read_register<nvme::csts>(bar)[nvme::csts::rdy]);
    must(function.hot_reset());
    CHECK_FALSE(nvme::driver::read_register<nvme::csts>(bar)[nvme::csts::rdy]);
  }
  CHECK(nvme_controller::attach(function));
}

// A function of the root complex has no bus to reset.
TEST_CASE("no-hot-reset") {
  auto function = must(vfio::function::open(bdf));
  CHECK(function.hot_reset().error().code == errc::not_supported);
  CHECK(nvme_controller::attach(function));
}

int main(int argc, char** argv) {
  const std::string_view command = argc > 2 ? argv[1] : "";
  for (int i = 2; i < argc; ++i) (i == 2 ? bdf : rest.emplace_back()) = argv[i];
  if (command == "--identify") return identify(), 0;
  if (command == "--dump") return dump(), 0;
  if (command == "--fill") return fill(), 0;
  if (command == "--hold") return hold(), 0;
  if (command == "--unprivileged") return unprivileged(), 0;
  if (command == "--make-vfs") return make_virtual_functions(), 0;
  if (command == "--use-vf") return use_virtual_function(), 0;
  if (command == "--mmio-unprivileged") return mmio_unprivileged(), 0;
  if (!command.starts_with("--")) return 2;
  doctest::Context context;
  context.setOption("test-case", std::string{command.substr(2)}.c_str());
  context.setOption("no-colors", true);
  return context.run();
}
