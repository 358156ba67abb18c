// SPDX-License-Identifier: BSL-1.0
// The block pipeline of an infrastructure processor: data, movements, failed checks, hostile peers, and the
// translation between functions' views of host memory.
#include "ipu_rig.hpp"

#include <phasebit/systems/ipu/function_view.hpp>
#include <phasebit/systems/ipu/media_sink.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using block::media_operation;
using block::media_segment;
using block::media_status;

namespace {

// Submits one request and polls until it has ended.
template <class Parts>
media_status run(Parts& p, const block::media_request& r) {
  const auto answer = p.media.submit(r, 7);
  if (answer.is_done()) return answer.status();
  REQUIRE(answer.is_pending());
  media_status status{};
  bool ended = false;
  for (int turn = 0; turn != 1000 && !ended; ++turn) {
    p.media.poll([&](block::media_tag tag, media_status s) noexcept {
      ended = tag == 7;
      status = s;
    });
    p.turn();
  }
  REQUIRE(ended);
  return status;
}
std::vector<std::byte> random_bytes(std::size_t n, std::uint32_t seed) {
  std::mt19937 r{seed};
  std::vector<std::byte> v(n);
  for (auto& b : v) b = static_cast<std::byte>(r());
  return v;
}

}  // namespace

TEST_CASE("a write and a read through every layer move data once each") {
  ipu_rig::target t;
  const dma_region data = t.region(8192);
  const auto bytes = random_bytes(8192, 1);
  std::copy(bytes.begin(), bytes.end(), data.bytes.begin());
  REQUIRE(t.write(3, data).ok());
  CHECK(t.media.movements().composed == 4);
  CHECK(t.media.movements().taken == 1);
  CHECK(t.media.movements().bytes_taken == 8192 + 16 * 520);
  std::fill(data.bytes.begin(), data.bytes.end(), std::byte{});
  REQUIRE(t.read(3, data).ok());
  CHECK(std::equal(bytes.begin(), bytes.end(), data.bytes.begin()));
  CHECK(t.media.movements().taken == 2);
}

TEST_CASE(
    "a stored block whose protection information does not fit ends the read, and is counted") {
  ipu_rig::target t;
  const dma_region data = t.region(4096);
  REQUIRE(t.write(10, data).ok());
  t.stored[12 * 520 + 9] ^= std::byte{1};
  CHECK_FALSE(t.read(10, data).ok());
  CHECK(t.media.movements().failed_checks == 1);
  // A block at another place has the wrong reference tag.
  std::memcpy(&t.stored[20 * 520], &t.stored[10 * 520], 520);
  CHECK_FALSE(t.read(20, t.region(512)).ok());
  CHECK(t.media.movements().failed_checks == 2);
  CHECK(t.read(10, data.subregion(0, 1024)).ok());
}

TEST_CASE("segments cut anywhere, zeros, flush and stable writes pass the pipeline") {
  for (const bool encrypts : {false, true}) {
    for (const bool protects : {false, true}) {
      ipu_rig::pipeline_parts p{{.encrypts = encrypts, .protects = protects}};
      p.there.most = p.back_again.most = 100;
      auto bytes = random_bytes(5 * 512, 2);
      const std::span all{bytes};
      const std::array cut{media_segment::of(all.first(1)), media_segment::of(all.subspan(1, 700)),
                           media_segment::of(all.subspan(701))};
      CHECK(run(p, {.operation = media_operation::write,
                    .fua = true,
                    .lba = 2,
                    .blocks = 5,
                    .segments = cut}) == media_status::good);
      std::vector<std::byte> again(bytes.size());
      const std::array whole{media_segment::of(again)};
      CHECK(
          run(p, {.operation = media_operation::read, .lba = 2, .blocks = 5, .segments = whole}) ==
          media_status::good);
      CHECK(again == bytes);
      CHECK(run(p, {.operation = media_operation::write_zeroes, .lba = 2, .blocks = 5}) ==
            media_status::good);
      CHECK(
          run(p, {.operation = media_operation::read, .lba = 2, .blocks = 5, .segments = whole}) ==
          media_status::good);
      CHECK(std::all_of(again.begin(), again.end(), [](std::byte b) { return b == std::byte{}; }));
      CHECK(run(p, {.operation = media_operation::flush}) == media_status::good);
      CHECK(p.media.drained());
    }
  }
}

