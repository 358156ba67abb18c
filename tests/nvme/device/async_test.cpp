// SPDX-License-Identifier: BSL-1.0
// Media that complete later: order, back-pressure, bounce buffers, and every way in which a command
// can end early.
#include <phasebit/nvme/device/pending_io.hpp>

#include <map>
#include <random>
#include <set>

#include <doctest/doctest.h>
#include <nvme/device/async_host.hpp>

using namespace test_host;

namespace {

using enum status_code;

// A read or write of `blocks` blocks at `where`, with the list in its own page.
template <class Machine>
submission_entry with_pages(Machine& m, submission_entry e, bus_addr where, std::size_t bytes,
                            bus_addr list) {
  e.prp1 = where.value();
  const std::size_t first = 4096 - (where.value() & 4095);
  if (bytes > first + 4096) {
    e.prp2 = list.value();
    for (std::size_t i = 0; i * 4096 + first < bytes; ++i) {
      store_wire(m.ram.bytes(list + i * 8, 8),
                 le<std::uint64_t>{(where + first + i * 4096).value()});
    }
  } else if (bytes > first) {
    e.prp2 = (where + first).value();
  }
  return e;
}

struct one_queue : async_machine<> {
  explicit one_queue(const async_limits& l = {}) : async_machine<>(l) {
    enable();
    create(1, 16);
    buffer = allocate(1U << 16);
  }
  submission_entry read(std::uint64_t lba, std::size_t at = 0) {
    return with_data(nvm::read({.nsid = 1, .lba = lba}), buffer + at);
  }
  std::vector<unsigned> reap_ids(std::uint16_t qid = 1) {
    std::vector<unsigned> ids;
    while (const auto c = reap(qid)) {
      CHECK(c->status().ok());
      ids.push_back(c->command_id());
    }
    return ids;
  }
  bus_addr buffer{};
};

}  // namespace

TEST_CASE("commands complete in the order of the media, and fetching goes on meanwhile") {
  one_queue m;
  m.hold();
  for (std::uint16_t i = 0; i != 5; ++i) m.submit(1, m.read(i, i * 512U), i);
  m.poll();
  CHECK(m.media.in_flight() == 5);
  CHECK_FALSE(m.peek(1));
  m.store[3 * 512] = std::byte{0x77};
  m.media.release(3);
  m.poll();
  CHECK(m.reap_ids() == std::vector<unsigned>{3});
  CHECK(m.ram.at(m.buffer)[3 * 512] == std::byte{0x77});
  m.submit(1, nvm::flush(3), 9);
  m.poll(2);
  CHECK(m.reap_ids() == std::vector<unsigned>{9});
  m.media.release(1);
  m.poll();
  CHECK(m.reap_ids() == std::vector<unsigned>{1});
  m.go();
  m.poll();
  CHECK(m.reap_ids().size() == 3);
  CHECK(m.controller.in_flight() == 0);
  CHECK(m.pairs[1].tail == 6);
}

