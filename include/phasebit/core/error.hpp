// SPDX-License-Identifier: BSL-1.0
// An error: a code, a sentence, the subject it is about, an index and a value. It allocates nothing and
// owns nothing, so that firmware and engines share one type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit {

// The kind of failure, for programs to branch on.
enum class errc : std::uint8_t {
  invalid_argument,  // a value that no device could take
  misaligned,        // an address or length off the required boundary
  out_of_range,      // beyond a limit: a table, a width, a device's capability
  overflow,          // address + length wraps
  overlap,           // collides with something already there
  not_found,         // no such device, file, capability, mapping
  already_exists,    // created twice
  exhausted,         // no memory, ids, address space or table pages left
  busy,              // in use elsewhere; a later attempt may work
  not_supported,     // the device or kernel lacks it
  not_ready,         // asked before it was enabled
  timed_out,         // the other side did not answer within the time limit
  removed,           // the device is gone (reads return all ones)
  protocol,          // the other side broke the specification
  loop,              // a list that the other side wrote does not end
  not_mapped,        // no translation for this address
  access_denied,     // a translation without the permission requested
  permission,        // the operating system refused
  io,                // a system call or a command failed; `value` is the reason
  cancelled,         // ended before it was done, on purpose
};

namespace detail {

inline constexpr std::string_view errc_names[] = {
    "invalid_argument", "misaligned",     "out_of_range", "overflow", "overlap",
    "not_found",        "already_exists", "exhausted",    "busy",     "not_supported",
    "not_ready",        "timed_out",      "removed",      "protocol", "loop",
    "not_mapped",       "access_denied",  "permission",   "io",       "cancelled",
    "unknown"};
inline constexpr std::size_t errc_unknown = std::size(errc_names) - 1;
static_assert(errc_unknown == static_cast<std::size_t>(errc::cancelled) + 1);

}  // namespace detail

// The code's name as it is spelt above; "unknown" for a number that is none.
[[nodiscard]] constexpr std::string_view name(errc code) noexcept {
  const auto number = static_cast<std::size_t>(code);
  return detail::errc_names[number < detail::errc_unknown ? number : detail::errc_unknown];
}

// A short text stored inside its owner: a BDF, a driver's name, the end of a path. A text that does
// not fit loses its beginning, because the end of a path identifies a file.
class error_subject {
 public:
  static constexpr std::size_t capacity = 95;

  constexpr error_subject() noexcept : text_{} {}
  constexpr error_subject(std::string_view text) noexcept : text_{} {
    const bool cut = text.size() > capacity;
    if (cut) text.remove_prefix(text.size() - capacity);
    for (char c : text) text_[size_++] = c;
    if (cut) text_[0] = text_[1] = text_[2] = '.';
  }

  [[nodiscard]] constexpr std::string_view view() const noexcept { return {text_, size_}; }
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }

 private:
  char text_[capacity];
  std::uint8_t size_ = 0;
};

// The failure half of result<T>. `what` is a literal (static storage) and reads as a sentence after
// "subject: ". `index` is the number of the segment, entry or queue; `value` the offending number,
// or the errno of a system call.
struct error {
  static constexpr std::uint32_t no_index = 0xffff'ffff;

  errc code = errc::invalid_argument;
  std::uint32_t index = no_index;
  const char* what = "";
  std::uint64_t value = 0;
  bool has_value = false;
  bool value_is_errno = false;
  error_subject subject{};

  [[nodiscard]] constexpr error at(std::uint32_t which) const noexcept {
    error e = *this;
    e.index = which;
    return e;
  }
  [[nodiscard]] constexpr error of(std::string_view whose) const noexcept {
    error e = *this;
    e.subject = error_subject{whose};
    return e;
  }
  // A literal, or a text in an array. Does not call strlen, which firmware may lack.
  template <std::size_t N>
  [[nodiscard]] constexpr error of(const char (&whose)[N]) const noexcept {
    std::size_t length = 0;
    while (length != N && whose[length] != '\0') ++length;
    return of(std::string_view{whose, length});
  }

  // Writes "subject: what (value 0x1234, index 3)" into `out`, cut where it does not fit, with no
  // terminating zero; returns what was written. An errno reads "errno 13".
  constexpr std::string_view message(std::span<char> out) const noexcept;
};

[[nodiscard]] constexpr error failure(errc code, const char* what) noexcept {
  return error{.code = code, .what = what};
}
[[nodiscard]] constexpr error failure(errc code, const char* what, std::uint64_t value) noexcept {
  return error{.code = code, .what = what, .value = value, .has_value = true};
}

namespace detail {

// Appends to a bounded text; what does not fit is dropped.
class text_cursor {
 public:
  constexpr explicit text_cursor(std::span<char> out) noexcept : out_(out) {}

  constexpr text_cursor& text(std::string_view s) noexcept {
    for (char c : s) {
      if (used_ == out_.size()) break;
      out_[used_++] = c;
    }
    return *this;
  }
  // Not through string_view, which would call strlen.
  constexpr text_cursor& text(const char* s) noexcept {
    for (; *s != '\0' && used_ != out_.size(); ++s) out_[used_++] = *s;
    return *this;
  }
  constexpr text_cursor& hex(std::uint64_t v, int least_digits = 1) noexcept {
    char digits[16]{};
    int count = 0;
    for (; v != 0 || count < least_digits; v >>= 4) digits[count++] = "0123456789abcdef"[v & 15U];
    while (count != 0) text(std::string_view{&digits[--count], 1});
    return *this;
  }
  constexpr text_cursor& decimal(std::uint32_t v) noexcept {
    char digits[10]{};
    int count = 0;
    do {
      digits[count++] = static_cast<char>('0' + v % 10U);
      v /= 10U;
    } while (v != 0);
    while (count != 0) text(std::string_view{&digits[--count], 1});
    return *this;
  }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {out_.data(), used_}; }

 private:
  std::span<char> out_;
  std::size_t used_ = 0;
};

}  // namespace detail

constexpr std::string_view error::message(std::span<char> out) const noexcept {
  detail::text_cursor cursor{out};
  if (!subject.empty()) cursor.text(subject.view()).text(": ");
  cursor.text(what);
  if (has_value || index != no_index) {
    cursor.text(" (");
    if (has_value && value_is_errno) {
      cursor.text("errno ").decimal(static_cast<std::uint32_t>(value));
    } else if (has_value) {
      cursor.text("value 0x").hex(value);
    }
    if (has_value && index != no_index) cursor.text(", ");
    if (index != no_index) cursor.text("index ").decimal(index);
    cursor.text(")");
  }
  return cursor.view();
}

}  // namespace phasebit
