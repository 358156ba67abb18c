// SPDX-License-Identifier: BSL-1.0
#include <phasebit/memory/translators.hpp>
#include <phasebit/nvme/sgl.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <support/counted_memory.hpp>

using namespace phasebit;
using namespace phasebit::literals;
using phasebit::nvme::data_pointer;
using phasebit::nvme::sgl_descriptor;
using phasebit::nvme::sgl_type;
using phasebit::nvme::status_code;
using phasebit::nvme::submission_entry;
namespace sgl = phasebit::nvme::sgl;

namespace {

using bus_memory = phasebit_test::counted_memory<bus_space>;
constexpr std::uint64_t base = 0x7f00'0000;

struct walked {
  status_code status = status_code::success;
  std::vector<segment<bus_space>> segments;
  std::uint64_t bytes = 0;
  std::uint64_t discarded = 0;
};

template <class Memory>
walked walk(Memory& memory, const sgl_descriptor& first, std::uint64_t bytes,
            const sgl::limits& allowed = {}) {
  walked w;
  w.status = sgl::walk(
      memory, first, bytes, allowed,
      [&](auto at, std::uint64_t n) noexcept {
        w.segments.push_back({bus_addr{at.value()}, static_cast<std::size_t>(n)});
        w.bytes += n;
        return status_code::success;
      },
      [&](std::uint64_t n) noexcept {
        w.discarded += n;
        return status_code::success;
      });
  return w;
}

bool same(const std::vector<segment<bus_space>>& a, const std::vector<segment<bus_space>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.begin == y.begin && x.bytes == y.bytes;
  });
}

sgl_descriptor block(std::uint64_t at, std::uint32_t bytes) {
  return sgl_descriptor::of(sgl_type::data_block, bus_addr{at}, bytes);
}
sgl_descriptor inner_segment(std::uint64_t at, std::uint32_t count) {
  return sgl_descriptor::of(sgl_type::segment, bus_addr{at}, count * 16);
}
sgl_descriptor last_segment(std::uint64_t at, std::uint32_t count) {
  return sgl_descriptor::of(sgl_type::last_segment, bus_addr{at}, count * 16);
}
sgl_descriptor bucket(std::uint32_t bytes) {
  return sgl_descriptor::of(sgl_type::bit_bucket, bus_addr{0}, bytes);
}

void put(bus_memory& memory, std::uint64_t at, const std::vector<sgl_descriptor>& list) {
  std::memcpy(memory.region(at, list.size() * 16).data(), list.data(), list.size() * 16);
}

// Guest page n is bus page 1000h - n: what was adjacent is not any more.
struct pages_reversed {
  using from = guest_space;
  using to = bus_space;

  result<phasebit::segment<bus_space>> translate(guest_addr a, std::uint64_t bytes,
                                                 phasebit::access) noexcept {
    if (a.value() >> 12 == hole) return failure(errc::not_mapped, "a hole", a.value());
    return phasebit::segment<bus_space>{bus_addr{of(a.value())},
                                        std::min<std::uint64_t>(bytes, 4096 - (a.value() & 4095U))};
  }
  [[nodiscard]] static std::uint64_t of(std::uint64_t guest) {
    return (0x1000 - (guest >> 12)) << 12 | (guest & 4095U);
  }

  std::uint64_t hole = ~0ULL;
};

bool refused(sgl::build_result v, errc why, std::uint32_t which) {
  return !v && v.reason == why && v.index == which;
}

}  // namespace

TEST_CASE("one block lies in the command itself, and PSDT encodes that") {
  submission_entry command{};
  const segment<bus_space> one[] = {{bus_addr{0x1003}, 517}};
  REQUIRE(sgl::build(one, 1_MiB, false, {}, command));
  CHECK(command.psdt() == data_pointer::sgl_metadata_buffer);
  CHECK(command.sgl() == block(0x1003, 517));
  // Neighbours are one block.
  const segment<bus_space> two[] = {{bus_addr{0x1000}, 512}, {bus_addr{0x1200}, 100}};
  REQUIRE(sgl::build(two, 1_MiB, false, {}, command));
  CHECK(command.sgl() == block(0x1000, 612));
}

