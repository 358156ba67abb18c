// SPDX-License-Identifier: BSL-1.0
// Both sides of both ring formats against deques, for all sizes from 1 to 8: every sequence of
// operations up to a depth, and long random ones with every continuation of two operations.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <support/sanitizers.hpp>
#include <virtio/queue_pair.hpp>

using namespace phasebit;
using namespace phasebit_test;

namespace {

// The state of a buffer, in order.
struct buffer {
  std::uint32_t token = 0;
  std::uint32_t segments = 0;
  std::uint32_t written = 0;
  std::uint16_t id = 0;
};

// The notification points of one side, and how far the ring has moved: the oracle takes each step
// alone. Positions repeat after 2^16 buffers (split) or two rounds of the ring (packed), and so do
// notifications that were requested long ago.
struct notification_wish {
  enum { always, never, at_event } kind = always;
  std::uint32_t event = 0;
  std::uint32_t position = 0;

  bool moved(std::uint32_t steps, std::uint32_t period) {
    bool passed = kind == always;
    for (; steps != 0; --steps) {
      passed = passed || (kind == at_event && position == event);
      position = (position + 1) % period;
    }
    return passed;
  }
};

// The queues with the oracle beside them. Copyable as a whole: the rings stay where they are, and
// save() and restore() move their bytes.
template <class Format>
struct world {
  struct oracle {
    std::deque<buffer> added, published, taken, pushed, used;
    std::uint32_t next_token = 0;
    std::uint32_t outstanding = 0;  // descriptors
    std::uint32_t taken_steps = 0;  // how far pop() has come
    std::uint32_t seen_steps = 0;   // how far poll() has come
    notification_wish device;       // asked by publish()
    notification_wish driver;       // asked by flush()
  };
  struct snapshot {
    std::vector<typename queue_pair<Format>::line> ring;
    std::vector<driver::buffer_slot<std::uint32_t>> slots;
    std::vector<device::buffer_state> buffers;
    typename Format::driver_queue front;
    typename Format::device_queue back;
    oracle model;
  };

  world(std::uint32_t size, std::uint64_t features, std::uint32_t indirect)
      : q(size, features, indirect),
        indirect_(indirect),
        event_idx((features & feature::event_idx) != 0),
        in_order((features & feature::in_order) != 0),
        period(Format::packed ? 2 * size : 65'536) {
    if (event_idx && !Format::packed)
      model.device.kind = model.driver.kind = notification_wish::at_event;
  }

  snapshot save() const { return {q.ring, q.slots, q.buffers, q.front, q.back, model}; }
  void restore(const snapshot& s) {
    q.ring.assign(s.ring.begin(), s.ring.end());
    q.slots.assign(s.slots.begin(), s.slots.end());
    q.buffers.assign(s.buffers.begin(), s.buffers.end());
    q.front = s.front;
    q.back = s.back;
    model = s.model;
  }

  std::uint32_t cost(std::uint32_t segments) const {
    return segments > 1 && segments <= indirect_ ? 1 : segments;
  }

  // How far the ring's position moves with a buffer.
  std::uint32_t steps(const buffer& b) const { return Format::packed ? cost(b.segments) : 1; }

