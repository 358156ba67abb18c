// SPDX-License-Identifier: BSL-1.0
#include <phasebit/core/copy.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <doctest/doctest.h>
#include <support/death.hpp>

using namespace phasebit;

namespace {

template <class Word, std::size_t Count>
struct entry {
  std::array<le<Word>, Count> words;
};

using words_of_four = detail::words_of<entry<std::uint32_t, 4>>;
static_assert(words_of_four::count == 4 && sizeof(words_of_four) == 16);
static_assert(detail::words_of<entry<std::uint16_t, 3>>::count == 3, "le<16> is read untorn");
static_assert(detail::words_of<entry<std::uint8_t, 5>>::count == 5);
static_assert(sizeof(void*) != 8 || detail::words_of<entry<std::uint64_t, 8>>::count == 8);

template <class Entry>
void try_entry() {
  std::array<Entry, 3> shared{};
  std::memset(&shared, 0xee, sizeof shared);
  Entry value{};
  auto bytes = writable_wire_bytes(value);
  for (std::size_t i = 0; i != bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + 1);
  overwrite(shared[1], value);
  const Entry copy = snapshot(shared[1]);
  CHECK(std::memcmp(&copy, &value, sizeof value) == 0);
  // The neighbours are as they were.
  for (const std::size_t i : {0U, 2U}) {
    for (const std::byte b : wire_bytes(shared[i])) REQUIRE(b == std::byte{0xee});
  }
  // The copy no longer follows the original.
  std::memset(&shared[1], 0, sizeof shared[1]);
  CHECK(std::memcmp(&copy, &value, sizeof value) == 0);
}

}  // namespace

TEST_CASE("a snapshot is the entry, whatever its words and its length, and stays what it is") {
  try_entry<entry<std::uint8_t, 1>>();
  try_entry<entry<std::uint8_t, 7>>();
  try_entry<entry<std::uint16_t, 3>>();
  try_entry<entry<std::uint32_t, 4>>();
  try_entry<entry<std::uint64_t, 8>>();
  try_entry<entry<std::uint64_t, 16>>();
  try_entry<entry<std::uint64_t, 17>>();
  try_entry<entry<std::uint32_t, 1024>>();
}

TEST_CASE("copy_shared copies all bytes, none included") {
  std::vector<std::byte> from(100);
  for (std::size_t i = 0; i != from.size(); ++i) from[i] = static_cast<std::byte>(i);
  std::vector<std::byte> to(100);
  copy_shared(to, from);
  CHECK(to == from);
  copy_shared({}, {});
  CHECK(phasebit_test::breaks("the two sides of a copy differ in size",
                              [&] { copy_shared(to, std::span{from}.first(99)); }));
}