TEST_CASE("several segments lie in a last segment") {
  bus_memory memory{base, 4_KiB};
  submission_entry command{};
  const segment<bus_space> segments[] = {
      {bus_addr{0x1001}, 7}, {bus_addr{0x9000}, 4_KiB}, {bus_addr{0x3000}, 1}};
  REQUIRE(sgl::build(segments, 1_MiB, false, memory.region(base, 48), command));
  CHECK(command.psdt() == data_pointer::sgl_metadata_buffer);
  CHECK(command.sgl() == last_segment(base, 3));
  const walked w = walk(memory, command.sgl(), 7 + 4_KiB + 1);
  CHECK(w.status == status_code::success);
  CHECK(same(w.segments, {segments[0], segments[1], segments[2]}));
}

TEST_CASE("segments that an SGL cannot have are refused, and the command stays as it was") {
  bus_memory memory{base, 4_KiB};
  submission_entry command{};
  const submission_entry before = command;
  const auto build = [&](std::vector<segment<bus_space>> segments, bool dwords = false,
                         std::size_t segment_bytes = 4096) {
    return sgl::build(segments, 64_KiB, dwords, memory.region(base, segment_bytes), command);
  };
  CHECK(refused(build({}), errc::invalid_argument, 0));
  CHECK(refused(build({{bus_addr{0x1000}, 4}, {bus_addr{0x2000}, 0}}), errc::invalid_argument, 1));
  CHECK(refused(build({{bus_addr{0x1000}, 4}, {bus_addr{~0ULL - 3}, 8}}), errc::overflow, 1));
  CHECK(
      refused(build({{bus_addr{0x1000}, 64_KiB}, {bus_addr{0x90000}, 1}}), errc::out_of_range, 1));
  CHECK(refused(build({{bus_addr{0x1000}, 4}, {bus_addr{0x2002}, 4}}, true), errc::misaligned, 1));
  CHECK(refused(build({{bus_addr{0x1000}, 4}, {bus_addr{0x2000}, 5}}, true), errc::misaligned, 1));
  CHECK(refused(
      build({{bus_addr{0x1000}, 4}, {bus_addr{0x2000}, 4}, {bus_addr{0x3000}, 4}}, false, 32),
      errc::exhausted, 2));
  CHECK(
      refused(build({{bus_addr{0x1000}, 4}, {bus_addr{0x2000}, 4}}, false, 0), errc::exhausted, 1));
  CHECK(command == before);
}

TEST_CASE("any number of segments over segments of any size is walked as it was built") {
  bus_memory memory{base, 64_KiB};
  std::mt19937 random{5};
  for (std::size_t count : {2U, 3U, 31U, 32U, 33U, 63U, 64U, 65U, 255U, 256U, 257U, 300U}) {
    for (std::size_t slots : {2U, 3U, 4U, 31U, 32U, 33U, 64U, 256U}) {
      CAPTURE(count);
      CAPTURE(slots);
      std::vector<segment<bus_space>> segments;
      std::uint64_t total = 0;
      for (std::size_t i = 0; i != count; ++i) {
        segments.push_back({bus_addr{0x10000 * i + random() % 4096}, 1 + random() % 8192});
        total += segments.back().bytes;
      }
      const std::size_t bytes = slots * 16;
      std::size_t next = 0;
      const auto more = [&]() noexcept -> sgl::segment_memory {
        ++next;
        return (next + 1) * bytes <= 64_KiB ? memory.region(base + next * bytes, bytes)
                                            : sgl::segment_memory{};
      };
      submission_entry command{};
      REQUIRE(sgl::build(segments, 1_GiB, false, memory.region(base, bytes), command, more));
      const std::size_t used = count <= slots ? 1 : 1 + (count - slots + slots - 2) / (slots - 1);
      CHECK(next + 1 == used);
      memory.forget();
      const walked w = walk(memory, command.sgl(), total);
      REQUIRE(w.status == status_code::success);
      REQUIRE(same(w.segments, segments));
      for (const auto& [at, times] : memory.times_read) REQUIRE(times == 1);
      REQUIRE(memory.bytes_read == (count + used - 1) * 16);
    }
  }
}

