// SPDX-License-Identifier: BSL-1.0
// Bounds, second looks and orders of two steps, each left out once (weaken.py): under every memory model an
// execution fails without it, and its trace is printed.
#include <phasebit/iommu/riscv/command_codec.hpp>
#include <phasebit/iommu/smmuv3/command_codec.hpp>

#include <algorithm>
#include <iterator>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <model/command_rings.hpp>
#include <model/hosted_mailboxes.hpp>
#include <model/hostile_chains.hpp>
#include <model/hostile_controllers.hpp>
#include <model/hostile_virtqueues.hpp>
#include <model/inflight_records.hpp>
#include <model/mutants.hpp>
#include <model/page_tables.hpp>
#include <model/pending_commands.hpp>
#include <model/shadow_pair.hpp>
#include <model/shared_state.hpp>
#include <model/threaded_medias.hpp>
#include <model/virtqueues.hpp>
#include <weaknesses.hpp>

using namespace model;

namespace {

using phasebit::testing::weakness;
using phasebit::testing::weaknesses;

std::set<std::string>& tried() {
  static std::set<std::string> names;
  return names;
}

// The program holds, and fails under every model with the fault.
template <class Program>
void caught(const std::string& name, Program program, caught_by expected = all_of_them,
            options wanted = {}) {
  const auto found = std::find(std::begin(weaknesses), std::end(weaknesses), name);
  REQUIRE_MESSAGE(found != std::end(weaknesses), name);
  tried().insert(name);
  const std::array<bool, 4> by = {expected.cpp20, expected.x86, expected.arm, expected.riscv};
  std::string trace;
  for (std::size_t i = 0; i != by.size(); ++i) {
    wanted.model = all_models[i];
    weakness = -1;
    if (i == 0) {
      const report whole = explorer::explore(wanted, program);
      INFO(name, ", not weakened: ", whole.text());
      CHECK(whole.passed());
    }
    weakness = static_cast<int>(found - std::begin(weaknesses));
    const report r = explorer::explore(wanted, program);
    weakness = -1;
    const std::string what = name + " under " + explorer::name_of(wanted.model) + ": " + r.text();
    INFO(what);
    CHECK(r.truncated.empty());
    CHECK(r.failure.has_value() == by[i]);
    if (r.failure && trace.empty()) trace = r.failure->text();
    // A descriptor behind the table of a split queue lies where the index is.
    const bool overlaps = name == "split driver: no more buffers than descriptors";
    CHECK((overlaps || !r.failure || r.failure->kind != explorer::failure_kind::misuse));
  }
  MESSAGE(name << ": caught without it\n" << trace);
}

using device = explorer::device_order;

// A driver that writes a doorbell that it may not, behind one that it may.
auto hostile_doorbells() {
  return [](program& p) {
    const nvme_memory memory{p, 3};
    p.thread("driver", [memory] {
      explorer::register_doorbell tail{(*memory.doorbells)[0]};
      explorer::register_doorbell head{(*memory.doorbells)[1]};
      for (std::uint32_t i = 0; i != 2; ++i) {
        nvme::submission_entry command{};
        command.cdw10 = i;
        memory.submission[i] = command;
      }
      tail.ring(2);
      switch (choose(4)) {
        case 0:
          return tail.ring(3);
        case 1:
          return tail.ring(0);
        case 2:
          return head.ring(2);
        default:
          return head.ring(3);
      }
    });
    p.service("controller", [memory] {
      nvme_controller<device> controller{memory};
      auto look = [&] {
        const auto& sq = controller.sq();
        const auto& cq = controller.cq();
        const auto waiting = (sq.tail + sq.entries - sq.head) % sq.entries;
        const auto used = cq.used();
        controller.look_at_tail();
        controller.look_at_head();
        check(sq.tail < sq.entries && cq.head < cq.entries, "indices lie within their rings");
        check((sq.tail + sq.entries - sq.head) % sq.entries >= waiting,
              "a published entry stays published");
        check(cq.used() <= used, "no completion is read before it is posted");
      };
      await([&] {
        controller.look_at_tail();
        return !controller.sq().empty();
      });
      look();
      for (int i = 0; i != 2; ++i) {
        if (controller.sq().empty() || controller.cq().full()) break;
        controller.complete_one();
        look();
      }
    });
  };
}

// A CQ head that is the number of entries, while the whole queue is used.
auto head_at_the_end() {
  return [](program& p) {
    const nvme_memory memory{p, 4, 3};
    p.thread("driver", [memory] {
      nvme::driver::submission_queue sq{memory.submission,
                                        explorer::register_doorbell{(*memory.doorbells)[0]}};
      explorer::register_doorbell head{(*memory.doorbells)[1]};
      for (std::uint32_t i = 0; i != 3; ++i) sq.push({});
      sq.ring();
      await([&] {
        return nvme::completion_dw3{device::load(memory.completion[0].dw3).get()}.phase();
      });
      head.ring(1);
      await([&] {
        return nvme::completion_dw3{device::load(memory.completion[2].dw3).get()}.phase();
      });
      head.ring(3);
    });
    p.service("controller", [memory] {
      nvme_controller<device> controller{memory};
      auto look = [&] {
        controller.look_at_head();
        check(controller.cq().head < 3, "the head lies within the ring");
      };
      await([&] { return controller.update_tail(); });
      for (int i = 0; i != 3; ++i) {
        await([&] {
          look();
          return !controller.cq().full();
        });
        controller.complete_one();
      }
      look();
    });
  };
}

template <class Order>
auto hostile_head() {
  return [](program& p) {
    auto* const ring = p.uninitialised<std::array<std::byte, 64>>(1);
    auto& words = p.make<unit_words>();
    p.thread("driver", [=, &words] {
      const iommu::riscv::command_codec codec{};
      iommu::command_producer<iommu::riscv::command_codec, Order, explorer::register_doorbell,
                              head_register<Order>>
          producer{codec,
                   std::span{ring->data(), ring->size()},
                   explorer::register_doorbell{words.tail},
                   head_register<Order>{&words.head},
                   {reinterpret_cast<phasebit::le<std::uint32_t>*>(&words.completion),
                    reinterpret_cast<std::uintptr_t>(&words.completion)}};
      static_cast<void>(producer.post(iommu::command::whole_domain(0)));
      producer.submit();
      await([&] {
        const bool moved = producer.available(3) == 3;
        return moved || !producer.health();
      });
      check(!producer.health(), "a head beyond the tail is a fault of the IOMMU");
    });
    p.service("IOMMU", [&words] {
      await([&] { return Order::load(words.tail) != 0; });
      Order::store(words.head, 2U);
    });
  };
}
template <class Order>
auto hostile_tail() {
  return [](program& p) {
    const iommu::smmuv3::command_codec codec{};
    auto* const ring = p.uninitialised<std::array<std::byte, 32>>(1);
    auto& words = p.make<unit_words>();
    p.thread("IOMMU", [=, &words] {
      same_address<phasebit::host_space> memory;
      unit_handler<Order> handler{&memory, &words};
      iommu::command_consumer<iommu::smmuv3::command_codec, Order,
                              same_address<phasebit::host_space>>
          consumer{codec, memory};
      consumer.enable(phasebit::host_phys{reinterpret_cast<std::uintptr_t>(ring)}, 2);
      await([&] {
        const auto tail = Order::load(words.tail);
        if (tail != 0) consumer.write_tail(tail);
        return tail != 0;
      });
      consumer.poll(handler);
      check(consumer.stopped(), "a tail beyond the ring stops the queue");
    });
    p.service("driver", [&words] { explorer::register_doorbell{words.tail}.ring(3); });
  };
}
// A driver that waits for the low half of a completion word and uses both.
template <class Order>
auto wide_completion() {
  return [](program& p) {
    auto& words = p.make<std::array<phasebit::le<std::uint32_t>, 4>>();
    p.thread("driver", [&words] {
      await([&] { return Order::load(words[0]) == 1; });
      Order::after_load();
      check(words[1] == 2, "the high half is there with the low one");
    });
    p.thread("IOMMU", [&words] {
      same_address<phasebit::host_space> memory;
      check(iommu::store_completion<Order>(memory, reinterpret_cast<std::uintptr_t>(words.data()),
                                           0x2'0000'0001, 8),
            "the word is mapped");
    });
  };
}

}  // namespace

