// SPDX-License-Identifier: BSL-1.0
#include <phasebit/block/async_media.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/block/null_media.hpp>
#include <phasebit/block/planned_media.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using block::media_answer;
using block::media_operation;
using block::media_request;
using block::media_segment;
using block::media_status;
using block::media_tag;

namespace {

static_assert(block::AsyncBlockMedia<block::immediate_media<block::memory_media>>);
static_assert(block::ImmediateMedia<block::immediate_media<block::null_media>>);
static_assert(!block::BlockMedia<block::immediate_media<block::null_media>>);

// The least that is AsyncBlockMedia.
struct least_async_media {
  std::uint32_t block_size() const noexcept { return 512; }
  std::uint64_t block_count() const noexcept { return 1; }
  media_answer submit(const media_request&, media_tag) noexcept { return media_answer::busy(); }
  template <class Sink>
  std::size_t poll(Sink&) noexcept {
    return 0;
  }
  void cancel(media_tag) noexcept {}
  bool drained() const noexcept { return true; }
  bool reaches(memory_domain) const noexcept { return false; }
};
static_assert(block::AsyncBlockMedia<least_async_media>);
static_assert(!block::ImmediateMedia<least_async_media>);
static_assert(!block::AlignedMedia<least_async_media>);

std::vector<media_segment> segments_of(std::vector<std::vector<std::byte>>& parts) {
  std::vector<media_segment> out;
  for (auto& p : parts) out.push_back(media_segment::of(p));
  return out;
}

// Cuts `bytes` into random parts, some empty.
std::vector<std::vector<std::byte>> cut(std::size_t bytes, std::mt19937& random) {
  std::vector<std::vector<std::byte>> out;
  while (bytes != 0) {
    const std::size_t kinds[] = {0, 1, 4, 100, 512, 700, 1024, 4096};
    const std::size_t n = std::min(bytes, kinds[random() % std::size(kinds)]);
    out.emplace_back(n);
    bytes -= n;
  }
  return out;
}

struct collected {
  std::vector<std::pair<media_tag, media_status>> all;
  void operator()(media_tag tag, media_status status) noexcept { all.emplace_back(tag, status); }
};

// A media that forgets what was not flushed: only counts flushes.
struct counting_media : block::memory_media {
  using memory_media::memory_media;
  unsigned flushes = 0;
  media_status flush() noexcept {
    ++flushes;
    return media_status::good;
  }
};

}  // namespace

TEST_CASE("segments cut anywhere carry the same bytes as one buffer does") {
  std::mt19937 random{7};
  for (std::uint32_t size : {512U, 4096U}) {
    std::vector<std::byte> store(size * 16);
    block::memory_media media{store, size};
    block::immediate_media async{media};
    for (int round = 0; round != 400; ++round) {
      const std::uint64_t blocks = random() % 5;
      const std::uint64_t lba = random() % 12;
      auto parts = cut(blocks * size, random);
      std::vector<std::byte> whole;
      for (auto& p : parts) {
        for (auto& b : p) b = static_cast<std::byte>(random());
        whole.insert(whole.end(), p.begin(), p.end());
      }
      auto segments = segments_of(parts);
      const auto before = store;
      CHECK(async.submit({.operation = media_operation::write,
                          .lba = lba,
                          .blocks = blocks,
                          .segments = segments},
                         1) == media_answer::done(media_status::good));
      auto expected = before;
      std::copy(whole.begin(), whole.end(), expected.begin() + static_cast<long>(lba * size));
      REQUIRE(store == expected);

      auto back = cut(blocks * size, random);
      auto into = segments_of(back);
      CHECK(
          async.submit(
              {.operation = media_operation::read, .lba = lba, .blocks = blocks, .segments = into},
              2) == media_answer::done(media_status::good));
      std::vector<std::byte> joined;
      for (auto& p : back) joined.insert(joined.end(), p.begin(), p.end());
      REQUIRE(joined == whole);
    }
  }
}

TEST_CASE("the immediate adapter passes every operation on with its status") {
  std::vector<std::byte> store(512 * 8, std::byte{0xaa});
  counting_media media{store};
  block::immediate_media async{media};
  std::vector<std::byte> data(1024, std::byte{0x11});
  const media_segment segment = media_segment::of(data);
  const auto submit = [&](media_request r) { return async.submit(r, 0).status(); };

  CHECK(submit({.operation = media_operation::write,
                .lba = 7,
                .blocks = 2,
                .segments = {&segment, 1}}) == media_status::out_of_range);
  CHECK(store == std::vector<std::byte>(512 * 8, std::byte{0xaa}));
  CHECK(submit({.operation = media_operation::read,
                .lba = ~std::uint64_t{0},
                .blocks = 2,
                .segments = {&segment, 1}}) == media_status::out_of_range);
  CHECK(submit({.operation = media_operation::write,
                .lba = 0,
                .blocks = 2,
                .segments = {&segment, 1}}) == media_status::good);
  CHECK(media.flushes == 0);
  CHECK(submit({.operation = media_operation::write,
                .fua = true,
                .lba = 0,
                .blocks = 2,
                .segments = {&segment, 1}}) == media_status::good);
  CHECK(media.flushes == 1);
  CHECK(submit({.operation = media_operation::write_zeroes, .fua = true, .lba = 1, .blocks = 1}) ==
        media_status::good);
  CHECK(media.flushes == 2);
  CHECK(store[511] == std::byte{0x11});
  CHECK(store[512] == std::byte{0});
  CHECK(submit({.operation = media_operation::discard, .lba = 0, .blocks = 9}) ==
        media_status::out_of_range);
  CHECK(submit({.operation = media_operation::discard, .lba = 0, .blocks = 1}) ==
        media_status::good);
  CHECK(store[0] == std::byte{0});
  CHECK(submit({.operation = media_operation::flush}) == media_status::good);
  CHECK(media.flushes == 3);
  CHECK(async.drained());
  CHECK(async.reaches(memory_domain::local));
  CHECK_FALSE(async.reaches(memory_domain{1}));
  collected none;
  CHECK(async.poll(none) == 0);
}

