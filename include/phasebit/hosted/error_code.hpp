// SPDX-License-Identifier: BSL-1.0
// Conversion of errors to std::error_code and to exceptions.
#pragma once

#include <phasebit/core/error.hpp>
#include <phasebit/core/result.hpp>

#include <array>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace phasebit {

namespace hosted::detail {

// The numbers of this category are those of errc plus one, for zero means success to an error_code.
class category final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "phasebit"; }
  [[nodiscard]] std::string message(int number) const override {
    return number == 0 ? "success" : std::string{phasebit::name(code_of(number))};
  }
  // Makes `ec == std::errc::timed_out` true for errc::timed_out.
  [[nodiscard]] std::error_condition default_error_condition(int number) const noexcept override {
    switch (code_of(number)) {
      case errc::invalid_argument:
      case errc::misaligned:
        return std::errc::invalid_argument;
      case errc::out_of_range:
        return std::errc::result_out_of_range;
      case errc::overflow:
        return std::errc::value_too_large;
      case errc::already_exists:
        return std::errc::file_exists;
      case errc::not_found:
        return std::errc::no_such_device;
      case errc::exhausted:
        return std::errc::not_enough_memory;
      case errc::busy:
        return std::errc::device_or_resource_busy;
      case errc::not_supported:
        return std::errc::not_supported;
      case errc::timed_out:
        return std::errc::timed_out;
      case errc::removed:
        return std::errc::no_such_device_or_address;
      case errc::protocol:
        return std::errc::protocol_error;
      case errc::not_mapped:
      case errc::access_denied:
        return std::errc::bad_address;
      case errc::permission:
        return std::errc::permission_denied;
      case errc::io:
        return std::errc::io_error;
      case errc::cancelled:
        return std::errc::operation_canceled;
      default:
        return {number, *this};
    }
  }

 private:
  [[nodiscard]] static errc code_of(int number) noexcept { return static_cast<errc>(number - 1); }
};

}  // namespace hosted::detail

[[nodiscard]] inline const std::error_category& error_category() noexcept {
  static const hosted::detail::category instance;
  return instance;
}

// Found by std::error_code's constructor: `std::error_code ec = phasebit::errc::busy`.
[[nodiscard]] inline std::error_code make_error_code(errc code) noexcept {
  return {static_cast<int>(code) + 1, error_category()};
}

namespace hosted {

// The error without its sentence. An errno keeps its number.
[[nodiscard]] inline std::error_code to_error_code(const error& e) noexcept {
  if (e.has_value && e.value_is_errno) {
    return {static_cast<int>(e.value), std::generic_category()};
  }
  return make_error_code(e.code);
}

// An error as an exception; what() returns the whole sentence.
class failed : public std::system_error {
 public:
  explicit failed(const error& e) : std::system_error(to_error_code(e), sentence(e)), error_(e) {}
  [[nodiscard]] const phasebit::error& error() const noexcept { return error_; }

 private:
  [[nodiscard]] static std::string sentence(const phasebit::error& e) {
    std::array<char, 512> buffer{};
    return std::string{e.message(buffer)};
  }
  phasebit::error error_;
};

// Returns the value or throws `failed`. The only function of the library that throws; the library does not
// call it.
template <class T>
T or_throw(result<T> r) {
  if (!r) throw failed{r.error()};
  if constexpr (!std::is_void_v<T>) return *std::move(r);
}

}  // namespace hosted

}  // namespace phasebit

template <>
struct std::is_error_code_enum<phasebit::errc> : std::true_type {};
