// SPDX-License-Identifier: BSL-1.0
// Obstacles to opening a function, and the state it is left in; on a simulated machine.
#include "fake_sysfs.hpp"

#include <phasebit/backend/mmio_linux/function.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>
#include <sys/file.h>

using namespace phasebit;
namespace mmio = phasebit::backend::mmio_linux;
using phasebit_test::fake_sysfs;

namespace {

constexpr const char* bdf = "0000:01:00.0";
const std::string folder = "/sys/bus/pci/devices/0000:01:00.0";

struct machine_with_function : fake_sysfs {
  machine_with_function() { add_function(bdf); }

  [[nodiscard]] mmio::options how() const {
    return {.dma = mmio::huge_pages{}, .forced = false, .paths = paths()};
  }
  [[nodiscard]] result<mmio::function> open() const { return mmio::function::open(bdf, how()); }
  [[nodiscard]] error why_not() const {
    auto opened = open();
    REQUIRE_FALSE(opened);
    return opened.error();
  }
};

bool says(const error& e, std::string_view words) {
  return std::string_view{e.what}.find(words) != std::string_view::npos;
}

}  // namespace

TEST_CASE("an unused function is opened, mapped, and left as it was") {
  const machine_with_function machine;
  {
    auto opened = machine.open();
    REQUIRE(opened);
    CHECK(machine.command(bdf) == 0x6);  // memory space, bus master
    CHECK(machine.read(folder + "/enable") == "1\n");
    CHECK(opened->address() == pcie::function_address{0, pcie::requester_id{1, 0, 0}});
    CHECK(opened->config().read16(0) == 0x1b36);
    CHECK(opened->config().size_bytes() == 4096);
    CHECK(opened->bars()[2].prefetchable);
    auto bar = opened->map_bar(0);
    REQUIRE(bar);
    bar->write32(0x14, 0x0046'0001);
    auto again = opened->map_bar(0);
    CHECK(again->read32(0x14) == 0x0046'0001);
    CHECK(opened->map_bar(1).error().code == errc::not_supported);
    CHECK(opened->map_bar(3).error().code == errc::not_found);
    CHECK(opened->map_bar(6).error().code == errc::not_found);
    auto own = opened->map(2, mmio::bar_view::registers);
    REQUIRE(own);
    mmio::function moved = std::move(*opened);
    CHECK(moved.map_bar(0)->read32(0x14) == 0x0046'0001);
    CHECK(machine.command(bdf) == 0x6);
  }
  CHECK(machine.command(bdf) == 0);
  CHECK(machine.read(folder + "/enable") == "0\n");
  CHECK(machine.open());
}

TEST_CASE("a function that was enabled stays so, and bus mastering that was left on goes off") {
  const machine_with_function machine;
  machine.write(folder + "/enable", "1\n");
  std::string config = machine.read(folder + "/config");
  config[4] = 0x7;
  machine.write(folder + "/config", config);
  REQUIRE(machine.open());
  CHECK(machine.command(bdf) == 0x3);
  CHECK(machine.read(folder + "/enable") == "1\n");
}

TEST_CASE("names that are no PCI address and missing functions are distinguished") {
  const machine_with_function machine;
  for (const char* name : {"", "nonsense", "0000:01:00", "01:00.8", "0000:01:00.0/../x"}) {
    CHECK(mmio::function::open(name, machine.how()).error().code == errc::invalid_argument);
  }
  const auto missing = mmio::function::open("02:00.0", machine.how());
  CHECK(missing.error().code == errc::not_found);
  CHECK(missing.error().subject.view() == "0000:02:00.0");
  CHECK(mmio::function::open("ffff:ff:1f.7").error().code == errc::not_found);
}

TEST_CASE("a function that a driver of the kernel's uses is refused, unless it is forced") {
  const machine_with_function machine;
  std::string config = machine.read(folder + "/config");
  config[4] = 0x7;
  machine.write(folder + "/config", config);
  for (const char* driver : {"nvme", "vfio-pci", "virtio-pci", "pcieport"}) {
    machine.bind(bdf, driver);
    const error why = machine.why_not();
    CHECK(why.code == errc::busy);
    CHECK(why.subject.view() == std::string{bdf} + " (" + driver + ")");
    CHECK(says(why, "driver/unbind"));
    CHECK(machine.command(bdf) == 0x7);
  }
  auto how = machine.how();
  how.forced = true;
  REQUIRE(mmio::function::open(bdf, how));
  // The driver goes on with it: nothing is switched off behind its back.
  CHECK(machine.command(bdf) == 0x7);
  CHECK(machine.read(folder + "/enable") == "0\n");
  for (const char* driver : {"uio_pci_generic", "igb_uio", "pci-stub"}) {
    machine.bind(bdf, driver);
    CHECK(machine.open());
  }
}

TEST_CASE("two processes do not use one function at the same time") {
  const machine_with_function machine;
  const auto first = machine.open();
  REQUIRE(first);
  // A second open file, as another process has it.
  const error why = machine.why_not();
  CHECK(why.code == errc::busy);
  CHECK(says(why, "another process"));
  CHECK(machine.command(bdf) == 0x6);
}

TEST_CASE("a function that does not answer, or does not wake up, is not mapped") {
  const machine_with_function machine;
  machine.write(folder + "/config", std::string(4096, '\xff'));
  CHECK(machine.why_not().code == errc::removed);
  machine.write(folder + "/config", "");  // nothing can be read
  CHECK(machine.why_not().code == errc::removed);
  machine.write(folder + "/config", "short");
  CHECK(machine.why_not().code == errc::removed);
  machine.remove(folder + "/config");
  CHECK(machine.why_not().code == errc::not_found);
}

TEST_CASE("files of the kernel's that are missing or nonsense are errors") {
  const machine_with_function machine;
  machine.write(folder + "/resource", "nonsense");
  CHECK(machine.why_not().code == errc::protocol);
  machine.write(folder + "/resource", "");
  CHECK(machine.why_not().code == errc::protocol);
  machine.write(folder + "/resource", std::string(100'000, '\n'));
  CHECK(machine.why_not().code == errc::protocol);
  machine.remove(folder + "/resource");
  CHECK(machine.why_not().code == errc::not_found);
  CHECK(machine.command(bdf) == 0);
  // A driver that enables by itself leaves nothing to write to.
  machine.add_function(bdf);
  machine.remove(folder + "/enable");
  CHECK(machine.open());
}

TEST_CASE("where the IOMMU translates, physical addresses are not handed out") {
  const machine_with_function machine;
  auto with = [&](const char* type) {
    machine.write("/sys/kernel/iommu_groups/7/type", type);
    machine.link(folder + "/iommu_group", "../../../../kernel/iommu_groups/7");
    auto opened = machine.open();
    REQUIRE(opened);  // its registers are there all the same
    CHECK(opened->map_bar(0));
    const auto got = opened->allocate(64, 64);
    REQUIRE_FALSE(got);
    return got.error();
  };
  for (const char* type : {"DMA\n", "DMA-FQ\n", "blocked\n", "", "nonsense\n"}) {
    const error why = with(type);
    CHECK(why.code == errc::not_supported);
    CHECK(says(why, "iommu=pt"));
  }
  CHECK(with("DMA\n").subject.view() == "0000:01:00.0 (IOMMU group of type DMA)");
  // Where it does not, there is another reason: this machine's /proc has no pagemap.
  CHECK(with("identity\n").code == errc::not_found);
}

TEST_CASE("memory of the user's needs no physical addresses") {
  const machine_with_function machine;
  machine.write("/sys/kernel/iommu_groups/7/type", "DMA\n");
  machine.link(folder + "/iommu_group", "../../../../kernel/iommu_groups/7");
  alignas(4096) static std::array<std::byte, 8192> dram{};
  auto how = machine.how();
  how.dma = dma_region{dram, bus_addr{0x4000}};
  auto opened = mmio::function::open(bdf, how);
  REQUIRE(opened);
  const auto ring = opened->allocate(4096, 4096);
  REQUIRE(ring);
  CHECK(ring->bus >= bus_addr{0x4000});
  opened->release(*ring);
  how.dma = mmio::no_dma{};
  opened = result<mmio::function>{failure(errc::busy, "let go of it first")};
  opened = mmio::function::open(bdf, how);
  REQUIRE(opened);
  CHECK(opened->allocate(64, 64).error().code == errc::not_supported);
}

TEST_CASE("the interrupt is that of the uio device, where the function has one") {
  const machine_with_function machine;
  {
    auto opened = machine.open();
    REQUIRE(opened);
    CHECK(opened->interrupt_vectors() == 0);
    CHECK(opened->enable_interrupts(1).error().code == errc::out_of_range);
  }
  machine.bind(bdf, "uio_pci_generic");
  machine.write(folder + "/uio/uio0/name", "uio_pci_generic\n");
  {
    auto opened = machine.open();  // no /dev/uio0: polling only
    REQUIRE(opened);
    CHECK(opened->interrupt_vectors() == 0);
  }
  machine.write("/dev/uio0", "");
  auto opened = machine.open();
  REQUIRE(opened);
  CHECK(opened->interrupt_vectors() == 1);
  REQUIRE(opened->enable_interrupts(1));
  REQUIRE(opened->disable_interrupts());
}

TEST_CASE("a reset is the kernel's, and the function masters the bus again after it") {
  const machine_with_function machine;
  auto opened = machine.open();
  REQUIRE(opened);
  CHECK(opened->reset().error().code == errc::not_supported);
  machine.write(folder + "/reset", "");
  std::string config = machine.read(folder + "/config");
  config[4] = 0;
  {
    const auto file =
        posix::open_file((machine.paths().sys + folder.substr(4) + "/config").c_str(), O_WRONLY);
    REQUIRE(file);
    REQUIRE(::write(file->get(), config.data(), config.size()) == 4096);
  }
  REQUIRE(opened->reset());
  CHECK(machine.read(folder + "/reset") == "1");
  CHECK(machine.command(bdf) == 0x6);
}
