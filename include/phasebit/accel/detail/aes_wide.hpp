// SPDX-License-Identifier: BSL-1.0
// AES-XTS in vectors of four blocks (VAES, AVX-512), and a kernel that sums the cipher text for T10 DIF
// while it is still in registers: AES and carry-less products use different execution ports.
#pragma once

#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/detail/aes.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

namespace phasebit::accel::detail::aes {

using v8di [[gnu::vector_size(64)]] = long long;
using v8du [[gnu::vector_size(64)]] = unsigned long long;
using v64qi [[gnu::vector_size(64)]] = char;

// The functions below keep four vectors of four blocks each in registers.
inline constexpr unsigned wide_vectors = 4;
inline constexpr std::size_t wide_blocks = 16;
inline constexpr std::size_t wide_bytes = 256;
using wide = v8di[wide_vectors];

// One round, in each of four lanes.
template <bool Decrypt, bool Last>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
round_wide(v8di& b, const v8di& key) noexcept {
#  if defined(__clang__)
  if constexpr (Decrypt) {
    b = Last ? __builtin_ia32_aesdeclast512(b, key) : __builtin_ia32_aesdec512(b, key);
  } else {
    b = Last ? __builtin_ia32_aesenclast512(b, key) : __builtin_ia32_aesenc512(b, key);
  }
#  else
  const auto in = reinterpret_cast<v64qi>(b);
  const auto k = reinterpret_cast<v64qi>(key);
  if constexpr (Decrypt) {
    b = reinterpret_cast<v8di>(Last ? __builtin_ia32_vaesdeclast_v64qi(in, k)
                                    : __builtin_ia32_vaesdec_v64qi(in, k));
  } else {
    b = reinterpret_cast<v8di>(Last ? __builtin_ia32_vaesenclast_v64qi(in, k)
                                    : __builtin_ia32_vaesenc_v64qi(in, k));
  }
#  endif
}
// The carry-less product of one half of each lane: bit 0 of Which selects a's, bit 4 b's.
template <int Which>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
multiply_wide(v8di& out, const v8di& a, const v8di& b) noexcept {
#  if defined(__clang__)
  out = __builtin_ia32_pclmulqdq512(a, b, Which);
#  else
  out = __builtin_ia32_vpclmulqdq_v8di(a, b, Which);
#  endif
}
// 16 bytes in each of four lanes.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
broadcast(v8di& out, const void* p) noexcept {
  v2di one;
  __builtin_memcpy(&one, p, 16);
#  if defined(__clang__)
  out = __builtin_shufflevector(one, one, 0, 1, 0, 1, 0, 1, 0, 1);
#  else
  out = __builtin_ia32_broadcasti64x2_512_mask(one, v8di{}, 0xff);
#  endif
}

// Each lane times x to the power N, N at most 56: what leaves the top comes back times 0x87.
template <unsigned N>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
advance_wide(v8di& t) noexcept {
  const auto bits = reinterpret_cast<v8du>(t);
  const auto out = reinterpret_cast<v8di>(bits >> (64 - N));
  const v8di zero{};
  const v8di fold{0x87, 0, 0x87, 0, 0x87, 0, 0x87, 0};
  v8di fed;
  multiply_wide<0x01>(fed, out, fold);
  t = reinterpret_cast<v8di>(bits << N) ^ fed ^
      __builtin_shufflevector(out, zero, 8, 0, 8, 2, 8, 4, 8, 6);
}
// The tweaks of the first 16 blocks of a data unit whose first tweak is `first`.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
spread_tweak(wide& t, const std::uint8_t* first) noexcept {
  v8di same;
  broadcast(same, first);
  const auto bits = reinterpret_cast<v8du>(same);
  const v8du count{0, 0, 1, 1, 2, 2, 3, 3};
  const auto out = reinterpret_cast<v8di>((bits >> 1) >> (63 - count));
  const v8di zero{};
  const v8di fold{0x87, 0, 0x87, 0, 0x87, 0, 0x87, 0};
  v8di fed;
  multiply_wide<0x01>(fed, out, fold);
  t[0] = reinterpret_cast<v8di>(bits << count) ^ fed ^
         __builtin_shufflevector(out, zero, 8, 0, 8, 2, 8, 4, 8, 6);
  for (unsigned k = 1; k != wide_vectors; ++k) {
    t[k] = t[k - 1];
    advance_wide<4>(t[k]);
  }
}

// AES over four vectors whose input already has the tweak, with the schedule's keys.
template <bool Decrypt, unsigned Rounds>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
rounds_of(wide& b, const schedule& s) noexcept {
  v8di key;
  broadcast(key, s.keys[0].data());
  for (auto& v : b) v ^= key;
#  pragma GCC unroll 16
  for (unsigned r = 1; r != Rounds; ++r) {
    broadcast(key, s.keys[r].data());
#  pragma GCC unroll 4
    for (unsigned k = 0; k != wide_vectors; ++k) round_wide<Decrypt, false>(b[k], key);
  }
  broadcast(key, s.keys[Rounds].data());
#  pragma GCC unroll 4
  for (unsigned k = 0; k != wide_vectors; ++k) round_wide<Decrypt, true>(b[k], key);
}
template <bool Decrypt>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
rounds_wide(wide& b, const schedule& s, unsigned rounds) noexcept {
  if (rounds == 14) {
    rounds_of<Decrypt, 14>(b, s);
  } else {
    rounds_of<Decrypt, 10>(b, s);
  }
}

// 256 bytes of a data unit; the tweaks move on to the next 256. `b` holds the output.
template <bool Decrypt>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
group_wide(wide& b, wide& t, const schedule& s, unsigned rounds, const std::byte* in,
           std::byte* out) noexcept {
#  pragma GCC unroll 4
  for (unsigned k = 0; k != wide_vectors; ++k) {
    __builtin_memcpy(&b[k], in + std::size_t{64} * k, 64);
    b[k] ^= t[k];
  }
  rounds_wide<Decrypt>(b, s, rounds);
#  pragma GCC unroll 4
  for (unsigned k = 0; k != wide_vectors; ++k) {
    b[k] ^= t[k];
    __builtin_memcpy(out + std::size_t{64} * k, &b[k], 64);
    advance_wide<16>(t[k]);
  }
}

// The first tweaks of up to four data units, which are numbered from `first` on.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
tweaks_wide(const schedule& s, unsigned rounds, std::uint64_t first, block (&out)[4]) noexcept {
  const auto n = [first](std::uint64_t k) noexcept {
    const std::uint64_t number = first + k;
    return static_cast<long long>(number);
  };
  v8di b{n(0), 0, n(1), 0, n(2), 0, n(3), 0};
  v8di key;
  broadcast(key, s.keys[0].data());
  b ^= key;
  for (unsigned r = 1; r != rounds; ++r) {
    broadcast(key, s.keys[r].data());
    round_wide<false, false>(b, key);
  }
  broadcast(key, s.keys[rounds].data());
  round_wide<false, true>(b, key);
  __builtin_memcpy(out, &b, 64);
}

// Whole groups of 16 blocks; what is left is the caller's. The tweak becomes that of the next block.
template <bool Decrypt>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] inline void
run_wide(const schedule& s, unsigned rounds, block& tweak, const std::byte*& in, std::byte*& out,
         std::size_t& blocks) noexcept {
  if (blocks < wide_blocks) return;
  wide t;
  wide b;
  spread_tweak(t, tweak.data());
  for (; blocks >= wide_blocks; blocks -= wide_blocks, in += wide_bytes, out += wide_bytes) {
    group_wide<Decrypt>(b, t, s, rounds, in, out);
  }
  __builtin_memcpy(tweak.data(), &t[0], 16);
}

