// SPDX-License-Identifier: BSL-1.0
// How long commands took: a histogram with buckets that widen with the time, 1.6 % each.
#pragma once

#include "support/units.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <boost/histogram.hpp>
#include <fmt/format.h>

namespace example {

class latency_histogram {
  using axis = boost::histogram::axis::regular<double, boost::histogram::axis::transform::log>;
  using storage = boost::histogram::dense_storage<std::uint64_t>;

 public:
  struct bar {
    double from_ns;
    double to_ns;
    std::uint64_t count;
  };

  void add(std::uint64_t nanoseconds) noexcept {
    const auto value = static_cast<double>(std::max<std::uint64_t>(nanoseconds, lowest));
    histogram_(value);
    least_ = std::min(least_, value);
    most_ = std::max(most_, value);
    sum_ += value;
    ++count_;
  }
  void merge(const latency_histogram& other) {
    histogram_ += other.histogram_;
    least_ = std::min(least_, other.least_);
    most_ = std::max(most_, other.most_);
    sum_ += other.sum_;
    count_ += other.count_;
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] double least() const noexcept { return count_ == 0 ? 0 : least_; }
  [[nodiscard]] double most() const noexcept { return most_; }
  [[nodiscard]] double mean() const noexcept {
    return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
  }
  // The time that so many of a hundred commands did not exceed, to the width of a bucket.
  [[nodiscard]] double percentile(double percent) const noexcept {
    const double wanted = static_cast<double>(count_) * percent / 100;
    double seen = 0;
    for (auto&& bucket : boost::histogram::indexed(histogram_)) {
      seen += static_cast<double>(*bucket);
      if (seen >= wanted) return std::min(bucket.bin().upper(), most_);
    }
    return most_;
  }
  // Coarser buckets, from the first that holds something to the last.
  [[nodiscard]] std::vector<bar> bars() const {
    namespace bh = boost::histogram;
    const auto coarse = bh::algorithm::reduce(histogram_, bh::algorithm::rebin(buckets_per_bar));
    std::vector<bar> all;
    for (auto&& bucket : bh::indexed(coarse)) {
      if (*bucket != 0 || !all.empty()) {
        all.push_back({bucket.bin().lower(), bucket.bin().upper(), *bucket});
      }
    }
    while (!all.empty() && all.back().count == 0) all.pop_back();
    return all;
  }
  [[nodiscard]] std::string text() const {
    const auto all = bars();
    std::uint64_t fullest = 1;
    for (const bar& b : all) fullest = std::max(fullest, b.count);
    std::string out;
    for (const bar& b : all) {
      const double share = 100 * static_cast<double>(b.count) / static_cast<double>(count_);
      out += fmt::format("  {:>8} to {:>8} |{:<40}| {:6.2f} %\n", time_text(b.from_ns),
                         time_text(b.to_ns), std::string(b.count * 40 / fullest, '#'), share);
    }
    return out;
  }

 private:
  // From 100 ns to 100 s: nine decades of 144 buckets, or 4 bars.
  static constexpr std::uint64_t lowest = 100;
  static constexpr double highest = 1e11;
  static constexpr unsigned buckets = 9 * 144;
  static constexpr unsigned buckets_per_bar = 36;

  boost::histogram::histogram<std::tuple<axis>, storage> histogram_{
      std::tuple{axis{buckets, static_cast<double>(lowest), highest}}, storage{}};
  double least_ = highest;
  double most_ = 0;
  double sum_ = 0;
  std::uint64_t count_ = 0;
};

}  // namespace example
