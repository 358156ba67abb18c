// SPDX-License-Identifier: BSL-1.0
// A DMA port whose copies complete later: data against an oracle, order, faults, and every way in which
// a command ends while its data is on the way.
#include <phasebit/memory/planned_port.hpp>

#include <map>
#include <random>
#include <vector>

#include <doctest/doctest.h>
#include <nvme/device/async_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

struct copy_memory {
  std::vector<planned_copy> copies = std::vector<planned_copy>(256);
};
// Settings that a test changes while it runs: a fixed outcome, or random ones.
struct steered_port_plan {
  copy_fate fixed{};
  std::optional<random_port_plan> random{};

  copy_fate operator()(bus_addr at, std::uint64_t bytes, std::uint64_t n) noexcept {
    return random ? (*random)(at, bytes, n) : fixed;
  }
};
struct far_memory : private copy_memory, planned_port<memory, steered_port_plan> {
  explicit far_memory(memory& ram) noexcept : planned_port(ram, copies) {}
};
static_assert(AsyncDmaPort<far_memory>);

using far_machine = async_machine<device::default_policy, far_memory>;

struct one_queue : far_machine {
  explicit one_queue(const async_limits& l = {}) : far_machine(l) {
    enable();
    create(1, 16);
    buffer = allocate(1U << 16);
    for (std::size_t i = 0; i != store.size(); ++i) store[i] = static_cast<std::byte>(i / 512 + 1);
  }
  submission_entry read(std::uint64_t lba, std::size_t at = 0) {
    return with_data(nvm::read({.nsid = 1, .lba = lba}), buffer + at);
  }
  submission_entry write(std::uint64_t lba, std::size_t at = 0) {
    return with_data(nvm::write({.nsid = 1, .lba = lba}), buffer + at);
  }
  void hold_copies() { port.plan().fixed.delay = copy_fate::held; }
  void release_copies() {
    port.plan().fixed.delay = 0;
    port.release_all();
  }
  bus_addr buffer{};
};

}  // namespace

TEST_CASE("a read completes when its data has reached the host, and others go on meanwhile") {
  one_queue m;
  m.hold_copies();
  m.submit(1, m.read(3), 7);
  m.poll(4);
  CHECK(m.port.in_flight() == 1);
  CHECK_FALSE(m.peek(1));
  CHECK(*m.ram.at(m.buffer) == std::byte{0});
  CHECK(m.bounce.available() == 3);
  m.submit(1, nvm::flush(1), 8);
  m.poll(4);
  REQUIRE(m.peek(1));
  CHECK(m.reap(1)->command_id() == 8);
  m.release_copies();
  m.poll();
  REQUIRE(m.peek(1));
  CHECK(m.reap(1)->command_id() == 7);
  CHECK(*m.ram.at(m.buffer) == std::byte{4});
  CHECK(m.bounce.available() == 4);
}

TEST_CASE("a write reaches the media when its data has come from the host") {
  one_queue m;
  m.hold_copies();
  std::memset(m.ram.at(m.buffer), 0x5a, 512);
  m.submit(1, m.write(9), 7);
  m.poll(4);
  CHECK(m.media.submitted() == 0);
  m.release_copies();
  m.poll(3);
  REQUIRE(m.peek(1));
  CHECK(m.reap(1)->status().ok());
  CHECK(m.store[9 * 512] == std::byte{0x5a});
}

TEST_CASE("a copy that fails or is refused ends the command with Data Transfer Error") {
  for (const bool refused : {false, true}) {
    one_queue m;
    m.port.plan().fixed = {.delay = 1, .fails = !refused, .refused = refused};
    CHECK(m.io_code(m.read(1)) == data_transfer_error);
    CHECK(m.io_code(m.write(1)) == data_transfer_error);
    CHECK(m.store[512] == std::byte{2});
    CHECK(m.controller.in_flight() == 0);
    CHECK(m.bounce.available() == 4);
    m.port.plan().fixed = {};
    CHECK(m.io_code(m.read(1)) == success);
  }
}

TEST_CASE("a command whose data comes in several copies ends with the last, whichever failed") {
  for (unsigned failing = 0; failing != 4; ++failing) {
    one_queue m;
    m.port.plan().fixed = {.delay = copy_fate::held, .longest = 128};
    m.submit(1, m.read(1), 7);
    m.poll(3);
    REQUIRE(m.port.in_flight() == 4);
    // They are delivered by two polls.
    m.port.fate(failing).fails = true;
    m.port.fate(0).delay = 0;
    m.port.fate(3).delay = 0;
    m.poll();
    CHECK_FALSE(m.peek(1));
    CHECK(m.bounce.available() == 3);
    m.release_copies();
    m.poll();
    REQUIRE(m.peek(1));
    CHECK(m.reap(1)->status().code() == data_transfer_error);
    CHECK(m.bounce.available() == 4);
  }
}

TEST_CASE("a reset waits for copies in flight, completes nothing and touches nothing afterwards") {
  for (const bool reading : {false, true}) {
    one_queue m;
    m.hold_copies();
    m.submit(1, reading ? m.read(1) : m.write(1), 7);
    m.poll(3);
    REQUIRE(m.port.in_flight() == 1);
    m.controller.write32(cc::offset, 0);
    m.poll(3);
    CHECK(m.ready());
    CHECK_FALSE(m.controller.drained());
    m.release_copies();
    m.poll();
    CHECK_FALSE(m.ready());
    CHECK(m.controller.drained());
    CHECK_FALSE(m.peek(1));
    CHECK(m.bounce.available() == 4);
    CHECK(m.store[512] == std::byte{2});
    std::memset(m.ram.at(m.buffer), 0x11, 4096);
    m.poll(10);
    CHECK(*m.ram.at(m.buffer) == std::byte{0x11});
    m.enable();
    m.create(2, 16);
    CHECK(m.io_code(m.read(2), 2) == success);
  }
}

