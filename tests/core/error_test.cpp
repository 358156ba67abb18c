// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/error.hpp>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

std::string said(const error& e, std::size_t store = 256) {
  std::string out(store, '#');
  const auto text = e.message(out);
  return std::string{text};
}

static_assert(std::is_trivially_copyable_v<error>);
static_assert(name(errc::invalid_argument) == "invalid_argument");
static_assert(name(errc::timed_out) == "timed_out");
static_assert(name(errc::cancelled) == "cancelled");
static_assert(failure(errc::loop, "x", 3).at(4).value == 3);

}  // namespace

TEST_CASE("a message has subject, text, value and index, and omits those that are not set") {
  const error bare = failure(errc::not_found, "there is no such device");
  CHECK(said(bare) == "there is no such device");
  CHECK(said(bare.of("0000:01:00.0")) == "0000:01:00.0: there is no such device");
  CHECK(said(bare.at(3)) == "there is no such device (index 3)");
  const error valued = failure(errc::misaligned, "the address is not dword aligned", 0x1003);
  CHECK(said(valued) == "the address is not dword aligned (value 0x1003)");
  CHECK(said(valued.at(0)) == "the address is not dword aligned (value 0x1003, index 0)");
  CHECK(said(valued.at(4294967294U).of("queue 1")) ==
        "queue 1: the address is not dword aligned (value 0x1003, index 4294967294)");
  CHECK(said(failure(errc::overflow, "wraps", ~std::uint64_t{0})) ==
        "wraps (value 0xffffffffffffffff)");
  CHECK(said(failure(errc::overflow, "wraps", 0)) == "wraps (value 0x0)");
  error refused = failure(errc::permission, "the file cannot be opened", 13).of("/dev/vfio/12");
  refused.value_is_errno = true;
  CHECK(said(refused) == "/dev/vfio/12: the file cannot be opened (errno 13)");
  CHECK(said(refused.at(1)) == "/dev/vfio/12: the file cannot be opened (errno 13, index 1)");
}

TEST_CASE("a message is cut where its buffer ends, and writes nothing behind it") {
  const error e = failure(errc::misaligned, "the address is not dword aligned", 0x1003).at(7);
  const std::string whole = said(e);
  for (std::size_t store = 0; store <= whole.size() + 2; ++store) {
    std::string buffer(whole.size() + 8, '#');
    const auto text = e.message({buffer.data(), store});
    REQUIRE(text == std::string_view{whole}.substr(0, store));
    REQUIRE(buffer.substr(text.size()).find_first_not_of('#') == std::string::npos);
  }
}

TEST_CASE("at and of make a new error and keep everything else") {
  const error first = failure(errc::busy, "in use", 5);
  const error second = first.at(9).of("nvme0");
  CHECK(first.index == error::no_index);
  CHECK(first.subject.empty());
  CHECK(second.code == errc::busy);
  CHECK(second.value == 5);
  CHECK(second.has_value);
  CHECK(second.index == 9);
  CHECK(second.subject.view() == "nvme0");
}

TEST_CASE("a subject may be a literal, an array that is not full, a string or a view") {
  const error e = failure(errc::busy, "in use");
  const char array[8] = {'n', 'v', 'm', 'e', '\0', 'x', 'x', 'x'};
  const char full[4] = {'n', 'v', 'm', 'e'};
  const char* pointer = array;
  CHECK(e.of("nvme").subject.view() == "nvme");
  CHECK(e.of(array).subject.view() == "nvme");
  CHECK(e.of(full).subject.view() == "nvme");
  CHECK(e.of(pointer).subject.view() == "nvme");
  CHECK(e.of(std::string{"nvme"}).subject.view() == "nvme");
  CHECK(e.of("").subject.empty());
}

TEST_CASE(
    "a subject that is too long loses its beginning, because the end of a path identifies a file") {
  for (std::size_t n = 0; n <= error_subject::capacity; ++n) {
    const std::string text(n, 'x');
    REQUIRE(error_subject{text}.view() == text);
  }
  const std::string path = "/sys/" + std::string(200, 'd') + "/driver_override";
  const error_subject cut{path};
  CHECK(cut.view().size() == error_subject::capacity);
  CHECK(cut.view().substr(0, 3) == "...");
  CHECK(cut.view().ends_with("ddd/driver_override"));
  CHECK(error_subject{std::string(96, 'y')}.view() == "..." + std::string(92, 'y'));
}

TEST_CASE("every code has a name of its own, and a number that is no code has one too") {
  std::set<std::string_view> names;
  for (unsigned i = 0; i <= static_cast<unsigned>(errc::cancelled); ++i) {
    const auto text = name(static_cast<errc>(i));
    CHECK(text != "unknown");
    names.insert(text);
  }
  CHECK(names.size() == static_cast<unsigned>(errc::cancelled) + 1);
  CHECK(name(static_cast<errc>(200)) == "unknown");
}

TEST_CASE("the text cursor pads hexadecimal numbers and writes decimal ones whole") {
  char buffer[64];
  const auto text = phasebit::detail::text_cursor{buffer}
                        .hex(0)
                        .text(" ")
                        .hex(0xab, 4)
                        .text(" ")
                        .hex(~std::uint64_t{0}, 2)
                        .text(" ")
                        .decimal(0)
                        .text(" ")
                        .decimal(4294967295U)
                        .view();
  CHECK(text == "0 00ab ffffffffffffffff 0 4294967295");
}
