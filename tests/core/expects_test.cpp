// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/expects.hpp>

#include <string>

#include <doctest/doctest.h>
#include <support/death.hpp>

namespace {

constexpr int checked(int value) {
  PHASEBIT_EXPECTS(value > 0, "the value is above zero");
  return value;
}
static_assert(checked(3) == 3);  // a promise that is kept costs constant evaluation nothing

}  // namespace

TEST_CASE("a satisfied precondition has no effect, and its condition is evaluated once") {
  int evaluated = 0;
  PHASEBIT_EXPECTS(++evaluated == 1, "once");
  CHECK(evaluated == 1);
  CHECK(checked(1) == 1);
}

TEST_CASE("a broken precondition prints condition and place, and ends the process by SIGABRT") {
  const auto how = phasebit_test::end_of([] { (void)checked(0); });
  CHECK(how.aborted);
  CHECK(how.said.find("phasebit: broken precondition: the value is above zero\n") !=
        std::string::npos);
  CHECK(how.said.find("expects_test.cpp:") != std::string::npos);
}

TEST_CASE("the death helper itself sees the difference between an end and none") {
  const auto how = phasebit_test::end_of([] {});
  CHECK_FALSE(how.aborted);
  CHECK_FALSE(phasebit_test::breaks("the value is above zero", [] { (void)checked(1); }));
  CHECK_FALSE(phasebit_test::breaks("another sentence", [] { (void)checked(0); }));
}
