// SPDX-License-Identifier: BSL-1.0
#include "random_sequence.hpp"

#include <phasebit/accel/engine_scheduler.hpp>
#include <phasebit/accel/execution.hpp>
#include <phasebit/accel/software_engine.hpp>
#include <phasebit/memory/memory_domain_models.hpp>
#include <phasebit/memory/region_map.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/sanitizers.hpp>

using namespace phasebit;
using namespace phasebit::accel;
using phasebit_test::random_sequence;

namespace {

std::array<xts_key, 2> make_keys() {
  std::array<std::uint8_t, 32> raw{};
  for (std::size_t k = 0; k != 32; ++k) raw[k] = static_cast<std::uint8_t>(k);
  const xts_key a = *xts_key::make(raw);
  raw[0] = 99;
  return {a, *xts_key::make(raw)};
}
const std::array<xts_key, 2> keys = make_keys();

using software = software_engine<>;

// Work is done in poll(), in an order drawn at random: what independent queues of a device do.
struct shuffled_engine {
  software inner{plain_cipher<>{keys}};
  struct job {
    work w;
    std::uint64_t tag;
  };
  std::vector<job> jobs;
  std::mt19937 random{1};
  std::size_t capacity = 3;
  std::size_t most_at_once = 0;
  int vanish_after = -1;
  int fail_after = -1;

  [[nodiscard]] engine_capabilities capabilities() const noexcept { return inner.capabilities(); }
  result<engine_progress> submit(const work& w, std::uint64_t tag, work_result&) noexcept {
    if (vanish_after == 0) return failure(errc::removed, "the engine is gone");
    if (jobs.size() == capacity) return failure(errc::busy, "the engine's queue is full");
    jobs.push_back({w, tag});
    most_at_once = std::max(most_at_once, jobs.size());
    return engine_progress::pending;
  }
  std::size_t poll(engine_sink sink) noexcept {
    if (jobs.empty() || random() % 3 == 0) return 0;
    const std::size_t k = random() % jobs.size();
    const job j = jobs[k];
    jobs.erase(jobs.begin() + static_cast<std::ptrdiff_t>(k));
    work_result r;
    if (vanish_after > 0) --vanish_after;
    if (fail_after > 0) --fail_after;
    if (vanish_after == 0 || fail_after == 0) {
      const error gone = failure(vanish_after == 0 ? errc::removed : errc::io, "the engine failed");
      fail_after = -1;
      sink.complete(sink.context, j.tag, r, &gone);
      return 1;
    }
    if (const auto done = inner.submit(j.w, j.tag, r); !done) {
      sink.complete(sink.context, j.tag, r, &done.error());
    } else {
      sink.complete(sink.context, j.tag, r, nullptr);
    }
    return 1;
  }
};
static_assert(Engine<shuffled_engine> && Engine<software> && Engine<recording_engine<software>>);

domain_segment local(std::span<std::byte> bytes) { return local_segment(bytes); }

struct fixture {
  std::vector<std::byte> memory = std::vector<std::byte>(16384);
  std::vector<std::byte> pool = std::vector<std::byte>(65536);
  std::vector<std::byte> far = std::vector<std::byte>(4096);
  simulated_remote_domain<2> remote{far};
  domain_table<> domains;
  domain_id r = *domains.add(remote);
  software engine{plain_cipher<>{keys}};

  fixture() {
    std::mt19937 random{5};
    for (auto& b : memory) b = static_cast<std::byte>(random());
    for (auto& b : far) b = static_cast<std::byte>(random());
  }
  std::span<std::byte> at(std::size_t offset, std::size_t n) {
    return std::span{memory}.subspan(offset, n);
  }
  template <class Sequence, class E>
  outcome run(Sequence& s, E& e) {
    execution run{s, e, domains};
    REQUIRE(run.start(pool, pool.size()));
    for (int turns = 0; !run.poll() && turns != 10000; ++turns) {
    }
    REQUIRE(run.finished());
    REQUIRE(run.in_flight() == 0);
    return run.result_of_run();
  }
};

}  // namespace