TEST_CASE("NVMe queues without a bound or with two steps turned around") {
  const nvme_setup one{2, 4, 1, false, false};
  const nvme_setup two{3, 5, 2, false, false};
  caught("NVMe driver: one place of the ring stays free", nvme_pair<device>({3, 5, 3}));
  caught("NVMe driver: the phase flips at the ring's end", nvme_pair<device>(one));
  caught("NVMe driver: the tail wraps at the ring's end", nvme_pair<device>(two));
  caught("NVMe driver: phase before entry", nvme_pair<device>(two));
  caught("NVMe driver: entry before SQ tail", nvme_pair<device>(two));
  caught("NVMe controller: the CQ is full", nvme_short_completion_queue<device>(4, 2));
  caught("NVMe controller: the phase flips at the ring's end", nvme_pair<device>(one));
  caught("NVMe controller: result before phase", nvme_pair<device>(two));
  for (const char* const name : {"NVMe controller: SQ tail within the ring",
                                 "NVMe controller: SQ tail does not pass the head",
                                 "NVMe controller: CQ head does not pass the tail"}) {
    caught(name, hostile_doorbells());
  }
  caught("NVMe controller: CQ head within the ring", head_at_the_end());
}

TEST_CASE("commands in flight without a bound, or ended too early") {
  const pending_setup abort{then_does::abort_first, 1};
  const options larger{.arena_bytes = 32768};
  caught("commands in flight: a tag names one use of an entry",
         pending_commands<device>({then_does::nothing, 2, 4, 2, 1, true, true}), all_of_them,
         larger);
  caught("commands in flight: a cancelled operation ends when it is delivered",
         pending_commands<device>(abort), all_of_them, larger);
  caught("commands in flight: each has a place in the CQ",
         pending_commands<device>({then_does::nothing, 3, 2, 3, 3}), all_of_them, larger);
  caught("commands in flight: no more than the table holds",
         pending_commands<device>({then_does::nothing, 2, 4, 2, 1}), all_of_them, larger);
  caught("reset: RDY waits for the media", pending_commands<device>({then_does::reset, 1}),
         all_of_them, larger);
  caught("Abort: completes behind its command", pending_commands<device>(abort), all_of_them,
         larger);
  caught("Abort: reports the outcome of its command", pending_commands<device>(abort), all_of_them,
         larger);
}

