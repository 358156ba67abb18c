// SPDX-License-Identifier: BSL-1.0
// AES-XTS (IEEE 1619, NIST SP 800-38E) for engines without a crypto library.
//
// Side channels: the portable code looks bytes up in tables at addresses that depend on key and data, so
// that its time depends on them through the cache. It is a fallback for firmware whose caches no other code
// shares. The x86 code uses the AES instructions for data, which take constant time; the key schedule
// is computed by table look-ups once per key. Elsewhere use a crypto library (hosted/accel_openssl.hpp).
#pragma once

#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/detail/stream.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::accel {

namespace detail::aes {

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

}  // namespace detail::aes

// The two keys of AES-XTS, expanded. Copies hold key material: wipe() what is no longer used.
class xts_key {
 public:
  xts_key() noexcept = default;

  // 32 bytes (AES-128) or 64 (AES-256): the data key, then the tweak key. Errors: invalid_argument for
  // another size, or where the two halves are equal (SP 800-38E forbids it).
  [[nodiscard]] static constexpr result<xts_key> make(std::span<const std::uint8_t> key) noexcept {
    if (key.size() != 32 && key.size() != 64) {
      return failure(errc::invalid_argument, "a key of AES-XTS has 32 or 64 bytes", key.size());
    }
    const std::size_t half = key.size() / 2;
    unsigned difference = 0;
    for (std::size_t k = 0; k != half; ++k)
      difference |= static_cast<unsigned>(key[k] ^ key[half + k]);
    if (difference == 0) {
      return failure(errc::invalid_argument, "the two keys of AES-XTS must differ");
    }
    xts_key k;
    k.rounds = half == 16 ? 10 : 14;
    k.forward = detail::aes::expand(key.first(half));
    k.backward = detail::aes::invert(k.forward, k.rounds);
    k.tweak = detail::aes::expand(key.subspan(half));
    return k;
  }
  // Overwrites the key material in this object, as far as a compiler can be made to do it.
  void wipe() noexcept {
    forward = backward = tweak = {};
    rounds = 0;
    phasebit::detail::compiler_barrier();
  }

  detail::aes::schedule forward{};
  detail::aes::schedule backward{};
  detail::aes::schedule tweak{};
  unsigned rounds = 0;
};

namespace detail::aes {

// The tweak of the next block: times x in GF(2^128), little-endian.
constexpr void next_tweak(block& t) noexcept {
  unsigned carry = 0;
  for (std::uint8_t& b : t) {
    const unsigned v = static_cast<unsigned>(b) << 1 | carry;
    b = static_cast<std::uint8_t>(v);
    carry = v >> 8;
  }
  t[0] = static_cast<std::uint8_t>(t[0] ^ (carry != 0 ? 0x87U : 0U));
}

template <bool Decrypt>
void run_portable(const xts_key& key, block& tweak, const std::byte* in, std::byte* out,
                  std::size_t blocks) noexcept {
  const schedule& s = Decrypt ? key.backward : key.forward;
  for (; blocks != 0; --blocks, in += 16, out += 16) {
    block b;
    __builtin_memcpy(b.data(), in, 16);
    for (std::size_t k = 0; k != 16; ++k) b[k] = static_cast<std::uint8_t>(b[k] ^ tweak[k]);
    b = apply<Decrypt>(s, key.rounds, b);
    for (std::size_t k = 0; k != 16; ++k) b[k] = static_cast<std::uint8_t>(b[k] ^ tweak[k]);
    __builtin_memcpy(out, b.data(), 16);
    next_tweak(tweak);
  }
}

#if defined(__x86_64__)

[[gnu::target("aes,sse4.1")]] inline v2di load128(const void* p) noexcept {
  v2di v;
  __builtin_memcpy(&v, p, 16);
  return v;
}
[[gnu::target("aes,sse4.1")]] inline v2di doubled(v2di t) noexcept {
  const auto low = static_cast<std::uint64_t>(t[0]);
  const auto high = static_cast<std::uint64_t>(t[1]);
  const std::uint64_t fed = (high >> 63) * 0x87;
  return v2di{static_cast<long long>((low << 1) ^ fed),
              static_cast<long long>((high << 1) | (low >> 63))};
}

// Blocks in groups, so that the instruction's latency is hidden.
template <bool Decrypt, unsigned Group>
[[gnu::target("aes,sse4.1")]] inline void run_group(const xts_key& key, v2di& tweak,
                                                    const std::byte*& in, std::byte*& out,
                                                    std::size_t& blocks) noexcept {
  const schedule& s = Decrypt ? key.backward : key.forward;
  const unsigned rounds = key.rounds;
  while (blocks >= Group) {
    v2di t[Group];
    v2di b[Group];
    const v2di first = load128(s.keys[0].data());
    for (unsigned k = 0; k != Group; ++k) {
      t[k] = tweak;
      tweak = doubled(tweak);
      b[k] = load128(in + std::size_t{16} * k) ^ t[k] ^ first;
    }
    for (unsigned r = 1; r != rounds; ++r) {
      const v2di round = load128(s.keys[r].data());
      for (unsigned k = 0; k != Group; ++k) {
        if constexpr (Decrypt) {
          b[k] = __builtin_ia32_aesdec128(b[k], round);
        } else {
          b[k] = __builtin_ia32_aesenc128(b[k], round);
        }
      }
    }
    const v2di last = load128(s.keys[rounds].data());
    for (unsigned k = 0; k != Group; ++k) {
      if constexpr (Decrypt) {
        b[k] = __builtin_ia32_aesdeclast128(b[k], last) ^ t[k];
      } else {
        b[k] = __builtin_ia32_aesenclast128(b[k], last) ^ t[k];
      }
      __builtin_memcpy(out + std::size_t{16} * k, &b[k], 16);
    }
    in += std::size_t{16} * Group;
    out += std::size_t{16} * Group;
    blocks -= Group;
  }
}
[[gnu::target("aes,sse4.1")]] inline void encrypt_block_x86(const schedule& s, unsigned rounds,
                                                            block& b) noexcept {
  v2di v = load128(b.data()) ^ load128(s.keys[0].data());
  for (unsigned r = 1; r != rounds; ++r) v = __builtin_ia32_aesenc128(v, load128(s.keys[r].data()));
  v = __builtin_ia32_aesenclast128(v, load128(s.keys[rounds].data()));
  __builtin_memcpy(b.data(), &v, 16);
}
template <bool Decrypt>
[[gnu::target("aes,sse4.1")]] inline void run_x86(const xts_key& key, block& tweak,
                                                  const std::byte* in, std::byte* out,
                                                  std::size_t blocks) noexcept {
  v2di t = load128(tweak.data());
  run_group<Decrypt, 8>(key, t, in, out, blocks);
  run_group<Decrypt, 1>(key, t, in, out, blocks);
  __builtin_memcpy(tweak.data(), &t, 16);
}

#endif

}  // namespace detail::aes