TEST_CASE_FIXTURE(fixture, "each operation computes its documented result") {
  sequence<16> s;
  const auto a = at(0, 512);
  const auto b = at(1000, 512);
  const auto c = at(2000, 512);
  const auto p = at(3000, 520);
  const auto q = at(4000, 512);
  std::vector<std::byte> a0(a.begin(), a.end());
  std::vector<std::byte> b0(b.begin(), b.end());
  const auto la = local(a);
  const auto lb = local(b);
  const std::array<segment_list, 2> sources{la, lb};
  CHECK(s.exclusive_or(local(c), sources));
  const auto sum = *s.crc32c(local(a));
  const auto narrow = *s.crc16_t10dif(local(a));
  CHECK(s.dif_insert(local(p), local(a), {.reference_tag = 7, .application_tag = 9}));
  const auto verified = *s.dif_verify(local(p), {.reference_tag = 7, .application_tag = 9});
  CHECK(s.dif_strip(local(q), local(p), {.reference_tag = 7, .application_tag = 9}));
  const auto equal = *s.compare(local(q), local(a));
  CHECK(s.fill(local(b), 0x0807060504030201));
  const outcome o = run(s, engine);
  CHECK(o.good);
  bool same = true;
  for (std::size_t k = 0; k != 512; ++k) same = same && c[k] == (a0[k] ^ b0[k]);
  CHECK(same);
  CHECK(s.result_of(sum).value == crc32c(a0));
  CHECK(s.result_of(narrow).value == crc16_t10dif(a0));
  CHECK(s.result_of(verified).good());
  CHECK(s.result_of(equal).good());
  CHECK(b[511] == std::byte{8});
  CHECK(p[512] == static_cast<std::byte>(crc16_t10dif(a0) >> 8));
  CHECK(p[515] == std::byte{9});
  CHECK(p[519] == std::byte{7});
}

TEST_CASE_FIXTURE(fixture, "exclusive_or of a destination with itself counts the pairs") {
  for (const int own : {1, 2, 3}) {
    sequence<> s;
    const auto a = local(at(0, 64));
    const auto b = local(at(100, 64));
    std::vector<segment_list> list(static_cast<std::size_t>(own), a);
    list.insert(list.begin() + 1, b);
    const std::vector<std::byte> a0(memory.begin(), memory.begin() + 64);
    CHECK(s.exclusive_or(a, list));
    CHECK(run(s, engine).good);
    bool same = true;
    for (std::size_t k = 0; k != 64; ++k) {
      same = same && memory[k] == (own % 2 == 1 ? a0[k] ^ memory[100 + k] : memory[100 + k]);
    }
    CHECK(same);
  }
}

TEST_CASE_FIXTURE(
    fixture, "a failed check names its step, its block and its kind, and later steps do not run") {
  sequence<> s;
  const auto p = at(0, 1560);
  const auto data = at(2000, 1536);
  CHECK(s.dif_insert(local(p), local(data), {}));
  CHECK(run(s, engine).good);
  p[520 + 100] ^= std::byte{1};
  s.clear();
  const auto out = at(8000, 8);
  const std::vector<std::byte> before(out.begin(), out.end());
  CHECK(s.copy(local(at(9000, 8)), local(at(9100, 8))));
  const auto bad = *s.dif_verify(local(p), {});
  CHECK(s.copy(local(out), local(at(9000, 8))));
  const outcome o = run(s, engine);
  CHECK_FALSE(o.good);
  CHECK(o.failed == bad);
  CHECK(o.status == step_status::guard_error);
  CHECK(s.result_of(bad).value == 1);
  CHECK(std::equal(out.begin(), out.end(), before.begin()));
}

TEST_CASE_FIXTURE(fixture, "what follows a compare that fails is not written") {
  sequence<> s;
  CHECK(s.compare(local(at(0, 64)), local(at(100, 64))));
  CHECK(s.zero(local(at(1000, 64))));
  const std::vector<std::byte> before(memory);
  CHECK(plan(s));
  shuffled_engine e;
  const outcome o = run(s, e);
  CHECK(o.status == step_status::mismatch);
  CHECK(memory == before);
}

