// SPDX-License-Identifier: BSL-1.0
#include <phasebit/accel/aes_xts.hpp>
#include <phasebit/accel/checksum.hpp>
#include <phasebit/accel/execution.hpp>
#include <phasebit/accel/software_engine.hpp>
#include <phasebit/hosted/accel_isal.hpp>
#include <phasebit/hosted/accel_openssl.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

std::vector<std::byte> random_bytes(std::size_t n, std::uint32_t seed, unsigned values = 256) {
  std::mt19937 r{seed};
  std::vector<std::byte> v(n);
  for (auto& b : v) b = static_cast<std::byte>(r() % values);
  return v;
}
std::vector<domain_segment> cut(std::span<std::byte> all, std::mt19937& r, std::size_t most) {
  std::vector<domain_segment> list;
  while (!all.empty()) {
    const std::size_t n = std::min(all.size(), 1 + r() % most);
    list.push_back(local_segment(all.first(n)));
    all = all.subspan(n);
  }
  return list;
}

using library_engine =
    software_engine<hosted::isal_instructions, hosted::openssl_cipher<>, hosted::isal_compressor>;
static_assert(Engine<library_engine>);

std::vector<hosted::openssl_xts_key> library_keys() {
  std::array<std::uint8_t, 64> raw{};
  for (std::size_t k = 0; k != 64; ++k) raw[k] = static_cast<std::uint8_t>(k * 3);
  std::vector<hosted::openssl_xts_key> keys;
  keys.push_back(*hosted::openssl_xts_key::make(std::span{raw}.first(32)));
  keys.push_back(*hosted::openssl_xts_key::make(raw));
  return keys;
}
std::array<xts_key, 2> own_keys() {
  std::array<std::uint8_t, 64> raw{};
  for (std::size_t k = 0; k != 64; ++k) raw[k] = static_cast<std::uint8_t>(k * 3);
  return {*xts_key::make(std::span{raw}.first(32)), *xts_key::make(raw)};
}

}  // namespace

TEST_CASE("our checksums are ISA-L's for every length up to 600 and for long ones") {
  const auto data = random_bytes(70000, 1);
  for (std::size_t n = 0; n != 600; ++n) {
    const std::span<const std::byte> part{data.data() + n % 13, n};
    REQUIRE(hosted::isal_instructions::crc32c(part, 5) == crc32c<portable_instructions>(part, 5));
    REQUIRE(crc32c(part, 5) == crc32c<portable_instructions>(part, 5));
    REQUIRE(hosted::isal_instructions::crc16_t10dif(part, 5) ==
            crc16_t10dif<portable_instructions>(part, 5));
    REQUIRE(crc16_t10dif(part, 5) == crc16_t10dif<portable_instructions>(part, 5));
  }
  CHECK(hosted::isal_instructions::crc32c(data, 0) == crc32c(data));
  CHECK(hosted::isal_instructions::crc16_t10dif(data, 0) == crc16_t10dif(data));
}

TEST_CASE(
    "our AES-XTS matches OpenSSL's: both key sizes, random data units, cut anywhere, both "
    "directions") {
  auto theirs_keys = library_keys();
  const auto keys = own_keys();
  hosted::openssl_cipher<> theirs{theirs_keys};
  const plain_cipher<> ours{keys};
  const plain_cipher<portable_instructions> portable{keys};
  std::mt19937 r{2};
  for (int round = 0; round != 300; ++round) {
    const auto unit = static_cast<std::uint32_t>(16 * (1 + r() % 64));
    const std::uint64_t units = 1 + r() % 4;
    const cipher c{.first_unit = (std::uint64_t{r()} << 32) | r(),
                   .unit_bytes = unit,
                   .key = static_cast<std::uint16_t>(r() % 2)};
    auto plain =
        random_bytes(static_cast<std::size_t>(unit * units), static_cast<std::uint32_t>(r()));
    std::array<std::vector<std::byte>, 3> out;
    for (auto& o : out) o.resize(plain.size());
    const auto source = cut(plain, r, 200);
    for (std::size_t k = 0; k != 3; ++k) {
      const auto destination = cut(out[k], r, 200);
      accel::detail::stream from{source};
      accel::detail::stream to{destination};
      if (k == 0) theirs.run<false>(c, to, from, units);
      if (k == 1) ours.run<false>(c, to, from, units);
      if (k == 2) portable.run<false>(c, to, from, units);
    }
    REQUIRE(out[0] == out[1]);
    REQUIRE(out[0] == out[2]);
    const auto all = local_segment(out[1]);
    accel::detail::stream from{{&all, 1}};
    accel::detail::stream to{{&all, 1}};
    if (round % 2 == 0)
      theirs.run<true>(c, to, from, units);
    else
      ours.run<true>(c, to, from, units);
    REQUIRE(out[1] == plain);
  }
  std::array<std::uint8_t, 32> equal{};
  CHECK(hosted::openssl_xts_key::make(equal).error().code == errc::invalid_argument);
  CHECK(hosted::openssl_xts_key::make(std::span{equal}.first(31)).error().code ==
        errc::invalid_argument);
}

