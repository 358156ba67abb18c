// SPDX-License-Identifier: BSL-1.0
#include <phasebit/posix/unique_fd.hpp>

#include <utility>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

using namespace phasebit;
using posix::open_file;
using posix::unique_fd;

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace

TEST_CASE("a descriptor is closed once, by its last owner") {
  auto opened = open_file("/dev/null", O_RDWR);
  REQUIRE(opened);
  const int number = opened->get();
  {
    unique_fd owner{std::move(*opened)};
    CHECK_FALSE(*opened);
    CHECK(owner.get() == number);
    unique_fd other;
    CHECK_FALSE(other);
    other = std::move(owner);
    CHECK_FALSE(owner);
    CHECK(is_open(number));
    auto& same = other;
    other = std::move(same);
    CHECK(is_open(number));
  }
  CHECK_FALSE(is_open(number));
}

TEST_CASE("a released descriptor stays open, and a reset one does not") {
  auto opened = open_file("/dev/null", O_RDONLY);
  REQUIRE(opened);
  const int number = opened->release();
  opened->reset();
  CHECK(is_open(number));
  unique_fd again{number};
  again.reset();
  CHECK_FALSE(is_open(number));
  CHECK_FALSE(again);
}

TEST_CASE("a duplicate outlives its original, and neither is inherited by other programs") {
  auto opened = open_file("/dev/null", O_RDONLY);
  REQUIRE(opened);
  const auto copy = opened->duplicate();
  REQUIRE(copy);
  CHECK((::fcntl(copy->get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(opened->get(), F_GETFD) & FD_CLOEXEC) != 0);
  opened->reset();
  CHECK(is_open(copy->get()));
  CHECK_FALSE(unique_fd{}.duplicate());
}

TEST_CASE("a file that is not there is named in the error") {
  const auto missing = open_file("/nowhere/nothing", O_RDONLY);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == errc::not_found);
  CHECK(missing.error().subject.view() == "/nowhere/nothing");
}
