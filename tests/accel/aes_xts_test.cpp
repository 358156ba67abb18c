// SPDX-License-Identifier: BSL-1.0
#include <phasebit/accel/aes_xts.hpp>
#include <phasebit/accel/software_engine.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#if defined(__x86_64__)
#  include <cpuid.h>
#endif

using namespace phasebit;
using namespace phasebit::accel;

namespace {

std::vector<std::uint8_t> hex(std::string_view text) {
  const auto digit = [](char c) {
    return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  std::vector<std::uint8_t> out;
  for (std::size_t k = 0; k + 1 < text.size(); k += 2) {
    out.push_back(static_cast<std::uint8_t>(digit(text[k]) << 4 | digit(text[k + 1])));
  }
  return out;
}

bool vaes_here() {
#if defined(__x86_64__)
  // Bits 9 and 10 of ECX of leaf 7 are VAES and VPCLMULQDQ; not every compiler has names for them.
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (c >> 9 & 3U) != 3) return false;
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
#else
  return false;
#endif
}
bool x86_here() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes") != 0 && __builtin_cpu_supports("sse4.1") != 0;
#else
  return false;
#endif
}

template <bool Decrypt, class Instructions>
std::vector<std::uint8_t> run(const xts_key& key, std::uint64_t unit, std::uint32_t unit_bytes,
                              std::vector<std::uint8_t> data) {
  const domain_segment all{to_local(data.data()).value(), data.size(), local_domain};
  accel::detail::stream from{{&all, 1}};
  accel::detail::stream to{{&all, 1}};
  xts_units<Decrypt, Instructions>(key, unit, unit_bytes, to, from, data.size() / unit_bytes);
  return data;
}

struct vector_of_ieee {
  std::string_view key;
  std::uint64_t unit;
  std::string_view plain;
  std::string_view cipher;
};
// IEEE 1619-2007, annex B: vectors 1, 2, 3.
constexpr std::array<vector_of_ieee, 3> vectors{
    vector_of_ieee{"0000000000000000000000000000000000000000000000000000000000000000", 0,
                   "0000000000000000000000000000000000000000000000000000000000000000",
                   "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e"},
    vector_of_ieee{"1111111111111111111111111111111122222222222222222222222222222222", 0x3333333333,
                   "4444444444444444444444444444444444444444444444444444444444444444",
                   "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"},
    vector_of_ieee{"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f022222222222222222222222222222222", 0x3333333333,
                   "4444444444444444444444444444444444444444444444444444444444444444",
                   "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89"}};

template <class Instructions>
void check_vectors() {
  for (const auto& v : vectors) {
    auto key_bytes = hex(v.key);
    xts_key key;
    if (const auto made = xts_key::make(key_bytes)) {
      key = *made;
    } else {
      // Vector 1 has equal halves, which make() refuses: its schedules are made by hand.
      const std::span<const std::uint8_t> half{key_bytes.data(), 16};
      key.rounds = 10;
      key.forward = key.tweak = accel::detail::aes::expand(half);
      key.backward = accel::detail::aes::invert(key.forward, 10);
    }
    CHECK((run<false, Instructions>(key, v.unit, 32, hex(v.plain)) == hex(v.cipher)));
    CHECK((run<true, Instructions>(key, v.unit, 32, hex(v.cipher)) == hex(v.plain)));
  }
}

}  // namespace

TEST_CASE("AES has the values of FIPS 197, appendix C") {
  using namespace phasebit::accel::detail::aes;
  const auto plain = hex("00112233445566778899aabbccddeeff");
  block in{};
  for (std::size_t k = 0; k != 16; ++k) in[k] = plain[k];
  const auto check = [&](std::string_view key_text, unsigned rounds, std::string_view cipher_text) {
    const auto key = hex(key_text);
    const schedule s = expand(key);
    const block out = apply<false>(s, rounds, in);
    const auto want = hex(cipher_text);
    CHECK((std::vector<std::uint8_t>(out.begin(), out.end()) == want));
    CHECK((apply<true>(invert(s, rounds), rounds, out) == in));
  };
  check("000102030405060708090a0b0c0d0e0f", 10, "69c4e0d86a7b0430d8cdb78070b4c55a");
  check("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 14,
        "8ea2b7ca516745bfeafc49904b496089");
}

