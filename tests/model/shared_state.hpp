// SPDX-License-Identifier: BSL-1.0
// State that threads share outside of rings: tables of devices, fault queues, bitmaps, locks, lists, interrupts, the words
// between a controller and its queues, a reactor that sleeps. Included where the copies of weaken.py are.
#pragma once

#include <phasebit/accel/dsa/driver.hpp>
#include <phasebit/backend/simulated/bar.hpp>
#include <phasebit/backend/simulated/detail/bus_node.hpp>
#include <phasebit/backend/simulated/detail/function_node.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/hosted/reactor.hpp>
#include <phasebit/iommu/amd/spec/tables.hpp>
#include <phasebit/iommu/fault/fault_queue.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/fault_codec.hpp>
#include <phasebit/iommu/vtd/spec/tables.hpp>
#include <phasebit/memory/dirty_bitmap.hpp>
#include <phasebit/memory/region_map.hpp>
#include <phasebit/nvme/driver/detail/queue_link.hpp>
#include <phasebit/pcie/device/config_space.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <model/page_tables.hpp>
#include <model/support.hpp>

namespace model {

namespace simulated = phasebit::backend::simulated;

// -- device tables --

// An entry that a walker finds by itself is the old one or the new one, and what the new one leads to is there.
template <class Entry>
auto edit_entry(Entry from, Entry to) {
  return [=](program& p) {
    auto& words = p.make<std::array<iommu::table_word, Entry::word_count>>();
    auto& asked = p.make<invalidation_words>();
    auto& table = p.make<explorer::plain<std::uint32_t>>();  // that the new entry leads to
    p.atomic(words);
    for (std::size_t i = 0; i != words.size(); ++i) {
      words[i] = from.words[i].get();
      p.name(words[i], "word " + std::to_string(i) + " of the entry");
    }
    p.name(asked.wanted, "the invalidation");
    p.name(asked.done, "the end of the invalidation");
    p.name(table, "the new page table");
    p.thread("driver", [=, &words, &asked, &table] {
      std::uint32_t times = 0;
      table.write(7);
      iommu::replace_entry(words.data(), to, [&]() noexcept {
        asked.wanted.store(++times, explorer::strength::release);
        await([&] { return asked.done.load(explorer::strength::acquire) == times; });
      });
    });
    p.service("IOMMU", [=, &words, &asked, &table] {
      auto walk = [&] {
        const auto seen = iommu::load_entry_words<Entry>(words.data());
        if (((seen.words[Entry::gate].get() ^ Entry::closed) & Entry::gate_mask) == 0) return;
        check(seen == from || seen == to, "a walker finds the old entry or the new one");
        if (!(seen == from)) check(table.read() == 7, "the page table is there");
      };
      for (std::uint32_t acknowledged = 0;;) {
        walk();
        await([&] { return asked.wanted.load(explorer::strength::acquire) != acknowledged; });
        acknowledged = asked.wanted.load(explorer::strength::acquire);
        asked.done.store(acknowledged, explorer::strength::release);
      }
    });
  };
}

[[nodiscard]] inline auto vtd_entry_is_changed() {
  using entry = iommu::vtd::context_entry;
  return edit_entry(entry::translated(0x1000, iommu::vtd_width{1}, 1),
                    entry::translated(0x2000, iommu::vtd_width{2}, 2));
}
[[nodiscard]] inline auto vtd_entry_is_made() {
  using entry = iommu::vtd::context_entry;
  return edit_entry(entry{}, entry::translated(0x2000, iommu::vtd_width{2}, 2));
}
[[nodiscard]] inline auto vtd_root_is_changed() {
  using entry = iommu::vtd::context_entry;
  return edit_entry(entry::translated(0x1000, iommu::vtd_width{1}, 1),
                    entry::translated(0x2000, iommu::vtd_width{1}, 1));
}

// -- fault queues --

struct few_tables {
  using space = phasebit::host_space;
  [[nodiscard]] static iommu::table_word* find(host_phys at, std::size_t) noexcept {
    return reinterpret_cast<iommu::table_word*>(at.value());
  }
};

// The two index registers, as a program hands them over whose registers another thread reads.
struct fault_registers {
  explorer::word<std::uint32_t> tail;
  explorer::word<std::uint32_t> head;
};

[[nodiscard]] inline auto faults_are_read(std::uint32_t records) {
  using format = iommu::riscv::fault_queue_format;
  return [=](program& p) {
    auto& memory = p.make<std::array<iommu::table_word, 2 * format::record::word_count>>();
    auto& registers = p.make<fault_registers>();
    auto& tables = p.make<few_tables>();
    p.name(memory, "the fault queue");
    p.name(registers.tail, "the tail register");
    p.name(registers.head, "the head register");
    const iommu::fault_ring ring{reinterpret_cast<std::uintptr_t>(memory.data()), 1};
    p.thread("IOMMU", [=, &registers, &tables] {
      iommu::fault_queue<format, few_tables> queue{tables};
      queue.enable(ring);
      for (std::uint32_t i = 0; i != records; ++i) {
        await([&] {
          queue.set_consumer(registers.head.load(explorer::strength::acquire));
          const std::uint32_t used = (queue.producer() - queue.consumer()) & 1;
          return used == 0;
        });
        iommu::translation_fault fault{};
        fault.address = 0x1000U * (i + 1);
        queue.record(fault);
        if (i == 0) queue.record(fault);  // the second finds no place, and is lost
        check(queue.lost() == 1, "a record without a place is lost and counted");
        queue.clear_overflow();
        registers.tail.store(queue.producer(), explorer::strength::release);
      }
    });
    p.thread("driver", [=, &registers, &tables] {
      iommu::fault_queue_reader<format, few_tables> reader{tables, ring};
      for (std::uint32_t i = 0; i != records; ++i) {
        await(
            [&] { return registers.tail.load(explorer::strength::acquire) != reader.consumer(); });
        const auto seen = reader.next(registers.tail.load(explorer::strength::acquire));
        check(seen && seen->address == 0x1000U * (i + 1), "records arrive once and in order");
        registers.head.store(reader.consumer(), explorer::strength::release);
      }
    });
  };
}

// -- pages of an arena --

[[nodiscard]] inline auto arena_pages(unsigned threads) {
  using arena_type = iommu::table_arena<32, 6>;
  struct pages {
    alignas(64) std::array<std::byte, 64> bytes;
  };
  return [=](program& p) {
    auto& memory = p.make<pages>();
    auto& arena = p.make<arena_type>(
        std::span{memory.bytes},
        phasebit::host_phys{reinterpret_cast<std::uintptr_t>(memory.bytes.data())});
    p.atomic(arena);
    p.name(memory, "the page");
    p.name(arena, "the arena");
    for (unsigned t = 0; t != threads; ++t) {
      p.thread(t == 0   ? "first"
               : t == 1 ? "second"
                        : "third",
               [&arena, threads] {
                 for (unsigned i = 0; i != (threads == 2 ? 2U : 1U); ++i) {
                   const auto mine = arena.allocate(64);
                   if (!mine) continue;
                   explorer::writes(mine->words, 64);
                   arena.release(*mine, 64);
                 }
               });
    }
    p.finally([&arena] { check(arena.used() == 0, "every page is back"); });
  };
}

// -- dirty bitmaps --

[[nodiscard]] inline auto dirty_pages() {
  return [](program& p) {
    auto& bytes = p.make<std::array<std::byte, 1>>();
    auto& data = p.make<std::array<explorer::plain<std::uint32_t>, 2>>();
    auto& seen = p.make<std::array<unsigned, 2>>();
    p.atomic(bytes);
    p.name(bytes, "the bitmap");
    p.name(data, "the pages");
    using bitmap = phasebit::dirty_bitmap<phasebit::bus_space>;
    for (unsigned t = 0; t != 2; ++t) {
      p.thread(t == 0 ? "first writer" : "second writer", [=, &bytes, &data] {
        bitmap map{bytes, bus_addr{0}, 12};
        data[t].write(1);
        check(map.set(bus_addr{t * 4096}, bus_addr{t * 4096}), "the page is within the bitmap");
      });
    }
    p.thread("reader", [&bytes, &data, &seen] {
      bitmap map{bytes, bus_addr{0}, 12};
      if (map.test(bus_addr{0})) check(data[0].read() == 1, "a page is read after its bit");
      map.take([&](bus_addr dirty) noexcept {
        const std::size_t n = dirty.value() / 4096;
        check(data[n].read() == 1, "a page is read after its bit");
        seen[n] = seen[n] + 1;
      });
    });
    p.finally([&bytes, &seen] {
      bitmap map{bytes, bus_addr{0}, 12};
      map.take([&](bus_addr dirty) noexcept { ++seen[dirty.value() / 4096]; });
      check(seen[0] == 1 && seen[1] == 1, "a bit is taken once or still there");
    });
  };
}

// -- the hint of a region map, configuration space --

[[nodiscard]] inline auto region_hint() {
  return [](program& p) {
    auto& memory = p.make<std::array<std::byte, 128>>();
    auto& map = p.make<phasebit::region_map<phasebit::bus_space, 2>>();
    for (std::uint64_t i = 0; i != 2; ++i) {
      static_cast<void>(map.add({bus_addr{i * 4096}, 64, memory.data() + i * 64}));
    }
    p.atomic(map);
    for (unsigned t = 0; t != 2; ++t) {
      p.thread(t == 0 ? "first" : "second", [=, &map, &memory] {
        for (std::uint64_t i = 0; i != 3; ++i) {
          const std::uint64_t n = (t + i) % 2;
          const auto found = map.translate(bus_addr{n * 4096 + 8}, 8, phasebit::access::read);
          check(found && found->begin == phasebit::to_local(memory.data() + n * 64 + 8),
                "each thread gets its own answer");
        }
      });
    }
  };
}

[[nodiscard]] inline auto configuration_register() {
  using image = phasebit::pcie::config_image<256>;
  return [](program& p) {
    auto& config = p.make<image>();
    auto& data = p.make<explorer::plain<std::uint32_t>>();
    config.set_writable(4, 2, 0xffff);
    p.thread("driver", [&config, &data] {
      data.write(1);
      static_cast<void>(config.write(4, 2, 4));
    });
    p.thread("device", [&config, &data] {
      await([&] { return (config.read(4, 2) & 4) != 0; });
      check(data.read() == 1, "memory is seen that was written before the register");
    });
  };
}

// -- the simulated machine --

[[nodiscard]] inline auto ticket_locked(unsigned threads, bool tries) {
  return [=](program& p) {
    auto& lock = p.make<simulated::detail::ticket_lock>();
    auto& count = p.make<explorer::plain<std::uint32_t>>();
    auto& entered = p.make<std::array<std::uint32_t, 4>>();
    p.atomic(lock);
    p.name(lock, "the lock");
    p.name(count, "the count");
    for (unsigned t = 0; t != threads; ++t) {
      p.thread(t == 0   ? "first"
               : t == 1 ? "second"
                        : "third",
               [=, &lock, &count, &entered] {
                 const bool only_tries = tries && t == 0;
                 for (int i = 0; i != 2; ++i) {
                   if (only_tries) {
                     if (!lock.try_lock()) continue;
                   } else {
                     lock.lock();
                   }
                   count.write(count.read() + 1);
                   ++entered[t];
                   lock.unlock();
                 }
               });
    }
    p.finally([&count, &entered] {
      check(count.read() == entered[0] + entered[1] + entered[2], "one thread at a time");
    });
  };
}

[[nodiscard]] inline auto appended_nodes() {
  return [](program& p) {
    using namespace simulated::detail;
    auto& first = p.make<std::atomic<bus_node*>>();
    auto& nodes = p.make<std::array<std::unique_ptr<bus_node>, 2>>();
    auto& a = p.make<bus_node>(8U);
    auto& b = p.make<bus_node>(16U);
    static_cast<void>(nodes);
    p.atomic(first);
    p.atomic(a.next_);
    p.atomic(b.next_);
    p.name(first, "the first node's link");
    p.name(a.next_, "the second node's link");
    p.thread("fabric", [&] {
      for (bus_node* const n : {&a, &b}) {
        explorer::writes(reinterpret_cast<std::byte*>(n) + sizeof(void*) + sizeof n->next_,
                         sizeof(bus_node) - sizeof(void*) - sizeof n->next_);
        append(first, *n);
      }
    });
    p.thread("device", [&] {
      bus_node* const found = find_node(first, phasebit::pcie::requester_id{16});
      check(found == nullptr || found == &b, "the node or none");
      bus_node* const before = find_node(first, phasebit::pcie::requester_id{8});
      check(found == nullptr || before == &a, "nodes appear in their order");
    });
  };
}

[[nodiscard]] inline auto messages_to_a_function() {
  return [](program& p) {
    using simulated::detail::message_queue;
    auto& queue = p.make<message_queue>();
    auto& taken = p.make<unsigned>(0U);
    p.atomic(queue);
    p.name(queue, "the messages");
    p.thread("IOMMU", [&queue] {
      for (std::uint16_t i = 0; i != 2; ++i) {
        phasebit::iommu::pri_response m{};
        m.group = i;
        queue.put(m);
      }
    });
    auto take = [&queue, &taken] {
      const auto m = queue.take();
      if (!m) return;
      check(std::get<phasebit::iommu::pri_response>(*m).group == taken,
            "messages keep their order");
      taken = taken + 1;
    };
    p.thread("device", [take] {
      take();
      take();
    });
    p.finally([take, &taken] {
      take();
      take();
      check(taken == 2, "a message is taken once");
    });
  };
}

// One or two devices signal; the driver sleeps until it has seen all.
[[nodiscard]] inline auto signalled(unsigned devices, std::uint32_t signals) {
  return [=](program& p) {
    auto& event = p.make<simulated::interrupt_event>();
    auto& done = p.make<std::array<explorer::word<std::uint32_t>, 2>>();
    auto& data = p.make<std::array<std::array<explorer::plain<std::uint32_t>, 2>, 2>>();
    p.atomic(event);
    p.name(event, "the event");
    p.name(done, "the completions");
    p.name(data, "the data");
    for (unsigned d = 0; d != devices; ++d) {
      p.thread(d == 0 ? "first device" : "second device", [=, &event, &done, &data] {
        for (std::uint32_t i = 0; i != signals; ++i) {
          data[d][i].write(i + 1);
          done[d].store(i + 1, explorer::strength::relaxed);
          event.signal();
        }
      });
    }
    p.thread("driver", [=, &event, &done, &data] {
      std::array<std::uint32_t, 2> seen{};
      for (;;) {
        bool all = true;
        for (unsigned d = 0; d != devices; ++d) all = all && seen[d] == signals;
        if (all) return;
        check(event.wait(~std::uint64_t{0}), "without a time-out an event ends the wait");
        // The device published before it signalled.
        for (unsigned d = 0; d != devices; ++d) {
          const auto now = done[d].load(explorer::strength::relaxed);
          explorer::fence(explorer::barrier::acquire);
          static_cast<void>(data);
          seen[d] = now;
        }
      }
    });
  };
}

// The driver that waited for a signal sees everything that the device wrote before it, also behind another's signal.
[[nodiscard]] inline auto signalled_with_data() {
  return [](program& p) {
    auto& event = p.make<simulated::interrupt_event>();
    auto& data = p.make<explorer::plain<std::uint32_t>>();
    p.atomic(event);
    p.name(event, "the event");
    p.name(data, "the data");
    p.thread("device", [&] {
      data.write(7);
      event.signal();
    });
    p.thread("driver", [&] {
      if (choose(2) == 0) {
        check(event.wait(~std::uint64_t{0}), "an event ends the wait");
      } else {
        await([&] { return event.poll(); });
      }
      check(data.read() == 7, "the data is there");
    });
  };
}

// -- the words between a controller and a queue object --

struct linked_queue : phasebit::nvme::driver::detail::queue_link {
  using queue_link::gone;
  using queue_link::namespaces;
  using queue_link::set_short_way;
  using queue_link::short_way_blocks;
};

[[nodiscard]] inline auto namespaces_change(bool ends) {
  return [=](program& p) {
    auto& queue = p.make<linked_queue>();
    p.name(queue, "the queue's words");
    auto& data = p.make<explorer::plain<std::uint32_t>>();
    p.name(data, "what the controller did");
    p.thread("queue", [&queue, &data] {
      const std::uint32_t known = queue.namespaces();
      if (known != 0) check(data.read() == 1, "what was done before is seen");
      if (queue.gone()) return;
      queue.set_short_way(8, known);
      static_cast<void>(queue.short_way_blocks());
    });
    p.thread("controller", [=, &queue, &data] {
      data.write(1);
      queue.note_namespaces(1);
      if (ends) {
        queue.note_gone();
        queue.note_namespaces(2);
      }
    });
    p.finally([=, &queue] {
      // The queue may have learnt of the change before it set its bound.
      check(!ends || queue.gone(), "a controller that is gone stays gone");
      check(!ends || queue.short_way_blocks() == 0, "no short way remains");
    });
  };
}
// A queue whose generation is 0 for certain.
[[nodiscard]] inline auto short_way_of_an_old_generation() {
  return [](program& p) {
    auto& queue = p.make<linked_queue>();
    p.name(queue, "the queue's words");
    p.thread("queue", [&queue] { queue.set_short_way(8, 0); });
    p.thread("controller", [&queue] { queue.note_namespaces(1); });
    p.finally([&queue] {
      check(queue.short_way_blocks() == 0, "no short way remains from before the change");
    });
  };
}

// -- DSA: a completion record --

struct dsa_portal {
  phasebit::accel::dsa::descriptor sent{};
  bool submit(const phasebit::accel::dsa::descriptor& d) noexcept {
    sent = d;
    return true;
  }
};

// One step at a device that writes its record, with the CRC behind the status.
template <class Order>
[[nodiscard]] auto completion_records() {
  return [](program& p) {
    namespace accel = phasebit::accel;
    using record = accel::dsa::completion_record;
    auto& records = p.make<std::array<record, 1>>();
    auto& portal = p.make<dsa_portal>();
    using engine_type = accel::dsa::work_queue_engine<dsa_portal, 1>;
    auto& engine = p.make<engine_type>(portal, std::span{records}, 0x1000U);
    p.name(records[0], "the completion record");
    static const accel::step what{.op = accel::operation::crc32c,
                                  .then = accel::operation::none,
                                  .id = 0,
                                  .then_id = 0,
                                  .gate = false,
                                  .seed_from = accel::step::no_seed,
                                  .part = false,
                                  .source = {},
                                  .destination = {},
                                  .with = {},
                                  .then_with = {}};
    static const std::array from{phasebit::domain_segment{0x2000, 64, {}}};
    accel::work_result none;
    check(static_cast<bool>(engine.submit({.what = &what, .source = from}, 5, none)),
          "the step is submitted");
    auto& crc = p.make<std::uint64_t>();
    p.thread("driver", [&engine, &crc] {
      auto take = [](void* to, std::uint64_t tag, const accel::work_result& r,
                     const phasebit::error* why) noexcept {
        check(tag == 5 && why == nullptr, "the step succeeds");
        *static_cast<std::uint64_t*>(to) = r.first.value;
      };
      await([&] { return engine.poll({.context = &crc, .complete = take}) != 0; });
      check(crc == 0x1234, "the result is that of the step");
    });
    p.thread("device", [&records] {
      records[0].crc = 0x1234;
      Order::store(records[0].status, std::uint8_t{1});
    });
  };
}

// -- the reactor --

struct reactor_access {
  using reactor = phasebit::hosted::reactor;

