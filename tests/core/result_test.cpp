// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/address.hpp>
#include <phasebit/core/result.hpp>

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;

namespace {

struct small {
  std::uint32_t a;
  std::uint8_t b;
};

// Counts what lives, so that a value that is lost or destroyed twice is seen.
class counted {
 public:
  counted(int& alive, int value) noexcept : alive_(&alive), value_(value) { ++*alive_; }
  counted(const counted& other) noexcept : alive_(other.alive_), value_(other.value_) { ++*alive_; }
  counted(counted&& other) noexcept
      : alive_(other.alive_), value_(std::exchange(other.value_, -1)) {
    ++*alive_;
  }
  counted& operator=(const counted&) = delete;
  ~counted() { --*alive_; }
  [[nodiscard]] int value() const noexcept { return value_; }

 private:
  int* alive_;
  int value_;
};

class move_only {
 public:
  explicit move_only(int value) noexcept : value_(value) {}
  move_only(move_only&& other) noexcept : value_(std::exchange(other.value_, 0)) {}
  move_only& operator=(move_only&& other) noexcept {
    value_ = std::exchange(other.value_, 0);
    return *this;
  }
  ~move_only() { value_ = -1; }
  [[nodiscard]] int value() const noexcept { return value_; }

 private:
  int value_;
};

static_assert(std::is_trivially_copyable_v<result<int>> && std::is_trivially_copyable_v<result<>>);
static_assert(std::is_trivially_copyable_v<result<small>>);
static_assert(std::is_trivially_destructible_v<result<bus_addr>>);
static_assert(!std::is_trivially_destructible_v<result<counted>>);
static_assert(!std::is_copy_constructible_v<result<move_only>>);
static_assert(std::is_nothrow_move_constructible_v<result<move_only>>);
static_assert(std::is_nothrow_move_assignable_v<result<move_only>>);
static_assert(std::is_nothrow_copy_constructible_v<result<counted>>);
static_assert(std::is_nothrow_copy_assignable_v<result<counted>>);
static_assert(!std::is_default_constructible_v<result<int>>);
static_assert(std::is_same_v<result<>, result<void>>);
// One flag beside whatever is larger, value or error.
static_assert(sizeof(result<int>) == sizeof(error) + alignof(error));
static_assert(sizeof(result<>) == sizeof(result<int>));

// An integer does not name its address space, so it does not convert into a result of an address.
static_assert(std::is_convertible_v<bus_addr, result<bus_addr>>);
static_assert(!std::is_convertible_v<std::uint64_t, result<bus_addr>>);
static_assert(!std::is_convertible_v<guest_addr, result<bus_addr>>);
static_assert(std::is_convertible_v<const char*, result<std::string_view>>);

constexpr result<std::uint32_t> halve(std::uint32_t v) noexcept {
  if (v % 2 != 0) return failure(errc::invalid_argument, "the number is odd", v);
  return v / 2;
}
constexpr result<> below_ten(std::uint32_t v) noexcept {
  if (v >= 10) return failure(errc::out_of_range, "the number is above nine", v);
  return {};
}
static_assert(*halve(8) == 4 && !halve(7) && halve(7).error().value == 7);
static_assert(below_ten(3) && !below_ten(10));

}  // namespace

TEST_CASE("a result has its value, or an error") {
  const auto good = halve(8);
  REQUIRE(good);
  CHECK(good.has_value());
  CHECK(*good == 4);
  const auto bad = halve(9);
  CHECK_FALSE(bad);
  CHECK(bad.error().code == errc::invalid_argument);
  CHECK(std::string_view{bad.error().what} == "the number is odd");
  CHECK(below_ten(1).has_value());
  CHECK(below_ten(11).error().value == 11);
}

TEST_CASE("a literal may be returned where the value is unsigned, and zero is a value") {
  const auto zero = []() -> result<std::uint32_t> { return 0; }();
  REQUIRE(zero);
  CHECK(*zero == 0);
  const auto text = []() -> result<std::string_view> { return "text"; }();
  CHECK(*text == "text");
  const auto pointer = []() -> result<const int*> { return nullptr; }();
  REQUIRE(pointer);
  CHECK(*pointer == nullptr);
}

