// SPDX-License-Identifier: BSL-1.0
// Questions about the bytes of a sequence, and edits that keep its meaning: who wrote an interval last,
// whether anyone reads it again, and how a stream is cut.
#pragma once

#include <phasebit/accel/sequence.hpp>
#include <phasebit/accel/target.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace phasebit::accel::detail {

// How two intervals lie: apart, sharing known bytes, or in domains that may share bytes anywhere.
enum class meeting : std::uint8_t { none, some, unknown };

[[nodiscard]] constexpr bool covers(const domain_segment& outer,
                                    const domain_segment& inner) noexcept {
  return outer.domain == inner.domain && outer.address <= inner.address &&
         inner.end() <= outer.end();
}

// Sequences are short, so that each question walks the steps; nothing is cached, and no edit can make
// an answer stale.
template <class Sequence>
class flow {
 public:
  constexpr flow(Sequence& s, const target& t) noexcept : s_(&s), t_(&t) {}

  [[nodiscard]] constexpr Sequence& sequence() const noexcept { return *s_; }
  [[nodiscard]] constexpr const target& where() const noexcept { return *t_; }
  [[nodiscard]] constexpr step& at(std::size_t i) const noexcept { return (*s_)[i]; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return s_->size(); }
  [[nodiscard]] constexpr std::span<const domain_segment> from(std::size_t i) const noexcept {
    return s_->sources((*s_)[i]);
  }
  [[nodiscard]] constexpr std::span<const domain_segment> to(std::size_t i) const noexcept {
    return s_->destinations((*s_)[i]);
  }

  [[nodiscard]] constexpr meeting meet(const domain_segment& a,
                                       const domain_segment& b) const noexcept {
    if (a.domain == b.domain) {
      return a.address < b.end() && b.address < a.end() ? meeting::some : meeting::none;
    }
    return t_->aliases.may_share(a.domain, b.domain) ? meeting::unknown : meeting::none;
  }
  [[nodiscard]] constexpr bool apart(const domain_segment& a,
                                     const domain_segment& b) const noexcept {
    return meet(a, b) == meeting::none;
  }
  [[nodiscard]] constexpr bool apart(const domain_segment& a,
                                     std::span<const domain_segment> list) const noexcept {
    for (const domain_segment& b : list) {
      if (!apart(a, b)) return false;
    }
    return true;
  }
  [[nodiscard]] constexpr bool apart(std::span<const domain_segment> a,
                                     std::span<const domain_segment> b) const noexcept {
    for (const domain_segment& one : a) {
      if (!apart(one, b)) return false;
    }
    return true;
  }
  [[nodiscard]] constexpr bool reaches_all(std::span<const domain_segment> list) const noexcept {
    for (const domain_segment& d : list) {
      if (!t_->reaches(d.domain)) return false;
    }
    return true;
  }
  // Whether no step strictly between `first` and `last` may write any of these bytes.
  [[nodiscard]] constexpr bool unwritten(std::size_t first, std::size_t last,
                                         std::span<const domain_segment> list) const noexcept {
    for (std::size_t k = first + 1; k < last; ++k) {
      if (!apart(to(k), list)) return false;
    }
    return true;
  }
  [[nodiscard]] constexpr bool unread(std::size_t first, std::size_t last,
                                      std::span<const domain_segment> list) const noexcept {
    for (std::size_t k = first + 1; k < last; ++k) {
      if (!apart(from(k), list)) return false;
    }
    return true;
  }

  // The step before `i` that last wrote into the interval. `covers`: one of its destination
  // segments contains the whole interval, starting at byte `offset` of the destination stream.
  // `partial`: the result differs after `cut` bytes; cut the interval there. `unknown`: it may have
  // been written in another domain.
  struct writer {
    enum class kind : std::uint8_t { none, covers, partial, unknown };
    kind is = kind::none;
    std::size_t step = 0;
    std::uint64_t offset = 0;
    std::uint64_t cut = 0;
  };
  [[nodiscard]] constexpr writer last_writer(std::size_t i,
                                             const domain_segment& s) const noexcept {
    while (i != 0) {
      --i;
      std::uint64_t offset = 0;
      for (const domain_segment& d : to(i)) {
        const meeting m = meet(d, s);
        if (m == meeting::unknown) return {writer::kind::unknown, i, 0, 0};
        if (m == meeting::some) {
          if (covers(d, s)) {
            if (!alone(i, s)) return {writer::kind::unknown, i, 0, 0};
            return {writer::kind::covers, i, offset + (s.address - d.address), 0};
          }
          const std::uint64_t cut =
              d.address > s.address ? d.address - s.address : d.end() - s.address;
          return {writer::kind::partial, i, 0, cut};
        }
        offset += d.bytes;
      }
    }
    return {};
  }

