// SPDX-License-Identifier: BSL-1.0
#include "fake_sysfs.hpp"

#include <phasebit/backend/mmio_linux/pci_resources.hpp>

#include <string>
#include <string_view>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::backend::mmio_linux;
using phasebit_test::fake_sysfs;

namespace {

constexpr std::string_view none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

std::string lines(std::string_view first) {
  std::string text{first};
  for (int i = 0; i != 5; ++i) text += none;
  return text;
}
const pcie::function_address disk{0, pcie::requester_id{1, 0, 0}};

}  // namespace

TEST_CASE("the kernel's list of BARs is parsed exactly") {
  const auto bars = parse_resources(
      "0x00000000febd0000 0x00000000febd3fff 0x0000000000140204\n"
      "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
      "0x000000fe00000000 0x000000feffffffff 0x000000000014220c\n"
      "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
      "0x000000000000c040 0x000000000000c05f 0x0000000000040101\n"
      "0x00000000febd4000 0x00000000febd4fff 0x0000000000040200\n"
      "and lines that are none of ours");
  REQUIRE(bars);
  CHECK((*bars)[0] == pcie::bar{pcie::bar_kind::memory64, false, 0xfebd0000, 0x4000});
  CHECK_FALSE((*bars)[1].present());
  CHECK((*bars)[2] == pcie::bar{pcie::bar_kind::memory64, true, 0xfe'0000'0000, 1ULL << 32});
  CHECK((*bars)[4] == pcie::bar{pcie::bar_kind::io, false, 0xc040, 32});
  CHECK((*bars)[5] == pcie::bar{pcie::bar_kind::memory32, false, 0xfebd4000, 0x1000});
}

TEST_CASE("a BAR to which no address was given is absent") {
  const auto bars = parse_resources(lines("0x0 0xfff 0x20040200\n"));
  REQUIRE(bars);
  CHECK_FALSE((*bars)[0].present());
}

TEST_CASE("malformed lists of BARs are refused with their line") {
  for (const char* first : {"\n", "0x", "0x1 0x2", "0x1 0x2 0x200", "0xg 0x1 0x200\n",
                            "0x00000000000000000 0xfff 0x200\n",  // 17 digits
                            "0x1000  0x1fff 0x200\n", "1000 1fff 200\n", "0x1000 0x1fff 0x200 \n",
                            "-0x1000 0x1fff 0x200\n",
                            "0x1000 0xfff 0x200\n",            // a size of 0
                            "0x2000 0xfff 0x200\n",            // ends before it begins
                            "0x0 0xffffffffffffffff 0x200\n",  // a size that wraps
                            "0x1000 0x1ffe 0x200\n",           // no power of two
                            "0x1000 0x1fff 0x0\n", "0x1000 0x1fff 0x300\n"}) {
    CAPTURE(first);
    const auto bars = parse_resources(lines(first));
    REQUIRE_FALSE(bars);
    CHECK(bars.error().code == errc::protocol);
    CHECK(bars.error().index == 0);
  }
  const auto truncated = parse_resources(lines("").substr(0, none.size() * 3 + 20));
  REQUIRE_FALSE(truncated);
  CHECK(truncated.error().index == 3);
  CHECK_FALSE(parse_resources(std::string(100'000, '0')));
  CHECK_FALSE(parse_resources(std::string_view{"\0\0\0\0", 4}));
}

TEST_CASE("a BAR is mapped where it begins in its page, and no larger than it is") {
  const fake_sysfs machine;
  machine.add_function("0000:01:00.0");
  const auto bars = read_resources(disk, machine.paths());
  REQUIRE(bars);
  auto registers = map_resource(disk, *bars, 0, bar_view::registers, machine.paths());
  REQUIRE(registers);
  CHECK(registers->size() == 8192);
  registers->bar().write32(0x1000, 0x0102'0304);
  CHECK(machine.read("/sys/bus/pci/devices/0000:01:00.0/resource0")[0x1000] == 4);

  auto small = map_resource(disk, *bars, 2, bar_view::registers, machine.paths());
  REQUIRE(small);
  CHECK(small->size() == 1024);
  small->bar().write32(0, 0x11);
  CHECK(machine.read("/sys/bus/pci/devices/0000:01:00.0/resource2")[0x400] == 0x11);
}

TEST_CASE("a BAR that cannot be mapped is an error with the reason") {
  const fake_sysfs machine;
  machine.add_function("0000:01:00.0");
  const auto bars = *read_resources(disk, machine.paths());
  const auto why = [&](unsigned index, bar_view view = bar_view::registers) {
    const auto mapped = map_resource(disk, bars, index, view, machine.paths());
    REQUIRE_FALSE(mapped);
    return mapped.error();
  };
  CHECK(why(3).code == errc::not_found);
  CHECK(why(6).code == errc::not_found);
  CHECK(why(0xffff'ffff).code == errc::not_found);
  CHECK(why(1).code == errc::not_supported);
  CHECK(std::string_view{why(1).what}.find("I/O ports") != std::string_view::npos);
  CHECK(why(1).subject.view() == "0000:01:00.0");
  CHECK(why(2, bar_view::write_combining).code == errc::not_supported);
  // Touching what lies beyond the end of a file would end the program.
  machine.write("/sys/bus/pci/devices/0000:01:00.0/resource0", "short");
  CHECK(why(0).code == errc::out_of_range);
  machine.remove("/sys/bus/pci/devices/0000:01:00.0/resource0");
  CHECK(why(0).code == errc::not_found);
}

TEST_CASE("the write-combining view is its own file") {
  const fake_sysfs machine;
  machine.add_function("0000:01:00.0");
  machine.write("/sys/bus/pci/devices/0000:01:00.0/resource2_wc", std::string(4096, '\1'));
  const auto bars = *read_resources(disk, machine.paths());
  const auto memory = map_resource(disk, bars, 2, bar_view::write_combining, machine.paths());
  REQUIRE(memory);
  CHECK(memory->bytes()[0] == std::byte{1});
  const dma_region dram = memory->region(bus_addr{0x400});
  CHECK(dram.size() == 1024);
  CHECK(dram.bus == bus_addr{0x400});
}
