// SPDX-License-Identifier: BSL-1.0
// Steps that exceed an engine's limits are cut: the engine then takes every step, and bytes and results are
// those of an engine without limits.
#include <phasebit/accel/execution.hpp>
#include <phasebit/accel/plan.hpp>
#include <phasebit/accel/software_engine.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <support/sanitizers.hpp>

using namespace phasebit;
using namespace phasebit::accel;

namespace {

using software = software_engine<portable_instructions, plain_cipher<portable_instructions>>;
using seq = sequence<64, 1024>;

// An engine with limits that refuses what exceeds them, and notes the longest work it was given.
class limited_engine {
 public:
  limited_engine(software& inner, std::uint64_t bytes, std::uint16_t segments)
      : inner_(&inner), bytes_(bytes), segments_(segments) {}
  [[nodiscard]] engine_capabilities capabilities() const noexcept {
    engine_capabilities c = inner_->capabilities();
    c.max_bytes = bytes_;
    c.max_segments = segments_;
    return c;
  }
  result<engine_progress> submit(const work& w, std::uint64_t tag, work_result& out) noexcept {
    if (const auto ok = check_step(capabilities(), *w.what); !ok) return ok.error();
    if (w.source.size() > segments_ || w.destination.size() > segments_) {
      return failure(errc::out_of_range, "more segments than the limit");
    }
    ++taken;
    return inner_->submit(w, tag, out);
  }
  std::size_t poll(engine_sink sink) noexcept { return inner_->poll(sink); }

  std::size_t taken = 0;

 private:
  software* inner_;
  std::uint64_t bytes_;
  std::uint16_t segments_;
};
static_assert(Engine<limited_engine>);

std::array<xts_key, 1> make_keys() {
  std::array<std::uint8_t, 64> raw{};
  for (std::size_t k = 0; k != 64; ++k) raw[k] = static_cast<std::uint8_t>(k);
  return {*xts_key::make(raw)};
}
const std::array<xts_key, 1> keys = make_keys();

struct world {
  std::vector<std::byte> memory = std::vector<std::byte>(1 << 16);
  std::vector<std::byte> pool = std::vector<std::byte>(1 << 17);
  explicit world(std::uint32_t seed) {
    std::mt19937 r{seed};
    for (auto& b : memory) b = static_cast<std::byte>(r());
  }
  domain_segment at(std::size_t offset, std::size_t n) {
    return local_segment(std::span{memory}.subspan(offset, n));
  }
};
std::vector<domain_segment> cut(domain_segment whole, std::mt19937& r) {
  std::vector<domain_segment> list;
  while (whole.bytes != 0) {
    const std::uint64_t n = std::min<std::uint64_t>(whole.bytes, 1 + r() % 3000);
    list.push_back({whole.address, n, whole.domain});
    whole.address += n;
    whole.bytes -= n;
  }
  return list;
}

// A few steps over the memory of `w`, cut into segments; the same for the same seed.
seq random_steps(world& w, std::uint32_t seed) {
  std::mt19937 r{seed};
  seq s;
  const std::size_t blocks = 1 + r() % 12;
  const std::size_t data = blocks * 512;
  const std::size_t both = blocks * 520;
  const auto t = *s.scratch(data);
  const auto place = [&](std::size_t slot, std::size_t n) { return w.at(slot * 8000, n); };
  const protection p{.reference_tag = r() % 100,
                     .type = static_cast<std::uint8_t>(r() % 2 == 0 ? 1 : 3)};
  const cipher c{.first_unit = r(), .unit_bytes = r() % 2 == 0 ? 512U : 64U, .key = 0};
  for (int k = 0; k != 4; ++k) {
    switch (r() % 10) {
      case 0:
        CHECK(s.copy(cut(place(1, data), r), cut(place(0, data), r)));
        break;
      case 1:
        CHECK(s.fill(cut(place(1, data - 3), r), 0x0807060504030201));
        break;
      case 2:
        CHECK(s.crc32c(cut(place(0, data - 5), r), r() % 2));
        break;
      case 3:
        CHECK(s.crc16_t10dif(cut(place(1, data), r)));
        break;
      case 4:
        CHECK(s.encrypt(t, cut(place(0, data), r), c));
        CHECK(s.dif_insert(cut(place(2, both), r), t, p));
        break;
      case 5:
        CHECK(s.dif_insert(place(3, both), place(0, data), p));
        CHECK(s.dif_verify(cut(place(3, both), r), p));
        CHECK(s.dif_strip(t, place(3, both), p));
        CHECK(s.decrypt(cut(place(4, data), r), t, c));
        break;
      case 6:
        CHECK(s.dif_insert(place(3, both), place(1, data), p));
        CHECK(s.dif_update(cut(place(2, both), r), place(3, both), p, 77, 5));
        break;
      case 7:
        CHECK(s.dix_generate(place(5, blocks * 8), cut(place(1, data), r), p));
        break;
      case 8:
        CHECK(s.copy_crc32c(place(6, data), cut(place(0, data), r)));
        break;
      default:
        // Usually a check that fails, somewhere.
        CHECK(s.dif_verify(cut(place(2, both), r), p));
        break;
    }
  }
  return s;
}

struct ran {
  bool started = false;
  outcome end;
  std::vector<step_result> results;
};
template <class E>
ran run(seq& s, E& engine, world& w, std::uint64_t needed, std::size_t ids) {
  domain_table<4> domains;
  execution e{s, engine, domains};
  ran out;
  out.started = e.start(w.pool, needed).has_value();
  if (!out.started) return out;
  while (!e.poll()) {
  }
  out.end = e.result_of_run();
  for (std::size_t k = 0; k != ids; ++k) {
    out.results.push_back(s.result_of({static_cast<std::uint8_t>(k)}));
  }
  return out;
}

// The sequence planned for the limits and run; checks that each step is within them.
template <class Build>
error refusal(std::uint64_t bytes, std::uint16_t segments, Build build) {
  seq s;
  build(s);
  target where;
  where.max_bytes = bytes;
  where.max_segments = segments;
  const auto p = plan(s, where);
  return p ? error{errc::cancelled, error::no_index, ""} : p.error();
}

}  // namespace

