// SPDX-License-Identifier: BSL-1.0
#include <phasebit/nvme/device/completion_filter.hpp>

#include <deque>

#include <doctest/doctest.h>
#include <nvme/device/test_host.hpp>

using namespace test_host;

namespace {

enum class fate { pass, drop, twice, hold, old_phase, other_id };

// Does to each I/O completion what the script specifies.
struct scripted {
  std::deque<fate>* script = nullptr;
  std::deque<device::outgoing_completion>* held = nullptr;

  template <class Post>
  void complete(device::outgoing_completion c, Post&& post) noexcept {
    auto what = fate::pass;
    if (c.completion_queue != 0 && !script->empty()) {
      what = script->front();
      script->pop_front();
    }
    switch (what) {
      case fate::drop:
        return;
      case fate::hold:
        held->push_back(c);
        return;
      case fate::twice:
        static_cast<void>(post(c));
        break;
      case fate::old_phase:
        c.entry.dw3 = c.entry.dw3 | completion_dw3::phase_bit.of(true);
        break;
      case fate::other_id:
        c.entry.dw3 = c.entry.dw3 ^ 0x8000U;
        break;
      case fate::pass:
        break;
    }
    static_cast<void>(post(c));
  }
  template <class Post>
  void poll(Post&& post) noexcept {
    while (!held->empty() && post(held->front())) held->pop_front();
  }
  void reset() noexcept { held->clear(); }
};
static_assert(device::CompletionFilter<scripted>);

struct faulty : device::default_policy {
  using completion_filter = scripted;
};

struct session {
  std::deque<fate> script;
  std::deque<device::outgoing_completion> held;
  machine<faulty> m;

  session() {
    m.controller.completion_filter() = {&script, &held};
    m.enable();
    m.create(1, 8);
  }
  std::vector<int> ids() {
    std::vector<int> all;
    while (const auto c = m.reap(1)) all.push_back(c->command_id());
    return all;
  }
  void submit(std::uint16_t cid) { m.submit(1, nvm::flush(1), cid); }
};

}  // namespace

TEST_CASE("a filter can lose, repeat, delay, reorder and falsify completions") {
  session s;
  using enum fate;
  s.script = {drop, pass, twice, other_id};
  for (std::uint16_t i = 0; i != 4; ++i) s.submit(i);
  s.m.controller.poll();
  CHECK(s.ids() == std::vector<int>{1, 2, 2, 0x8003});

  s.script = {hold, pass, pass};
  for (std::uint16_t i = 4; i != 7; ++i) s.submit(i);
  s.m.controller.poll();
  CHECK(s.ids() == std::vector<int>{5, 6});
  s.m.controller.poll();
  CHECK(s.ids() == std::vector<int>{4});

  s.script = {old_phase};
  s.submit(7);
  s.m.controller.poll();
  CHECK(s.ids().empty());
}

TEST_CASE("completions that a filter delays wait for a free slot, and are dropped on reset") {
  session s;
  using enum fate;
  s.script = {hold, hold, hold};
  for (std::uint16_t i = 0; i != 7; ++i) s.submit(i);
  s.m.controller.poll();
  CHECK(s.held.size() == 3);
  // Seven slots: four are taken, three are free, and the held ones fill them.
  s.m.controller.poll();
  CHECK(s.held.empty());
  CHECK(s.ids() == std::vector<int>{3, 4, 5, 6, 0, 1, 2});

  s.script = {hold, twice, twice, twice, twice};
  for (std::uint16_t i = 0; i != 5; ++i) s.submit(i);
  s.m.controller.poll();
  s.m.controller.poll();
  CHECK(s.held.size() == 1);
  s.m.controller.write32(cc::offset, 0);
  CHECK(s.held.empty());
}

TEST_CASE("a completion of a queue that is gone is swallowed") {
  session s;
  s.script = {fate::hold};
  s.submit(0);
  s.m.controller.poll();
  s.held.push_back(s.held.front());
  auto keep = s.held;
  s.held.clear();
  CHECK(s.m.admin_code(admin::delete_io_sq(1)) == status_code::success);
  CHECK(s.m.admin_code(admin::delete_io_cq(1)) == status_code::success);
  s.held = keep;
  s.m.controller.poll();
  CHECK(s.held.empty());
}

TEST_CASE("the filter that passes everything takes no memory") {
  struct with_nothing {
    int a;
    [[no_unique_address]] device::pass_completions filter;
  };
  CHECK(sizeof(with_nothing) == sizeof(int));
}
