// SPDX-License-Identifier: BSL-1.0
// Recovery under load: every fault that the simulated bus produces, in any order, while data is verified. No command is
// lost, ended twice or left in flight, and no read returns what was not written.
#include <phasebit/backend/simulated.hpp>
#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/driver/recoverable_queue.hpp>
#include <phasebit/nvme/driver/recovery.hpp>
#include <phasebit/nvme/driver/request_queue.hpp>
#include <phasebit/pcie/driver/enumerate.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <support/area_content.hpp>

namespace sim = phasebit::backend::simulated;
using namespace phasebit;
using namespace phasebit::nvme;
using namespace phasebit::nvme::driver;

namespace {

// Its function level reset cures whatever a plan has broken.
struct curable_function : sim::function {
  explicit curable_function(const sim::function& f) : sim::function(f) {}
  bool cures = true;
  unsigned resets = 0;

  result<> reset() noexcept {
    ++resets;
    if (cures) inject({});
    return sim::function::reset();
  }
};
static_assert(ResettableFunction<curable_function>);

using host_type = controller<curable_function>;

struct machine {
  std::vector<std::byte> bytes = std::vector<std::byte>(4U << 20);
  block::memory_media media{bytes};
  sim::fabric fabric;
  sim::nvme_disk<block::memory_media> disk = *sim::add_nvme_disk(fabric, media);
  curable_function function{disk};

  // After an insertion: the BARs have no addresses.
  void place_again() {
    auto config = function.config();
    for (std::uint16_t at = 0x10; at != 0x28; at += 4) {
      const auto found = bars.find(at);
      if (found != bars.end()) config.write32(at, found->second);
    }
    config.write16(0x04, command);
  }
  void remember_place() {
    auto config = function.config();
    for (std::uint16_t at = 0x10; at != 0x28; at += 4) bars[at] = config.read32(at);
    command = config.read16(0x04);
  }
  std::map<std::uint16_t, std::uint32_t> bars;
  std::uint16_t command = 0;
};

// The interface that the program under test submits by: the same load for tokens, callbacks and request_queue.
constexpr unsigned areas = 24;
constexpr unsigned area_blocks = 24;  // 12 KiB: with PRP lists
constexpr std::size_t area_bytes = area_blocks * 512;
constexpr std::size_t part_bytes = 4096;  // what request_queue splits an area into
constexpr std::size_t parts = area_bytes / part_bytes;

submission_entry command_of(nvm_opcode op, std::uint64_t lba) {
  const block_range range{.nsid = 1, .lba = lba, .blocks = area_blocks};
  return op == nvm_opcode::write ? nvm::write(range) : nvm::read(range);
}

// One command per area at a time, a write or a read; what may be in the area is known at any time.
template <class Front>
class load {
 public:
  load(machine& m, Front& front, unsigned seed) : m_(m), front_(front), random_(seed) {
    for (unsigned a = 0; a != areas; ++a) {
      const auto region = m.function.allocate(area_bytes, 4096);
      REQUIRE(region);
      state_[a].buffer = *region;
    }
    expected_.resize(area_bytes);
  }
  ~load() {
    for (auto& s : state_) m_.function.release(s.buffer);
  }

  // Submits to idle areas, takes what has ended.
  void turn(bool submit) {
    for (unsigned a = 0; submit && a != areas; ++a) {
      area& s = state_[a];
      if (s.in_flight) continue;
      const bool write = s.never_written || random_() % 2 == 0;
      if (write) {
        s.attempt = ++versions_;
        phasebit_test::fill_area(s.buffer.bytes, a, s.attempt);
      } else {
        std::memset(s.buffer.data(), 0xee, s.buffer.size());
      }
      s.writes = write;
      s.in_flight = true;
      const submitted posted = front_.submit(*this, a, write ? nvm_opcode::write : nvm_opcode::read,
                                             std::uint64_t{a} * area_blocks, s.buffer);
      if (!posted) {
        s.in_flight = false;
        CHECK_MESSAGE(
            (posted.status == submit_status::full || posted.status == submit_status::closed),
            posted.what);
        break;
      }
      ++submitted_;
    }
    front_.ring();
    front_.poll(*this);
    m_.function.clock().relax();
  }
  void ended(unsigned a, completion c) {
    area& s = state_[a];
    ++ended_;
    if (!s.in_flight) ++doubled_;
    s.in_flight = false;
    if (!c.ok()) {
      ++failed_;
      // A write that failed may have been executed.
      for (auto& maybe : s.maybe) {
        if (s.writes) maybe.push_back(s.attempt);
      }
      return;
    }
    ++good_;
    if (s.writes) {
      for (auto& maybe : s.maybe) maybe = {s.attempt};
      s.never_written = false;
      return;
    }
    for (std::size_t p = 0; p != parts; ++p) {
      const bool known =
          std::any_of(s.maybe[p].begin(), s.maybe[p].end(), [&](std::uint32_t version) {
            phasebit_test::fill_area(expected_, a, version);
            if (std::memcmp(expected_.data() + p * part_bytes, s.buffer.data() + p * part_bytes,
                            part_bytes) != 0) {
              return false;
            }
            s.maybe[p] = {version};
            return true;
          });
      if (!known) ++wrong_;
    }
  }
  // Until all is idle; false where it takes too long.
  bool drain() {
    for (unsigned i = 0; i != 2'000'000; ++i) {
      if (submitted_ == ended_) return true;
      turn(false);
    }
    return false;
  }

