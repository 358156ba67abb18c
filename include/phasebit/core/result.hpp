// SPDX-License-Identifier: BSL-1.0
// result<T>: a value, or the error that explains why there is none. Not an alias of std::expected, which
// would be another type under another -std and break linking.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/expects.hpp>

#include <concepts>
#include <new>
#include <type_traits>
#include <utility>

namespace phasebit {

// Guarantees: trivially copyable where T is; never empty; nothing throws, so T's moves must not.
// Reading the value of a failed result, or the error of a good one, breaks a precondition.
template <class T = void>
class [[nodiscard]] result {
  static_assert(std::is_object_v<T>, "a result holds an object; let it hold a pointer or a span");
  static_assert(std::is_nothrow_move_constructible_v<T>, "result<T> never throws; T must not");
  static constexpr bool trivial_copy = std::is_trivially_copy_constructible_v<T>;
  static constexpr bool trivial_move = std::is_trivially_move_constructible_v<T>;
  static constexpr bool trivial_end = std::is_trivially_destructible_v<T>;
  static constexpr bool trivial_assign =
      std::is_trivially_copyable_v<T> && std::is_copy_assignable_v<T>;

 public:
  using value_type = T;

  // From a value, or from what converts to one implicitly; an integer is not converted to an address.
  constexpr result(T value) noexcept
    requires std::is_scalar_v<T>
      : value_(value), good_(true) {}
  template <class U = T>
    requires(!std::is_scalar_v<T> && std::is_nothrow_convertible_v<U &&, T> &&
             !std::same_as<std::remove_cvref_t<U>, result> &&
             !std::same_as<std::remove_cvref_t<U>, phasebit::error>)
  constexpr result(U&& value) noexcept : value_(std::forward<U>(value)), good_(true) {}
  constexpr result(const phasebit::error& failed) noexcept : error_(failed), good_(false) {}

  constexpr result(const result&) noexcept
    requires trivial_copy
  = default;
  constexpr result(const result& other) noexcept
    requires(!trivial_copy && std::is_nothrow_copy_constructible_v<T>)
      : good_(other.good_) {
    copy_from(other);
  }
  constexpr result(result&&) noexcept
    requires trivial_move
  = default;
  constexpr result(result&& other) noexcept
    requires(!trivial_move)
      : good_(other.good_) {
    copy_from(std::move(other));
  }
  constexpr result& operator=(const result&) noexcept
    requires trivial_assign
  = default;
  constexpr result& operator=(result&&) noexcept
    requires trivial_assign
  = default;
  constexpr result& operator=(const result& other) noexcept
    requires(!trivial_assign && std::is_nothrow_copy_constructible_v<T>)
  {
    if (this != &other) {
      clear();
      good_ = other.good_;
      copy_from(other);
    }
    return *this;
  }
  constexpr result& operator=(result&& other) noexcept
    requires(!trivial_assign)
  {
    if (this != &other) {
      clear();
      good_ = other.good_;
      copy_from(std::move(other));
    }
    return *this;
  }
  constexpr ~result()
    requires trivial_end
  = default;
  constexpr ~result()
    requires(!trivial_end)
  {
    clear();
  }

  [[nodiscard]] constexpr bool has_value() const noexcept { return good_; }
  constexpr explicit operator bool() const noexcept { return good_; }

  [[nodiscard]] constexpr T& operator*() & noexcept { return checked(); }
  [[nodiscard]] constexpr const T& operator*() const& noexcept { return checked(); }
  [[nodiscard]] constexpr T&& operator*() && noexcept { return std::move(checked()); }
  [[nodiscard]] constexpr T* operator->() noexcept { return &checked(); }
  [[nodiscard]] constexpr const T* operator->() const noexcept { return &checked(); }

  [[nodiscard]] constexpr const phasebit::error& error() const noexcept {
    PHASEBIT_EXPECTS(!good_, "error() of a result that has a value");
    return error_;
  }

  // Ends the value, if there is one: from now on this holds `failed`.
  constexpr void fail(const phasebit::error& failed) noexcept {
    if (good_) value_.~T();
    ::new (static_cast<void*>(&error_)) phasebit::error(failed);
    good_ = false;
  }

  template <class U>
  [[nodiscard]] constexpr T value_or(U&& otherwise) const& noexcept {
    return good_ ? value_ : static_cast<T>(std::forward<U>(otherwise));
  }
  template <class U>
  [[nodiscard]] constexpr T value_or(U&& otherwise) && noexcept {
    return good_ ? std::move(value_) : static_cast<T>(std::forward<U>(otherwise));
  }
  // Calls `next` with the value and returns its result; an error passes through.
  template <class F>
  constexpr auto and_then(F&& next) && noexcept -> std::invoke_result_t<F, T&&> {
    if (good_) return std::forward<F>(next)(std::move(value_));
    return error_;
  }

 private:
  constexpr T& checked() noexcept {
    PHASEBIT_EXPECTS(good_, "the value of a result that holds an error: test it first");
    return value_;
  }
  constexpr const T& checked() const noexcept {
    PHASEBIT_EXPECTS(good_, "the value of a result that holds an error: test it first");
    return value_;
  }
  template <class Other>
  constexpr void copy_from(Other&& other) noexcept {
    if (good_) {
      ::new (static_cast<void*>(&value_)) T(std::forward<Other>(other).value_);
    } else {
      ::new (static_cast<void*>(&error_)) phasebit::error(other.error_);
    }
  }
  constexpr void clear() noexcept {
    if (good_) value_.~T();
  }

  union {
    T value_;
    phasebit::error error_;
  };
  bool good_;
};

namespace detail {

struct nothing {};

}  // namespace detail

// The result of an operation without a value.
template <>
class [[nodiscard]] result<void> {
 public:
  using value_type = void;

  constexpr result() noexcept : nothing_{}, good_(true) {}
  constexpr result(const phasebit::error& failed) noexcept : error_(failed), good_(false) {}

  [[nodiscard]] constexpr bool has_value() const noexcept { return good_; }
  constexpr explicit operator bool() const noexcept { return good_; }
  [[nodiscard]] constexpr const phasebit::error& error() const noexcept {
    PHASEBIT_EXPECTS(!good_, "error() of a result that has a value");
    return error_;
  }

  // Calls `next` on success and returns its result; an error passes through.
  template <class F>
  constexpr auto and_then(F&& next) const noexcept -> std::invoke_result_t<F> {
    if (good_) return std::forward<F>(next)();
    return error_;
  }

 private:
  union {
    detail::nothing nothing_;
    phasebit::error error_;
  };
  bool good_;
};

}  // namespace phasebit
