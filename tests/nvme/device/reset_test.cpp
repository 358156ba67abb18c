// SPDX-License-Identifier: BSL-1.0
// Resets, aborts and queue deletions against commands in flight: every interleaving of two commands
// with one of them, and long random runs with thousands of commands.
#include <phasebit/nvme/device/controller.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <nvme/device/async_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

enum class event : unsigned char { submit1, submit2, finish1, finish2, interrupt };
enum class interruption { disable, function_reset, delete_queue, abort_first };

constexpr std::uint16_t first_id = 11;
constexpr std::uint16_t second_id = 22;
constexpr std::uint16_t admin_id = 99;

// One run: the five events in some order, with 0 to 2 polls before each and enough after the last.
class walk {
 public:
  walk(bool bounced, bool ignores_cancel)
      : m_({.commands = 4, .segments = 2, .buffers = 2, .domain = domain_of(bounced)}),
        ignores_cancel_(ignores_cancel) {
    m_.media.set_reachable(domain_of(bounced));
    m_.enable();
    start_ = m_.next;
  }

  void run(const std::array<event, 5>& order, unsigned polls, interruption how) {
    begin();
    for (const event e : order) {
      for (unsigned n = polls % 3; n != 0; --n) poll();
      polls /= 3;
      happen(e, how);
      look();
    }
    m_.go();
    for (int n = 0; n != 8; ++n) poll();
    judge(how);
  }

 private:
  static memory_domain domain_of(bool bounced) {
    return bounced ? memory_domain{6} : memory_domain::local;
  }

  void begin() {
    m_.media.plan().fixed = {};
    m_.controller.reset();
    while (!m_.controller.drained()) m_.controller.poll();
    m_.next = start_;
    m_.enable();
    m_.create(1, 8);
    std::memset(m_.ram.at(m_.pairs[1].cq), 0, 8 * 16);
    buffer_ = m_.page();
    std::memset(m_.ram.at(buffer_), 0xee, 4096);
    std::memset(m_.store.data(), 0x44, 1024);
    seen_.clear();
    admin_ended_ = false;
    reset_ = false;
    after_reset_.clear();
    m_.media.plan().fixed = {.delay = block::media_fate::held, .ignores_cancel = ignores_cancel_};
  }
  void submit(std::uint16_t id, std::uint64_t lba) {
    // After a reset the host has no queue to submit to.
    if (reset_) return;
    m_.submit(1, with_data(nvm::read({.nsid = 1, .lba = lba}), buffer_ + lba * 512), id);
  }
  // The media finishes the command that reads block `lba`, if it has it.
  void finish(std::uint64_t lba) {
    for (std::size_t i = 0; const auto* o = m_.media.in_flight(i); ++i) {
      if (o->request.lba == lba) {
        m_.media.release(i);
        return;
      }
    }
  }
  void happen(event e, interruption how) {
    switch (e) {
      case event::submit1:
        return submit(first_id, 0);
      case event::submit2:
        return submit(second_id, 1);
      case event::finish1:
        return finish(0);
      case event::finish2:
        return finish(1);
      case event::interrupt:
        break;
    }
    switch (how) {
      case interruption::disable:
        m_.controller.write32(cc::offset, 0);
        reset_ = true;
        break;
      case interruption::function_reset:
        m_.controller.reset();
        reset_ = true;
        break;
      case interruption::delete_queue:
        m_.submit(0, admin::delete_io_sq(1), admin_id);
        break;
      case interruption::abort_first:
        m_.submit(0, admin::abort(1, first_id), admin_id);
        break;
    }
  }
  void poll() {
    m_.controller.poll();
    look();
  }
  void look() {
    while (const auto c = m_.peek(1)) {
      REQUIRE_FALSE(reset_seen());
      seen_[c->command_id()].push_back(c->status().code());
      // Data is there when its completion is.
      if (c->status().ok()) {
        const std::size_t at = c->command_id() == first_id ? 0 : 512;
        REQUIRE(m_.ram.at(buffer_)[at] == std::byte{0x44});
      }
      m_.reap(1);
    }
    if (const auto c = m_.reap(0)) {
      REQUIRE_FALSE(admin_ended_);
      REQUIRE(c->command_id() == admin_id);
      REQUIRE(c->status().ok());
      admin_ended_ = true;
      not_aborted_ = (c->dw0 & 1U) != 0;
      first_ended_before_admin_ = seen_.contains(first_id);
    }
    if (reset_seen()) {
      REQUIRE(m_.media.drained());
      std::vector<std::byte> now(1024 + 8 * 16);
      std::memcpy(now.data(), m_.ram.at(buffer_), 1024);
      std::memcpy(now.data() + 1024, m_.ram.at(m_.pairs[1].cq), 8 * 16);
      if (after_reset_.empty()) after_reset_ = now;
      REQUIRE(now == after_reset_);
    }
  }
  [[nodiscard]] bool reset_seen() { return reset_ && !m_.ready() && m_.controller.drained(); }