TEST_CASE("what the pipeline cannot do ends with a status") {
  ipu_rig::pipeline_parts p;
  auto bytes = random_bytes(512, 3);
  const std::array one{media_segment::of(bytes)};
  CHECK(run(p, {.operation = media_operation::discard, .blocks = 1}) ==
        media_status::not_supported);
  CHECK(run(p, {.operation = media_operation::write_zeroes, .blocks = 257}) ==
        media_status::not_supported);
  CHECK(run(p, {.operation = media_operation::write, .lba = 2048, .blocks = 1, .segments = one}) ==
        media_status::out_of_range);
  // A host that names the same memory twice for a read.
  const std::array twice{one[0], one[0]};
  CHECK(run(p, {.operation = media_operation::read, .blocks = 2, .segments = twice}) ==
        media_status::not_supported);
  CHECK(ipu_rig::pipeline_type::check(p.sink, 100, {}).error().code == errc::misaligned);
  accel::protection wide{.guard = accel::guard_format::bits64};
  CHECK(ipu_rig::pipeline_type::check(p.sink, 512, {.protection = wide}).error().code ==
        errc::misaligned);
  CHECK(ipu_rig::pipeline_type::check(p.sink, 4096, {.protection = wide}));
}

TEST_CASE("a peer that vanishes or answers what was not asked ends every request with an error") {
  for (int how = 0; how != 5; ++how) {
    CAPTURE(how);
    ipu_rig::pipeline_parts p;
    auto bytes = random_bytes(512, 4);
    const std::array one{media_segment::of(bytes)};
    REQUIRE(
        p.media
            .submit({.operation = media_operation::read, .lba = 5, .blocks = 1, .segments = one}, 1)
            .is_pending());
    std::vector<media_status> ended;
    const auto poll = [&] {
      p.media.poll([&](block::media_tag, media_status s) noexcept { ended.push_back(s); });
    };
    poll();
    poll();
    systems::stored_frame f{};
    f.magic = how == 1 ? 1U : systems::stored_frame::magic_value;
    f.operation = static_cast<std::uint8_t>(how == 2 ? 1 : 2);
    f.slot = static_cast<std::uint8_t>(how == 3 ? 200 : 0);
    f.is_answer = 1;
    f.block = 5;
    f.bytes = how == 4 ? 0xffff'ffffU : 520U;
    const auto* raw = reinterpret_cast<const std::byte*>(&f);
    if (how == 0) {
      p.back_again.closed = true;
    } else {
      p.back_again.bytes.insert(p.back_again.bytes.end(), raw, raw + sizeof f);
    }
    poll();
    poll();
    REQUIRE(ended.size() == 1);
    CHECK(ended[0] == media_status::read_failed);
    CHECK(p.sink.broken());
    CHECK(p.media.drained());
    CHECK(run(p, {.operation = media_operation::flush}) != media_status::good);
  }
}

TEST_CASE("a store refuses frames that are no request, and answers what lies beyond its end") {
  for (int how = 0; how != 4; ++how) {
    CAPTURE(how);
    ipu_rig::pipe there;
    ipu_rig::pipe back;
    ipu_rig::stream end{back, there};
    std::vector<std::byte> memory(520 * 4);
    std::vector<std::byte> buffer(520 * 2);
    ipu_rig::store_type store{end, memory, buffer, 520};
    systems::stored_frame f{};
    f.magic = how == 0 ? 0U : systems::stored_frame::magic_value;
    f.operation = static_cast<std::uint8_t>(how == 1 ? 9 : 2);
    f.block = how == 3 ? ~std::uint64_t{0} : 0U;
    f.bytes = how == 2 ? 5200U : 520U;
    const auto* raw = reinterpret_cast<const std::byte*>(&f);
    there.bytes.insert(there.bytes.end(), raw, raw + sizeof f);
    const auto served = store.poll();
    CHECK(served.has_value() == (how == 3));
    if (how != 3) CHECK(served.error().code == errc::protocol);
    if (how == 3) CHECK(back.bytes[6] == std::byte{1});
  }
}

