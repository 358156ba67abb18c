// SPDX-License-Identifier: BSL-1.0
// A content-addressable memory in software: where a key is, in the same time whatever is stored.
#pragma once

#include <phasebit/core/expects.hpp>
#include <phasebit/core/int_cast.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

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

// An index from hashes to numbers below Count; the keys themselves are the caller's, who compares them.
// Cuckoo hashing: a key lies in one of two buckets of four places of 8 bytes, so that a look-up reads two
// cache lines at most, and mostly one. One thread at a time; look-ups may run beside each other.
template <std::size_t Count>
class exact_match {
 public:
  static constexpr std::uint32_t none = 0xffff'ffff;

  // The number whose key has this hash and for which `is_it(number)` is true; none otherwise.
  template <class IsIt>
  [[nodiscard]] constexpr std::uint32_t find(std::uint64_t hash, IsIt&& is_it) const noexcept {
    const std::uint32_t tag = tag_of(hash);
    std::size_t at = first(hash);
    for (unsigned turn = 0; turn != 2; ++turn, at = other(at, tag)) {
      for (const place& p : buckets_[at]) {
        if (p.tag == tag && p.number != 0 && is_it(p.number - 1)) return p.number - 1;
      }
    }
    return none;
  }
  // False where no place was found; then nothing has changed. The key is not there yet.
  [[nodiscard]] constexpr bool insert(std::uint64_t hash, std::uint32_t number) noexcept {
    PHASEBIT_EXPECTS(number < Count, "a number beyond the index");
    constexpr std::size_t max_moves = 64;
    std::array<std::uint32_t, max_moves> path{};
    place carried{tag_of(hash), number + 1};
    std::size_t at = first(hash);
    if (put(at, carried)) return true;
    at = other(at, carried.tag);
    for (std::size_t moves = 0; !put(at, carried); ++moves) {
      if (moves == max_moves) {
        // Back along the path, each one into the place that it was taken from.
        while (moves-- != 0) exchange(path[moves], carried);
        return false;
      }
      path[moves] = static_cast<std::uint32_t>(at * ways + moves % ways);
      exchange(path[moves], carried);
      at = other(at, carried.tag);
    }
    return true;
  }
  constexpr bool erase(std::uint64_t hash, std::uint32_t number) noexcept {
    const std::uint32_t tag = tag_of(hash);
    std::size_t at = first(hash);
    for (unsigned turn = 0; turn != 2; ++turn, at = other(at, tag)) {
      for (place& p : buckets_[at]) {
        if (p.tag == tag && p.number == number + 1) {
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
    std::uint32_t tag = 0;
    std::uint32_t number = 0;  // plus one; 0 is empty
  };
  using bucket = std::array<place, ways>;

  [[nodiscard]] static constexpr std::uint32_t tag_of(std::uint64_t hash) noexcept {
    return static_cast<std::uint32_t>(hash >> 32);
  }
  [[nodiscard]] static constexpr std::size_t first(std::uint64_t hash) noexcept {
    return int_cast<std::size_t>(hash & (count - 1));
  }
  // The other bucket of a key that has a place in `at`; its own other is `at` again.
  [[nodiscard]] static constexpr std::size_t other(std::size_t at, std::uint32_t tag) noexcept {
    return at ^ int_cast<std::size_t>(mix(tag) >> 7 & (count - 1));
  }
  constexpr bool put(std::size_t at, const place& what) noexcept {
    for (place& p : buckets_[at]) {
      if (p.number == 0) {
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

  alignas(32) std::array<bucket, count> buckets_{};
};

}  // namespace phasebit::sriov::detail