// The x86 AES instructions; chosen by the caller like x86_instructions, for a processor that has them.
struct x86_aes_instructions {};
#if defined(__x86_64__) && defined(__AES__) && defined(__SSE4_1__)
using native_aes_instructions = x86_aes_instructions;
#else
using native_aes_instructions = portable_instructions;
#endif

// Encrypts or decrypts `units` data units of `unit_bytes` bytes, a multiple of 16 (ciphertext stealing is
// not supported), the first of which has number `first`. The streams are disjoint or the same.
template <bool Decrypt, class Instructions = native_aes_instructions>
void xts_units(const xts_key& key, std::uint64_t first, std::uint32_t unit_bytes,
               detail::stream& to, detail::stream& from, std::uint64_t units) noexcept {
  using namespace detail::aes;
  const auto run = [&key](block& tweak, const std::byte* in, std::byte* out,
                          std::size_t blocks) noexcept {
#if defined(__x86_64__)
    if constexpr (std::is_same_v<Instructions, x86_aes_instructions>) {
      run_x86<Decrypt>(key, tweak, in, out, blocks);
      return;
    }
#endif
    run_portable<Decrypt>(key, tweak, in, out, blocks);
  };
  std::span<std::byte> a;
  std::span<std::byte> b;
  const auto gather = [](std::span<std::byte>& part, detail::stream& s, auto move) noexcept {
    for (std::size_t k = 0; k != 16; ++k) {
      if (part.empty()) part = s.take(16 - k);
      move(part.front(), k);
      part = part.subspan(1);
    }
  };
  for (std::uint64_t unit = first; unit != first + units; ++unit) {
    block tweak{};
    for (unsigned k = 0; k != 8; ++k) tweak[k] = static_cast<std::uint8_t>(unit >> (8 * k));
#if defined(__x86_64__)
    if constexpr (std::is_same_v<Instructions, x86_aes_instructions>) {
      encrypt_block_x86(key.tweak, key.rounds, tweak);
    } else
#endif
    {
      tweak = apply<false>(key.tweak, key.rounds, tweak);
    }
    for (std::size_t left = unit_bytes; left != 0;) {
      if (a.empty()) a = from.take(left);
      if (b.empty()) b = to.take(left);
      std::size_t n = a.size() < b.size() ? a.size() : b.size();
      if (n > left) n = left;
      n &= ~std::size_t{15};
      if (n != 0) {
        run(tweak, a.data(), b.data(), n / 16);
        a = a.subspan(n);
        b = b.subspan(n);
      } else {
        std::byte held[16];
        gather(a, from, [&](std::byte& x, std::size_t k) noexcept { held[k] = x; });
        run(tweak, held, held, 1);
        gather(b, to, [&](std::byte& x, std::size_t k) noexcept { x = held[k]; });
        n = 16;
      }
      left -= n;
    }
  }
}

}  // namespace phasebit::accel
