// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/nvme/driver/wait.hpp>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <new>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <support/resident_controller.hpp>

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;
using phasebit_test::memory_doorbell;
using phasebit_test::resident_controller;

namespace {

template <class Token = completion_callback>
using queue = queue_pair<thread_order, memory_doorbell, Token>;

dma_region buffer(std::uint64_t bus, std::size_t bytes) {
  return {{static_cast<std::byte*>(nullptr), bytes}, bus_addr{bus}};
}

}  // namespace

TEST_CASE("a read is posted as the specification lays it out") {
  resident_controller device{8};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  const auto posted =
      q.read({.nsid = 3, .lba = 0x1'2345'6789, .blocks = 16}, buffer(0x10'0000, 8192), 42);
  REQUIRE(posted);
  CHECK_FALSE(device.pending());  // not before the doorbell
  q.ring();
  REQUIRE(device.pending());
  const submission_entry& e = device.fetch();
  CHECK(e.opcode() == 0x02);
  CHECK(e.command_id() == posted.command_id);
  CHECK(e.nsid == 3);
  CHECK(e.prp1 == 0x10'0000);
  CHECK(e.prp2 == 0x10'1000);
  CHECK(e.cdw10 == 0x2345'6789);
  CHECK(e.cdw11 == 1);
  CHECK(e.cdw12 == 15);
}

TEST_CASE("waiting on a queue without a controller is refused: it has no clock") {
  resident_controller device{8};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  REQUIRE(q.submit(nvm::flush(1), 1));
  q.ring();
  const auto ended = wait(q, 1, [](std::uint32_t&, driver::completion) noexcept {});
  REQUIRE_FALSE(ended);
  CHECK(ended.error().code == errc::invalid_argument);
}

TEST_CASE("a long transfer gets a list of its own, by its bus address") {
  resident_controller device{8};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  const auto posted = q.read({.nsid = 1, .blocks = 256}, buffer(0x80'0000, 131'072), 0);
  REQUIRE(posted);
  q.ring();
  const submission_entry& e = device.fetch();
  CHECK(e.prp2 >= resident_controller::lists_bus);
  CHECK(e.prp2 % 256 == 0);
  for (std::uint64_t i = 0; i != 31; ++i) {
    CHECK(device.list_at(e.prp2)[i] == 0x80'0000 + (i + 1) * 4096);
  }
}

TEST_CASE("one doorbell covers a whole batch, and none is rung without commands") {
  resident_controller device{16};
  queue_pair<thread_order, ring::counting_doorbell, std::uint32_t> q{device.layout(), {}, {}};
  submission_queue<ring::counting_doorbell> ring{device.layout().submission, {}};
  for (int i = 0; i != 5; ++i) ring.push(submission_entry{});
  CHECK(ring.unrung() == 5);
  ring.ring();
  CHECK(ring.unrung() == 0);
  CHECK(device.tail_doorbell() == 0);
  queue<std::uint32_t> other{device.layout(), device.tail(), device.head()};
  other.ring();
  CHECK(device.tail_doorbell() == 0);
}

TEST_CASE("a queue of depth n takes n - 1 commands and then reports that it is full") {
  for (std::uint32_t depth = 2; depth <= 8; ++depth) {
    resident_controller device{depth};
    queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
    for (std::uint32_t i = 0; i + 1 != depth; ++i) {
      REQUIRE(q.submit(nvm::flush(1), i));
    }
    const auto over = q.submit(nvm::flush(1), 99U);
    CHECK_FALSE(over);
    CHECK(over.status == submit_status::full);
    CHECK(q.available() == 0);
    q.ring();
    device.run();
    CHECK(q.poll([](std::uint32_t&, completion) noexcept {}) == depth - 1);
    CHECK(q.submit(nvm::flush(1), 0U));
  }
}

TEST_CASE("all interleavings of submit, ring, device and poll agree with a deque, depths 2 to 8") {
  // Each step is one of: submit, ring, complete the oldest, complete the newest fetched, poll.
  // From every position of the rings and both phases, so that each sequence meets the wrap.
  for (std::uint32_t depth = 2; depth <= 8; ++depth) {
    const unsigned steps = depth <= 3 ? 6 : 5;
    std::uint64_t sequences = 1;
    for (unsigned i = 0; i != steps; ++i) sequences *= 5;
    std::uint64_t faults = 0;
    for (std::uint64_t start = 0; start != sequences * 2 * depth; ++start) {
      const std::uint64_t sequence = start % sequences;
      resident_controller device{depth, 64};
      queue<std::uint32_t> q{device.layout(8192), device.tail(), device.head()};
      for (std::uint64_t i = 0; i != start / sequences; ++i) {
        faults += !q.submit(nvm::flush(1), 0U);
        q.ring();
        device.run();
        faults += q.poll([](std::uint32_t&, completion) noexcept {}) != 1;
      }
      std::deque<std::uint32_t> posted, told;
      std::map<std::uint32_t, std::uint16_t> id_of;
      std::deque<std::uint32_t> fetched, completed;
      std::uint32_t next = 0;
      std::uint64_t remaining = sequence;
      for (unsigned i = 0; i != steps; ++i, remaining /= 5) {
        switch (remaining % 5) {
          case 0: {
            const auto r = q.submit(nvm::flush(1), next);
            const bool store =
                posted.size() + told.size() + fetched.size() + completed.size() < depth - 1;
            faults += static_cast<bool>(r) != store;
            if (r) {
              posted.push_back(next);
              id_of[next] = r.command_id;
              ++next;
            }
            break;
          }
          case 1:
            q.ring();
            while (!posted.empty()) {
              told.push_back(posted.front());
              posted.pop_front();
            }
            break;
          case 2:
          case 3:
            while (device.pending()) {
              const auto id = device.fetch().command_id();
              faults += told.empty() || id != id_of[told.front()];
              if (told.empty()) break;
              fetched.push_back(told.front());
              told.pop_front();
            }
            if (!fetched.empty()) {
              const bool oldest = remaining % 5 == 2;
              const auto token = oldest ? fetched.front() : fetched.back();
              if (oldest) {
                fetched.pop_front();
              } else {
                fetched.pop_back();
              }
              faults += !device.can_complete();
              device.complete(id_of[token], {}, token);
              completed.push_back(token);
            }
            break;
          default:
            (void)q.poll([&](std::uint32_t& token, completion c) noexcept {
              faults += completed.empty() || completed.front() != token || c.dw0() != token;
              if (!completed.empty()) completed.pop_front();
            });
            faults += !completed.empty();
        }
      }
      faults += q.in_flight() != posted.size() + told.size() + fetched.size() + completed.size();
      faults += !q.health();
    }
    CHECK(faults == 0);
  }
}

TEST_CASE("completions in any order reach the command that they name") {
  resident_controller device{64};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  std::mt19937 random{7};
  for (int round = 0; round != 200; ++round) {
    std::vector<std::pair<std::uint16_t, std::uint32_t>> posted;
    const unsigned count = 1 + static_cast<unsigned>(random() % 63);
    for (std::uint32_t i = 0; i != count; ++i) {
      const auto token = static_cast<std::uint32_t>(random());
      const auto r = q.submit(nvm::flush(1), token);
      REQUIRE(r);
      posted.emplace_back(r.command_id, token);
    }
    q.ring();
    while (device.pending()) (void)device.fetch();
    std::shuffle(posted.begin(), posted.end(), random);
    for (const auto& [id, token] : posted) device.complete(id, {}, token);
    unsigned wrong = 0;
    CHECK(q.poll([&](std::uint32_t& token, completion c) noexcept { wrong += token != c.dw0(); }) ==
          count);
    CHECK(wrong == 0);
    CHECK(device.head_doorbell() == device.tail_doorbell());
  }
  CHECK(q.health());
}

TEST_CASE("a phase that never flips completes nothing") {
  resident_controller device{4};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  REQUIRE(q.submit(nvm::flush(1), 1U));
  q.ring();
  for (int i = 0; i != 100; ++i) {
    CHECK(q.poll([](std::uint32_t&, completion) noexcept {}) == 0);
  }
  CHECK(q.in_flight() == 1);
  CHECK(device.head_doorbell() == 0);
}

TEST_CASE("a completion with an unknown command id is counted, reported and otherwise ignored") {
  resident_controller device{8};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  const auto mine = q.submit(nvm::flush(1), 5U);
  REQUIRE(mine);
  q.ring();
  std::uint16_t unknown = 0;
  SUBCASE("an id that is free") { unknown = static_cast<std::uint16_t>(mine.command_id + 1); }
  SUBCASE("an id just beyond the table") { unknown = 7; }
  SUBCASE("an id of the greatest value") { unknown = 0xffff; }
  device.complete(unknown);
  device.complete(mine.command_id);
  device.complete(mine.command_id);  // a second time
  std::vector<std::uint32_t> ended;
  CHECK(q.poll([&](std::uint32_t& token, completion) noexcept { ended.push_back(token); }) == 1);
  CHECK(ended == std::vector<std::uint32_t>{5});
  CHECK(q.unexpected_completions() == 2);
  REQUIRE_FALSE(q.health());
  CHECK(q.health().error().code == errc::protocol);
  CHECK(q.health().error().value == unknown);
  CHECK(q.submit(nvm::flush(1), 6U));  // and the queue goes on
}

TEST_CASE("one poll takes at most as many completions as the queue is deep") {
  // The ring's memory always looks new: the other side turns each entry over as soon as it is taken.
  resident_controller device{4};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  for (int i = 0; i != 64; ++i) {
    for (int k = 0; k != 3; ++k) device.complete(0x1234);
    (void)q.poll([](std::uint32_t&, completion) noexcept {});
  }
  CHECK(q.unexpected_completions() >= 64);
  CHECK_FALSE(q.health());
  // Each completion's callback makes the device complete one more.
  resident_controller busy{8};
  queue<std::uint32_t> r{busy.layout(), busy.tail(), busy.head()};
  REQUIRE(r.submit(nvm::flush(1), 0U));
  r.ring();
  busy.run();
  unsigned calls = 0;
  (void)r.poll([&](std::uint32_t&, completion) noexcept {
    ++calls;
    if (calls < 1000 && r.submit(nvm::flush(1), 0U)) {
      r.ring();
      busy.run();
    }
  });
  CHECK(calls <= 8);
}

TEST_CASE("what cannot be expressed is refused at submission, and leaves no trace") {
  resident_controller device{8};
  queue<std::uint32_t> q{device.layout(65'536), device.tail(), device.head()};
  submitted r;
  SUBCASE("a buffer off a dword") {
    r = q.read({.nsid = 1, .blocks = 1}, buffer(0x1002, 512), 0);
    CHECK(r.reason == errc::misaligned);
  }
  SUBCASE("a buffer shorter than the blocks") {
    r = q.read({.nsid = 1, .blocks = 64}, buffer(0x1000, 512), 0);
    CHECK(r.reason == errc::invalid_argument);
  }
  SUBCASE("more than one command may move") {
    r = q.write({.nsid = 1, .blocks = 256}, buffer(0x1000, 131'072), 0);
    CHECK(r.reason == errc::out_of_range);
  }
  SUBCASE("a segment of no bytes") {
    const segment<bus_space> segments[] = {{bus_addr{0x1000}, 4096}, {bus_addr{0x5000}, 0}};
    r = q.submit(nvm::read({.nsid = 1, .blocks = 8}), std::span{segments}, 0);
    CHECK(r.reason == errc::invalid_argument);
    CHECK(r.index == 1);
  }
  SUBCASE("a middle segment off a page") {
    const segment<bus_space> segments[] = {{bus_addr{0x1000}, 4096}, {bus_addr{0x5800}, 4096}};
    r = q.submit(nvm::read({.nsid = 1, .blocks = 16}), std::span{segments}, 0);
    CHECK(r.reason == errc::misaligned);
    CHECK(r.index == 1);
  }
  CHECK(r.status == submit_status::refused);
  CHECK(std::string_view{r.what}.size() > 10);
  CHECK(q.in_flight() == 0);
  CHECK(q.available() == 7);
  q.ring();
  CHECK_FALSE(device.pending());
}

TEST_CASE("fail_all ends every command once, and its callbacks cannot submit any more") {
  resident_controller device{8};
  queue<> q{device.layout(), device.tail(), device.head()};
  struct {
    queue<>* q;
    unsigned ended = 0;
    unsigned refused = 0;
  } seen{&q};
  for (int i = 0; i != 5; ++i) {
    REQUIRE(q.submit(nvm::flush(1), completion_callback{[&seen](completion c) noexcept {
                       seen.ended += c.status() == status_code::aborted_by_host;
                       seen.refused +=
                           seen.q->submit(nvm::flush(1), completion_callback{}).status ==
                           submit_status::closed;
                     }}));
  }
  q.ring();
  CHECK(q.fail_all() == 5);
  CHECK(seen.ended == 5);
  CHECK(seen.refused == 5);
  CHECK(q.in_flight() == 0);
  CHECK(q.fail_all() == 0);
  device.run();  // the answers come after all
  CHECK(q.poll() == 0);
  CHECK(seen.ended == 5);
  CHECK(q.submit(nvm::flush(1), completion_callback{}).status == submit_status::closed);
}

TEST_CASE("a callback may submit to its own queue and poll it") {
  resident_controller device{4};
  queue<> q{device.layout(), device.tail(), device.head()};
  struct context {
    queue<>& q;
    resident_controller& device;
    int left = 20;
    int ended = 0;
    void go() noexcept {
      --left;
      (void)q.submit(nvm::flush(1), [this](completion) noexcept {
        ++ended;
        if (left != 0) {
          go();
          q.ring();
          device.run();
          (void)q.poll();
        }
      });
    }
  } c{q, device};
  c.go();
  q.ring();
  device.run();
  while (q.in_flight() != 0) (void)q.poll();
  CHECK(c.ended == 20);
  CHECK(q.health());
}

TEST_CASE("commands that are overdue are named, and those that are not are not") {
  resident_controller device{8};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  const auto old = q.submit(nvm::flush(1), 1U);
  q.tick();
  q.tick();
  const auto young = q.submit(nvm::flush(1), 2U);
  REQUIRE(young);
  std::vector<std::uint16_t> overdue;
  q.for_each_overdue(2, [&](std::uint16_t id) noexcept { overdue.push_back(id); });
  CHECK(overdue == std::vector<std::uint16_t>{old.command_id});
}

TEST_CASE("the limit of poll leaves the other completions for the next call") {
  resident_controller device{8};
  queue<std::uint32_t> q{device.layout(), device.tail(), device.head()};
  for (std::uint32_t i = 0; i != 7; ++i) REQUIRE(q.submit(nvm::flush(1), i));
  q.ring();
  device.run();
  const auto ignore = [](std::uint32_t&, completion) noexcept {};
  CHECK(q.poll(ignore, 3) == 3);
  CHECK(device.head_doorbell() == 3);
  CHECK(q.poll(ignore) == 4);
}
