// SPDX-License-Identifier: BSL-1.0
// Physical addresses of a simulated machine for real memory.
#include "fake_sysfs.hpp"

#include <phasebit/backend/mmio_linux/dma_pool.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <support/death.hpp>
#include <sys/mman.h>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit::backend::mmio_linux;
using phasebit_test::fake_sysfs;

namespace {

constexpr std::uint64_t present = std::uint64_t{1} << 63;
constexpr std::uint64_t swapped = std::uint64_t{1} << 62;

struct pages {
  posix::memory_mapping memory;

  explicit pages(std::size_t count) {
    auto made = posix::memory_mapping::anonymous(count * page_bytes());
    REQUIRE(made);
    memory = std::move(*made);
  }
  // The contents of /proc/self/pagemap of the machine.
  void tell(const fake_sysfs& machine, const std::vector<std::uint64_t>& entries) const {
    const std::string path = machine.paths().proc + "/self/pagemap";
    machine.write("/proc/self/pagemap", "");
    const auto file = posix::open_file(path.c_str(), O_WRONLY);
    REQUIRE(file);
    const auto bytes = entries.size() * sizeof(std::uint64_t);
    const std::uint64_t at = to_local(memory.data()).value() / page_bytes() * 8;
    REQUIRE(::pwrite(file->get(), entries.data(), bytes, static_cast<::off_t>(at)) ==
            static_cast<::ssize_t>(bytes));
  }
  [[nodiscard]] result<std::vector<dma_region>> runs(const fake_sysfs& machine) const {
    const auto map = pagemap::open(machine.paths());
    REQUIRE(map);
    return map->runs(memory.bytes());
  }
};

bool says(const error& e, std::string_view words) {
  return std::string_view{e.what}.find(words) != std::string_view::npos;
}

}  // namespace

TEST_CASE(
    "pages that follow each other in memory are one region, others are regions of their own") {
  const fake_sysfs machine;
  const pages p{6};
  p.tell(machine, {present | 0x100, present | 0x101, present | 0x80, present | 0x102,
                   present | 0x103, present | 0x104});
  const auto runs = p.runs(machine);
  REQUIRE(runs);
  REQUIRE(runs->size() == 3);
  const std::uint64_t page = page_bytes();
  CHECK((*runs)[0].bus == bus_addr{0x100 * page});
  CHECK((*runs)[0].size() == 2 * page);
  CHECK((*runs)[0].data() == p.memory.data());
  CHECK((*runs)[1].bus == bus_addr{0x80 * page});
  CHECK((*runs)[1].size() == page);
  CHECK((*runs)[2].bus == bus_addr{0x102 * page});
  CHECK((*runs)[2].size() == 3 * page);
  CHECK((*runs)[2].data() == p.memory.data() + 3 * page);
}

TEST_CASE("more pages than are asked for at a time are looked up all the same") {
  const fake_sysfs machine;
  const pages p{1025};
  std::vector<std::uint64_t> entries;
  for (std::uint64_t i = 0; i != 1025; ++i) entries.push_back(present | (0x1000 + i));
  p.tell(machine, entries);
  REQUIRE(p.runs(machine));
  CHECK(p.runs(machine)->size() == 1);
  entries[512] = present | 0x1;
  p.tell(machine, entries);
  CHECK(p.runs(machine)->size() == 3);
}

TEST_CASE(
    "where the kernel reports the addresses of fewer pages, those of earlier ones are not taken") {
  const fake_sysfs machine;
  const pages p{513};
  std::vector<std::uint64_t> entries;
  for (std::uint64_t i = 0; i != 512; ++i) entries.push_back(present | (0x1000 + i));
  p.tell(machine, entries);
  const auto runs = p.runs(machine);
  REQUIRE_FALSE(runs);
  CHECK(runs.error().code == errc::not_mapped);
}

