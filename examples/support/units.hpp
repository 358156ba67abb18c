// SPDX-License-Identifier: BSL-1.0
// Sizes, rates and times as people read them.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <fmt/format.h>

namespace example {

namespace detail {

template <std::size_t N>
[[nodiscard]] std::string scaled(double value, double step, const std::array<const char*, N>& names,
                                 double limit) {
  std::size_t i = 0;
  for (; value >= limit && i + 1 != N; ++i) value /= step;
  const bool whole = value == static_cast<double>(static_cast<std::uint64_t>(value));
  return whole && value < 1e15 ? fmt::format("{:.0f} {}", value, names[i])
                               : fmt::format("{:.3g} {}", value, names[i]);
}

}  // namespace detail

// "64 MiB"
[[nodiscard]] inline std::string size_text(std::uint64_t bytes) {
  constexpr std::array names{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  return detail::scaled(static_cast<double>(bytes), 1024, names, 1024);
}
// "1.43 GB/s", decimal as data sheets have it.
[[nodiscard]] inline std::string rate_text(double bytes_per_second) {
  constexpr std::array names{"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
  return detail::scaled(bytes_per_second, 1000, names, 999.5);
}
// "617 k"
[[nodiscard]] inline std::string count_text(double count) {
  constexpr std::array names{"", "k", "M", "G", "T"};
  std::string text = detail::scaled(count, 1000, names, 999.5);
  while (text.back() == ' ') text.pop_back();
  return text;
}
// "8.31 us"
[[nodiscard]] inline std::string time_text(double nanoseconds) {
  constexpr std::array names{"ns", "us", "ms", "s"};
  return detail::scaled(nanoseconds, 1000, names, 999.5);
}

}  // namespace example
