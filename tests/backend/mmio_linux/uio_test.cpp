// SPDX-License-Identifier: BSL-1.0
#include "fake_sysfs.hpp"

#include <phasebit/backend/mmio_linux/uio_device.hpp>

#include <csignal>
#include <cstdint>
#include <string>

#include <doctest/doctest.h>
#include <support/death.hpp>
#include <sys/socket.h>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit::backend::mmio_linux;
using phasebit_test::fake_sysfs;

namespace {

// The kernel's end of an interrupt's file.
struct kernel_end {
  posix::unique_fd ours, theirs;

  kernel_end() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    ours = posix::unique_fd{ends[0]};
    theirs = posix::unique_fd{ends[1]};
  }
  void fire(std::uint32_t count) const {
    REQUIRE(::write(ours.get(), &count, sizeof count) == sizeof count);
  }
  // The last thing that was written to it, or 99 for nothing.
  [[nodiscard]] std::uint32_t told() const {
    std::uint32_t word = 99;
    (void)!::read(ours.get(), &word, sizeof word);
    return word;
  }
};

void add_map(const fake_sysfs& machine, const std::string& map, const char* address,
             const char* size, const char* offset) {
  const std::string at = "/sys/class/uio/uio3/maps/" + map;
  machine.write(at + "/name", "registers\n");
  machine.write(at + "/addr", address);
  machine.write(at + "/size", size);
  machine.write(at + "/offset", offset);
}

}  // namespace

TEST_CASE("an interrupt is switched on again after it has come, and not before it is waited for") {
  kernel_end kernel;
  uio_interrupt interrupt{std::move(kernel.theirs)};
  CHECK(interrupt.interrupt_vectors() == 1);
  CHECK(interrupt.enable_interrupts(2).error().code == errc::out_of_range);
  REQUIRE(interrupt.enable_interrupts(1));
  CHECK(kernel.told() == 1);
  CHECK(interrupt.enable_interrupts(1).error().code == errc::busy);
  CHECK_FALSE(interrupt.poll_interrupt(0));
  kernel.fire(1);
  CHECK(interrupt.poll_interrupt(0));
  CHECK(kernel.told() == 99);
  CHECK_FALSE(interrupt.poll_interrupt(0));
  CHECK(kernel.told() == 1);
  kernel.fire(2);
  CHECK(interrupt.wait_interrupt(0, 1'000'000'000));
  REQUIRE(interrupt.disable_interrupts());
  CHECK(kernel.told() == 0);
  REQUIRE(interrupt.disable_interrupts());
  CHECK(kernel.told() == 99);
}

TEST_CASE("an interrupt that is moved or ends is switched off once") {
  kernel_end kernel;
  {
    uio_interrupt first{std::move(kernel.theirs)};
    REQUIRE(first.enable_interrupts(1));
    CHECK(kernel.told() == 1);
    uio_interrupt second{std::move(first)};
    uio_interrupt third;
    third = std::move(second);
    CHECK(kernel.told() == 99);
    CHECK(third.interrupt_vectors() == 1);
    CHECK(first.interrupt_vectors() == 0);
  }
  CHECK(kernel.told() == 0);
}

TEST_CASE("a file that ends is no interrupt, and no wait without end") {
  kernel_end kernel;
  uio_interrupt interrupt{std::move(kernel.theirs)};
  REQUIRE(interrupt.enable_interrupts(1));
  std::signal(SIGPIPE, SIG_IGN);  // which a socket raises, and a uio device does not
  kernel.ours.reset();
  CHECK_FALSE(interrupt.poll_interrupt(0));
  CHECK_FALSE(interrupt.wait_interrupt(0, 1'000'000'000));
}

TEST_CASE("without a uio device there is no interrupt") {
  uio_interrupt none;
  CHECK(none.interrupt_vectors() == 0);
  CHECK(none.enable_interrupts(1).error().code == errc::out_of_range);
  CHECK(none.enable_interrupts(0).error().code == errc::out_of_range);
  CHECK(phasebit_test::breaks("the vector was not enabled", [&] { (void)none.poll_interrupt(0); }));
}

TEST_CASE("a uio device's maps have the sizes of /sys, one page of its file apart") {
  const fake_sysfs machine;
  machine.write("/sys/class/uio/uio3/name", "fpga_dma\n");
  add_map(machine, "map0", "0x00000000a0000000\n", "0x0000000000001000\n", "0x0\n");
  add_map(machine, "map1", "0x00000000a0010040\n", "0x0000000000000020\n", "0x40\n");
  std::string file(2 * page_bytes(), '\0');
  file[page_bytes() + 0x40] = 5;
  machine.write("/dev/uio3", file);
  auto opened = uio_device::open("uio3", machine.paths());
  REQUIRE(opened);
  CHECK(opened->about() == "fpga_dma");
  REQUIRE(opened->maps().size() == 2);
  CHECK(opened->maps()[1].name == "registers");
  CHECK(opened->maps()[1].address == 0xa001'0040);
  auto mapped = opened->map(1);
  REQUIRE(mapped);
  CHECK(mapped->size() == 0x20);
  CHECK(mapped->bar().read32(0) == 5);
  CHECK(opened->map(2).error().code == errc::not_found);
  CHECK(opened->interrupt().interrupt_vectors() == 1);
}

TEST_CASE("a uio device that is missing or whose maps are nonsense is refused") {
  const fake_sysfs machine;
  CHECK(uio_device::open("uio3", machine.paths()).error().code == errc::not_found);
  CHECK(uio_device::open("", machine.paths()).error().code == errc::not_found);
  CHECK(uio_device::open("../uio3", machine.paths()).error().code == errc::not_found);
  machine.write("/sys/class/uio/uio3/name", "");
  CHECK(uio_device::open("uio3", machine.paths()).error().code == errc::not_found);  // no file
  machine.write("/dev/uio3", "");
  CHECK(uio_device::open("uio3", machine.paths())->maps().empty());
  const auto with = [&](const char* address, const char* size, const char* offset) {
    add_map(machine, "map0", address, size, offset);
    const auto opened = uio_device::open("uio3", machine.paths());
    return opened ? errc::busy : opened.error().code;
  };
  CHECK(with("0x1000\n", "0x1000\n", "0x0\n") == errc::busy);
  CHECK(with("0x1000\n", "0x0\n", "0x0\n") == errc::protocol);
  CHECK(with("", "0x1000\n", "0x0\n") == errc::protocol);
  CHECK(with("0x1000\n", "0x1000\n", "0x10000\n") == errc::protocol);
  CHECK(with("0x1000\n", "0xffffffffffffffff\n", "0x0\n") == errc::protocol);
  CHECK(with("0x1000\n", "many\n", "0x0\n") == errc::protocol);
  CHECK(with("0x1000\n", "0x7fffffffffffff00\n", "0x0\n") == errc::busy);
  CHECK(uio_device::open("uio3", machine.paths())->map(0).error().code == errc::invalid_argument);
}