TEST_CASE(
    "deflate through ISA-L: cut anywhere, output sizes, what does not fit and what is corrupt") {
  const auto deflate = std::make_unique<hosted::isal_compressor>();
  std::mt19937 r{3};
  for (unsigned round = 0; round != 60; ++round) {
    auto plain = random_bytes(1 + r() % 20000, static_cast<std::uint32_t>(r()), 1 + round % 16U);
    std::vector<std::byte> packed(plain.size() + 1000);
    std::vector<std::byte> back(plain.size());
    const auto made = deflate->compress(cut(plain, r, 3000), cut(packed, r, 3000));
    REQUIRE(made.good());
    const std::span<std::byte> exact{packed.data(), static_cast<std::size_t>(made.value)};
    const auto unpacked = deflate->decompress(cut(exact, r, 300), cut(back, r, 300));
    REQUIRE(unpacked.good());
    REQUIRE(unpacked.value == plain.size());
    REQUIRE(back == plain);
    if (exact.size() > 100) {
      std::vector<std::byte> half(exact.size() / 2);
      CHECK(deflate->compress(cut(plain, r, 3000), cut(half, r, 3000)).status ==
            step_status::output_too_large);
      CHECK(deflate->decompress(cut(exact.first(exact.size() / 2), r, 300), cut(back, r, 300))
                .status == step_status::corrupt);
    }
    if (plain.size() > 1) {
      const auto small = std::span{back}.first(plain.size() - 1);
      CHECK(deflate->decompress(cut(exact, r, 300), cut(small, r, 300)).status ==
            step_status::output_too_large);
    }
  }
  // A stored block by hand (RFC 1951, 3.2.4): final, length 3, its complement, "abc".
  std::array<std::byte, 8> stored{std::byte{1},    std::byte{3},   std::byte{0},   std::byte{0xfc},
                                  std::byte{0xff}, std::byte{'a'}, std::byte{'b'}, std::byte{'c'}};
  std::array<std::byte, 3> abc{};
  const auto from = local_segment(stored);
  const auto to = local_segment(abc);
  CHECK(deflate->decompress({&from, 1}, {&to, 1}).good());
  CHECK(abc[2] == std::byte{'c'});
  stored[3] = std::byte{0};
  CHECK(deflate->decompress({&from, 1}, {&to, 1}).status == step_status::corrupt);
}

TEST_CASE("a chain through the libraries: compress, encrypt, DIF, and back; the size travels") {
  auto keys = library_keys();
  const auto deflate = std::make_unique<hosted::isal_compressor>();
  const auto engine = std::make_unique<library_engine>(hosted::openssl_cipher<>{keys}, *deflate);
  auto plain = random_bytes(4096, 9, 4);
  std::vector<std::byte> wire(4160);
  std::vector<std::byte> back(4096);
  std::vector<std::byte> pool(16384);
  domain_table<> domains;
  const auto run = [&](auto& s) {
    target where;
    where.fusions = software_fusions;
    const auto p = plan(s, where);
    REQUIRE(p);
    execution e{s, *engine, domains};
    REQUIRE(e.start(pool, p->scratch_bytes));
    while (!e.poll()) {
    }
    return e.result_of_run();
  };
  sequence<> write;
  const auto packed = *write.scratch(4096);
  const auto coded = *write.scratch(4096);
  const auto size = *write.compress(packed, local_segment(plain));
  CHECK(write.encrypt(coded, packed, {.unit_bytes = 4096, .key = 1}));
  CHECK(write.dif_insert(local_segment(wire), coded, {}));
  CHECK(run(write).good);
  const auto bytes = write.result_of(size).value;
  CHECK(bytes > 0);
  CHECK(bytes < 2000);

  sequence<> read;
  const auto stripped = *read.scratch(4096);
  const auto plain_again = *read.scratch(4096);
  domain_segment exact = plain_again;
  exact.bytes = bytes;
  const std::array decoded{plain_again};
  CHECK(read.dif_strip(stripped, local_segment(wire), {}));
  CHECK(read.decrypt(decoded, stripped, {.unit_bytes = 4096, .key = 1}));
  CHECK(read.decompress(local_segment(back), exact));
  const auto sum = *read.crc32c(local_segment(back));
  CHECK(run(read).good);
  CHECK(back == plain);
  CHECK(read.result_of(sum).value == crc32c(plain));
}