TEST_CASE("blocks of no bytes move nothing; shorter and longer lists are refused") {
  bus_memory memory{base, 4_KiB};
  CHECK(walk(memory, block(0x1000, 512), 512).status == status_code::success);
  CHECK(walk(memory, block(0x1000, 511), 512).status == status_code::data_sgl_length_invalid);
  CHECK(walk(memory, block(0x1000, 513), 512).status == status_code::data_sgl_length_invalid);
  CHECK(walk(memory, block(0x1000, 0), 512).status == status_code::data_sgl_length_invalid);
  CHECK(walk(memory, block(0x1000, 513), 512, {.longer_than_data = true}).bytes == 512);
  CHECK(walk(memory, block(0x1000, 512), 0).status == status_code::success);

  put(memory, base, {block(0x1000, 100), block(0x9000, 0), block(0x3000, 412)});
  const walked w = walk(memory, last_segment(base, 3), 512);
  CHECK(w.status == status_code::success);
  CHECK(same(w.segments, {{bus_addr{0x1000}, 100}, {bus_addr{0x3000}, 412}}));
  CHECK(walk(memory, last_segment(base, 3), 513).status == status_code::data_sgl_length_invalid);
  CHECK(walk(memory, last_segment(base, 3), 50).status == status_code::data_sgl_length_invalid);
  memory.forget();
  CHECK(walk(memory, last_segment(base, 3), 50, {.longer_than_data = true}).bytes == 50);
}

TEST_CASE("segments of no bytes, of parts of descriptors, or off 8 bytes are refused") {
  bus_memory memory{base, 4_KiB};
  put(memory, base, {block(0x1000, 256), block(0x2000, 256)});
  for (std::uint32_t bytes : {0U, 1U, 8U, 15U, 17U, 31U, 33U}) {
    for (sgl_type type : {sgl_type::segment, sgl_type::last_segment}) {
      const walked w = walk(memory, sgl_descriptor::of(type, bus_addr{base}, bytes), 512);
      CHECK(w.status == status_code::invalid_sgl_segment_descriptor);
      CHECK(w.segments.empty());
    }
  }
  CHECK(walk(memory, last_segment(base + 4, 2), 512).status ==
        status_code::invalid_sgl_segment_descriptor);
  CHECK(walk(memory, last_segment(0xdead000, 2), 512).status == status_code::data_transfer_error);
}

TEST_CASE("links stand at the end of a segment that is not the last, and nowhere else") {
  bus_memory memory{base, 4_KiB};
  constexpr std::uint64_t second = base + 0x800;
  put(memory, second, {block(0x2000, 256)});
  put(memory, base, {block(0x1000, 256), last_segment(second, 1)});
  CHECK(walk(memory, inner_segment(base, 2), 512).status == status_code::success);
  // The last segment has a link.
  CHECK(walk(memory, last_segment(base, 2), 512).status ==
        status_code::invalid_sgl_segment_descriptor);
  // No link where one was promised.
  put(memory, base, {block(0x1000, 256), block(0x2000, 256)});
  CHECK(walk(memory, inner_segment(base, 2), 512).status ==
        status_code::invalid_sgl_segment_descriptor);
  // A link in the middle.
  put(memory, base, {last_segment(second, 1), block(0x1000, 256)});
  CHECK(walk(memory, inner_segment(base, 2), 512).status ==
        status_code::invalid_sgl_descriptor_count);
}

TEST_CASE("types that a PCIe controller does not have are refused") {
  bus_memory memory{base, 4_KiB};
  for (unsigned type = 0; type != 16; ++type) {
    for (unsigned subtype = 0; subtype != 16; ++subtype) {
      sgl_descriptor d = block(0x1000, 512);
      d.identifier = static_cast<std::uint8_t>(type << 4 | subtype);
      const walked w = walk(memory, d, 512);
      if (type <= 3 && subtype == 0) {
        CHECK(w.status != status_code::sgl_descriptor_type_invalid);
      } else {
        CHECK(w.status == status_code::sgl_descriptor_type_invalid);
        CHECK(w.segments.empty());
      }
      put(memory, base, {d});
      const auto inner = walk(memory, last_segment(base, 1), 512).status;
      if (type <= 1 && subtype == 0) {
        CHECK(inner == status_code::success);
      } else {
        CHECK(inner != status_code::success);
      }
    }
  }
}

