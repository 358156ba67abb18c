// SPDX-License-Identifier: BSL-1.0
// The litmus tests of the literature: each with the outcome that the models differ on.
#include <phasebit/testing/explorer/explore.hpp>
#include <phasebit/testing/explorer/word.hpp>

#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace phasebit::testing::explorer;

namespace {

constexpr auto rlx = strength::relaxed;
constexpr auto acq = strength::acquire;
constexpr auto rel = strength::release;
constexpr auto seq = strength::sequential;

struct state {
  word<unsigned> x;
  word<unsigned> y;
  word<unsigned> z;
  unsigned r[4] = {9, 9, 9, 9};
};
using step = std::function<void(state&)>;

struct outcome_of {
  bool possible = false;
  report explored;
};

outcome_of run(memory_model model, const std::vector<step>& threads,
               const std::function<bool(const state&)>& outcome) {
  outcome_of result;
  result.explored = explore({.model = model}, [&](program& p) {
    auto& shared = p.make<state>();
    for (const step& thread : threads) p.thread("thread", [&] { thread(shared); });
    p.finally([&] { result.possible = result.possible || outcome(shared); });
  });
  return result;
}

// The models that allow the outcome.
struct allowed {
  bool cpp20;
  bool x86;
  bool arm;
  bool riscv;
};

void litmus(const char* name, const std::vector<step>& threads,
            const std::function<bool(const state&)>& outcome, allowed by) {
  const std::pair<memory_model, bool> expected[] = {{memory_model::cpp20, by.cpp20},
                                                    {memory_model::x86, by.x86},
                                                    {memory_model::arm, by.arm},
                                                    {memory_model::riscv, by.riscv}};
  for (const auto& [model, possible] : expected) {
    const outcome_of seen = run(model, threads, outcome);
    const std::string what =
        std::string{name} + " under " + name_of(model) + ": " + seen.explored.text();
    INFO(what);
    CHECK(seen.explored.passed());
    CHECK(seen.possible == possible);
  }
}

void full() { fence(barrier::full); }

constexpr allowed never{false, false, false, false};
constexpr allowed always{true, true, true, true};
constexpr allowed not_on_x86{true, false, true, true};

}  // namespace

TEST_CASE("store buffering (SB)") {
  auto both_zero = [](const state& s) { return s.r[0] == 0 && s.r[1] == 0; };
  auto with = [](strength store, strength load, bool first, bool second) {
    return std::vector<step>{[=](state& s) {
                               s.x.store(1, store);
                               if (first) full();
                               s.r[0] = s.y.load(load);
                             },
                             [=](state& s) {
                               s.y.store(1, store);
                               if (second) full();
                               s.r[1] = s.x.load(load);
                             }};
  };
  litmus("SB relaxed", with(rlx, rlx, false, false), both_zero, always);
  // ldapr, not ldar, is assumed for acquire loads on Arm; ldar would forbid it.
  litmus("SB release, acquire", with(rel, acq, false, false), both_zero, always);
  litmus("SB one full barrier", with(rlx, rlx, true, false), both_zero, always);
  litmus("SB full barriers", with(rlx, rlx, true, true), both_zero, never);
  litmus("SB sequentially consistent", with(seq, seq, false, false), both_zero, never);
}

TEST_CASE("message passing (MP)") {
  auto stale = [](const state& s) { return s.r[0] == 1 && s.r[1] == 0; };
  auto with = [](barrier writer, strength store, strength load, barrier reader) {
    return std::vector<step>{[=](state& s) {
                               s.x.store(1, rlx);
                               fence(writer);
                               s.y.store(1, store);
                             },
                             [=](state& s) {
                               s.r[0] = s.y.load(load);
                               fence(reader);
                               s.r[1] = s.x.load(rlx);
                             }};
  };
  const auto none = barrier::none;
  litmus("MP relaxed", with(none, rlx, rlx, none), stale, not_on_x86);
  litmus("MP release, acquire", with(none, rel, acq, none), stale, never);
  litmus("MP barriers", with(barrier::release, rlx, rlx, barrier::acquire), stale, never);
  litmus("MP release store, acquire barrier", with(none, rel, rlx, barrier::acquire), stale, never);
  litmus("MP release only", with(none, rel, rlx, none), stale, not_on_x86);
  litmus("MP acquire only", with(none, rlx, acq, none), stale, not_on_x86);
  // C++ has no such barrier, so it does not count there.
  litmus("MP store-store barrier", with(barrier::stores, rlx, acq, none), stale,
         {true, false, false, false});
  litmus("MP full barriers", with(barrier::full, rlx, rlx, barrier::full), stale, never);
}

