// SPDX-License-Identifier: BSL-1.0
#include <phasebit/accel/checksum.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit::accel;

namespace {

consteval std::array<std::byte, 9> digits() {
  std::array<std::byte, 9> d{};
  for (unsigned k = 0; k != 9; ++k) d[k] = static_cast<std::byte>('1' + k);
  return d;
}
constexpr auto nine = digits();

// Checked by the compiler: the check values of the CRC catalogue.
static_assert(crc32c(nine) == 0xe3069283);
static_assert(crc16_t10dif(nine) == 0xd0db);
static_assert(crc64_nvme(nine) == 0xae8b14860a799888);

std::uint32_t crc32c_slow(std::span<const std::byte> data, std::uint32_t crc) {
  crc = ~crc;
  for (const std::byte b : data) {
    crc ^= std::to_integer<std::uint32_t>(b);
    for (int k = 0; k != 8; ++k) crc = (crc & 1U) != 0 ? (crc >> 1) ^ 0x82f63b78U : crc >> 1;
  }
  return ~crc;
}
std::uint16_t t10dif_slow(std::span<const std::byte> data, std::uint16_t seed) {
  unsigned crc = seed;
  for (const std::byte b : data) {
    crc ^= std::to_integer<unsigned>(b) << 8;
    for (int k = 0; k != 8; ++k) crc = (crc & 0x8000U) != 0 ? (crc << 1) ^ 0x18bb7U : crc << 1;
  }
  return static_cast<std::uint16_t>(crc);
}

std::vector<std::byte> random_bytes(std::size_t n) {
  std::mt19937 r{7};
  std::vector<std::byte> v(n);
  for (auto& b : v) b = static_cast<std::byte>(r());
  return v;
}

// Whether the x86 code may run here; elsewhere it is the portable one again.
bool x86_here() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2") != 0 && __builtin_cpu_supports("pclmul") != 0;
#else
  return false;
#endif
}

}  // namespace

TEST_CASE("CRC-32C has the values of RFC 3720, appendix B.4") {
  std::array<std::byte, 32> data{};
  CHECK(crc32c<portable_instructions>(data) == 0x8a9136aa);
  data.fill(std::byte{0xff});
  CHECK(crc32c<portable_instructions>(data) == 0x62a8ab43);
  for (unsigned k = 0; k != 32; ++k) data[k] = static_cast<std::byte>(k);
  CHECK(crc32c<portable_instructions>(data) == 0x46dd794e);
  for (unsigned k = 0; k != 32; ++k) data[k] = static_cast<std::byte>(31 - k);
  CHECK(crc32c<portable_instructions>(data) == 0x113fdb5c);
}

TEST_CASE("the guards of 4096 bytes are those of the NVM command set") {
  std::vector<std::byte> data(4096);
  CHECK(crc32c(data) == 0x98f94189);
  CHECK(crc64_nvme(data) == 0x6482d367eb22b64e);
  for (auto& b : data) b = std::byte{0xff};
  CHECK(crc32c(data) == 0x25c1fe13);
  CHECK(crc64_nvme(data) == 0xc0ddba7302eca3ac);
  for (unsigned k = 0; k != 4096; ++k) data[k] = static_cast<std::byte>(k);
  CHECK(crc32c(data) == 0x9c71fe32);
  CHECK(crc64_nvme(data) == 0x3e729f5f6750449c);
  for (unsigned k = 0; k != 4096; ++k) data[k] = static_cast<std::byte>(255 - k);
  CHECK(crc32c(data) == 0x214941a8);
  CHECK(crc64_nvme(data) == 0x9a2df64b8e9e517e);
}

TEST_CASE("every length and seed gives what the definition gives, with every set of instructions") {
  const auto data = random_bytes(9000);
  for (std::size_t n = 0; n != 300; ++n) {
    const std::span<const std::byte> part{data.data() + n % 7, n};
    const auto seed = static_cast<std::uint32_t>(n * 2654435761U);
    const auto narrow = static_cast<std::uint16_t>(seed);
    REQUIRE(crc32c<portable_instructions>(part, seed) == crc32c_slow(part, seed));
    REQUIRE(crc16_t10dif<portable_instructions>(part, narrow) == t10dif_slow(part, narrow));
    if (!x86_here()) continue;
    REQUIRE(crc32c<x86_instructions>(part, seed) == crc32c_slow(part, seed));
    REQUIRE(crc16_t10dif<x86_instructions>(part, narrow) == t10dif_slow(part, narrow));
  }
  for (const std::size_t n :
       std::array<std::size_t, 9>{1008, 1007, 1200, 4079, 4080, 4081, 4096, 8192, 8999}) {
    const std::span<const std::byte> part{data.data() + 1, n};
    REQUIRE(crc32c<portable_instructions>(part, 3) == crc32c_slow(part, 3));
    REQUIRE(crc16_t10dif<portable_instructions>(part, 3) == t10dif_slow(part, 3));
    if (!x86_here()) continue;
    REQUIRE(crc32c<x86_instructions>(part, 3) == crc32c_slow(part, 3));
    REQUIRE(crc16_t10dif<x86_instructions>(part, 3) == t10dif_slow(part, 3));
  }
}

TEST_CASE("a seed continues a checksum, and parts combine") {
  const auto data = random_bytes(700);
  const std::span<const std::byte> all{data};
  for (std::size_t cut = 0; cut <= 700; cut += 13) {
    const auto head = all.first(cut);
    const auto tail = all.subspan(cut);
    REQUIRE(crc32c(tail, crc32c(head)) == crc32c(all));
    REQUIRE(crc16_t10dif(tail, crc16_t10dif(head)) == crc16_t10dif(all));
    REQUIRE(crc64_nvme(tail, crc64_nvme(head)) == crc64_nvme(all));
    REQUIRE(combine_crc32c(crc32c(head), crc32c(tail), tail.size()) == crc32c(all));
  }
}
