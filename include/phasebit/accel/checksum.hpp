// SPDX-License-Identifier: BSL-1.0
// The checksums of storage: CRC-32C (Castagnoli, RFC 3720), CRC-16/T10-DIF (SBC) and the CRC-64 of the
// NVM command set. Tables are made by the compiler; on x86-64 the CRC-32 instruction and carry-less
// multiplication are used where the target has them, or where the caller requests them.
#pragma once

#include <phasebit/config.hpp>
#include <phasebit/core/int_cast.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::accel {

// The instructions that a function may use, as a template argument; the caller selects at run time.
// Code for any x86-64 may use the x86 version after it has checked CPUID for SSE4.2 and PCLMULQDQ.
struct portable_instructions {};
struct x86_instructions {};

#if defined(__x86_64__) && defined(__SSE4_2__) && defined(__PCLMUL__)
using native_instructions = x86_instructions;
#else
using native_instructions = portable_instructions;
#endif

#if defined(__x86_64__)
inline constexpr bool has_x86_instructions = true;  // the code for them exists
#else
inline constexpr bool has_x86_instructions = false;
#endif

// A library's functions in place of ours: a policy type with these two static functions, whose seed and
// result are those of crc32c() and crc16_t10dif().
template <class T>
concept ChecksumLibrary = requires(std::span<const std::byte> data) {
  { T::crc32c(data, std::uint32_t{}) } noexcept -> std::same_as<std::uint32_t>;
  { T::crc16_t10dif(data, std::uint16_t{}) } noexcept -> std::same_as<std::uint16_t>;
};

