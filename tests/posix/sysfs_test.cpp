// SPDX-License-Identifier: BSL-1.0
#include <phasebit/posix/config_file.hpp>
#include <phasebit/posix/pci_sysfs.hpp>
#include <phasebit/posix/sysfs.hpp>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <stdlib.h>

using namespace phasebit;

namespace {

// One file that goes away again.
struct temporary {
  char name[32] = "/tmp/phasebit-file-XXXXXX";
  posix::unique_fd fd{::mkstemp(name)};

  explicit temporary(std::string_view text) {
    REQUIRE(fd);
    REQUIRE(::write(fd.get(), text.data(), text.size()) == static_cast<::ssize_t>(text.size()));
  }
  temporary(const temporary&) = delete;
  temporary& operator=(const temporary&) = delete;
  ~temporary() { ::unlink(name); }
};

}  // namespace

TEST_CASE("a number is all of a text or none of it") {
  CHECK(posix::parse_number<std::uint16_t>("65535") == std::uint16_t{65535});
  CHECK(posix::parse_number<std::uint64_t>("0xfe000000", 16) == 0xfe00'0000U);
  CHECK(posix::parse_number<std::uint64_t>("fe000000", 16) == 0xfe00'0000U);
  CHECK(posix::parse_number<std::uint64_t>("ffffffffffffffff", 16) == ~std::uint64_t{0});
  for (const char* text : {"", "65536", "-1", "+1", "1 ", " 1", "0x10", "1e3", "one"}) {
    CAPTURE(text);
    CHECK_FALSE(posix::parse_number<std::uint16_t>(text));
  }
  CHECK_FALSE(posix::parse_number<std::uint64_t>("0x", 16));
  CHECK_FALSE(posix::parse_number<std::uint64_t>("0x0x1", 16));
  CHECK_FALSE(posix::parse_number<std::uint64_t>("10000000000000000", 16));
}

TEST_CASE("a file is read to its end, or for a page, and a line to its own") {
  const temporary lines{"first\nsecond\n"};
  CHECK(*posix::read_text(lines.name) == "first\nsecond\n");
  CHECK(posix::read_line(lines.name) == "first");
  CHECK_FALSE(posix::read_number<int>(lines.name));
  const temporary endless{std::string(10'000, '7')};
  CHECK(posix::read_text(endless.name)->size() == 4096);
  CHECK_FALSE(posix::read_number<std::uint64_t>(endless.name));
  const temporary number{"17"};
  CHECK(posix::read_number<int>(number.name) == 17);
  const temporary zeros{std::string_view{"\0\0", 2}};
  CHECK(posix::read_line(zeros.name).size() == 2);
  CHECK_FALSE(posix::read_number<int>(zeros.name));
  CHECK(posix::read_text("/nonexistent").error().code == errc::not_found);
  CHECK(posix::read_text("/nonexistent").error().subject.view() == "/nonexistent");
  CHECK(posix::read_text("/").error().code == errc::io);  // a folder
  CHECK(posix::read_line("/").empty());
}

TEST_CASE("what is written replaces what an attribute holds, or is refused with its path") {
  const temporary file{"0"};
  REQUIRE(posix::write_text(file.name, "1"));
  CHECK(posix::read_line(file.name) == "1");
  const auto refused = posix::write_text("/dev/full", "1", "this file is always full");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::exhausted);
  CHECK(std::string_view{refused.error().what} == "this file is always full");
  CHECK(posix::write_text("/nonexistent/1", "1").error().code == errc::not_found);
}

TEST_CASE("a function's folder bears its name") {
  const pcie::function_address function{0x1234, pcie::requester_id{0xab, 0x1f, 7}};
  CHECK(posix::name_of(function) == "1234:ab:1f.7");
  CHECK(posix::pci_path(function) == "/sys/bus/pci/devices/1234:ab:1f.7");
  CHECK(posix::pci_path(function, "/tmp/x") == "/tmp/x/bus/pci/devices/1234:ab:1f.7");
  CHECK(posix::pci_driver(function, "/nonexistent").empty());
}

TEST_CASE("configuration space in a file is little-endian, and ones where the file ends") {
  const temporary file{std::string_view{"----\x34\x12\xe8\x11\x05", 9}};
  posix::config_file config{file.fd.get(), 4, 256};
  CHECK(config.read16(0) == 0x1234);
  CHECK(config.read32(0) == 0x11e8'1234);
  CHECK(config.read8(4) == 5);
  CHECK(config.read16(4) == 0xffff);
  CHECK(config.read32(8) == 0xffff'ffff);
  config.write32(0, 0x0102'0304);
  config.write16(2, 0xa0b0);
  config.write8(1, 0xcc);
  CHECK(config.read32(0) == 0xa0b0'cc04);
  CHECK(config.size_bytes() == 256);
  posix::config_file none;
  none.write8(0, 1);
  CHECK(none.read8(0) == 0xff);
}
