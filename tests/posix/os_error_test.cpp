// SPDX-License-Identifier: BSL-1.0
#include <phasebit/posix/os_error.hpp>

#include <cerrno>

#include <doctest/doctest.h>

using namespace phasebit;

static_assert(posix::errc_of(EACCES) == errc::permission);

TEST_CASE("an errno becomes the kind of failure that a program branches on") {
  CHECK(posix::errc_of(EPERM) == errc::permission);
  CHECK(posix::errc_of(ENOENT) == errc::not_found);
  CHECK(posix::errc_of(EBUSY) == errc::busy);
  CHECK(posix::errc_of(ENOMEM) == errc::exhausted);
  CHECK(posix::errc_of(EMFILE) == errc::exhausted);
  CHECK(posix::errc_of(EEXIST) == errc::already_exists);
  CHECK(posix::errc_of(ENOTTY) == errc::not_supported);
  CHECK(posix::errc_of(ETIMEDOUT) == errc::timed_out);
  CHECK(posix::errc_of(EIO) == errc::io);
  CHECK(posix::errc_of(0) == errc::io);
}

TEST_CASE("the number itself stays in the error, and errno is taken where none is given") {
  errno = EBUSY;
  const error e = posix::os_error("the group cannot be opened");
  CHECK(e.code == errc::busy);
  CHECK(e.value == EBUSY);
  CHECK(e.has_value);
  CHECK(e.value_is_errno);
  CHECK(posix::os_error("x", ENOSPC).value == ENOSPC);
}