TEST_CASE("every kind of command gives what it gives over media that are done at once") {
  std::mt19937 random{5};
  for (const auto& limits :
       {async_limits{}, async_limits{.commands = 3, .segments = 1, .buffers = 2},
        async_limits{.segments = 2, .buffers = 3, .buffer_bytes = 4096},
        async_limits{.buffers = 2, .buffer_bytes = 4096, .domain = memory_domain{5}}}) {
    for (const std::uint32_t block_size : {512U, 4096U}) {
      async_machine<> m{limits, machine<>::small(), block_size};
      m.media.set_reachable(limits.domain);
      m.media.plan().random =
          block::random_media_plan{.state = static_cast<std::uint64_t>(random()),
                                   .longest = 3,
                                   .busy_one_in = 4,
                                   .at_once_one_in = 5};
      machine<> oracle{machine<>::small(), block_size};
      m.enable();
      m.create(1, 16);
      oracle.enable();
      oracle.create(1, 16);
      const bus_addr data = m.allocate(1U << 18);
      const bus_addr list = m.page();
      REQUIRE(oracle.allocate(1U << 18) == data);
      REQUIRE(oracle.page() == list);
      for (std::size_t i = 0; i != m.store.size(); ++i) {
        m.store[i] = oracle.store[i] = static_cast<std::byte>(random());
      }
      for (std::size_t i = 0; i != 1U << 18; i += 8) {
        m.ram.at(data)[i] = oracle.ram.at(data)[i] = static_cast<std::byte>(random());
      }
      const std::uint64_t count = m.store.size() / block_size;
      for (int round = 0; round != 300; ++round) {
        const auto blocks =
            static_cast<std::uint32_t>(random() % (block_size == 512 ? 60 : 20) + 1);
        const std::uint64_t lba = random() % (count - blocks + 2);
        const bus_addr at =
            data + random() % 3 * 4096 + (random() % 2 == 0 ? 0 : random() % 1024 * 4);
        const block_range range{.nsid = 1, .lba = lba, .blocks = blocks, .fua = random() % 4 == 0};
        submission_entry e{};
        bool to_host = false;
        switch (random() % 8) {
          case 0:
          case 1:
            e = nvm::write(range);
            break;
          case 2:
          case 3:
            e = nvm::read(range);
            to_host = true;
            break;
          case 4:
            e = nvm::compare(range);
            break;
          case 5:
            e = random() % 2 == 0 ? nvm::verify(range) : nvm::write_zeroes(range);
            break;
          case 6: {
            const auto ranges = static_cast<std::uint32_t>(random() % 4 + 1);
            for (std::uint32_t i = 0; i != ranges; ++i) {
              auto r =
                  copy_range::of(random() % count, static_cast<std::uint32_t>(random() % 40 + 1));
              store_wire(m.ram.bytes(at + i * 32, 32), r);
              store_wire(oracle.ram.bytes(at + i * 32, 32), r);
            }
            e = nvm::copy({.nsid = 1, .lba = lba, .ranges = ranges, .fua = range.fua});
            break;
          }
          default: {
            const auto ranges = static_cast<std::uint32_t>(random() % 4 + 1);
            for (std::uint32_t i = 0; i != ranges; ++i) {
              const dataset_range r{.context = {},
                                    .blocks = static_cast<std::uint32_t>(random() % 9),
                                    .lba = random() % (count - 7)};
              store_wire(m.ram.bytes(at + i * 16, 16), r);
              store_wire(oracle.ram.bytes(at + i * 16, 16), r);
            }
            e = nvm::dataset_management({.nsid = 1, .ranges = ranges, .deallocate = true});
            break;
          }
        }
        const std::size_t bytes = std::size_t{blocks} * block_size;
        const auto expected = oracle.run(1, with_pages(oracle, e, at, bytes, list));
        m.submit(1, with_pages(m, e, at, bytes, list), 7);
        std::optional<completion_entry> got;
        for (int turn = 0; turn != 3000 && !got; ++turn) {
          m.poll();
          got = m.reap(1);
        }
        REQUIRE(got);
        CAPTURE(static_cast<int>(e.opcode()));
        CAPTURE(round);
        REQUIRE(got->status() == expected.status());
        REQUIRE(got->dw0 == expected.dw0);
        REQUIRE(m.store == oracle.store);
        if (to_host) {
          REQUIRE(std::memcmp(m.ram.at(data), oracle.ram.at(data), 1U << 18) == 0);
        }
      }
      CHECK(m.controller.in_flight() == 0);
      CHECK(m.bounce.available() == m.bounce.capacity());
    }
  }
}

TEST_CASE("media that reach the host's memory move data without a bounce buffer") {
  one_queue m{{.segments = 2, .buffers = 2}};
  m.hold();
  m.submit(1, m.read(0), 1);
  m.poll();
  REQUIRE(m.media.in_flight() == 1);
  CHECK(m.bounce.available() == 2);
  CHECK(m.media.in_flight(0)->request.segments[0].local().data() == m.ram.at(m.buffer));
  m.media.set_reachable(memory_domain{3});
  m.submit(1, m.read(1), 2);
  m.poll();
  CHECK(m.bounce.available() == 1);
  m.go();
  m.poll();
  CHECK(m.bounce.available() == 2);
  CHECK(m.reap_ids().size() == 2);
}