  // Whether no two segments of step `i`'s destination may be the same memory.
  [[nodiscard]] constexpr bool distinct_destination(std::size_t i) const noexcept {
    const auto list = to(i);
    for (std::size_t k = 1; k < list.size(); ++k) {
      if (!apart(list[k], list.first(k))) return false;
    }
    return true;
  }

  // Whether what step `i` leaves in the interval can never be seen: every byte is overwritten before
  // it is read, or is scratch at the end.
  [[nodiscard]] constexpr bool dead_after(std::size_t i, const domain_segment& s) const noexcept {
    return dead_from(i + 1, s);
  }
  [[nodiscard]] constexpr bool dead_after(std::size_t i,
                                          std::span<const domain_segment> list) const noexcept {
    for (const domain_segment& s : list) {
      if (!dead_from(i + 1, s)) return false;
    }
    return true;
  }

  // Whether a gate lies in [first, last].
  [[nodiscard]] constexpr bool gated(std::size_t first, std::size_t last) const noexcept {
    for (std::size_t k = first; k <= last; ++k) {
      if (at(k).gate) return true;
    }
    return false;
  }

  // Equal as streams of bytes, whatever the cuts.
  [[nodiscard]] static constexpr bool same_bytes(std::span<const domain_segment> a,
                                                 std::span<const domain_segment> b) noexcept {
    if (a.size() == 1 && b.size() == 1) return a[0] == b[0];
    cursor left{a};
    cursor right{b};
    while (!left.ended() && !right.ended()) {
      const domain_segment x = left.remaining();
      const domain_segment y = right.remaining();
      if (x.domain != y.domain || x.address != y.address) return false;
      const std::uint64_t n = x.bytes < y.bytes ? x.bytes : y.bytes;
      left.advance(n);
      right.advance(n);
    }
    return left.ended() && right.ended();
  }
  // Whether a step may have these streams: each source stream (as long as the destination) is the
  // destination itself, where `in_place`, or has no byte in common with it.
  [[nodiscard]] constexpr bool valid_streams(std::span<const domain_segment> sources,
                                             std::span<const domain_segment> destinations,
                                             bool in_place) const noexcept {
    if (destinations.empty() || apart(sources, destinations)) return true;
    if (!in_place) return false;
    std::uint64_t size = 0;
    for (const domain_segment& d : destinations) size += d.bytes;
    cursor source{sources};
    while (!source.ended()) {
      bool same = true;
      bool separate = true;
      cursor there{destinations};
      for (std::uint64_t left = size; left != 0;) {
        if (source.ended()) return false;
        domain_segment x = source.remaining();
        const domain_segment y = there.remaining();
        const std::uint64_t n = x.bytes < y.bytes ? x.bytes : y.bytes;
        x.bytes = n;
        if (x.domain != y.domain || x.address != y.address) same = false;
        if (!apart(x, destinations)) separate = false;
        source.advance(n);
        there.advance(n);
        left -= n;
      }
      if (!same && !separate) return false;
    }
    return true;
  }

  // A position in a stream.
  class cursor {
   public:
    constexpr explicit cursor(std::span<const domain_segment> list) noexcept : list_(list) {}
    [[nodiscard]] constexpr bool ended() const noexcept { return index_ == list_.size(); }
    [[nodiscard]] constexpr domain_segment remaining() const noexcept {
      const domain_segment& s = list_[index_];
      return {s.address + used_, s.bytes - used_, s.domain};
    }
    constexpr void advance(std::uint64_t bytes) noexcept {
      while (bytes != 0 && index_ != list_.size()) {
        const std::uint64_t left = list_[index_].bytes - used_;
        if (bytes < left) {
          used_ += bytes;
          return;
        }
        bytes -= left;
        used_ = 0;
        ++index_;
      }
    }

   private:
    std::span<const domain_segment> list_;
    std::size_t index_ = 0;
    std::uint64_t used_ = 0;
  };

  // Returns whether the table has space for `count` more segments. A rule that gets false is not
  // applied; starved() then returns true, and the optimizer compacts the table and tries again.
  constexpr bool reserve(std::size_t count) noexcept {
    if (s_->free_segments() >= count) [[likely]]
      return true;
    starved_ = true;
    return false;
  }
  [[nodiscard]] constexpr bool starved() const noexcept { return starved_; }

