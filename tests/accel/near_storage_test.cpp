// SPDX-License-Identifier: BSL-1.0
// Commands, and the overlay in virtual time. The measured times are simulated.
#include <phasebit/accel/near_storage/command.hpp>
#include <phasebit/accel/near_storage/nvme_programs.hpp>
#include <phasebit/accel/near_storage/overlay.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit;
using namespace phasebit::accel::near_storage;

namespace {

constexpr limits device{.operators = 0xff, .service_classes = 2, .block_count = 1000};

command good() {
  command c{};
  c.request_id = 1;
  c.type = 1;
  c.operators = 2;
  c.op_chain[0] = 3;
  c.op_chain[1] = 4;
  c.file = 10;
  c.blocks = 8;
  return c;
}
request simple(std::uint32_t id, std::uint8_t op, std::uint32_t wait_for = 0) {
  request r;
  r.id = id;
  r.wait_for = wait_for;
  r.operators = 1;
  r.chain[0] = op;
  r.blocks = 10;
  return r;
}

}  // namespace

TEST_CASE("a command is checked field by field") {
  CHECK(parse(good(), device)->chain[1] == 4);
  const auto code = [](auto change) {
    command c = good();
    change(c);
    const auto r = parse(c, device);
    return r ? errc::cancelled : r.error().code;
  };
  CHECK(code([](command& c) { c.type = 3; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.mode = 2; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.request_id = 0; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.wait_for = 1; }) == errc::loop);
  CHECK(code([](command& c) { c.service_class = 2; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.operators = 0; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.operators = 9; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.op_chain[1] = 8; }) == errc::not_found);
  CHECK(code([](command& c) { c.op_chain[1] = 255; }) == errc::not_found);
  CHECK(code([](command& c) { c.op_chain[2] = 1; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.reserved[15] = 1; }) == errc::invalid_argument);
  CHECK(code([](command& c) { c.blocks = 0; }) == errc::out_of_range);
  CHECK(code([](command& c) { c.file = 993; }) == errc::out_of_range);
  CHECK(code([](command& c) { c.file = ~std::uint64_t{0}; }) == errc::out_of_range);
  CHECK(code([](command& c) { c.mode = 1, c.blocks = 257; }) == errc::out_of_range);
  CHECK(code([](command& c) { c.file = 992; }) == errc::cancelled);
  command c = good();
  c.op_chain[1] = 8;
  CHECK(parse(c, device).error().index == 1);
}

TEST_CASE("reads go to the SSD first, writes last, and NVMe commands point at device memory") {
  CHECK(stages_of(command_type::read).stages[0] == stage::ssd_read);
  CHECK(stages_of(command_type::write).stages[1] == stage::ssd_write);
  CHECK(stages_of(command_type::compute).count == 2);
  std::array<std::uint8_t, 64> nvme{};
  nvme.fill(0xaa);
  redirect_prp(nvme, 0x12345000, 8192);
  CHECK(nvme[23] == 0xaa);
  CHECK(nvme[25] == 0x50);
  CHECK(nvme[33] == 0x60);
  CHECK(nvme[40] == 0xaa);
}

TEST_CASE("NVMe program commands carry their fields, and Execute becomes a request") {
  const auto c = execute(5, 1, 2, 3, 4096, 0x1234567890, 7, 8);
  CHECK(c.dword[1].get() == 5);
  CHECK(c.dword[2].get() == 0x20001);
  CHECK(c.dword[6].get() == 0x34567890);
  CHECK(c.dword[12].get() == 8);
  CHECK((load_program(1, 2, 3, 4, 5, 6).dword[10].get() & 0xffff) == 1);
  CHECK((activate_program(1, true).dword[0].get() & 0xff) == 0x88);
  CHECK(set_memory_ranges(true, 9, 2, 0x1000).dword[10].get() == 9U << 16);
  CHECK((access_local_memory(true, 1, 2, 3, 4).dword[0].get() & 0xff) == 5);
  std::array<program, 2> programs{};
  CHECK(to_request(c, 77, programs).error().code == errc::not_found);
  programs[1] = {false, 2, {3, 4}};
  CHECK(to_request(c, 77, programs).error().code == errc::not_ready);
  programs[1].active = true;
  const auto r = to_request(c, 77, programs);
  CHECK(r->chain[1] == 4);
  CHECK(r->buffer == 0x1234567890);
  CHECK(to_request(load_program(1, 2, 3, 4, 5, 6), 1, programs).error().code == errc::protocol);
}