TEST_CASE("Abort and queue deletion end a command whose data is on the way, once") {
  for (const bool deletion : {false, true}) {
    for (const bool reading : {false, true}) {
      one_queue m;
      m.hold_copies();
      m.submit(1, reading ? m.read(1) : m.write(1), 7);
      m.poll(3);
      REQUIRE(m.port.in_flight() == 1);
      m.submit(0, deletion ? admin::delete_io_sq(1) : admin::abort(1, 7), 1);
      m.poll(3);
      CHECK_FALSE(m.peek(0));
      CHECK_FALSE(m.peek(1));
      m.release_copies();
      m.poll(4);
      REQUIRE(m.peek(1));
      const auto ended = *m.reap(1);
      CHECK(ended.command_id() == 7);
      // A read whose data arrived has ended by itself.
      CHECK(ended.status().code() == (reading    ? success
                                      : deletion ? aborted_queue_deletion
                                                 : abort_requested));
      REQUIRE(m.peek(0));
      CHECK(m.reap(0)->status().ok());
      CHECK(m.store[512] == std::byte{2});
      CHECK_FALSE(m.peek(1));
    }
  }
}

TEST_CASE(
    "random commands over a port that delays, cuts, fails and refuses: each once, data right") {
  std::mt19937_64 random{11};
  for (int round = 0; round != 40; ++round) {
    async_limits limits{.commands = random() % 30 + 2,
                        .segments = 2,
                        .buffers = random() % 6 + 2,
                        .buffer_bytes = random() % 2 == 0 ? 4096U : 8192U};
    far_machine m{limits};
    m.media.plan().random = block::random_media_plan{
        .state = random(), .longest = 3, .busy_one_in = 5, .at_once_one_in = 4};
    m.enable();
    m.create(1, 32);
    const bool faults = round % 2 == 1;
    m.port.plan().random = random_port_plan{.state = random(),
                                            .longest = 6,
                                            .fail_one_in = faults ? 40U : 0U,
                                            .refuse_one_in = faults ? 40U : 0U,
                                            .at_once_one_in = 5,
                                            .cut_one_in = 3};
    constexpr std::size_t slot_bytes = 5 * 4096;
    constexpr unsigned slots = 16;
    const bus_addr data = m.allocate(slots * slot_bytes);
    const bus_addr lists = m.allocate(slots * 4096);
    struct outstanding {
      std::uint64_t lba = 0;
      std::size_t bytes = 0;
      std::size_t offset = 0;
      bool reading = false;
    };
    std::map<std::uint16_t, outstanding> running;
    std::vector<std::byte> expected = m.store;
    unsigned completed = 0;
    while (completed < 400) {
      // Each slot works on its own blocks, so that the order of completions does not matter.
      const auto slot = static_cast<std::uint16_t>(random() % slots);
      if (!running.contains(slot) && running.size() < 15) {
        outstanding o{.lba = slot * 64U + random() % 16,
                      .bytes = (random() % 32 + 1) * 512,
                      .offset = random() % 1024 * 4,
                      .reading = random() % 2 == 0};
        auto e = o.reading ? nvm::read({.nsid = 1,
                                        .lba = o.lba,
                                        .blocks = static_cast<std::uint32_t>(o.bytes / 512)})
                           : nvm::write({.nsid = 1,
                                         .lba = o.lba,
                                         .blocks = static_cast<std::uint32_t>(o.bytes / 512)});
        const bus_addr at = data + slot * slot_bytes + o.offset;
        e.prp1 = at.value();
        const std::size_t first = 4096 - o.offset;
        const bus_addr list = lists + slot * 4096U;
        if (o.bytes > first) e.prp2 = (at + first).value();
        if (o.bytes > first + 4096) {
          e.prp2 = list.value();
          for (std::size_t i = 0; i * 4096 + first < o.bytes; ++i) {
            store_wire(m.ram.bytes(list + i * 8, 8),
                       le<std::uint64_t>{(at + first + i * 4096).value()});
          }
        }
        for (std::size_t i = 0; i != slot_bytes; i += 8) {
          store_wire(m.ram.bytes(data + slot * slot_bytes + i, 8), le<std::uint64_t>{random()});
        }
        m.submit(1, e, slot);
        running[slot] = o;
      }
      m.poll();
      while (const auto c = m.reap(1)) {
        REQUIRE(running.contains(c->command_id()));
        const outstanding o = running[c->command_id()];
        running.erase(c->command_id());
        ++completed;
        std::byte* const host = m.ram.at(data + c->command_id() * slot_bytes) + o.offset;
        const auto blocks = o.lba * 512;
        if (!c->status().ok()) {
          REQUIRE(faults);
          REQUIRE(c->status().code() == data_transfer_error);
          // The contents after a failed write are the reference from here on.
          std::memcpy(expected.data() + blocks, m.store.data() + blocks, o.bytes);
        } else if (o.reading) {
          REQUIRE(std::memcmp(host, expected.data() + blocks, o.bytes) == 0);
        } else {
          std::memcpy(expected.data() + blocks, host, o.bytes);
          REQUIRE(std::memcmp(m.store.data() + blocks, host, o.bytes) == 0);
        }
      }
    }
    for (int turn = 0; turn != 2000 && !running.empty(); ++turn) {
      m.poll();
      while (const auto c = m.reap(1)) running.erase(c->command_id());
    }
    CHECK(running.empty());
    CHECK(m.controller.in_flight() == 0);
    CHECK(m.port.in_flight() == 0);
    CHECK(m.bounce.available() == m.bounce.capacity());
  }
}
