// SPDX-License-Identifier: BSL-1.0
// The overlay: physical regions that hold one operator each, behind a stream switch, and the scheduler
// that gives them to requests. Time is virtual: the caller's, in nanoseconds.
#pragma once

#include <phasebit/accel/near_storage/command.hpp>
#include <phasebit/core/clock.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel::near_storage {

// Costs and rules of one overlay.
struct overlay_options {
  std::uint64_t reconfiguration_ns = 4'000'000;  // loading another operator into a region
  std::uint64_t block_ns = 1000;                 // a block through the slowest operator of a chain
  std::uint64_t ssd_ns = 80'000;                 // latency of the SSD for a request that touches it
  std::uint64_t starvation_ns = 20'000'000;      // a request that waited longer goes first
  std::array<std::uint64_t, 4> target_ns{2'000'000, 50'000'000, 50'000'000,
                                         50'000'000};  // per class
  bool partitioned =
      false;  // static: region k serves class k % classes alone, and is never reloaded
  std::uint8_t classes = 2;
};

// Service per class.
struct service_account {
  std::uint64_t completed = 0;
  std::uint64_t violations = 0;  // took longer than the class's target
  std::uint64_t longest_wait_ns = 0;
  std::uint64_t busy_ns = 0;  // region time used
  std::uint64_t reconfigurations = 0;
};

// A request holds one region per operator of its chain from start to end, since data streams through all
// of them. Virtual operators are renamed to any free region of the pool: first one that holds the
// operator already, else the one idle longest is reconfigured. Where a busy region with the operator ends
// before a reconfiguration would, the request waits for it, and the region idle longest is loaded
// meanwhile for those that follow, at most one per operator of a waiting request. Requests wait in `Waiting` places; the one
// with the earliest deadline starts first, unless one has waited beyond the starvation bound: it then
// starts before any other, and while it waits no other request takes a region it could use.
template <std::size_t Regions = 8, std::size_t Waiting = 64>
class overlay {
  static_assert(Regions >= 1 && Regions <= 64);

 public:
  static constexpr std::uint8_t empty = 0xff;

  explicit overlay(const overlay_options& options) noexcept : options_(options) {
    for (region& r : regions_) r.held = empty;
  }

  // Loads an operator at no cost, before anything runs.
  void preload(std::size_t at, std::uint8_t op) noexcept { regions_[at].held = op; }

  // Errors: exhausted (no place to wait), out_of_range (a chain longer than the overlay, or than the
  // class's partition, or that a static partition does not hold), not_found (it waits for a request that
  // is not there), loop (requests wait for each other).
  result<> submit(const request& r, std::uint64_t now) noexcept {
    std::size_t usable = 0;
    std::uint64_t taken = 0;
    for (std::uint8_t k = 0; k != r.operators; ++k) {
      for (std::size_t g = 0; g != Regions; ++g) {
        const bool serves = serves_class(g, r.service_class) && (taken >> g & 1U) == 0;
        if (!serves || (options_.partitioned && regions_[g].held != r.chain[k])) continue;
        taken |= std::uint64_t{1} << g;
        ++usable;
        break;
      }
    }
    if (usable != r.operators) {
      return failure(errc::out_of_range, "the overlay has no regions for this chain", r.operators);
    }
    if (r.wait_for != 0 && !present(r.wait_for)) {
      return failure(errc::not_found, "the request waits for one that is not there", r.wait_for);
    }
    // Each request waits for at most one id, so that a walk of as many steps as there are finds a loop.
    std::uint32_t id = r.wait_for;
    for (std::size_t steps = 0; id != 0; ++steps) {
      if (id == r.id || steps > Waiting + Regions) {
        return failure(errc::loop, "requests wait for each other", r.id);
      }
      id = waits_for(id);
    }
    for (entry& e : waiting_) {
      if (e.used) continue;
      e = {};
      e.used = true;
      e.what = r;
      e.arrived = now;
      e.order = next_order_++;
      return {};
    }
    return failure(errc::exhausted, "too many requests wait for the overlay", Waiting);
  }