  void judge(interruption how) {
    for (const auto& [id, ended] : seen_) REQUIRE(ended.size() == 1);
    REQUIRE(m_.media.drained());
    REQUIRE(m_.controller.in_flight() == 0);
    REQUIRE(m_.bounce.available() == 2);
    switch (how) {
      case interruption::disable:
      case interruption::function_reset:
        REQUIRE(reset_seen());
        break;
      case interruption::delete_queue:
        REQUIRE(admin_ended_);
        for (const auto& [id, ended] : seen_) {
          REQUIRE((ended[0] == success || ended[0] == aborted_queue_deletion));
          REQUIRE((ended[0] == success || !ignores_cancel_));
        }
        REQUIRE(m_.admin_code(admin::delete_io_cq(1)) == success);
        break;
      case interruption::abort_first: {
        REQUIRE(admin_ended_);
        REQUIRE(seen_.size() == 2);
        REQUIRE(seen_[second_id][0] == success);
        const bool aborted = seen_[first_id][0] == abort_requested;
        REQUIRE((aborted || seen_[first_id][0] == success));
        REQUIRE(not_aborted_ == !aborted);
        REQUIRE((!aborted || first_ended_before_admin_));
        REQUIRE((!aborted || !ignores_cancel_));
        break;
      }
    }
  }

  async_machine<> m_;
  bool ignores_cancel_;
  std::size_t start_ = 0;
  bus_addr buffer_{};
  std::map<unsigned, std::vector<status_code>> seen_;
  std::vector<std::byte> after_reset_;
  bool reset_ = false;
  bool admin_ended_ = false;
  bool not_aborted_ = false;
  bool first_ended_before_admin_ = false;
};

}  // namespace

TEST_CASE("two commands and a reset, deletion or abort end as they should in every interleaving") {
  std::array<event, 5> order{event::submit1, event::submit2, event::finish1, event::finish2,
                             event::interrupt};
  std::vector<std::array<event, 5>> orders;
  do {
    const auto at = [&](event e) { return std::find(order.begin(), order.end(), e); };
    if (at(event::submit1) < at(event::finish1) && at(event::submit2) < at(event::finish2)) {
      orders.push_back(order);
    }
  } while (std::next_permutation(order.begin(), order.end()));
  REQUIRE(orders.size() == 30);
  for (const bool bounced : {false, true}) {
    for (const bool ignores_cancel : {false, true}) {
      walk w{bounced, ignores_cancel};
      for (const auto how : {interruption::disable, interruption::function_reset,
                             interruption::delete_queue, interruption::abort_first}) {
        for (const auto& one : orders) {
          for (unsigned polls = 0; polls != 243; ++polls) w.run(one, polls, how);
        }
      }
    }
  }
}

namespace {

// Thousands of reads in flight over 16 queues, each into 512 bytes of its own.
class crowd {
 public:
  static constexpr std::uint16_t queues = 16;
  static constexpr std::uint32_t depth = 512;
  static constexpr std::size_t pending = 4096;