TEST_CASE("an error passes from one result to another") {
  const auto outer = [](std::uint32_t v) -> result<small> {
    const auto half = halve(v);
    if (!half) return half.error().at(2).of("0000:01:00.0");
    return small{*half, 1};
  };
  CHECK(outer(6)->a == 3);
  const auto failed = outer(5);
  REQUIRE_FALSE(failed);
  CHECK(failed.error().index == 2);
  CHECK(failed.error().subject.view() == "0000:01:00.0");
}

TEST_CASE("and_then goes on with a value and stops at an error") {
  CHECK(*halve(8).and_then(halve) == 2);
  CHECK(halve(6).and_then(halve).error().value == 3);
  CHECK(halve(7).and_then(halve).error().value == 7);
  CHECK(halve(4).and_then(below_ten));
  CHECK(*below_ten(1).and_then([]() noexcept { return halve(2); }) == 1);
  CHECK(below_ten(12).and_then([]() noexcept { return halve(2); }).error().value == 12);
}

TEST_CASE("value_or gives the other value only where there is an error") {
  CHECK(halve(8).value_or(99U) == 4);
  CHECK(halve(7).value_or(99U) == 99);
  const auto good = halve(2);
  CHECK(good.value_or(99U) == 1);
  result<move_only> failed{failure(errc::not_found, "nothing")};
  CHECK(std::move(failed).value_or(move_only{3}).value() == 3);
}

TEST_CASE("a move-only value moves through a result") {
  result<move_only> first{move_only{7}};
  result<move_only> second{std::move(first)};
  CHECK(second->value() == 7);
  CHECK(first->value() == 0);
  result<move_only> third{failure(errc::busy, "wait")};
  third = std::move(second);
  REQUIRE(third);
  CHECK((*std::move(third)).value() == 7);
  result<move_only> failed{failure(errc::busy, "wait")};
  third = std::move(failed);
  CHECK(third.error().code == errc::busy);
}

TEST_CASE("every value is destroyed once, whichever way results are copied, moved and assigned") {
  int alive = 0;
  {
    result<counted> a{counted{alive, 1}};
    CHECK(alive == 1);
    result<counted> b{a};
    CHECK(alive == 2);
    result<counted> c{std::move(a)};
    CHECK(c->value() == 1);
    CHECK(alive == 3);
    result<counted> bad{failure(errc::io, "no")};
    CHECK(alive == 3);
    b = bad;  // value -> error
    CHECK(alive == 2);
    CHECK(b.error().code == errc::io);
    b = c;  // error -> value
    CHECK(alive == 3);
    c = std::move(b);  // value -> value
    CHECK(alive == 3);
    CHECK(c->value() == 1);
    auto& same = c;
    c = same;
    c = std::move(same);
    CHECK(c->value() == 1);
    CHECK(alive == 3);
    bad = result<counted>{failure(errc::loop, "again")};  // error -> error
    CHECK(bad.error().code == errc::loop);
  }
  CHECK(alive == 0);
}

TEST_CASE("the wrong half of a result is the caller's mistake") {
  CHECK(phasebit_test::breaks("the value of a result that holds an error: test it first",
                              [] { (void)*halve(1); }));
  CHECK(phasebit_test::breaks("the value of a result that holds an error: test it first", [] {
    result<small> bad{failure(errc::io, "no")};
    (void)bad->a;
  }));
  CHECK(phasebit_test::breaks("error() of a result that has a value",
                              [] { (void)halve(2).error(); }));
  CHECK(phasebit_test::breaks("error() of a result that has a value",
                              [] { (void)below_ten(2).error(); }));
}

TEST_CASE("a result that fails ends its value and holds the error") {
  static int alive = 0;
  struct counted {
    counted() noexcept { ++alive; }
    counted(counted&&) noexcept { ++alive; }
    ~counted() { --alive; }
  };
  {
    result<counted> r{counted{}};
    CHECK(alive == 1);
    r.fail(failure(errc::busy, "later"));
    CHECK(alive == 0);
    CHECK_FALSE(r);
    CHECK(r.error().code == errc::busy);
    r.fail(failure(errc::io, "now"));
    CHECK(r.error().code == errc::io);
  }
  CHECK(alive == 0);
}