TEST_CASE("identifiers without a bound") {
  caught("NVMe driver: an identifier is in flight", hostile_controller<device>());
  caught("NVMe driver: the command's doorbell was rung", completion_before_doorbell<device>());
  caught("tag pool: laps distinguish identifiers", late_completion<device>());
  caught("tag pool: slots in use are passed over", kept_command<device>(5));
  caught("tag pool: a released identifier is free", hostile_controller<device>());
  caught("tag pool: FFFFh is passed over", identifiers_wrap<device>(4));
}

TEST_CASE("shadow doorbells with two steps turned around") {
  const nvme_setup setup{4, 3, 3, true, false};
  for (const char* const name : {"shadow doorbell, controller: event index before second look",
                                 "shadow doorbell, driver: shadow before event index",
                                 "shadow doorbell, driver: shadow before register",
                                 "event index: the step from the index itself counts"}) {
    caught(name, shadow_pair<device>(setup));
  }
}

TEST_CASE("split virtqueues without a bound, a second look, or with two steps turned around") {
  const auto asleep =
      virtqueue_pair<split, device>({2, 2, virtio::feature::event_idx, false, true});
  const auto polled = virtqueue_pair<split, device>({2, 4, 0, false, false});
  caught("split driver: no more buffers than descriptors", polled);
  caught("split driver: entry before index", polled);
  caught("split device: used entry before index", polled);
  caught("split driver: index before event index", asleep);
  caught("split driver: second look before it sleeps", asleep);
  caught("split device: index before event index", asleep);
  caught("split device: second look before it sleeps", asleep);
  for (const char* const name :
       {"split driver: used index within what was published",
        "split driver: used id within the queue", "split driver: used id is in flight",
        "split driver: length within the buffer"}) {
    caught(name, hostile_device<split, device>());
  }
  for (const char* const name :
       {"split device: no more buffers than the queue has entries",
        "split device: head within the table", "split device: head is not in flight",
        "split device: next within the table", "split device: a chain ends"}) {
    caught(name, hostile_driver<split, device>());
  }
}