  crowd()
      : m_({.commands = pending, .segments = 1, .buffers = 64, .buffer_bytes = 4096}, settings(),
           512, 16U << 20),
        random_(2026) {
    for (std::size_t i = 0; i != m_.store.size(); ++i) {
      m_.store[i] = static_cast<std::byte>((i >> 9) * 37 + 1);
    }
    m_.media.plan().random = block::random_media_plan{.state = 9,
                                                      .longest = 12,
                                                      .fail_one_in = 50,
                                                      .busy_one_in = 20,
                                                      .hold_one_in = 40,
                                                      .at_once_one_in = 30,
                                                      .ignore_cancel_one_in = 4};
    m_.enable(64);
    for (std::uint16_t q = 1; q <= queues; ++q) m_.create(q, depth);
    data_ = m_.allocate(std::size_t{queues} * depth * 512);
    for (std::uint16_t q = 1; q <= queues; ++q) rings_[q] = m_.pairs[q];
    for (auto& q : states_) q.assign(depth, state::idle);
    lbas_.assign(states_.size(), std::vector<std::uint64_t>(depth));
  }

  void run(unsigned incidents) {
    unsigned happened = 0;
    while (happened != incidents) {
      for (std::uint16_t q = 1; q <= queues; ++q) submit(q);
      for (auto n = random_() % 4; n != 0; --n) {
        m_.controller.poll();
        most_ = std::max<std::size_t>(most_, m_.controller.in_flight());
        for (std::uint16_t q = 1; q <= queues; ++q) reap(q);
      }
      if (random_() % 3 != 0) continue;
      ++happened;
      switch (random_() % 8) {
        case 0:
          reset();
          break;
        case 1:
        case 2:
          recreate(static_cast<std::uint16_t>(random_() % queues + 1));
          break;
        default:
          abort();
          break;
      }
    }
    // The remaining commands end by themselves.
    m_.media.plan().random->hold_one_in = 0;
    for (int n = 0; n != 200 && !m_.controller.drained(); ++n) {
      m_.media.release_all();
      m_.controller.poll();
      for (std::uint16_t q = 1; q <= queues; ++q) reap(q);
    }
    CHECK(m_.controller.drained());
    CHECK(m_.media.drained());
    CHECK(m_.bounce.available() == m_.bounce.capacity());
    for (std::uint16_t q = 1; q <= queues; ++q) {
      for (const state s : states_[q]) REQUIRE(s == state::idle);
    }
  }
  [[nodiscard]] std::size_t most() const { return most_; }

 private:
  enum class state : unsigned char { idle, in_flight };

  static device::settings settings() {
    auto s = machine<>::small();
    s.io_queue_pairs = queues;
    s.interrupt_vectors = queues + 1;
    s.max_queue_entries = depth;
    s.fetch_burst = 255;
    return s;
  }
  bus_addr slot(std::uint16_t q, std::uint16_t id) const {
    return data_ + (std::size_t{q - 1U} * depth + id) * 512;
  }

  void submit(std::uint16_t q) {
    auto& states = states_[q];
    const auto wanted = static_cast<unsigned>(random_() % 160);
    unsigned space_left = depth - 1;
    for (const state s : states) space_left -= s == state::in_flight ? 1U : 0U;
    for (std::uint16_t id = 0; id != depth && sent_ % 160 < wanted && space_left != 0; ++id) {
      if (states[id] != state::idle) continue;
      ++sent_;
      --space_left;
      states[id] = state::in_flight;
      lbas_[q][id] = random_() % 2048;
      std::memset(m_.ram.at(slot(q, id)), 0, 512);
      m_.push(q, with_data(nvm::read({.nsid = 1, .lba = lbas_[q][id]}), slot(q, id)), id);
    }
    sent_ = 0;
    m_.ring_tail(q, m_.pairs[q].tail);
  }
  void reap(std::uint16_t q) {
    if (m_.pairs[q].depth == 0) return;
    while (const auto c = m_.reap(q)) {
      const std::uint16_t id = c->command_id();
      REQUIRE(c->sq_id == q);
      REQUIRE(id < depth);
      // Exactly once: a second completion finds it idle.
      REQUIRE(states_[q][id] == state::in_flight);
      states_[q][id] = state::idle;
      const auto code = c->status().code();
      if (code == success) {
        const auto expected = static_cast<std::byte>(lbas_[q][id] * 37 + 1);
        for (const std::size_t at : {0U, 511U}) REQUIRE(m_.ram.at(slot(q, id))[at] == expected);
      } else {
        REQUIRE((code == unrecovered_read_error || code == abort_requested ||
                 code == aborted_queue_deletion));
      }
    }
  }
  void settle() {
    m_.media.release_all();
    m_.controller.poll();
    for (std::uint16_t q = 1; q <= queues; ++q) reap(q);
  }
  completion_entry admin(const submission_entry& e) {
    m_.submit(0, e, 500);
    for (int n = 0; n != 2000; ++n) {
      settle();
      if (const auto c = m_.reap(0)) {
        REQUIRE(c->command_id() == 500);
        return *c;
      }
    }
    FAIL("an admin command did not end");
    return {};
  }