TEST_CASE(
    "requests of one id run in order, a request waits for another id, and loops are refused") {
  overlay<4, 8> o{{}};
  std::vector<std::uint32_t> order;
  const auto run = [&] {
    std::uint64_t now = 0;
    for (int turns = 0; o.pending() != 0 && turns != 100; ++turns) {
      o.advance(now, [&](const request& r, std::uint64_t) noexcept {
        order.push_back(static_cast<std::uint32_t>(r.blocks));
      });
      if (o.next_event() != ~std::uint64_t{0}) now = o.next_event();
    }
  };
  auto a = simple(1, 0);
  a.blocks = 1000;
  auto b = simple(1, 1);
  b.blocks = 1;
  auto c = simple(2, 2, 1);
  c.blocks = 2;
  CHECK(o.submit(a, 0));
  CHECK(o.submit(b, 0));
  CHECK(o.submit(c, 0));
  CHECK(o.submit(simple(5, 0, 9), 0).error().code == errc::not_found);
  CHECK(o.submit(simple(1, 0, 2), 0).error().code == errc::loop);
  run();
  CHECK((order == std::vector<std::uint32_t>{1000, 1, 2}));
}

TEST_CASE("a chain that uses an operator twice takes a region for each use") {
  overlay<4, 8> o{{}};
  o.preload(0, 1);
  request r = simple(1, 1);
  r.operators = 2;
  r.chain[1] = 1;
  REQUIRE(o.submit(r, 0));
  unsigned ended = 0;
  const auto each = [&](const request&, std::uint64_t) noexcept { ++ended; };
  o.advance(0, each);
  REQUIRE(o.next_event() != ~std::uint64_t{0});
  CHECK(o.account(0).reconfigurations == 1);  // the second region was empty
  o.advance(o.next_event(), each);
  CHECK(ended == 1);
}

TEST_CASE("a chain longer than the overlay is refused, and so is one request too many") {
  overlay<2, 2> o{{}};
  request r = simple(1, 0);
  r.operators = 3;
  CHECK(o.submit(r, 0).error().code == errc::out_of_range);
  CHECK(o.submit(simple(1, 0), 0));
  CHECK(o.submit(simple(2, 0), 0));
  CHECK(o.submit(simple(3, 0), 0).error().code == errc::exhausted);
}

