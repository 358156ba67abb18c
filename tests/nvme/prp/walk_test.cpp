// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/prp/build.hpp>
#include <phasebit/nvme/prp/walk.hpp>

#include <cstdint>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <support/counted_memory.hpp>

using namespace phasebit;
using namespace phasebit::literals;
using phasebit::nvme::status_code;
namespace prp = phasebit::nvme::prp;

namespace {

using bus_memory = phasebit_test::counted_memory<bus_space>;
constexpr std::uint64_t list_at = 0x7f00'0000;

struct walked {
  status_code status = status_code::success;
  std::vector<segment<bus_space>> segments;
  std::uint64_t bytes = 0;
};

walked walk(bus_memory& memory, prp::pointers p, std::uint64_t bytes, unsigned shift = 12) {
  walked w;
  w.status = prp::walk(memory, p, bytes, shift, [&](bus_addr at, std::uint64_t n) noexcept {
    w.segments.push_back({at, static_cast<std::size_t>(n)});
    w.bytes += n;
    return status_code::success;
  });
  return w;
}

bool same(const std::vector<segment<bus_space>>& a, const std::vector<segment<bus_space>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.begin == y.begin && x.bytes == y.bytes;
  });
}

// Adjacent segments merged.
std::vector<segment<bus_space>> merged(const std::vector<segment<bus_space>>& segments) {
  std::vector<segment<bus_space>> out;
  for (const auto& p : segments) {
    if (!out.empty() && out.back().begin + out.back().bytes == p.begin) {
      out.back().bytes += p.bytes;
    } else {
      out.push_back(p);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("what was built from one buffer is walked as one segment") {
  bus_memory memory{list_at, 16_KiB};
  const auto list = memory.region(list_at, 16_KiB);
  for (std::uint64_t offset : {0U, 4U, 8U, 2048U, 4092U}) {
    for (std::size_t pages :
         {1U, 2U, 3U, 64U, 65U, 66U, 511U, 512U, 513U, 514U, 1023U, 1024U, 1025U, 1536U}) {
      for (int delta : {-513, -1, 0, 1, 513}) {
        const std::uint64_t begin = 0x1'0000'0000 + offset;
        const std::size_t bytes = pages * 4_KiB + static_cast<std::size_t>(delta);
        prp::pointers p;
        if (!prp::build_contiguous(bus_addr{begin}, bytes, 12, list, p)) continue;
        memory.forget();
        const walked w = walk(memory, p, bytes);
        REQUIRE(w.status == status_code::success);
        REQUIRE(same(w.segments, {{bus_addr{begin}, bytes}}));
        for (const auto& [at, times] : memory.times_read) REQUIRE(times == 1);
        const std::size_t entries = prp::entries_after_first(bus_addr{begin}, bytes, 12);
        const std::size_t links = entries <= 512 ? 0 : (entries - 2) / 511;
        REQUIRE(memory.bytes_read == (entries < 2 ? 0 : (entries + links) * 8));
      }
    }
  }
}

TEST_CASE("what was built from segments is walked as the same bytes in the same order") {
  bus_memory memory{list_at, 16_KiB};
  const auto list = memory.region(list_at, 16_KiB);
  std::mt19937 random{11};
  for (int round = 0; round != 3000; ++round) {
    const unsigned shift = 12 + static_cast<unsigned>(random() % 3);
    const std::size_t page = std::size_t{1} << shift;
    std::vector<segment<bus_space>> segments;
    const std::size_t count = 1 + random() % 40;
    std::size_t total = 0;
    for (std::size_t i = 0; i != count; ++i) {
      std::uint64_t begin = random() % 1000 * page;
      std::size_t bytes = (1 + random() % 9) * page;
      if (i == 0) {
        const std::size_t skip = random() % page & ~std::size_t{3};
        begin += skip;
        bytes -= skip;
      }
      if (i + 1 == count) bytes -= random() % bytes & ~std::size_t{3};
      segments.push_back({bus_addr{begin}, bytes});
      total += bytes;
    }
    prp::pointers p;
    REQUIRE(prp::build(segments, shift, 1_GiB, list, p));
    const walked w = walk(memory, p, total, shift);
    REQUIRE(w.status == status_code::success);
    REQUIRE(w.bytes == total);
    REQUIRE(same(merged(w.segments), merged(segments)));
  }
}

TEST_CASE("the two fields: offsets that are no offsets are refused before anything is moved") {
  bus_memory memory{list_at, 4_KiB};
  for (std::uint64_t offset : {1U, 2U, 3U}) {
    const walked w = walk(memory, {0x1000 + offset, 0}, 512);
    CHECK(w.status == status_code::prp_offset_invalid);
    CHECK(w.segments.empty());
  }
  CHECK(walk(memory, {0x1000, 0x2004}, 8_KiB).status == status_code::prp_offset_invalid);
  CHECK(walk(memory, {0x1000, 0x2004}, 4_KiB).status == status_code::success);  // PRP2 is not used
  CHECK(walk(memory, {0x1000, list_at + 4}, 12_KiB).status == status_code::prp_offset_invalid);
  CHECK(walk(memory, {0x1001, list_at}, 0).status == status_code::success);
  CHECK(memory.bytes_read == 0);
}

TEST_CASE("a list entry with an offset is refused, and a list may begin at any entry") {
  bus_memory memory{list_at, 8_KiB};
  memory.set_word(list_at + 8, 0x5000);
  memory.set_word(list_at + 16, 0x9000);
  memory.set_word(list_at + 24, 0x6004);
  CHECK(same(walk(memory, {0x1ffc, list_at + 8}, 4 + 8_KiB).segments,
             {{bus_addr{0x1ffc}, 4}, {bus_addr{0x5000}, 4_KiB}, {bus_addr{0x9000}, 4_KiB}}));
  CHECK(walk(memory, {0x1ffc, list_at + 8}, 4 + 12_KiB).status == status_code::prp_offset_invalid);

  // In the last slot of a page: the link of a longer transfer, and it must not have an offset.
  memory.set_word(list_at + 4088, list_at + 4096 + 8);
  CHECK(walk(memory, {0x1000, list_at + 4088}, 12_KiB).status == status_code::prp_offset_invalid);
  memory.set_word(list_at + 4088, list_at + 4096);
  memory.set_word(list_at + 4096, 0x3000);
  memory.set_word(list_at + 4104, 0x4000);
  CHECK(same(walk(memory, {0x1000, list_at + 4088}, 12_KiB).segments,
             {{bus_addr{0x1000}, 4_KiB}, {bus_addr{0x3000}, 8_KiB}}));
}

TEST_CASE("a list page that links to itself ends with the transfer's length") {
  bus_memory memory{list_at, 4_KiB};
  for (std::uint64_t i = 0; i != 511; ++i) memory.set_word(list_at + i * 8, (i * 2 + 16) * 4_KiB);
  memory.set_word(list_at + 4088, list_at);
  for (std::uint64_t pages : {513U, 514U, 5000U}) {
    memory.forget();
    const walked w = walk(memory, {0x1000, list_at}, pages * 4_KiB);
    CHECK(w.status == status_code::success);
    CHECK(w.bytes == pages * 4_KiB);
    CHECK(memory.bytes_read <= pages * 8 + pages / 511 * 8 + 8);
  }
}

TEST_CASE("a list that cannot be read is a transfer error, at its beginning or at a link") {
  bus_memory memory{list_at, 4_KiB};
  CHECK(walk(memory, {0x1000, 0xdead000}, 16_KiB).status == status_code::data_transfer_error);
  for (std::uint64_t i = 0; i != 512; ++i) memory.set_word(list_at + i * 8, 0x10000);
  memory.set_word(list_at + 4088, list_at + 4096);
  CHECK(walk(memory, {0x1000, list_at}, 600 * 4_KiB).status == status_code::data_transfer_error);
}

TEST_CASE("a visitor's status ends the walk") {
  bus_memory memory{list_at, 4_KiB};
  for (std::uint64_t i = 0; i != 512; ++i) memory.set_word(list_at + i * 8, (i * 2 + 16) * 4_KiB);
  for (std::uint64_t pages : {1U, 2U, 3U, 100U}) {
    for (std::uint64_t stop = 0; stop != pages; ++stop) {
      std::uint64_t calls = 0;
      const auto status =
          prp::walk(memory, {0x1000, pages == 2 ? 0x8000 : list_at}, pages * 4_KiB, 12,
                    [&](bus_addr, std::uint64_t) noexcept {
                      return calls++ == stop ? status_code::write_fault : status_code::success;
                    });
      CHECK(status == status_code::write_fault);
      CHECK(calls == stop + 1);
    }
  }
}

TEST_CASE("a length of nearly 2^64 bytes is walked until the visitor has had enough") {
  bus_memory memory{list_at, 4_KiB};
  for (std::uint64_t i = 0; i != 511; ++i) memory.set_word(list_at + i * 8, (i * 2 + 16) * 4_KiB);
  memory.set_word(list_at + 4088, list_at);
  std::uint64_t calls = 0;
  CHECK(prp::walk(memory, {0x1000, list_at}, ~0ULL, 12, [&](bus_addr, std::uint64_t) noexcept {
          return ++calls == 3000 ? status_code::data_transfer_error : status_code::success;
        }) == status_code::data_transfer_error);
}

TEST_CASE("a link with a page offset ends the walk") {
  phasebit_test::counted_memory<bus_space> memory{0x4000'0000, 16_KiB};
  for (std::uint64_t i = 0; i != 511; ++i) {
    memory.set_word(0x4000'0000 + 8 * i, 0x10'0000 + 4096 * i);
    memory.set_word(0x4000'1000 + 8 * i, 0x90'0000 + 4096 * i);
  }
  memory.set_word(0x4000'0000 + 8 * 511, 0x4000'1008);
  CHECK(walk(memory, {0x1000'0000, 0x4000'0000}, 4096ULL * (1 + 511 + 5)).status ==
        status_code::prp_offset_invalid);
}

TEST_CASE("no segment wraps around the address space") {
  bus_memory memory{list_at, 4_KiB};
  // PRP1 and PRP2 are the last page and the first.
  CHECK(walk(memory, {~0xfffULL, 0}, 8192).status == status_code::data_transfer_error);
  CHECK(walk(memory, {~0xfffULL, 0}, 4096).status == status_code::data_transfer_error);
  CHECK(walk(memory, {~0xfffULL, 0}, 4092).status == status_code::success);
  CHECK(walk(memory, {~0x3ULL, 0x1000}, 4100).status == status_code::data_transfer_error);
  // The same in a list: consecutive pages over the end.
  for (std::uint64_t i = 0; i != 4; ++i)
    memory.set_word(list_at + 8 * i, (0 - std::uint64_t{0x2000} + 0x1000 * i));
  const walked w = walk(memory, {0x1000, list_at}, 5 * 4096);
  CHECK(w.status == status_code::data_transfer_error);
  for (const auto& s : w.segments) CHECK(s.begin.value() + s.bytes > s.begin.value());
}