TEST_CASE("AES-XTS has the values of IEEE 1619, annex B") {
  check_vectors<portable_instructions>();
  if (x86_here()) check_vectors<x86_aes_instructions>();
  if (vaes_here()) check_vectors<x86_vaes_instructions>();
}

TEST_CASE("streams cut anywhere, units of any number and all instruction sets agree") {
  std::mt19937 r{3};
  std::vector<std::uint8_t> key_bytes(64);
  for (auto& b : key_bytes) b = static_cast<std::uint8_t>(r());
  const xts_key key = *xts_key::make(key_bytes);
  for (int round = 0; round != 200; ++round) {
    const auto unit = static_cast<std::uint32_t>(16 * (1 + r() % 40));
    const auto units = static_cast<std::uint32_t>(1 + r() % 3);
    std::vector<std::uint8_t> data(unit * units);
    for (auto& b : data) b = static_cast<std::uint8_t>(r());
    const std::uint64_t first = r();
    const auto want = run<false, portable_instructions>(key, first, unit, data);
    std::vector<std::uint8_t> out(data.size());
    const auto cut = [&](std::vector<std::uint8_t>& v) {
      std::vector<domain_segment> list;
      for (std::size_t at = 0; at != v.size();) {
        const std::size_t n = std::min<std::size_t>(1 + r() % 50, v.size() - at);
        list.push_back({to_local(v.data() + at).value(), n, local_domain});
        at += n;
      }
      return list;
    };
    const auto source = cut(data);
    const auto destination = cut(out);
    {
      accel::detail::stream from{source};
      accel::detail::stream to{destination};
      xts_units<false, portable_instructions>(key, first, unit, to, from, units);
      REQUIRE((out == want));
    }
    if (!x86_here()) continue;
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    accel::detail::stream from{source};
    accel::detail::stream to{destination};
    xts_units<false, x86_aes_instructions>(key, first, unit, to, from, units);
    REQUIRE((out == want));
    REQUIRE((run<true, x86_aes_instructions>(key, first, unit, out) == data));
  }
}

#if defined(__x86_64__)

TEST_CASE("vectors of four blocks give the plain code's bytes for every length of a unit") {
  if (!vaes_here()) return;
  std::mt19937 r{4};
  for (const std::size_t key_size : {std::size_t{32}, std::size_t{64}}) {
    std::vector<std::uint8_t> key_bytes(key_size);
    for (auto& b : key_bytes) b = static_cast<std::uint8_t>(r());
    const xts_key key = *xts_key::make(key_bytes);
    for (std::uint32_t unit = 16; unit <= 1200; unit += 16) {
      const std::uint32_t units = 1 + unit / 16 % 6;
      std::vector<std::uint8_t> data(std::size_t{unit} * units);
      for (auto& b : data) b = static_cast<std::uint8_t>(r());
      // Numbers beside 2^64, too: only the first unit's tweak wraps.
      const std::uint64_t first = unit % 32 == 0 ? ~std::uint64_t{0} - 2 : r();
      const auto want = run<false, portable_instructions>(key, first, unit, data);
      REQUIRE((run<false, x86_vaes_instructions>(key, first, unit, data) == want));
      REQUIRE((run<true, x86_vaes_instructions>(key, first, unit, want) == data));
    }
  }
}

