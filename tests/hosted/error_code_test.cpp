// SPDX-License-Identifier: BSL-1.0
#include <phasebit/hosted/error_code.hpp>
#include <phasebit/posix/os_error.hpp>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include <doctest/doctest.h>

using namespace phasebit;

TEST_CASE("every code is an std::error_code that is not success") {
  std::set<std::string> names;
  for (unsigned i = 0; i <= static_cast<unsigned>(errc::cancelled); ++i) {
    const std::error_code ec = static_cast<errc>(i);
    CHECK(static_cast<bool>(ec));
    CHECK(&ec.category() == &error_category());
    CHECK(ec == static_cast<errc>(i));
    names.insert(ec.message());
  }
  CHECK(names.size() == static_cast<unsigned>(errc::cancelled) + 1);
  CHECK(std::error_code{errc::invalid_argument}.message() == "invalid_argument");
  CHECK(std::string{error_category().name()} == "phasebit");
}

TEST_CASE("a program that asks the standard's question gets its answer") {
  CHECK(std::error_code{errc::timed_out} == std::errc::timed_out);
  CHECK(std::error_code{errc::permission} == std::errc::permission_denied);
  CHECK(std::error_code{errc::busy} == std::errc::device_or_resource_busy);
  CHECK(std::error_code{errc::loop} != std::errc::timed_out);
}

TEST_CASE("an errno goes through as itself") {
  const auto ec = hosted::to_error_code(posix::os_error("the file cannot be opened", ENODEV));
  CHECK(ec == std::errc::no_such_device);
  CHECK(ec.value() == ENODEV);
  CHECK(hosted::to_error_code(failure(errc::protocol, "x")) == errc::protocol);
}

TEST_CASE("or_throw gives the value, or throws the whole sentence") {
  CHECK(hosted::or_throw(result<int>{3}) == 3);
  CHECK_NOTHROW(hosted::or_throw(result<>{}));
  result<std::unique_ptr<int>> owned{std::make_unique<int>(5)};
  CHECK(*hosted::or_throw(std::move(owned)) == 5);
  const error e = failure(errc::timed_out, "the controller did not become ready").of("nvme0");
  try {
    hosted::or_throw(result<int>{e});
    FAIL("nothing was thrown");
  } catch (const hosted::failed& f) {
    CHECK(f.code() == std::errc::timed_out);
    CHECK(f.error().code == errc::timed_out);
    CHECK(std::string{f.what()}.find("nvme0: the controller did not become ready") == 0);
  }
  CHECK_THROWS_AS(hosted::or_throw(result<>{e}), std::system_error);
}
