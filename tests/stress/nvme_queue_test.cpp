// SPDX-License-Identifier: BSL-1.0
// NVMe's rings with a thread on either side: the library's driver and a minimal controller. The
// shared memory lies on the heap, where ThreadSanitizer checks it.
#include <phasebit/core/cacheline.hpp>
#include <phasebit/core/copy.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/nvme/device/completion_queue.hpp>
#include <phasebit/nvme/device/doorbells.hpp>
#include <phasebit/nvme/device/submission_queue.hpp>
#include <phasebit/nvme/driver/queue_pair.hpp>
#include <phasebit/ring/doorbell.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;

namespace {

using here = identity_translator<bus_space, local_space>;

struct word_doorbell {
  std::uint32_t* word = nullptr;
  void ring(std::uint32_t value) noexcept { thread_order::store(*word, value); }
};
static_assert(DoorbellSink<word_doorbell>);

bus_addr bus_of(const void* p) { return bus_addr{to_local(p).value()}; }

void wait_a_turn(unsigned& turns) {
  cpu_relax();
  if (++turns % 64 == 0) std::this_thread::yield();
}

constexpr std::size_t data_words = 8;
struct alignas(64) block_of_data {
  std::array<std::uint64_t, data_words> words;
};

// The driver's n-th command, and the controller's completion of it.
constexpr std::uint64_t sent(std::uint64_t n, std::size_t i) { return n * 0x9e37'79b9 + i; }
constexpr std::uint64_t answered(std::uint64_t n, std::size_t i) { return ~sent(n, i); }

struct alignas(4096) list_page {
  std::array<std::byte, 4096> bytes;
};

// A controller's memory as its driver laid it out.
struct rings {
  explicit rings(std::uint32_t depth) : sq(depth), cq(depth), blocks(depth), lists(depth) {}

  std::vector<nvme::submission_entry> sq;
  std::vector<nvme::completion_entry> cq;
  std::vector<block_of_data> blocks;
  std::vector<list_page> lists;
  own_line<std::uint32_t> tail{};
  own_line<std::uint32_t> head{};
};

// Fetches all there is, checks it, and completes it from the last to the first.
class small_controller {
 public:
  explicit small_controller(rings& shared) : r_(&shared) {}

  // Until `commands` are completed; returns how many were not as they should be.
  std::uint32_t run(std::uint64_t commands) {
    unsigned turns = 0;
    std::vector<nvme::submission_entry> fetched;
    for (std::uint64_t done = 0; done != commands;) {
      const std::uint32_t tail = thread_order::load(*r_->tail);
      thread_order::after_load();
      if (tail == head_) wait_a_turn(turns);
      for (; head_ != tail; head_ = next(head_)) {
        fetched.push_back(*nvme::device::fetch_command(translator_, bus_of(&r_->sq[head_])));
      }
      for (; !fetched.empty(); fetched.pop_back(), ++done) complete(fetched.back(), turns);
    }
    return wrong_;
  }

 private:
  [[nodiscard]] std::uint32_t next(std::uint32_t i) const {
    return i + 1 == r_->sq.size() ? 0 : i + 1;
  }

  void complete(const nvme::submission_entry& command, unsigned& turns) {
    const std::uint64_t n = command.cdw10 | std::uint64_t{command.cdw11} << 32;
    auto& data = *reinterpret_cast<block_of_data*>(pointer_of(local_addr{command.prp1.get()}));
    for (std::size_t i = 0; i != data_words; ++i) {
      wrong_ += data.words[i] == sent(n, i) ? 0U : 1U;
      data.words[i] = answered(n, i);
    }
    while (next(cq_tail_) == thread_order::load(*r_->head)) wait_a_turn(turns);
    thread_order::after_load();
    nvme::completion_entry entry{};
    entry.dw0 = static_cast<std::uint32_t>(n);
    entry.sq_head = static_cast<std::uint16_t>(head_);
    entry.dw3 = nvme::completion_dw3::of(command.command_id(), {}, phase_).raw;
    const bool posted =
        nvme::device::post_completion<thread_order>(translator_, bus_of(&r_->cq[cq_tail_]), entry);
    wrong_ += posted ? 0U : 1U;
    cq_tail_ = next(cq_tail_);
    if (cq_tail_ == 0) phase_ = !phase_;
  }

  rings* r_;
  here translator_{};
  std::uint32_t head_ = 0;
  std::uint32_t cq_tail_ = 0;
  std::uint32_t wrong_ = 0;
  bool phase_ = true;
};

struct in_flight {
  std::uint32_t block;
  std::uint64_t n;
};
using queue = nvme::driver::queue_pair<thread_order, word_doorbell, in_flight, 64>;

// Keeps the queue as full as it can; returns how many answers were wrong.
std::uint32_t drive(rings& r, queue& q, std::uint64_t commands) {
  std::vector<std::uint32_t> free_blocks;
  for (std::uint32_t i = 0; i != q.available(); ++i) free_blocks.push_back(i);
  std::uint32_t wrong = 0;
  std::uint64_t submitted = 0;
  unsigned turns = 0;
  for (std::uint64_t done = 0; done != commands;) {
    while (submitted != commands && q.available() != 0) {
      const std::uint32_t at = free_blocks.back();
      free_blocks.pop_back();
      block_of_data& data = r.blocks[at];
      for (std::size_t i = 0; i != data_words; ++i) data.words[i] = sent(submitted, i);
      nvme::submission_entry command{};
      command.cdw10 = static_cast<std::uint32_t>(submitted);
      command.cdw11 = static_cast<std::uint32_t>(submitted >> 32);
      const dma_region region{std::as_writable_bytes(std::span{&data, 1}), bus_of(&data)};
      if (!q.submit_unchecked(command, region, {at, submitted})) ++wrong;
      ++submitted;
    }
    q.ring();
    const unsigned ended = q.poll([&](in_flight& what, nvme::driver::completion c) noexcept {
      wrong += c.ok() && c.dw0() == static_cast<std::uint32_t>(what.n) ? 0U : 1U;
      for (std::size_t i = 0; i != data_words; ++i) {
        wrong += r.blocks[what.block].words[i] == answered(what.n, i) ? 0U : 1U;
      }
      free_blocks.push_back(what.block);
    });
    done += ended;
    if (ended == 0) wait_a_turn(turns);
  }
  return wrong;
}

}  // namespace

TEST_CASE("a driver and a controller in two threads hand every command and its data over whole") {
  for (const std::uint32_t depth : {2U, 3U, 4U, 8U, 64U}) {
    CAPTURE(depth);
    const std::uint64_t commands = depth == 2 ? 20'000 : 60'000;
    const auto shared = std::make_unique<rings>(depth);
    const nvme::driver::queue_layout layout{
        .qid = 1,
        .submission = shared->sq,
        .completion = shared->cq,
        .lists = {std::as_writable_bytes(std::span{shared->lists}), bus_of(shared->lists.data())},
        .max_transfer = 4096};
    const auto q = std::make_unique<queue>(layout, word_doorbell{&*shared->tail},
                                           word_doorbell{&*shared->head});
    std::uint32_t refused = 0;
    std::thread controller{
        [&refused, r = shared.get(), commands] { refused = small_controller{*r}.run(commands); }};
    const std::uint32_t wrong = drive(*shared, *q, commands);
    controller.join();
    CHECK(wrong == 0);
    CHECK(refused == 0);
    CHECK(q->in_flight() == 0);
    CHECK(q->health());
  }
}

namespace {

using shadows = nvme::device::shadow_doorbells<thread_order, here>;

// A register that counts its writes: the controller sleeps until it changes.
struct waking_sink {
  std::uint32_t* register_writes = nullptr;
  std::uint32_t count = 0;
  void ring(std::uint32_t) noexcept { thread_order::store(*register_writes, ++count); }
};

struct shadowed {
  std::array<le<std::uint32_t>, 1024> shadow{};
  std::array<le<std::uint32_t>, 1024> events{};
  own_line<std::uint32_t> register_writes{};
  own_line<std::uint32_t> done{};
  own_line<std::uint32_t> asleep{};  // 1 + the writes it slept on; 0: awake
};

constexpr std::size_t qid = 1;
constexpr auto side = nvme::device::ring_side::submission;

// Follows the index; where there is nothing new it asks to be woken, looks again, and sleeps.
void follow(shadowed& s, std::uint32_t last) {
  here translator;
  shadows shadow{translator, 0};
  shadow.enable(bus_of(s.shadow.data()), bus_of(s.events.data()));
  unsigned turns = 0;
  std::uint32_t index = 0;
  while (index != last) {
    const std::uint32_t writes = thread_order::load(*s.register_writes);
    std::uint32_t now = *shadow.load(qid, side);
    if (now == index) now = *shadow.arm(qid, side, index);
    if (now != index) {
      index = now;
      thread_order::store(*s.done, index);
      continue;
    }
    thread_order::store(*s.asleep, writes + 1);
    while (thread_order::load(*s.register_writes) == writes) wait_a_turn(turns);
    thread_order::store(*s.asleep, 0);
  }
}

}  // namespace

TEST_CASE("a controller that sleeps behind its shadow doorbell is always woken") {
  constexpr std::uint32_t last = 50'000;  // below 2^16, for an index is not used twice
  const auto s = std::make_unique<shadowed>();
  std::thread controller{[p = s.get()] { follow(*p, last); }};
  ring::shadow_doorbell<waking_sink, thread_order> doorbell{s->shadow[2], s->events[2],
                                                            waking_sink{&*s->register_writes}};
  unsigned turns = 0;
  std::uint32_t lost = 0;
  for (std::uint32_t index = 1; index <= last; ++index) {
    doorbell.ring(index);
    // Sometimes right behind the controller's heels, sometimes far ahead of it.
    if (index % 7 == 3 && index != last) continue;
    while (thread_order::load(*s->done) != index) {
      // Asleep on the current register with work to do: a lost wake-up.
      const std::uint32_t slept_on = thread_order::load(*s->asleep);
      const std::uint32_t writes = thread_order::load(*s->register_writes);
      if (slept_on == writes + 1 && thread_order::load(*s->done) != index) {
        ++lost;
        thread_order::store(*s->register_writes, writes + 1000);
      }
      wait_a_turn(turns);
    }
  }
  controller.join();
  CHECK(lost == 0);
  CHECK(*s->done == last);
}