TEST_CASE("load buffering (LB)") {
  auto both_one = [](const state& s) { return s.r[0] == 1 && s.r[1] == 1; };
  litmus("LB without dependencies",
         {[](state& s) {
            auto later = s.x.load_delayed();
            s.y.store(1, rlx);
            s.r[0] = later.get();
          },
          [](state& s) {
            auto later = s.y.load_delayed();
            s.x.store(1, rlx);
            s.r[1] = later.get();
          }},
         both_one, not_on_x86);
  litmus("LB with a release barrier on one side",
         {[](state& s) {
            s.r[0] = s.x.load(rlx);
            fence(barrier::release);
            s.y.store(1, rlx);
          },
          [](state& s) {
            auto later = s.y.load_delayed();
            s.x.store(1, rlx);
            s.r[1] = later.get();
          }},
         both_one, not_on_x86);
  litmus("LB with release barriers",
         {[](state& s) {
            s.r[0] = s.x.load(rlx);
            fence(barrier::release);
            s.y.store(1, rlx);
          },
          [](state& s) {
            s.r[1] = s.y.load(rlx);
            fence(barrier::release);
            s.x.store(1, rlx);
          }},
         both_one, never);
}

TEST_CASE("no value comes out of thin air") {
  litmus(
      "LB with data dependencies",
      {[](state& s) {
         s.r[0] = s.x.load(rlx);
         s.y.store(s.r[0], rlx);
       },
       [](state& s) {
         s.r[1] = s.y.load(rlx);
         s.x.store(s.r[1], rlx);
       }},
      [](const state& s) { return s.r[0] != 0 || s.r[1] != 0; }, never);
}

TEST_CASE("independent reads of independent writes (IRIW)") {
  auto disagree = [](const state& s) {
    return s.r[0] == 1 && s.r[1] == 0 && s.r[2] == 1 && s.r[3] == 0;
  };
  auto with = [](strength store, strength load, barrier between) {
    return std::vector<step>{[=](state& s) { s.x.store(1, store); },
                             [=](state& s) { s.y.store(1, store); },
                             [=](state& s) {
                               s.r[0] = s.x.load(load);
                               fence(between);
                               s.r[1] = s.y.load(load);
                             },
                             [=](state& s) {
                               s.r[2] = s.y.load(load);
                               fence(between);
                               s.r[3] = s.x.load(load);
                             }};
  };
  litmus("IRIW relaxed", with(rlx, rlx, barrier::none), disagree, not_on_x86);
  // Processors here are multi-copy atomic; C++ also covers those that are not.
  litmus("IRIW acquire", with(rel, acq, barrier::none), disagree, {true, false, false, false});
  litmus("IRIW acquire barriers", with(rel, rlx, barrier::acquire), disagree,
         {true, false, false, false});
  litmus("IRIW full barriers", with(rlx, rlx, barrier::full), disagree, never);
}

TEST_CASE("two writes each (2+2W)") {
  auto crossed = [](const state& s) { return s.x.load() == 1 && s.y.load() == 1; };
  auto with = [](strength second, barrier between) {
    return std::vector<step>{[=](state& s) {
                               s.x.store(1, rlx);
                               fence(between);
                               s.y.store(2, second);
                             },
                             [=](state& s) {
                               s.y.store(1, rlx);
                               fence(between);
                               s.x.store(2, second);
                             }};
  };
  litmus("2+2W relaxed", with(rlx, barrier::none), crossed, not_on_x86);
  // Release orders nothing in C++ unless another thread reads what was released.
  litmus("2+2W release", with(rel, barrier::none), crossed, {true, false, false, false});
  litmus("2+2W store-store barriers", with(rlx, barrier::stores), crossed,
         {true, false, false, false});
  litmus("2+2W full barriers", with(rlx, barrier::full), crossed, never);
}