  void reset() {
    if (random_() % 2 == 0) {
      m_.controller.write32(cc::offset, 0);
    } else {
      m_.controller.reset();
    }
    for (int n = 0; n != 2000 && !m_.controller.drained(); ++n) {
      REQUIRE_FALSE(m_.peek(1));
      m_.media.release_all();
      m_.controller.poll();
    }
    REQUIRE(m_.controller.drained());
    REQUIRE_FALSE(m_.ready());
    REQUIRE(m_.media.drained());
    // The host reuses its memory: nothing may change it now.
    const auto all = m_.ram.bytes(m_.ram.bus(0), m_.next);
    for (std::size_t at = 0; at < all.size(); at += 512) all[at] = std::byte{0xa5};
    for (int n = 0; n != 16; ++n) m_.controller.poll();
    for (std::size_t at = 0; at < all.size(); at += 512) REQUIRE(all[at] == std::byte{0xa5});
    for (auto& q : states_) q.assign(depth, state::idle);
    m_.enable(64);
    for (std::uint16_t q = 1; q <= queues; ++q) create(q);
  }
  void create(std::uint16_t q) {
    const auto ring = rings_[q];
    m_.pairs[q] = {};
    std::memset(m_.ram.at(ring.cq), 0, std::size_t{depth} * 16);
    REQUIRE(admin(admin::create_io_cq({.qid = q, .entries = depth, .memory = ring.cq, .vector = 1}))
                .status()
                .ok());
    m_.pairs[q] = ring;
    REQUIRE(admin(admin::create_io_sq({.qid = q, .entries = depth, .memory = ring.sq, .cqid = q}))
                .status()
                .ok());
  }
  void recreate(std::uint16_t q) {
    REQUIRE(admin(admin::delete_io_sq(q)).status().ok());
    reap(q);
    // Commands that were not fetched end with the queue; all that were have completed by now.
    states_[q].assign(depth, state::idle);
    REQUIRE(admin(admin::delete_io_cq(q)).status().ok());
    create(q);
  }
  void abort() {
    const auto q = static_cast<std::uint16_t>(random_() % queues + 1);
    const auto id = static_cast<std::uint16_t>(random_() % depth);
    const bool idle = states_[q][id] == state::idle;
    const auto c = admin(admin::abort(q, id));
    REQUIRE(c.status().ok());
    if (idle) REQUIRE(c.dw0 == 1);
    if (c.dw0 == 0) REQUIRE(states_[q][id] == state::idle);
  }

  async_machine<> m_;
  std::mt19937 random_;
  bus_addr data_{};
  std::map<std::uint16_t, queue_pair> rings_;
  std::array<std::vector<state>, queues + 1> states_;
  std::vector<std::vector<std::uint64_t>> lbas_;
  unsigned sent_ = 0;
  std::size_t most_ = 0;
};

}  // namespace

TEST_CASE(
    "with 4096 commands pending, each completes once or is cancelled once, whatever happens") {
  crowd c;
  c.run(1000);
  CHECK(c.most() == crowd::pending);
}