  // Appends bytes [begin, begin + bytes) of a stream to the table. The operand may lie in it.
  constexpr void copy_range(operand list, std::uint64_t begin, std::uint64_t bytes) noexcept {
    for (std::uint16_t k = 0; k != list.count && bytes != 0; ++k) {
      domain_segment d = s_->segment_at(static_cast<std::size_t>(list.first) + k);
      if (begin >= d.bytes) {
        begin -= d.bytes;
        continue;
      }
      d.address += begin;
      d.bytes -= begin;
      begin = 0;
      if (d.bytes > bytes) d.bytes = bytes;
      bytes -= d.bytes;
      push_joined(d);
    }
  }
  // Begins a new operand at the end of the table; finish() returns its length.
  constexpr operand begin_list() noexcept {
    open_ = s_->segment_count();
    return {0, open_, 0};
  }
  constexpr operand finish_list(operand list) noexcept {
    list.count = static_cast<std::uint16_t>(s_->segment_count() - list.first);
    list.bytes = 0;
    for (const domain_segment& d : s_->list(list)) list.bytes += d.bytes;
    return list;
  }
  constexpr operand subrange(operand list, std::uint64_t begin, std::uint64_t bytes) noexcept {
    const operand made = begin_list();
    copy_range(list, begin, bytes);
    return finish_list(made);
  }

  // Replaces part of source segment `q` of step `i`, from its byte `at` on, by other bytes of the same
  // number. False, and nothing done, where the streams would not be valid or the table is full.
  constexpr bool replace_source(std::size_t i, std::size_t q, std::uint64_t at_byte,
                                const domain_segment& by) noexcept {
    step& s = at(i);
    const bool in_place = in_place_operations.has(s.op);
    domain_segment& part = s_->segment_at(std::size_t{s.source.first} + q);
    if (part.bytes == by.bytes) {
      const domain_segment before = part;
      part = by;
      if (valid_streams(from(i), to(i), in_place)) return true;
      part = before;
      return false;
    }
    if (!reserve(s.source.count + 2U)) return false;
    const operand old = s.source;
    const domain_segment whole = part;
    const std::uint16_t first = s_->segment_count();
    for (std::uint16_t k = 0; k != old.count; ++k) {
      if (k != q) {
        s_->push_segment(s_->segment_at(std::size_t{old.first} + k));
        continue;
      }
      if (at_byte != 0) s_->push_segment({whole.address, at_byte, whole.domain});
      s_->push_segment(by);
      const std::uint64_t used = at_byte + by.bytes;
      if (used != whole.bytes) {
        s_->push_segment({whole.address + used, whole.bytes - used, whole.domain});
      }
    }
    s.source = {old.bytes, first, static_cast<std::uint16_t>(s_->segment_count() - first)};
    if (valid_streams(from(i), to(i), in_place)) return true;
    s_->truncate_segments(first);
    s.source = old;
    return false;
  }

  // Takes bytes [begin, begin + bytes) out of both streams of a copy or fill, or erases the step where
  // nothing is left. A fill keeps its phase, or is left alone (false).
  constexpr bool drop_range(std::size_t i, std::uint64_t begin, std::uint64_t bytes) noexcept {
    const step old = at(i);
    const std::uint64_t all = old.destination.bytes;
    if (bytes == all) {
      s_->erase(i);
      return true;
    }
    const bool head = begin == 0;
    const bool tail = begin + bytes == all;
    if (old.op == operation::fill && !head && !tail && bytes % 8 != 0) return false;
    if (!reserve(2U * (old.source.count + old.destination.count + 2U))) return false;
    if (old.op != operation::fill) {
      const operand source = begin_list();
      copy_range(old.source, 0, begin);
      copy_range(old.source, begin + bytes, all - begin - bytes);
      at(i).source = finish_list(source);
    } else if (head) {
      at(i).with.value = pattern_after(old.with.value, bytes);
    }
    const operand destination = begin_list();
    copy_range(old.destination, 0, begin);
    copy_range(old.destination, begin + bytes, all - begin - bytes);
    at(i).destination = finish_list(destination);
    return true;
  }