TEST_CASE_FIXTURE(fixture, "remote memory is pulled and pushed around the engine's steps") {
  sequence<> s;
  const auto t = *s.scratch(512);
  const auto u = *s.scratch(512);
  const domain_segment source{0, 512, r};
  const domain_segment destination{2048, 512, r};
  CHECK(s.copy(t, source));
  CHECK(s.encrypt(u, t, {.unit_bytes = 512, .key = 0}));
  CHECK(s.copy(destination, u));
  const std::vector<std::byte> plain(far.begin(), far.begin() + 512);
  target where = target_of(domains, 1);
  const auto p = *accel::plan(s, where);
  CHECK(s.size() == 3);
  CHECK(p.scratch_bytes == 512);
  CHECK(run(s, engine).good);
  sequence<> back;
  CHECK(back.copy(local(at(0, 512)), destination));
  CHECK(back.decrypt(local(at(0, 512)), local(at(0, 512)), {.unit_bytes = 512, .key = 0}));
  CHECK(run(back, engine).good);
  CHECK(std::equal(plain.begin(), plain.end(), memory.begin()));
}

TEST_CASE_FIXTURE(fixture, "start refuses what cannot run, and nothing has been written") {
  const std::vector<std::byte> before(memory);
  const auto refused = [&](auto build) {
    sequence<> s;
    CHECK(s.zero(local(at(0, 8))));
    build(s);
    execution run{s, engine, domains};
    const auto started = run.start(pool, 0);
    CHECK(memory == before);
    return started ? error{} : started.error();
  };
  const domain_segment there{0, 512, r};
  CHECK(refused([&](sequence<>& s) {
          CHECK(s.compress(local(at(0, 8)), local(at(100, 8))));
        }).code == errc::not_supported);
  const error e = refused([&](sequence<>& s) { CHECK(s.crc32c(there)); });
  CHECK(e.code == errc::not_supported);
  CHECK(e.index == 1);
  const domain_segment unknown{0, 512, domain_id{9}};
  CHECK(refused([&](sequence<>& s) { CHECK(s.crc32c(unknown)); }).code == errc::not_found);
  const domain_segment more{1024, 512, r};
  CHECK(refused([&](sequence<>& s) { CHECK(s.copy(more, there)); }).code == errc::not_supported);
  CHECK(refused([&](sequence<>& s) { CHECK(s.fill(there, 5)); }).code == errc::not_supported);

  sequence<> s;
  CHECK(s.zero(local(at(0, 8))));
  execution run{s, engine, domains};
  CHECK(run.start(std::span{pool}.first(10), 11).error().code == errc::exhausted);
  CHECK(run.start(pool, 0));
  CHECK(run.start(pool, 0).error().code == errc::busy);
}

TEST_CASE_FIXTURE(
    fixture, "an engine without the key or the data unit size fails with an error that names it") {
  sequence<> s;
  CHECK(s.encrypt(local(at(0, 512)), local(at(0, 512)), {.key = 5}));
  const outcome o = run(s, engine);
  CHECK(o.code == errc::not_found);
  CHECK(o.status == step_status::engine_error);
  sequence<> odd;
  CHECK(odd.encrypt(local(at(0, 520)), local(at(0, 520)), {.unit_bytes = 520}));
  CHECK(run(odd, engine).code == errc::not_supported);
}

