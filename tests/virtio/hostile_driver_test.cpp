// SPDX-License-Identifier: BSL-1.0
// Drivers that break the rules of a virtqueue: each is named, stops the queue and reaches nothing.
#include <phasebit/virtio/spec/packed_ring.hpp>
#include <phasebit/virtio/spec/split_ring.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <vector>

#include <doctest/doctest.h>
#include <support/death.hpp>
#include <virtio/queue_pair.hpp>

using namespace phasebit;
using namespace phasebit_test;
using device::fault_code;
using device::pop_status;
namespace flag = phasebit::virtio::descriptor_flag;

namespace {

constexpr std::uint64_t indirect = feature::indirect_desc;

// A split queue whose driver is this test.
struct split_ring : queue_pair<split_format> {
  explicit split_ring(std::uint32_t size, std::uint64_t features = 0)
      : queue_pair(size, features) {}

  virtio::split_descriptor* table() {
    return reinterpret_cast<virtio::split_descriptor*>(areas().descriptors);
  }
  le<std::uint16_t>& avail_idx() {
    return *reinterpret_cast<le<std::uint16_t>*>(areas().driver + 2);
  }
  le<std::uint16_t>& avail(std::uint32_t i) {
    return *reinterpret_cast<le<std::uint16_t>*>(areas().driver + 4 + 2 * std::size_t{i});
  }
  std::uint16_t used_idx() { return *reinterpret_cast<le<std::uint16_t>*>(areas().device + 2); }
  virtio::split_descriptor* data_table(std::uint64_t offset) {
    return reinterpret_cast<virtio::split_descriptor*>(data.data() + offset);
  }
  void put(std::uint32_t i, std::uint64_t addr, std::uint32_t len, unsigned flags,
           std::uint16_t next = 0) {
    table()[i] = {
        .addr = addr, .len = len, .flags = static_cast<std::uint16_t>(flags), .next = next};
  }
  void offer(std::uint16_t head) {
    const std::uint16_t idx = avail_idx();
    avail(idx % layout.size) = head;
    avail_idx() = static_cast<std::uint16_t>(idx + 1);
  }
  // The queue refuses, reports the reason, stays stopped, and still takes back buffers in flight.
  void refuses(fault_code code, std::uint64_t value) {
    const std::uint32_t before = back.in_flight();
    REQUIRE(pop() == pop_status::refused);
    CHECK(back.last_fault().code == code);
    CHECK(back.last_fault().value == value);
    CHECK(chain.readable().empty());
    CHECK(chain.writable().empty());
    CHECK(back.in_flight() == before);
    avail_idx() = static_cast<std::uint16_t>(avail_idx() + 1);
    CHECK(pop() == pop_status::refused);
    CHECK_FALSE(back.available());
    CHECK_FALSE(back.enable_notifications());
    CHECK(back.last_fault().code == code);
  }
};

struct packed_ring : queue_pair<packed_format> {
  explicit packed_ring(std::uint32_t size, std::uint64_t features = 0)
      : queue_pair(size, features) {}

  virtio::packed_descriptor* descriptors() {
    return reinterpret_cast<virtio::packed_descriptor*>(areas().descriptors);
  }
  void put(std::uint32_t i, std::uint64_t addr, std::uint32_t len, std::uint16_t id, unsigned flags,
           bool wrap = true) {
    descriptors()[i] = {.addr = addr,
                        .len = len,
                        .id = id,
                        .flags = static_cast<std::uint16_t>(flags | virtio::available_bits(wrap))};
  }
  void refuses(fault_code code, std::uint64_t value) {
    const std::uint32_t before = back.in_flight();
    REQUIRE(pop() == pop_status::refused);
    CHECK(back.last_fault().code == code);
    CHECK(back.last_fault().value == value);
    CHECK(chain.readable().empty());
    CHECK(chain.writable().empty());
    CHECK(back.in_flight() == before);
    CHECK(pop() == pop_status::refused);
    CHECK_FALSE(back.available());
    CHECK_FALSE(back.enable_notifications());
  }
};

constexpr std::uint64_t outside = 0x5000'0000;

}  // namespace