TEST_CASE("one run of pages is long enough, or the error has the length of the longest") {
  std::vector<std::byte> memory(8192);
  const auto run = [&](std::uint64_t at, std::size_t bytes) {
    return dma_region{std::span{memory}.first(bytes), bus_addr{at}};
  };
  const std::array runs{run(0x1000, 4096), run(0x8000, 8192), run(0x4000, 4096)};
  CHECK(backend::mmio_linux::detail::has_run(runs, 8192));
  const auto lacks = backend::mmio_linux::detail::has_run(runs, 8193);
  REQUIRE_FALSE(lacks);
  CHECK(lacks.error().code == errc::exhausted);
  CHECK(lacks.error().value == 8192);
  CHECK(backend::mmio_linux::detail::has_run({}, 1).error().value == 0);
}

TEST_CASE("an allocation that wraps is refused") {
  dma_pool pool{huge_pages{}};
  CHECK_FALSE(pool.allocate(~std::size_t{0} - 4096, 64));
}

TEST_CASE("an address that the kernel hides is an error that names the required capability") {
  const fake_sysfs machine;
  const pages p{2};
  p.tell(machine, {present | 5, present});
  const auto runs = p.runs(machine);
  REQUIRE_FALSE(runs);
  CHECK(runs.error().code == errc::permission);
  CHECK(runs.error().index == 1);
  CHECK(says(runs.error(), "CAP_SYS_ADMIN"));
}

TEST_CASE("a page that is not in memory, or nowhere, has no address") {
  const fake_sysfs machine;
  const pages p{2};
  p.tell(machine, {present | 5, 0});
  CHECK(p.runs(machine).error().code == errc::not_mapped);
  p.tell(machine, {present | swapped | 5, present | 6});
  CHECK(p.runs(machine).error().code == errc::not_mapped);
  p.tell(machine, {present | 5, present | ((std::uint64_t{1} << 55) - 1)});
  CHECK(p.runs(machine).error().code == errc::protocol);
  p.tell(machine, {present | 5});  // the file ends
  CHECK(p.runs(machine).error().code == errc::not_mapped);
  machine.remove("/proc/self/pagemap");
  CHECK(pagemap::open(machine.paths()).error().code == errc::not_found);
}

TEST_CASE("the kernel of this machine reports addresses, or an error is returned") {
  const pages p{1};
  p.memory.data()[0] = std::byte{1};
  const auto map = pagemap::open();
  REQUIRE(map);
  const auto runs = map->runs(p.memory.bytes());
  if (runs) {
    CHECK(runs->front().bus.value() != 0);
  } else {
    CHECK(runs.error().code == errc::permission);
  }
}

TEST_CASE("only whole pages are looked up") {
  const fake_sysfs machine;
  const pages p{1};
  p.tell(machine, {present | 5});
  const auto map = pagemap::open(machine.paths());
  CHECK(phasebit_test::breaks("physical addresses are looked up for whole pages",
                              [&] { (void)map->runs(p.memory.bytes().subspan(8)); }));
}