  std::uint64_t submitted_ = 0, ended_ = 0, good_ = 0, failed_ = 0, doubled_ = 0, wrong_ = 0;

 private:
  struct area {
    dma_region buffer{};
    std::array<std::vector<std::uint32_t>, parts> maybe;  // versions that each part may have
    std::uint32_t attempt = 0;
    bool writes = false, in_flight = false, never_written = true;
  };
  machine& m_;
  Front& front_;
  std::mt19937 random_;
  std::array<area, areas> state_;
  std::vector<std::byte> expected_;
  std::uint32_t versions_ = 0;
};

struct by_tokens {
  recoverable_queue<host_type, std::uint32_t, 32> queue;
  result<> open(recovery<host_type>& r) { return queue.open(r, {.depth = 32}); }
  template <class Load>
  submitted submit(Load&, unsigned a, nvm_opcode op, std::uint64_t lba, const dma_region& data) {
    const block_range range{.lba = lba, .blocks = area_blocks};
    return op == nvm_opcode::write ? queue.write(range, data, a) : queue.read(range, data, a);
  }
  void ring() { queue.ring(); }
  template <class Load>
  void poll(Load& l) {
    (void)queue.poll([&](std::uint32_t& a, completion c) noexcept { l.ended(a, c); });
  }
};

struct by_callbacks {
  recoverable_queue<host_type, completion_callback, 16> queue;
  result<> open(recovery<host_type>& r) { return queue.open(r, {.depth = 16}); }
  template <class Load>
  submitted submit(Load& l, unsigned a, nvm_opcode op, std::uint64_t lba, const dma_region& data) {
    return queue.submit(command_of(op, lba), data,
                        [&l, a](completion c) noexcept { l.ended(a, c); });
  }
  void ring() { queue.ring(); }
  template <class Load>
  void poll(Load&) {
    (void)queue.poll();
  }
};

// Requests longer than a command, in a ring with fewer entries than there are parts.
struct by_requests {
  using queue_type = recoverable_queue<host_type, std::uint16_t, 8, 8>;
  queue_type queue;
  std::unique_ptr<request_queue<queue_type, 32, 8>> requests;
  std::array<segment<bus_space>, areas> segments;
  result<> open(recovery<host_type>& r) {
    const auto up = queue.open(r, {.depth = 8, .max_transfer = 4096});
    if (up) requests = std::make_unique<request_queue<queue_type, 32, 8>>(queue);
    return up;
  }
  template <class Load>
  submitted submit(Load& l, unsigned a, nvm_opcode op, std::uint64_t lba, const dma_region& data) {
    segments[a] = {data.bus, data.size()};
    return requests->submit(
        {.command = command_of(op, lba), .lba = lba, .segments = {&segments[a], 1}},
        [&l, a](completion c) noexcept { l.ended(a, c); });
  }
  void ring() { requests->ring(); }
  template <class Load>
  void poll(Load&) {
    (void)requests->poll();
  }
};

struct fault_kind {
  const char* name;
  sim::fault_plan (*plan)(std::uint64_t when);
  bool removes = false;
  bool final = false;  // commands may end without success
};
constexpr std::uint32_t interrupted = 0x021;                      // Command Interrupted, DNR clear
constexpr std::uint32_t interrupted_by_crd = 0x021 | 1U << 11;    // ... with a retry delay
constexpr std::uint32_t interrupted_for_good = 0x021 | 1U << 14;  // ... DNR
const fault_kind kinds[] = {
    {"a lost completion",
     [](std::uint64_t n) { return sim::fault_plan{}.completion(n, sim::completion_fault::drop); }},
    {"many lost completions",
     [](std::uint64_t n) {
       return sim::fault_plan{}.sometimes(sim::completion_fault::drop, 3, n);
     }},
    {"a late completion",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::delay, 40'000);
     }},
    {"a reordered completion",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::reorder);
     }},
    {"a doubled completion",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::duplicate);
     }},
    {"an unknown command id",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::wrong_id, 0x4000);
     }},
    {"a wrong phase tag",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::wrong_phase);
     }},
    {"a status that passes",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::wrong_status, interrupted);
     }},
    {"a status with a retry delay",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::wrong_status,
                                           interrupted_by_crd);
     }},
    {"a final status",
     [](std::uint64_t n) {
       return sim::fault_plan{}.completion(n, sim::completion_fault::wrong_status,
                                           interrupted_for_good);
     },
     false, true},
    {"failed DMA", [](std::uint64_t n) { return sim::fault_plan{}.fail_dma(n, 3); }, false, true},
    {"a fatal status", [](std::uint64_t) { return sim::fault_plan{}.stick(sim::fatal); }},
    {"a controller that does not come up",
     [](std::uint64_t n) {
       return sim::fault_plan{}
           .sometimes(sim::completion_fault::drop, 1, n)
           .stick(sim::never_ready);
     }},
    {"a controller that does not stop",
     [](std::uint64_t n) {
       return sim::fault_plan{}
           .sometimes(sim::completion_fault::drop, 1, n)
           .stick(sim::never_stopped);
     }},
    {"registers of all ones",
     [](std::uint64_t) {
       return sim::fault_plan{}.stick({csts::offset, 0xffff'ffff, 0xffff'ffff});
     },
     false, true},
    {"a removal", [](std::uint64_t n) { return sim::fault_plan{}.remove_at_completion(n); }, true},
};