TEST_CASE("bit buckets swallow bytes of a read, and are nothing in a write") {
  bus_memory memory{base, 4_KiB};
  put(memory, base, {block(0x1000, 100), bucket(312), block(0x3000, 100)});
  const walked read = walk(memory, last_segment(base, 3), 512);
  CHECK(read.status == status_code::success);
  CHECK(read.discarded == 312);
  CHECK(read.bytes == 200);
  const walked write = walk(memory, last_segment(base, 3), 200, {.wanted = phasebit::access::read});
  CHECK(write.status == status_code::success);
  CHECK(write.bytes == 200);
  CHECK(write.discarded == 0);
  const auto without =
      sgl::walk(memory, last_segment(base, 3), 512, {},
                [](bus_addr, std::uint64_t) noexcept { return status_code::success; });
  CHECK(without == status_code::sgl_descriptor_type_invalid);
}

TEST_CASE("dword granularity is asked for where the controller needs it") {
  bus_memory memory{base, 4_KiB};
  const sgl::limits dwords{.dword_granularity = true};
  CHECK(walk(memory, block(0x1002, 512), 512, dwords).status ==
        status_code::sgl_granularity_invalid);
  CHECK(walk(memory, block(0x1000, 510), 510, dwords).status ==
        status_code::sgl_granularity_invalid);
  CHECK(walk(memory, block(0x1004, 512), 512, dwords).status == status_code::success);
}

