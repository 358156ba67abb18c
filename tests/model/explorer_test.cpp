// SPDX-License-Identifier: BSL-1.0
// The errors that the explorer finds in a program, and its reports.
#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/order.hpp>
#include <phasebit/testing/explorer/word.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit::testing::explorer;

namespace {

struct mailbox {
  plain<unsigned> letter;
  word<unsigned> flag;
};

auto message_passing(strength store, strength load) {
  return [=](program& p) {
    auto& box = p.make<mailbox>();
    p.name(box.letter, "letter");
    p.name(box.flag, "flag");
    p.thread("writer", [&box, store] {
      box.letter.write(7);
      box.flag.store(1, store);
    });
    p.thread("reader", [&box, load] {
      await([&] { return box.flag.load(load) == 1; });
      check(box.letter.read() == 7, "the letter arrives with its flag");
    });
  };
}

bool contains(const report& r, const std::string& text) {
  return r.text().find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("a flag that is released and acquired hands a letter over") {
  const report r = explore({}, message_passing(strength::release, strength::acquire));
  INFO(r.text());
  CHECK(r.passed());
  CHECK(r.executions == 1);
}

TEST_CASE("an access without an order is a race, reported step by step") {
  const report r = explore({}, message_passing(strength::relaxed, strength::acquire));
  INFO(r.text());
  REQUIRE(r.failure);
  CHECK(r.failure->kind == failure_kind::race);
  CHECK(r.failure->what == "reader reads letter while writer's write of it is not ordered before");
  REQUIRE(r.failure->trace.size() == 5);
  CHECK(r.failure->trace[0] == "1. writer writes 4 bytes of letter");
  CHECK(contains(r, "2. writer stores 1 to flag  [explorer_test.cpp:"));
  CHECK(
      contains(r, "3. reader reads 1 from flag (acquire), stored at step 2  [explorer_test.cpp:"));
  CHECK(r.failure->trace[3] == "4. reader reads 4 bytes of letter");
  CHECK_FALSE(r.complete);
  CHECK(explore({}, message_passing(strength::release, strength::relaxed)).failure);
}

TEST_CASE("a failure is run again from its token") {
  auto program = message_passing(strength::release, strength::relaxed);
  const report first = explore({}, program);
  REQUIRE(first.failure);
  const report again = explore({.replay = first.failure->token}, program);
  REQUIRE(again.failure);
  CHECK(again.failure->trace == first.failure->trace);
  CHECK(again.failure->token == first.failure->token);
  CHECK(explore({.replay = "0l5.x"}, program).truncated ==
        "options::replay is no token of a failure");
}

TEST_CASE("a stale value is called so") {
  const report r = explore({}, [](program& p) {
    auto& words = p.make<std::array<word<unsigned>, 2>>();
    p.name(words[0], "data");
    p.name(words[1], "flag");
    p.thread("writer", [&words] {
      words[0].store(1, strength::relaxed);
      words[1].store(1, strength::relaxed);
    });
    p.thread("reader", [&words] {
      await([&] { return words[1].load(strength::relaxed) == 1; });
      check(words[0].load(strength::relaxed) == 1, "the data comes before its flag");
    });
  });
  INFO(r.text());
  REQUIRE(r.failure);
  CHECK(r.failure->kind == failure_kind::check);
  CHECK(contains(r, "reads 0 from data, its initial value: stale, step 1 has stored 1"));
  CHECK(contains(r, "the data comes before its flag [explorer_test.cpp:"));
}

TEST_CASE("memory that nothing has written is not read") {
  const report r = explore({}, [](program& p) {
    auto* const entry = p.uninitialised<plain<unsigned>>(2);
    p.name(*entry, "entry 0");
    p.thread("reader", [entry] { static_cast<void>(entry[0].read()); });
  });
  REQUIRE(r.failure);
  CHECK(r.failure->kind == failure_kind::uninitialised);
  CHECK(r.failure->what == "reader reads entry 0, which nothing has written");
}

TEST_CASE("a lost wake-up is found: each side checks before it has notified the other") {
  auto sleepers = [](barrier between) {
    return [between](program& p) {
      struct words {
        word<unsigned> work;
        word<unsigned> asleep;
        word<unsigned> bell;
      };
      auto& shared = p.make<words>();
      p.name(shared.work, "work");
      p.name(shared.asleep, "asleep");
      p.name(shared.bell, "bell");
      p.thread("producer", [&shared, between] {
        shared.work.store(1, strength::release);
        fence(between);
        if (shared.asleep.load(strength::relaxed) == 1) shared.bell.store(1, strength::release);
      });
      p.thread("consumer", [&shared, between] {
        shared.asleep.store(1, strength::relaxed);
        fence(between);
        if (shared.work.load(strength::acquire) == 1) return;
        await([&] { return shared.bell.load(strength::acquire) == 1; });
      });
    };
  };
  CHECK(explore({}, sleepers(barrier::full)).passed());
  const report r = explore({}, sleepers(barrier::release));
  INFO(r.text());
  REQUIRE(r.failure);
  CHECK(r.failure->kind == failure_kind::blocked);
  CHECK(r.failure->what == "consumer waits for what no store will bring any more");
  CHECK(explore({.model = memory_model::x86}, sleepers(barrier::release)).failure);
  CHECK(explore({.model = memory_model::arm}, sleepers(barrier::full)).passed());
}

TEST_CASE("two threads that wait for each other are a deadlock") {
  const report r = explore({}, [](program& p) {
    auto& words = p.make<std::array<word<unsigned>, 2>>();
    for (std::size_t i = 0; i != 2; ++i) {
      p.thread(i == 0 ? "first" : "second", [&words, i] {
        await([&] { return words[i].load() == 1; });
        words[1 - i].store(1);
      });
    }
  });
  REQUIRE(r.failure);
  CHECK(r.failure->kind == failure_kind::blocked);
  CHECK(contains(r, "first and second"));
}

TEST_CASE("a service may wait for ever, a thread may not") {
  auto idle = [](bool service) {
    return [service](program& p) {
      auto& bell = p.make<word<unsigned>>();
      auto body = [&bell] { await([&] { return bell.load() != 0; }); };
      if (service) {
        p.service("device", body);
      } else {
        p.thread("device", body);
      }
    };
  };
  CHECK(explore({}, idle(true)).passed());
  CHECK(explore({}, idle(false)).failure);
}

TEST_CASE("a spin lock holds, and two critical sections do not overlap") {
  auto locked = [](strength take) {
    return [take](program& p) {
      struct words {
        word<unsigned> lock;
        plain<unsigned> count;
      };
      auto& shared = p.make<words>();
      for (int i = 0; i != 3; ++i) {
        p.thread("thread", [&shared, take] {
          await([&] {
            unsigned expected = 0;
            return shared.lock.compare_exchange(expected, 1, take);
          });
          shared.count.write(shared.count.read() + 1);
          shared.lock.store(0, strength::release);
        });
      }
      p.finally([&shared] { check(shared.count.read() == 3, "each thread has counted"); });
    };
  };
  const report r = explore({}, locked(strength::acquire));
  INFO(r.text());
  CHECK(r.passed());
  CHECK(r.executions == 6);
  CHECK(explore({}, locked(strength::relaxed)).failure);
}

TEST_CASE("a loop whose word no store changes any more is a livelock") {
  const report r = explore({}, [](program& p) {
    auto& words = p.make<std::array<word<unsigned>, 2>>();
    p.name(words[0], "first");
    p.name(words[1], "second");
    // Each goes round its loop until the other has given way; none does.
    for (std::size_t i = 0; i != 2; ++i) {
      p.thread(i == 0 ? "left" : "right", [&words, i] {
        words[i].store(1, strength::sequential);
        while (words[1 - i].load(strength::sequential) != 0) spin();
        words[i].store(0, strength::sequential);
      });
    }
  });
  INFO(r.text());
  REQUIRE(r.failure);
  CHECK(r.failure->kind == failure_kind::blocked);
}

TEST_CASE("a report states that no plain access was seen") {
  const report without = explore({}, [](program& p) {
    auto& flag = p.make<word<unsigned>>();
    p.thread("writer", [&flag] { flag.store(1); });
  });
  CHECK(without.text() == "1 executions, 0 discarded, at most 1 events; no plain access was seen");
  const report with = explore({}, message_passing(strength::release, strength::acquire));
  CHECK(with.plain_accesses);
  CHECK_FALSE(contains(with, "no plain access"));
}

TEST_CASE("choices are all taken") {
  unsigned sum = 0;
  const report r = explore(
      {}, [&](program& p) { p.thread("thread", [&] { sum += 10 * choose(3) + choose(2); }); });
  CHECK(r.executions == 6);
  CHECK(sum == 2 * (10 + 20) + 3);
}

TEST_CASE("a bound that was reached is reported") {
  auto endless = [](program& p) {
    auto& w = p.make<word<unsigned>>();
    p.thread("thread", [&w] {
      for (;;) w.store(1);
    });
  };
  const report r = explore({.most_events = 20}, endless);
  CHECK_FALSE(r.complete);
  CHECK_FALSE(r.failure);
  CHECK(r.truncated == "the bound on the events of one execution was reached");

  auto many = [](program& p) {
    auto& w = p.make<word<unsigned>>();
    for (int i = 0; i != 3; ++i) {
      p.thread("thread", [&w] { w.fetch_add(1); });
    }
  };
  const report few = explore({.most_executions = 3}, many);
  CHECK_FALSE(few.complete);
  CHECK(few.truncated == "the bound on executions was reached");
  CHECK(contains(few, "not complete"));
}

TEST_CASE("what the explorer cannot do is refused") {
  const report stores = explore({}, [](program& p) {
    auto& w = p.make<word<unsigned>>();
    p.thread("thread", [&w] {
      await([&] {
        w.store(1);
        return false;
      });
    });
  });
  REQUIRE(stores.failure);
  CHECK(stores.failure->kind == failure_kind::misuse);

  unsigned run = 0;
  const report varies = explore({}, [&run](program& p) {
    auto& words = p.make<std::array<word<unsigned>, 2>>();
    p.thread("first", [&words, &run] {
      words[run++ % 2].store(1);
      static_cast<void>(words[0].load());
    });
    p.thread("second", [&words] { words[0].store(2); });
  });
  REQUIRE(varies.failure);
  CHECK(varies.failure->kind == failure_kind::misuse);
  CHECK(contains(varies, "does not repeat itself"));

  const report five = explore({}, [](program& p) {
    for (int i = 0; i != 5; ++i) p.thread("thread", [] {});
  });
  REQUIRE(five.failure);
  CHECK(five.failure->kind == failure_kind::misuse);

  static word<unsigned> outside;
  const report elsewhere =
      explore({}, [](program& p) { p.thread("thread", [] { outside.store(1); }); });
  REQUIRE(elsewhere.failure);
  CHECK(contains(elsewhere, "outside of the memory that the program shares"));
}

TEST_CASE("the two ring orders hand an entry over, each with its own barriers") {
  auto ring = [](auto order) {
    return [order](program& p) {
      struct words {
        plain<unsigned> entry;
        std::uint32_t tail = 0;
      };
      auto& shared = p.make<words>();
      p.thread("driver", [&shared, order] {
        shared.entry.write(1);
        order.store(shared.tail, 1U);
      });
      p.thread("device", [&shared, order] {
        await([&] { return order.load(shared.tail) == 1; });
        order.after_load();
        check(shared.entry.read() == 1, "the entry is new");
      });
    };
  };
  for (const memory_model model :
       {memory_model::cpp20, memory_model::x86, memory_model::arm, memory_model::riscv}) {
    CHECK(explore({.model = model}, ring(thread_order{})).passed());
    CHECK(explore({.model = model}, ring(device_order{})).passed());
  }
  options weakened;
  weakened.faults = {{operation::after_load, "explorer_test.cpp", "", {}}};
  const report r = explore(weakened, ring(device_order{}));
  REQUIRE(r.failure);
  CHECK(r.failure->kind == failure_kind::race);
  // x86 keeps loads in order by itself.
  weakened.model = memory_model::x86;
  CHECK(explore(weakened, ring(device_order{})).passed());
}

TEST_CASE("a barrier for stores alone lets an entry be written while it is read") {
  auto give_back = [](barrier before) {
    return [before](program& p) {
      struct words {
        plain<unsigned> entry;
        word<unsigned> head;
      };
      auto& shared = p.make<words>();
      p.thread("device", [&shared, before] {
        static_cast<void>(shared.entry.read());
        fence(before);
        shared.head.store(1, strength::relaxed);
      });
      p.thread("driver", [&shared] {
        await([&] { return shared.head.load(strength::acquire) == 1; });
        shared.entry.write(2);
      });
    };
  };
  for (const memory_model model : {memory_model::cpp20, memory_model::arm, memory_model::riscv}) {
    CHECK(explore({.model = model}, give_back(barrier::release)).passed());
    CHECK(explore({.model = model}, give_back(barrier::stores)).failure);
  }
  CHECK(explore({.model = memory_model::x86}, give_back(barrier::stores)).passed());
}