TEST_CASE("an engine with limits gives the bytes and results of one without") {
  const auto inner = std::make_unique<software>(plain_cipher<portable_instructions>{keys});
  std::size_t cut_ones = 0;
  std::size_t failed = 0;
  for (std::uint32_t seed = 1; seed != test_support::scaled(4000U); ++seed) {
    std::mt19937 r{seed};
    world a{seed};
    world b{seed};
    seq plain = random_steps(a, seed);
    seq limited = random_steps(b, seed);
    const std::size_t ids = plain.id_count();
    limited_engine engine{*inner, 600 + r() % 4000, static_cast<std::uint16_t>(2 + r() % 3)};
    const auto whole = plan(plain, limited_to({}, inner->capabilities()));
    const auto parts = plan(limited, limited_to({}, engine.capabilities()));
    CAPTURE(seed);
    REQUIRE(whole);
    if (!parts) {
      // A block that is cut into more segments than the engine takes, or more parts than 64 steps.
      REQUIRE((parts.error().code == errc::out_of_range || parts.error().code == errc::exhausted));
      continue;
    }
    const ran x = run(plain, *inner, a, whole->scratch_bytes, ids);
    const ran y = run(limited, engine, b, parts->scratch_bytes, ids);
    REQUIRE(x.started);
    REQUIRE(y.started);
    REQUIRE(x.end.good == y.end.good);
    if (limited.size() > plain.size()) ++cut_ones;
    if (!x.end.good) {
      ++failed;
      REQUIRE(x.end.failed == y.end.failed);
      REQUIRE(x.end.status == y.end.status);
      const auto id = x.end.failed.value;
      REQUIRE(x.results[id] == y.results[id]);
      continue;
    }
    REQUIRE(x.results == y.results);
    const bool same = a.memory == b.memory;
    REQUIRE(same);
  }
  CHECK(cut_ones > test_support::scaled(1000U));
  CHECK(failed > test_support::scaled(100U));
}

TEST_CASE("a step of 10 blocks becomes 4 + 4 + 2 at a limit of 4 protected blocks") {
  seq s;
  CHECK(s.dif_insert(domain_segment{1 << 16, 5200, local_domain},
                     domain_segment{0, 5120, local_domain}, {.reference_tag = 9}));
  target where;
  where.max_bytes = 4 * 520 + 519;
  CHECK(plan(s, where));
  REQUIRE(s.size() == 3);
  CHECK(s[0].source.bytes == 2048);
  CHECK(s[1].source.bytes == 2048);
  CHECK(s[2].source.bytes == 1024);
  CHECK(s[1].with.value == 13);
  CHECK(s[2].with.value == 17);
  CHECK(s.destinations(s[2])[0].address == (1 << 16) + 8 * 520);
}

