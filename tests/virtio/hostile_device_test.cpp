// SPDX-License-Identifier: BSL-1.0
// Devices that return what they do not have, and what the driver side refuses to offer.
#include <phasebit/virtio/spec/packed_ring.hpp>
#include <phasebit/virtio/spec/split_ring.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include <doctest/doctest.h>
#include <virtio/queue_pair.hpp>

using namespace phasebit;
using namespace phasebit_test;
using driver::add_status;
using driver::fault_code;
namespace flag = phasebit::virtio::descriptor_flag;

namespace {

// Offers `buffers` buffers of one readable and one writable segment of 8 bytes; tokens 100, 101, ...
template <class Pair>
void offer(Pair& q, std::uint32_t buffers) {
  for (std::uint32_t i = 0; i != buffers; ++i) {
    const driver::buffer_segment out[] = {part(0, 8)};
    const driver::buffer_segment in[] = {part(8, 8)};
    REQUIRE(q.front.add(out, in, 100 + i) == add_status::added);
  }
  REQUIRE(q.front.publish());
}
template <class Pair>
std::vector<std::uint32_t> poll(Pair& q) {
  std::vector<std::uint32_t> tokens;
  q.front.poll([&](std::uint32_t token, std::uint32_t) noexcept { tokens.push_back(token); });
  return tokens;
}

struct split_device : queue_pair<split_format> {
  using queue_pair::queue_pair;
  void use(std::uint32_t slot, std::uint32_t id, std::uint32_t len) {
    reinterpret_cast<virtio::used_element*>(areas().device + 4)[slot] = {.id = id, .len = len};
  }
  void set_idx(std::uint16_t idx) {
    *reinterpret_cast<le<std::uint16_t>*>(areas().device + 2) = idx;
  }
  void refuses(fault_code code, std::uint64_t value) {
    CHECK(poll(*this).empty());
    CHECK(front.last_fault().code == code);
    CHECK(front.last_fault().value == value);
    CHECK(front.last_fault().to_error().code == errc::protocol);
    CHECK(poll(*this).empty());
    CHECK_FALSE(front.enable_notifications());
    // After a reset everything comes back, once.
    std::uint32_t ended = 0;
    const std::uint32_t expected = front.in_flight();
    CHECK(front.drain([&](std::uint32_t) noexcept { ++ended; }) == expected);
    CHECK(ended == expected);
  }
};

struct packed_device : queue_pair<packed_format> {
  using queue_pair::queue_pair;
  void use(std::uint32_t slot, std::uint16_t id, std::uint32_t len, unsigned flags) {
    auto& d = reinterpret_cast<virtio::packed_descriptor*>(areas().descriptors)[slot];
    d.len = len;
    d.id = id;
    d.flags = static_cast<std::uint16_t>(flags | flag::avail | flag::used);
  }
  void refuses(fault_code code, std::uint64_t value) {
    CHECK(poll(*this).empty());
    CHECK(front.last_fault().code == code);
    CHECK(front.last_fault().value == value);
    CHECK(poll(*this).empty());
  }
};

}  // namespace

TEST_CASE("split: ids, indices and lengths that a device cannot have") {
  for (const std::uint32_t id : {16U, 0xffffU, 0x1'0000U, 0xffff'ffffU}) {
    split_device q{16};
    offer(q, 2);
    q.use(0, id, 0);
    q.set_idx(1);
    q.refuses(fault_code::id_out_of_range, id);
  }
  for (const std::uint32_t id : {1U, 3U, 4U, 15U}) {  // a buffer's second descriptor, and free ones
    split_device q{16};
    offer(q, 2);
    q.use(0, id, 0);
    q.set_idx(1);
    q.refuses(fault_code::not_in_flight, id);
  }
  for (const unsigned idx : {3U, 4U, 16U, 0x8000U, 0xffffU}) {
    split_device q{16};
    offer(q, 2);
    q.set_idx(static_cast<std::uint16_t>(idx));
    q.refuses(fault_code::used_index_jump, idx);
  }
  split_device q{16};
  offer(q, 2);
  q.use(0, 0, 9);
  q.set_idx(1);
  q.refuses(fault_code::length_overflow, 9);
}

TEST_CASE("split: the same id twice, and buffers that were never published") {
  split_device q{16};
  offer(q, 2);
  q.use(0, 2, 8);
  q.use(1, 2, 8);
  q.set_idx(2);
  CHECK(poll(q) == std::vector<std::uint32_t>{101});  // the first was right
  CHECK(q.front.last_fault().code == fault_code::not_in_flight);
  CHECK(poll(q).empty());

  split_device early{16};
  offer(early, 1);
  const driver::buffer_segment more[] = {part(0, 8)};
  REQUIRE(early.front.add(more, {}, 7) == add_status::added);
  early.set_idx(2);
  early.refuses(fault_code::used_index_jump, 2);
}

TEST_CASE("split, in order: one entry stands for a batch, and must end within it") {
  split_device q{16, feature::in_order};
  offer(q, 4);
  q.use(0, 4, 3);  // the third buffer, and the two before it
  q.set_idx(3);
  std::vector<std::uint32_t> written;
  std::vector<std::uint32_t> tokens;
  q.front.poll([&](std::uint32_t token, std::uint32_t bytes) noexcept {
    tokens.push_back(token);
    written.push_back(bytes);
  });
  CHECK(tokens == std::vector<std::uint32_t>{100, 101, 102});
  CHECK(written == std::vector<std::uint32_t>{8, 8, 3});
  q.use(3, 6, 8);
  q.set_idx(4);
  CHECK(poll(q) == std::vector<std::uint32_t>{103});
  CHECK(q.front.in_flight() == 0);

  split_device bad{16, feature::in_order};
  offer(bad, 4);
  bad.use(0, 6, 8);  // the fourth buffer, but the index is two
  bad.set_idx(2);
  static_cast<void>(poll(bad));
  CHECK(bad.front.last_fault().code == fault_code::out_of_order);
  CHECK(poll(bad).empty());
}

