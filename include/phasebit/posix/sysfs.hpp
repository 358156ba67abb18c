// SPDX-License-Identifier: BSL-1.0
// Small files that the kernel writes for programs: /sys, /proc. Their content is validated
// like any input.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/posix/unique_fd.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace phasebit::posix {

// The last component of a symbolic link's target; empty if there is no such link.
[[nodiscard]] inline std::string link_name(const std::string& path) {
  std::array<char, 512> target{};
  const auto length = ::readlink(path.c_str(), target.data(), target.size());
  if (length <= 0) return {};
  const std::string_view whole{target.data(), static_cast<std::size_t>(length)};
  return std::string{whole.substr(whole.rfind('/') + 1)};
}

[[nodiscard]] inline bool exists(const std::string& path) noexcept {
  return ::access(path.c_str(), F_OK) == 0;
}

// The names in a directory, without those that begin with a dot; none where it is not there.
template <class Each>
void for_each_entry(const std::string& path, Each&& each) {
  ::DIR* const directory = ::opendir(path.c_str());
  if (directory == nullptr) return;
  while (const ::dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.') each(std::string_view{entry->d_name});
  }
  ::closedir(directory);
}

// The content of the file, at most one page: no attribute is longer. The error's subject is the path.
[[nodiscard]] inline result<std::string> read_text(const std::string& path) {
  const auto file = open_file(path.c_str(), O_RDONLY);
  if (!file) return file.error();
  std::array<char, 4096> text{};
  std::size_t used = 0;
  while (used != text.size()) {
    const auto got = ::read(file->get(), text.data() + used, text.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error("the file cannot be read").of(path);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  return std::string{text.data(), used};
}

// The first line, without its end; empty where there is no such file, or it cannot be read.
[[nodiscard]] inline std::string read_line(const std::string& path) {
  const auto text = read_text(path);
  return text ? text->substr(0, text->find('\n')) : std::string{};
}

// All of `digits` as a number; with base 16 they may begin with 0x. Nothing where they are none, or
// the number is too large.
template <class T>
[[nodiscard]] std::optional<T> parse_number(std::string_view digits, int base = 10) noexcept {
  if (base == 16 && digits.starts_with("0x")) digits.remove_prefix(2);
  T value{};
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (parsed.ec != std::errc{} || parsed.ptr != digits.data() + digits.size()) return std::nullopt;
  return value;
}
// The number that is the first line of a file; none where there is no such file or no such number.
template <class T>
[[nodiscard]] std::optional<T> read_number(const std::string& path, int base = 10) {
  return parse_number<T>(read_line(path), base);
}

// One write(2), as attributes require. `what` names the operation that the kernel refused.
[[nodiscard]] inline result<> write_text(
    const std::string& path, std::string_view text,
    const char* what = "the kernel does not take this value") noexcept {
  const auto file = open_file(path.c_str(), O_WRONLY);
  if (!file) return file.error();
  if (::write(file->get(), text.data(), text.size()) < 0) return os_error(what).of(path);
  return {};
}

}  // namespace phasebit::posix
