// SPDX-License-Identifier: BSL-1.0
#include <phasebit/hosted/file_media.hpp>

#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/stat.h>

using namespace phasebit;
using block::media_status;
using hosted::file_media;

namespace {

// A folder that goes away with its files.
struct folder {
  std::filesystem::path path;
  folder() {
    std::string name = (std::filesystem::temp_directory_path() / "file_media_XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string file(const char* name, std::size_t bytes) const {
    const auto whole = path / name;
    std::ofstream{whole, std::ios::binary} << std::string(bytes, '\x5a');
    return whole.string();
  }
};

std::string text(const error& e) {
  std::array<char, 300> store{};
  return std::string{e.message(store)};
}

}  // namespace

TEST_CASE("a file holds its whole blocks and keeps what is written over a reopening") {
  folder here;
  const auto path = here.file("disk", 4096 * 4 + 77);
  std::vector<std::byte> data(8192, std::byte{0xa5});
  {
    auto media = file_media::open(path, {.block_size = 4096});
    REQUIRE(media);
    CHECK(media->block_size() == 4096);
    CHECK(media->block_count() == 4);
    CHECK(media->write(2, data) == media_status::good);
    CHECK(media->flush() == media_status::good);
    CHECK(media->write(3, data) == media_status::out_of_range);
  }
  auto again = file_media::open(path);
  REQUIRE(again);
  CHECK(again->block_count() == 32);
  std::vector<std::byte> back(8192);
  CHECK(again->read(16, back) == media_status::good);
  CHECK(back == data);
  CHECK(again->read(31, back) == media_status::out_of_range);
  CHECK(std::filesystem::file_size(path) == 4096 * 4 + 77);
}

TEST_CASE("each reason for a failed open has its own message") {
  folder here;
  const auto missing = file_media::open((here.path / "absent").string());
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == errc::not_found);
  CHECK(text(missing.error()).find("absent") != std::string::npos);

  const auto small = file_media::open(here.file("small", 511));
  REQUIRE_FALSE(small);
  CHECK(small.error().code == errc::out_of_range);
  CHECK(small.error().value == 511);
  CHECK(text(small.error()).find("small") != std::string::npos);

  const auto few = file_media::open(here.file("few", 4096), {.least_blocks = 9});
  REQUIRE_FALSE(few);
  CHECK(few.error().code == errc::out_of_range);

  const auto directory = file_media::open(here.path.string());
  REQUIRE_FALSE(directory);
  CHECK(directory.error().code == errc::invalid_argument);

  const auto size = file_media::open(here.file("odd", 4096), {.block_size = 520});
  REQUIRE_FALSE(size);
  CHECK(size.error().code == errc::invalid_argument);
  CHECK(size.error().value == 520);

  const auto device = file_media::open("/dev/null");
  REQUIRE_FALSE(device);
  CHECK(device.error().code == errc::invalid_argument);
}

TEST_CASE("a file that may not be written is an error unless it is opened to be read") {
  folder here;
  const auto path = here.file("guarded", 4096);
  REQUIRE(::chmod(path.c_str(), 0444) == 0);
  if (::geteuid() != 0) {
    const auto refused = file_media::open(path);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::permission);
    CHECK(text(refused.error()).find("guarded") != std::string::npos);
  }
  auto media = file_media::open(path, {.read_only = true});
  REQUIRE(media);
  CHECK(block::read_only(*media));
  std::array<std::byte, 512> buffer{};
  CHECK(media->read(0, buffer) == media_status::good);
  CHECK(buffer[0] == std::byte{0x5a});
  CHECK(media->write(0, buffer) == media_status::read_only);
  CHECK(media->write_zeroes(0, 1) == media_status::read_only);
  CHECK(media->trim(0, 1) == media_status::read_only);
  CHECK(media->flush() == media_status::good);
}

TEST_CASE("zeroed and trimmed blocks of a file read as zeros, their neighbours as before") {
  folder here;
  auto media = file_media::open(here.file("disk", 512 * 40));
  REQUIRE(media);
  CHECK(block::write_zeroes(*media, 3, 20) == media_status::good);
  std::vector<std::byte> back(512 * 40);
  CHECK(media->read(0, back) == media_status::good);
  for (std::size_t i = 0; i < back.size(); ++i) {
    REQUIRE(back[i] == (i / 512 >= 3 && i / 512 < 23 ? std::byte{0} : std::byte{0x5a}));
  }
  CHECK(block::trim(*media, 30, 10) == media_status::good);
  CHECK(block::trim(*media, 30, 11) == media_status::out_of_range);
  CHECK(media->block_count() == 40);
}

TEST_CASE("a file that shrinks under the disk is a failed read, not a short one") {
  folder here;
  const auto path = here.file("disk", 4096);
  auto media = file_media::open(path);
  REQUIRE(media);
  std::filesystem::resize_file(path, 1000);
  std::array<std::byte, 1024> buffer{};
  CHECK(media->read(0, std::span{buffer}.first(512)) == media_status::good);
  CHECK(media->read(1, buffer) == media_status::read_failed);
}

TEST_CASE("a new file has the size that was asked for and reads as zeros") {
  folder here;
  const auto path = (here.path / "new").string();
  auto media = file_media::create(path, 1 << 20);
  REQUIRE(media);
  CHECK(media->block_count() == 2048);
  std::array<std::byte, 512> buffer{};
  buffer.fill(std::byte{1});
  CHECK(media->read(2047, buffer) == media_status::good);
  CHECK(buffer == std::array<std::byte, 512>{});
  auto moved = std::move(*media);
  CHECK(moved.read(0, buffer) == media_status::good);

  const auto nowhere = file_media::create((here.path / "a/b").string(), 4096);
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().code == errc::not_found);
}