TEST_CASE("write to read causality (WRC)") {
  auto lost = [](const state& s) { return s.r[0] == 1 && s.r[1] == 1 && s.r[2] == 0; };
  auto with = [](strength load, strength store, barrier middle, barrier last) {
    return std::vector<step>{[=](state& s) { s.x.store(1, rlx); },
                             [=](state& s) {
                               s.r[0] = s.x.load(load);
                               fence(middle);
                               s.y.store(1, store);
                             },
                             [=](state& s) {
                               s.r[1] = s.y.load(load);
                               fence(last);
                               s.r[2] = s.x.load(rlx);
                             }};
  };
  litmus("WRC relaxed", with(rlx, rlx, barrier::none, barrier::none), lost, not_on_x86);
  litmus("WRC release, acquire", with(acq, rel, barrier::none, barrier::none), lost, never);
  litmus("WRC barriers", with(rlx, rlx, barrier::release, barrier::acquire), lost, never);
  litmus("WRC full barriers", with(rlx, rlx, barrier::full, barrier::full), lost, never);
}

TEST_CASE("a chain of three threads (ISA2)") {
  litmus(
      "ISA2 release, acquire",
      {[](state& s) {
         s.x.store(1, rlx);
         s.y.store(1, rel);
       },
       [](state& s) {
         s.r[0] = s.y.load(acq);
         s.z.store(1, rel);
       },
       [](state& s) {
         s.r[1] = s.z.load(acq);
         s.r[2] = s.x.load(rlx);
       }},
      [](const state& s) { return s.r[0] == 1 && s.r[1] == 1 && s.r[2] == 0; }, never);
}

TEST_CASE("coherence of one word") {
  auto store_both = [](state& s) {
    s.x.store(1, rlx);
    s.x.store(2, rlx);
  };
  litmus(
      "CoRR: two reads do not go back",
      {store_both,
       [](state& s) {
         s.r[0] = s.x.load(rlx);
         s.r[1] = s.x.load(rlx);
       }},
      [](const state& s) { return s.r[0] == 2 && s.r[1] != 2; }, never);
  litmus(
      "CoWW: two stores keep their order", {store_both},
      [](const state& s) { return s.x.load() != 2; }, never);
  litmus(
      "CoWR: a thread reads its own store or a newer one",
      {store_both,
       [](state& s) {
         s.x.store(3, rlx);
         s.r[0] = s.x.load(rlx);
       }},
      [](const state& s) { return s.r[0] == 0 || (s.r[0] != 3 && s.x.load() == 3); }, never);
  litmus(
      "CoRW: a store is newer than what its thread has read",
      {store_both,
       [](state& s) {
         s.r[0] = s.x.load(rlx);
         s.x.store(3, rlx);
       }},
      [](const state& s) { return s.r[0] == 2 && s.x.load() == 2; }, never);
  litmus(
      "two threads agree on the order of two stores",
      {[](state& s) { s.x.store(1, rlx); }, [](state& s) { s.x.store(2, rlx); },
       [](state& s) {
         s.r[0] = s.x.load(rlx);
         s.r[1] = s.x.load(rlx);
       },
       [](state& s) {
         s.r[2] = s.x.load(rlx);
         s.r[3] = s.x.load(rlx);
       }},
      [](const state& s) { return s.r[0] == 1 && s.r[1] == 2 && s.r[2] == 2 && s.r[3] == 1; },
      never);
}

