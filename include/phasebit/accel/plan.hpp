// SPDX-License-Identifier: BSL-1.0
// Turns an optimized sequence into a plan that runs: fuses operations that the engine's table
// allows and gives scratch buffers offsets in a pool. All of it is constexpr; a constant sequence
// costs no planning at run time.
#pragma once

#include <phasebit/accel/detail/plan_search.hpp>
#include <phasebit/accel/optimizer.hpp>
#include <phasebit/accel/sequence.hpp>
#include <phasebit/accel/split.hpp>
#include <phasebit/accel/target.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::accel {

namespace rules {

// Two steps that the engine does in one pass. Precondition: the table lists the pair, a cipher's data
// unit divides the block of the protection information it is fused with, and one of
//   - the second reads exactly what the first wrote, into scratch that no other step reads, or into what
//     the second overwrites in place; the first can move down to the second, because its source is not
//     written between;
//   - the second only reads, exactly what the first wrote, and it is still there;
//   - the first is a copy, the second only reads, exactly the copy's source, not written between. The
//     reader may also stand first, if the copy can move up to it: no step between reads or writes the
//     copy's destination or writes its source, and no gate lies between.
struct fuse_steps {
  static constexpr std::string_view name = "fuse_steps";
  static constexpr operation_set on = detail::with_source;

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    if (f.where().fusions.empty() || f.at(i).then != operation::none) return false;
    for (std::size_t j = i; j-- != 0;) {
      if (f.at(j).then != operation::none || f.at(j).op == operation::combine_crc32c) continue;
      if (f.where().fuses(f.at(j).op, f.at(i).op) && follows(f, j, i)) return true;
      if (f.at(i).op == operation::copy && f.where().fuses(operation::copy, f.at(j).op) &&
          precedes(f, j, i)) {
        return true;
      }
    }
    return false;
  }

 private:
  // A cipher's data unit must divide the block; copies and checksums have units of one byte.
  [[nodiscard]] static constexpr bool units_agree(const step& a, const step& b) noexcept {
    const bool ciphers = a.op == operation::encrypt || a.op == operation::decrypt;
    const std::uint32_t small = ciphers ? a.with.unit : b.with.unit;
    const std::uint32_t large = ciphers ? b.with.unit : a.with.unit;
    return small == 0 || large == 0 || large % small == 0;
  }
  static constexpr void attach(step& first, const step& second) noexcept {
    first.then = second.op;
    first.then_id = second.id;
    first.then_with = second.with;
  }
  // The second operation stands at `i`, the first at `j`.
  template <class Flow>
  static constexpr bool follows(Flow& f, std::size_t j, std::size_t i) noexcept {
    const step second = f.at(i);
    if (!units_agree(f.at(j), second)) return false;
    if (second.seed_from != step::no_seed || second.op == operation::compare) return false;
    if (!f.reaches_all(f.from(j)) || !f.reaches_all(f.to(j)) || !f.reaches_all(f.to(i))) {
      return false;
    }
    const bool reads = reading_operations.has(second.op);
    if (second.op == operation::dix_verify) return false;
    if (reads) {
      const bool output = f.same_bytes(f.from(i), f.to(j)) && f.unwritten(j, i, f.to(j)) &&
                          f.distinct_destination(j);
      const bool input = f.at(j).op == operation::copy && f.same_bytes(f.from(i), f.from(j)) &&
                         f.unwritten(j, i, f.from(j)) && f.apart(f.from(j), f.to(j));
      if (!output && !input) return false;
      attach(f.at(j), second);
      f.sequence().erase(i);
      return true;
    }
    const bool replaced = f.same_bytes(f.to(i), f.to(j));
    for (const domain_segment& t : f.to(j)) {
      if (!replaced && t.domain != scratch_domain) return false;
    }
    if (!f.same_bytes(f.from(i), f.to(j)) || !f.unwritten(j, i, f.to(j))) return false;
    if (!f.unread(j, i, f.to(j))) return false;
    if (!replaced && !f.dead_after(i, f.to(j))) return false;
    if (!f.unwritten(j, i, f.from(j)) || !f.apart(f.from(j), f.to(i))) return false;
    // A check must not move down past a gate: the gate would pass first.
    step moved = f.at(j);
    moved.destination = second.destination;
    moved.gate = moved.gate || second.gate;
    attach(moved, second);
    f.at(i) = moved;
    f.sequence().erase(j);
    return true;
  }
  // A reader stands at `j`, the copy of the same bytes at `i`.
  template <class Flow>
  static constexpr bool precedes(Flow& f, std::size_t j, std::size_t i) noexcept {
    const step reader = f.at(j);
    if (!reading_operations.has(reader.op) || reader.seed_from != step::no_seed) return false;
    if (reader.op == operation::compare || reader.op == operation::dix_verify) return false;
    if (!f.same_bytes(f.from(j), f.from(i)) || f.gated(j, i)) return false;
    if (!f.reaches_all(f.from(i)) || !f.reaches_all(f.to(i))) return false;
    if (!f.unwritten(j, i, f.from(i)) || !f.apart(f.from(i), f.to(i))) return false;
    if (!f.unwritten(j, i, f.to(i)) || !f.unread(j, i, f.to(i))) return false;
    step moved = f.at(i);
    attach(moved, reader);
    f.at(j) = moved;
    f.sequence().erase(i);
    return true;
  }
};

}  // namespace rules