TEST_CASE_FIXTURE(
    fixture, "an engine or domain that fails or vanishes half way ends the run with its step") {
  for (int fault = 0; fault != 4; ++fault) {
    for (int when = 1; when != 5; ++when) {
      sequence<> s;
      const domain_segment there{0, 256, r};
      const auto t = *s.scratch(256);
      CHECK(s.copy(t, there));
      CHECK(s.crc32c(t));
      CHECK(s.copy(local(at(0, 256)), t));
      CHECK(s.crc32c(local(at(0, 256))));
      CHECK(s.copy(local(at(1000, 256)), local(at(0, 256))));
      assign_scratch(s);
      shuffled_engine e;
      if (fault == 0) e.vanish_after = when;
      if (fault == 1) e.fail_after = when;
      std::vector<std::byte> elsewhere(4096);
      simulated_remote_domain<2> other{elsewhere};
      domain_table<> table;
      REQUIRE(table.add(other)->value == r.value);
      if (fault == 2) other.fail_next();
      if (fault == 3) other.vanish();
      execution run{s, e, table};
      REQUIRE(run.start(pool, pool.size()));
      for (int turns = 0; !run.poll() && turns != 10000; ++turns) {
      }
      REQUIRE(run.finished());
      CHECK(run.in_flight() == 0);
      const outcome o = run.result_of_run();
      CHECK_FALSE(o.good);
      CHECK(o.status == step_status::engine_error);
      CHECK(o.code == (fault % 3 == 0 ? errc::removed : errc::io));
      CHECK(s.result_of(o.failed).status == step_status::engine_error);
    }
  }
}

TEST_CASE_FIXTURE(fixture, "a run is aborted at each point and ends when nothing is in flight") {
  for (int when = 0; when != 40; ++when) {
    sequence<> s;
    const domain_segment there{0, 256, r};
    const auto t = *s.scratch(256);
    CHECK(s.copy(t, there));
    CHECK(s.crc32c(t));
    CHECK(s.copy(local(at(0, 256)), t));
    CHECK(s.zero(local(at(3000, 256))));
    assign_scratch(s);
    shuffled_engine e;
    e.random.seed(static_cast<std::uint32_t>(when));
    execution run{s, e, domains};
    REQUIRE(run.start(pool, pool.size()));
    for (int turns = 0; turns != when && !run.finished(); ++turns) run.poll();
    const bool was_over = run.finished();
    run.abort();
    for (int turns = 0; !run.poll() && turns != 1000; ++turns) {
    }
    REQUIRE(run.finished());
    CHECK(run.in_flight() == 0);
    CHECK(e.jobs.empty());
    CHECK(remote.pending() == 0);
    const outcome o = run.result_of_run();
    CHECK((o.good || o.status == step_status::aborted));
    if (was_over) CHECK(o.good);
  }
  sequence<> never;
  CHECK(never.zero(local(at(0, 8))));
  execution run{never, engine, domains};
  run.abort();
  CHECK(run.finished());
  CHECK(run.result_of_run().status == step_status::aborted);
}

TEST_CASE_FIXTURE(fixture, "independent steps run side by side, dependent ones in order") {
  sequence<> s;
  for (std::size_t k = 0; k != 4; ++k) CHECK(s.zero(local(at(k * 100, 50))));
  shuffled_engine e;
  CHECK(run(s, e).good);
  CHECK(e.most_at_once == 3);
}

TEST_CASE_FIXTURE(fixture, "guest memory is resolved before planning, cut where its regions end") {
  guest_memory<4> map;
  CHECK(map.add({guest_addr{0}, 256, memory.data()}));
  CHECK(map.add({guest_addr{256}, 256, memory.data() + 1024, phasebit::access::read}));
  mapped_domain guest{map};
  const auto g = *domains.add(guest);
  sequence<4, 12> s;
  const domain_segment whole{0, 512, g};
  CHECK(s.copy(local(at(4096, 512)), whole));
  CHECK(resolve(s, domains, local_domain));
  CHECK(s.sources(s[0]).size() == 2);
  CHECK(s.sources(s[0])[1].address == to_local(memory.data() + 1024).value());
  CHECK(run(s, engine).good);
  CHECK(std::memcmp(&memory[4096 + 256], &memory[1024], 256) == 0);
  sequence<4, 12> written;
  CHECK(written.zero(local(at(0, 8))));
  CHECK(written.zero(whole));
  const auto denied = resolve(written, domains, local_domain);
  CHECK(denied.error().code == errc::access_denied);
  CHECK(denied.error().index == 1);
  sequence<4, 3> full;
  CHECK(full.copy(local(at(4096, 512)), whole));
  CHECK(resolve(full, domains, local_domain).error().code == errc::exhausted);
}