// floor(x^64 / P), 49 bits.
[[nodiscard]] consteval std::uint64_t t10dif_quotient() noexcept {
  std::uint64_t q = 0;
  std::uint32_t rest = 1;  // x^0, moved up 64 times
  for (int k = 0; k != 64; ++k) {
    rest <<= 1;
    q <<= 1;
    if ((rest & 0x10000) != 0) {
      rest ^= 0x10000U | crc16_t10dif_polynomial;
      q |= 1;
    }
  }
  return q;
}
// The factors of each half of each lane of the last 256 bytes: x to the power of the bits after
// it, and 16 more, which a CRC appends.
[[nodiscard]] consteval std::array<long long, 32> t10dif_places() noexcept {
  std::array<long long, 32> all{};
  unsigned after = 128 * 15 + 16;
  for (std::size_t lane = 0; lane != 16; ++lane, after -= 128) {
    all[2 * lane] = static_cast<long long>(t10dif_power(after));
    all[2 * lane + 1] = static_cast<long long>(t10dif_power(after + 64));
  }
  return all;
}
template <class>
inline constexpr std::array<long long, 32> places = t10dif_places();

// CRC-16/T10-DIF over groups of 256 bytes that are in registers, whose first bit is the highest power.
class guard_wide {
 public:
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] void add(
      const wide& b) noexcept {
    constexpr long long low = static_cast<long long>(t10dif_power(8 * wide_bytes));
    constexpr long long high = static_cast<long long>(t10dif_power(8 * wide_bytes + 64));
    const v8di by{low, high, low, high, low, high, low, high};
#  pragma GCC unroll 4
    for (unsigned k = 0; k != wide_vectors; ++k) {
      v8di x;
      v8di y;
      multiply_wide<0x00>(x, sum_[k], by);
      multiply_wide<0x11>(y, sum_[k], by);
      sum_[k] = x ^ y ^ reversed(b[k]);
    }
  }
  [[gnu::target(
      "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] [[nodiscard]] std::
      uint16_t
      value() const noexcept {
    v8di all{};
#  pragma GCC unroll 4
    for (unsigned k = 0; k != wide_vectors; ++k) {
      v8di by;
      __builtin_memcpy(&by, &places<void>[8 * std::size_t{k}], 64);
      v8di x;
      v8di y;
      multiply_wide<0x00>(x, sum_[k], by);
      multiply_wide<0x11>(y, sum_[k], by);
      all ^= x ^ y;
    }
    // At most 80 bits: the upper 16 are folded, then Barrett's reduction with floor(x^64 / P).
    using v4di [[gnu::vector_size(32)]] = long long;
    const v4di half = __builtin_shufflevector(all, all, 0, 1, 2, 3) ^
                      __builtin_shufflevector(all, all, 4, 5, 6, 7);
    const v2di v =
        __builtin_shufflevector(half, half, 0, 1) ^ __builtin_shufflevector(half, half, 2, 3);
    const v2di with{static_cast<long long>(t10dif_power(64)),
                    static_cast<long long>(t10dif_quotient())};
    const v2di folded = __builtin_ia32_pclmulqdq128(v, with, 0x01);
    const auto low = static_cast<std::uint64_t>(v[0] ^ folded[0]);
    const v2di top{static_cast<long long>(low >> 16), 0};
    const v2di product = __builtin_ia32_pclmulqdq128(top, with, 0x10);
    const std::uint64_t q =
        static_cast<std::uint64_t>(product[0]) >> 48 | static_cast<std::uint64_t>(product[1]) << 16;
    const v2di back = __builtin_ia32_pclmulqdq128(v2di{static_cast<long long>(q), 0},
                                                  v2di{0x10000 | crc16_t10dif_polynomial, 0}, 0x00);
    return static_cast<std::uint16_t>(low ^ static_cast<std::uint64_t>(back[0]));
  }

 private:
  [[gnu::target(
      "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] static v8di
  reversed(const v8di& v) noexcept {
    const auto b = reinterpret_cast<v64qi>(v);
    return reinterpret_cast<v8di>(__builtin_shufflevector(
        b, b, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 31, 30, 29, 28, 27, 26, 25, 24,
        23, 22, 21, 20, 19, 18, 17, 16, 47, 46, 45, 44, 43, 42, 41, 40, 39, 38, 37, 36, 35, 34, 33,
        32, 63, 62, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48));
  }

  wide sum_{};
};

// The CRC-16/T10-DIF of memory, a multiple of 256 bytes.
[[gnu::target(
    "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4."
    "1")]] [[nodiscard]] inline std::uint16_t
t10dif_wide(const std::byte* p, std::size_t n) noexcept {
  guard_wide sum;
  for (; n != 0; n -= wide_bytes, p += wide_bytes) {
    wide b;
#  pragma GCC unroll 4
    for (unsigned k = 0; k != wide_vectors; ++k)
      __builtin_memcpy(&b[k], p + std::size_t{64} * k, 64);
    sum.add(b);
  }
  return sum.value();
}

// Encrypts blocks of whole data units, each a multiple of 256 bytes, and sums the output on the way.
// Refers to both schedules.
class guarded_encryption {
 public:
  guarded_encryption(const schedule& data, const schedule& tweak, unsigned rounds) noexcept
      : data_(&data), tweak_(&tweak), rounds_(rounds) {}

  // One block; its data units are numbered from `number` on. Returns the CRC-16/T10-DIF of the output. In
  // and out are disjoint or the same.
  [[gnu::target(
      "avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq,aes,pclmul,sse4.1")]] [[nodiscard]] std::
      uint16_t
      block_of(std::uint64_t number, std::size_t unit_bytes, std::size_t units, const std::byte* in,
               std::byte* out) noexcept {
    guard_wide sum;
    for (; units != 0; --units, ++number) {
      if (number - base_ >= left_) {
        tweaks_wide(*tweak_, rounds_, number, tweaks_);
        base_ = number;
        left_ = 4;
      }
      wide t;
      spread_tweak(t, tweaks_[number - base_].data());
      for (std::size_t at = 0; at != unit_bytes; at += wide_bytes) {
        wide b;
        group_wide<false>(b, t, *data_, rounds_, in, out);
        sum.add(b);
        in += wide_bytes;
        out += wide_bytes;
      }
    }
    return sum.value();
  }

 private:
  const schedule* data_;
  const schedule* tweak_;
  unsigned rounds_;
  std::uint64_t base_ = 0;
  std::uint64_t left_ = 0;  // of tweaks_ from base_ on
  block tweaks_[4]{};
};

}  // namespace phasebit::accel::detail::aes

#endif
