// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/memory_media.hpp>
#include <phasebit/hosted/threaded_media.hpp>

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using block::media_operation;
using block::media_segment;
using block::media_status;
using block::media_tag;

namespace {

static_assert(block::AsyncBlockMedia<hosted::threaded_media<block::memory_media>>);

// Media whose operations wait at a gate.
struct gated_media : block::memory_media {
  using memory_media::memory_media;
  std::mutex gate{};
  std::atomic<unsigned> entered{0};

  media_status flush() noexcept {
    ++entered;
    const std::scoped_lock lock{gate};
    return media_status::good;
  }
};

template <class Media>
std::map<media_tag, media_status> drain(Media& media) {
  std::map<media_tag, media_status> got;
  while (!media.drained()) {
    media.poll([&](media_tag tag, media_status status) noexcept {
      CHECK(got.emplace(tag, status).second);
    });
    std::this_thread::yield();
  }
  return got;
}

}  // namespace

TEST_CASE("threads move the blocks of many operations, each delivered once") {
  std::vector<std::byte> store(512 * 256);
  block::memory_media blocks{store};
  std::atomic<unsigned> notified{0};
  hosted::threaded_media media{blocks,
                               {.threads = 3, .capacity = 64, .notify = [&] { ++notified; }}};
  // Each operation has its own block and buffer, in two segments that cut the block.
  std::vector<std::vector<std::byte>> buffers(256, std::vector<std::byte>(512));
  std::vector<std::array<media_segment, 2>> segments(256);
  for (std::size_t i = 0; i != 256; ++i) {
    for (auto& b : buffers[i]) b = static_cast<std::byte>(i + 1);
    segments[i] = {media_segment::of(std::span{buffers[i]}.first(100)),
                   media_segment::of(std::span{buffers[i]}.subspan(100))};
  }
  std::size_t delivered = 0;
  const auto run = [&](media_operation operation) {
    for (std::size_t i = 0; i != 256;) {
      const auto answer =
          media.submit({.operation = operation, .lba = i, .blocks = 1, .segments = segments[i]}, i);
      REQUIRE_FALSE(answer.is_done());
      i += answer.is_pending() ? 1U : 0U;
      delivered += media.poll(
          [](media_tag, media_status status) noexcept { CHECK(status == media_status::good); });
    }
    delivered += drain(media).size();
  };
  run(media_operation::write);
  for (std::size_t i = 0; i != 256; ++i) REQUIRE(store[i * 512 + 511] == std::byte(i + 1));
  for (auto& b : buffers) b.assign(512, std::byte{0});
  run(media_operation::read);
  for (std::size_t i = 0; i != 256; ++i) REQUIRE(buffers[i][99] == std::byte(i + 1));
  CHECK(delivered == 512);
  CHECK(notified == 512);
}

TEST_CASE("operations that no thread has begun are cancelled, and capacity is back-pressure") {
  std::vector<std::byte> store(4096);
  gated_media blocks{store};
  hosted::threaded_media media{blocks, {.threads = 1, .capacity = 3, .notify = {}}};
  {
    const std::scoped_lock closed{blocks.gate};
    for (media_tag tag = 1; tag != 4; ++tag) {
      CHECK(media.submit({.operation = media_operation::flush}, tag).is_pending());
    }
    CHECK(media.submit({.operation = media_operation::flush}, 4).is_busy());
    while (blocks.entered == 0) std::this_thread::yield();
    media.cancel(1);
    media.cancel(3);
    media.cancel(9);
    std::map<media_tag, media_status> got;
    CHECK(media.poll([&](media_tag tag, media_status s) noexcept { got[tag] = s; }) == 1);
    CHECK(got == std::map<media_tag, media_status>{{3, media_status::cancelled}});
    CHECK_FALSE(media.drained());
    CHECK(media.submit({.operation = media_operation::flush}, 5).is_pending());
  }
  const auto remaining = drain(media);
  CHECK(remaining == std::map<media_tag, media_status>{{1, media_status::good},
                                                       {2, media_status::good},
                                                       {5, media_status::good}});
}

TEST_CASE("errors of the media under the threads are delivered as they are") {
  std::vector<std::byte> store(4096);
  block::memory_media blocks{store};
  hosted::threaded_media media{blocks};
  std::vector<std::byte> buffer(512);
  const media_segment segment = media_segment::of(buffer);
  CHECK(media.submit({.lba = 8, .blocks = 1, .segments = {&segment, 1}}, 7).is_pending());
  CHECK(drain(media) == std::map<media_tag, media_status>{{7, media_status::out_of_range}});
}
