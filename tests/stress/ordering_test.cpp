// SPDX-License-Identifier: BSL-1.0
// Two threads and the words between them. Under ThreadSanitizer these show that thread_order alone
// makes plain data safe to hand over; without it they run on whatever order the machine has.
//
// The threads' shared data lie on the heap: clang's ThreadSanitizer leaves out accesses to a
// function's own locals, and would see no race there.
#include <phasebit/core/byte_order.hpp>
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
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
  const auto r = std::make_unique<ring>();
  std::thread producer{[&] { produce(*r); }};
  const std::uint32_t wrong = consume(*r);
  producer.join();
  CHECK(wrong == 0);
  CHECK(*r->tail == messages);
}

namespace {

struct alignas(16) tagged {
  le<std::uint64_t> payload;
  le<std::uint32_t> check;
  le<std::uint32_t> phase_and_id;
};
struct tagged_queue {
  static constexpr std::uint32_t depth = 8;
  std::array<tagged, depth> entries{};
  own_line<std::uint32_t> head{};

  [[nodiscard]] static constexpr std::uint32_t phase(std::uint32_t i) {
    return (i / depth) % 2 == 0 ? 1U : 0U;
  }
};

}  // namespace

TEST_CASE("message passing by a phase tag: the word that is polled is part of the entry") {
  const auto queue = std::make_unique<tagged_queue>();
  std::thread device{[q = queue.get()] {
    unsigned turns = 0;
    for (std::uint32_t i = 0; i != messages; ++i) {
      while (i - thread_order::load(*q->head) == tagged_queue::depth) wait_a_turn(turns);
      tagged& slot = q->entries[i % tagged_queue::depth];
      slot.payload = i * std::uint64_t{7};
      slot.check = ~i;
      thread_order::store(slot.phase_and_id, (i & 0xffffU) << 16 | tagged_queue::phase(i));
    }
  }};
  std::uint32_t wrong = 0;
  unsigned turns = 0;
  for (std::uint32_t i = 0; i != messages; ++i) {
    const tagged& slot = queue->entries[i % tagged_queue::depth];
    le<std::uint32_t> word{};
    do {
      wait_a_turn(turns);
      word = thread_order::load(slot.phase_and_id);
    } while ((word & 1U) != tagged_queue::phase(i));
    thread_order::after_load();
    const bool good =
        slot.payload == i * std::uint64_t{7} && slot.check == ~i && word >> 16 == (i & 0xffffU);
    wrong += good ? 0U : 1U;
    thread_order::store(*queue->head, i + 1);
  }
  device.join();
  CHECK(wrong == 0);
}

namespace {

struct two_flags {
  own_line<std::uint32_t> x{}, y{};
  own_line<std::uint32_t> saw_x{}, saw_y{};
  own_line<std::uint32_t> left_at{}, right_at{};
};

// Store buffering: each side stores that it sleeps (or has work), then loads the other's word. With
// full() between, at least one of the two loads the other's store; without it both could miss it,
// and sleep. The two meet before and after each round; the round is the value stored.
template <RingOrder Order>
std::uint32_t both_missed() {
  constexpr std::uint32_t rounds = 100'000;
  const auto shared = std::make_unique<two_flags>();
  const auto meet = [](std::uint32_t& mine, const std::uint32_t& theirs, std::uint32_t at,
                       unsigned& turns) {
    thread_order::store(mine, at);
    while (thread_order::load(theirs) < at) wait_a_turn(turns);
  };
  std::thread right{[meet, s = shared.get()] {
    unsigned turns = 0;
    for (std::uint32_t i = 1; i <= rounds; ++i) {
      meet(*s->right_at, *s->left_at, 2 * i - 1, turns);
      Order::store(*s->y, i);
      Order::full();
      *s->saw_x = Order::load(*s->x);
      meet(*s->right_at, *s->left_at, 2 * i, turns);
    }
  }};
  std::uint32_t missed = 0;
  unsigned turns = 0;
  two_flags& s = *shared;
  for (std::uint32_t i = 1; i <= rounds; ++i) {
    meet(*s.left_at, *s.right_at, 2 * i - 1, turns);
    Order::store(*s.x, i);
    Order::full();
    *s.saw_y = Order::load(*s.y);
    meet(*s.left_at, *s.right_at, 2 * i, turns);
    missed += *s.saw_y != i && *s.saw_x != i ? 1U : 0U;
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
  const auto shared = std::make_unique<entry>(entry_of(0));
  std::atomic<bool> stop{false};
  std::thread writer{[&stop, e = shared.get()] {
    for (std::uint64_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
      overwrite(*e, entry_of(i));
    }
  }};
  std::uint32_t wrong = 0;
  std::array<std::uint64_t, 4> last{};
  for (unsigned i = 0; i != 200'000; ++i) {
    const entry copy = snapshot(*shared);
    // Each word is some round's word, whole. Words may be of different rounds, and no word goes
    // back to an older round than it was seen at.
    wrong += copy.c % 3 == 0 ? 0U : 1U;
    const std::array<std::uint64_t, 4> rounds{copy.a, ~copy.b.get(), copy.c / 3,
                                              copy.d.get() ^ 0x5555U};
    for (std::size_t w = 0; w != rounds.size(); ++w) wrong += rounds[w] < last[w] ? 1U : 0U;
    last = rounds;
  }
  stop = true;
  writer.join();
  CHECK(wrong == 0);
}