std::uint64_t faults_per_run() {
  const char* const wanted = std::getenv("PHASEBIT_RECOVERY_FAULTS");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 340;
}

template <class Front>
void survives_every_fault(unsigned seed) {
  machine m;
  m.remember_place();
  auto host = attach(m.function, {.io_queues = 1, .admin_timeout_ms = 50});
  REQUIRE(host);
  std::map<recovery_step, unsigned> steps;
  recovery guard{*host,
                 {.command_timeout_ms = 20, .abort_patience_ms = 5},
                 [&](const recovery_event& e) noexcept { ++steps[e.step]; }};
  std::mt19937 random{seed};
  std::uint64_t removals = 0;
  {
    Front front;
    REQUIRE(front.open(guard));
    load<Front> work{m, front, seed};
    for (std::uint64_t i = 0; i != faults_per_run(); ++i) {
      const fault_kind& kind = kinds[i < std::size(kinds) ? i : random() % std::size(kinds)];
      const std::string name = kind.name;
      CAPTURE(name);
      CAPTURE(i);
      const std::uint64_t failed = work.failed_;
      const std::uint64_t good = work.good_;
      m.function.inject(kind.plan(random() % 60));
      for (unsigned turns = 0; turns != 300; ++turns) work.turn(true);
      if (!kind.removes) {
        REQUIRE(work.drain());
        m.function.inject({});
        if (!guard.running()) REQUIRE(guard.resume());
        if (!kind.final && name != "many lost completions") {
          CHECK(work.failed_ == failed);
        }
      } else {
        REQUIRE(work.drain());
        REQUIRE(m.function.removed());
        ++removals;
        m.function.inject({});
        CHECK_FALSE(guard.running());
        CHECK_FALSE(guard.resume());
        m.function.insert();
        m.place_again();
        const auto again = guard.resume();
        REQUIRE_MESSAGE(again, again.error().what);
      }
      for (unsigned turns = 0; turns != 50; ++turns) work.turn(true);
      REQUIRE(work.drain());
      CHECK(guard.running());
      CHECK(work.good_ > good);
      REQUIRE(work.wrong_ == 0);
      REQUIRE(work.doubled_ == 0);
    }
    CHECK(front.queue.in_flight() == 0);
    CHECK(guard.counts().removals >= removals);
    MESSAGE("commands " << work.ended_ << ", failed " << work.failed_ << ", requeued "
                        << guard.counts().requeued << ", aborts " << guard.counts().aborts
                        << ", queues made again " << guard.counts().queues_remade
                        << ", controller resets " << guard.counts().controller_resets
                        << ", function resets " << guard.counts().function_resets << ", removals "
                        << guard.counts().removals);
  }
  CHECK(steps[recovery_step::abort] != 0);
  CHECK(steps[recovery_step::queue_deletion] != 0);
  CHECK(steps[recovery_step::controller_reset] != 0);
  CHECK(steps[recovery_step::function_reset] != 0);
  CHECK(steps[recovery_step::removed] == guard.counts().removals);
  CHECK(steps[recovery_step::recovered] != 0);
}

}  // namespace

