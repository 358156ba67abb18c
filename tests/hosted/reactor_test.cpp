// SPDX-License-Identifier: BSL-1.0
#include <phasebit/hosted/reactor.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <unistd.h>

using namespace phasebit;
using hosted::reactor;

namespace {

// Waits for a condition that another thread makes true; the limit only ends a broken test.
template <class Done>
bool eventually(Done&& done) {
  for (int i = 0; i != 20'000; ++i) {
    if (done()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

struct counting_poller : hosted::poller {
  unsigned poll() noexcept override {
    polls.fetch_add(1);
    return work.exchange(0);
  }
  bool arm() noexcept override {
    armed.fetch_add(1);
    return work.load() == 0;
  }
  void disarm() noexcept override { disarmed.fetch_add(1); }

  std::atomic<unsigned> work = 0;
  std::atomic<unsigned> polls = 0;
  std::atomic<unsigned> armed = 0;
  std::atomic<unsigned> disarmed = 0;
};

struct pipe_poller : hosted::poller {
  pipe_poller() { REQUIRE(::pipe(ends) == 0); }
  ~pipe_poller() override {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  unsigned poll() noexcept override {
    if (!ready.exchange(false)) return 0;
    char byte = 0;
    static_cast<void>(!::read(ends[0], &byte, 1));
    served.fetch_add(1);
    return 1;
  }
  bool arm() noexcept override { return !ready.load(); }
  int wake_fd() const noexcept override { return ends[0]; }

  int ends[2] = {-1, -1};
  std::atomic<bool> ready = false;
  std::atomic<unsigned> served = 0;
};

}  // namespace

TEST_CASE("runs every accepted message once, in the order of each sender") {
  auto r = reactor::start();
  REQUIRE(r);
  constexpr unsigned senders = 3, each = 5000;
  struct {
    unsigned next[senders] = {};
    unsigned out_of_order = 0;
    unsigned run = 0;
  } seen;
  static decltype(seen)* target;
  target = &seen;
  std::vector<std::thread> threads;
  for (unsigned s = 0; s != senders; ++s) {
    threads.emplace_back([&, s] {
      for (unsigned i = 0; i != each; ++i) {
        while (!(*r)->post([s, i](reactor&) noexcept {
          if (target->next[s] != i) ++target->out_of_order;
          target->next[s] = i + 1;
          ++target->run;
        })) {
          std::this_thread::yield();
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  (*r)->stop();
  CHECK(seen.run == senders * each);
  CHECK(seen.out_of_order == 0);
}

TEST_CASE("refuses messages after a stop, and runs those accepted before it") {
  for (int round = 0; round != 50; ++round) {
    auto r = reactor::start({.idle_turns = 1});
    REQUIRE(r);
    std::atomic<unsigned> run = 0;
    unsigned accepted = 0;
    std::thread sender{[&] {
      for (unsigned i = 0; i != 10'000; ++i) {
        if ((*r)->post([&run](reactor&) noexcept { run.fetch_add(1); })) ++accepted;
      }
    }};
    if (round % 2 != 0) std::this_thread::yield();
    (*r)->stop();
    sender.join();
    CHECK(run.load() == accepted);
    CHECK_FALSE((*r)->post([&run](reactor&) noexcept { run.fetch_add(1); }));
    CHECK((*r)->call([]() noexcept {}).error().code == errc::cancelled);
  }
}

TEST_CASE("serves a poller from add() to remove() and not afterwards") {
  auto r = reactor::start({.idle_turns = 10});
  REQUIRE(r);
  counting_poller p;
  REQUIRE((*r)->add(p));
  CHECK(eventually([&] { return p.polls.load() > 0; }));
  (*r)->remove(p);
  const unsigned polls = p.polls.load();
  REQUIRE((*r)->call([]() noexcept {}));
  CHECK(p.polls.load() == polls);
}

TEST_CASE("a poller that another poller's message removes is not called again") {
  auto r = reactor::start();
  REQUIRE(r);
  counting_poller a, b;
  REQUIRE((*r)->add(a));
  REQUIRE((*r)->add(b));
  REQUIRE((*r)->call([&]() noexcept { (*r)->remove(a); }));
  const unsigned polls = a.polls.load();
  CHECK(eventually([&, before = b.polls.load()] { return b.polls.load() > before + 2; }));
  CHECK(a.polls.load() == polls);
  (*r)->remove(b);
}

TEST_CASE("sleeps when idle and wakes for a message") {
  auto r = reactor::start({.idle_turns = 1, .longest_sleep_ms = 60'000});
  REQUIRE(r);
  for (int i = 0; i != 200; ++i) {
    const auto sleeps = (*r)->counters().sleeps;
    if (i % 4 == 0)
      CHECK(eventually([&] { return (*r)->counters().sleeps > sleeps || sleeps > 0; }));
    bool ran = false;
    REQUIRE((*r)->call([&]() noexcept { ran = true; }));  // hangs if the wake-up is lost
    CHECK(ran);
  }
}

TEST_CASE("wakes for a poller's descriptor") {
  auto r = reactor::start({.idle_turns = 1, .longest_sleep_ms = 60'000});
  REQUIRE(r);
  pipe_poller p;
  REQUIRE((*r)->add(p));
  for (unsigned i = 1; i != 100; ++i) {
    p.ready.store(true);
    REQUIRE(::write(p.ends[1], "x", 1) == 1);
    CHECK(eventually([&] { return p.served.load() == i; }));
  }
  (*r)->remove(p);
}

TEST_CASE("does not sleep while a poller that was armed has work") {
  auto r = reactor::start({.idle_turns = 1, .longest_sleep_ms = 60'000});
  REQUIRE(r);
  counting_poller p;
  REQUIRE((*r)->add(p));
  for (int i = 0; i != 200; ++i) {
    p.work.store(1);
    (*r)->wake();  // the work is in memory; no descriptor becomes readable
    CHECK(eventually([&] { return p.work.load() == 0; }));
  }
  (*r)->remove(p);
  CHECK(p.armed.load() == p.disarmed.load());
}

TEST_CASE("never sleeps if its options forbid it") {
  auto r = reactor::start({.idle_turns = ~0U});
  REQUIRE(r);
  CHECK(eventually([&] { return (*r)->counters().turns > 10'000; }));
  CHECK((*r)->counters().sleeps == 0);
}

TEST_CASE("refuses a processor that does not exist") {
  const auto r = reactor::start({.cpu = 100'000});
  REQUIRE_FALSE(r);
  CHECK(r.error().code == errc::invalid_argument);
  CHECK(r.error().value == 100'000);
}
