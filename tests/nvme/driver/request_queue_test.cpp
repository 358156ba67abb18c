// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/driver/request_queue.hpp>

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

using queue = queue_pair<thread_order, memory_doorbell, std::uint16_t>;

struct bench {
  resident_controller device{4};
  queue q{device.layout(16'384), device.tail(), device.head()};
  request_queue<queue, 8> requests{q};
};

request read_of(std::uint64_t lba, std::span<const segment<bus_space>> segments) {
  return {.command = nvm::read({.nsid = 1}), .lba = lba, .segments = segments};
}

}  // namespace

TEST_CASE("a request longer than the queue is deep goes through in segments and ends once") {
  bench b;
  const segment<bus_space> buffer[] = {
      {bus_addr{0x100000}, 160U << 10}};  // ten commands, three at a time
  int ended = 0;
  CHECK(b.requests.submit(read_of(7, buffer), [&](completion c) noexcept { ended += c.ok(); })
            .status == submit_status::queued);
  std::uint64_t next = 7;
  for (int turn = 0; turn != 20 && ended == 0; ++turn) {
    b.requests.ring();
    while (b.device.pending()) {
      const auto& e = b.device.fetch();
      CHECK(e.cdw10_11() == next);
      next += block_range_of(e).blocks;
      b.device.complete(e.command_id());
    }
    (void)b.requests.poll();
  }
  CHECK(ended == 1);
  CHECK(next == 7 + 320);
  CHECK(b.requests.under_way() == 0);
}

TEST_CASE("the first failure of its parts is the request's status, reported when all have ended") {
  bench b;
  const segment<bus_space> buffer[] = {{bus_addr{0x100000}, 48U << 10}};
  std::vector<completion> seen;
  REQUIRE(b.requests.submit(read_of(0, buffer), [&](completion c) noexcept { seen.push_back(c); }));
  b.requests.ring();
  const auto first = b.device.fetch().command_id();
  const auto second = b.device.fetch().command_id();
  const auto third = b.device.fetch().command_id();
  b.device.complete(second, status_code::unrecovered_read_error);
  b.device.complete(third, status_code::lba_out_of_range);
  (void)b.requests.poll();
  CHECK(seen.empty());
  b.device.complete(first);
  CHECK(b.requests.poll() == 1);
  REQUIRE(seen.size() == 1);
  CHECK(seen[0].status() == status_code::unrecovered_read_error);
}

TEST_CASE("requests beyond the capacity are refused as full, and accepted later") {
  unsigned ended = 0;
  bench b;
  const segment<bus_space> buffer[] = {{bus_addr{0x100000}, 4096}};
  const auto count = [&](completion c) noexcept { ended += c.ok(); };
  for (int i = 0; i != 8; ++i) REQUIRE(b.requests.submit(read_of(0, buffer), count));
  CHECK(b.requests.waiting() == 5);
  CHECK(b.requests.submit(read_of(0, buffer), count).status == submit_status::full);
  for (int turn = 0; turn != 10; ++turn) {
    b.requests.ring();
    b.device.run();
    (void)b.requests.poll();
  }
  CHECK(ended == 8);
  CHECK(b.requests.submit(read_of(0, buffer), count));
}

TEST_CASE(
    "what is no whole number of blocks, empty or wraps is refused before anything is posted") {
  bench b;
  const auto nobody = [](completion) noexcept {};
  const segment<bus_space> odd[] = {{bus_addr{0x1000}, 700}};
  const segment<bus_space> none[] = {{bus_addr{0x1000}, 512}, {bus_addr{0x2000}, 0}};
  const segment<bus_space> wraps[] = {{bus_addr{~0ULL - 100}, 512}};
  const segment<bus_space> good[] = {{bus_addr{0x1000}, 1024}};
  CHECK(b.requests.submit(read_of(0, odd), nobody).reason == errc::invalid_argument);
  CHECK(b.requests.submit(read_of(0, none), nobody).index == 1);
  CHECK(b.requests.submit(read_of(0, wraps), nobody).reason == errc::overflow);
  CHECK(b.requests.submit(read_of(0, {}), nobody).reason == errc::invalid_argument);
  CHECK(b.requests.submit(read_of(~0ULL, good), nobody).reason == errc::overflow);
  CHECK(b.requests.under_way() == 0);
  CHECK(b.q.in_flight() == 0);
}

TEST_CASE("a part that PRPs cannot express ends the request with a status") {
  bench b;
  const segment<bus_space> torn[] = {
      {bus_addr{0x1000}, 4096}, {bus_addr{0x8000}, 256}, {bus_addr{0x9800}, 256}};
  std::vector<completion> seen;
  REQUIRE(b.requests.submit(read_of(0, torn), [&](completion c) noexcept { seen.push_back(c); }));
  b.requests.ring();
  b.device.run();
  (void)b.requests.poll();
  REQUIRE(seen.size() == 1);
  CHECK(seen[0].status() == status_code::invalid_field);
  CHECK(b.requests.under_way() == 0);
}

TEST_CASE("fail_all ends what is posted and what is waiting, each once") {
  bench b;
  const segment<bus_space> buffer[] = {{bus_addr{0x100000}, 160U << 10}};
  int ended = 0;
  for (int i = 0; i != 4; ++i) {
    REQUIRE(b.requests.submit(read_of(0, buffer), [&](completion c) noexcept {
      ended += c.status() == status_code::aborted_by_host;
    }));
  }
  b.requests.ring();
  b.requests.fail_all();
  CHECK(ended == 4);
  CHECK(b.requests.under_way() == 0);
  CHECK(b.requests.submit(read_of(0, buffer), [](completion) noexcept {}).status ==
        submit_status::closed);
}

TEST_CASE("random requests all end once, whatever order the device completes in") {
  resident_controller device{16};
  queue q{device.layout(16'384), device.tail(), device.head()};
  request_queue<queue, 32> requests{q};
  std::mt19937 random{3};
  const segment<bus_space> buffer[] = {{bus_addr{0x100000}, 64U << 10}};
  std::vector<std::uint16_t> fetched;
  int wanted = 0;
  int ended = 0;
  for (int step = 0; step != 20'000; ++step) {
    switch (random() % 4) {
      case 0: {
        segment<bus_space> part = buffer[0];
        part.bytes = 512 * (1 + random() % 128);
        static segment<bus_space> kept[64];
        kept[wanted % 64] = part;
        if (requests.submit(read_of(random() % 1000, {&kept[wanted % 64], 1}),
                            [&](completion c) noexcept { ended += c.ok(); })) {
          ++wanted;
        }
        break;
      }
      case 1:
        requests.ring();
        while (device.pending()) fetched.push_back(device.fetch().command_id());
        break;
      case 2:
        if (!fetched.empty() && device.can_complete()) {
          const std::size_t which = random() % fetched.size();
          device.complete(fetched[which]);
          fetched.erase(fetched.begin() + static_cast<std::ptrdiff_t>(which));
        }
        break;
      default:
        (void)requests.poll();
    }
  }
  for (int turn = 0; turn != 200 && requests.under_way() != 0; ++turn) {
    requests.ring();
    while (device.pending()) fetched.push_back(device.fetch().command_id());
    while (!fetched.empty() && device.can_complete()) {
      device.complete(fetched.back());
      fetched.pop_back();
    }
    (void)requests.poll();
  }
  CHECK(wanted > 1000);
  CHECK(ended == wanted);
  CHECK(q.health());
}

TEST_CASE("a request whose first part cannot be expressed ends") {
  bench b;
  const segment<bus_space> odd[] = {{bus_addr{0x1002}, 512}};
  unsigned ended = 0;
  (void)b.requests.submit(read_of(0, odd), [&](completion c) noexcept { ended += !c.ok(); });
  b.requests.ring();
  b.device.run();
  (void)b.requests.poll();
  CHECK(ended == 1);
  CHECK(b.requests.under_way() == 0);
}
