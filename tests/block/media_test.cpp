// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/null_media.hpp>

#include <array>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using block::media_status;

namespace {

// The least that is BlockMedia; remembers the writes it got.
struct least_media {
  std::uint32_t size = 512;
  std::uint64_t count = 64;
  std::vector<std::pair<std::uint64_t, std::size_t>> writes{};
  bool all_zero = true;
  std::size_t fail_at = ~std::size_t{0};

  std::uint32_t block_size() const noexcept { return size; }
  std::uint64_t block_count() const noexcept { return count; }
  media_status read(std::uint64_t, std::span<std::byte>) noexcept { return media_status::good; }
  media_status write(std::uint64_t lba, std::span<const std::byte> from) noexcept {
    if (writes.size() == fail_at) return media_status::write_failed;
    writes.emplace_back(lba, from.size());
    for (std::byte b : from) all_zero = all_zero && b == std::byte{0};
    return media_status::good;
  }
  media_status flush() noexcept { return media_status::good; }
};
static_assert(block::BlockMedia<least_media>);
static_assert(!block::TrimmableMedia<least_media> && !block::ZeroableMedia<least_media>);

struct protected_media : least_media {
  bool read_only() const noexcept { return true; }
};

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(i * 7 + seed);
  return out;
}

}  // namespace

TEST_CASE("blocks written to memory are read back, and only those") {
  for (std::uint32_t size : {512U, 1024U, 4096U}) {
    std::vector<std::byte> store(size * 8);
    block::memory_media media{store, size};
    CHECK(media.block_size() == size);
    CHECK(media.block_count() == 8);
    const auto data = pattern(size * 2, size);
    CHECK(media.write(3, data) == media_status::good);
    std::vector<std::byte> back(size * 2);
    CHECK(media.read(3, back) == media_status::good);
    CHECK(back == data);
    CHECK(media.read(0, back) == media_status::good);
    CHECK(back == std::vector<std::byte>(size * 2));
    CHECK(media.flush() == media_status::good);
  }
}

TEST_CASE("a range of blocks is refused exactly when it leaves the media") {
  std::vector<std::byte> store(512 * 4 + 100);
  block::memory_media media{store};
  CHECK(media.block_count() == 4);
  for (std::uint64_t lba = 0; lba < 8; ++lba) {
    for (std::size_t blocks = 0; blocks < 8; ++blocks) {
      std::vector<std::byte> buffer(blocks * 512);
      const auto expected = lba + blocks <= 4 ? media_status::good : media_status::out_of_range;
      CHECK(media.read(lba, buffer) == expected);
      CHECK(media.write(lba, buffer) == expected);
      CHECK(media.write_zeroes(lba, blocks) == expected);
      CHECK(media.trim(lba, blocks) == expected);
    }
  }
}

TEST_CASE("a sum of block number and count that wraps is out of range") {
  std::vector<std::byte> store(512 * 4);
  block::memory_media media{store};
  block::null_media nothing{4};
  std::array<std::byte, 1024> buffer{};
  for (std::uint64_t lba : {~std::uint64_t{0}, ~std::uint64_t{0} - 1, std::uint64_t{1} << 55}) {
    CHECK(media.read(lba, buffer) == media_status::out_of_range);
    CHECK(nothing.write(lba, buffer) == media_status::out_of_range);
    CHECK(media.write_zeroes(lba, 2) == media_status::out_of_range);
    CHECK(media.write_zeroes(1, lba) == media_status::out_of_range);
    CHECK(block::write_zeroes(media, lba, 2) == media_status::out_of_range);
    CHECK(block::trim(media, 2, lba) == media_status::out_of_range);
  }
}

TEST_CASE("zeroing memory leaves the neighbours alone") {
  std::vector<std::byte> store = pattern(512 * 4, 1);
  const auto before = store;
  block::memory_media media{store};
  CHECK(block::write_zeroes(media, 1, 2) == media_status::good);
  CHECK(std::memcmp(store.data(), before.data(), 512) == 0);
  CHECK(std::memcmp(store.data() + 1536, before.data() + 1536, 512) == 0);
  for (std::size_t i = 512; i < 1536; ++i) CHECK(store[i] == std::byte{0});
}

TEST_CASE("media without a means to zero is written with zeros, in parts") {
  least_media media{};
  CHECK(block::write_zeroes(media, 5, 19) == media_status::good);
  const std::vector<std::pair<std::uint64_t, std::size_t>> expected{
      {5, 4096}, {13, 4096}, {21, 1536}};
  CHECK(media.writes == expected);
  CHECK(media.all_zero);

  least_media broken{.fail_at = 1};
  CHECK(block::write_zeroes(broken, 0, 64) == media_status::write_failed);
  CHECK(broken.writes.size() == 1);
}

TEST_CASE(
    "a trim is a hint: media that cannot use it return success, write-protected media do not") {
  least_media media{};
  CHECK(block::trim(media, 0, 64) == media_status::good);
  CHECK(block::trim(media, 0, 65) == media_status::out_of_range);
  CHECK(media.writes.empty());
  protected_media guarded{};
  CHECK(block::read_only(guarded));
  CHECK_FALSE(block::read_only(media));
  CHECK(block::trim(guarded, 0, 1) == media_status::read_only);
}

TEST_CASE("null media report their size and touch no buffer") {
  block::null_media media{10, 4096};
  CHECK(media.block_count() == 10);
  CHECK(media.block_size() == 4096);
  auto buffer = pattern(8192, 3);
  const auto before = buffer;
  CHECK(media.read(8, buffer) == media_status::good);
  CHECK(buffer == before);
  CHECK(media.read(9, buffer) == media_status::out_of_range);
}

TEST_CASE("every media status has its name") {
  CHECK(block::name(media_status::good) == "good");
  CHECK(block::name(media_status::not_supported) == "not_supported");
}