namespace detail {

// Eight tables, so that eight bytes take eight look-ups that do not wait for each other. Reflected: the
// low bit is the highest power.
template <class Word, Word Polynomial>
consteval std::array<std::array<Word, 256>, 8> reflected_tables() {
  std::array<std::array<Word, 256>, 8> t{};
  for (unsigned n = 0; n != 256; ++n) {
    Word c = n;
    for (int k = 0; k != 8; ++k) c = (c & 1U) != 0 ? (c >> 1) ^ Polynomial : c >> 1;
    t[0][n] = c;
  }
  for (unsigned n = 0; n != 256; ++n) {
    for (unsigned k = 1; k != 8; ++k)
      t[k][n] = t[0][static_cast<std::size_t>(t[k - 1][n] & 0xff)] ^ (t[k - 1][n] >> 8);
  }
  return t;
}
inline constexpr std::uint32_t crc32c_polynomial = 0x82f63b78;
inline constexpr std::uint64_t crc64_nvme_polynomial =
    0x9a6c9329ac4bc9b5;  // AD93D23594C93659 reflected
inline constexpr std::uint16_t crc16_t10dif_polynomial = 0x8bb7;

// inline constexpr in a template, so that a program without the checksum has no table.
template <class Word, Word Polynomial>
inline constexpr auto reflected_table = reflected_tables<Word, Polynomial>();

consteval std::array<std::array<std::uint16_t, 256>, 8> t10dif_tables() {
  std::array<std::array<std::uint16_t, 256>, 8> t{};
  for (unsigned n = 0; n != 256; ++n) {
    unsigned c = n << 8;
    for (int k = 0; k != 8; ++k)
      c = (c & 0x8000) != 0 ? (c << 1) ^ crc16_t10dif_polynomial : c << 1;
    t[0][n] = static_cast<std::uint16_t>(c);
  }
  for (unsigned n = 0; n != 256; ++n) {
    for (unsigned k = 1; k != 8; ++k) {
      const unsigned before = t[k - 1][n];
      t[k][n] = static_cast<std::uint16_t>((before << 8) ^ t[0][before >> 8]);
    }
  }
  return t;
}
template <class>
inline constexpr auto t10dif_table = t10dif_tables();

[[nodiscard]] constexpr unsigned byte_at(const std::byte* p) noexcept {
  return std::to_integer<unsigned>(*p);
}

// The register without the inversions at both ends.
template <class Word, Word Polynomial>
[[nodiscard]] constexpr Word reflected_update(Word crc, const std::byte* p,
                                              std::size_t n) noexcept {
  const auto& t = reflected_table<Word, Polynomial>;
  while (n >= 8) {
    std::uint64_t w = crc;
    for (unsigned k = 0; k != 8; ++k) w ^= std::uint64_t{byte_at(p + k)} << (8 * k);
    const auto v = [w](unsigned k) noexcept { return int_cast<std::size_t>(w >> (8 * k) & 0xff); };
    crc = t[7][v(0)] ^ t[6][v(1)] ^ t[5][v(2)] ^ t[4][v(3)] ^ t[3][v(4)] ^ t[2][v(5)] ^ t[1][v(6)] ^
          t[0][v(7)];
    p += 8;
    n -= 8;
  }
  while (n-- != 0) {
    crc = t[0][static_cast<std::size_t>((crc ^ byte_at(p++)) & 0xff)] ^ (crc >> 8);
  }
  return crc;
}

[[nodiscard]] constexpr std::uint16_t t10dif_update(std::uint16_t crc, const std::byte* p,
                                                    std::size_t n) noexcept {
  const auto& t = t10dif_table<void>;
  unsigned c = crc;
  while (n >= 8) {
    c = unsigned{t[7][byte_at(p) ^ (c >> 8)]} ^ t[6][byte_at(p + 1) ^ (c & 0xff)] ^
        t[5][byte_at(p + 2)] ^ t[4][byte_at(p + 3)] ^ t[3][byte_at(p + 4)] ^ t[2][byte_at(p + 5)] ^
        t[1][byte_at(p + 6)] ^ t[0][byte_at(p + 7)];
    p += 8;
    n -= 8;
  }
  while (n-- != 0) c = ((c << 8) ^ t[0][(c >> 8 ^ byte_at(p++)) & 0xff]) & 0xffff;
  return static_cast<std::uint16_t>(c);
}

// The product of two reflected 32-bit polynomials modulo that of CRC-32C: bit 31-i is the power i.
[[nodiscard]] constexpr std::uint32_t multiply_mod(std::uint32_t a, std::uint32_t b) noexcept {
  std::uint32_t product = 0;
  for (int k = 0; k != 32; ++k) {
    if ((a & 0x80000000U) != 0) product ^= b;
    a <<= 1;
    b = (b & 1U) != 0 ? (b >> 1) ^ crc32c_polynomial : b >> 1;
  }
  return product;
}
// x to the power n modulo the polynomial of CRC-32C, reflected.
[[nodiscard]] constexpr std::uint32_t power_mod(std::uint64_t n) noexcept {
  std::uint32_t result = 0x80000000U;
  std::uint32_t square = 0x40000000U;
  for (; n != 0; n >>= 1) {
    if ((n & 1U) != 0) result = multiply_mod(result, square);
    square = multiply_mod(square, square);
  }
  return result;
}

// x to the power n modulo the polynomial of T10-DIF, not reflected.
consteval std::uint64_t t10dif_power(unsigned n) {
  std::uint32_t v = 1;
  for (; n != 0; --n) {
    v <<= 1;
    if ((v & 0x10000) != 0) v ^= 0x10000U | crc16_t10dif_polynomial;
  }
  return v;
}

#if defined(__x86_64__)

using v2di [[gnu::vector_size(16)]] = long long;
using v16qi [[gnu::vector_size(16)]] = char;

[[nodiscard]] inline std::uint64_t load64(const std::byte* p) noexcept {
  std::uint64_t v = 0;
  __builtin_memcpy(&v, p, 8);
  return v;
}

// Advances the register of `crc` by the number of zero bits that the constant stands for. The
// carry-less product is V*W*x in 64 bits and the CRC of eight bytes multiplies by x^32, so W is
// x^(bits-33).
[[gnu::target("sse4.2,pclmul")]] [[nodiscard]] inline std::uint64_t shift_crc32c(
    std::uint64_t crc, std::uint32_t constant) noexcept {
  const v2di a{static_cast<long long>(crc), 0};
  const v2di b{static_cast<long long>(constant), 0};
  const v2di product = __builtin_ia32_pclmulqdq128(a, b, 0);
  return __builtin_ia32_crc32di(0, static_cast<unsigned long long>(product[0]));
}

// Three lanes of Lane bytes each: the instruction takes three cycles and starts every cycle.
template <std::size_t Lane>
[[gnu::target("sse4.2,pclmul")]] [[nodiscard]] inline std::uint64_t three_lanes(
    std::uint64_t crc, const std::byte*& p, std::size_t& n) noexcept {
  constexpr std::uint32_t one = power_mod(8 * Lane - 33);
  constexpr std::uint32_t two = power_mod(16 * Lane - 33);
  while (n >= 3 * Lane) {
    std::uint64_t a = crc;
    std::uint64_t b = 0;
    std::uint64_t c = 0;
    for (std::size_t k = 0; k != Lane; k += 8) {
      a = __builtin_ia32_crc32di(a, load64(p + k));
      b = __builtin_ia32_crc32di(b, load64(p + Lane + k));
      c = __builtin_ia32_crc32di(c, load64(p + 2 * Lane + k));
    }
    crc = shift_crc32c(a, two) ^ shift_crc32c(b, one) ^ c;
    p += 3 * Lane;
    n -= 3 * Lane;
  }
  return crc;
}

[[gnu::target("sse4.2,pclmul")]] [[nodiscard]] inline std::uint32_t crc32c_x86(
    std::uint32_t crc, const std::byte* p, std::size_t n) noexcept {
  std::uint64_t c = crc;
  c = three_lanes<1360>(c, p, n);
  c = three_lanes<336>(c, p, n);
  c = three_lanes<64>(c, p, n);
  for (; n >= 8; n -= 8, p += 8) c = __builtin_ia32_crc32di(c, load64(p));
  auto narrow = static_cast<std::uint32_t>(c);
  while (n-- != 0) {
    narrow = __builtin_ia32_crc32qi(narrow, static_cast<unsigned char>(byte_at(p++)));
  }
  return narrow;
}

// A block of 16 bytes as a polynomial whose first bit in memory is the highest power.
[[gnu::target("ssse3")]] [[nodiscard]] inline v2di load_reversed(const std::byte* p) noexcept {
  v16qi v;
  __builtin_memcpy(&v, p, 16);
  const v16qi order{15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  return reinterpret_cast<v2di>(__builtin_ia32_pshufb128(v, order));
}
// `v` moved up by a distance whose two constants are given, and what lies there added.
[[gnu::target("ssse3,pclmul")]] [[nodiscard]] inline v2di fold(v2di v, v2di constants,
                                                               v2di next) noexcept {
  return __builtin_ia32_pclmulqdq128(v, constants, 0x11) ^
         __builtin_ia32_pclmulqdq128(v, constants, 0x00) ^ next;
}

[[gnu::target("ssse3,pclmul")]] [[nodiscard]] inline std::uint16_t t10dif_x86(
    std::uint16_t crc, const std::byte* p, std::size_t n) noexcept {
  if (n < 64) return t10dif_update(crc, p, n);
  const v2di by_512{static_cast<long long>(t10dif_power(512)),
                    static_cast<long long>(t10dif_power(512 + 64))};
  const v2di by_128{static_cast<long long>(t10dif_power(128)),
                    static_cast<long long>(t10dif_power(128 + 64))};
  v2di a = load_reversed(p);
  a[1] ^= static_cast<long long>(std::uint64_t{crc} << 48);
  v2di b = load_reversed(p + 16);
  v2di c = load_reversed(p + 32);
  v2di d = load_reversed(p + 48);
  p += 64;
  n -= 64;
  for (; n >= 64; n -= 64, p += 64) {
    a = fold(a, by_512, load_reversed(p));
    b = fold(b, by_512, load_reversed(p + 16));
    c = fold(c, by_512, load_reversed(p + 32));
    d = fold(d, by_512, load_reversed(p + 48));
  }
  a = fold(fold(fold(a, by_128, b), by_128, c), by_128, d);
  for (; n >= 16; n -= 16, p += 16) a = fold(a, by_128, load_reversed(p));
  std::array<std::byte, 16> remaining{};
  for (unsigned k = 0; k != 8; ++k) {
    remaining[k] = static_cast<std::byte>(static_cast<std::uint64_t>(a[1]) >> (56 - 8 * k));
    remaining[8 + k] = static_cast<std::byte>(static_cast<std::uint64_t>(a[0]) >> (56 - 8 * k));
  }
  return t10dif_update(t10dif_update(0, remaining.data(), 16), p, n);
}

#endif

}  // namespace detail

// CRC-32C: check value E3069283 for "123456789". `seed` is the result for the bytes before, or 0.
template <class Instructions = native_instructions>
[[nodiscard]] constexpr std::uint32_t crc32c(std::span<const std::byte> data,
                                             std::uint32_t seed = 0) noexcept {
  if constexpr (ChecksumLibrary<Instructions>) {
    if (!std::is_constant_evaluated()) return Instructions::crc32c(data, seed);
  }
#if defined(__x86_64__)
  if constexpr (std::is_same_v<Instructions, x86_instructions>) {
    if (!std::is_constant_evaluated()) return ~detail::crc32c_x86(~seed, data.data(), data.size());
  }
#endif
  return ~detail::reflected_update<std::uint32_t, detail::crc32c_polynomial>(~seed, data.data(),
                                                                             data.size());
}

// CRC-16/T10-DIF: check value D0DB. `seed` as above.
template <class Instructions = native_instructions>
[[nodiscard]] constexpr std::uint16_t crc16_t10dif(std::span<const std::byte> data,
                                                   std::uint16_t seed = 0) noexcept {
  if constexpr (ChecksumLibrary<Instructions>) {
    if (!std::is_constant_evaluated()) return Instructions::crc16_t10dif(data, seed);
  }
#if defined(__x86_64__)
  if constexpr (std::is_same_v<Instructions, x86_instructions>) {
    if (!std::is_constant_evaluated()) return detail::t10dif_x86(seed, data.data(), data.size());
  }
#endif
  return detail::t10dif_update(seed, data.data(), data.size());
}

// The CRC-64 of NVM Command Set 1.0, section 5.2.1.3.3: check value AE8B14860A799888.
[[nodiscard]] constexpr std::uint64_t crc64_nvme(std::span<const std::byte> data,
                                                 std::uint64_t seed = 0) noexcept {
  return ~detail::reflected_update<std::uint64_t, detail::crc64_nvme_polynomial>(~seed, data.data(),
                                                                                 data.size());
}

// The CRC-32C of two parts, from the CRCs of each (seed 0) and the length of the second.
[[nodiscard]] constexpr std::uint32_t combine_crc32c(std::uint32_t first, std::uint32_t second,
                                                     std::uint64_t second_bytes) noexcept {
  std::uint32_t power = detail::power_mod(8);
  std::uint32_t shifted = first;
  for (; second_bytes != 0; second_bytes >>= 1) {
    if ((second_bytes & 1U) != 0) shifted = detail::multiply_mod(power, shifted);
    power = detail::multiply_mod(power, power);
  }
  return shifted ^ second;
}

}  // namespace phasebit::accel