  // Makes two steps of a copy or fill at byte `begin` of its streams. False where the table is full, or
  // the order of the halves could matter.
  constexpr bool split_step(std::size_t i, std::uint64_t begin) noexcept {
    if (s_->size() == Sequence::step_capacity) return false;
    // Where source and destination may be the same bytes, one half would write what the other reads.
    if (!valid_streams(from(i), to(i), true) || !distinct_destination(i)) return false;
    if (!reserve(2U * (at(i).source.count + at(i).destination.count + 2U))) return false;
    const step whole = at(i);
    step head = whole;
    step tail = whole;
    const std::uint64_t remaining = whole.destination.bytes - begin;
    head.destination = subrange(whole.destination, 0, begin);
    tail.destination = subrange(whole.destination, begin, remaining);
    if (whole.op == operation::fill) {
      tail.with.value = pattern_after(whole.with.value, begin);
    } else {
      head.source = subrange(whole.source, 0, begin);
      tail.source = subrange(whole.source, begin, remaining);
    }
    at(i) = head;
    return s_->insert(i + 1, tail);
  }

  // Whether any stream has neighbouring segments that are one.
  [[nodiscard]] constexpr bool fragmented() const noexcept {
    for (std::size_t i = 0; i != s_->size(); ++i) {
      for (const auto list : {from(i), to(i)}) {
        for (std::size_t k = 1; k < list.size(); ++k) {
          if (joins(list[k - 1], list[k])) return true;
        }
      }
    }
    return false;
  }
  // Joins neighbouring segments of every stream and frees what no step uses. No two lists share
  // segments.
  constexpr void compact() noexcept {
    starved_ = false;
    // Lists are moved down in the order of their places, so that none is overwritten before it moved.
    std::uint16_t used = 0;
    std::size_t done = 0;
    for (;;) {
      operand* next = nullptr;
      for (std::size_t i = 0; i != s_->size(); ++i) {
        for (operand* o : {&at(i).source, &at(i).destination}) {
          if (o->count != 0 && o->first >= done && (next == nullptr || o->first < next->first)) {
            next = o;
          }
        }
      }
      if (next == nullptr) break;
      const operand old = *next;
      done = static_cast<std::size_t>(old.first) + old.count;
      next->first = used;
      open_ = used;
      for (std::uint16_t k = 0; k != old.count; ++k) {
        const domain_segment d = s_->segment_at(static_cast<std::size_t>(old.first) + k);
        if (used != open_ && joins(s_->segment_at(used - 1U), d)) {
          s_->segment_at(used - 1U).bytes += d.bytes;
        } else {
          s_->segment_at(used++) = d;
        }
      }
      next->count = static_cast<std::uint16_t>(used - next->first);
    }
    s_->truncate_segments(used);
  }

 private:
  // Whether no other segment of the destination may name the same bytes in another domain.
  [[nodiscard]] constexpr bool alone(std::size_t i, const domain_segment& s) const noexcept {
    for (const domain_segment& d : to(i)) {
      if (meet(d, s) == meeting::unknown) return false;
    }
    return true;
  }
  [[nodiscard]] static constexpr bool joins(const domain_segment& a,
                                            const domain_segment& b) noexcept {
    if (a.domain != b.domain || a.end() != b.address || a.domain.value >= max_domains) return false;
    return a.domain != scratch_domain ||
           a.address >> scratch_shift == (b.end() - 1) >> scratch_shift;
  }
  constexpr void push_joined(const domain_segment& d) noexcept {
    const std::uint16_t count = s_->segment_count();
    if (count != open_ && joins(s_->segment_at(count - 1U), d)) {
      s_->segment_at(count - 1U).bytes += d.bytes;
    } else {
      s_->push_segment(d);
    }
  }
  [[nodiscard]] constexpr bool dead_from(std::size_t k, const domain_segment& s) const noexcept {
    for (; k < size(); ++k) {
      if (!apart(s, from(k))) return false;
      for (const domain_segment& d : to(k)) {
        if (meet(d, s) != meeting::some) continue;
        const std::uint64_t low = d.address > s.address ? d.address : s.address;
        const std::uint64_t high = d.end() < s.end() ? d.end() : s.end();
        if (low > s.address && !dead_from(k, {s.address, low - s.address, s.domain})) return false;
        return high == s.end() || dead_from(k, {high, s.end() - high, s.domain});
      }
    }
    return s.domain == scratch_domain;
  }

  Sequence* s_;
  const target* t_;
  std::uint16_t open_ = 0;
  bool starved_ = false;
};

}  // namespace phasebit::accel::detail