  // Each operation is always possible; what it must answer depends on the state.
  void add(std::uint32_t segments) {
    const std::uint32_t readable = segments == 1 ? model.next_token % 2 : 1;
    driver::buffer_segment parts[8];
    for (std::uint32_t i = 0; i != segments; ++i) {
      parts[i] = part(64 * (model.next_token % 512) + 8 * i, 1 + i);
    }
    const auto all = std::span{parts}.first(segments);
    const auto done = q.front.add(all.first(readable), all.subspan(readable), model.next_token);
    const std::uint32_t needed = cost(segments);
    if (needed > q.layout.size) {
      REQUIRE(done == driver::add_status::refused);
    } else if (model.outstanding + needed > q.layout.size) {
      REQUIRE(done == driver::add_status::full);
    } else {
      REQUIRE(done == driver::add_status::added);
      model.outstanding += needed;
      model.added.push_back({model.next_token++, segments});
    }
    REQUIRE(q.front.free_descriptors() == q.layout.size - model.outstanding);
  }
  void publish() {
    const bool notify = q.front.publish();
    if (model.added.empty()) {
      REQUIRE_FALSE(notify);
      return;
    }
    std::uint32_t steps = 0;
    for (const buffer& b : model.added) steps += this->steps(b);
    REQUIRE(notify == model.device.moved(steps, period));
    for (; !model.added.empty(); model.added.pop_front()) {
      model.published.push_back(model.added.front());
    }
  }
  void pop() {
    REQUIRE(q.back.available() == !model.published.empty());
    const auto got = q.pop();
    if (model.published.empty()) {
      REQUIRE(got == device::pop_status::empty);
      return;
    }
    REQUIRE(got == device::pop_status::ready);
    buffer b = model.published.front();
    model.published.pop_front();
    const std::uint32_t readable = b.segments == 1 ? b.token % 2 : 1;
    REQUIRE(q.chain.readable().size() == readable);
    REQUIRE(q.chain.writable().size() == b.segments - readable);
    for (std::uint32_t i = 0; i != b.segments; ++i) {
      const auto& s = i < readable ? q.chain.readable()[i] : q.chain.writable()[i - readable];
      REQUIRE(s.address == data_base + 64 * (b.token % 512) + 8 * i);
      REQUIRE(s.data == q.data.data() + (s.address - data_base));
      REQUIRE(s.bytes == 1 + i);
    }
    b.id = q.chain.id();
    b.written = static_cast<std::uint32_t>(q.chain.writable_bytes() == 0 ? 0 : 1);
    for (const buffer& other : model.taken) REQUIRE(other.id != b.id);
    model.taken.push_back(b);
    model.taken_steps += steps(b);
  }
  // Returns the oldest or the newest buffer that was taken.
  void push(bool oldest) {
    std::deque<buffer>& candidates = model.taken;
    if (candidates.empty()) return;
    const buffer b = oldest ? candidates.front() : candidates.back();
    if (oldest) {
      candidates.pop_front();
    } else {
      candidates.pop_back();
    }
    q.back.push(b.id, b.written);
    model.pushed.push_back(b);
  }
  void flush() {
    // In order: only what is older than everything taken becomes visible.
    std::deque<buffer> visible, held;
    if (in_order) {
      std::uint32_t oldest = ~0U;
      for (const buffer& b : model.taken) oldest = b.token < oldest ? b.token : oldest;
      for (const buffer& b : model.pushed) (b.token < oldest ? visible : held).push_back(b);
      std::sort(visible.begin(), visible.end(),
                [](const buffer& a, const buffer& b) { return a.token < b.token; });
    } else {
      visible = model.pushed;
    }
    const bool notify = q.back.flush();
    model.pushed = held;
    if (visible.empty()) {
      REQUIRE_FALSE(notify);
      return;
    }
    std::uint32_t steps = 0;
    for (const buffer& b : visible) steps += this->steps(b);
    REQUIRE(notify == model.driver.moved(steps, period));
    for (const buffer& b : visible) model.used.push_back(b);
  }
  void poll() {
    std::vector<buffer> got;
    const auto count = q.front.poll([&](std::uint32_t token, std::uint32_t written) noexcept {
      got.push_back({token, 0, written});
    });
    REQUIRE(count == got.size());
    REQUIRE(got.size() == model.used.size());
    for (const buffer& b : got) {
      REQUIRE(b.token == model.used.front().token);
      REQUIRE(b.written == model.used.front().written);
      model.outstanding -= cost(model.used.front().segments);
      model.seen_steps += steps(model.used.front());
      model.used.pop_front();
    }
    REQUIRE_FALSE(q.front.last_fault());
    REQUIRE(q.front.free_descriptors() == q.layout.size - model.outstanding);
  }
  void device_sleeps() {
    const bool more = q.back.enable_notifications();
    REQUIRE(more == !model.published.empty());
    set_wish(model.device, model.taken_steps);
  }
  void driver_sleeps() {
    const bool more = q.front.enable_notifications();
    REQUIRE(more == !model.used.empty());
    set_wish(model.driver, model.seen_steps);
  }
  void set_wish(notification_wish& wish, std::uint32_t at) {
    wish.kind = event_idx ? notification_wish::at_event : notification_wish::always;
    wish.event = at % period;
  }
  void device_polls() {
    q.back.disable_notifications();
    if (!event_idx || Format::packed) model.device.kind = notification_wish::never;
  }
  void driver_polls() {
    q.front.disable_notifications();
    if (!event_idx || Format::packed) model.driver.kind = notification_wish::never;
  }

  static constexpr unsigned operations = 11;
  void apply(unsigned operation) {
    switch (operation) {
      case 0:
        return add(1);
      case 1:
        return publish();
      case 2:
        return pop();
      case 3:
        return push(true);
      case 4:
        return flush();
      case 5:
        return poll();
      case 6:
        return add(2);
      case 7:
        return push(false);
      case 8:
        return device_sleeps();
      case 9:
        return driver_sleeps();
      default:
        return (model.next_token % 2 != 0) ? device_polls() : driver_polls();
    }
  }
  // Every sequence of so many operations from here.
  void explore(unsigned depth) {
    if (depth == 0) return;
    const snapshot here = save();
    for (unsigned i = 0; i != operations; ++i) {
      apply(i);
      explore(depth - 1);
      restore(here);
    }
  }
  // Moves both sides on by `buffers`, and leaves them empty.
  void turn(std::uint32_t buffers) {
    for (std::uint32_t i = 0; i != buffers; ++i) {
      add(1);
      publish();
      pop();
      push(true);
      flush();
      poll();
    }
  }

