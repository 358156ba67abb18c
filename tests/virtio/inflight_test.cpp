// SPDX-License-Identifier: BSL-1.0
// A device side that ends at any store, and its successor: no buffer is lost, none returned twice.
#include <phasebit/virtio/spec/inflight_record.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <virtio/queue_pair.hpp>

using namespace phasebit;
using namespace phasebit_test;
using device::pop_status;

namespace {

// Calls a function behind each store that publishes something: a place where a process may end.
struct recorded_order : thread_order {
  template <SharedWord T>
  static void store(T& mine, std::type_identity_t<T> value) noexcept {
    thread_order::store(mine, value);
    if (after_store) after_store();
  }
  static inline std::function<void()> after_store;
};

struct split_recorded {
  static constexpr bool packed = false;
  using driver_queue = driver::split_queue<thread_order, std::uint32_t>;
  using device_queue = device::split_queue<recorded_order>;
  using record = device::inflight_split<recorded_order>;
  static std::size_t record_bytes(std::uint32_t size) { return virtio::inflight_split_bytes(size); }
};
struct packed_recorded {
  static constexpr bool packed = true;
  using driver_queue = driver::packed_queue<thread_order, std::uint32_t>;
  using device_queue = device::packed_queue<recorded_order>;
  using record = device::inflight_packed<recorded_order>;
  static std::size_t record_bytes(std::uint32_t size) {
    return virtio::inflight_packed_bytes(size);
  }
};

template <class Format>
struct session {
  explicit session(std::uint32_t size, std::uint64_t features)
      : q(size, features), record(Format::record_bytes(size) / 8) {
    resume();
  }

  std::span<std::byte> record_bytes() { return std::as_writable_bytes(std::span{record}); }
  void resume() {
    const auto attached = Format::record::attach(record_bytes(), q.layout.size);
    REQUIRE(attached);
    REQUIRE(q.back.start(q.setup()));
    REQUIRE(q.back.resume(*attached));
  }

  bool add(std::uint32_t segments) {
    driver::buffer_segment parts[4];
    for (std::uint32_t i = 0; i != segments; ++i) {
      parts[i] = part(8 * (token % 4096), 1 + i);
    }
    if (q.front.add(std::span{parts}.first(segments), {}, token) != driver::add_status::added) {
      return false;
    }
    outstanding.push_back(token++);
    return true;
  }
  std::uint32_t popped_token() const {
    return static_cast<std::uint32_t>((q.chain.readable()[0].address - data_base) / 8);
  }
  void poll() {
    q.front.poll([&](std::uint32_t done, std::uint32_t) noexcept {
      const auto found = std::find(outstanding.begin(), outstanding.end(), done);
      REQUIRE(found != outstanding.end());  // neither invented nor returned twice
      outstanding.erase(found);
    });
    REQUIRE_FALSE(q.front.last_fault());
  }

  // The state that a process leaves behind, and the driver's state.
  struct image {
    std::vector<typename queue_pair<Format>::line> ring;
    std::vector<std::uint64_t> record;
    std::vector<driver::buffer_slot<std::uint32_t>> slots;
    std::vector<device::buffer_state> buffers;
    typename Format::driver_queue front;
    typename Format::device_queue back;
    device::chain chain;
    std::vector<std::uint32_t> outstanding;
  };
  image save() const {
    return {q.ring, record, q.slots, q.buffers, q.front, q.back, q.chain, outstanding};
  }
  void restore(const image& i) {
    std::copy(i.ring.begin(), i.ring.end(), q.ring.begin());
    std::copy(i.record.begin(), i.record.end(), record.begin());
    std::copy(i.slots.begin(), i.slots.end(), q.slots.begin());
    std::copy(i.buffers.begin(), i.buffers.end(), q.buffers.begin());
    q.front = i.front;
    q.back = i.back;
    q.chain = i.chain;
    outstanding = i.outstanding;
  }

