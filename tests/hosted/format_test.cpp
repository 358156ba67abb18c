// SPDX-License-Identifier: BSL-1.0
#include <phasebit/hosted/format.hpp>

#include <cerrno>
#include <cstdint>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace phasebit;

TEST_CASE("an error reads as its message, and an errno as what the system calls it") {
  const error e = failure(errc::misaligned, "the address is not dword aligned", 0x1003);
  CHECK(fmt::format("{}", e) == "the address is not dword aligned (value 0x1003)");
  CHECK(fmt::format("{}", e.at(2).of("queue 1")) ==
        "queue 1: the address is not dword aligned (value 0x1003, index 2)");
  CHECK(fmt::format("[{:>8}]", failure(errc::busy, "busy")) == "[    busy]");
  error refused = failure(errc::permission, "the file cannot be opened", EACCES).of("/dev/x");
  refused.value_is_errno = true;
  CHECK(fmt::format("{}", refused) ==
        "/dev/x: the file cannot be opened (errno 13): Permission denied");
  CHECK(fmt::format("{}", errc::not_mapped) == "not_mapped");
}

TEST_CASE("addresses are hexadecimal, or whatever else is asked for") {
  CHECK(fmt::format("{}", bus_addr{0x1000}) == "0x1000");
  CHECK(fmt::format("{}", guest_addr{0}) == "0x0");
  CHECK(fmt::format("{:#018x}", host_phys{0xfee00000}) == "0x00000000fee00000");
  CHECK(fmt::format("{:d}", local_addr{42}) == "42");
  CHECK(fmt::format("{}", bus_addr{~std::uint64_t{0}}) == "0xffffffffffffffff");
}

TEST_CASE("ordered integers are formatted as the integers they are") {
  CHECK(fmt::format("{}", le<std::uint16_t>{258}) == "258");
  CHECK(fmt::format("{:#06x}", be<std::uint16_t>{258}) == "0x0102");
  CHECK(fmt::format("{}", le<std::int32_t>{-7}) == "-7");
  CHECK(fmt::format("{}", le<errc>{errc::busy}) == "busy");
}

TEST_CASE("functions are formatted as lspci prints them") {
  const pcie::function_address a{0x10, pcie::requester_id{0xfe, 31, 7}};
  CHECK(fmt::format("{}", a) == "0010:fe:1f.7");
  CHECK(fmt::format("{}", a.id) == "fe:1f.7");
  CHECK(fmt::format("[{:<10}]", a.id) == "[fe:1f.7   ]");
}

TEST_CASE("an NVMe status has its two numbers and its sentence") {
  const nvme::status ok;
  CHECK(fmt::format("{}", ok) == "0/00: " + std::string{nvme::text(nvme::status_code::success)});
  const nvme::status bad{nvme::status_code::lba_out_of_range};
  const std::string sentence{nvme::text(nvme::status_code::lba_out_of_range)};
  CHECK(fmt::format("{}", bad) == "0/80: " + sentence);
  CHECK(fmt::format("{}", bad.with_dnr()) == "0/80: " + sentence + ", do not retry");
  CHECK(fmt::format("{}", nvme::status_code::invalid_queue_deletion).substr(0, 6) == "1/0C: ");
  // Whatever the device wrote has a text.
  for (unsigned raw = 0; raw != 0x8000; ++raw) {
    REQUIRE(fmt::format("{}", nvme::status{static_cast<std::uint16_t>(raw)}).size() > 7);
  }
}