TEST_CASE("packed: ids and lengths that a device cannot have") {
  for (const unsigned id : {16U, 0xffffU}) {
    packed_device q{16};
    offer(q, 2);
    q.use(0, static_cast<std::uint16_t>(id), 0, 0);
    q.refuses(fault_code::id_out_of_range, id);
  }
  {
    packed_device q{16};
    offer(q, 2);
    q.use(0, 2, 0, 0);
    q.refuses(fault_code::not_in_flight, 2);
  }
  packed_device q{16};
  offer(q, 2);
  q.use(0, 0, 9, flag::write);
  q.refuses(fault_code::length_overflow, 9);
  // Without WRITE the length is reserved.
  packed_device quiet{16};
  offer(quiet, 2);
  quiet.use(0, 1, 0xffff'ffff, 0);
  CHECK(poll(quiet) == std::vector<std::uint32_t>{101});
}

TEST_CASE("packed, in order: one used descriptor stands for a batch") {
  packed_device q{16, feature::in_order};
  offer(q, 4);
  q.use(0, 2, 5, flag::write);
  CHECK(poll(q) == std::vector<std::uint32_t>{100, 101, 102});
  CHECK(poll(q).empty());
  q.use(6, 3, 5, flag::write);
  CHECK(poll(q) == std::vector<std::uint32_t>{103});
  CHECK_FALSE(q.front.last_fault());
}

TEST_CASE_TEMPLATE("a driver refuses buffers that no device could take", Format, split_format,
                   packed_format) {
  queue_pair<Format> q{4};
  const driver::buffer_segment good[] = {part(0, 8)};
  const driver::buffer_segment empty[] = {part(0, 0)};
  const driver::buffer_segment huge[] = {part(0, std::uint64_t{1} << 32)};
  const driver::buffer_segment half[] = {part(0, 0x8000'0001)};
  const driver::buffer_segment five[] = {part(0, 1), part(1, 1), part(2, 1), part(3, 1),
                                         part(4, 1)};
  CHECK(q.front.add({}, {}, 0) == add_status::refused);
  CHECK(q.front.add(empty, {}, 0) == add_status::refused);
  CHECK(q.front.add(good, empty, 0) == add_status::refused);
  CHECK(q.front.add(huge, {}, 0) == add_status::refused);
  CHECK(q.front.add(half, half, 0) == add_status::refused);
  CHECK(q.front.add(five, {}, 0) == add_status::refused);
  CHECK(q.front.in_flight() == 0);
  CHECK_FALSE(q.front.publish());
  for (std::uint32_t i = 0; i != 4; ++i) CHECK(q.front.add(good, {}, i) == add_status::added);
  CHECK(q.front.add(good, {}, 4) == add_status::full);
}

TEST_CASE_TEMPLATE("an indirect table holds what the ring could not", Format, split_format,
                   packed_format) {
  queue_pair<Format> q{2, feature::indirect_desc, 8};
  const driver::buffer_segment out[] = {part(0, 1), part(1, 2), part(3, 3)};
  const driver::buffer_segment in[] = {part(100, 4), part(200, 5), part(300, 6)};
  for (std::uint32_t i = 0; i != 2; ++i) REQUIRE(q.front.add(out, in, i) == add_status::added);
  CHECK(q.front.free_descriptors() == 0);
  REQUIRE(q.front.publish());
  for (std::uint32_t i = 0; i != 2; ++i) {
    REQUIRE(q.pop() == device::pop_status::ready);
    REQUIRE(q.chain.readable().size() == 3);
    REQUIRE(q.chain.writable().size() == 3);
    CHECK(q.chain.readable_bytes() == 6);
    CHECK(q.chain.writable()[2].address == data_base + 300);
    CHECK(q.chain.writable()[2].bytes == 6);
    q.back.push(q.chain.id(), 15);
  }
  CHECK(q.back.flush());
  CHECK(poll(q) == std::vector<std::uint32_t>{0, 1});
}

TEST_CASE_TEMPLATE("notification data is the position behind what was published", Format,
                   split_format, packed_format) {
  queue_pair<Format> q{4};
  CHECK(q.front.notification_data() == (Format::packed ? 0x8000 : 0));
  offer(q, 2);
  if constexpr (Format::packed) {
    CHECK(q.front.notification_data() == 0);  // four descriptors: once around
    CHECK(virtio::notification{3, 0x8001}.packed_position() == ring::wrapped_index{1, true});
  } else {
    CHECK(q.front.notification_data() == 2);
  }
  CHECK(virtio::notification{3, 0x8001}.value() == 0x8001'0003);
  CHECK(virtio::notification::of(0x8001'0003).queue == 3);
}

TEST_CASE_TEMPLATE("a saved position continues in another queue object", Format, split_format,
                   packed_format) {
  queue_pair<Format> q{4};
  for (int round = 0; round != 11; ++round) {
    offer(q, 1);
    REQUIRE(q.pop() == device::pop_status::ready);
    q.back.push(q.chain.id(), 0);
    static_cast<void>(q.back.flush());
    CHECK(poll(q).size() == 1);
    const auto at = q.back.position();
    q.back.stop();
    CHECK(q.pop() == device::pop_status::empty);
    REQUIRE(q.back.start(q.setup(), at));
    q.back.notify_on_next_flush();
  }
}
