// SPDX-License-Identifier: BSL-1.0
#include <cstring>
#include <deque>
#include <random>

#include <doctest/doctest.h>
#include <systems/mediated_rig.hpp>

using namespace phasebit_test;

namespace {

using code = nvme::status_code;
using rig = mediated_rig<>;
using host = guest<>;
static_assert(PcieBackend<host>);

constexpr std::size_t guest_bytes = std::size_t{1} << 20;

void fill(std::span<std::byte> to, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  for (std::byte& b : to) b = static_cast<std::byte>(random());
}

}  // namespace

TEST_CASE("drivers attach to two functions, each of which has its own blocks") {
  rig r;
  std::deque<host> guests;
  for (std::uint16_t f = 0; f != 2; ++f) {
    guests.emplace_back(r, f, guest_bytes);
    REQUIRE(r.engine->add(f, guests[f].function(1000U + f * 5000U, 4000)));
  }
  auto first = nvme::attach(guests[0]);
  auto second = nvme::attach(guests[1]);
  REQUIRE(first);
  REQUIRE(second);
  auto q0 = first->create_queue_pair({.depth = 16});
  auto q1 = second->create_queue_pair({.depth = 16, .interrupt = 1});
  REQUIRE(q0);
  REQUIRE(q1);
  CHECK(q0->format().blocks == 4000);
  for (const std::size_t bytes : {512UL, 4096UL, 8192UL, 65536UL}) {
    auto out = allocate(guests[0], bytes);
    auto other = allocate(guests[1], bytes);
    auto back = allocate(guests[0], bytes);
    REQUIRE(out);
    REQUIRE(other);
    REQUIRE(back);
    fill({out->data(), bytes}, bytes);
    fill({other->data(), bytes}, bytes + 1);
    unsigned good = 0;
    const auto done = [&](nvme::completion c) noexcept { good += c.ok(); };
    const auto blocks = static_cast<std::uint32_t>(bytes / 512);
    REQUIRE(q0->write({.lba = 7, .blocks = blocks}, *out, done));
    REQUIRE(q1->write({.lba = 7, .blocks = blocks}, *other, done));
    q0->ring();
    q1->ring();
    REQUIRE(nvme::wait(*q0, 1000));
    REQUIRE(nvme::wait(*q1, 1000));
    REQUIRE(q0->read({.lba = 7, .blocks = blocks}, *back, done));
    q0->ring();
    REQUIRE(nvme::wait(*q0, 1000));
    CHECK(good == 3);
    CHECK(std::memcmp(out->data(), back->data(), bytes) == 0);
    CHECK(std::memcmp(r.bytes.data() + 1007 * 512, out->data(), bytes) == 0);
    CHECK(std::memcmp(r.bytes.data() + 6007 * 512, other->data(), bytes) == 0);
  }
  CHECK(r.interrupts.raised[1][1] != 0);
  CHECK(r.interrupts.raised[0][1] == 0);
  REQUIRE(first->shut_down());
  REQUIRE(second->shut_down());
}

namespace {

// A host that writes rings and registers by itself.
struct raw_host {
  static constexpr std::uint32_t depth = 64;
  static constexpr std::uint64_t asq = 0, acq = 4096, sq = 8192, cq = 12'288, lists = 16'384,
                                 data = 32'768;

  rig* r;
  host* g;
  std::uint32_t admin_tail = 0;
  std::uint32_t tail = 0;
  std::uint32_t head = 0;
  bool phase = true;
  std::uint32_t admin_head = 0;
  bool admin_phase = true;