TEST_CASE("planned media delivers each operation once, in the planned order, and moves data then") {
  std::vector<std::byte> store(512 * 64);
  block::memory_media blocks{store};
  std::vector<block::planned_operation> memory(4);
  std::uint32_t delays[] = {2, 0, 1, block::media_fate::held};
  const auto plan = [&](const media_request&, std::uint64_t n) noexcept {
    return block::media_fate{.delay = delays[n % 4]};
  };
  block::planned_media media{blocks, std::span{memory}, plan};
  std::vector<std::byte> data(512, std::byte{0x42});
  const media_segment segment = media_segment::of(data);
  for (media_tag tag = 10; tag != 14; ++tag) {
    CHECK(media
              .submit({.operation = media_operation::write,
                       .lba = tag,
                       .blocks = 1,
                       .segments = {&segment, 1}},
                      tag)
              .is_pending());
  }
  CHECK(media.submit({.operation = media_operation::flush}, 99).is_busy());
  CHECK_FALSE(media.drained());
  CHECK(store[10 * 512] == std::byte{0});
  collected got;
  CHECK(media.poll(got) == 1);
  CHECK(media.poll(got) == 1);
  CHECK(store[11 * 512] == std::byte{0x42});
  CHECK(store[10 * 512] == std::byte{0});
  CHECK(media.poll(got) == 1);
  CHECK(media.poll(got) == 0);
  CHECK(media.in_flight() == 1);
  CHECK(media.in_flight(0)->tag == 13);
  CHECK(media.release(0, media_status::write_failed));
  CHECK_FALSE(media.release(1));
  CHECK(media.poll(got) == 1);
  CHECK(media.drained());
  using pair = std::pair<media_tag, media_status>;
  CHECK(got.all == std::vector<pair>{{11, media_status::good},
                                     {12, media_status::good},
                                     {10, media_status::good},
                                     {13, media_status::write_failed}});
  CHECK(store[13 * 512] == std::byte{0});
}

TEST_CASE("a cancelled operation of planned media is delivered once and has no effect") {
  std::vector<std::byte> store(512 * 4);
  block::memory_media blocks{store};
  std::vector<block::planned_operation> memory(4);
  bool stubborn = false;
  const auto plan = [&](const media_request&, std::uint64_t) noexcept {
    return block::media_fate{.delay = block::media_fate::held, .ignores_cancel = stubborn};
  };
  block::planned_media media{blocks, std::span{memory}, plan};
  std::vector<std::byte> data(512, std::byte{1});
  const media_segment segment = media_segment::of(data);
  const media_request write{
      .operation = media_operation::write, .lba = 1, .blocks = 1, .segments = {&segment, 1}};
  CHECK(media.submit(write, 5).is_pending());
  stubborn = true;
  CHECK(media.submit(write, 6).is_pending());
  media.cancel(5);
  media.cancel(6);
  media.cancel(7);
  collected got;
  CHECK(media.poll(got) == 1);
  CHECK(got.all.back() == std::pair<media_tag, media_status>{5, media_status::cancelled});
  CHECK(store[512] == std::byte{0});
  CHECK(media.poll(got) == 0);
  CHECK_FALSE(media.drained());
  media.release_all();
  CHECK(media.poll(got) == 1);
  CHECK(got.all.back() == std::pair<media_tag, media_status>{6, media_status::good});
  CHECK(store[512] == std::byte{1});
}

TEST_CASE("random plans deliver every accepted tag exactly once, also when the sink submits") {
  std::vector<std::byte> store(512 * 64);
  block::memory_media blocks{store};
  std::vector<block::planned_operation> memory(32);
  block::planned_media media{blocks, std::span{memory},
                             block::random_media_plan{.longest = 5,
                                                      .fail_one_in = 7,
                                                      .busy_one_in = 5,
                                                      .at_once_one_in = 9,
                                                      .ignore_cancel_one_in = 3}};
  std::mt19937 random{3};
  std::map<media_tag, int> expected;
  std::map<media_tag, int> delivered;
  media_tag next = 0;
  const auto submit = [&]() noexcept {
    const media_tag tag = next++;
    const auto answer = media.submit({.operation = media_operation::flush}, tag);
    if (answer.is_pending()) expected[tag] = 1;
  };
  const auto sink = [&](media_tag tag, media_status) noexcept {
    ++delivered[tag];
    if (random() % 4 == 0) submit();
  };
  for (int round = 0; round != 5000; ++round) {
    for (unsigned n = random() % 4; n != 0; --n) submit();
    if (next != 0) media.cancel(random() % next);
    media.poll(sink);
  }
  for (int round = 0; round != 1000 && !media.drained(); ++round) media.poll(sink);
  CHECK(media.drained());
  CHECK(delivered == expected);
}
