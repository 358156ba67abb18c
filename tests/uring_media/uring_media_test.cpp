// SPDX-License-Identifier: BSL-1.0
#include <phasebit/hosted/uring_media.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

using namespace phasebit;
using block::media_operation;
using block::media_request;
using block::media_segment;
using block::media_status;
using block::media_tag;

namespace {

struct image {
  explicit image(std::uint64_t bytes) {
    std::string name = (std::filesystem::temp_directory_path() / "phasebit-uring-XXXXXX").string();
    const int fd = ::mkstemp(name.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    path = name;
    REQUIRE(hosted::file_media::create(path, bytes));
  }
  ~image() { std::filesystem::remove(path); }
  image(const image&) = delete;
  image& operator=(const image&) = delete;

  std::string path;
};

// Nothing where the kernel forbids io_uring, which is reported.
std::optional<hosted::uring_media> open(const image& i, hosted::uring_media_options options = {},
                                        hosted::file_media_options file = {}) {
  auto opened = hosted::file_media::open(i.path, file);
  REQUIRE(opened);
  auto made = hosted::uring_media::make(std::move(*opened), options);
  if (!made && made.error().code == errc::not_supported) {
    std::cout << "skipped: " << made.error().what << '\n';
    return std::nullopt;
  }
  REQUIRE(made);
  return std::move(*made);
}

std::map<media_tag, media_status> drain(hosted::uring_media& media) {
  std::map<media_tag, media_status> got;
  while (!media.drained()) {
    media.poll([&](media_tag tag, media_status status) noexcept {
      CHECK(got.emplace(tag, status).second);
    });
  }
  return got;
}

media_status run(hosted::uring_media& media, const media_request& request) {
  const auto answer = media.submit(request, 77);
  if (answer.is_done()) return answer.status();
  REQUIRE(answer.is_pending());
  return drain(media).at(77);
}

}  // namespace

TEST_CASE("random operations at random depths move the bytes of a reference, each delivered once") {
  constexpr std::uint64_t blocks = 512;
  const image file{blocks * 512};
  auto media = open(file, {.capacity = 16, .segments = 3});
  if (!media) return;
  std::mt19937 random{1};
  std::vector<std::byte> expected(blocks * 512);
  struct running {
    media_request request{};
    std::vector<std::byte> buffer{};
    std::vector<media_segment> segments{};
  };
  std::map<media_tag, running> in_flight;
  std::set<std::uint64_t> busy_blocks;
  std::uint64_t delivered = 0;
  const auto deliver = [&](media_tag tag, media_status status) noexcept {
    const auto at = in_flight.find(tag);
    REQUIRE(at != in_flight.end());
    const running& r = at->second;
    REQUIRE(status == media_status::good);
    auto* const stored = expected.data() + r.request.lba * 512;
    if (r.request.operation == media_operation::read) {
      REQUIRE(std::memcmp(r.buffer.data(), stored, r.buffer.size()) == 0);
    } else if (r.request.operation == media_operation::write) {
      std::memcpy(stored, r.buffer.data(), r.buffer.size());
    } else {
      std::memset(stored, 0, r.request.blocks * 512);
    }
    for (std::uint64_t b = 0; b != r.request.blocks; ++b) busy_blocks.erase(r.request.lba + b);
    in_flight.erase(at);
    ++delivered;
  };
  media_tag tag = 0;
  while (delivered < 600) {
    ++tag;
    const std::uint64_t lba = random() % (blocks - 8);
    const std::uint64_t count = 1 + random() % 8;
    bool free = true;
    for (std::uint64_t b = 0; b != count; ++b) free = free && !busy_blocks.contains(lba + b);
    if (free) {
      running& r = in_flight[tag];
      constexpr media_operation kinds[] = {media_operation::read,         media_operation::write,
                                           media_operation::read,         media_operation::write,
                                           media_operation::write_zeroes, media_operation::discard};
      r.request = {
          .operation = kinds[random() % 6], .fua = random() % 16 == 0, .lba = lba, .blocks = count};
      if (r.request.operation == media_operation::read ||
          r.request.operation == media_operation::write) {
        r.buffer.resize(count * 512);
        for (auto& b : r.buffer) b = static_cast<std::byte>(random());
        // Cut anywhere: more segments than one operation of the kernel takes.
        for (std::size_t from = 0; from != r.buffer.size();) {
          const std::size_t part =
              std::min<std::size_t>(1 + random() % 600, r.buffer.size() - from);
          r.segments.push_back(media_segment::of(std::span{r.buffer}.subspan(from, part)));
          from += part;
        }
        r.request.segments = r.segments;
      }
      const auto answer = media->submit(r.request, tag);
      if (answer.is_busy()) {
        in_flight.erase(tag);
      } else {
        REQUIRE(answer.is_pending());
        for (std::uint64_t b = 0; b != count; ++b) busy_blocks.insert(lba + b);
      }
    }
    if (random() % 4 == 0 || in_flight.size() == 16) media->poll(deliver);
  }
  while (!media->drained()) media->poll(deliver);
  CHECK(in_flight.empty());
  CHECK(delivered >= 600);
  auto again = hosted::file_media::open(file.path);
  REQUIRE(again);
  std::vector<std::byte> stored(expected.size());
  REQUIRE(again->read(0, stored) == media_status::good);
  CHECK(stored == expected);
}

TEST_CASE("requests that cannot be executed are answered at once, and touch nothing") {
  const image file{64 * 512};
  auto media = open(file);
  if (!media) return;
  std::vector<std::byte> buffer(512);
  const media_segment segment = media_segment::of(buffer);
  for (const auto operation : {media_operation::read, media_operation::write,
                               media_operation::write_zeroes, media_operation::discard}) {
    CHECK(
        run(*media, {.operation = operation, .lba = 64, .blocks = 1, .segments = {&segment, 1}}) ==
        media_status::out_of_range);
    CHECK(run(*media, {.operation = operation,
                       .lba = ~std::uint64_t{0},
                       .blocks = 2,
                       .segments = {&segment, 1}}) == media_status::out_of_range);
  }
  CHECK(media->drained());
  auto protected_media = open(file, {}, {.read_only = true});
  REQUIRE(protected_media);
  CHECK(run(*protected_media,
            {.operation = media_operation::write, .blocks = 1, .segments = {&segment, 1}}) ==
        media_status::read_only);
  CHECK(run(*protected_media, {.operation = media_operation::flush}) == media_status::good);
  CHECK(run(*protected_media, {.blocks = 1, .segments = {&segment, 1}}) == media_status::good);
}

TEST_CASE("capacity is back-pressure, and a file that has shrunk is a failed operation") {
  const image file{64 * 512};
  auto media = open(file, {.capacity = 2});
  if (!media) return;
  std::vector<std::byte> buffer(1024);
  const media_segment first = media_segment::of(std::span{buffer}.first(512));
  const media_segment second = media_segment::of(std::span{buffer}.last(512));
  CHECK(media->submit({.lba = 1, .blocks = 1, .segments = {&first, 1}}, 1).is_pending());
  CHECK(media->submit({.lba = 63, .blocks = 1, .segments = {&second, 1}}, 2).is_pending());
  CHECK(media->submit({.lba = 2, .blocks = 1, .segments = {&first, 1}}, 3).is_busy());
  CHECK(drain(*media) ==
        std::map<media_tag, media_status>{{1, media_status::good}, {2, media_status::good}});
  std::filesystem::resize_file(file.path, 32 * 512);
  CHECK(run(*media, {.lba = 63, .blocks = 1, .segments = {&second, 1}}) ==
        media_status::read_failed);
}

TEST_CASE("cancelled operations are delivered once, and the destructor ends those in flight") {
  const image file{4096 * 512};
  auto media = open(file, {.capacity = 64});
  if (!media) return;
  std::vector<std::vector<std::byte>> buffers(64, std::vector<std::byte>(4096, std::byte{9}));
  std::vector<media_segment> segments;
  for (auto& b : buffers) segments.push_back(media_segment::of(b));
  for (media_tag tag = 0; tag != 64; ++tag) {
    CHECK(media
              ->submit({.operation = media_operation::write,
                        .lba = tag * 8,
                        .blocks = 8,
                        .segments = {&segments[tag], 1}},
                       tag)
              .is_pending());
    if (tag % 2 == 0) media->cancel(tag);
  }
  media->cancel(1000);
  const auto got = drain(*media);
  CHECK(got.size() == 64);
  for (const auto& [tag, status] : got) {
    CHECK((status == media_status::good || (tag % 2 == 0 && status == media_status::cancelled)));
  }
  for (media_tag tag = 0; tag != 64; ++tag) {
    CHECK(media->submit({.lba = tag * 8, .blocks = 8, .segments = {&segments[tag], 1}}, tag)
              .is_pending());
  }
  media.reset();  // under ASan: nothing is written to the buffers after this
  buffers.clear();
}

TEST_CASE("an event wakes a sleeping device side when an operation has finished") {
  const image file{64 * 512};
  const int event = ::eventfd(0, EFD_NONBLOCK);
  REQUIRE(event >= 0);
  {
    auto media = open(file, {.event_fd = event});
    if (media) {
      std::vector<std::byte> buffer(512);
      const media_segment segment = media_segment::of(buffer);
      REQUIRE(media->submit({.blocks = 1, .segments = {&segment, 1}}, 5).is_pending());
      std::size_t delivered = media->poll([](media_tag, media_status) noexcept {});
      ::pollfd waits{event, POLLIN, 0};
      CHECK(::poll(&waits, 1, 5000) == 1);
      while (!media->drained()) delivered += media->poll([](media_tag, media_status) noexcept {});
      CHECK(delivered == 1);
    }
  }
  ::close(event);
}
