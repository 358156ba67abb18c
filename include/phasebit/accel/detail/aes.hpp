// SPDX-License-Identifier: BSL-1.0
// AES (FIPS 197) in plain C++: tables, key schedules and one block. aes_xts.hpp names the side channels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel::detail::aes {

using block = std::array<std::uint8_t, 16>;

[[nodiscard]] constexpr std::uint8_t times2(std::uint8_t v) noexcept {
  return static_cast<std::uint8_t>((unsigned{v} << 1) ^ ((v & 0x80U) != 0 ? 0x1bU : 0U));
}
[[nodiscard]] constexpr std::uint8_t multiply(std::uint8_t a, std::uint8_t b) noexcept {
  std::uint8_t product = 0;
  for (; b != 0; b = static_cast<std::uint8_t>(b >> 1), a = times2(a)) {
    if ((b & 1U) != 0) product = static_cast<std::uint8_t>(product ^ a);
  }
  return product;
}

struct boxes {
  std::array<std::uint8_t, 256> forward{};
  std::array<std::uint8_t, 256> inverse{};
  // One column of the round: substitution and mixing of a byte in row 0. Rotated for the other rows.
  std::array<std::uint32_t, 256> mix{};
  std::array<std::uint32_t, 256> unmix{};
};
consteval boxes make_boxes() {
  boxes b{};
  // Powers of the generator 3 give inverses in GF(2^8).
  std::array<std::uint8_t, 256> power{};
  std::array<std::uint8_t, 256> log{};
  std::uint8_t v = 1;
  for (unsigned k = 0; k != 255; ++k) {
    power[k] = v;
    log[v] = static_cast<std::uint8_t>(k);
    v = static_cast<std::uint8_t>(v ^ times2(v));
  }
  for (unsigned n = 0; n != 256; ++n) {
    unsigned x = n == 0 ? 0U : power[(255U - log[n]) % 255U];
    unsigned s = x;
    for (int k = 0; k != 4; ++k) {
      x = ((x << 1) | (x >> 7)) & 0xff;
      s ^= x;
    }
    s ^= 0x63;
    b.forward[n] = static_cast<std::uint8_t>(s);
    b.inverse[s] = static_cast<std::uint8_t>(n);
  }
  for (unsigned n = 0; n != 256; ++n) {
    const std::uint8_t s = b.forward[n];
    b.mix[n] = static_cast<std::uint32_t>(times2(s)) | static_cast<std::uint32_t>(s) << 8 |
               static_cast<std::uint32_t>(s) << 16 |
               static_cast<std::uint32_t>(times2(s) ^ s) << 24;
    const std::uint8_t u = b.inverse[n];
    b.unmix[n] = static_cast<std::uint32_t>(multiply(u, 14)) |
                 static_cast<std::uint32_t>(multiply(u, 9)) << 8 |
                 static_cast<std::uint32_t>(multiply(u, 13)) << 16 |
                 static_cast<std::uint32_t>(multiply(u, 11)) << 24;
  }
  return b;
}
template <class>
inline constexpr boxes table = make_boxes();

// Round keys as bytes in memory order; `rounds` + 1 of them.
struct schedule {
  std::array<block, 15> keys{};
};

[[nodiscard]] constexpr schedule expand(std::span<const std::uint8_t> key) noexcept {
  const auto& s = table<void>.forward;
  const std::size_t words = key.size() / 4;
  const std::size_t total = 4 * (words + 7);
  std::array<std::array<std::uint8_t, 4>, 60> w{};
  for (std::size_t k = 0; k != key.size(); ++k) w[k / 4][k % 4] = key[k];
  std::uint8_t round = 1;
  for (std::size_t k = words; k != total; ++k) {
    std::array<std::uint8_t, 4> t = w[k - 1];
    if (k % words == 0) {
      t = {static_cast<std::uint8_t>(s[t[1]] ^ round), s[t[2]], s[t[3]], s[t[0]]};
      round = times2(round);
    } else if (words == 8 && k % words == 4) {
      t = {s[t[0]], s[t[1]], s[t[2]], s[t[3]]};
    }
    for (std::size_t i = 0; i != 4; ++i)
      w[k][i] = static_cast<std::uint8_t>(w[k - words][i] ^ t[i]);
  }
  schedule out{};
  for (std::size_t k = 0; k != total; ++k) {
    for (std::size_t i = 0; i != 4; ++i) out.keys[k / 4][k % 4 * 4 + i] = w[k][i];
  }
  return out;
}
// The schedule of the equivalent inverse cipher: in reverse, the inner keys unmixed.
[[nodiscard]] constexpr schedule invert(const schedule& forward, unsigned rounds) noexcept {
  schedule out{};
  for (unsigned r = 0; r <= rounds; ++r) {
    out.keys[r] = forward.keys[rounds - r];
    if (r == 0 || r == rounds) continue;
    for (std::size_t c = 0; c != 4; ++c) {
      std::array<std::uint8_t, 4> a{};
      for (std::size_t i = 0; i != 4; ++i) a[i] = out.keys[r][4 * c + i];
      for (std::size_t i = 0; i != 4; ++i) {
        out.keys[r][4 * c + i] =
            static_cast<std::uint8_t>(multiply(a[i], 14) ^ multiply(a[(i + 1) % 4], 11) ^
                                      multiply(a[(i + 2) % 4], 13) ^ multiply(a[(i + 3) % 4], 9));
      }
    }
  }
  return out;
}

[[nodiscard]] constexpr std::uint32_t word_of(const block& b, std::size_t c) noexcept {
  return static_cast<std::uint32_t>(b[4 * c]) | static_cast<std::uint32_t>(b[4 * c + 1]) << 8 |
         static_cast<std::uint32_t>(b[4 * c + 2]) << 16 |
         static_cast<std::uint32_t>(b[4 * c + 3]) << 24;
}
[[nodiscard]] constexpr std::uint32_t rotated(std::uint32_t v, unsigned bits) noexcept {
  return bits == 0 ? v : v << bits | v >> (32 - bits);
}

template <bool Decrypt>
[[nodiscard]] constexpr block apply(const schedule& s, unsigned rounds, const block& in) noexcept {
  const auto& t = Decrypt ? table<void>.unmix : table<void>.mix;
  const auto& last = Decrypt ? table<void>.inverse : table<void>.forward;
  // Row r of a column comes from r columns to the right, or to the left in the inverse.
  constexpr std::size_t step = Decrypt ? 3 : 1;
  std::array<std::uint32_t, 4> state{};
  for (std::size_t c = 0; c != 4; ++c) state[c] = word_of(in, c) ^ word_of(s.keys[0], c);
  for (unsigned r = 1; r != rounds; ++r) {
    std::array<std::uint32_t, 4> next{};
    for (std::size_t c = 0; c != 4; ++c) {
      std::uint32_t v = word_of(s.keys[r], c);
      for (unsigned row = 0; row != 4; ++row) {
        v ^= rotated(t[state[(c + row * step) % 4] >> (8 * row) & 0xff], 8 * row);
      }
      next[c] = v;
    }
    state = next;
  }
  block out{};
  for (std::size_t c = 0; c != 4; ++c) {
    for (unsigned row = 0; row != 4; ++row) {
      const std::uint8_t b = last[state[(c + row * step) % 4] >> (8 * row) & 0xff];
      out[4 * c + row] = static_cast<std::uint8_t>(b ^ s.keys[rounds][4 * c + row]);
    }
  }
  return out;
}

}  // namespace phasebit::accel::detail::aes