TEST_CASE("an empty pool of bounce buffers is back-pressure in order, not failure") {
  one_queue m{{.segments = 2, .buffers = 2, .domain = memory_domain{3}}};
  m.media.set_reachable(memory_domain{3});
  m.hold();
  for (std::uint16_t i = 0; i != 4; ++i) m.submit(1, m.read(i, i * 512U), i);
  // Two buffers are taken; a Copy that needs both waits before the reads that came later.
  store_wire(m.ram.bytes(m.buffer + 8192, 32), copy_range::of(3, 1));
  m.submit(1, with_data(nvm::copy({.nsid = 1, .lba = 9}), m.buffer + 8192), 4);
  m.submit(1, m.read(5, 5 * 512), 5);
  m.poll();
  CHECK(m.media.in_flight() == 2);
  CHECK(m.controller.in_flight() == 6);
  std::vector<unsigned> order;
  for (int turn = 0; turn != 40; ++turn) {
    m.media.release(0);
    m.poll();
    for (const unsigned id : m.reap_ids()) order.push_back(id);
  }
  CHECK(order == std::vector<unsigned>{0, 1, 2, 3, 4, 5});
  CHECK(m.bounce.available() == 2);
}

TEST_CASE("commands that find no place in the table stay in their ring") {
  one_queue m{{.commands = 3}};
  m.hold();
  for (std::uint16_t i = 0; i != 10; ++i) m.submit(1, m.read(i), i);
  m.poll(3);
  CHECK(m.media.in_flight() == 3);
  m.media.release(1);
  m.poll();
  CHECK(m.media.in_flight() == 3);
  const auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 1);
  CHECK(c->sq_head == 3);
  m.go();
  m.poll(8);
  CHECK(m.reap_ids().size() == 9);
}

TEST_CASE("no more commands are in flight than the completion queue has slots for") {
  async_machine<> m;
  m.enable();
  const bus_addr sq = m.page();
  const bus_addr cq = m.page();
  REQUIRE(m.admin_code(admin::create_io_cq({.qid = 1, .entries = 4, .memory = cq})) == success);
  REQUIRE(m.admin_code(admin::create_io_sq({.qid = 1, .entries = 16, .memory = sq, .cqid = 1})) ==
          success);
  m.pairs[1] = {.id = 1, .sq = sq, .cq = cq, .depth = 16};
  m.hold();
  for (std::uint16_t i = 0; i != 8; ++i) m.push(1, nvm::flush(1), i);
  m.ring_tail(1, 8);
  m.pairs[1].depth = 4;
  m.poll(2);
  CHECK(m.media.in_flight() == 3);
  // Two completions and one in flight: still three.
  m.media.release(0);
  m.media.release(1);
  m.poll(2);
  CHECK(m.media.in_flight() == 1);
  CHECK(m.reap(1)->command_id() == 0);
  m.poll();
  CHECK(m.media.in_flight() == 2);
  m.go();
  std::set<unsigned> ids;
  for (int turn = 0; turn != 12; ++turn) {
    m.poll();
    while (const auto c = m.reap(1)) ids.insert(c->command_id());
  }
  CHECK(ids.size() == 7);
}

TEST_CASE("CSTS.RDY stays 1 until no media operation can touch the host's memory") {
  one_queue m;
  m.hold_firmly();
  m.submit(1, m.read(0), 1);
  m.poll();
  m.store[0] = std::byte{0x5a};
  m.controller.write32(cc::offset, 0);
  CHECK(m.ready());
  CHECK_FALSE(m.controller.drained());
  m.poll(3);
  CHECK(m.ready());
  // The host may not reuse the buffer yet, and the late read lands in it.
  m.go();
  m.poll();
  CHECK(m.ram.at(m.buffer)[0] == std::byte{0x5a});
  CHECK_FALSE(m.ready());
  CHECK(m.controller.drained());
  CHECK(m.reg<csts>().raw == 0);
  CHECK_FALSE(m.peek(1));
  m.media.plan().fixed = {};
  m.enable();
  m.create(1, 16);
  CHECK(m.io_code(m.read(0)) == success);
}

TEST_CASE("a reset cancels what the media can cancel, and posts nothing for it") {
  one_queue m;
  m.hold();
  for (std::uint16_t i = 0; i != 6; ++i) m.submit(1, m.read(i), i);
  m.poll();
  std::memset(m.store.data(), 0x11, 4096);
  m.controller.write32(cc::offset, 0);
  CHECK(m.ready());
  m.poll();
  CHECK_FALSE(m.ready());
  CHECK(m.ram.at(m.buffer)[0] == std::byte{0});
  CHECK_FALSE(m.peek(1));
  for (const auto w : m.words) CHECK(w == 0);
}