TEST_CASE("a region of the user's is handed out in parts, and then there is no more") {
  alignas(4096) static std::array<std::byte, 16384> dram{};
  dma_pool pool{dma_region{dram, bus_addr{0x10'0000}}};
  CHECK_FALSE(pool.is_physical());
  const auto all = pool.allocate(16384, 4096);
  REQUIRE(all);
  CHECK(all->bus == bus_addr{0x10'0000});
  CHECK(pool.allocate(64, 64).error().code == errc::exhausted);
  pool.release(*all);
  CHECK(pool.allocate(64, 64));
  CHECK(pool.allocate(64, 1 << 24).error().code == errc::misaligned);
  CHECK(phasebit_test::breaks("a region that was not allocated here", [&] {
    pool.release({dram, bus_addr{0}});
  }));
}

TEST_CASE("a device without DMA gets no memory") {
  dma_pool pool{no_dma{}};
  CHECK_FALSE(pool.is_physical());
  CHECK(pool.allocate(64, 64).error().code == errc::not_supported);
}

TEST_CASE("a u-dma-buf has the size and address of its attributes") {
  const fake_sysfs machine;
  machine.write("/sys/class/u-dma-buf/udmabuf0/phys_addr", "0x1f300000\n");
  machine.write("/sys/class/u-dma-buf/udmabuf0/size", "8192\n");
  machine.write("/dev/udmabuf0", std::string(8192, '\0'));
  dma_pool pool{udmabuf_memory{"udmabuf0"}, machine.paths()};
  CHECK(pool.is_physical());
  const auto first = pool.allocate(4096, 4096);
  const auto second = pool.allocate(4096, 4096);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(first->bus == bus_addr{0x1f30'0000});
  CHECK(second->bus == bus_addr{0x1f30'1000});
  first->data()[0] = std::byte{9};
  CHECK(machine.read("/dev/udmabuf0")[0] == 9);
  CHECK(pool.allocate(4096, 4096).error().code == errc::exhausted);
  // The folder's name before version 2.
  machine.write("/sys/class/udmabuf/old/phys_addr", "1f400000\n");
  machine.write("/sys/class/udmabuf/old/size", "4096\n");
  machine.write("/dev/old", std::string(4096, '\0'));
  CHECK(udmabuf::open("old", machine.paths())->region().bus == bus_addr{0x1f40'0000});
}

TEST_CASE("a u-dma-buf that is missing or malformed is an error that names the remaining step") {
  const fake_sysfs machine;
  const auto missing = udmabuf::open("udmabuf0", machine.paths());
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == errc::not_found);
  CHECK(says(missing.error(), "modprobe u-dma-buf"));
  CHECK(udmabuf::open("", machine.paths()).error().code == errc::not_found);

  machine.write("/dev/udmabuf0", std::string(8192, '\0'));
  const auto with = [&](std::string_view begin, std::string_view bytes) {
    machine.write("/sys/class/u-dma-buf/udmabuf0/phys_addr", begin);
    machine.write("/sys/class/u-dma-buf/udmabuf0/size", bytes);
    const auto opened = udmabuf::open("udmabuf0", machine.paths());
    return opened ? errc::busy : opened.error().code;
  };
  CHECK(with("0x1000\n", "8192\n") == errc::busy);
  CHECK(with("", "8192\n") == errc::protocol);
  CHECK(with("0x1000\n", "") == errc::protocol);
  CHECK(with("0x1000\n", "0\n") == errc::protocol);
  CHECK(with("0x1000\n", "-8192\n") == errc::protocol);
  CHECK(with("0x1000\n", "8192 bytes\n") == errc::protocol);
  CHECK(with("nowhere\n", "8192\n") == errc::protocol);
  CHECK(with("0xffffffffffffffff\n", "8192\n") == errc::protocol);
  CHECK(with("0x1ffffffffffffffff\n", "8192\n") == errc::protocol);
  CHECK(with("0x1000\n", "18446744073709551616\n") == errc::protocol);
  CHECK(with("0x1000\n", "12288\n") == errc::out_of_range);  // larger than its file
  CHECK(with("0x1000\n", "9223372036854775808\n") == errc::invalid_argument);
}

TEST_CASE("without huge pages the error explains how to reserve some") {
  dma_pool pool;
  CHECK(pool.is_physical());
  const auto got = pool.allocate(4096, 4096);
  if (got) {  // this machine has some
    CHECK(got->bus.value() % 4096 == 0);
    CHECK(to_local(got->data()).value() % (2U << 20) == got->bus.value() % (2U << 20));
    pool.release(*got);
  } else if (got.error().code == errc::exhausted) {
    CHECK((says(got.error(), "nr_hugepages") || says(got.error(), "RLIMIT_MEMLOCK")));
  } else {
    CHECK((got.error().code == errc::permission || got.error().code == errc::not_supported));
  }
}

TEST_CASE(
    "a size that no huge page has is the caller's mistake, one that the machine lacks is not") {
  dma_pool wrong{huge_pages{.page_bytes = 4096}};
  CHECK(phasebit_test::breaks("a huge page is 2 MiB or 1 GiB",
                              [&] { (void)wrong.allocate(64, 64); }));
  dma_pool odd{huge_pages{.page_bytes = std::uint64_t{1} << 26}};
  const auto got = odd.allocate(64, 64);
  if (!got) CHECK((got.error().code == errc::not_supported || got.error().code == errc::exhausted));
}