TEST_CASE_FIXTURE(
    fixture, "a scheduler spreads independent steps and skips engines that lack the operation") {
  struct copies_only : shuffled_engine {
    [[nodiscard]] static engine_capabilities capabilities() noexcept {
      return {.operations = operation_set{operation::copy, operation::fill}};
    }
  };
  shuffled_engine a;
  copies_only b;
  a.capacity = b.capacity = 2;
  engine_scheduler both{a, b};
  static_assert(Engine<decltype(both)>);
  sequence<16> s;
  for (std::size_t k = 0; k != 6; ++k) CHECK(s.zero(local(at(k * 100, 50))));
  const auto sum = *s.crc32c(local(at(0, 50)));
  CHECK(run(s, both).good);
  CHECK(both.given(0) + both.given(1) == 7);
  CHECK(both.given(1) >= 2);
  CHECK(s.result_of(sum).good());
  sequence<> none;
  CHECK(none.compress(local(at(0, 8)), local(at(100, 8))));
  execution refused{none, both, domains};
  CHECK(refused.start(pool, 0).error().code == errc::not_supported);
  // One engine vanishes: the other takes what it can.
  a.vanish_after = 0;
  sequence<> fills;
  for (std::size_t k = 0; k != 4; ++k) CHECK(fills.zero(local(at(k * 100, 50))));
  CHECK(run(fills, both).good);
}

TEST_CASE_FIXTURE(fixture, "a recording engine remembers what was handed over") {
  recording_engine recorded{engine};
  sequence<> s;
  const auto t = *s.scratch(512);
  CHECK(s.copy(t, local(at(0, 512))));
  CHECK(s.encrypt(t, t, {.unit_bytes = 512, .key = 0}));
  CHECK(s.dif_insert(local(at(2000, 520)), t, {}));
  target where;
  where.fusions = software_fusions;
  const auto p = accel::plan(s, where);
  CHECK(p);
  CHECK(run(s, recorded).good);
  CHECK(recorded.count() == s.size());
  CHECK(recorded.entries().back().destination_bytes == 520);
}

