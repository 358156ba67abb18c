// SPDX-License-Identifier: BSL-1.0
// A host of the simplest kind: memory, rings written by hand, and a controller that is polled by the
// same thread. It shares the wire structs with the controller and nothing else.
#pragma once

#include <phasebit/block/memory_media.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/spec/admin_commands.hpp>
#include <phasebit/nvme/spec/nvm_commands.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace test_host {

using namespace phasebit;
using namespace phasebit::nvme;

// The host's memory as a device reaches it: high bus addresses, unmapped memory around them, and
// optionally a hole, a limit on mapped lengths, or a count of the mappings.
struct memory {
  using from = bus_space;
  using to = local_space;

  static constexpr std::uint64_t base = 0x7'4000'0000;

  explicit memory(std::size_t bytes)
      : size(bytes), bytes_at(static_cast<std::byte*>(std::aligned_alloc(1U << 16, bytes))) {
    std::memset(bytes_at, 0, bytes);
  }
  memory(const memory&) = delete;
  memory& operator=(const memory&) = delete;
  ~memory() { std::free(bytes_at); }

  result<segment<local_space>> translate(bus_addr a, std::uint64_t wanted,
                                         phasebit::access how) noexcept {
    ++translations;
    const std::uint64_t offset = a.value() - base;
    if (a.value() < base || offset >= size) return failure(errc::not_mapped, "outside", a.value());
    if (offset >= hole_begin && offset < hole_end && (hole_read || writes(how))) {
      return failure(errc::access_denied, "a hole", a.value());
    }
    std::uint64_t n = wanted < size - offset ? wanted : size - offset;
    if (offset < hole_begin && n > hole_begin - offset) n = hole_begin - offset;
    if (n > longest_range) n = longest_range;
    if (wanted == 512) n += too_long;
    return segment<local_space>{to_local(bytes_at + offset), n};
  }

  bus_addr bus(std::size_t offset) const noexcept { return bus_addr{base + offset}; }
  std::byte* at(bus_addr a) noexcept { return bytes_at + (a.value() - base); }
  std::span<std::byte> bytes(bus_addr a, std::size_t n) noexcept { return {at(a), n}; }

  std::size_t size;
  std::byte* bytes_at;
  std::uint64_t hole_begin = ~std::uint64_t{0};
  std::uint64_t hole_end = ~std::uint64_t{0};
  bool hole_read = true;
  std::uint64_t longest_range = ~std::uint64_t{0};
  std::uint64_t too_long = 0;  // added to the answer for 512 bytes
  std::atomic<std::uint64_t> translations{0};
};
static_assert(DmaTranslator<memory>);

struct interrupts {
  std::map<unsigned, unsigned> raised;
  std::mutex lock;
  void raise(std::uint16_t vector) noexcept {
    const std::lock_guard guard{lock};
    ++raised[vector];
  }
};
static_assert(InterruptSink<interrupts>);

struct queue_pair {
  std::uint16_t id = 0;
  bus_addr sq{};
  bus_addr cq{};
  std::uint32_t depth = 0;
  std::uint32_t tail = 0;
  std::uint32_t head = 0;
  bool phase = true;
};

// The storage of a machine's blocks: memory, synchronous. Namespace 2 is never attached.
struct memory_backing {
  using media_type = block::memory_media;
  using namespaces = device::namespace_table<media_type, 4>;

  explicit memory_backing(std::uint32_t block_size) : store(1U << 20), media(store, block_size) {
    spaces.attach(1, media);
  }
  device::pending_memory pending() noexcept { return {}; }

  std::vector<std::byte> store;
  media_type media;
  namespaces spaces;
};
using namespaces = memory_backing::namespaces;

// `Port` is how the controller reaches the host's memory; another than `memory` is made from it.
template <class Policy = device::default_policy, class Backing = memory_backing,
          class Port = memory>
struct machine : Backing {
  using controller_type =
      device::controller<Port, interrupts, typename Backing::namespaces, thread_order, Policy>;

  static device::settings small() noexcept {
    device::settings s;
    s.io_queue_pairs = 8;
    s.interrupt_vectors = 9;
    s.max_queue_entries = 256;
    return s;
  }

  template <class... Rest>
  explicit machine(const device::settings& s = small(), std::uint32_t block_size = 512,
                   std::size_t memory_bytes = 8U << 20, Rest&&... remaining)
      : Backing(block_size, std::forward<Rest>(remaining)...),
        config(s),
        ram(memory_bytes),
        words((std::size_t{s.io_queue_pairs} + 1) * 2 << s.doorbell_stride),
        controller(made_controller()) {}

  [[nodiscard]] controller_type made_controller() {
    if constexpr (Policy::poll_groups == 1) {
      return controller_type(reached(), irq, this->spaces, words, config, this->pending());
    } else {
      return controller_type(reached(), irq, this->groups(), words, config);
    }
  }
  [[nodiscard]] Port& reached() noexcept {
    if constexpr (std::is_same_v<Port, memory>) {
      return ram;
    } else {
      return port;
    }
  }