  // Ends what has ended by `now`, and starts what can start; `ended(request, latency)` for each.
  template <class Ended>
  void advance(std::uint64_t now, Ended&& ended) noexcept {
    for (region& r : regions_) {
      if (!r.loading || r.busy_until > now) continue;
      r.busy = r.loading = false;
      r.idle_since = r.busy_until;
    }
    for (entry& e : waiting_) {
      if (!e.used || !e.running || e.end > now) continue;
      for (std::size_t g = 0; g != Regions; ++g) {
        if ((e.regions >> g & 1U) == 0) continue;
        regions_[g].busy = false;
        regions_[g].idle_since = e.end;
      }
      service_account& a = accounts_[e.what.service_class & 3U];
      const std::uint64_t latency = e.end - e.arrived;
      ++a.completed;
      if (latency > options_.target_ns[e.what.service_class & 3U]) ++a.violations;
      e.used = false;
      ended(e.what, latency);
    }
    while (entry* e = choose(now)) start(*e, now);
    if (!options_.partitioned) preload_for_waiting(now);
  }

  // When the next request or reconfiguration ends; ~0 where nothing runs.
  [[nodiscard]] std::uint64_t next_event() const noexcept {
    std::uint64_t next = ~std::uint64_t{0};
    for (const entry& e : waiting_) {
      if (e.used && e.running && e.end < next) next = e.end;
    }
    for (const region& r : regions_) {
      if (r.loading && r.busy_until < next) next = r.busy_until;
    }
    return next;
  }
  [[nodiscard]] std::size_t pending() const noexcept {
    std::size_t n = 0;
    for (const entry& e : waiting_) n += e.used ? 1 : 0;
    return n;
  }
  [[nodiscard]] const service_account& account(std::uint8_t service_class) const noexcept {
    return accounts_[service_class & 3U];
  }

 private:
  struct region {
    std::uint8_t held = empty;
    bool busy = false;
    bool loading = false;  // busy without a request
    std::uint64_t busy_until = 0;
    std::uint64_t idle_since = 0;
  };
  struct entry {
    bool used = false;
    bool running = false;
    bool preloaded = false;
    request what{};
    std::uint64_t arrived = 0;
    std::uint64_t order = 0;
    std::uint64_t end = 0;
    std::uint64_t regions = 0;
  };