TEST_CASE("CC.EN that is set while the reset drains is remembered, with its configuration") {
  one_queue m;
  m.hold_firmly();
  m.submit(1, m.read(0), 1);
  m.poll();
  m.controller.write32(cc::offset, 0);
  const auto again = m.enabled_cc().with(cc::mps, 1);
  m.controller.write32(cc::offset, again.raw);
  m.poll();
  CHECK(m.ready());
  // Nothing is fetched after the host has reset the controller.
  m.ring_tail(0, 1);
  m.poll();
  CHECK_FALSE(m.controller.drained());
  m.go();
  m.poll();
  CHECK(m.reg<csts>() == csts{}.with(csts::rdy, true));
  CHECK(m.reg<cc>() == again);
  m.pairs[1] = {};
  CHECK(m.controller.in_flight() == 0);
}

TEST_CASE("media that never answer a reset are a fatal status with RDY = 1, until they do") {
  one_queue m;
  m.hold_firmly();
  m.submit(1, m.read(0), 1);
  m.poll();
  m.controller.write32(cc::offset, 0);
  m.controller.advance(m.config.drain_limit_ms);
  CHECK_FALSE(m.reg<csts>()[csts::cfs]);
  m.controller.advance(1);
  CHECK(m.reg<csts>()[csts::cfs]);
  CHECK(m.ready());
  m.go();
  m.poll();
  CHECK(m.reg<csts>().raw == 0);
}

TEST_CASE("a function-level reset is drained before the host may go on") {
  one_queue m;
  m.hold_firmly();
  m.submit(1, m.read(0), 1);
  m.poll();
  const bus_addr old_cq = m.pairs[1].cq;
  m.controller.reset();
  CHECK(m.reg<csts>().raw == 0);
  CHECK_FALSE(m.controller.drained());
  // A host that does not wait is not served meanwhile.
  m.enable();
  CHECK_FALSE(m.ready());
  m.go();
  m.poll();
  CHECK(m.controller.drained());
  CHECK(m.ready());
  CHECK(m.admin_code(admin::keep_alive()) == success);
  CHECK(load_wire<completion_entry>(m.ram.bytes(old_cq, 16)).dw3 == 0);
}

TEST_CASE("Delete SQ ends when the commands of its queue have, and cancels those it can") {
  one_queue m;
  m.create(2, 8);
  m.hold();
  m.submit(1, m.read(0), 1);
  m.submit(1, m.read(1), 2);
  m.submit(2, m.read(2), 3);
  m.poll();
  m.hold_firmly();
  m.submit(1, m.read(3), 4);
  m.poll();
  m.submit(0, admin::delete_io_sq(1), 100);
  m.poll(2);
  CHECK_FALSE(m.peek(0));
  std::map<unsigned, status_code> ended;
  while (const auto c = m.reap(1)) ended[c->command_id()] = c->status().code();
  CHECK(ended ==
        std::map<unsigned, status_code>{{1, aborted_queue_deletion}, {2, aborted_queue_deletion}});
  // Other admin commands go on; the queue is neither there nor free.
  CHECK(m.admin_code(admin::keep_alive()) == success);
  CHECK(m.admin_code(admin::delete_io_sq(1)) == invalid_queue_id);
  CHECK(m.admin_code(admin::delete_io_cq(1)) == invalid_queue_deletion);
  CHECK(m.admin_code(admin::create_io_sq(
            {.qid = 1, .entries = 8, .memory = m.pairs[1].sq, .cqid = 1})) == invalid_queue_id);
  // Commands that were submitted and not fetched are dropped without a completion.
  m.submit(1, m.read(5), 5);
  m.poll();
  CHECK(m.media.in_flight() == 2);
  REQUIRE(m.media.release(1));
  m.poll();
  const auto last = m.reap(1);
  REQUIRE(last);
  CHECK(last->command_id() == 4);
  CHECK(last->status().ok());
  m.poll();
  const auto deleted = m.reap(0);
  REQUIRE(deleted);
  CHECK(deleted->command_id() == 100);
  CHECK(deleted->status().ok());
  CHECK(m.admin_code(admin::delete_io_cq(1)) == success);
  CHECK(m.media.in_flight() == 1);
  m.go();
  m.poll();
  CHECK(m.reap(2)->command_id() == 3);
}