TEST_CASE("a store against a read that follows another store (R and S)") {
  auto r = [](barrier between) {
    return std::vector<step>{[=](state& s) {
                               s.x.store(1, rlx);
                               fence(between);
                               s.y.store(1, rlx);
                             },
                             [=](state& s) {
                               s.y.store(2, rlx);
                               fence(between);
                               s.r[0] = s.x.load(rlx);
                             }};
  };
  auto r_outcome = [](const state& s) { return s.y.load() == 2 && s.r[0] == 0; };
  litmus("R relaxed", r(barrier::none), r_outcome, always);
  litmus("R full barriers", r(barrier::full), r_outcome, never);
  auto s_test = [](strength store, strength load) {
    return std::vector<step>{[=](state& s) {
                               s.x.store(2, rlx);
                               s.y.store(1, store);
                             },
                             [=](state& s) {
                               s.r[0] = s.y.load(load);
                               s.x.store(1, rlx);
                             }};
  };
  auto s_outcome = [](const state& s) { return s.r[0] == 1 && s.x.load() == 2; };
  litmus("S relaxed", s_test(rlx, rlx), s_outcome, not_on_x86);
  litmus("S release, acquire", s_test(rel, acq), s_outcome, never);
}

TEST_CASE(
    "read to write causality with full barriers (RWC), which C++20 forbids and C++11 did not") {
  litmus(
      "RWC full barriers",
      {[](state& s) { s.x.store(1, rlx); },
       [](state& s) {
         s.r[0] = s.x.load(rlx);
         full();
         s.r[1] = s.y.load(rlx);
       },
       [](state& s) {
         s.y.store(1, rlx);
         full();
         s.r[2] = s.x.load(rlx);
       }},
      [](const state& s) { return s.r[0] == 1 && s.r[1] == 0 && s.r[2] == 0; }, never);
}

TEST_CASE("read to write causality without barriers, and with a release in it (RWC, W+RWC)") {
  auto rwc = [](strength load, barrier second, barrier third) {
    return std::vector<step>{[=](state& s) { s.x.store(1, rlx); },
                             [=](state& s) {
                               s.r[0] = s.x.load(load);
                               fence(second);
                               s.r[1] = s.y.load(rlx);
                             },
                             [=](state& s) {
                               s.y.store(1, rlx);
                               fence(third);
                               s.r[2] = s.x.load(rlx);
                             }};
  };
  auto outcome = [](const state& s) { return s.r[0] == 1 && s.r[1] == 0 && s.r[2] == 0; };
  litmus("RWC relaxed", rwc(rlx, barrier::none, barrier::none), outcome, always);
  litmus("RWC acquire", rwc(acq, barrier::none, barrier::none), outcome, always);
  // Where stores reach all others at once, an acquire load is enough beside the full barrier.
  litmus("RWC acquire, full barrier", rwc(acq, barrier::none, barrier::full), outcome,
         {true, false, false, false});

  auto w_rwc = [](strength store, strength load, barrier second, barrier third) {
    return std::vector<step>{[=](state& s) {
                               s.x.store(1, rlx);
                               s.z.store(1, store);
                             },
                             [=](state& s) {
                               s.r[0] = s.z.load(load);
                               fence(second);
                               s.r[1] = s.y.load(rlx);
                             },
                             [=](state& s) {
                               s.y.store(1, rlx);
                               fence(third);
                               s.r[2] = s.x.load(rlx);
                             }};
  };
  litmus("W+RWC relaxed", w_rwc(rlx, rlx, barrier::none, barrier::none), outcome, always);
  litmus("W+RWC release, acquire, one full barrier", w_rwc(rel, acq, barrier::none, barrier::full),
         outcome, {true, false, false, false});
  litmus("W+RWC release, full barriers", w_rwc(rel, rlx, barrier::full, barrier::full), outcome,
         never);
}

TEST_CASE("a chain of three threads without order, and with barriers (ISA2)") {
  auto isa2 = [](barrier before, barrier behind) {
    return std::vector<step>{[=](state& s) {
                               s.x.store(1, rlx);
                               fence(before);
                               s.y.store(1, rlx);
                             },
                             [=](state& s) {
                               s.r[0] = s.y.load(rlx);
                               fence(behind);
                               fence(before);
                               s.z.store(1, rlx);
                             },
                             [=](state& s) {
                               s.r[1] = s.z.load(rlx);
                               fence(behind);
                               s.r[2] = s.x.load(rlx);
                             }};
  };
  auto lost = [](const state& s) { return s.r[0] == 1 && s.r[1] == 1 && s.r[2] == 0; };
  litmus("ISA2 relaxed", isa2(barrier::none, barrier::none), lost, not_on_x86);
  litmus("ISA2 barriers", isa2(barrier::release, barrier::acquire), lost, never);
}