  // The successor serves all that there is.
  void serve_everything() {
    static_cast<void>(q.front.publish());
    std::vector<std::uint16_t> ids;
    std::uint32_t last = 0;
    bool any = false;
    while (q.pop() == pop_status::ready) {
      if (any && q.chain.resubmitted()) REQUIRE(popped_token() > last);  // the oldest first
      last = popped_token();
      any = true;
      ids.push_back(q.chain.id());
    }
    REQUIRE(q.back.last_fault().code == device::fault_code::none);
    std::reverse(ids.begin(), ids.end());
    for (const std::uint16_t id : ids) q.back.push(id, 0);
    static_cast<void>(q.back.flush());
    poll();
    REQUIRE(outstanding.empty());
    // And the queue goes on.
    REQUIRE(add(1));
    static_cast<void>(q.front.publish());
    REQUIRE(q.pop() == pop_status::ready);
    REQUIRE_FALSE(q.chain.resubmitted());
    q.back.push(q.chain.id(), 0);
    static_cast<void>(q.back.flush());
    poll();
    REQUIRE(outstanding.empty());
  }

  // Runs `operation`; behind each of its stores, and behind each store of the successor's recovery,
  // the process ends and a new one takes over.
  template <class Operation>
  void ending_anywhere(Operation operation) {
    std::vector<image> images;
    recorded_order::after_store = [&] { images.push_back(save()); };
    operation();
    recorded_order::after_store = nullptr;
    const image after = save();
    const std::uint32_t next_token = token;
    std::vector<image> again;
    for (const image& i : images) {
      restore(i);
      recorded_order::after_store = [&] { again.push_back(save()); };
      resume();
      recorded_order::after_store = nullptr;
      serve_everything();
      ++takeovers;
    }
    for (const image& i : again) {
      restore(i);
      resume();
      serve_everything();
      ++takeovers;
    }
    restore(after);
    token = next_token;
  }

  queue_pair<Format> q;
  std::vector<std::uint64_t> record;
  std::vector<std::uint32_t> outstanding;
  std::uint32_t token = 0;
  std::uint32_t takeovers = 0;
};

template <class Format>
void run(std::uint32_t size, std::uint64_t features, unsigned seed) {
  std::mt19937 random{seed};
  session<Format> s{size, features};
  std::vector<std::uint16_t> taken;
  for (int i = 0; i != 300; ++i) {
    switch (random() % 8) {
      case 0:
      case 1:
        static_cast<void>(s.add(1));
        break;
      case 2:
        static_cast<void>(s.add(1 + static_cast<std::uint32_t>(random()) % 3));
        break;
      case 3:
        static_cast<void>(s.q.front.publish());
        break;
      case 4:
      case 5:
        s.ending_anywhere([&] {
          if (s.q.pop() == pop_status::ready) taken.push_back(s.q.chain.id());
        });
        break;
      case 6: {
        // A batch of one to all that are taken, in any order.
        std::shuffle(taken.begin(), taken.end(), random);
        const std::size_t batch = taken.empty() ? 0 : 1 + random() % taken.size();
        std::vector<std::uint16_t> also;
        s.ending_anywhere([&] {
          for (std::size_t n = 0; n != batch; ++n) {
            s.q.back.push(taken[n], 0);
            // Buffers are taken while others are pushed and not visible yet.
            if (n == 0 && s.q.pop() == pop_status::ready) also.push_back(s.q.chain.id());
          }
          static_cast<void>(s.q.back.flush());
        });
        taken.erase(taken.begin(), taken.begin() + static_cast<std::ptrdiff_t>(batch));
        taken.insert(taken.end(), also.begin(), also.end());
        break;
      }
      default:
        s.poll();
        break;
    }
  }
  CHECK(s.takeovers > 100);
}

}  // namespace