TEST_CASE("Abort ends after the command that it names, and reports what became of it") {
  one_queue m;
  m.hold();
  m.submit(1, m.read(0), 1);
  m.submit(1, m.read(1), 2);
  m.poll();
  // Cancelled by the media: both commands end in one go.
  CHECK(m.admin(admin::abort(1, 1)).dw0 == 0);
  auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 1);
  CHECK(c->status() == abort_requested);
  // An id that is not in flight, and one that has ended.
  CHECK(m.admin(admin::abort(1, 77)).dw0 == 1);
  CHECK(m.admin(admin::abort(1, 1)).dw0 == 1);
  // Media that go on: the Abort waits, and then reports "not aborted".
  m.hold_firmly();
  m.submit(1, m.read(2), 3);
  m.poll();
  m.submit(0, admin::abort(1, 3), 50);
  m.poll(3);
  CHECK_FALSE(m.peek(0));
  REQUIRE(m.media.release(1));
  m.poll();
  c = m.reap(1);
  REQUIRE(c);
  CHECK(c->status().ok());
  m.poll();
  c = m.reap(0);
  REQUIRE(c);
  CHECK(c->command_id() == 50);
  CHECK(c->dw0 == 1);
  m.go();
  m.poll();
  CHECK(m.reap(1)->command_id() == 2);
}

TEST_CASE("more Aborts than ACL allows are refused, and none is lost") {
  one_queue m;
  m.hold_firmly();
  for (std::uint16_t i = 0; i != 6; ++i) m.submit(1, m.read(i), i);
  m.poll();
  for (std::uint16_t i = 0; i != 6; ++i) m.submit(0, admin::abort(1, i), 100 + i);
  m.poll(2);
  for (std::uint16_t i = 4; i != 6; ++i) {
    const auto c = m.reap(0);
    REQUIRE(c);
    CHECK(c->command_id() == 100 + i);
    CHECK(c->status() == abort_limit_exceeded);
  }
  CHECK_FALSE(m.peek(0));
  m.go();
  m.poll(2);
  for (int i = 0; i != 4; ++i) REQUIRE(m.reap(0));
  CHECK(m.reap_ids().size() == 6);
}

TEST_CASE("a command that waits for a buffer is aborted at once") {
  one_queue m{{.buffers = 2, .domain = memory_domain{3}}};
  m.media.set_reachable(memory_domain{3});
  m.hold_firmly();
  for (std::uint16_t i = 0; i != 4; ++i) m.submit(1, m.read(i), i);
  m.poll();
  CHECK(m.media.in_flight() == 2);
  CHECK(m.admin(admin::abort(1, 2)).dw0 == 0);
  const auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->command_id() == 2);
  CHECK(c->status() == abort_requested);
  m.go();
  m.poll(4);
  CHECK(m.reap_ids() == std::vector<unsigned>{0, 1, 3});
  CHECK(m.bounce.available() == 2);
}

TEST_CASE("a normal shutdown completes what is in flight, then flushes, then reports it") {
  one_queue m;
  m.hold_firmly();
  m.submit(1, m.read(0), 1);
  m.poll();
  m.controller.write32(cc::offset, m.enabled_cc().with(cc::shn, shutdown_notification::normal).raw);
  CHECK(m.reg<csts>()[csts::shst] == shutdown_status::occurring);
  m.submit(1, m.read(1), 2);
  m.poll(2);
  CHECK(m.media.flushes() == 0);
  CHECK(m.media.submitted() == 1);
  m.other.plan().fixed = {.delay = block::media_fate::held};
  m.go();
  m.poll(3);
  CHECK(m.reap_ids() == std::vector<unsigned>{1});
  CHECK(m.media.flushes() == 1);
  CHECK(m.other.in_flight() == 1);
  CHECK(m.reg<csts>()[csts::shst] == shutdown_status::occurring);
  m.other.release_all();
  m.poll(2);
  CHECK(m.other.flushes() == 1);
  CHECK(m.reg<csts>()[csts::shst] == shutdown_status::complete);
  CHECK(m.ready());
  m.controller.write32(cc::offset, 0);
  CHECK_FALSE(m.ready());
}

