// SPDX-License-Identifier: BSL-1.0
// A content-addressable memory in software: keys to values, in the same time whatever it holds.
#pragma once

#include <phasebit/core/expects.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace phasebit::sriov::detail {

[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t key) noexcept {
  key ^= key >> 32;
  key *= 0x9e37'79b9'7f4a'7c15;
  return key ^ key >> 29;
}

// At least twice as many places as keys, so that a place is found for nearly every set of keys.
[[nodiscard]] constexpr std::size_t exact_match_buckets(std::size_t keys) noexcept {
  std::size_t buckets = 1;
  while (buckets * 2 < keys) buckets *= 2;
  return buckets;
}

// Cuckoo hashing: a key lies in one of two buckets of four places, so that a look-up compares at most
// eight keys in two cache lines. Key has operator== and mix(key) finds its hash. Value{} marks an empty
// place and is no value. One thread at a time; look-ups may run beside each other.
template <class Key, class Value, std::size_t Count>
class exact_match {
 public:
  [[nodiscard]] constexpr Value find(const Key& key) const noexcept {
    const std::uint64_t hash = mix(key);
    const bucket& a = buckets_[first(hash)];
    for (const place& p : a) {
      if (p.key == key && p.value != Value{}) return p.value;
    }
    const bucket& b = buckets_[second(hash)];
    for (const place& p : b) {
      if (p.key == key && p.value != Value{}) return p.value;
    }
    return Value{};
  }
  // False where no place was found; then nothing has changed. The key is not there yet.
  [[nodiscard]] constexpr bool insert(const Key& key, const Value& value) noexcept {
    PHASEBIT_EXPECTS(value != Value{}, "the empty value marks empty places");
    constexpr std::size_t max_moves = 64;
    std::array<std::uint32_t, max_moves> path{};
    place carried{key, value};
    std::size_t at = first(mix(key));
    if (put(at, carried)) return true;
    at = second(mix(key));
    for (std::size_t moves = 0; !put(at, carried); ++moves) {
      if (moves == max_moves) {
        // Back along the path, each key into the place that it was taken from.
        while (moves-- != 0) exchange(path[moves], carried);
        return false;
      }
      path[moves] = static_cast<std::uint32_t>(at * ways + moves % ways);
      exchange(path[moves], carried);
      const std::uint64_t hash = mix(carried.key);
      at = first(hash) == at ? second(hash) : first(hash);
    }
    return true;
  }
  constexpr bool erase(const Key& key) noexcept {
    const std::uint64_t hash = mix(key);
    for (const std::size_t at : {first(hash), second(hash)}) {
      for (place& p : buckets_[at]) {
        if (p.key == key && p.value != Value{}) {
          p = {};
          return true;
        }
      }
    }
    return false;
  }

 private:
  static constexpr std::size_t ways = 4;
  static constexpr std::size_t count = exact_match_buckets(Count);
  struct place {
    Key key{};
    Value value{};
  };
  using bucket = std::array<place, ways>;

  [[nodiscard]] static constexpr std::size_t first(std::uint64_t hash) noexcept {
    return static_cast<std::size_t>(hash & (count - 1));
  }
  [[nodiscard]] static constexpr std::size_t second(std::uint64_t hash) noexcept {
    return static_cast<std::size_t>(hash >> 32 & (count - 1));
  }
  constexpr bool put(std::size_t at, const place& what) noexcept {
    for (place& p : buckets_[at]) {
      if (p.value == Value{}) {
        p = what;
        return true;
      }
    }
    return false;
  }
  constexpr void exchange(std::size_t slot, place& carried) noexcept {
    place& there = buckets_[slot / ways][slot % ways];
    const place old = there;
    there = carried;
    carried = old;
  }

  std::array<bucket, count> buckets_{};
};

}  // namespace phasebit::sriov::detail
