// SPDX-License-Identifier: BSL-1.0
// Expansion ROMs, hot-plug slots, payload sizes and access control of QEMU's ports and devices.
#include <phasebit/backend/qtest.hpp>
#include <phasebit/pcie/driver/access_control.hpp>
#include <phasebit/pcie/driver/expansion_rom.hpp>
#include <phasebit/pcie/driver/payload.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <support/skip.hpp>
#include <unistd.h>

namespace qtest = phasebit::backend::qtest;
using namespace phasebit;

namespace {

constexpr std::uint32_t nvme_class = 0x010802;

template <class T>
T& must(result<T>& r) {
  std::array<char, 256> out{};
  REQUIRE_MESSAGE(r.has_value(), (r ? std::string{} : std::string{r.error().message(out)}));
  return *r;
}

// A ROM image of 8 KiB that names itself; gone with the test.
struct rom_file {
  std::string path = "/tmp/phasebit-rom-XXXXXX";
  rom_file() {
    const int fd = ::mkstemp(path.data());
    REQUIRE(fd >= 0);
    std::string image(8192, '\0');
    image[0] = '\x55';
    image[1] = '\xaa';
    image[2] = 16;
    image[0x40] = 'p';
    REQUIRE(::write(fd, image.data(), image.size()) == ::ssize_t{8192});
    ::close(fd);
  }
  rom_file(const rom_file&) = delete;
  rom_file& operator=(const rom_file&) = delete;
  ~rom_file() { ::unlink(path.c_str()); }
};

qtest::machine start(const std::string& rom) {
  if (!qtest::find_program("qemu-system-x86_64")) {
    phasebit_test::skip("qemu-system-x86_64 is not installed");
  }
  qtest::options o;
  o.board.resources.place_roms = true;
  o.board.resources.slots = {.buses = 4, .io = 0, .memory = 0x20'0000, .prefetchable = 0x800'0000};
  o.devices = {"pcie-root-port,id=rp0,slot=1",
               "pcie-root-port,id=rp1,slot=2",
               "pcie-root-port,id=rp2,slot=3,hotplug=off",
               "pcie-root-port,id=rp3,slot=4,disable-acs=on",
               "x3130-upstream,id=up,bus=rp2",
               "xio3130-downstream,id=dn0,bus=up,slot=5,hotplug=off",
               "nvme,serial=a,bus=rp0,romfile=" + rom,
               "nvme,serial=b,bus=dn0",
               "nvme,serial=c,bus=rp3"};
  auto started = qtest::machine::start(o);
  return std::move(must(started));
}

// Configuration space by requester id.
struct host_bridge {
  qtest::machine* vm;
  auto function(pcie::requester_id id) noexcept { return vm->open(id)->config(); }
};

}  // namespace

TEST_CASE("QEMU's expansion ROM is found, placed, decoded and read, and not decoded again") {
  const rom_file file;
  auto vm = start(file.path);
  auto opened = vm.open_class(nvme_class, 0);
  auto& disk = must(opened);
  const pcie::bar rom = disk.about().rom;
  REQUIRE(rom.present());
  CHECK(rom.size == 8192);
  const auto& port = vm.functions()[disk.about().bridge];
  CHECK(rom.address >= port.windows[1].base);
  CHECK(rom.address + rom.size <= port.windows[1].base + port.windows[1].size);
  auto config = disk.config();
  auto window = vm.registers(rom.address, 8192);
  CHECK(window.read32(0) != 0x0010'aa55);
  pcie::set_expansion_rom(config, rom.address, true);
  CHECK(window.read32(0) == 0x0010'aa55);
  CHECK(window.read32(0x40) == 'p');
  pcie::set_expansion_rom(config, rom.address, false);
  CHECK(window.read32(0) != 0x0010'aa55);
  auto other = vm.open_class(nvme_class, 1);
  CHECK_FALSE(must(other).about().rom.present());
}

TEST_CASE("QEMU's hot-plug slots keep buses and windows, its other ports none") {
  const rom_file file;
  auto vm = start(file.path);
  unsigned slots = 0;
  for (const auto& f : vm.functions()) {
    CHECK_FALSE(f.fault);
    CHECK_FALSE(f.left_out);
    if (!f.hot_plug) continue;
    ++slots;
    CHECK(f.subordinate_bus - f.secondary_bus == 3);
    CHECK(f.windows[1].size == 0x20'0000);
    CHECK(f.windows[2].size == 0x800'0000);
    auto port = vm.open(f.id);
    auto config = must(port).config();
    CHECK(config.read8(pcie::bridge_header::subordinate_bus) == f.subordinate_bus);
    CHECK((config.read16(pcie::bridge_header::memory_limit) | 0xfU) + 1U ==
          (f.windows[1].base + f.windows[1].size) >> 16);
  }
  CHECK(slots == 3);
}

TEST_CASE("QEMU's ports isolate where they have access control, and take one payload size") {
  const rom_file file;
  auto vm = start(file.path);
  std::vector<pcie::enumerated_function> all(vm.functions().begin(), vm.functions().end());
  host_bridge root{&vm};
  pcie::isolate_all(root, all);
  std::vector<bool> isolated;
  for (const auto& f : all) {
    if (f.class_code == nvme_class) isolated.push_back(f.isolated);
  }
  // Behind a root port; behind one without access control; behind a switch port without it.
  CHECK(isolated == std::vector<bool>{true, false, false});
  REQUIRE(pcie::set_max_payload(root, all));
}