  [[nodiscard]] bool serves_class(std::size_t at, std::uint8_t service_class) const noexcept {
    return !options_.partitioned || at % options_.classes == service_class;
  }
  [[nodiscard]] bool present(std::uint32_t id) const noexcept {
    for (const entry& e : waiting_) {
      if (e.used && e.what.id == id) return true;
    }
    return false;
  }
  [[nodiscard]] std::uint32_t waits_for(std::uint32_t id) const noexcept {
    for (const entry& e : waiting_) {
      if (e.used && e.what.id == id && e.what.wait_for != 0) return e.what.wait_for;
    }
    return 0;
  }
  [[nodiscard]] bool ready(const entry& e) const noexcept {
    for (const entry& o : waiting_) {
      if (!o.used || &o == &e) continue;
      if (o.what.id == e.what.id && o.order < e.order) return false;
      if (o.what.id == e.what.wait_for && e.what.wait_for != 0 && o.order < e.order) return false;
    }
    return true;
  }
  // Free regions for the chain, as bits; 0 where there are not enough. `loads`: those to reconfigure.
  [[nodiscard]] std::uint64_t pick(const request& r, std::uint64_t& loads,
                                   std::array<std::uint8_t, max_chain>& where) const noexcept {
    std::uint64_t taken = 0;
    loads = 0;
    std::array<bool, max_chain> placed{};
    for (const bool held : {true, false}) {
      for (std::uint8_t k = 0; k != r.operators; ++k) {
        if (placed[k]) continue;
        std::size_t best = Regions;
        for (std::size_t g = 0; g != Regions; ++g) {
          const region& x = regions_[g];
          if (x.busy || (taken >> g & 1U) != 0 || !serves_class(g, r.service_class)) continue;
          if (held && x.held != r.chain[k]) continue;
          if (!held && options_.partitioned) continue;
          if (best == Regions || x.idle_since < regions_[best].idle_since) best = g;
        }
        if (best == Regions) {
          if (held) continue;
          return 0;
        }
        placed[k] = true;
        where[k] = static_cast<std::uint8_t>(best);
        taken |= std::uint64_t{1} << best;
        if (!held) loads |= std::uint64_t{1} << best;
      }
    }
    for (std::uint8_t k = 0; k != r.operators; ++k) {
      if (!placed[k]) return 0;
    }
    return taken;
  }
  [[nodiscard]] entry* choose(std::uint64_t now) noexcept {
    entry* best = nullptr;
    bool best_starves = false;
    for (entry& e : waiting_) {
      if (!e.used || e.running || !ready(e)) continue;
      const bool starves = now - e.arrived > options_.starvation_ns;
      if (best != nullptr && best_starves && !starves) continue;
      std::uint64_t loads = 0;
      std::array<std::uint8_t, max_chain> where{};
      bool possible = pick(e.what, loads, where) != 0;
      if (possible && loads != 0 && !starves && soon(e.what, now)) possible = false;
      // A starving request that cannot start yet prevents other requests from taking its regions.
      if (!possible && !starves) continue;
      if (best == nullptr || (starves && !best_starves) || earlier(e, *best, starves)) {
        best = &e;
        best_starves = starves;
      }
    }
    if (best == nullptr) return nullptr;
    std::uint64_t loads = 0;
    std::array<std::uint8_t, max_chain> where{};
    return pick(best->what, loads, where) != 0 ? best : nullptr;
  }
  // Whether regions that hold the operators, one each, are free before they could be loaded elsewhere.
  [[nodiscard]] bool soon(const request& r, std::uint64_t now) const noexcept {
    std::uint64_t taken = 0;
    for (std::uint8_t k = 0; k != r.operators; ++k) {
      bool found = false;
      for (std::size_t g = 0; g != Regions && !found; ++g) {
        const region& x = regions_[g];
        if (x.held != r.chain[k] || (taken >> g & 1U) != 0) continue;
        if (x.busy && x.busy_until >= deadline_after(now, options_.reconfiguration_ns)) continue;
        found = true;
        taken |= std::uint64_t{1} << g;
      }
      if (!found) return false;
    }
    return true;
  }
  void preload_for_waiting(std::uint64_t now) noexcept {
    for (entry& e : waiting_) {
      if (!e.used || e.running || e.preloaded || !ready(e)) continue;
      e.preloaded = true;
      for (std::uint8_t k = 0; k != e.what.operators; ++k) {
        region* best = nullptr;
        bool free_holder = false;
        for (region& r : regions_) {
          if (r.busy) continue;
          free_holder = free_holder || r.held == e.what.chain[k];
          if (best == nullptr || r.idle_since < best->idle_since) best = &r;
        }
        if (free_holder || best == nullptr) continue;
        best->held = e.what.chain[k];
        best->busy = best->loading = true;
        best->busy_until = deadline_after(now, options_.reconfiguration_ns);
        ++accounts_[e.what.service_class & 3U].reconfigurations;
      }
    }
  }
  [[nodiscard]] bool earlier(const entry& a, const entry& b, bool by_age) const noexcept {
    if (by_age) return a.order < b.order;
    const auto due = [this](const entry& e) noexcept {
      return deadline_after(e.arrived, options_.target_ns[e.what.service_class & 3U]);
    };
    const std::uint64_t x = due(a);
    const std::uint64_t y = due(b);
    return x != y ? x < y : a.order < b.order;
  }
  void start(entry& e, std::uint64_t now) noexcept {
    std::uint64_t loads = 0;
    std::array<std::uint8_t, max_chain> where{};
    e.regions = pick(e.what, loads, where);
    e.running = true;
    service_account& a = accounts_[e.what.service_class & 3U];
    if (now - e.arrived > a.longest_wait_ns) a.longest_wait_ns = now - e.arrived;
    std::uint64_t time = e.what.blocks * options_.block_ns;
    if (e.what.type != command_type::compute) time += options_.ssd_ns;
    if (loads != 0) time += options_.reconfiguration_ns;  // regions are loaded side by side
    e.end = deadline_after(now, time);
    for (std::uint8_t k = 0; k != e.what.operators; ++k) {
      region& r = regions_[where[k]];
      r.busy = true;
      r.busy_until = e.end;
      if (r.held != e.what.chain[k]) ++a.reconfigurations;
      r.held = e.what.chain[k];
      a.busy_ns += time;
    }
  }

  overlay_options options_;
  std::array<region, Regions> regions_{};
  std::array<entry, Waiting> waiting_{};
  std::array<service_account, 4> accounts_{};
  std::uint64_t next_order_ = 1;
};

}  // namespace phasebit::accel::near_storage