TEST_CASE("store buffering and R with a fence on one side and sequentially consistent accesses") {
  litmus(
      "SB full barrier, sequentially consistent",
      {[](state& s) {
         s.x.store(1, rlx);
         full();
         s.r[0] = s.y.load(rlx);
       },
       [](state& s) {
         s.y.store(1, seq);
         s.r[1] = s.x.load(seq);
       }},
      [](const state& s) { return s.r[0] == 0 && s.r[1] == 0; }, never);
  litmus(
      "SB acquire and release barriers",
      {[](state& s) {
         s.x.store(1, rlx);
         fence(barrier::release);
         s.r[0] = s.y.load(rlx);
       },
       [](state& s) {
         s.y.store(1, rlx);
         fence(barrier::acquire);
         s.r[1] = s.x.load(rlx);
       }},
      // The release barrier is dmb osh on Arm, which is a full one, but the acquire barrier is not.
      [](const state& s) { return s.r[0] == 0 && s.r[1] == 0; }, always);
  litmus(
      "IRIW sequentially consistent",
      {[](state& s) { s.x.store(1, seq); }, [](state& s) { s.y.store(1, seq); },
       [](state& s) {
         s.r[0] = s.x.load(seq);
         s.r[1] = s.y.load(seq);
       },
       [](state& s) {
         s.r[2] = s.y.load(seq);
         s.r[3] = s.x.load(seq);
       }},
      [](const state& s) { return s.r[0] == 1 && s.r[1] == 0 && s.r[2] == 1 && s.r[3] == 0; },
      never);
}

TEST_CASE("a release sequence ends with another store of the same thread (C++20)") {
  auto with = [](strength last) {
    return std::vector<step>{[=](state& s) {
                               s.y.store(1, rlx);
                               s.x.store(1, rel);
                               s.x.store(2, last);
                             },
                             [](state& s) {
                               s.r[0] = s.x.load(acq);
                               s.r[1] = s.y.load(rlx);
                             }};
  };
  auto stale = [](const state& s) { return s.r[0] == 2 && s.r[1] == 0; };
  // C++20 took the thread's own later stores out of the sequence (P0982); x86 keeps the order of stores.
  const report r = run(memory_model::cpp20, with(rlx), stale).explored;
  CHECK(r.passed());
  CHECK(run(memory_model::cpp20, with(rlx), stale).possible);
  CHECK_FALSE(run(memory_model::x86, with(rlx), stale).possible);
  litmus("release twice", with(rel), stale, never);
}

TEST_CASE("read-modify-writes are whole, and carry a release on") {
  auto increment = [](state& s) { s.x.fetch_add(1, rlx); };
  litmus(
      "three increments", {increment, increment, increment},
      [](const state& s) { return s.x.load() != 3; }, never);
  litmus(
      "one of two compare-exchanges succeeds",
      {[](state& s) {
         unsigned expected = 0;
         s.r[0] = s.x.compare_exchange(expected, 1, rlx) ? 1 : 0;
       },
       [](state& s) {
         unsigned expected = 0;
         s.r[1] = s.x.compare_exchange(expected, 2, rlx) ? 1 : 0;
       }},
      [](const state& s) { return s.r[0] + s.r[1] != 1; }, never);
  litmus(
      "release sequence",
      {[](state& s) {
         s.y.store(1, rlx);
         s.x.store(1, rel);
       },
       [](state& s) { s.x.fetch_add(1, rlx); },
       [](state& s) {
         s.r[0] = s.x.load(acq);
         s.r[1] = s.y.load(rlx);
       }},
      [](const state& s) { return s.r[0] == 2 && s.r[1] == 0; }, never);
}