  // -- registers --
  template <class Register>
  Register reg() {
    if constexpr (sizeof(typename Register::word_type) == 8) {
      return Register{controller.read64(Register::offset)};
    } else {
      return Register{controller.read32(Register::offset)};
    }
  }
  void write64(std::uint32_t offset, std::uint64_t v) {
    controller.write32(offset, static_cast<std::uint32_t>(v));
    controller.write32(offset + 4, static_cast<std::uint32_t>(v >> 32));
  }
  static nvme::cc enabled_cc() {
    return nvme::cc{}.with(nvme::cc::en, true).with(nvme::cc::iosqes, 6).with(nvme::cc::iocqes, 4);
  }
  void enable(std::uint32_t depth = 32, nvme::cc how = enabled_cc()) {
    controller.write32(nvme::cc::offset, 0);
    pairs.clear();
    // Allocated only once, so that a test may enable as often as it likes.
    if (!admin_memory) admin_memory = allocate(2U << 18, 1U << 16);
    queue_pair q{.id = 0, .sq = *admin_memory, .cq = *admin_memory + (1U << 18), .depth = depth};
    std::memset(ram.at(q.cq), 0, std::size_t{depth} * 16);
    controller.write32(nvme::aqa::offset, nvme::aqa::for_entries(depth, depth).raw);
    write64(nvme::asq::offset, q.sq.value());
    write64(nvme::acq::offset, q.cq.value());
    controller.write32(nvme::cc::offset, how.raw);
    pairs[0] = q;
  }

  // -- memory --
  bus_addr allocate(std::size_t bytes, std::size_t alignment = 4096) {
    next = (next + alignment - 1) & ~(alignment - 1);
    const bus_addr a = ram.bus(next);
    next += bytes;
    if (next > ram.size) std::abort();
    return a;
  }
  bus_addr page() { return allocate(4096); }

  // -- doorbells --
  std::uint32_t& word(std::uint16_t qid, device::ring_side side) {
    return words[(std::size_t{qid} * 2 + static_cast<std::size_t>(side)) << config.doorbell_stride];
  }
  void ring_tail(std::uint16_t qid, std::uint32_t value) {
    thread_order::store(word(qid, device::ring_side::submission), value);
  }
  void ring_head(std::uint16_t qid, std::uint32_t value) {
    thread_order::store(word(qid, device::ring_side::completion), value);
  }

  // -- commands --
  // Puts the entry into the ring; the doorbell is rung by ring_tail.
  void push(std::uint16_t qid, submission_entry e, std::uint16_t cid) {
    auto& q = pairs[qid];
    e.set_command_id(cid);
    std::memcpy(ram.at(q.sq + q.tail * 64), &e, sizeof e);
    q.tail = q.tail + 1 == q.depth ? 0 : q.tail + 1;
  }
  void submit(std::uint16_t qid, const submission_entry& e, std::uint16_t cid) {
    push(qid, e, cid);
    ring_tail(qid, pairs[qid].tail);
  }
  std::optional<completion_entry> peek(std::uint16_t qid) {
    auto& q = pairs[qid];
    completion_entry e;
    std::memcpy(&e, ram.at(q.cq + q.head * 16), sizeof e);
    if (e.phase() != q.phase) return std::nullopt;
    return e;
  }
  std::optional<completion_entry> reap(std::uint16_t qid) {
    const auto e = peek(qid);
    if (e) {
      auto& q = pairs[qid];
      if (++q.head == q.depth) {
        q.head = 0;
        q.phase = !q.phase;
      }
      ring_head(qid, q.head);
    }
    return e;
  }
  // Submits and polls until its completion is there.
  completion_entry run(std::uint16_t qid, const submission_entry& e) {
    const std::uint16_t cid = next_cid++;
    submit(qid, e, cid);
    for (int turn = 0; turn != 64; ++turn) {
      controller.poll();
      while (const auto c = reap(qid)) {
        if (c->command_id() == cid) return *c;
        strays.push_back(*c);
      }
    }
    std::abort();
  }
  completion_entry admin(const submission_entry& e) { return run(0, e); }
  status_code admin_code(const submission_entry& e) { return admin(e).status().code(); }
  status_code io_code(const submission_entry& e, std::uint16_t qid = 1) {
    return run(qid, e).status().code();
  }

  void create(std::uint16_t qid, std::uint32_t depth, std::uint16_t vector = 1) {
    queue_pair q{.id = qid,
                 .sq = allocate(std::size_t{depth} * 64, 1U << 16),
                 .cq = allocate(std::size_t{depth} * 16, 1U << 16),
                 .depth = depth};
    if (admin_code(nvme::admin::create_io_cq(
            {.qid = qid, .entries = depth, .memory = q.cq, .vector = vector})) !=
            status_code::success ||
        admin_code(nvme::admin::create_io_sq(
            {.qid = qid, .entries = depth, .memory = q.sq, .cqid = qid})) != status_code::success) {
      std::abort();
    }
    pairs[qid] = q;
  }

  struct no_port {
    explicit no_port(memory&) noexcept {}
  };

  device::settings config;
  memory ram;
  std::conditional_t<std::is_same_v<Port, memory>, no_port, Port> port{ram};
  std::size_t next = 0;
  interrupts irq;
  std::vector<std::uint32_t> words;
  std::map<std::uint16_t, queue_pair> pairs;
  std::optional<bus_addr> admin_memory;
  std::deque<completion_entry> strays;
  std::uint16_t next_cid = 0x100;
  controller_type controller;
};

// The entry with a data pointer of at most two pages.
inline submission_entry with_data(submission_entry e, bus_addr first, bus_addr second = {}) {
  e.prp1 = first.value();
  e.prp2 = second.value();
  return e;
}

}  // namespace test_host
