// SPDX-License-Identifier: BSL-1.0
// Blocks that our driver writes lie in the store as OpenSSL's AES-XTS and ISA-L's CRC make them.
#include <phasebit/hosted/accel_isal.hpp>
#include <phasebit/hosted/accel_openssl.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <systems/ipu_rig.hpp>

using namespace phasebit;

TEST_CASE("what the driver writes is stored as OpenSSL and ISA-L encrypt and protect it") {
  ipu_rig::target t;
  const auto key = *hosted::openssl_xts_key::make(ipu_rig::raw_key());
  std::mt19937 r{1};
  for (int round = 0; round != 40; ++round) {
    t.there.most = t.back_again.most = round % 2 == 0 ? ~std::size_t{0} : 1 + r() % 4000;
    const std::size_t blocks = 1 + r() % 128;
    const std::uint64_t lba = r() % (2048 - blocks);
    const dma_region data = t.region(blocks * 512);
    for (auto& b : data.bytes) b = static_cast<std::byte>(r());
    REQUIRE(t.write(lba, data).ok());
    for (std::size_t k = 0; k != blocks; ++k) {
      std::vector<std::byte> want(520);
      key.unit(true, lba + k, want.data(), data.data() + k * 512, 512);
      const auto crc = hosted::isal_instructions::crc16_t10dif({want.data(), 512}, 0);
      accel::encode(want.data() + 512, accel::guard_format::bits16, {crc, lba + k, 0, 0});
      const auto at = t.stored.begin() + static_cast<std::ptrdiff_t>((lba + k) * 520);
      const bool same = std::equal(want.begin(), want.end(), at);
      REQUIRE(same);
    }
    const dma_region again = t.region(blocks * 512);
    REQUIRE(t.read(lba, again).ok());
    const bool same = std::equal(data.bytes.begin(), data.bytes.end(), again.bytes.begin());
    REQUIRE(same);
    t.next -= 2 * ((blocks * 512 + 4095) & ~std::size_t{4095});
  }
  const auto& m = t.media.movements();
  CHECK(m.requests == 80);
  CHECK(m.composed == 4 * 80);
  CHECK(m.taken == 80);
}