TEST_CASE("a pipeline over other media encrypts; a stored block must be whole blocks of it") {
  std::vector<std::byte> disk(1 << 16);
  block::memory_media blocks{disk};
  block::immediate_media media{blocks};
  std::vector<std::byte> buffers(8 * 4096);
  using sink_type = systems::media_sink<block::immediate_media<block::memory_media>>;
  static_assert(systems::StoredBlockSink<sink_type>);
  const dma_region region{buffers, bus_addr{0}};
  CHECK(sink_type::make(media, region, memory_domain::local, 520).error().code == errc::misaligned);
  struct parts {
    sink_type sink;
    std::array<accel::xts_key, 1> keys{*accel::xts_key::make(ipu_rig::raw_key())};
    std::unique_ptr<ipu_rig::engine_type> engine =
        std::make_unique<ipu_rig::engine_type>(accel::plain_cipher<>{keys});
    std::vector<std::byte> pool = std::vector<std::byte>(16384);
    systems::ipu_pipeline<sink_type, ipu_rig::engine_type> media{
        sink, *engine, pool, 512, {.protects = false}};
    static void turn() {}
    explicit parts(sink_type s) : sink(s) {}
  };
  const auto p =
      std::make_unique<parts>(*sink_type::make(media, region, memory_domain::local, 512));
  auto bytes = random_bytes(2048, 5);
  const std::array one{media_segment::of(bytes)};
  CHECK(run(*p, {.operation = media_operation::write, .lba = 4, .blocks = 4, .segments = one}) ==
        media_status::good);
  CHECK(std::memcmp(disk.data() + 2048, bytes.data(), 2048) != 0);
  std::vector<std::byte> again(2048);
  const std::array back{media_segment::of(again)};
  CHECK(run(*p, {.operation = media_operation::read, .lba = 4, .blocks = 4, .segments = back}) ==
        media_status::good);
  CHECK(again == bytes);
  CHECK(p->media.movements().taken == 2);
}

TEST_CASE("an address of one function becomes the other's for the same host memory") {
  systems::function_view<> storage;
  systems::function_view<> crypto;
  // The host's memory: 64 KiB from 1 MiB on, seen whole by one and in two windows by the other.
  CHECK(storage.add(0x1000, 0x10'0000, 0x1'0000));
  CHECK(crypto.add(0x8'0000, 0x10'0000, 0x4000));
  CHECK(crypto.add(0x2'0000, 0x10'4000, 0x8000));
  const domain_id there{3};
  CHECK(storage.sees(there, crypto));
  const auto first = storage.translate(0x1800, 0x8000, access::read, there);
  REQUIRE(first);
  CHECK(*first == domain_segment{0x8'0800, 0x3800, there});
  const auto second = storage.translate(0x5000, 0x100, access::read, there);
  REQUIRE(second);
  CHECK(second->address == 0x2'0000);
  CHECK(second->bytes == 0x100);
  // The last quarter is no window of the second function.
  CHECK(storage.translate(0xd000, 1, access::read, there).error().code == errc::not_mapped);
  CHECK(storage.translate(0x0fff, 1, access::read, there).error().code == errc::not_mapped);
  CHECK(storage.translate(0x1000, 1, access::read, domain_id{4}).error().code ==
        errc::not_supported);
  CHECK(storage.add(0x2000, 0, 1).error().code == errc::overlap);
  CHECK(storage.add(0x9'0000, 0x10'0000, 1).error().code == errc::overlap);
  CHECK(storage.add(~std::uint64_t{0}, 0, 2).error().code == errc::overflow);
  CHECK(storage.add(0x9'0000, 0, 0).error().code == errc::invalid_argument);
}