TEST_CASE("packed virtqueues without a bound, a second look, or with two steps turned around") {
  const auto asleep =
      virtqueue_pair<packed, device>({2, 2, virtio::feature::event_idx, false, true});
  const auto polled = virtqueue_pair<packed, device>({2, 4, 0, false, false});
  // Descriptors that the device skips look available in the next lap, but for the wrap counter.
  caught("packed: the wrap counter flips at the ring's end",
         virtqueue_pair<packed, device>({3, 3, 0, false, false, true}));
  caught("packed driver: no more buffers than descriptors", polled);
  caught("packed driver: first descriptor's flags last",
         virtqueue_pair<packed, device>({2, 3, 0, false, false, true}));
  caught("packed device: first descriptor's flags last",
         virtqueue_pair<packed, device>({2, 4, 0, false, false, false, 2}));
  caught("packed driver: flags before event structure", asleep);
  caught("packed driver: second look before it sleeps", asleep);
  caught("packed device: flags before event structure", asleep);
  caught("packed device: second look before it sleeps", asleep);
  for (const char* const name :
       {"packed driver: used id within the queue", "packed driver: used id is in flight",
        "packed driver: length within the buffer"}) {
    caught(name, hostile_device<packed, device>());
  }
  for (const char* const name :
       {"packed device: a chain within the free descriptors", "packed device: id within the queue",
        "packed device: id is not in flight", "packed device: a chain is available whole"}) {
    caught(name, hostile_driver<packed, device>());
  }
}

TEST_CASE("in-flight records without a bound, or with two steps turned around") {
  for (const char* const name : {"in-flight split: age before mark",
                                 "in-flight split: marks are cleared before the position",
                                 "in-flight split: the last batch is completed",
                                 "in-flight split: the used index before the record"}) {
    caught(name, process_that_ends<split>(true));
  }
  caught("in-flight split: a buffer is marked when it is taken", process_that_ends<split>(false));
  caught("in-flight split: a link within the record", changing_record<split>());
  for (const char* const name : {"in-flight split: the last batch within the queue",
                                 "in-flight split: a link of the last batch within the record"}) {
    caught(name, changed_record<split>());
  }
  for (const char* const name :
       {"in-flight packed: age before free list", "in-flight packed: mark before free list",
        "in-flight packed: free list before position",
        "in-flight packed: a batch that became visible",
        "in-flight packed: position before descriptors",
        "in-flight packed: a returned buffer is free"}) {
    caught(name, process_that_ends<packed>(true));
  }
  for (const char* const name : {"in-flight packed: a position within the queue",
                                 "in-flight packed: the free list within the record",
                                 "in-flight packed: no more descriptors than the queue",
                                 "in-flight packed: a buffer has descriptors",
                                 "in-flight packed: a link within the record"}) {
    caught(name, changed_record<packed>());
  }
  for (const char* const name : {"in-flight packed: a free entry within the record",
                                 "in-flight packed: a chain's end within the record",
                                 "in-flight packed: a returned chain's end within the record",
                                 "in-flight packed: a returned buffer within the record"}) {
    caught(name, changing_record<packed>());
  }
}

TEST_CASE("chains and indirect tables without a bound") {
  for (const char* const name :
       {"chain: a descriptor has bytes", "chain: no more than 4 GiB",
        "chain: readable before writable", "chain: an address does not wrap",
        "chain: no more segments than places", "indirect: a table has whole entries",
        "indirect: no more entries than the limit", "indirect: a table does not wrap",
        "indirect: no table in a table", "indirect: next within the table",
        "indirect: a table ends", "split device: tables were negotiated",
        "split device: a table ends a chain"}) {
    caught(name, hostile_chains<split, device>());
  }
  for (const char* const name :
       {"packed device: tables were negotiated", "packed device: a table ends a chain"}) {
    caught(name, hostile_chains<packed, device>());
  }
}

TEST_CASE("command queues without a bound, or with two steps turned around") {
  using riscv = iommu::riscv::command_codec;
  caught("command queue: no more commands than entries", command_ring<riscv, device>({2, 4, 2}));
  caught("command queue: entry before tail", command_ring<riscv, device>({4, 4, 2}));
  caught("command queue: the wait's own value", command_ring<riscv, device>({4, 4, 2}));
  caught("command queue: head does not pass the tail", hostile_head<device>());
  caught("command queue: tail within the ring", hostile_tail<device>());
  caught("command queue: high half before low half", wide_completion<device>());
}