TEST_CASE("split: a process that ends at any store loses and repeats no buffer") {
  for (const std::uint32_t size : {1U, 4U, 8U}) {
    for (const std::uint64_t features : {std::uint64_t{0}, feature::in_order}) {
      for (unsigned seed = 1; seed != 4; ++seed) run<split_recorded>(size, features, seed);
    }
  }
}
TEST_CASE("packed: a process that ends at any store loses and repeats no buffer") {
  for (const std::uint32_t size : {1U, 3U, 5U, 8U}) {
    for (const std::uint64_t features : {std::uint64_t{0}, feature::in_order}) {
      for (unsigned seed = 1; seed != 4; ++seed) run<packed_recorded>(size, features, seed);
    }
  }
}

TEST_CASE("a record of the wrong size, version or queue is refused") {
  std::vector<std::uint64_t> memory(virtio::inflight_packed_bytes(8) / 8 + 1);
  const auto bytes = std::as_writable_bytes(std::span{memory});
  using split = device::inflight_split<thread_order>;
  using packed = device::inflight_packed<thread_order>;
  CHECK(split::attach(bytes.first(virtio::inflight_split_bytes(8) - 1), 8).error().code ==
        errc::invalid_argument);
  CHECK(packed::attach(bytes.first(virtio::inflight_packed_bytes(8) - 1), 8).error().code ==
        errc::invalid_argument);
  CHECK(split::attach(bytes.subspan(4), 8).error().code == errc::misaligned);
  REQUIRE(split::attach(bytes, 8));
  CHECK(split::attach(bytes, 8));
  CHECK(split::attach(bytes, 4).error().code == errc::protocol);
  reinterpret_cast<virtio::inflight_split_header*>(memory.data())->version = 2;
  CHECK(split::attach(bytes, 8).error().code == errc::not_supported);
  CHECK(packed::attach(bytes, 8).error().code == errc::not_supported);
}

TEST_CASE_TEMPLATE("a record of arbitrary bytes is refused or served, and reaches nothing else",
                   Format, split_recorded, packed_recorded) {
  std::mt19937 random{7};
  std::uint32_t refused = 0;
  std::uint32_t served = 0;
  for (int i = 0; i != 3000; ++i) {
    session<Format> s{8, 0};
    for (int n = 0; n != 6; ++n) static_cast<void>(s.add(1));
    static_cast<void>(s.q.front.publish());
    for (int n = 0; n != 4; ++n) REQUIRE(s.q.pop() == pop_status::ready);
    // A few bytes behind the version and size are replaced, small values more often than large ones.
    const auto bytes = s.record_bytes();
    for (auto n = 1 + random() % 6; n != 0; --n) {
      bytes[12 + random() % (bytes.size() - 12)] =
          static_cast<std::byte>(random() % 2 == 0 ? random() % 10 : random() % 256);
    }
    const auto attached = Format::record::attach(bytes, 8);
    REQUIRE(attached);
    REQUIRE(s.q.back.start(s.q.setup()));
    if (!s.q.back.resume(*attached)) {
      ++refused;
      continue;
    }
    ++served;
    std::vector<std::uint16_t> ids;
    for (int n = 0; n != 40 && s.q.pop() == pop_status::ready; ++n) {
      ids.push_back(s.q.chain.id());
    }
    for (const std::uint16_t id : ids) s.q.back.push(id, 0);
    static_cast<void>(s.q.back.flush());
  }
  CHECK(refused > 50);
  CHECK(served > 50);
}

TEST_CASE_TEMPLATE("a closed record starts empty, whatever the ring contains", Format,
                   split_recorded, packed_recorded) {
  session<Format> s{4, 0};
  for (int i = 0; i != 7; ++i) {
    REQUIRE(s.add(1));
    static_cast<void>(s.q.front.publish());
    REQUIRE(s.q.pop() == pop_status::ready);
    s.q.back.push(s.q.chain.id(), 0);
    static_cast<void>(s.q.back.flush());
    s.poll();
  }
  auto record = Format::record::attach(s.record_bytes(), 4);
  REQUIRE(record);
  record->close();
  // Another driver begins with an empty queue.
  session<Format> next{4, 0};
  std::copy(s.record.begin(), s.record.end(), next.record.begin());
  next.resume();
  REQUIRE(next.add(1));
  next.serve_everything();
}
