// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/callback.hpp>

#include <type_traits>

#include <doctest/doctest.h>
#include <support/death.hpp>

using callback = phasebit::inplace_callback<int>;
static_assert(std::is_trivially_copyable_v<callback>);
static_assert(sizeof(callback) == 4 * sizeof(void*));

TEST_CASE("a callback calls what it holds, as often as it is called, and so do its copies") {
  int sum = 0;
  callback add{[&sum](int v) noexcept { sum += v; }};
  REQUIRE(static_cast<bool>(add));
  add(3);
  callback copy = add;
  copy(4);
  add(5);
  CHECK(sum == 12);
}

TEST_CASE("a callback keeps three words of its own") {
  int a = 0;
  int b = 0;
  int c = 0;
  callback all{[&a, &b, &c](int v) noexcept { a = b = c = v; }};
  all(7);
  CHECK(a + b + c == 21);
  callback counts{[n = 0, &a](int) mutable noexcept { a = ++n; }};
  counts(0);
  counts(0);
  CHECK(a == 2);
}

TEST_CASE("an empty callback converts to false, and calling it is a broken precondition") {
  callback none;
  CHECK_FALSE(static_cast<bool>(none));
  CHECK(phasebit_test::breaks("an empty callback was called", [&] { none(1); }));
}
