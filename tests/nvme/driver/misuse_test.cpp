// SPDX-License-Identifier: BSL-1.0
// A hundred mistakes of a driver's user: each comes back as an error value with a sentence, and none aborts,
// reaches another queue's memory, or posts into a ring that is no ring any more.
#include <phasebit/nvme/driver/disk.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>
#include <phasebit/testing/nvme_quirks.hpp>

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;
using testing::nvme_quirk_function;

namespace {

using host_type = controller<nvme_quirk_function>;
using queue_type = host_type::io_queue<unsigned>;
using calling_queue = host_type::io_queue<>;

unsigned mistakes = 0;

void refused(const submitted& s, errc why, submit_status status) {
  ++mistakes;
  CHECK_FALSE(s);
  CHECK(s.reason == why);
  CHECK(s.status == status);
  CHECK(std::string_view{s.what}.size() > 15);
}
void refused(const submitted& s, errc why) { refused(s, why, submit_status::refused); }
void ended(const submitted& s) { refused(s, errc::removed, submit_status::closed); }
template <class T>
void fails(const result<T>& r, errc why) {
  ++mistakes;
  REQUIRE_FALSE(r);
  CHECK(r.error().code == why);
  CHECK(std::string_view{r.error().what}.size() > 15);
}

struct rig {
  nvme_quirk_function f{{.shadow_doorbells = true}};
  std::optional<host_type> host;
  dma_buffer<nvme_quirk_function> data = *allocate(f, 65'536);

  rig() {
    auto attached = attach(f, {.io_queues = 4, .admin_timeout_ms = 200});
    REQUIRE(attached);
    host.emplace(std::move(*attached));
  }
  queue_type make(std::uint32_t depth = 8) {
    auto q = host->create_queue_pair({.depth = depth}, tokens<unsigned>);
    REQUIRE(q);
    return std::move(*q);
  }
};

// Everything that a user can do with a queue that has ended. Nothing of it reaches the device.
void use_ended(rig& r, queue_type& q, queue_end why, unsigned in_flight) {
  const std::uint64_t before = r.f.io_commands;
  CHECK(q.closed());
  CHECK(q.end_reason() == why);
  const dma_region block = r.data->subregion(0, 512);
  const segment<bus_space> segments[] = {{r.data->bus, 512}};
  ended(q.submit(nvm::flush(1), 0U));
  ended(q.submit(nvm::read({.nsid = 1}), block, 0U));
  ended(q.submit_unchecked(nvm::read({.nsid = 1}), block, 0U));
  ended(q.submit(nvm::read({.nsid = 1}), std::span{segments}, 0U));
  ended(q.read({.blocks = 1}, block, 0U));
  ended(q.write({.blocks = 1}, block, 0U));
  q.ring();
  fails(q.health(), errc::removed);
  unsigned out = 0;
  fails(wait(q, 10, [&](unsigned&, completion c) noexcept { out += !c.ok(); }), errc::removed);
  CHECK(out == in_flight);
  CHECK(q.poll([](unsigned&, completion) noexcept {}) == 0);
  CHECK(q.fail_all(status_code::aborted_by_host, [](unsigned&, completion) noexcept {}) == 0);
  fails(q.remove(), errc::removed);
  if (r.host)
    fails(r.host->delete_queue_pair(q, [](unsigned&, completion) noexcept {}), errc::removed);
  if (r.host) fails(r.host->abort(q, 0), errc::removed);
  CHECK(q.in_flight() == 0);
  CHECK(q.available() == 0);
  CHECK(r.f.stray_accesses == 0);
  for (int i = 0; i != 3; ++i) r.f.step();
  CHECK(r.f.io_commands == before);
}

}  // namespace

TEST_CASE("a queue is an error value after each way in which it can end") {
  rig r;
  queue_type q = r.make();
  const dma_region block = r.data->subregion(0, 512);
  r.f.plan.hold = true;
  REQUIRE(q.read({.blocks = 1}, block, 1U));
  REQUIRE(q.read({.blocks = 1}, block, 2U));
  q.ring();
  r.f.step();
  REQUIRE(q.read({.blocks = 1}, block, 3U));  // posted, not rung
  SUBCASE("reset") {
    REQUIRE(r.host->reset());
    use_ended(r, q, queue_end::reset, 3);
    // Its id belongs to another queue now, and is left alone.
    queue_type next = r.make();
    CHECK(next.qid() == q.qid());
    CHECK(next.generation() != q.generation());
    r.f.plan.hold = false;
    REQUIRE(next.read({.blocks = 1}, block, 9U));
    ended(q.read({.blocks = 1}, block, 0U));
    next.ring();
    q.ring();
    CHECK(wait(next, 100, [](unsigned& t, completion c) noexcept {
      CHECK(t == 9);
      CHECK(c.ok());
    }));
  }
  SUBCASE("detach") {
    r.f.plan.silent_admin = true;  // so that it is not deleted first
    r.host->detach();
    use_ended(r, q, queue_end::detached, 3);
  }
  SUBCASE("detach of a controller that does not stop") {
    r.f.plan.silent_admin = true;
    r.f.plan.never_stops = true;
    r.host->detach();
    use_ended(r, q, queue_end::abandoned, 3);
    CHECK(r.f.live_regions() > 1);  // the rings are the device's for good
  }
  SUBCASE("the controller's end") {
    r.f.plan.silent_admin = true;
    r.host.reset();
    use_ended(r, q, queue_end::detached, 3);
    CHECK(r.f.live_regions() == 1);
  }
  SUBCASE("deletion") {
    unsigned out = 0;
    REQUIRE(r.host->delete_queue_pair(q, [&](unsigned&, completion c) noexcept {
      out += c.status() == status_code::aborted_queue_deletion;
    }));
    CHECK(out == 3);
    use_ended(r, q, queue_end::deleted, 0);
  }
  SUBCASE("deletion by the queue") {
    REQUIRE(q.remove());
    use_ended(r, q, queue_end::deleted, 3);
  }
  SUBCASE("a move") {
    queue_type other = std::move(q);
    CHECK(other.in_flight() == 3);
    use_ended(r, q, queue_end::moved, 0);
    other.ring();
    r.f.plan.hold = false;
    unsigned out = 0;
    while (out != 3) {
      const auto n = wait(other, 100, [](unsigned&, completion c) noexcept { CHECK(c.ok()); });
      REQUIRE(n);
      out += *n;
    }
  }
  SUBCASE("a move over another queue") {
    queue_type other = r.make();
    REQUIRE(other.read({.blocks = 1}, block, 1U));
    other = std::move(q);
    CHECK(other.in_flight() == 3);
    use_ended(r, q, queue_end::moved, 0);
  }
  SUBCASE("a shutdown") {
    REQUIRE(r.host->shut_down());
    use_ended(r, q, queue_end::deleted, 3);
    fails(r.host->create_queue_pair(), errc::not_ready);
    fails(r.host->identify_namespace(1), errc::not_ready);
    fails(r.host->shut_down(), errc::not_ready);
    fails(r.host->check(), errc::not_ready);
    CHECK(r.host->reset());
  }
  SUBCASE("removal, found by the controller") {
    r.f.plan.removed = true;
    fails(r.host->check(), errc::removed);
    ended(q.submit(nvm::flush(1), 0U));
    ended(q.read({.blocks = 1}, block, 0U));
    fails(q.health(), errc::removed);
    unsigned out = 0;
    CHECK(q.poll([&](unsigned&, completion c) noexcept { out += !c.ok(); }) == 3);
    CHECK(out == 3);
    use_ended(r, q, queue_end::removed, 0);
  }
  SUBCASE("removal, found by waiting") {
    r.f.plan.removed = true;
    unsigned out = 0;
    fails(wait(q, 500, [&](unsigned&, completion) noexcept { ++out; }), errc::removed);
    CHECK(out == 3);
    use_ended(r, q, queue_end::removed, 0);
  }
}

TEST_CASE("a queue that was never created is an error value") {
  rig r;
  queue_type q;
  use_ended(r, q, queue_end::never_made, 0);
}

TEST_CASE("callbacks of commands in flight are called once, before their queue's end is over") {
  for (const int how : {0, 1, 2, 3, 4, 5}) {
    rig r;
    unsigned called = 0;
    unsigned refused_inside = 0;
    auto q = std::make_unique<calling_queue>(std::move(*r.host->create_queue_pair({.depth = 8})));
    r.f.plan.hold = true;
    for (int i = 0; i != 5; ++i) {
      REQUIRE(q->submit(nvm::flush(1), [&, p = q.get()](completion c) noexcept {
        called += !c.ok();
        if (called < 5 && p->closed()) {
          refused_inside += !p->submit(nvm::flush(1), [](completion) noexcept {});
        }
      }));
    }
    q->ring();
    r.f.step();
    switch (how) {
      case 0:
        REQUIRE(r.host->reset());
        break;
      case 1:
        r.host->detach();
        break;
      case 2:
        r.host.reset();
        break;
      case 3:
        REQUIRE(q->remove());
        break;
      case 4:
        q.reset();
        break;
      default:
        r.f.plan.removed = true;
        fails(r.host->check(), errc::removed);
        CHECK(q->poll() == 5);
    }
    CHECK(called == 5);
    CHECK(refused_inside >= 4);
    q.reset();
    CHECK(called == 5);
    r.host.reset();
    CHECK(r.f.live_regions() == 1);
    ++mistakes;
  }
}

TEST_CASE("a queue that outlives its controller, and a controller that moves, stay in step") {
  rig r;
  queue_type q = r.make();
  host_type moved{std::move(*r.host)};
  // The moved-from controller.
  fails(r.host->check(), errc::removed);
  fails(r.host->reset(), errc::removed);
  fails(r.host->shut_down(), errc::removed);
  fails(r.host->create_queue_pair(), errc::removed);
  fails(r.host->identify_namespace(1), errc::removed);
  fails(r.host->execute(admin::keep_alive()), errc::removed);
  fails(r.host->get_feature(feature_id::arbitration), errc::removed);
  fails(r.host->enable_shadow_doorbells(), errc::removed);
  fails(r.host->rescan(), errc::removed);
  std::array<std::uint32_t, 4> ids{};
  fails(r.host->active_namespaces(ids), errc::removed);
  fails(open_disk(*r.host), errc::removed);
  r.host->poll();
  CHECK_FALSE(r.host->next_event());
  fails(r.host->delete_queue_pair(q, [](unsigned&, completion) noexcept {}),
        errc::invalid_argument);
  r.host->detach();
  r.host.reset();
  // The queue follows the controller.
  REQUIRE(q.submit(nvm::flush(1), 1U));
  q.ring();
  CHECK(wait(q, 100, [](unsigned&, completion) noexcept {}));
  CHECK(moved.delete_queue_pair(q, [](unsigned&, completion) noexcept {}));
}

TEST_CASE("a detached controller answers with errors") {
  rig r;
  r.host->detach();
  CHECK(r.host->detached());
  fails(r.host->check(), errc::removed);
  fails(r.host->reset(), errc::removed);
  fails(r.host->shut_down(), errc::removed);
  fails(r.host->create_queue_pair(), errc::removed);
  fails(r.host->create_shadowed_queue_pair(), errc::not_ready);
  fails(r.host->execute(admin::keep_alive()), errc::removed);
  std::array<std::byte, 64> log{};
  fails(r.host->get_log_page(log_page_id::health, log), errc::removed);
  fails(r.host->abort(1, 1), errc::removed);
  r.host->detach();
  CHECK(r.f.live_regions() == 1);
}

TEST_CASE("attaching twice to a function is refused until the first has detached") {
  rig r;
  fails(attach(r.f), errc::busy);
  CHECK(r.host->check());
  queue_type q = r.make();
  REQUIRE(q.submit(nvm::flush(1), 0U));
  q.ring();
  CHECK(wait(q, 100, [](unsigned&, completion) noexcept {}));
  r.host->detach();
  CHECK(attach(r.f));
  r.f.plan.removed = true;
  fails(attach(r.f), errc::removed);
  r.f.plan.removed = false;
  CHECK(attach(r.f));
}

TEST_CASE("wrong sizes, lengths and numbers are refused with a sentence") {
  rig r;
  queue_type q = r.make();
  const auto data = [&](std::size_t n) { return r.data->subregion(0, n); };
  refused(q.read({.blocks = 0}, data(0), 0U), errc::out_of_range);
  refused(q.read({.blocks = 65'537}, data(512), 0U), errc::out_of_range);
  refused(q.write({.blocks = 0}, data(512), 0U), errc::out_of_range);
  refused(q.read({.blocks = 2}, data(512), 0U), errc::invalid_argument);
  refused(q.read({.blocks = 1}, data(1024), 0U), errc::invalid_argument);
  refused(q.read({.nsid = 2, .blocks = 1}, data(512), 0U), errc::invalid_argument);
  refused(q.read({.blocks = 1}, data(512), data(8), 0U), errc::invalid_argument);
  refused(q.submit(nvm::read({.nsid = 1, .blocks = 2}), data(512), 0U), errc::invalid_argument);
  refused(q.submit(nvm::write({.nsid = 1, .blocks = 1}), data(4096), 0U), errc::invalid_argument);
  refused(q.submit(nvm::compare({.nsid = 1, .blocks = 1}), data(4), 0U), errc::invalid_argument);
  refused(q.submit(nvm::flush(1), data(512), 0U), errc::invalid_argument);
  refused(q.submit(nvm::read({.nsid = 7}), data(512), 0U), errc::not_supported);
  submission_entry vendor{};
  vendor.cdw0 = 0x81;
  refused(q.submit(vendor, data(512), 0U), errc::not_supported);
  const dma_region odd{r.data->bytes.subspan(2, 512), r.data->bus + 2};
  refused(q.read({.blocks = 1}, odd, 0U), errc::misaligned);
  refused(q.submit_unchecked(vendor, dma_region{{}, r.data->bus}, 0U), errc::invalid_argument);
  refused(q.submit_unchecked(vendor, dma_region{{r.data->data(), 512}, bus_addr{~0ULL - 3}}, 0U),
          errc::overflow);
  const segment<bus_space> none[] = {{r.data->bus, 0}};
  refused(q.submit_unchecked(vendor, std::span{none}, 0U), errc::invalid_argument);
  refused(q.submit_unchecked(vendor, std::span<const segment<bus_space>>{}, 0U),
          errc::invalid_argument);
  const segment<bus_space> huge[] = {{r.data->bus, ~0ULL}, {r.data->bus, 2}};
  refused(q.submit(nvm::read({.nsid = 1}), std::span{huge}, 0U), errc::overflow);
  fails(r.host->create_queue_pair({.depth = 1}), errc::out_of_range);
  fails(r.host->create_queue_pair({.depth = 257}), errc::out_of_range);
  fails(r.host->create_queue_pair({.depth = 33}, tokens<unsigned, 32>), errc::out_of_range);
  fails(r.host->create_queue_pair({.nsid = 9}), errc::not_found);
  fails(r.host->identify_namespace(0), errc::not_found);
  std::array<std::byte, 6> odd_log{};
  fails(r.host->get_log_page(log_page_id::health, odd_log), errc::invalid_argument);
  fails(r.host->identify({.cns = cns::identify_controller}, odd_log), errc::invalid_argument);
  fails(r.host->execute(admin::identify({.cns = cns::identify_controller}), data(512)),
        errc::invalid_argument);
  fails(r.host->execute(admin::get_log_page({.lid = log_page_id::health, .bytes = 512}), data(64)),
        errc::invalid_argument);
  fails(r.host->abort(q, 12'345), errc::not_found);
  fails(r.host->create_shadowed_queue_pair(), errc::not_ready);
  fails(r.host->enable_shadow_doorbells(), errc::busy);
  CHECK(r.f.stray_accesses == 0);
  CHECK(q.in_flight() == 0);
  // As many as it holds, and no more.
  for (unsigned i = 0; i != 7; ++i) REQUIRE(q.submit(nvm::flush(1), i));
  refused(q.submit(nvm::flush(1), 8U), errc::busy, submit_status::full);
  refused(q.read({.blocks = 1}, data(512), 8U), errc::busy, submit_status::full);
}

TEST_CASE("queues of one controller are not deleted by another") {
  rig a;
  rig b;
  queue_type q = a.make();
  queue_type p = b.make();
  CHECK(q.qid() == p.qid());
  fails(b.host->delete_queue_pair(q, [](unsigned&, completion) noexcept {}),
        errc::invalid_argument);
  fails(b.host->abort(q, 0), errc::invalid_argument);
  CHECK_FALSE(p.closed());
  CHECK_FALSE(q.closed());
}

TEST_CASE("waiting detects a missing ring(), no command in flight and no controller, and ends") {
  rig r;
  queue_type q = r.make();
  const auto drop = [](unsigned&, completion) noexcept {};
  fails(wait(q, 100, drop), errc::invalid_argument);
  REQUIRE(q.submit(nvm::flush(1), 1U));
  fails(wait(q, 100, drop), errc::not_ready);
  q.ring();
  CHECK(*wait(q, 100, drop) == 1);
  r.f.plan.hold = true;
  REQUIRE(q.submit(nvm::flush(1), 1U));
  q.ring();
  fails(wait(q, 100, drop), errc::timed_out);
  r.f.plan.fatal_for_reads = 1000;
  fails(wait(q, 100, drop), errc::protocol);
  r.f.plan.fatal_for_reads = 0;
  r.f.complete_by_hand(q.qid(), 0x7000);
  fails(wait(q, 100, drop), errc::protocol);
}

TEST_CASE("a disk whose controller was reset, detached, moved or destroyed answers with errors") {
  std::vector<std::byte> block(512);
  {
    rig r;
    auto d = open_disk(*r.host);
    REQUIRE(d);
    REQUIRE(r.host->reset());
    fails(d->read(0, block), errc::removed);
    fails(d->write(0, block), errc::removed);
    fails(d->flush(), errc::removed);
  }
  {
    rig r;
    auto d = open_disk(*r.host);
    REQUIRE(d);
    r.host->detach();
    fails(d->read(0, block), errc::removed);
    r.host.reset();
    fails(d->read(0, block), errc::removed);
  }
  {
    rig r;
    auto d = open_disk(*r.host);
    REQUIRE(d);
    host_type moved{std::move(*r.host)};
    CHECK(d->read(0, block));
    auto e = std::move(*d);
    fails(d->read(0, block), errc::removed);
    CHECK(e.read(0, block));
    r.host.reset();
    fails(e.read(0, std::span{block}.first(100)), errc::misaligned);
    std::vector<std::byte> two(1024);
    fails(e.read(2047, two), errc::out_of_range);
    fails(e.read(~0ULL, block), errc::out_of_range);
    fails(e.read(0, block, block), errc::not_supported);
    fails(open_disk(moved, {.nsid = 3}), errc::not_found);
  }
}

TEST_CASE("memory of a disk stays taken where the device did not let go of its queue") {
  rig r;
  {
    auto d = open_disk(*r.host);
    REQUIRE(d);
    r.f.plan.silent_admin = true;
  }
  r.f.plan.never_stops = true;
  const std::size_t held = r.f.live_regions();
  r.host.reset();
  CHECK(r.f.live_regions() == held);
  ++mistakes;
}

TEST_CASE("after a lost admin answer nothing is posted before a reset") {
  rig r;
  r.f.plan.silent_admin = true;
  fails(r.host->get_feature(feature_id::arbitration), errc::timed_out);
  r.f.plan.silent_admin = false;
  fails(r.host->get_feature(feature_id::arbitration), errc::not_ready);
  REQUIRE(r.host->reset());
  CHECK(r.host->get_feature(feature_id::arbitration));
}

TEST_CASE("a request queue whose queue pair is destroyed first ends its requests, and refuses") {
  rig r;
  auto q = r.host->create_queue_pair({.depth = 4}, tokens<std::uint16_t>);
  REQUIRE(q);
  using queue = std::remove_reference_t<decltype(*q)>;
  std::optional<queue> owned{std::move(*q)};
  request_queue<queue, 8> requests{*owned};
  const segment<bus_space> good[] = {{r.data->bus, 512}};
  unsigned done = 0;
  for (int i = 0; i != 6; ++i) {
    REQUIRE(requests.submit({.command = nvm::read({.nsid = 1}), .segments = good},
                            [&](completion c) noexcept { done += !c.ok(); }));
  }
  CHECK(requests.waiting() != 0);
  owned.reset();
  CHECK(done == 6);
  CHECK(requests.under_way() == 0);
  CHECK(
      requests
          .submit({.command = nvm::read({.nsid = 1}), .segments = good}, [](completion) noexcept {})
          .status == submit_status::closed);
  requests.ring();
  CHECK(requests.poll() == 0);
  requests.fail_all();
  // The memory of the queue pair may hold another one meanwhile.
  auto next = r.host->create_queue_pair({.depth = 4}, tokens<std::uint16_t>);
  REQUIRE(next);
  owned.emplace(std::move(*next));
  CHECK(requests.poll() == 0);
}

TEST_CASE("a request queue refuses what it cannot end") {
  rig r;
  auto q = r.host->create_queue_pair({.depth = 4}, tokens<std::uint16_t>);
  REQUIRE(q);
  request_queue<std::remove_reference_t<decltype(*q)>, 4> requests{*q};
  const segment<bus_space> good[] = {{r.data->bus, 512}};
  refused(requests.submit({.command = nvm::read({.nsid = 1}), .segments = good}, {}),
          errc::invalid_argument);
  refused(requests.submit({.command = nvm::read({.nsid = 2}), .segments = good},
                          [](completion) noexcept {}),
          errc::invalid_argument);
  refused(requests.submit({.command = nvm::read({.nsid = 1}),
                           .segments = good,
                           .metadata = r.data->subregion(0, 8)},
                          [](completion) noexcept {}),
          errc::invalid_argument);
  // Moved under it, the queue is found again.
  auto moved = std::move(*q);
  unsigned done = 0;
  REQUIRE(requests.submit({.command = nvm::read({.nsid = 1}), .segments = good},
                          [&](completion c) noexcept { done += c.ok(); }));
  requests.ring();
  r.f.step();
  CHECK(requests.poll() == 1);
  CHECK(done == 1);
}

TEST_CASE("a hundred mistakes were tried") {
  // The cases above run before this one: doctest keeps the order of a file.
  MESSAGE(mistakes);
  CHECK(mistakes >= 100);
}
