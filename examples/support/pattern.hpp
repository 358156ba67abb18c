// SPDX-License-Identifier: BSL-1.0
// The data written by --verify: each 512 bytes contain their block, their run, and how often that
// block was written before. No two blocks and no two writes are equal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace example {

class pattern {
 public:
  static constexpr std::size_t sector = 512;

  explicit pattern(std::uint64_t seed) noexcept : seed_(seed) {}

  // `at` is the byte on the disk at which `bytes` begin; both are multiples of `sector`.
  void fill(std::span<std::byte> bytes, std::uint64_t at, std::uint32_t generation) const noexcept {
    for (; !bytes.empty(); bytes = bytes.subspan(sector), at += sector) {
      std::uint64_t word = first(at, generation);
      for (std::size_t i = 0; i != sector; i += sizeof(word), word = next(word)) {
        std::memcpy(bytes.data() + i, &word, sizeof(word));
      }
    }
  }
  // The first byte that is not what fill() would have put there.
  [[nodiscard]] std::optional<std::size_t> mismatch(std::span<const std::byte> bytes,
                                                    std::uint64_t at,
                                                    std::uint32_t generation) const noexcept {
    for (std::size_t begin = 0; begin != bytes.size(); begin += sector) {
      std::uint64_t word = first(at + begin, generation);
      for (std::size_t i = begin; i != begin + sector; i += sizeof(word), word = next(word)) {
        if (std::memcmp(bytes.data() + i, &word, sizeof(word)) == 0) continue;
        std::size_t byte = 0;
        while (std::memcmp(bytes.data() + i + byte, reinterpret_cast<std::byte*>(&word) + byte,
                           1) == 0) {
          ++byte;
        }
        return i + byte;
      }
    }
    return std::nullopt;
  }
  // The contents of a buffer before a read, so that a missing block is detected.
  static void spoil(std::span<std::byte> bytes) noexcept {
    for (std::size_t i = 0; i != bytes.size(); i += sector) {
      std::memset(bytes.data() + i, 0xd5, sizeof(std::uint64_t));
    }
  }

 private:
  // splitmix64: one step mixes place, run and generation; a Weyl sequence follows.
  [[nodiscard]] std::uint64_t first(std::uint64_t at, std::uint32_t generation) const noexcept {
    std::uint64_t z = (at / sector + 1) * weyl ^ seed_ ^ std::uint64_t{generation} << 56;
    z = (z ^ z >> 30) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ z >> 27) * 0x94d0'49bb'1331'11eb;
    return z ^ z >> 31;
  }
  [[nodiscard]] static std::uint64_t next(std::uint64_t word) noexcept { return word + weyl; }

  static constexpr std::uint64_t weyl = 0x9e37'79b9'7f4a'7c15;
  std::uint64_t seed_;
};

}  // namespace example