TEST_CASE("the CRC over vectors is the plain code's for every multiple of 256 bytes") {
  if (!vaes_here()) return;
  std::mt19937 r{5};
  std::vector<std::byte> data(8192);
  for (std::size_t n = 256; n <= data.size(); n += 256) {
    for (auto& b : data) b = static_cast<std::byte>(r());
    REQUIRE(accel::detail::aes::t10dif_wide(data.data(), n) ==
            crc16_t10dif<portable_instructions>({data.data(), n}));
  }
  // Each bit alone: every constant of the reduction is used.
  for (std::size_t bit = 0; bit != 8 * 512; ++bit) {
    std::vector<std::byte> one(512);
    one[bit / 8] = static_cast<std::byte>(1U << bit % 8);
    REQUIRE(accel::detail::aes::t10dif_wide(one.data(), 512) ==
            crc16_t10dif<portable_instructions>(one));
  }
}

TEST_CASE("encryption that sums its output gives the bytes and the guards of two separate passes") {
  if (!vaes_here()) return;
  std::mt19937 r{6};
  std::array<std::uint8_t, 64> raw{};
  for (auto& b : raw) b = static_cast<std::uint8_t>(r());
  const std::array keys{*xts_key::make(std::span{raw}.first(32)), *xts_key::make(raw)};
  using wide = software_engine<portable_instructions, plain_cipher<x86_vaes_instructions>>;
  using plain = software_engine<portable_instructions, plain_cipher<portable_instructions>>;
  const auto fast = std::make_unique<wide>(plain_cipher<x86_vaes_instructions>{keys});
  const auto slow = std::make_unique<plain>(plain_cipher<portable_instructions>{keys});
  for (int round = 0; round != 400; ++round) {
    static constexpr std::array<std::uint32_t, 4> blocks_of{512, 1024, 4096, 8192};
    const std::uint32_t block = blocks_of[r() % 4];
    const std::array<std::uint32_t, 4> units{256, 512, block, 48};
    std::uint32_t unit = units[r() % 4];
    if (unit == 48) unit = block / 32 == 16 ? 128 : 64;  // not a multiple of 256: the tiles do it
    const std::size_t blocks = 1 + r() % 9;
    std::vector<std::byte> data(block * blocks);
    for (auto& b : data) b = static_cast<std::byte>(r());
    std::vector<std::byte> a((block + 8) * blocks);
    std::vector<std::byte> b(a.size());
    const auto cut = [&](std::vector<std::byte>& v, std::size_t most) {
      std::vector<domain_segment> list;
      for (std::size_t at = 0; at != v.size();) {
        const std::size_t n = std::min<std::size_t>(1 + r() % most, v.size() - at);
        list.push_back({to_local(v.data() + at).value(), n, local_domain});
        at += n;
      }
      return list;
    };
    const std::size_t most = r() % 2 == 0 ? 20000 : 3000;
    const auto source = cut(data, most);
    step s{};
    s.op = operation::encrypt;
    s.then = operation::dif_insert;
    s.then_id = 1;
    s.with = to_parameters(
        cipher{.first_unit = r(), .unit_bytes = unit, .key = static_cast<std::uint16_t>(r() % 2)});
    s.then_with = to_parameters(protection{.reference_tag = r(),
                                           .block_bytes = block,
                                           .application_tag = 0x1234,
                                           .type = static_cast<std::uint8_t>(1 + r() % 3)});
    s.source.bytes = data.size();
    s.destination.bytes = a.size();
    const auto to_a = cut(a, most);
    const auto to_b = cut(b, most);
    work_result out;
    REQUIRE(fast->submit({&s, s.with, source, to_a}, 0, out));
    REQUIRE(out.first.good());
    REQUIRE(out.second.good());
    REQUIRE(slow->submit({&s, s.with, source, to_b}, 0, out));
    const bool same = a == b;
    CAPTURE(round);
    REQUIRE(same);
  }
}

#endif

TEST_CASE("a key of the wrong size, or with equal halves, is refused") {
  std::vector<std::uint8_t> key(48, 1);
  CHECK(xts_key::make(key).error().code == errc::invalid_argument);
  key.assign(32, 1);
  CHECK(xts_key::make(key).error().code == errc::invalid_argument);
  key[31] = 2;
  CHECK(xts_key::make(key));
  key.clear();
  CHECK(xts_key::make(key).error().code == errc::invalid_argument);
}