TEST_CASE("a mailbox without a second look, or with two steps turned around") {
  for (const char* const name :
       {"mailbox: a closed one refuses", "mailbox: a poster is counted before it looks",
        "mailbox: closed before it waits for posters", "mailbox: waits for posters",
        "mailbox: runs what was accepted"}) {
    caught(name, post_and_close<2>(1, 2));
  }
}

TEST_CASE("media with threads deliver each operation once") {
  const options larger{.most_executions = 200'000, .arena_bytes = 32768};
  holds("one worker, two reads", threaded_reads(1, 2, 2, true), larger);
  holds("one worker, three reads, one in flight", threaded_reads(1, 3, 1, false), larger);
  holds("two workers, two reads", reads_by_workers(2), larger);
}
TEST_CASE("media with threads without a lock, a wake-up or a step") {
  const options larger{.arena_bytes = 32768};
  for (const char* const name :
       {"threaded media: a worker is woken for an operation",
        "threaded media: a cancelled operation waits no more",
        "threaded media: completions are taken under the lock",
        "threaded media: operations are queued under the lock",
        "threaded media: a completion is recorded under the lock",
        "threaded media: cancels under the lock", "threaded media: notified behind the completion",
        "threaded media: delivered behind its execution"}) {
    caught(name, threaded_reads(1, 2, 2, true), all_of_them, larger);
  }
  caught("threaded media: no more operations than the capacity", threaded_reads(1, 3, 1, false),
         all_of_them, larger);
}

TEST_CASE("shared state without a second look, or with two steps turned around") {
  const options larger{.most_executions = 100'000, .arena_bytes = 65536};
  caught("interrupt: pending before the look at sleepers", signalled(1, 1));
  caught("interrupt: wakes under the lock", signalled(1, 1));
  caught("interrupt: a sleeper is counted before it looks again", signalled(1, 1));
  caught("ticket lock: a ticket is taken once", ticket_locked(2, false));
  caught("queue: second look at the generation", short_way_of_an_old_generation());
  caught("queue: a controller that is gone stays gone", namespaces_change(true));
  caught("DSA: status before the record", completion_records<device>());
  for (const char* const name :
       {"reactor: message before the wake-up", "reactor: second look at the mailbox"}) {
    caught(name, posted_and_stopped(true), all_of_them, larger);
  }
  for (const char* const name : {"reactor: fence of a poster", "reactor: fence before it sleeps"}) {
    caught(name, woken_for_work(), all_of_them, larger);
  }
  caught("reactor: second look at the stop", posted_and_stopped(false), all_of_them, larger);
  for (const char* const name : {"device table: the gate is closed first",
                                 "device table: no walker is left when the words change"}) {
    caught(name, vtd_entry_is_changed());
  }
  caught("device table: words before the open gate", vtd_entry_is_made());
  caught("device table: the gate is read first", vtd_entry_is_made());
  caught("fault queue: one place stays free", faults_are_read(3));
}

TEST_CASE("page tables without an exchange, or with the steps of a write in halves changed") {
  caught("page table: an entry is exchanged, not stored", two_mappers(false));
  caught("page table: another mapper's table is used", two_mappers(false));
  caught("page table: what hardware sets meanwhile is taken along", dirty_and_protect());
  caught("page table: a table is unlinked before it is retired", unmap_and_walk(true));
  caught("page table: a split page's leaves before their table", split_and_walk());
  caught("page table: a split takes a dirty bit along", split_and_walk());
  for (const char* const name :
       {"halves: the count is odd during a write", "halves: the low half is cleared first",
        "halves: the low half is written last", "halves: the count is looked at again",
        "halves: the low half is looked at again"}) {
    caught(name, in_halves({0x0000'0001'0000'1001, 0x0000'0002'0000'2001, 0x0000'0003'0000'1001}));
  }
}

TEST_CASE("every weakness of the copied headers was tried") {
  for (const char* const name : weaknesses) CHECK_MESSAGE(tried().contains(name), name);
  MESSAGE(std::size(weaknesses) << " bounds, second looks and orders of two steps");
}