TEST_CASE("a reset during the flush of a shutdown drains the flush, too") {
  one_queue m;
  m.hold_firmly();
  m.controller.write32(cc::offset, m.enabled_cc().with(cc::shn, shutdown_notification::abrupt).raw);
  CHECK(m.media.in_flight() == 1);
  m.controller.write32(cc::offset, 0);
  CHECK(m.ready());
  m.poll();
  CHECK(m.ready());
  m.go();
  m.poll();
  CHECK_FALSE(m.ready());
  m.enable();
  CHECK(m.admin_code(admin::keep_alive()) == success);
}

TEST_CASE("a namespace is hidden, drained and removed, and others go on") {
  one_queue m;
  m.hold();
  m.other.plan().fixed = {.delay = block::media_fate::held, .ignores_cancel = true};
  m.submit(1, m.read(0), 1);
  m.submit(1, with_data(nvm::read({.nsid = 3}), m.buffer), 2);
  m.submit(1, with_data(nvm::read({.nsid = 3}), m.buffer), 3);
  m.poll();
  m.spaces.hide(3);
  m.controller.namespace_changed(3);
  CHECK(m.controller.in_flight(3));
  CHECK(m.io_code(with_data(nvm::read({.nsid = 3}), m.buffer)) == invalid_field);
  CHECK(m.controller.in_flight(3));
  m.other.release(0);
  m.poll();
  CHECK(m.reap_ids() == std::vector<unsigned>{2});
  m.other.plan().fixed = {};
  m.other.release_all();
  m.poll();
  CHECK(m.reap_ids() == std::vector<unsigned>{3});
  CHECK_FALSE(m.controller.in_flight(3));
  m.spaces.detach(3);
  m.go();
  m.poll();
  CHECK(m.reap_ids() == std::vector<unsigned>{1});
}

TEST_CASE("forced unit access and a disabled cache reach the media with each write") {
  one_queue m;
  const auto write = [&](bool fua) {
    return m.io_code(with_data(nvm::write({.nsid = 1, .fua = fua}), m.buffer));
  };
  CHECK(write(false) == success);
  CHECK(m.media.forced_writes() == 0);
  CHECK(write(true) == success);
  CHECK(m.media.forced_writes() == 1);
  REQUIRE(m.admin_code(admin::set_features(
              {.fid = feature_id::volatile_write_cache, .cdw11 = 0})) == success);
  CHECK(write(false) == success);
  CHECK(m.media.forced_writes() == 2);
  CHECK(m.io_code(nvm::write_zeroes({.nsid = 1})) == success);
  CHECK(m.media.forced_writes() == 3);
}

TEST_CASE("media failures become statuses, and a Copy names the range that failed") {
  one_queue m;
  m.media.plan().fixed = {.status = block::media_status::read_failed};
  CHECK(m.io_code(m.read(0)) == unrecovered_read_error);
  CHECK(m.io_code(nvm::flush(all_namespaces)) == unrecovered_read_error);
  m.media.plan().fixed = {.status = block::media_status::no_space};
  CHECK(m.io_code(with_data(nvm::write({.nsid = 1}), m.buffer)) == capacity_exceeded);
  m.media.plan().fixed = {.status = block::media_status::not_supported};
  const dataset_range trimmed{.context = {}, .blocks = std::uint32_t{4}, .lba = std::uint64_t{0}};
  store_wire(m.ram.bytes(m.buffer, 16), trimmed);
  CHECK(m.io_code(with_data(nvm::dataset_management({.nsid = 1, .deallocate = true}), m.buffer)) ==
        success);
  m.media.plan().fixed = {.delay = block::media_fate::held};
  store_wire(m.ram.bytes(m.buffer, 32), copy_range::of(0, 1));
  store_wire(m.ram.bytes(m.buffer + 32, 32), copy_range::of(4, 1));
  m.submit(1, with_data(nvm::copy({.nsid = 1, .lba = 20, .ranges = 2}), m.buffer), 1);
  m.poll();
  for (int step = 0; step != 2; ++step) {
    REQUIRE(m.media.release(0));
    m.poll();
  }
  REQUIRE(m.media.release(0, block::media_status::read_failed));
  m.poll();
  const auto c = m.reap(1);
  REQUIRE(c);
  CHECK(c->status() == unrecovered_read_error);
  CHECK(c->dw0 == 1);
  CHECK(m.bounce.available() == m.bounce.capacity());
}
