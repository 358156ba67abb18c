// SPDX-License-Identifier: BSL-1.0
#include <phasebit/hosted/disk_media.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

using block::media_operation;
using block::media_segment;
using block::media_status;

// Polls until the one operation has ended.
template <class Media>
media_status run(Media& media, const block::media_request& r) {
  const auto answer = media.submit(r, 77);
  if (answer.is_done()) return answer.status();
  REQUIRE(answer.is_pending());
  media_status ended = media_status::cancelled;
  bool done = false;
  while (!done) {
    media.poll([&](block::media_tag tag, media_status status) noexcept {
      done = tag == 77;
      ended = status;
    });
  }
  return ended;
}

}  // namespace

TEST_CASE("random operations on an open disk read back what was written, many in flight") {
  auto disk = hosted::open_disk("sim:", {.simulated_bytes = std::size_t{4} << 20});
  REQUIRE(disk);
  auto made = hosted::disk_media::make(*disk, {.operations = 8, .buffer_bytes = 16384});
  REQUIRE(made);
  auto& media = *made;
  CHECK(media.block_count() == (4U << 20) / 512);
  std::mt19937 random{3};
  std::vector<std::byte> copy(std::size_t{4} << 20);
  constexpr std::uint32_t slots = 12;
  const std::uint64_t blocks_each = media.block_count() / slots;
  struct slot {
    std::vector<std::byte> memory = std::vector<std::byte>(100 * 512);
    std::vector<media_segment> segments;
    std::uint64_t lba = 0;
    std::size_t bytes = 0;
    bool busy = false;
    bool reading = false;
  };
  std::vector<slot> all(slots);
  unsigned ended = 0;
  while (ended < 2000) {
    for (std::uint32_t i = 0; i != slots; ++i) {
      slot& s = all[i];
      if (s.busy) continue;
      s.bytes = (random() % 100 + 1) * 512;
      s.lba = i * blocks_each + random() % (blocks_each - 100);
      s.reading = random() % 2 == 0;
      s.segments.clear();
      for (std::size_t at = 0; at != s.bytes;) {
        const std::size_t n = std::min<std::size_t>(s.bytes - at, random() % 5000 + 1);
        s.segments.push_back(media_segment::of(std::span{s.memory}.subspan(at, n)));
        at += n;
      }
      for (auto& b : s.memory) b = static_cast<std::byte>(random());
      const auto answer =
          media.submit({.operation = s.reading ? media_operation::read : media_operation::write,
                        .fua = random() % 8 == 0,
                        .lba = s.lba,
                        .blocks = s.bytes / 512,
                        .segments = s.segments},
                       i);
      if (answer.is_busy()) break;
      REQUIRE(answer.is_pending());
      s.busy = true;
    }
    media.poll([&](block::media_tag tag, media_status status) noexcept {
      slot& s = all[static_cast<std::size_t>(tag)];
      CHECK(s.busy);
      CHECK(status == media_status::good);
      s.busy = false;
      ++ended;
      std::byte* const there = copy.data() + s.lba * 512;
      if (s.reading) {
        CHECK(std::memcmp(s.memory.data(), there, s.bytes) == 0);
      } else {
        std::memcpy(there, s.memory.data(), s.bytes);
      }
    });
  }
  while (!media.drained()) media.poll([](block::media_tag, media_status) noexcept {});
}

TEST_CASE("what an open disk cannot do as media is answered, not tried") {
  auto disk = hosted::open_disk("sim:", {.simulated_bytes = 1U << 20});
  REQUIRE(disk);
  auto media = hosted::disk_media::make(*disk, {.operations = 1, .read_only = true});
  REQUIRE(media);
  std::vector<std::byte> block(512);
  const media_segment one[] = {media_segment::of(block)};
  CHECK(run(*media,
            {.operation = media_operation::read, .lba = 2047, .blocks = 1, .segments = one}) ==
        media_status::good);
  CHECK(run(*media,
            {.operation = media_operation::read, .lba = 2048, .blocks = 1, .segments = one}) ==
        media_status::out_of_range);
  CHECK(run(*media, {.operation = media_operation::write, .blocks = 1, .segments = one}) ==
        media_status::read_only);
  CHECK(run(*media, {.operation = media_operation::discard, .blocks = 1}) ==
        media_status::read_only);
  CHECK(run(*media, {.operation = media_operation::read}) == media_status::good);
  CHECK(run(*media, {.operation = media_operation::flush}) == media_status::good);
  REQUIRE(media->submit({.operation = media_operation::flush}, 1).is_pending());
  CHECK(media->submit({.operation = media_operation::flush}, 2).is_busy());
  auto writable = hosted::disk_media::make(*disk);
  REQUIRE(writable);
  CHECK(run(*writable, {.operation = media_operation::write_zeroes, .blocks = 1}) ==
        media_status::not_supported);
}

TEST_CASE("operations on a disk that is pulled out end with a failure") {
  auto disk = hosted::open_disk(
      "sim:", {.faults = backend::simulated::fault_plan{}.remove_at_completion(60)});
  REQUIRE(disk);
  auto media = hosted::disk_media::make(*disk);
  REQUIRE(media);
  std::vector<std::byte> block(512);
  const media_segment one[] = {media_segment::of(block)};
  media_status last = media_status::good;
  for (int i = 0; i != 200 && last == media_status::good; ++i) {
    last = run(*media, {.operation = media_operation::write, .blocks = 1, .segments = one});
  }
  CHECK(last == media_status::write_failed);
  CHECK(run(*media, {.operation = media_operation::read, .blocks = 1, .segments = one}) ==
        media_status::read_failed);
}
