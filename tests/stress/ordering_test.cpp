// SPDX-License-Identifier: BSL-1.0
// Two threads and the words between them. Under ThreadSanitizer these show that thread_order alone
// makes plain data safe to hand over; without it they run on whatever order the machine has.
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

struct entry {
  le<std::uint64_t> a, b, c, d;
};

entry entry_of(std::uint64_t i) { return {i, ~i, i * 3, i ^ 0x5555}; }
bool whole(const entry& e, std::uint64_t i) {
  return e.a == i && e.b == ~i && e.c == i * 3 && e.d == (i ^ 0x5555U);
}

void wait_a_turn(unsigned& turns) {
  cpu_relax();
  if (++turns % 64 == 0) std::this_thread::yield();
}

// A ring as small as rings get: what the producer wrote before `tail` is read after it, and what
// the consumer read before `head` is overwritten after it.
struct ring {
  static constexpr std::uint32_t slots = 4;
  own_line<std::uint32_t> tail{};
  own_line<std::uint32_t> head{};
  std::array<entry, slots> entries{};
};

constexpr std::uint32_t messages = 200'000;

void produce(ring& r) {
  unsigned turns = 0;
  for (std::uint32_t i = 0; i != messages; ++i) {
    while (i - thread_order::load(*r.head) == ring::slots) wait_a_turn(turns);
    thread_order::after_load();
    r.entries[i % ring::slots] = entry_of(i);
    thread_order::store(*r.tail, i + 1);
  }
}

std::uint32_t consume(ring& r) {
  unsigned turns = 0;
  std::uint32_t wrong = 0;
  for (std::uint32_t i = 0; i != messages; ++i) {
    while (thread_order::load(*r.tail) == i) wait_a_turn(turns);
    thread_order::after_load();
    const entry copy = r.entries[i % ring::slots];
    wrong += whole(copy, i) ? 0U : 1U;
    thread_order::store(*r.head, i + 1);
  }
  return wrong;
}

}  // namespace

TEST_CASE("message passing: entries handed over by an index arrive whole, and places come back") {
  ring r;
  std::thread producer{[&] { produce(r); }};
  const std::uint32_t wrong = consume(r);
  producer.join();
  CHECK(wrong == 0);
  CHECK(*r.tail == messages);
}

TEST_CASE("message passing by a phase tag: the word that is polled is part of the entry") {
  struct alignas(16) tagged {
    le<std::uint64_t> payload;
    le<std::uint32_t> check;
    le<std::uint32_t> phase_and_id;
  };
  static constexpr std::uint32_t depth = 8;
  std::array<tagged, depth> queue{};
  own_line<std::uint32_t> head{};
  std::thread device{[&] {
    unsigned turns = 0;
    for (std::uint32_t i = 0; i != messages; ++i) {
      while (i - thread_order::load(*head) == depth) wait_a_turn(turns);
      tagged& slot = queue[i % depth];
      slot.payload = i * std::uint64_t{7};
      slot.check = ~i;
      const std::uint32_t phase = (i / depth) % 2 == 0 ? 1U : 0U;
      thread_order::store(slot.phase_and_id, (i & 0xffffU) << 16 | phase);
    }
  }};
  std::uint32_t wrong = 0;
  unsigned turns = 0;
  for (std::uint32_t i = 0; i != messages; ++i) {
    const tagged& slot = queue[i % depth];
    const std::uint32_t phase = (i / depth) % 2 == 0 ? 1U : 0U;
    le<std::uint32_t> word{};
    while (((word = thread_order::load(slot.phase_and_id)) & 1U) != phase) wait_a_turn(turns);
    thread_order::after_load();
    const bool good =
        slot.payload == i * std::uint64_t{7} && slot.check == ~i && word >> 16 == (i & 0xffffU);
    wrong += good ? 0U : 1U;
    thread_order::store(*head, i + 1);
  }
  device.join();
  CHECK(wrong == 0);
}

namespace {

// Store buffering: each side says that it sleeps (or has work), then looks at the other's word. With
// full() between, at least one of the two sees the other; without it both could miss, and sleep.
template <RingOrder Order>
std::uint32_t both_missed() {
  constexpr std::uint32_t rounds = 100'000;
  own_line<std::uint32_t> x{};
  own_line<std::uint32_t> y{};
  own_line<std::uint32_t> saw_y{};
  own_line<std::uint32_t> saw_x{};
  std::atomic<std::uint32_t> left_round{0};
  std::atomic<std::uint32_t> right_round{0};
  // Both start a round together and wait for each other at its end; the round is the value stored.
  const auto side = [](std::uint32_t round, std::uint32_t& mine, const std::uint32_t& theirs,
                       std::uint32_t& saw) {
    Order::store(mine, round);
    Order::full();
    saw = Order::load(theirs);
  };
  const auto meet = [](std::atomic<std::uint32_t>& mine, std::atomic<std::uint32_t>& theirs,
                       std::uint32_t at, unsigned& turns) {
    mine.store(at, std::memory_order_release);
    while (theirs.load(std::memory_order_acquire) < at) wait_a_turn(turns);
  };
  std::thread right{[&] {
    unsigned turns = 0;
    for (std::uint32_t i = 1; i <= rounds; ++i) {
      meet(right_round, left_round, 2 * i - 1, turns);
      side(i, *y, *x, *saw_x);
      meet(right_round, left_round, 2 * i, turns);
    }
  }};
  std::uint32_t missed = 0;
  unsigned turns = 0;
  for (std::uint32_t i = 1; i <= rounds; ++i) {
    meet(left_round, right_round, 2 * i - 1, turns);
    side(i, *x, *y, *saw_y);
    meet(left_round, right_round, 2 * i, turns);
    missed += *saw_y != i && *saw_x != i ? 1U : 0U;
  }
  right.join();
  return missed;
}

}  // namespace

TEST_CASE("store buffering: with full() between, two sides never both miss the other's word") {
  CHECK(both_missed<thread_order>() == 0);
}

#if !defined(__SANITIZE_THREAD__)
#  if defined(__has_feature)
#    if __has_feature(thread_sanitizer)
#      define PHASEBIT_TEST_UNDER_TSAN
#    endif
#  endif
#else
#  define PHASEBIT_TEST_UNDER_TSAN
#endif

// ThreadSanitizer does not see device_order: its other side is no thread.
#ifndef PHASEBIT_TEST_UNDER_TSAN
TEST_CASE("store buffering: device_order's full barrier holds between two processors as well") {
  CHECK(both_missed<device_order>() == 0);
}
#endif

TEST_CASE("a snapshot of an entry that is being overwritten is made of words that were there") {
  alignas(64) entry shared = entry_of(0);
  std::atomic<bool> stop{false};
  std::thread writer{[&] {
    for (std::uint64_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
      overwrite(shared, entry_of(i));
    }
  }};
  std::uint32_t wrong = 0;
  std::uint64_t last = 0;
  for (unsigned i = 0; i != 200'000; ++i) {
    const entry copy = snapshot(shared);
    // Each word is some round's word, whole; words may be of different rounds, never of an older
    // round than was seen before.
    const std::uint64_t a = copy.a;
    const std::uint64_t b = ~copy.b.get();
    const std::uint64_t d = copy.d.get() ^ 0x5555U;
    if (a < last || copy.c % 3 != 0 || b > a + 10'000'000 || d > a + 10'000'000) ++wrong;
    last = a;
  }
  stop = true;
  writer.join();
  CHECK(wrong == 0);
}