TEST_CASE("a segment that points at itself ends at the limit, with few reads") {
  bus_memory memory{base, 4_KiB};
  put(memory, base, {inner_segment(base, 1)});
  CHECK(walk(memory, inner_segment(base, 1), 512).status ==
        status_code::invalid_sgl_descriptor_count);
  CHECK(memory.bytes_read <= 4097 * 16);
  // The same with blocks of no bytes, and with a segment of nearly 4 GiB.
  put(memory, base, {block(0x1000, 0), block(0x2000, 0), inner_segment(base, 3)});
  memory.forget();
  CHECK(walk(memory, inner_segment(base, 3), 512, {.max_descriptors = 100}).status ==
        status_code::invalid_sgl_descriptor_count);
  CHECK(memory.bytes_read <= 103 * 16);
  bus_memory zeros{base, 1_MiB};
  std::ranges::fill(zeros.all(), std::byte{0});
  CHECK(
      walk(zeros, sgl_descriptor::of(sgl_type::segment, bus_addr{base}, 0xffff'fff0), 512).status ==
      status_code::invalid_sgl_descriptor_count);
  CHECK(zeros.bytes_read <= (4096 + 32) * 16);
}

TEST_CASE("a visitor's status ends the walk") {
  bus_memory memory{base, 4_KiB};
  put(memory, base, {block(0x1000, 100), block(0x2000, 100), block(0x3000, 100)});
  int calls = 0;
  CHECK(sgl::walk(memory, last_segment(base, 3), 300, {}, [&](bus_addr, std::uint64_t) noexcept {
          return ++calls == 2 ? status_code::write_fault : status_code::success;
        }) == status_code::write_fault);
  CHECK(calls == 2);
}

TEST_CASE("a guest's list is translated into a list of one's own, block by block") {
  phasebit_test::counted_memory<guest_space> guest{base, 4_KiB};
  bus_memory shadow{0x1000'0000, 4_KiB};
  const std::vector<sgl_descriptor> list{block(0x1ff0, 0x20), block(0x5000, 0x10), bucket(0x10),
                                         block(0x8000, 0x1800)};
  std::memcpy(guest.all().data(), list.data(), list.size() * 16);
  const std::vector<std::byte> image{guest.all().begin(), guest.all().end()};
  pages_reversed blocks;
  submission_entry command{};
  command.set_sgl(last_segment(base, 4), data_pointer::sgl_metadata_segment);

  REQUIRE(sgl::rewrite(guest, blocks, command, 0x1840, {}, shadow.region(0x1000'0000, 4_KiB)));
  CHECK(command.psdt() == data_pointer::sgl_metadata_buffer);
  CHECK(command.mptr == 0);
  CHECK(std::equal(image.begin(), image.end(), guest.all().begin()));
  for (const auto& [at, times] : guest.times_read) CHECK(times == 1);
  const walked w = walk(shadow, command.sgl(), 0x1840);
  CHECK(w.status == status_code::success);
  CHECK(w.discarded == 0x10);
  const auto page = [](std::uint64_t n) { return pages_reversed::of(n << 12); };
  CHECK(same(w.segments, {{bus_addr{page(1) + 0xff0}, 0x10},
                          {bus_addr{page(2)}, 0x10},
                          {bus_addr{page(5)}, 0x10},
                          {bus_addr{page(8)}, 0x1000},
                          {bus_addr{page(9)}, 0x800}}));
}

TEST_CASE("a list that becomes one block once it is translated needs no segment") {
  phasebit_test::counted_memory<guest_space> guest{base, 4_KiB};
  const std::vector<sgl_descriptor> list{block(0x9000, 0x1000), block(0x8000, 0x1000)};
  std::memcpy(guest.all().data(), list.data(), list.size() * 16);
  pages_reversed blocks;
  submission_entry command{};
  command.set_sgl(last_segment(base, 2));
  REQUIRE(sgl::rewrite(guest, blocks, command, 0x2000, {}, {}));
  CHECK(command.sgl() == block(pages_reversed::of(0x9000), 0x2000));
}

TEST_CASE("a block that cannot be translated is named, and the command stays as it was") {
  phasebit_test::counted_memory<guest_space> guest{base, 4_KiB};
  bus_memory shadow{0x1000'0000, 4_KiB};
  const auto segments = shadow.region(0x1000'0000, 64);
  std::vector<sgl_descriptor> list{block(0x1000, 16), block(0x5000, 16), block(0x8000, 16)};
  std::memcpy(guest.all().data(), list.data(), list.size() * 16);
  submission_entry command{};
  command.set_sgl(last_segment(base, 3));
  const submission_entry before = command;
  pages_reversed holed{.hole = 5};
  auto r = sgl::rewrite(guest, holed, command, 48, {}, segments);
  CHECK(r.status == status_code::data_transfer_error);
  CHECK(r.index == 1);
  pages_reversed blocks;
  r = sgl::rewrite(guest, blocks, command, 49, {}, segments);
  CHECK(r.status == status_code::data_sgl_length_invalid);
  r = sgl::rewrite(guest, blocks, command, 48, {}, shadow.region(0x1000'0000, 32));
  CHECK(r.status == status_code::internal_error);
  CHECK(command == before);
  // No transfer, no address of the guest's.
  CHECK(sgl::rewrite(guest, blocks, command, 0, {}, segments));
  CHECK(command.sgl() == block(0, 0));
}

TEST_CASE("the metadata pointer is translated, cleared or refused, never passed on as it was") {
  phasebit_test::counted_memory<guest_space> guest{base, 4_KiB};
  bus_memory shadow{0x1000'0000, 4_KiB};
  pages_reversed blocks;
  submission_entry command{};
  const auto rewrite = [&](data_pointer psdt, std::uint64_t mptr, std::uint64_t metadata,
                           std::uint64_t bytes = 0x20) {
    command = {};
    command.set_sgl(block(0x1000, 0x20), psdt);
    command.mptr = mptr;
    return sgl::rewrite(guest, blocks, command, bytes, {.metadata_bytes = metadata},
                        shadow.region(0x1000'0000, 4_KiB));
  };
  const auto expected = blocks.translate(guest_addr{0x3010}, 8, access::write);
  REQUIRE(expected);
  REQUIRE(rewrite(data_pointer::sgl_metadata_buffer, 0x3010, 8));
  CHECK(command.mptr == expected->begin.value());
  REQUIRE(rewrite(data_pointer::sgl_metadata_buffer, 0x3010, 0));
  CHECK(command.mptr == 0);
  REQUIRE(rewrite(data_pointer::sgl_metadata_segment, 0x3010, 0));
  CHECK(command.mptr == 0);
  CHECK(command.psdt() == data_pointer::sgl_metadata_buffer);
  REQUIRE(rewrite(data_pointer::sgl_metadata_segment, 0x3010, 0, 0));
  CHECK(command.mptr == 0);
  CHECK(rewrite(data_pointer::sgl_metadata_segment, 0x3010, 8).status ==
        status_code::sgl_descriptor_type_invalid);
  CHECK(command.mptr == 0x3010);
  CHECK(rewrite(data_pointer::sgl_metadata_buffer, ~0ULL - 3, 8).status ==
        status_code::data_transfer_error);
  // Over two pages that do not follow each other afterwards.
  CHECK(rewrite(data_pointer::sgl_metadata_buffer, 0x3ffc, 8).status ==
        status_code::internal_error);
}
