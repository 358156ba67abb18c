// SPDX-License-Identifier: BSL-1.0
// The optimizer: runs the rules over a sequence to a fixpoint, before anything is executed. Constant
// sequences are optimized by the compiler: every function here is constexpr.
#pragma once

#include <phasebit/accel/detail/chain.hpp>
#include <phasebit/accel/detail/flow.hpp>
#include <phasebit/accel/rules.hpp>
#include <phasebit/accel/sequence.hpp>
#include <phasebit/accel/target.hpp>
#include <phasebit/accel/value_rules.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace phasebit::accel {

// Bytes that a sequence reads and writes as it stands. Results cost nothing.
template <class Sequence>
[[nodiscard]] constexpr std::uint64_t bytes_moved(const Sequence& s) noexcept {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i != s.size(); ++i) {
    if (s[i].op == operation::combine_crc32c) continue;
    bytes += s[i].source.bytes + s[i].destination.bytes;
  }
  return bytes;
}

// Called before and after each change, with the rule's name: for tools that explain a plan.
struct no_observer {
  template <class Sequence>
  constexpr void operator()(std::string_view, std::size_t, const Sequence&) const noexcept {}
};

template <class... Rules>
struct rule_list {
  // Applies the first rule that fires at step `i`; its name is given to the observer.
  template <class Flow, class Observer>
  static constexpr bool apply(Flow& f, std::size_t i, Observer& observe) noexcept {
    const std::uint32_t op = operation_set::bit(f.at(i).op);
    return (((Rules::on.bits & op) != 0 && Rules::apply(f, i) &&
             (observe(Rules::name, i, f.sequence()), true)) ||
            ...);
  }
};

// The order matters for speed alone: whatever fires, the walk begins again.
using all_rules = rule_list<rules::drop_self_copy, rules::forward_copy, rules::copy_into_fill,
                            rules::drop_repeated_fill, rules::simplify_exclusive_or,
                            rules::drop_dead_store, rules::cancel_inverse, rules::reuse_earlier,
                            rules::write_in_place, rules::split_copy, rules::combine_checksums>;

// Runs `Rules` until none fires, by asking each of them at each step.
template <class Rules = all_rules, class Sequence, class Observer = no_observer>
constexpr std::size_t optimize_by_rules(Sequence& s, const target& where = {},
                                        Observer&& observe = {}) noexcept {
  detail::flow<Sequence> f{s, where};
  std::size_t changes = 0;
  constexpr std::size_t most = 64 * Sequence::step_capacity;
  bool compacted = true;  // nothing to join yet: lists are as the user cut them
  for (;;) {
    bool changed = false;
    for (std::size_t i = 0; i < s.size() && changes != most;) {
      if (Rules::apply(f, i, observe)) {
        ++changes;
        changed = true;
      } else {
        ++i;
      }
    }
    if (changes == most) break;
    if (changed) {
      compacted = false;
      continue;
    }
    // Joined segments may let a rule see more, and a full table may have left one out.
    if (compacted && !f.starved()) break;
    if (!f.starved() && !f.fragmented()) break;
    const std::size_t free_before = s.free_segments();
    f.compact();
    if (compacted && s.free_segments() == free_before) break;
    compacted = true;
  }
  return changes;
}

// Runs all rules until none fires. Every visible byte and every result stays what it is; the sequence
// moves at most as many bytes as before. Bounded: at most 64 changes per step of the capacity. Returns
// how many changes were made. The sequence must have passed check_scratch().
//
// Chains of steps through whole scratch buffers are first joined in one pass over the buffers, which
// does what forward_copy, write_in_place and drop_dead_store would do. Where what is left provably
// gives no rule anything to do, the rules are not asked. An observer is shown every rule instead.
template <class Sequence, class Observer = no_observer>
constexpr std::size_t optimize(Sequence& s, const target& where = {},
                               Observer&& observe = {}) noexcept {
  std::size_t joined = 0;
  if constexpr (std::is_same_v<std::remove_cvref_t<Observer>, no_observer>) {
    if (detail::join_chain(s, where, joined)) return joined;
  }
  return joined + optimize_by_rules(s, where, observe);
}

// The same without an observer. Returns whether chains were all there was, so that no rule was asked.
template <class Sequence>
constexpr bool optimize_chains(Sequence& s, const target& where) noexcept {
  std::size_t joined = 0;
  if (detail::join_chain(s, where, joined)) return true;
  optimize_by_rules(s, where);
  return false;
}

}  // namespace phasebit::accel
