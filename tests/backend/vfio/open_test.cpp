// SPDX-License-Identifier: BSL-1.0
// Errors that need no device.
#include <phasebit/backend/vfio.hpp>

#include <string>

#include <doctest/doctest.h>
#include <stdlib.h>
#include <unistd.h>

using namespace phasebit;
namespace vfio = phasebit::backend::vfio;

TEST_CASE("a name that is no PCI address is refused") {
  for (const char* name : {"", "nonsense", "0000:01:00", "01:00.8", "0000:01:00.0 "}) {
    CHECK(vfio::function::open(name).error().code == errc::invalid_argument);
  }
}

TEST_CASE("a function that does not exist is reported as missing") {
  const auto opened = vfio::function::open("ffff:ff:1f.7");
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == errc::not_found);
  CHECK(opened.error().subject.view() == "ffff:ff:1f.7");
  const pcie::function_address absent{0xffff, pcie::requester_id{0xffff}};
  CHECK(vfio::iommu_group_of(absent).error().code == errc::not_found);
  CHECK(posix::pci_driver(absent).empty());
  CHECK(vfio::physical_function::find(absent).error().code == errc::not_found);
}

TEST_CASE(
    "links, numbers and entries of /sys are read as they are, and nothing of what is not there") {
  char folder[] = "/tmp/phasebit-sysfs-XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string root = folder;
  const auto write = [&](const char* name, const char* text) {
    std::FILE* const file = std::fopen((root + name).c_str(), "w");
    REQUIRE(file != nullptr);
    std::fputs(text, file);
    std::fclose(file);
  };
  REQUIRE(::symlink("../../bus/pci/drivers/vfio-pci", (root + "/driver").c_str()) == 0);
  REQUIRE(::symlink("plain", (root + "/short").c_str()) == 0);
  CHECK(posix::link_name(root + "/driver") == "vfio-pci");
  CHECK(posix::link_name(root + "/short") == "plain");
  CHECK(posix::link_name(root + "/missing").empty());
  write("/four", "4\n");
  write("/huge", "70000\n");
  write("/text", "none\n");
  write("/empty", "");
  CHECK(posix::read_number<std::uint16_t>(root + "/four") == std::uint16_t{4});
  for (const char* bad : {"/huge", "/text", "/empty", "/missing"}) {
    CHECK_FALSE(posix::read_number<std::uint16_t>(root + bad));
  }
  int entries = 0;
  posix::for_each_entry(root, [&](std::string_view) { ++entries; });
  CHECK(entries == 6);
  posix::for_each_entry(root + "/missing", [&](std::string_view) { ++entries; });
  CHECK(entries == 6);
  for (const char* name : {"/driver", "/short", "/four", "/huge", "/text", "/empty"}) {
    ::unlink((root + name).c_str());
  }
  ::rmdir(folder);
}