namespace detail {

// Where and when a scratch buffer is used.
struct lifetime {
  std::uint64_t low = ~std::uint64_t{0};  // used bytes [low, high) of the buffer
  std::uint64_t high = 0;
  std::size_t first = 0;  // steps, both included
  std::size_t last = 0;
  std::uint64_t place = 0;

  [[nodiscard]] constexpr bool used() const noexcept { return high != 0; }
  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return high - low; }
};

template <class Sequence>
class scratch_coloring {
 public:
  static constexpr std::size_t capacity = Sequence::step_capacity;

  constexpr explicit scratch_coloring(Sequence& s) noexcept : s_(&s) {
    for (std::size_t i = 0; i != s.size(); ++i) {
      for (const auto list : {s.sources(s[i]), s.destinations(s[i])}) {
        for (const domain_segment& d : list) {
          if (d.domain == scratch_domain) note(d, i);
        }
      }
    }
  }

  // Gives every used buffer an offset and returns the bytes of the pool. Every order of up to 5
  // buffers is tried, which finds the least; beyond, buffers are placed by size, the largest first.
  constexpr std::uint64_t assign() noexcept {
    std::array<std::uint8_t, capacity> order{};
    std::size_t count = 0;
    for (std::size_t b = 0; b != s_->scratch_count(); ++b) {
      if (lives_[b].used()) order[count++] = static_cast<std::uint8_t>(b);
    }
    if (count == 0) return 0;
    for (std::size_t a = 1; a < count; ++a) {
      for (std::size_t k = a; k != 0 && lives_[order[k - 1]].bytes() < lives_[order[k]].bytes();
           --k) {
        swap(order[k - 1], order[k]);
      }
    }
    std::uint64_t best = place(order, count);
    if (count > 1 && count <= 5) {
      std::array<std::uint8_t, capacity> best_order = order;
      permute(order, count, 0, best, best_order);
      best = place(best_order, count);
    }
    for (std::size_t k = 0; k != count; ++k) {
      const lifetime& l = lives_[order[k]];
      // The buffer's own offset 0, which may lie before the pool where its start is not used.
      s_->scratch_buffer(order[k]).offset = l.place - l.low;
    }
    return best;
  }