TEST_CASE("a queue has only sizes that its format allows") {
  device::split_queue<thread_order> split;
  device::packed_queue<thread_order> packed;
  std::vector<std::byte> memory(64);
  std::vector<device::buffer_state> buffers(65'536);
  device::queue_setup setup{.areas = {memory.data(), memory.data(), memory.data()},
                            .buffers = buffers};
  for (const std::uint32_t size : {0U, 11U, 15U, 32'769U, 65'536U, 0xffff'ffffU}) {
    setup.size = size;
    const auto done = split.start(setup);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::invalid_argument);
    CHECK(done.error().value == size);
    CHECK_FALSE(split.running());
  }
  for (const std::uint32_t size : {0U, 32'769U, 65'536U}) {
    setup.size = size;
    CHECK_FALSE(packed.start(setup));
  }
  setup.size = 15;
  CHECK(packed.start(setup));
  setup.size = 16;
  setup.buffers = setup.buffers.first(15);
  CHECK(split.start(setup).error().code == errc::exhausted);
  setup.buffers = buffers;
  setup.areas.driver = nullptr;
  CHECK(split.start(setup).error().code == errc::not_ready);
  setup.areas.driver = memory.data();
  const auto beyond = packed.start(setup, {.avail = {16, true}, .used = {0, true}});
  REQUIRE_FALSE(beyond);
  CHECK(beyond.error().code == errc::out_of_range);
  CHECK_FALSE(packed.start(setup, {.avail = {0, true}, .used = {16, false}}));
}

TEST_CASE("areas that are misaligned, unmapped, read-only or not contiguous are refused") {
  alignas(64) static std::byte memory[4096];
  guest_memory<4> map;
  REQUIRE(map.add({guest_addr{0x1000}, 1024, memory, access::read_write}));
  REQUIRE(map.add({guest_addr{0x1400}, 1024, memory + 2048, access::read_write}));
  REQUIRE(map.add({guest_addr{0x8000}, 1024, memory + 1024, access::read}));
  CHECK(device::map_areas(map, 16, false, 0x1000, 0x1100, 0x1200));
  const auto fails = [&](std::uint32_t size, bool packed, std::uint64_t a, std::uint64_t b,
                         std::uint64_t c, errc code, std::uint32_t index) {
    const auto done = device::map_areas(map, size, packed, a, b, c);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == code);
    CHECK(done.error().index == index);
  };
  fails(15, false, 0x1000, 0x1100, 0x1200, errc::invalid_argument, error::no_index);
  fails(16, false, 0x1008, 0x1100, 0x1200, errc::misaligned, 0);
  fails(16, false, 0x1000, 0x1101, 0x1200, errc::misaligned, 1);
  fails(16, false, 0x1000, 0x1100, 0x1202, errc::misaligned, 2);
  fails(16, true, 0x1000, 0x1102, 0x1200, errc::misaligned, 1);
  fails(16, false, 0x9000, 0x1100, 0x1200, errc::not_mapped, 0);
  fails(16, false, 0x1380, 0x1100, 0x1200, errc::not_mapped, 0);  // crosses into the next region
  fails(16, false, 0x1000, 0x1100, 0x8000, errc::access_denied, 2);
  fails(16, true, 0x8000, 0x1100, 0x1200, errc::access_denied, 0);
  fails(16, false, 0xffff'ffff'ffff'fff0, 0x1100, 0x1200, errc::overflow, 0);
  CHECK(device::map_areas(map, 16, false, 0x8000, 0x8100, 0x1200));
}

TEST_CASE("split: an available index that jumps or goes back") {
  for (const std::uint32_t jump : {17U, 18U, 1000U, 32'768U, 65'535U}) {
    split_ring q{16};
    q.put(0, data_base, 1, 0);
    q.avail_idx() = static_cast<std::uint16_t>(jump);
    q.refuses(fault_code::avail_index_jump, jump);
  }
  // As many as the queue has entries is allowed.
  split_ring q{16};
  for (std::uint16_t i = 0; i != 16; ++i) {
    q.put(i, data_base, 1, 0);
    q.offer(i);
  }
  for (int i = 0; i != 16; ++i) CHECK(q.pop() == pop_status::ready);
  // With all of them in flight, one more is too many.
  q.offer(0);
  q.refuses(fault_code::avail_index_jump, 17);
}

TEST_CASE("split: indices beyond the table") {
  {
    split_ring q{16};
    q.offer(16);
    q.refuses(fault_code::head_out_of_range, 16);
  }
  {
    split_ring q{16};
    q.offer(0xffff);
    q.refuses(fault_code::head_out_of_range, 0xffff);
  }
  split_ring q{16};
  q.put(3, data_base, 1, flag::next, 16);
  q.offer(3);
  q.refuses(fault_code::next_out_of_range, 16);
  CHECK(q.back.last_fault().index == 3);
}

TEST_CASE("split: loops end after as many descriptors as the queue has") {
  for (const unsigned length : {1U, 2U, 15U, 16U}) {
    split_ring q{16};
    for (std::uint16_t i = 0; i != length; ++i) {
      q.put(i, data_base, 1, flag::next, static_cast<std::uint16_t>((i + 1) % length));
    }
    q.offer(0);
    q.refuses(fault_code::chain_too_long, 16);
  }
  // A chain of all sixteen is no loop.
  split_ring q{16};
  for (std::uint16_t i = 0; i != 16; ++i) {
    q.put(i, data_base + i, 1, i == 15 ? 0U : flag::next, static_cast<std::uint16_t>(i + 1));
  }
  q.offer(0);
  REQUIRE(q.pop() == pop_status::ready);
  CHECK(q.chain.readable().size() == 16);
  CHECK(q.chain.readable_bytes() == 16);
}

TEST_CASE("split: lengths, addresses and permissions") {
  {
    split_ring q{16};
    q.put(0, data_base, 0, 0);
    q.offer(0);
    q.refuses(fault_code::zero_length, data_base);
  }
  {
    split_ring q{16};  // an empty status byte behind a good header
    q.put(0, data_base, 16, flag::next, 1);
    q.put(1, data_base, 0, flag::write);
    q.offer(0);
    q.refuses(fault_code::zero_length, data_base);
  }
  {
    split_ring q{16};
    q.put(0, outside, 1, 0);
    q.offer(0);
    q.refuses(fault_code::not_mapped, outside);
  }
  {
    split_ring q{16};  // begins inside and ends outside
    q.put(0, data_base + data_bytes - 1, 2, 0);
    q.offer(0);
    q.refuses(fault_code::not_mapped, data_base + data_bytes);
  }
  {
    split_ring q{16};
    q.put(0, 0xffff'ffff'ffff'fff0, 0x20, 0);
    q.offer(0);
    q.refuses(fault_code::address_overflow, 0xffff'ffff'ffff'fff0);
  }
  {
    split_ring q{16};
    q.put(0, data_base, 1, flag::write | flag::next, 1);
    q.put(1, data_base + 1, 1, 0);
    q.offer(0);
    q.refuses(fault_code::writable_before_readable, data_base + 1);
  }
  {
    split_ring q{16};
    REQUIRE(q.memory.add({bus_addr{outside}, 64, q.data.data(), access::read}));
    q.put(0, outside, 1, flag::write);
    q.offer(0);
    q.refuses(fault_code::access_denied, outside);
  }
}

TEST_CASE("the sum of lengths is checked and does not wrap") {
  // One address space that has everything, so that only the sum is wrong.
  identity_translator<bus_space, local_space> everything;
  split_ring q{16};
  q.put(0, 0x1000, 0xffff'ffff, flag::next, 1);
  q.put(1, 0x1000, 0x1234'5678, 0);
  q.offer(0);
  REQUIRE(q.back.pop(everything, q.chain) == pop_status::refused);
  CHECK(q.back.last_fault().code == fault_code::length_overflow);
  CHECK(q.back.last_fault().value == 0xffff'ffffULL + 0x1234'5678);

  split_ring most{16};  // exactly 2^32 is allowed
  most.put(0, 0x1000, 0xffff'ffff, flag::next, 1);
  most.put(1, 0x1000, 1, 0);
  most.offer(0);
  REQUIRE(most.back.pop(everything, most.chain) == pop_status::ready);
  CHECK(most.chain.readable_bytes() == std::uint64_t{1} << 32);
}

TEST_CASE("split: a head that is in flight") {
  split_ring q{16};
  q.put(5, data_base, 1, 0);
  q.offer(5);
  REQUIRE(q.pop() == pop_status::ready);
  q.offer(5);
  q.refuses(fault_code::buffer_in_flight, 5);
  // Buffers in flight are still returned, and the driver receives them.
  q.back.push(5, 0);
  CHECK(q.back.flush());
  CHECK(q.used_idx() == 1);
  CHECK(q.back.in_flight() == 0);
  CHECK(q.pop() == pop_status::refused);
  // Set up anew, the queue runs.
  REQUIRE(q.back.start(q.setup(), {1, 1}));
  q.avail_idx() = 1;
  CHECK_FALSE(q.back.last_fault());
  CHECK(q.pop() == pop_status::empty);
}

TEST_CASE("a buffer with more segments than places, or over many regions") {
  split_ring q{128};
  for (std::uint16_t i = 0; i != 65; ++i) {
    q.put(i, data_base, 1, i == 64 ? 0U : flag::next, static_cast<std::uint16_t>(i + 1));
  }
  q.offer(0);
  q.refuses(fault_code::too_many_segments, 64);

  split_ring two{16};  // one descriptor over two regions that are neighbours for the driver only
  std::vector<std::byte> more(4096);
  REQUIRE(two.memory.add({bus_addr{data_base + data_bytes}, 4096, more.data()}));
  two.put(0, data_base + data_bytes - 3, 10, flag::write);
  two.offer(0);
  REQUIRE(two.pop() == pop_status::ready);
  REQUIRE(two.chain.writable().size() == 2);
  CHECK(two.chain.writable()[0].bytes == 3);
  CHECK(two.chain.writable()[1].bytes == 7);
  CHECK(two.chain.writable()[1].data == more.data());
  CHECK(two.chain.writable_bytes() == 10);
}

TEST_CASE("split: indirect tables") {
  const auto refused = [](std::uint64_t features, std::uint64_t addr, std::uint32_t len,
                          unsigned flags, fault_code code, std::uint64_t value) {
    split_ring q{16, features};
    for (int i = 0; i != 4; ++i) {
      q.data_table(0)[i] = {
          .addr = data_base + 1024, .len = 4, .flags = flag::next, .next = std::uint16_t(i + 1)};
    }
    q.data_table(0)[3].flags = 0;
    q.data_table(0)[3].next = 0;
    q.put(0, addr, len, flags);
    q.offer(0);
    q.refuses(code, value);
  };
  refused(0, data_base, 64, flag::indirect, fault_code::indirect_not_negotiated, flag::indirect);
  refused(indirect, data_base, 64, flag::indirect | flag::next, fault_code::indirect_with_next,
          flag::indirect | flag::next);
  for (const std::uint32_t len : {0U, 1U, 15U, 17U, 65U, 0xffff'ffffU}) {
    refused(indirect, data_base, len, flag::indirect, fault_code::indirect_size, len);
  }
  refused(indirect, data_base, 1025 * 16, flag::indirect, fault_code::chain_too_long, 1025);
  refused(indirect, data_base, 0xffff'fff0, flag::indirect, fault_code::chain_too_long,
          0xffff'fff0 / 16);
  refused(indirect, outside, 64, flag::indirect, fault_code::not_mapped, outside);
  refused(indirect, 0xffff'ffff'ffff'fff0, 64, flag::indirect, fault_code::address_overflow,
          0xffff'ffff'ffff'fff0);
  // A next field beyond the table.
  refused(indirect, data_base, 48, flag::indirect, fault_code::next_out_of_range, 3);

  split_ring good{16, indirect};
  for (int i = 0; i != 4; ++i) {
    good.data_table(0)[i] = {
        .addr = data_base + 1024 + std::uint64_t(i) * 8,
        .len = 8,
        .flags = static_cast<std::uint16_t>(i < 2 ? flag::next : flag::next | flag::write),
        .next = static_cast<std::uint16_t>(i + 1)};
  }
  good.data_table(0)[3].flags = flag::write;
  // A descriptor before the table is legal (2.7.5.3.2), and so is WRITE on the table's own.
  good.put(0, data_base + 2048, 5, flag::next, 1);
  good.put(1, data_base, 64, flag::indirect | flag::write);
  good.offer(0);
  REQUIRE(good.pop() == pop_status::ready);
  CHECK(good.chain.readable().size() == 3);
  CHECK(good.chain.readable_bytes() == 21);
  CHECK(good.chain.writable().size() == 2);
  CHECK(good.chain.writable()[1].address == data_base + 1024 + 24);
}

TEST_CASE("split: an indirect table that is nested, a loop, unaligned or in two regions") {
  {
    split_ring q{16, indirect};
    q.data_table(0)[0] = {.addr = data_base, .len = 16, .flags = flag::indirect, .next = 0};
    q.put(0, data_base, 16, flag::indirect);
    q.offer(0);
    q.refuses(fault_code::indirect_nested, 0);
  }
  for (const unsigned length : {1U, 2U, 4U}) {
    split_ring q{16, indirect};
    for (std::uint16_t i = 0; i != 4; ++i) {
      q.data_table(0)[i] = {.addr = data_base + 1024,
                            .len = 1,
                            .flags = flag::next,
                            .next = static_cast<std::uint16_t>((i + 1) % length)};
    }
    q.put(0, data_base, 64, flag::indirect);
    q.offer(0);
    q.refuses(fault_code::chain_too_long, 4);
  }
  // The table begins at an odd address, and its second entry lies across a border of regions.
  split_ring q{16, indirect};
  std::vector<std::byte> more(4096);
  REQUIRE(q.memory.add({bus_addr{data_base + data_bytes}, 4096, more.data()}));
  std::vector<virtio::split_descriptor> table;
  for (std::uint16_t i = 0; i != 4; ++i) {
    table.push_back({.addr = data_base + 100 * std::uint64_t{i},
                     .len = 10U + i,
                     .flags = i == 3 ? std::uint16_t{0} : flag::next,
                     .next = static_cast<std::uint16_t>(i + 1)});
  }
  const std::size_t first = 16 + 5;
  std::memcpy(q.data.data() + data_bytes - first, table.data(), first);
  std::memcpy(more.data(), reinterpret_cast<const std::byte*>(table.data()) + first, 64 - first);
  q.put(0, data_base + data_bytes - first, 64, flag::indirect);
  q.offer(0);
  REQUIRE(q.pop() == pop_status::ready);
  REQUIRE(q.chain.readable().size() == 4);
  for (std::uint16_t i = 0; i != 4; ++i) {
    CHECK(q.chain.readable()[i].address == data_base + 100 * std::uint64_t{i});
    CHECK(q.chain.readable()[i].bytes == 10U + i);
  }
  // The same with the second region gone.
  split_ring cut{16, indirect};
  std::memcpy(cut.data.data() + data_bytes - first, table.data(), first);
  cut.put(0, data_base + data_bytes - first, 64, flag::indirect);
  cut.offer(0);
  cut.refuses(fault_code::not_mapped, data_base + data_bytes - 5);
}

TEST_CASE("packed: NEXT in every descriptor ends after one round") {
  packed_ring q{8};
  for (std::uint16_t i = 0; i != 8; ++i) q.put(i, data_base, 1, 0, flag::next);
  q.refuses(fault_code::chain_too_long, 8);
  CHECK(q.back.last_fault().index == 0);
}

TEST_CASE("packed: a chain that runs into descriptors that are not available") {
  packed_ring q{8};
  q.put(0, data_base, 1, 0, flag::next);
  q.refuses(fault_code::wrong_flags, 0);
  packed_ring old{8};  // available under the other wrap counter
  old.put(0, data_base, 1, 0, flag::next);
  old.put(1, data_base, 1, 0, 0, false);
  old.refuses(fault_code::wrong_flags, flag::used);
}

TEST_CASE("packed: ids beyond the ring or in flight, and more descriptors than there are") {
  {
    packed_ring q{8};
    q.put(0, data_base, 1, 8, 0);
    q.refuses(fault_code::id_out_of_range, 8);
  }
  {
    packed_ring q{8};
    q.put(0, data_base, 1, 0xffff, 0);
    q.refuses(fault_code::id_out_of_range, 0xffff);
  }
  {
    packed_ring q{8};
    q.put(0, data_base, 1, 3, 0);
    REQUIRE(q.pop() == pop_status::ready);
    q.put(1, data_base, 1, 3, 0);
    q.refuses(fault_code::buffer_in_flight, 3);
    q.back.push(3, 0);
    CHECK(q.back.flush());
    CHECK(q.back.in_flight() == 0);
  }
  packed_ring q{8};  // a ring of buffers in flight, and the driver begins the next round
  for (std::uint16_t i = 0; i != 4; ++i) {
    q.put(2U * i, data_base, 1, i, flag::next);
    q.put(2U * i + 1, data_base, 1, i, 0);
    REQUIRE(q.pop() == pop_status::ready);
  }
  q.put(0, data_base, 1, 7, 0, false);
  q.refuses(fault_code::ring_overrun, 0);
}

TEST_CASE("packed: lengths, addresses and permissions") {
  const auto refused = [](std::uint64_t addr, std::uint32_t len, unsigned flags, fault_code code,
                          std::uint64_t value) {
    packed_ring q{8};
    REQUIRE(q.memory.add({bus_addr{0x6000'0000}, 64, q.data.data(), access::read}));
    q.put(0, addr, len, 0, flags);
    q.put(1, data_base + 1, 1, 0, 0);
    q.refuses(code, value);
  };
  refused(data_base, 0, 0, fault_code::zero_length, data_base);
  refused(outside, 1, 0, fault_code::not_mapped, outside);
  refused(0xffff'ffff'ffff'ffff, 2, 0, fault_code::address_overflow, 0xffff'ffff'ffff'ffff);
  refused(0x6000'0000, 1, flag::write, fault_code::access_denied, 0x6000'0000);
  refused(data_base, 1, flag::write | flag::next, fault_code::writable_before_readable,
          data_base + 1);
  refused(data_base, 16, flag::indirect, fault_code::indirect_not_negotiated,
          flag::indirect | flag::avail);
}

TEST_CASE("packed: indirect tables") {
  const auto refused = [](std::uint32_t len, unsigned flags, fault_code code, std::uint64_t value) {
    packed_ring q{8, indirect};
    q.put(0, data_base, len, 0, flags);
    q.refuses(code, value);
  };
  refused(32, flag::indirect | flag::next, fault_code::indirect_with_next,
          flag::indirect | flag::next | flag::avail);
  for (const std::uint32_t len : {0U, 8U, 31U, 0xffff'ffffU}) {
    refused(len, flag::indirect, fault_code::indirect_size, len);
  }
  refused(1025 * 16, flag::indirect, fault_code::chain_too_long, 1025);
  {
    packed_ring q{8, indirect};
    auto* const table = reinterpret_cast<virtio::packed_descriptor*>(q.data.data());
    table[0] = {.addr = data_base, .len = 16, .id = 0, .flags = flag::indirect};
    q.put(0, data_base, 16, 0, flag::indirect);
    q.refuses(fault_code::indirect_nested, 0);
  }
  // Entries follow each other; id and NEXT in them are reserved and ignored.
  packed_ring q{8, indirect};
  auto* const table = reinterpret_cast<virtio::packed_descriptor*>(q.data.data() + 8);
  table[0] = {.addr = data_base + 100, .len = 16, .id = 0xffff, .flags = 0};
  table[1] = {.addr = data_base + 200, .len = 1, .id = 0xffff, .flags = flag::write | flag::next};
  q.put(0, data_base + 8, 32, 5, flag::indirect);
  REQUIRE(q.pop() == pop_status::ready);
  CHECK(q.chain.id() == 5);
  REQUIRE(q.chain.readable().size() == 1);
  REQUIRE(q.chain.writable().size() == 1);
  CHECK(q.chain.writable()[0].address == data_base + 200);
}

TEST_CASE("every fault has a sentence") {
  for (unsigned i = 1; i <= static_cast<unsigned>(fault_code::inflight_record); ++i) {
    const device::fault f{static_cast<fault_code>(i), 7, 0x99};
    CHECK(f);
    const error e = f.to_error();
    CHECK(e.index == 7);
    CHECK(e.value == 0x99);
    char text[200];
    CHECK(e.message(text).size() > 30);
  }
}

TEST_CASE("a descriptor is read once: what changes after it was taken does not count") {
  // The memory behind the second descriptor is the first descriptor's table entry: a device that
  // went back to the ring after translating would see another length.
  struct changing_memory {
    using from = bus_space;
    using to = local_space;
    local_dma<>& map;
    virtio::split_descriptor* entry;
    result<segment<local_space>> translate(bus_addr a, std::uint64_t bytes,
                                           phasebit::access wanted) noexcept {
      entry->len = 0xffff'0000;
      entry->addr = 0;
      entry->flags = 0xffff;
      return map.translate(a, bytes, wanted);
    }
  };
  split_ring q{16};
  q.put(0, data_base, 16, flag::next, 1);
  q.put(1, data_base + 16, 8, flag::write);
  q.offer(0);
  changing_memory memory{q.memory, q.table()};
  REQUIRE(q.back.pop(memory, q.chain) == pop_status::ready);
  CHECK(q.chain.readable()[0].bytes == 16);
  CHECK(q.chain.writable()[0].bytes == 8);
}

TEST_CASE("pushing what is not in flight is the caller's mistake") {
  const char* const sentence = "a buffer that is not in flight was pushed";
  CHECK(breaks(sentence, [] {
    split_ring q{16};
    q.back.push(0, 0);
  }));
  CHECK(breaks(sentence, [] {
    packed_ring q{16};
    q.back.push(16, 0);
  }));
}
