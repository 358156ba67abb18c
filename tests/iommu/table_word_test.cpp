// SPDX-License-Identifier: BSL-1.0
#include <phasebit/iommu/page_table/table_word.hpp>

#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit::iommu;

namespace {

// Everything that a reader looks at, after each step of a writer.
struct memory_state {
  table_word word;
  std::uint32_t count;
  const void* writing;
};

struct machine {
  alignas(8) table_word word = 0;
  detail::write_record record;

  void restore(const memory_state& s) noexcept {
    word = s.word;
    record.count.store(s.count);
    record.word.store(s.writing);
  }
  [[nodiscard]] memory_state snapshot() const noexcept {
    return {word, record.count.load(), record.word.load()};
  }
};

// All states that `values`, stored one after the other, go through.
std::vector<memory_state> history(machine& m, const std::vector<std::uint64_t>& values) {
  std::vector<memory_state> states;
  m.word = values.front();
  states.push_back(m.snapshot());
  for (std::size_t i = 1; i != values.size(); ++i) {
    detail::halves{&m.word, m.record}.store(values[i],
                                            [&]() noexcept { states.push_back(m.snapshot()); });
    CHECK(m.word == values[i]);
  }
  return states;
}

}  // namespace

TEST_CASE("a word that changes in halves is read as a value that was stored, or as absent") {
  // Equal low halves with different high ones, and the reverse.
  const std::vector<std::vector<std::uint64_t>> sequences{
      {0x1'0000'1003, 0x2'0000'2003, 0x3'0000'1003},
      {0x1'0000'1003, 0, 0x3'0000'1003},
      {0x1'0000'1003, 0x3'0000'1003},
      {0x7'0000'0000, 0x8'0000'1003, 0x7'0000'0000},
      {0, 0x5'0000'0003, 0x6'0000'0003},
  };
  std::size_t readings = 0;
  for (const auto& values : sequences) {
    machine m;
    const std::vector<memory_state> states = history(m, values);
    const std::set<std::uint64_t> stored(values.begin(), values.end());
    const std::size_t n = states.size();
    // The reader has five gaps. In each the writer goes on by any number of steps.
    std::array<std::size_t, 6> at{};
    for (at[0] = 0; at[0] != n; ++at[0])
      for (at[1] = at[0]; at[1] != n; ++at[1])
        for (at[2] = at[1]; at[2] != n; ++at[2])
          for (at[3] = at[2]; at[3] != n; ++at[3])
            for (at[4] = at[3]; at[4] != n; ++at[4])
              for (at[5] = at[4]; at[5] != n; ++at[5]) {
                m.restore(states[at[0]]);
                std::size_t gap = 0;
                const std::uint64_t got = detail::halves{&m.word, m.record}.load([&]() noexcept {
                  if (gap != 5) m.restore(states[at[++gap]]);
                });
                ++readings;
                const bool good = got == 0 || stored.count(got) != 0;
                if (!good) CAPTURE(got);
                REQUIRE(good);
                // A reader that is alone gets the value itself.
                if (at[0] == 0 && at[5] == 0) REQUIRE(got == values.front());
                if (at[0] == n - 1) REQUIRE(got == values.back());
              }
  }
  CHECK(readings > 10000);
}

TEST_CASE("a write in progress to another word does not hide a word whose low half is zero") {
  machine m;
  alignas(8) table_word other = 0;
  m.word = 0x9'0000'0000;
  detail::halves{&other, m.record}.store(0x4'0000'0003, [&]() noexcept {
    CHECK(detail::halves{&m.word, m.record}.load() == 0x9'0000'0000);
  });
  CHECK(other == 0x4'0000'0003);
}

TEST_CASE("entries are little-endian in memory, and an exchange reports what it found") {
  alignas(8) table_word word = 0;
  detail::store_entry(&word, 0x0102'0304'0506'0708);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&word);
  CHECK(bytes[0] == 8);
  CHECK(bytes[7] == 1);
  CHECK(detail::load_entry(&word) == 0x0102'0304'0506'0708);
  std::uint64_t expected = 5;
  CHECK_FALSE(detail::exchange_entry(&word, expected, 9));
  CHECK(expected == 0x0102'0304'0506'0708);
  CHECK(detail::exchange_entry(&word, expected, 9));
  CHECK(detail::load_entry_relaxed(&word) == 9);
}