  std::byte* at(std::uint64_t offset) const { return g->memory.data() + offset; }
  std::uint64_t bus(std::uint64_t offset) const { return host::base + offset; }
  void bell(std::size_t word, std::uint32_t value) {
    thread_order::store(g->words[word], le<std::uint32_t>::to_wire(value));
  }
  void put(std::uint64_t ring, std::uint32_t slot, const nvme::submission_entry& e) {
    std::memcpy(at(ring + slot * 64), &e, sizeof e);
  }
  nvme::completion_entry entry(std::uint64_t ring, std::uint32_t slot) const {
    nvme::completion_entry e;
    std::memcpy(&e, at(ring + slot * 16), sizeof e);
    return e;
  }
  void write64(std::uint32_t offset, std::uint64_t v) {
    r->engine->write32(g->id(), offset, static_cast<std::uint32_t>(v));
    r->engine->write32(g->id(), offset + 4, static_cast<std::uint32_t>(v >> 32));
  }
  std::uint32_t csts() const { return r->engine->read32(g->id(), nvme::csts::offset); }
  bool disable() {
    r->engine->write32(g->id(), nvme::cc::offset, 0);
    for (unsigned i = 0; i != 10'000 && csts() != 0; ++i) r->step();
    return csts() == 0;
  }
  bool enable() {
    std::memset(at(0), 0, data);
    admin_tail = tail = head = admin_head = 0;
    phase = admin_phase = true;
    r->engine->write32(g->id(), nvme::aqa::offset, nvme::aqa::for_entries(depth, depth).raw);
    write64(nvme::asq::offset, bus(asq));
    write64(nvme::acq::offset, bus(acq));
    r->engine->write32(g->id(), nvme::cc::offset,
                       nvme::cc{}
                           .with(nvme::cc::en, true)
                           .with(nvme::cc::iosqes, 6)
                           .with(nvme::cc::iocqes, 4)
                           .raw);
    return csts() == 1;
  }
  nvme::completion_entry admin(nvme::submission_entry e) {
    put(asq, admin_tail, e);
    admin_tail = (admin_tail + 1) % depth;
    bell(0, admin_tail);
    for (unsigned i = 0; i != 100 && entry(acq, admin_head).phase() != admin_phase; ++i) r->step();
    const auto answer = entry(acq, admin_head);
    REQUIRE(answer.phase() == admin_phase);
    admin_head = (admin_head + 1) % depth;
    if (admin_head == 0) admin_phase = !admin_phase;
    bell(1, admin_head);
    return answer;
  }
  void create_queues() {
    REQUIRE(admin(nvme::admin::create_io_cq(
                      {.qid = 1, .entries = depth, .memory = bus_addr{bus(cq)}, .vector = 1}))
                .status()
                .ok());
    REQUIRE(admin(nvme::admin::create_io_sq(
                      {.qid = 1, .entries = depth, .memory = bus_addr{bus(sq)}, .cqid = 1}))
                .status()
                .ok());
  }
  void start() {
    REQUIRE(disable());
    REQUIRE(enable());
    create_queues();
  }
  void submit(nvme::submission_entry e) {
    put(sq, tail, e);
    tail = (tail + 1) % depth;
  }
  // Completions that have arrived.
  unsigned take(nvme::completion_entry* last = nullptr) {
    unsigned n = 0;
    for (; n != depth && entry(cq, head).phase() == phase; ++n) {
      if (last != nullptr) *last = entry(cq, head);
      head = (head + 1) % depth;
      if (head == 0) phase = !phase;
    }
    bell(3, head);
    return n;
  }
  nvme::completion_entry run(nvme::submission_entry e) {
    submit(e);
    bell(2, tail);
    nvme::completion_entry last{};
    for (unsigned i = 0; i != 100; ++i) {
      if (take(&last) != 0) return last;
      r->step();
    }
    FAIL("no completion");
    return last;
  }
};

}  // namespace

TEST_CASE("no function reaches another's memory or blocks by any command, pointer or doorbell") {
  // Functions 0 to 2 are hostile, function 3 lies between their blocks and does nothing.
  constexpr std::uint64_t blocks = 4000;
  constexpr std::uint64_t commands = 1'000'000;
  rig r;
  std::deque<host> guests;
  for (std::uint16_t f = 0; f != 4; ++f) {
    guests.emplace_back(r, f, guest_bytes);
    fill(guests[f].memory.bytes, f);
  }
  fill(r.bytes, 99);
  const std::array<std::uint64_t, 4> first{1000, 9000, 13'000, 5000};
  for (std::uint16_t f = 0; f != 4; ++f) {
    REQUIRE(r.engine->add(f, guests[f].function(first[f], blocks)));
  }
  // The mark that a function must not find elsewhere: its number, in each line of memory and in
  // each block.
  const auto mark = [](std::uint64_t f) { return 0x5ec7'e700'dead'0000 + f; };
  for (std::uint16_t f = 0; f != 3; ++f) {
    for (std::size_t i = raw_host::data; i < guest_bytes; i += 64) {
      const std::uint64_t m = mark(f);
      std::memcpy(guests[f].memory.data() + i, &m, 8);
    }
    for (std::uint64_t b = 0; b != blocks; ++b) {
      const std::uint64_t m = mark(f);
      std::memcpy(r.bytes.data() + (first[f] + b) * 512, &m, 8);
    }
  }
  const std::vector<std::byte> disk_before = r.bytes;
  const std::vector<std::byte> bystander(guests[3].memory.bytes.begin(),
                                         guests[3].memory.bytes.end());

  std::mt19937_64 random{13};
  const auto below = [&](std::uint64_t n) { return random() % n; };
  std::deque<raw_host> hosts;
  for (std::uint16_t f = 0; f != 3; ++f) hosts.push_back({&r, &guests[f]});
  for (raw_host& h : hosts) h.start();
  const auto pointer = [&](raw_host& h) -> std::uint64_t {
    switch (below(16)) {
      case 0:
        return random();
      case 1:
        return guests[below(4)].memory.bus.value() + below(guest_bytes);  // the machine's address
      case 2:
        return h.bus(guest_bytes - below(4) * 4096);  // at the end, and beyond it
      case 3:
        return h.bus(below(guest_bytes)) & ~std::uint64_t{3};
      case 4:
        return below(8 * host::page);
      case 5:
        return ~std::uint64_t{4095};
      case 6:
        return h.bus(raw_host::lists + below(4096) * 4);
      default:
        return h.bus(raw_host::data + below((guest_bytes - raw_host::data) / 4096) * 4096);
    }
  };
  const auto command = [&](raw_host& h) {
    constexpr std::array<std::uint8_t, 12> opcodes{0, 1, 1, 1, 2, 2, 2, 2, 5, 8, 9, 12};
    nvme::submission_entry e{};
    e.cdw0 = below(40) == 0 ? static_cast<std::uint32_t>(random()) : opcodes[below(12)];
    e.set_command_id(static_cast<std::uint16_t>(random()));
    e.nsid = below(30) == 0 ? static_cast<std::uint32_t>(random()) : 1U;
    if (below(30) == 0)
      e.nsid = below(3) == 0 ? 0xffff'ffffU : static_cast<std::uint32_t>(below(3));
    std::uint64_t lba = below(blocks);
    if (below(8) == 0) lba = blocks - below(300);
    if (below(16) == 0) lba = random();
    if (below(16) == 0) lba = ~std::uint64_t{0} - below(4000);
    e.cdw10 = static_cast<std::uint32_t>(lba);
    e.cdw11 = static_cast<std::uint32_t>(lba >> 32);
    std::uint64_t nlb = below(4) == 0 ? below(300) : below(40);
    if (below(32) == 0) nlb = 65'535;
    e.cdw12 = static_cast<std::uint32_t>(nlb);
    if (below(20) == 0) e.cdw12 = static_cast<std::uint32_t>(random());
    e.mptr = random();
    e.prp1 = pointer(h);
    e.prp2 = pointer(h);
    for (std::uint64_t n = below(3); n != 0; --n) {
      const le<std::uint64_t> entry{pointer(h)};
      std::memcpy(h.at(raw_host::lists + below(2047) * 8), &entry, 8);
    }
    return e;
  };
  std::uint64_t rounds = 0;
  const auto handled = [&] {
    const auto& c = r.engine->counters();
    return c.forwarded + c.refused + c.admin;
  };
  while (handled() < commands) {
    raw_host& h = hosts[below(3)];
    ++rounds;
    // Data that was read may lie in the rings; and every so often the host begins anew, with commands in
    // flight.
    if (below(40) == 0 || h.csts() != 1) {
      if (below(2) == 0) r.engine->function_reset(h.g->id());
      h.start();
    }
    if (below(20) == 0) {
      nvme::submission_entry e{};
      for (unsigned i = 0; i != 16; ++i) {
        const le<std::uint32_t> w{static_cast<std::uint32_t>(random())};
        std::memcpy(reinterpret_cast<std::byte*>(&e) + 4 * i, &w, 4);
      }
      e.cdw0 = static_cast<std::uint32_t>(below(16) | below(1000) << 16);
      if (below(2) == 0) {
        e.prp1 = pointer(h);
        e.cdw10 = static_cast<std::uint32_t>(below(4) | below(100) << 16);
        e.cdw11 = static_cast<std::uint32_t>(below(8) | below(4) << 16);
      }
      h.put(raw_host::asq, h.admin_tail, e);
      h.admin_tail = (h.admin_tail + 1) % raw_host::depth;
      h.bell(0, h.admin_tail);
    }
    for (std::uint64_t n = below(raw_host::depth); n != 0; --n) h.submit(command(h));
    h.bell(2, h.tail);
    if (below(50) == 0) h.bell(below(6), static_cast<std::uint32_t>(random()));
    if (below(50) == 0) h.bell(below(6), static_cast<std::uint32_t>(below(70)));
    if (below(100) == 0) {
      r.engine->write32(h.g->id(), static_cast<std::uint32_t>(below(0x40) * 4),
                        static_cast<std::uint32_t>(random()));
    }
    r.step();
    (void)h.take();
  }
  for (raw_host& h : hosts) REQUIRE(h.disable());
  for (std::uint16_t f = 0; f != 4; ++f) CHECK(r.engine->in_flight(f) == 0);
  INFO("rounds: ", rounds, ", forwarded: ", r.engine->counters().forwarded);
  CHECK(r.engine->counters().forwarded > commands / 20);
  CHECK(r.queue->health());
  CHECK(r.fabric.dma_faults().count() == 0);

  CHECK(std::memcmp(bystander.data(), guests[3].memory.data(), guest_bytes) == 0);
  std::uint64_t changed = 0;
  for (std::uint64_t b = 0; b != disk_bytes / 512; ++b) {
    bool hostile = false;
    for (unsigned f = 0; f != 3; ++f) hostile |= b >= first[f] && b < first[f] + blocks;
    const bool same = std::memcmp(&r.bytes[b * 512], &disk_before[b * 512], 512) == 0;
    if (!hostile) REQUIRE(same);
    changed += !same;
  }
  CHECK(changed > 100);
  for (std::uint16_t f = 0; f != 3; ++f) {
    const auto clean = [&](std::span<const std::byte> bytes) {
      for (std::size_t i = 0; i + 8 <= bytes.size(); i += 4) {
        std::uint64_t w = 0;
        std::memcpy(&w, &bytes[i], 8);
        if (w - mark(0) < 3 && w != mark(f)) return false;
      }
      return true;
    };
    CHECK(clean(guests[f].memory.bytes));
    CHECK(clean(std::span{r.bytes}.subspan(first[f] * 512, blocks * 512)));
  }
}

TEST_CASE("a refused command ends with the status that the specification names") {
  rig r;
  host g{r, 2, guest_bytes};
  auto f = g.function(100, 1000);
  REQUIRE(r.engine->add(2, f));
  raw_host h{&r, &g};
  h.start();
  const auto read = [&](std::uint64_t lba, std::uint32_t blocks, std::uint64_t prp1,
                        std::uint64_t prp2 = 0) {
    auto e = nvme::nvm::read({.nsid = 1, .lba = lba, .blocks = blocks});
    e.prp1 = prp1;
    e.prp2 = prp2;
    e.set_command_id(0xabcd);
    const auto c = h.run(e);
    CHECK(c.command_id() == 0xabcd);
    CHECK(c.sq_id == 1);
    return c.status().code();
  };
  const std::uint64_t data = h.bus(raw_host::data);
  CHECK(read(0, 1, data) == code::success);
  CHECK(read(999, 1, data) == code::success);
  CHECK(read(1000, 1, data) == code::lba_out_of_range);
  CHECK(read(999, 2, data) == code::lba_out_of_range);
  CHECK(read(~std::uint64_t{0}, 2, data) == code::lba_out_of_range);
  CHECK(read(0, 1001, data) == code::lba_out_of_range);
  CHECK(read(0, 512, data) == code::invalid_field);  // beyond MDTS
  CHECK(read(0, 1, data + 2) == code::prp_offset_invalid);
  CHECK(read(0, 16, data, data + 4096 + 8) == code::prp_offset_invalid);
  CHECK(read(0, 1, 0) == code::data_transfer_error);
  CHECK(read(0, 1, h.bus(guest_bytes)) == code::data_transfer_error);
  CHECK(read(0, 16, data, h.bus(guest_bytes)) == code::data_transfer_error);
  CHECK(read(0, 64, data, h.bus(guest_bytes)) == code::data_transfer_error);
  const auto other = [&](nvme::submission_entry e) { return h.run(e).status().code(); };
  CHECK(other(nvme::nvm::read({.nsid = 2})) == code::invalid_namespace_or_format);
  CHECK(other(nvme::command(nvme::nvm_opcode::dataset_management, 1)) == code::invalid_opcode);
  CHECK(other(nvme::command(nvme::nvm_opcode::copy, 1)) == code::invalid_opcode);
  CHECK(other(nvme::nvm::flush(1)) == code::success);
  CHECK(other(nvme::nvm::flush(nvme::all_namespaces)) == code::success);
  auto fused = nvme::nvm::read({.nsid = 1});
  fused.set_fuse(nvme::fused::first);
  CHECK(other(fused) == code::invalid_field);
  auto sgl = nvme::nvm::read({.nsid = 1});
  sgl.set_psdt(nvme::data_pointer::sgl_metadata_buffer);
  CHECK(other(sgl) == code::invalid_field);

  const auto admin = [&](nvme::submission_entry e) { return h.admin(e).status().code(); };
  CHECK(admin(nvme::command(nvme::admin_opcode::format_nvm)) == code::invalid_opcode);
  CHECK(admin(nvme::command(nvme::admin_opcode::doorbell_buffer_config)) == code::invalid_opcode);
  const bus_addr ring{data};
  CHECK(admin(nvme::admin::create_io_cq({.qid = 1, .entries = 16, .memory = ring})) ==
        code::invalid_queue_id);
  CHECK(admin(nvme::admin::create_io_cq({.qid = 3, .entries = 16, .memory = ring})) ==
        code::invalid_queue_id);
  CHECK(admin(nvme::admin::create_io_cq({.qid = 2, .entries = 65'536, .memory = ring})) ==
        code::invalid_queue_size);
  CHECK(admin(nvme::admin::create_io_cq({.qid = 2, .entries = 16, .memory = ring, .vector = 9})) ==
        code::invalid_interrupt_vector);
  CHECK(admin(nvme::admin::create_io_sq({.qid = 2, .entries = 16, .memory = ring, .cqid = 2})) ==
        code::completion_queue_invalid);
  CHECK(admin(nvme::admin::delete_io_cq(1)) == code::invalid_queue_deletion);
  CHECK(admin(nvme::admin::delete_io_sq(2)) == code::invalid_queue_id);
  CHECK(admin(nvme::admin::delete_io_sq(1)) == code::success);
  CHECK(admin(nvme::admin::delete_io_cq(1)) == code::success);
}

TEST_CASE("a function moves to another engine with what waits in its queues") {
  rig from;
  rig to;
  host g{from, 1, guest_bytes};
  host there{to, 5, guest_bytes};
  REQUIRE(from.engine->add(1, g.function(0, 1000)));
  REQUIRE(to.engine->add(5, there.function(0, 1000)));
  raw_host h{&from, &g};
  h.start();
  CHECK_FALSE(from.engine->save(1).has_value());  // not quiesced
  from.engine->quiesce(1);
  for (unsigned i = 0; i != 3; ++i) {
    auto e = nvme::nvm::read({.nsid = 1, .lba = i});
    e.prp1 = h.bus(raw_host::data + i * 4096);
    e.set_command_id(static_cast<std::uint16_t>(70 + i));
    h.submit(e);
  }
  h.bell(2, h.tail);
  for (unsigned i = 0; i != 10; ++i) from.step();
  CHECK(h.take() == 0);  // nothing is fetched
  REQUIRE(from.engine->quiesced(1));
  auto saved = from.engine->save(1);
  REQUIRE(saved);
  // The host's memory moves as well; its addresses are the same.
  std::memcpy(there.memory.data(), g.memory.data(), guest_bytes);
  fill({to.bytes.data(), 4096}, 4);
  auto bad = *saved;
  bad.version = 7;
  CHECK(to.engine->restore(5, bad).error().code == errc::not_supported);
  bad = *saved;
  bad.sq[1].completion_queue = 2;
  CHECK_FALSE(to.engine->restore(5, bad).has_value());
  bad = *saved;
  bad.cq[1].vector = 700;
  CHECK_FALSE(to.engine->restore(5, bad).has_value());
  bad = *saved;
  bad.sq[1].head = bad.sq[1].entries;
  CHECK_FALSE(to.engine->restore(5, bad).has_value());
  bad = *saved;
  bad.asq ^= 1U << 20;
  CHECK_FALSE(to.engine->restore(5, bad).has_value());
  REQUIRE(to.engine->restore(5, *saved));
  raw_host moved = h;
  moved.r = &to;
  moved.g = &there;
  for (unsigned i = 0; i != 10; ++i) to.step();
  nvme::completion_entry last{};
  CHECK(moved.take(&last) == 3);
  CHECK(last.status().ok());
  CHECK(to.interrupts.raised[5][1] != 0);
  CHECK(std::memcmp(moved.at(raw_host::data + 4096), to.bytes.data() + 512, 512) == 0);
  CHECK(moved.run(nvme::nvm::flush(1)).status().ok());
}

TEST_CASE("deletion and reset wait for commands at the drive") {
  rig r;
  host g{r, 0, guest_bytes};
  REQUIRE(r.engine->add(0, g.function(0, 1000)));
  raw_host h{&r, &g};
  h.start();
  const auto post = [&] {
    for (unsigned i = 0; i != 4; ++i) {
      auto e = nvme::nvm::read({.nsid = 1, .lba = i});
      e.prp1 = h.bus(raw_host::data);
      h.submit(e);
    }
    h.bell(2, h.tail);
    r.engine->poll();
    REQUIRE(r.engine->in_flight(0) == 4);
  };
  post();
  h.put(raw_host::asq, h.admin_tail, nvme::admin::delete_io_sq(1));
  h.bell(0, h.admin_tail = (h.admin_tail + 1) % raw_host::depth);
  r.engine->poll();
  CHECK(h.entry(raw_host::acq, h.admin_head).phase() != h.admin_phase);
  r.step();
  CHECK(h.take() == 4);
  CHECK(h.entry(raw_host::acq, h.admin_head).phase() == h.admin_phase);
  CHECK(h.entry(raw_host::acq, h.admin_head).status().ok());

  REQUIRE(h.disable());
  h.start();
  post();
  r.engine->write32(0, nvme::cc::offset, 0);
  CHECK(h.csts() == 1);
  CHECK(r.engine->remove(0).error().code == errc::busy);
  const auto seen = h.entry(raw_host::cq, 0);
  r.step();
  CHECK(h.csts() == 0);
  CHECK(h.entry(raw_host::cq, 0) == seen);  // nothing is posted after a reset began
  CHECK(r.engine->remove(0));
  CHECK(r.engine->read32(0, 0) == 0xffff'ffff);
}

TEST_CASE("functions share the drive by their weights, and keep to their limits") {
  rig r{16};  // the drive takes 15 commands at a time
  std::deque<host> guests;
  std::deque<raw_host> hosts;
  for (std::uint16_t f = 0; f != 3; ++f) {
    guests.emplace_back(r, f, guest_bytes);
    auto made = guests[f].function(f * 2000U, 1000);
    made.weight = f == 1 ? 3 : 1;
    if (f == 2) made.limits.operations = {.rate = 1000, .burst = 1};
    REQUIRE(r.engine->add(f, made));
    hosts.push_back({&r, &guests[f]});
    hosts[f].start();
  }
  // 20000 rounds of a microsecond; the hosts keep their queues full.
  std::array<std::uint64_t, 3> done{};
  const auto began = r.now;
  for (unsigned round = 0; round != 20'000; ++round) {
    for (std::uint16_t f = 0; f != 3; ++f) {
      raw_host& h = hosts[f];
      done[f] += h.take();
      while ((h.tail + 1) % raw_host::depth != h.head) {
        auto e = nvme::nvm::read({.nsid = 1, .blocks = 8});
        e.prp1 = h.bus(raw_host::data);
        h.submit(e);
      }
      h.bell(2, h.tail);
    }
    r.step();
  }
  const double elapsed = static_cast<double>(r.now - began) * 1e-9;
  CHECK(static_cast<double>(done[2]) == doctest::Approx(1000 * elapsed).epsilon(0.1));
  MESSAGE("operations of weight 1 and 3: ", done[0], " ", done[1]);
  CHECK(static_cast<double>(done[1]) / static_cast<double>(done[0]) ==
        doctest::Approx(3).epsilon(0.03));
  CHECK(done[0] > 1000);
}

TEST_CASE("the state of 4 physical and 252 virtual functions fits on-chip memory") {
  using engine = engine_of<systems::mediated_policy>;
  MESSAGE("bytes of an engine for 256 functions: ", sizeof(engine));
  CHECK(sizeof(engine) <= 256 * 1024);
}