 private:
  static constexpr void swap(std::uint8_t& a, std::uint8_t& b) noexcept {
    const std::uint8_t held = a;
    a = b;
    b = held;
  }
  constexpr void note(const domain_segment& d, std::size_t i) noexcept {
    lifetime& l = lives_[scratch_buffer_of(d.address)];
    const std::uint64_t offset = scratch_offset_of(d.address);
    if (!l.used()) l.first = i;
    if (offset < l.low) l.low = offset;
    if (offset + d.bytes > l.high) l.high = offset + d.bytes;
    l.last = i;
  }
  constexpr void permute(std::array<std::uint8_t, capacity>& order, std::size_t count,
                         std::size_t from, std::uint64_t& best,
                         std::array<std::uint8_t, capacity>& best_order) noexcept {
    if (from == count) {
      const std::uint64_t bytes = place(order, count);
      if (bytes < best) {
        best = bytes;
        best_order = order;
      }
      return;
    }
    for (std::size_t k = from; k != count; ++k) {
      swap(order[from], order[k]);
      permute(order, count, from + 1, best, best_order);
      swap(order[from], order[k]);
    }
  }
  // Each buffer in turn at the lowest offset where it meets no buffer that lives at the same time.
  constexpr std::uint64_t place(const std::array<std::uint8_t, capacity>& order,
                                std::size_t count) noexcept {
    std::uint64_t pool = 0;
    for (std::size_t k = 0; k != count; ++k) {
      lifetime& l = lives_[order[k]];
      const std::uint32_t alignment = s_->scratch_buffer(order[k]).alignment;
      std::uint64_t at = aligned(l.low, 0, alignment);
      for (bool moved = true; moved;) {
        moved = false;
        for (std::size_t m = 0; m != k; ++m) {
          const lifetime& o = lives_[order[m]];
          if (at >= o.place + o.bytes() || o.place >= at + l.bytes()) continue;
          if (!conflict(order[k], order[m], at)) continue;
          at = aligned(l.low, o.place + o.bytes(), alignment);
          moved = true;
        }
      }
      l.place = at;
      if (at + l.bytes() > pool) pool = at + l.bytes();
    }
    return pool;
  }
  // The least place not below `least` at which offset 0 of the buffer is aligned.
  [[nodiscard]] static constexpr std::uint64_t aligned(std::uint64_t low, std::uint64_t least,
                                                       std::uint32_t alignment) noexcept {
    const std::uint64_t phase = low & (alignment - 1);
    std::uint64_t at = (least & ~std::uint64_t{alignment - 1}) | phase;
    if (at < least) at += alignment;
    return at;
  }
  [[nodiscard]] constexpr bool conflict(std::size_t a, std::size_t b,
                                        std::uint64_t at) const noexcept {
    const lifetime& x = lives_[a];
    const lifetime& y = lives_[b];
    if (x.last < y.first || y.last < x.first) return false;
    if (x.last == y.first) return !in_place(x, y, x.last, at == y.place);
    if (y.last == x.first) return !in_place(y, x, y.last, at == y.place);
    return true;
  }
  // Whether step `i` turns the whole of `from` into the whole of `to` and can do so in place.
  [[nodiscard]] constexpr bool in_place(const lifetime& from, const lifetime& to, std::size_t i,
                                        bool same_place) const noexcept {
    const step& s = (*s_)[i];
    if (!same_place || from.bytes() != to.bytes() || s.then != operation::none) return false;
    if (!in_place_operations.has(s.op) || s.op == operation::exclusive_or) return false;
    const auto source = s_->sources(s);
    const auto destination = s_->destinations(s);
    return source.size() == 1 && destination.size() == 1 && source[0].bytes == from.bytes() &&
           destination[0].bytes == to.bytes() && scratch_offset_of(source[0].address) == from.low &&
           scratch_offset_of(destination[0].address) == to.low;
  }

  Sequence* s_;
  std::array<lifetime, capacity> lives_{};
};

}  // namespace detail

// Runs the fusion rule to its fixpoint; returns how many steps were fused.
template <class Sequence, class Observer = no_observer>
constexpr std::size_t fuse(Sequence& s, const target& where, Observer&& observe = {}) noexcept {
  if (where.fusions.empty()) return 0;
  return optimize_by_rules<rule_list<rules::fuse_steps>>(s, where, observe);
}

// Gives the scratch buffers that are still used offsets in a pool, by lifetime. Returns the bytes the
// pool must have; it must be aligned to 4096 or to the strictest alignment requested.
template <class Sequence>
constexpr std::uint64_t assign_scratch(Sequence& s) noexcept {
  if (s.scratch_count() == 0) return 0;
  return detail::scratch_coloring<Sequence>{s}.assign();
}