  queue_pair<Format> q;
  std::uint32_t indirect_;
  bool event_idx;
  bool in_order;
  std::uint32_t period;
  oracle model;
};

constexpr std::uint64_t feature_sets[] = {0, feature::event_idx, feature::in_order,
                                          feature::event_idx | feature::in_order};

template <class Format>
void explore_all() {
  for (std::uint32_t size = 1; size != 9; ++size) {
    if (!Format::packed && !virtio::is_split_queue_size(size)) continue;
    for (const std::uint64_t features : feature_sets) {
      for (const std::uint32_t before : {0U, 1U}) {
        world<Format> w{size, features, 0};
        w.turn(before * (size - 1));
        const unsigned steps = size == 1 && before == 0 ? 6 : size <= 2 ? 5 : 4;
        w.explore(test_support::sanitized ? steps - 1 : steps);
      }
    }
  }
}

template <class Format>
void walk_at_random() {
  std::mt19937 random{20'261'127};
  for (std::uint32_t size = 1; size != 9; ++size) {
    if (!Format::packed && !virtio::is_split_queue_size(size)) continue;
    for (std::uint64_t features : feature_sets) {
      for (const std::uint32_t indirect : {0U, 2U}) {
        if (indirect != 0) features |= feature::indirect_desc;
        world<Format> w{size, features, indirect};
        for (int i = 0; i != 2000; ++i) {
          if (i % 50 == 0) w.explore(2);
          // Operations that complete come a little more often, or the queue would always be full.
          const auto draw = static_cast<unsigned>(random() % 15);
          w.apply(draw < 11 ? draw : draw - 10);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("split queues of 1 to 8 entries behave as deques in every sequence of operations") {
  explore_all<split_format>();
}
TEST_CASE("packed queues of 1 to 8 entries behave as deques in every sequence of operations") {
  explore_all<packed_format>();
}
TEST_CASE("split queues behave as deques in long random sequences") {
  walk_at_random<split_format>();
}
TEST_CASE("packed queues behave as deques in long random sequences") {
  walk_at_random<packed_format>();
}

TEST_CASE("the free-running indices of a split queue wrap at 65535") {
  for (const std::uint64_t features : {std::uint64_t{0}, feature::event_idx}) {
    world<split_format> w{4, features, 0};
    w.turn(65'533);
    CHECK(w.q.back.position() == device::split_position{65'533, 65'533});
    w.explore(4);
    for (int i = 0; i != 4; ++i) {
      w.turn(1);
      w.explore(3);
    }
    CHECK(w.q.back.position() == device::split_position{1, 1});
  }
}

TEST_CASE("a chain exactly as long as a packed ring toggles both wrap counters") {
  world<packed_format> w{8, 0, 0};
  for (int i = 0; i != 5; ++i) {
    const device::packed_position before = w.q.back.position();
    w.add(8);
    w.publish();
    w.pop();
    w.push(true);
    w.flush();
    w.poll();
    const device::packed_position after = w.q.back.position();
    CHECK(after.avail.index() == before.avail.index());
    CHECK(after.avail.wrap() != before.avail.wrap());
    CHECK(after.used.wrap() != before.used.wrap());
    w.turn(1);
  }
}

TEST_CASE_TEMPLATE("the largest queue takes as many buffers as it has entries", Format,
                   split_format, packed_format) {
  world<Format> w{32'768, 0, 0};
  for (int round = 0; round != 2; ++round) {
    for (std::uint32_t i = 0; i != 32'768; ++i) w.add(1);
    CHECK(w.q.front.free_descriptors() == 0);
    w.publish();
    std::vector<std::uint16_t> ids;
    while (w.q.pop() == device::pop_status::ready) ids.push_back(w.q.chain.id());
    CHECK(ids.size() == 32'768);
    CHECK_FALSE(w.q.back.last_fault());
    for (const std::uint16_t id : ids) w.q.back.push(id, 0);
    static_cast<void>(w.q.back.flush());
    std::uint32_t done = 0;
    w.q.front.poll([&](std::uint32_t, std::uint32_t) noexcept { ++done; });
    CHECK(done == 32'768);
    w.model = {};
  }
}