TEST_CASE(
    "random sequences: planned and run by an asynchronous engine, or step by step, the bytes "
    "agree") {
  std::size_t compared = 0;
  for (std::uint64_t seed = 1; seed != test_support::scaled(12'000U); ++seed) {
    random_sequence source{seed * 77};
    const random_sequence::sequence drawn = source.make(8);
    bool usable = true;
    for (std::size_t i = 0; i != drawn.size(); ++i) {
      usable = usable && drawn[i].op != operation::compress && drawn[i].op != operation::decompress;
    }
    if (!usable) continue;
    struct world {
      std::vector<std::byte> memory = std::vector<std::byte>(5 * 5120);
      std::vector<std::byte> pool = std::vector<std::byte>(8192);
      std::unique_ptr<simulated_remote_domain<1>> three;
      domain_table<> domains;
    };
    const auto prepare = [&](world& w, random_sequence::sequence& s, bool far) {
      std::mt19937 r{static_cast<std::uint32_t>(seed)};
      for (auto& b : w.memory) b = static_cast<std::byte>(r());
      // Domain 2 is local memory 1000 bytes further on; 3 and 4 have their own, 3 a remote one.
      const auto base = to_local(w.memory.data()).value();
      w.three =
          std::make_unique<simulated_remote_domain<1>>(std::span{w.memory}.subspan(15360, 5120));
      struct placeholder {
        static domain_kind kind() noexcept { return domain_kind::device; }
        static domain_capabilities capabilities() noexcept { return {}; }
        static result<domain_progress> pull(std::uint64_t, std::span<std::byte>,
                                            std::uint64_t) noexcept {
          return failure(errc::not_supported, "placeholder");
        }
        static result<domain_progress> push(std::uint64_t, std::span<const std::byte>,
                                            std::uint64_t) noexcept {
          return failure(errc::not_supported, "placeholder");
        }
        static std::size_t poll(domain_sink) noexcept { return 0; }
      };
      static placeholder two;
      REQUIRE(w.domains.add(two)->value == 2);
      REQUIRE(w.domains.add(*w.three)->value == 3);
      for (std::size_t k = 0; k != s.segment_count(); ++k) {
        domain_segment& d = s.segment_at(k);
        if (d.domain == scratch_domain || (far && d.domain.value == 3)) continue;
        const std::uint64_t offset = d.domain.value == 2 ? 1000 : d.domain.value * 5120U;
        d = {base + offset + d.address, d.bytes, local_domain};
      }
    };
    world one;
    world other;
    random_sequence::sequence plainly = drawn;
    random_sequence::sequence planned = drawn;
    prepare(one, plainly, false);
    prepare(other, planned, true);
    const target where = target_of(other.domains, 1);
    {
      // Not every drawn sequence can run with a remote domain, or has disjoint streams in one memory.
      accel::detail::flow<random_sequence::sequence> f{planned, where};
      accel::detail::flow<random_sequence::sequence> g{plainly, where};
      for (std::size_t i = 0; i != planned.size() && usable; ++i) {
        usable = g.distinct_destination(i) &&
                 g.valid_streams(g.from(i), g.to(i), in_place_operations.has(plainly[i].op));
        if (planned[i].op == operation::copy) {
          for (const auto& a : f.from(i)) {
            for (const auto& b : f.to(i)) usable = usable && where.copies(a.domain, b.domain);
          }
        } else {
          const bool zero = planned[i].op == operation::fill && planned[i].with.value == 0;
          usable = usable && (zero || (f.reaches_all(f.from(i)) && f.reaches_all(f.to(i))));
        }
      }
    }
    if (!usable) continue;
    CAPTURE(seed);
    // The plain run: each step alone, failures do not stop the next.
    software engine{plain_cipher<>{keys}};
    std::array<step_result, 16> results{};
    assign_scratch(plainly);
    bool failed = false;
    std::vector<std::byte> pool(8 * 2048);
    for (std::size_t k = 0; k != plainly.segment_count(); ++k) {
      domain_segment& d = plainly.segment_at(k);
      if (d.domain != scratch_domain) continue;
      d = {to_local(pool.data()).value() + scratch_buffer_of(d.address) * 2048 +
               scratch_offset_of(d.address),
           d.bytes, local_domain};
    }
    for (std::size_t i = 0; i != plainly.size(); ++i) {
      work_result r;
      REQUIRE(engine.submit({&plainly[i], plainly[i].with, plainly.sources(plainly[i]),
                             plainly.destinations(plainly[i])},
                            i, r));
      const bool has_result = !pure_operations.has(plainly[i].op);
      if (has_result) results[plainly[i].id] = r.first;
      failed = failed || !r.first.good();
    }
    target fusing = where;
    fusing.fusions = software_fusions;
    const auto p = accel::plan(planned, fusing);
    REQUIRE(p);
    shuffled_engine asynchronous;
    asynchronous.random.seed(static_cast<std::uint32_t>(seed));
    execution run{planned, asynchronous, other.domains};
    REQUIRE(p->scratch_bytes <= other.pool.size());
    REQUIRE(run.start(other.pool, p->scratch_bytes));
    for (int turns = 0; !run.poll() && turns != 10000; ++turns) {
    }
    REQUIRE(run.finished());
    REQUIRE(run.result_of_run().good == !failed);
    if (failed) continue;
    ++compared;
    REQUIRE(one.memory == other.memory);
    for (std::size_t i = 0; i != drawn.size(); ++i) {
      if (pure_operations.has(drawn[i].op)) continue;
      const std::uint8_t id = drawn[i].id;
      REQUIRE(planned.result_of({id}) == results[id]);
    }
  }
  CHECK(compared > test_support::scaled(800U));
}