  reactor it;

  reactor_access() : it(options(), phasebit::posix::unique_fd{}) { it.joinable_ = true; }
  void run() { it.run(); }
  void serve(phasebit::hosted::poller& what) { it.insert(what); }

 private:
  [[nodiscard]] static phasebit::hosted::reactor_options options() {
    phasebit::hosted::reactor_options wanted;
    wanted.idle_turns = 1;
    return wanted;
  }
};

// Messages are posted and the reactor is stopped at any moment, also while it falls asleep.
[[nodiscard]] inline auto posted_and_stopped(bool waits) {
  return [=](program& p) {
    auto& held = p.make<reactor_access>();
    descriptor::count = &p.make<explorer::word<std::uint32_t>>();
    auto& ran = p.make<explorer::word<std::uint32_t>>();
    p.atomic(held);
    p.name(held, "the reactor");
    p.name(*descriptor::count, "the descriptor");
    p.name(ran, "the count of messages that ran");
    p.thread("sender", [=, &held, &ran] {
      auto* const counter = &ran;
      const bool taken = held.it.post([counter](phasebit::hosted::reactor&) noexcept {
        counter->fetch_add(1, explorer::strength::release);
      });
      if (waits) await([&] { return ran.load(explorer::strength::acquire) == 1; });
      held.it.stop();
      check(ran.load(explorer::strength::relaxed) == (taken ? 1U : 0U),
            "a message that was accepted has run when stop() returns");
    });
    p.thread("reactor", [&held] { held.run(); });
  };
}

// Work that no descriptor reports: a word, as a ring's index is.
class word_poller final : public phasebit::hosted::poller {
 public:
  word_poller(explorer::word<std::uint32_t>& work, explorer::word<std::uint32_t>& done) noexcept
      : work_(&work), done_(&done) {}

