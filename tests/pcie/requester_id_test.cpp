// SPDX-License-Identifier: BSL-1.0
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>

#include <doctest/doctest.h>
#include <support/death.hpp>

using phasebit::pcie::function_address;
using phasebit::pcie::parse_function_address;
using phasebit::pcie::requester_id;

namespace {

static_assert(sizeof(requester_id) == 2 && std::is_trivially_copyable_v<requester_id>);
static_assert(requester_id{1, 2, 3}.raw() == 0x0113);
static_assert(parse_function_address("0001:fe:1f.7")->id == requester_id{0xfe, 31, 7});

template <class T>
std::string printed(const T& what, std::size_t store = 32) {
  std::string out(store, '#');
  return std::string{what.print({out.data(), store})};
}

}  // namespace

TEST_CASE("each of the 65536 ids takes apart, prints and reads back as itself") {
  for (unsigned raw = 0; raw != 0x10000; ++raw) {
    const requester_id id{static_cast<std::uint16_t>(raw)};
    REQUIRE(id.bus() == raw / 256);
    REQUIRE(id.device() == raw % 256 / 8);
    REQUIRE(id.function() == raw % 8);
    REQUIRE(id.ari_function() == raw % 256);
    REQUIRE(requester_id{id.bus(), id.device(), id.function()} == id);
    char expected[16];
    const int n = std::snprintf(expected, sizeof expected, "%02x:%02x.%x", raw >> 8, raw >> 3 & 31U,
                                raw & 7U);
    const std::string_view text{expected, static_cast<std::size_t>(n)};
    char buffer[7];
    REQUIRE(id.print(buffer) == text);
    const auto read = parse_function_address(text);
    REQUIRE(read);
    REQUIRE(read->id == id);
    REQUIRE(read->segment == 0);
  }
}

TEST_CASE("each of the 65536 segments prints and reads back as itself") {
  for (unsigned segment = 0; segment != 0x10000; ++segment) {
    const function_address a{segment, requester_id{0x80, 31, 7}};
    char buffer[12];
    const auto text = a.print(buffer);
    REQUIRE(text.size() == 12);
    REQUIRE(text.substr(4) == ":80:1f.7");
    REQUIRE(parse_function_address(text) == a);
  }
}

TEST_CASE("domains of more than four digits are read and printed") {
  for (const std::uint32_t domain : {0x1'0000U, 0x1'0001U, 0xf'ffffU, 0x1234'5678U, ~0U}) {
    const function_address a{domain, requester_id{0xe1, 0, 0}};
    char buffer[16];
    const auto text = a.print(buffer);
    CHECK(parse_function_address(text) == a);
  }
  CHECK(parse_function_address("10000:e1:00.0")->segment == 0x1'0000);
  CHECK_FALSE(parse_function_address("123456789:01:00.0"));
  CHECK_FALSE(parse_function_address("1000g:01:00.0"));
}

TEST_CASE("both cases of hexadecimal digits are read") {
  CHECK(parse_function_address("0000:AB:1F.0") == parse_function_address("0000:ab:1f.0"));
}

TEST_CASE("what is almost an address is none") {
  for (const char* text : {"",
                           "0",
                           "01:00",
                           "01:00.",
                           "01:00.8",
                           "01:20.0",
                           "01:ff.0",
                           "1:00.0",
                           "01:0.0",
                           "01:00.00",
                           "01-00.0",
                           "01:00:0",
                           " 01:00.0",
                           "01:00.0 ",
                           "0g:00.0",
                           "01:00.g",
                           "01:0g.0",
                           "+1:00.0",
                           "0000:01:00",
                           "000:01:00.0",
                           "00000:01:00.0",
                           "0000.01:00.0",
                           "000x:01:00.0",
                           "0x00:01:00.0",
                           "0000:01:00.0\n",
                           "nvme0",
                           "0000:01:20.0"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_function_address(text));
  }
  CHECK_FALSE(parse_function_address(std::string_view{"01:00.\0", 7}));
  CHECK_FALSE(parse_function_address(std::string(100000, '0')));
}

TEST_CASE("printing is cut where the buffer ends") {
  const function_address a{0x12, requester_id{0x34, 5, 6}};
  const std::string whole = "0012:34:05.6";
  for (std::size_t store = 0; store != 16; ++store)
    CHECK(printed(a, store) == whole.substr(0, store));
  CHECK(printed(a.id, 4) == "34:0");
}

TEST_CASE("a device above 31 or a function above 7 is the caller's mistake") {
  const char* sentence = "device is below 32 and function below 8";
  CHECK(phasebit_test::breaks(sentence, [] { (void)requester_id{0, 32, 0}; }));
  CHECK(phasebit_test::breaks(sentence, [] { (void)requester_id{0, 0, 8}; }));
}

TEST_CASE("ids are ordered as they are enumerated: segment, bus, device, function") {
  CHECK(requester_id{0, 31, 7} < requester_id{1, 0, 0});
  CHECK(requester_id{1, 0, 7} < requester_id{1, 1, 0});
  CHECK(function_address{0, requester_id{0xffff}} < function_address{1, requester_id{0}});
}