TEST_CASE("recovery loses and doubles no command under every fault: tokens") {
  survives_every_fault<by_tokens>(1);
}
TEST_CASE("recovery loses and doubles no command under every fault: callbacks") {
  survives_every_fault<by_callbacks>(2);
}
TEST_CASE("recovery loses and doubles no command under every fault: request_queue") {
  survives_every_fault<by_requests>(3);
}

namespace {

// One queue with callbacks, and what recovery reports.
struct small_machine : machine {
  explicit small_machine(const recovery_options& options = {.command_timeout_ms = 20,
                                                            .abort_patience_ms = 5}) {
    auto up = attach(function, {.io_queues = 1, .admin_timeout_ms = 50});
    REQUIRE(up);
    host.emplace(std::move(*up));
    guard.emplace(*host, options,
                  [this](const recovery_event& e) noexcept { steps.push_back(e.step); });
    REQUIRE(queue.open(*guard, {.depth = 8}));
    buffer = *function.allocate(4096, 4096);
  }
  ~small_machine() {
    queue_in_use.reset();
    guard.reset();
  }
  // Until the command with this number has ended.
  bool finish(unsigned number) {
    for (unsigned i = 0; i != 1'000'000 && ended.count(number) == 0; ++i) {
      (void)queue.poll([&](std::uint32_t& n, completion c) noexcept {
        CHECK(ended.count(n) == 0);
        ended[n] = c.status();
      });
      function.clock().relax();
    }
    return ended.count(number) == 1;
  }
  submitted write(unsigned number, std::uint64_t lba = 0) {
    const submitted posted = queue.write({.lba = lba, .blocks = 8}, buffer, number);
    queue.ring();
    return posted;
  }

  using queue_type = recoverable_queue<host_type, std::uint32_t, 8>;
  std::optional<host_type> host;
  std::optional<recovery<host_type>> guard;
  std::unique_ptr<queue_type> queue_in_use = std::make_unique<queue_type>();
  queue_type& queue = *queue_in_use;
  dma_region buffer{};
  std::vector<recovery_step> steps;
  std::map<unsigned, status> ended;
};
using steps_taken = std::vector<recovery_step>;

}  // namespace

TEST_CASE(
    "a lost completion ends with Abort, then with a new queue pair, and the command is done once "
    "more") {
  small_machine m;
  m.function.inject(sim::fault_plan{}.completion(0, sim::completion_fault::drop));
  REQUIRE(m.write(1));
  REQUIRE(m.finish(1));
  CHECK(m.ended[1].ok());
  CHECK(m.steps ==
        steps_taken{recovery_step::abort, recovery_step::queue_deletion, recovery_step::recovered});
  CHECK(m.guard->counts().requeued == 1);
  CHECK(m.guard->counts().failed == 0);
}

TEST_CASE("where no step helps, all commands end, bus mastering is off, and resume() starts over") {
  small_machine m;
  m.function.cures = false;
  m.function.inject(sim::fault_plan{}.sometimes(sim::completion_fault::drop, 1, 1));
  REQUIRE(m.write(1));
  REQUIRE(m.write(2, 8));
  REQUIRE(m.finish(1));
  REQUIRE(m.finish(2));
  CHECK(m.ended[1] == status_code::aborted_by_host);
  CHECK(m.steps == steps_taken{recovery_step::abort, recovery_step::controller_reset,
                               recovery_step::function_reset, recovery_step::failed});
  CHECK((m.function.config().read16(0x04) & 4U) == 0);
  CHECK(m.queue.closed());
  CHECK(m.write(3).status == submit_status::closed);
  CHECK_FALSE(m.guard->resume());
  m.function.inject({});
  REQUIRE(m.guard->resume());
  CHECK((m.function.config().read16(0x04) & 4U) != 0);
  REQUIRE(m.write(4));
  REQUIRE(m.finish(4));
  CHECK(m.ended[4].ok());
}

TEST_CASE("a command that may not be executed twice ends, and is not posted again") {
  small_machine m;
  m.function.inject(sim::fault_plan{}.completion(0, sim::completion_fault::drop));
  submission_entry vendor{};
  vendor.cdw0 = 0x80;
  vendor.nsid = 1;
  REQUIRE(m.queue.submit(vendor, 1U));
  m.queue.ring();
  REQUIRE(m.finish(1));
  CHECK(m.ended[1] == status_code::aborted_by_host);
  CHECK(m.guard->counts().requeued == 0);
  CHECK(m.guard->counts().failed == 1);
  REQUIRE(m.write(2));
  REQUIRE(m.finish(2));
  CHECK(m.ended[2].ok());
}

