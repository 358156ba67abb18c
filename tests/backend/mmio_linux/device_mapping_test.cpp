// SPDX-License-Identifier: BSL-1.0
#include "fake_sysfs.hpp"

#include <phasebit/backend/mmio_linux/device_mapping.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <unistd.h>

using namespace phasebit;
using namespace phasebit::backend::mmio_linux;
using phasebit_test::fake_sysfs;

TEST_CASE("any part of a file is mapped, wherever it begins in its page") {
  const fake_sysfs machine;
  std::string text(3 * page_bytes(), 'a');
  text[page_bytes() + 8] = 'b';
  machine.write("/dev/fpga0_user", text);
  const std::string path = machine.paths().dev + "/fpga0_user";
  auto part = map_file(path, {.offset = page_bytes() + 8, .bytes = 16});
  REQUIRE(part);
  CHECK(part->size() == 16);
  CHECK(part->bytes()[0] == std::byte{'b'});
  part->bar().write32(4, 0x63636363);
  CHECK(machine.read("/dev/fpga0_user").substr(page_bytes() + 8, 9) == "baaacccca");
  const auto remaining = map_file(path, {.offset = page_bytes(), .bytes = 0});
  REQUIRE(remaining);
  CHECK(remaining->size() == 2 * page_bytes());
}

TEST_CASE("a part that a file does not have is refused before it is touched") {
  const fake_sysfs machine;
  machine.write("/dev/small", "0123456789");
  const std::string path = machine.paths().dev + "/small";
  constexpr std::uint64_t all = std::numeric_limits<std::uint64_t>::max();
  CHECK(map_file(path)->size() == 10);
  CHECK(map_file(path, {.offset = 8, .bytes = 2})->size() == 2);
  CHECK(map_file(path, {.offset = 8, .bytes = 3}).error().code == errc::out_of_range);
  CHECK(map_file(path, {.offset = 10, .bytes = 0}).error().code == errc::invalid_argument);
  CHECK(map_file(path, {.offset = all, .bytes = 0}).error().code == errc::invalid_argument);
  CHECK(map_file(path, {.offset = 0, .bytes = all}).error().code == errc::invalid_argument);
  CHECK(map_file(path, {.offset = all, .bytes = 1}).error().code == errc::invalid_argument);
  CHECK(map_file(path, {.offset = all / 2, .bytes = all / 2}).error().code ==
        errc::invalid_argument);
  CHECK(map_file(machine.paths().dev + "/missing").error().code == errc::not_found);
  machine.write("/dev/empty", "");
  CHECK(map_file(machine.paths().dev + "/empty").error().code == errc::invalid_argument);
}

TEST_CASE("a device's file needs a length, because it reports none") {
  CHECK(map_file("/dev/zero").error().code == errc::invalid_argument);
  auto zero = map_file("/dev/zero", {.offset = 0, .bytes = 64});
  REQUIRE(zero);
  CHECK(zero->bar().read64(8) == 0);
  // A file that cannot be mapped reports that.
  CHECK_FALSE(map_file("/dev/null", {.offset = 0, .bytes = 64}));
}

TEST_CASE("physical memory is reached through /dev/mem of the machine") {
  const fake_sysfs machine;
  std::string memory(2 * page_bytes(), '\0');
  memory[page_bytes() + 0x20] = 7;
  machine.write("/dev/mem", memory);
  auto mapped = map_physical(host_phys{page_bytes() + 0x20}, 4, machine.paths());
  REQUIRE(mapped);
  CHECK(mapped->bar().read32(0) == 7);
  CHECK(map_physical(host_phys{2 * page_bytes()}, 4, machine.paths()).error().code ==
        errc::out_of_range);
  machine.remove("/dev/mem");
  CHECK(map_physical(host_phys{0}, 4, machine.paths()).error().code == errc::not_found);
}

TEST_CASE("a kernel that is locked down is named as the reason why something is not permitted") {
  const fake_sysfs machine;
  const error refused = failure(errc::permission, "no");
  const auto says = [&](std::string_view words) {
    const error e = explain(refused, machine.paths(), "it");
    return e.code == errc::permission && e.subject.view() == "it" &&
           std::string_view{e.what}.find(words) != std::string_view::npos;
  };
  CHECK(says("run it as root"));
  machine.write("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
  CHECK(says("run it as root"));
  machine.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
  CHECK(says("locked down"));
  machine.write("/sys/kernel/security/lockdown", "");
  CHECK(says("run it as root"));
  CHECK(explain(failure(errc::io, "else"), machine.paths(), "it").code == errc::io);
}