namespace {

struct totals {
  std::uint64_t violations = 0;
  std::uint64_t completed = 0;
  std::uint64_t longest_wait = 0;
};

// Class 0 comes in bursts of short requests with a target of 2 ms; class 1 is a steady flow of long
// ones. Eight regions in both runs, with the operators of both classes loaded.
totals simulate(bool partitioned, std::uint64_t seed) {
  overlay_options options;
  options.partitioned = partitioned;
  const auto o = std::make_unique<overlay<8, 256>>(options);
  for (std::size_t g = 0; g != 8; ++g) o->preload(g, static_cast<std::uint8_t>(g % 2));
  std::mt19937_64 r{seed};
  struct arrival {
    std::uint64_t at;
    request what;
  };
  std::vector<arrival> all;
  std::uint32_t id = 1;
  for (std::uint64_t burst = 0; burst != 100; ++burst) {
    const std::uint64_t at = burst * 40'000'000 + r() % 5'000'000;
    const std::uint64_t count = 6 + r() % 6;
    for (std::uint64_t k = 0; k != count; ++k) {
      request q = simple(id++, 0);
      q.blocks = 700 + r() % 300;
      all.push_back({at + r() % 100'000, q});
    }
  }
  for (std::uint64_t at = 0; at < 4'000'000'000; at += 4'000'000 + r() % 4'000'000) {
    request q = simple(id++, 1);
    q.service_class = 1;
    q.blocks = 500 + r() % 1000;
    all.push_back({at, q});
  }
  std::sort(all.begin(), all.end(), [](const arrival& a, const arrival& b) { return a.at < b.at; });
  std::size_t next = 0;
  std::uint64_t now = 0;
  const auto nothing = [](const request&, std::uint64_t) noexcept {};
  while (next != all.size() || o->pending() != 0) {
    const std::uint64_t arrives = next != all.size() ? all[next].at : ~std::uint64_t{0};
    const std::uint64_t ends = o->next_event();
    now = arrives < ends ? arrives : ends;
    if (now == ~std::uint64_t{0}) break;
    while (next != all.size() && all[next].at <= now) {
      if (!o->submit(all[next].what, now)) break;
      ++next;
    }
    o->advance(now, nothing);
  }
  totals t;
  for (const std::uint8_t c : std::array<std::uint8_t, 2>{0, 1}) {
    t.violations += o->account(c).violations;
    t.completed += o->account(c).completed;
    if (o->account(c).longest_wait_ns > t.longest_wait)
      t.longest_wait = o->account(c).longest_wait_ns;
  }
  CHECK(t.completed == all.size());
  return t;
}

}  // namespace

TEST_CASE(
    "simulation: the shared pool violates QoS at most a fifth as often as static partitions") {
  std::uint64_t shared = 0;
  std::uint64_t fixed = 0;
  for (std::uint64_t seed = 1; seed != 6; ++seed) {
    const totals a = simulate(false, seed);
    const totals b = simulate(true, seed);
    MESSAGE("seed ", seed, ": shared ", a.violations, " of ", a.completed, ", static ",
            b.violations, ", longest wait shared ", a.longest_wait, " ns");
    shared += a.violations;
    fixed += b.violations;
    CHECK(a.longest_wait < 40'000'000);
  }
  CHECK(fixed > 100);
  CHECK(shared * 5 <= fixed);
}

TEST_CASE("a request that waits beyond the bound starts before later ones of a more urgent class") {
  overlay_options options;
  options.reconfiguration_ns = 0;
  overlay<1, 64> o{options};
  request slow = simple(1, 1);
  slow.service_class = 1;
  std::uint64_t now = 0;
  std::uint64_t slow_ended = 0;
  CHECK(o.submit(simple(2, 0), 0));
  o.advance(0, [](const request&, std::uint64_t) noexcept {});
  CHECK(o.submit(slow, 0));
  // An urgent request is always waiting.
  for (std::uint32_t id = 3; now < 200'000'000 && slow_ended == 0; ++id) {
    request urgent = simple(id, 0);
    urgent.blocks = 1000;
    static_cast<void>(o.submit(urgent, now));
    now = o.next_event();
    o.advance(now, [&](const request& r, std::uint64_t latency) noexcept {
      if (r.id == 1) slow_ended = latency;
    });
  }
  CHECK(slow_ended > 20'000'000);
  CHECK(slow_ended < 25'000'000);
}

TEST_CASE("a class without a target has the latest deadline, not the earliest") {
  overlay_options options;
  options.target_ns[1] = ~std::uint64_t{0};
  overlay<1, 64> o{options};
  std::vector<std::uint32_t> ended;
  const auto note = [&](const request& r, std::uint64_t) noexcept { ended.push_back(r.id); };
  CHECK(o.submit(simple(1, 0), 1000));
  o.advance(1000, note);
  request patient = simple(2, 0);
  patient.service_class = 1;
  CHECK(o.submit(patient, 1000));
  CHECK(o.submit(simple(3, 0), 1000));
  while (o.pending() != 0) o.advance(o.next_event(), note);
  CHECK(ended == std::vector<std::uint32_t>{1, 3, 2});
}