  unsigned poll() noexcept override {
    if (work_->load(explorer::strength::relaxed) == seen_) return 0;
    done_->store(++seen_, explorer::strength::release);
    return 1;
  }
  [[nodiscard]] bool arm() noexcept override {
    return work_->load(explorer::strength::relaxed) == seen_;
  }

 private:
  explorer::word<std::uint32_t>* work_;
  explorer::word<std::uint32_t>* done_;
  std::uint32_t seen_ = 0;
};

[[nodiscard]] inline auto woken_for_work() {
  return [](program& p) {
    auto& held = p.make<reactor_access>();
    descriptor::count = &p.make<explorer::word<std::uint32_t>>();
    auto& work = p.make<explorer::word<std::uint32_t>>();
    auto& done = p.make<explorer::word<std::uint32_t>>();
    auto& served = p.make<word_poller>(work, done);
    held.serve(served);
    p.atomic(held);
    p.name(held, "the reactor");
    p.name(*descriptor::count, "the descriptor");
    p.name(work, "the work");
    p.name(done, "the work that is done");
    p.thread("sender", [&held, &work, &done] {
      work.store(1, explorer::strength::relaxed);
      held.it.wake();
      await([&] { return done.load(explorer::strength::acquire) == 1; });
      held.it.stop();
    });
    p.thread("reactor", [&held] { held.run(); });
  };
}

}  // namespace model