TEST_CASE("a check that fails in a later part reports its block in the whole step") {
  const auto inner = std::make_unique<software>(plain_cipher<portable_instructions>{keys});
  for (const auto op : {operation::dif_verify, operation::dif_strip, operation::dif_update}) {
    for (std::size_t bad = 0; bad != 11; ++bad) {
      world w{1};
      limited_engine engine{*inner, 3 * 520, 4};
      seq s;
      const protection p{.reference_tag = 5};
      CHECK(s.dif_insert(w.at(8000, 11 * 520), w.at(0, 11 * 512), p));
      CHECK(plan(s, limited_to({}, engine.capabilities())));
      REQUIRE(run(s, engine, w, 0, 1).end.good);
      w.memory[8000 + bad * 520 + 7] ^= std::byte{1};
      s.clear();
      const auto from = w.at(8000, 11 * 520);
      CHECK((op == operation::dif_verify  ? s.dif_verify(from, p)
             : op == operation::dif_strip ? s.dif_strip(w.at(20000, 11 * 512), from, p)
                                          : s.dif_update(w.at(20000, 11 * 520), from, p, 9, 9)));
      CHECK(plan(s, limited_to({}, engine.capabilities())));
      REQUIRE(s.size() == 4);
      const ran r = run(s, engine, w, 0, 1);
      CHECK_FALSE(r.end.good);
      CHECK(r.end.status == step_status::guard_error);
      CHECK(r.results[0].value == bad);
    }
  }
}

TEST_CASE("cuts keep the target's alignment") {
  seq s;
  CHECK(
      s.copy(domain_segment{1 << 16, 10000, local_domain}, domain_segment{0, 10000, local_domain}));
  target where;
  where.max_bytes = 1000;
  where.alignment = 64;
  CHECK(plan(s, where));
  REQUIRE(s.size() == 11);
  for (std::size_t i = 0; i + 1 < s.size(); ++i) CHECK(s[i].source.bytes == 960);
}

TEST_CASE("a step of more segments than the engine takes is cut between segments") {
  seq s;
  std::array<domain_segment, 9> from{};
  for (std::size_t k = 0; k != 9; ++k) from[k] = {k * 1000, 100, local_domain};
  CHECK(s.copy(domain_segment{1 << 16, 900, local_domain}, from));
  target where;
  where.max_segments = 4;
  CHECK(plan(s, where));
  REQUIRE(s.size() == 3);
  CHECK(s[0].source.count == 4);
  CHECK(s[2].source.count == 1);
}

TEST_CASE("a copy that memory domains do is not cut at the engine's limit") {
  seq s;
  CHECK(s.copy(domain_segment{0, 8192, domain_id{3}}, domain_segment{0, 8192, local_domain}));
  target where;
  where.reach &= ~target::bit(domain_id{3});
  where.pushes = target::bit(domain_id{3});
  where.max_bytes = 1024;
  CHECK(plan(s, where));
  CHECK(s.size() == 1);
}

TEST_CASE("what cannot be cut is refused with its step and reason") {
  const domain_segment a{0, 4096, local_domain};
  const domain_segment b{8192, 4096, local_domain};
  const error compare = refusal(1024, 8, [&](seq& s) {
    CHECK(s.zero(domain_segment{20000, 8, local_domain}));
    CHECK(s.compare(a, b));
  });
  CHECK(compare.code == errc::out_of_range);
  CHECK(compare.index == 1);
  CHECK(std::string_view{compare.what}.find("cannot be cut") != std::string_view::npos);
  const error block =
      refusal(1024, 8, [&](seq& s) { CHECK(s.encrypt(b, a, {.unit_bytes = 4096})); });
  CHECK(block.code == errc::out_of_range);
  CHECK(std::string_view{block.what}.find("one block") != std::string_view::npos);
  const error parts = refusal(16, 8, [&](seq& s) { CHECK(s.copy(b, a)); });
  CHECK(parts.code == errc::exhausted);
  CHECK(std::string_view{parts.what}.find("capacity") != std::string_view::npos);
}
