// SPDX-License-Identifier: BSL-1.0
#include <phasebit/accel/aes_xts.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

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
}

TEST_CASE("streams cut anywhere, units of any number and both instruction sets agree") {
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
