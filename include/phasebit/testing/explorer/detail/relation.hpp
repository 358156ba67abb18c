// SPDX-License-Identifier: BSL-1.0
// A relation between the events of one execution, and whether it has a cycle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace phasebit::testing::explorer::detail {

class relation {
 public:
  explicit relation(int nodes)
      : nodes_(static_cast<std::size_t>(nodes)),
        words_((nodes_ + 63) / 64),
        rows_(nodes_ * words_, 0) {}

  void add(int from, int to) noexcept {
    rows_[row(from) + static_cast<std::size_t>(to) / 64] |= std::uint64_t{1} << (to % 64);
  }

  // Removes nodes that nothing leads to any more, until none is left or all lie on or behind cycles.
  [[nodiscard]] bool acyclic() const {
    std::vector<std::uint32_t> incoming(nodes_, 0);
    each_edge([&](std::size_t, std::size_t to) { ++incoming[to]; });
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i != nodes_; ++i) {
      if (incoming[i] == 0) ready.push_back(i);
    }
    std::size_t removed = 0;
    while (!ready.empty()) {
      const std::size_t from = ready.back();
      ready.pop_back();
      ++removed;
      each_of(from, [&](std::size_t to) {
        if (--incoming[to] == 0) ready.push_back(to);
      });
    }
    return removed == nodes_;
  }

 private:
  [[nodiscard]] std::size_t row(int node) const noexcept {
    return static_cast<std::size_t>(node) * words_;
  }
  template <class Each>
  void each_of(std::size_t from, Each each) const {
    for (std::size_t w = 0; w != words_; ++w) {
      for (std::uint64_t bits = rows_[from * words_ + w]; bits != 0; bits &= bits - 1) {
        each(w * 64 + static_cast<std::size_t>(__builtin_ctzll(bits)));
      }
    }
  }
  template <class Each>
  void each_edge(Each each) const {
    for (std::size_t from = 0; from != nodes_; ++from) {
      each_of(from, [&](std::size_t to) { each(from, to); });
    }
  }

  std::size_t nodes_;
  std::size_t words_;
  std::vector<std::uint64_t> rows_;
};

}  // namespace phasebit::testing::explorer::detail
