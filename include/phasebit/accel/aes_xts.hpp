// SPDX-License-Identifier: BSL-1.0
// AES-XTS (IEEE 1619, NIST SP 800-38E) for engines without a crypto library.
//
// Side channels: the portable code looks bytes up in tables at addresses that depend on key and data, so
// that its time depends on them through the cache. It is a fallback for firmware whose caches no other code
// shares. The x86 code uses the AES instructions for data, which take constant time; the key schedule
// is computed by table look-ups once per key. Elsewhere use a crypto library (hosted/accel_openssl.hpp).
#pragma once

#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/detail/aes.hpp>
#include <phasebit/accel/detail/aes_wide.hpp>
#include <phasebit/accel/detail/stream.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::accel {

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

// The x86 AES instructions; chosen by the caller like x86_instructions, for a processor that has them. The
// second needs VAES, VPCLMULQDQ and AVX-512 (F, BW, DQ, VL).
struct x86_aes_instructions {};
struct x86_vaes_instructions {};
#if defined(__x86_64__) && defined(__VAES__) && defined(__VPCLMULQDQ__) && defined(__AVX512F__) && \
    defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
using native_aes_instructions = x86_vaes_instructions;
#elif defined(__x86_64__) && defined(__AES__) && defined(__SSE4_1__)
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
  [[maybe_unused]] constexpr bool vaes = std::is_same_v<Instructions, x86_vaes_instructions>;
  [[maybe_unused]] constexpr bool x86 = vaes || std::is_same_v<Instructions, x86_aes_instructions>;
  const auto run = [&key](block& tweak, const std::byte* in, std::byte* out,
                          std::size_t blocks) noexcept {
#if defined(__x86_64__)
    if constexpr (vaes) {
      run_wide<Decrypt>(Decrypt ? key.backward : key.forward, key.rounds, tweak, in, out, blocks);
      if (blocks == 0) return;
    }
    if constexpr (x86) {
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
  [[maybe_unused]] block tweaks[4];  // of the next data units
  for (std::uint64_t unit = first; unit != first + units; ++unit) {
    block tweak{};
    for (unsigned k = 0; k != 8; ++k) tweak[k] = static_cast<std::uint8_t>(unit >> (8 * k));
#if defined(__x86_64__)
    if constexpr (vaes) {
      if ((unit - first) % 4 == 0) tweaks_wide(key.tweak, key.rounds, unit, tweaks);
      tweak = tweaks[(unit - first) % 4];
    } else if constexpr (x86) {
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