TEST_CASE(
    "a status that passes is retried as often as the options allow, after its delay; DNR ends at "
    "once") {
  small_machine m{{.command_timeout_ms = 5000, .abort_patience_ms = 1000, .max_retries = 3}};
  m.function.inject(
      sim::fault_plan{}.sometimes(sim::completion_fault::wrong_status, 1, 1, interrupted));
  const std::uint64_t begin = m.function.clock().now();
  REQUIRE(m.write(1));
  REQUIRE(m.finish(1));
  CHECK(m.ended[1].raw() == interrupted);
  CHECK(m.guard->counts().requeued == 3);
  CHECK(m.function.clock().now() - begin >= 300 * nanoseconds_per_ms);
  m.function.inject(
      sim::fault_plan{}.completion(0, sim::completion_fault::wrong_status, interrupted_for_good));
  REQUIRE(m.write(2));
  REQUIRE(m.finish(2));
  CHECK(m.ended[2].raw() == interrupted_for_good);
  CHECK(m.guard->counts().requeued == 3);
  CHECK(m.steps.empty());
}

TEST_CASE("a late completion of a deleted queue pair ends no command of the new one") {
  small_machine m;
  // Later than the deletion of the queue.
  m.function.inject(sim::fault_plan{}.completion(0, sim::completion_fault::delay, 20'000));
  REQUIRE(m.write(1));
  REQUIRE(m.finish(1));
  CHECK(m.ended[1].ok());
  REQUIRE(m.guard->counts().queues_remade == 1);
  const submitted next = m.queue.submit(nvm::flush(1), 5000U);
  CHECK(next.command_id > 8);  // behind the ids of the old pair
  m.queue.ring();
  REQUIRE(m.finish(5000));
  for (unsigned n = 2; n != 3000; ++n) {
    REQUIRE(m.write(n, 8 * (n % 100)));
    REQUIRE(m.finish(n));
    REQUIRE(m.ended[n].ok());
  }
}

TEST_CASE("a controller that the program resets itself keeps its recoverable queues") {
  small_machine m;
  REQUIRE(m.write(1));
  REQUIRE(m.host->reset());
  CHECK_FALSE(m.queue.closed());
  const submitted second = m.write(2, 8);
  CHECK(second.status == submit_status::queued);
  REQUIRE(m.finish(2));
  REQUIRE(m.finish(1));
  CHECK(m.ended[1].ok());
  CHECK(m.ended[2].ok());
}

TEST_CASE("queue and recovery may be destroyed in any order with commands in flight") {
  SUBCASE("recovery first: the queue is closed, and its commands end") {
    small_machine m;
    REQUIRE(m.write(1));
    m.guard.reset();
    CHECK(m.queue.closed());
    REQUIRE(m.finish(1));
    CHECK(m.write(2).status == submit_status::closed);
  }
  SUBCASE("the queue first: callbacks are called") {
    machine m;
    auto host = attach(m.function, {.io_queues = 1});
    REQUIRE(host);
    recovery guard{*host};
    unsigned ended = 0;
    const auto buffer = m.function.allocate(4096, 4096);
    {
      recoverable_queue<host_type> queue;
      REQUIRE(queue.open(guard, {.depth = 4}));
      REQUIRE(queue.write({.lba = 0, .blocks = 8}, *buffer, [&](completion) noexcept { ++ended; }));
      queue.ring();
    }
    CHECK(ended == 1);
    CHECK(guard.poll() == 0);
    CHECK(host->check());
  }
}

TEST_CASE("a recoverable queue refuses what it cannot keep") {
  small_machine m;
  const segment<bus_space> two[] = {{m.buffer.bus, 512}, {m.buffer.bus + 1024, 512}};
  const submission_entry read = nvm::read({.nsid = 1, .lba = 0, .blocks = 2});
  CHECK(m.queue.submit_unchecked(read, two, 1U).status == submit_status::refused);
  CHECK(m.queue.submit(read, m.buffer, 1U).status == submit_status::refused);
  CHECK(m.queue.in_flight() == 0);
  for (unsigned i = 0; i != 7; ++i) REQUIRE(m.queue.read({.lba = i, .blocks = 8}, m.buffer, i));
  CHECK(m.queue.available() == 0);
  CHECK(m.write(9).status == submit_status::full);
  m.queue.ring();
  for (unsigned i = 0; i != 7; ++i) REQUIRE(m.finish(i));
}
