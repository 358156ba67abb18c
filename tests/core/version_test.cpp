// SPDX-License-Identifier: BSL-1.0
#include <phasebit/version.hpp>

#include <doctest/doctest.h>

TEST_CASE("versions are ordered by major, then minor, then patch number") {
  using phasebit::library_version;
  static_assert(library_version{1, 0, 0} > library_version{0, 9, 9});
  static_assert(library_version{0, 2, 0} > library_version{0, 1, 9});
  static_assert(library_version{0, 1, 1} > library_version{0, 1, 0});
  CHECK(phasebit::version >= library_version{0, 1, 0});
}

TEST_CASE("the build system and the headers agree about the version") {
  CHECK(phasebit::version == phasebit::library_version{PHASEBIT_TEST_VERSION});
}