// The steps before `i` that must have ended before it begins, as a bit per step: it reads what they
// write, writes what they read or write, needs their result, or must not pass a gate.
template <class Sequence>
[[nodiscard]] constexpr std::uint64_t dependencies(Sequence& s, const target& where,
                                                   std::size_t i) noexcept {
  detail::flow<Sequence> f{s, where};
  std::uint64_t mask = 0;
  for (std::size_t k = 0; k != i; ++k) {
    bool needed = !f.apart(f.to(k), f.from(i)) || !f.apart(f.to(k), f.to(i)) ||
                  !f.apart(f.from(k), f.to(i)) || (f.at(k).gate && !f.to(i).empty());
    if (f.at(i).op == operation::combine_crc32c || f.at(i).op == operation::reuse_result ||
        f.at(i).seed_from != step::no_seed) {
      needed = true;
    }
    if (needed) mask |= std::uint64_t{1} << k;
  }
  return mask;
}

struct plan_summary {
  std::uint64_t scratch_bytes = 0;
  std::uint64_t bytes_before = 0;
  std::uint64_t bytes_after = 0;
  std::size_t steps_before = 0;
  std::size_t steps_after = 0;
};

// Replaces an optimized sequence by the plan with the fewest bytes, and of those the one with the least
// scratch, where detail::plan_search can search it and finds a better one than the rules. With fusions
// the plan that is better after fusing is kept. Returns whether the sequence was replaced.
template <class Sequence>
constexpr bool search_plan(Sequence& s, const target& where) noexcept {
  detail::plan_search<Sequence> search{s, where};
  if (!search.readable() || search.settled(bytes_moved(s))) return false;
  Sequence ruled = s;
  fuse(ruled, where);
  const std::uint64_t scratch = assign_scratch(ruled);
  if (!search.run(bytes_moved(s), scratch)) return false;
  Sequence searched = s;
  if (!search.store(searched)) return false;
  Sequence fused = searched;
  fuse(fused, where);
  const std::uint64_t bytes = bytes_moved(fused);
  const std::uint64_t before = bytes_moved(ruled);
  if (bytes > before || (bytes == before && assign_scratch(fused) >= scratch)) return false;
  s = searched;
  return true;
}

// Checks, optimizes, fuses, cuts at the target's limits and places. Errors: those of check_scratch() and
// split_steps().
template <class Sequence>
constexpr result<plan_summary> plan(Sequence& s, const target& where = {}) noexcept {
  if (const auto ok = s.check_scratch(); !ok) return ok.error();
  plan_summary p;
  p.bytes_before = bytes_moved(s);
  p.steps_before = s.size();
  if (!optimize_chains(s, where)) search_plan(s, where);
  fuse(s, where);
  if (const auto ok = split_steps(s, where); !ok) return ok.error();
  p.scratch_bytes = assign_scratch(s);
  p.bytes_after = bytes_moved(s);
  p.steps_after = s.size();
  return p;
}

// Binds memory to the slots of a planned sequence: slot n becomes memory[n]. Checks the plan's
// assumptions: each slot is long enough, and no two share bytes. Errors: not_found (a slot without
// memory; index = the slot), out_of_range (shorter than the plan uses), overlap.
template <class Sequence>
constexpr result<> bind(Sequence& s, std::span<const domain_segment> memory,
                        const alias_model& aliases = {}) noexcept {
  for (std::size_t a = 0; a != memory.size(); ++a) {
    for (std::size_t b = a + 1; b != memory.size(); ++b) {
      const bool same = memory[a].domain == memory[b].domain;
      const bool share =
          same ? memory[a].address < memory[b].end() && memory[b].address < memory[a].end()
               : aliases.may_share(memory[a].domain, memory[b].domain);
      if (share) {
        return failure(errc::overlap, "two buffers bound to a plan may share bytes")
            .at(static_cast<std::uint32_t>(b));
      }
    }
  }
  for (std::size_t k = 0; k != s.segment_count(); ++k) {
    domain_segment& d = s.segment_at(k);
    if (d.domain.value < first_slot_domain || d.domain.value >= max_domains) continue;
    const std::size_t n = d.domain.value - first_slot_domain;
    if (n >= memory.size()) {
      return failure(errc::not_found, "a slot of the plan has no memory")
          .at(static_cast<std::uint32_t>(n));
    }
    if (d.end() > memory[n].bytes) {
      return failure(errc::out_of_range, "the memory is shorter than the plan's slot",
                     memory[n].bytes)
          .at(static_cast<std::uint32_t>(n));
    }
    d.address += memory[n].address;
    d.domain = memory[n].domain;
  }
  return {};
}

}  // namespace phasebit::accel
