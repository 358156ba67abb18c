// SPDX-License-Identifier: BSL-1.0
// The optimizer's rules. Each is a type with a stated precondition: apply() examines one step and
// either returns false and changes nothing, or makes one change that keeps every visible byte and
// every result, and returns true. Scratch bytes are not visible. The alias model decides which
// bytes may be the same; where aliasing is uncertain, a rule assumes that they are.
#pragma once

#include <phasebit/accel/detail/flow.hpp>
#include <phasebit/accel/operation.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::accel::rules {

namespace detail {

using namespace phasebit::accel::detail;

// The part of a copy's source stream that byte `offset` of its destination came from, at most `bytes`
// long and within one segment.
[[nodiscard]] constexpr domain_segment origin(std::span<const domain_segment> source,
                                              std::uint64_t offset, std::uint64_t bytes) noexcept {
  for (const domain_segment& s : source) {
    if (offset < s.bytes) {
      const std::uint64_t remaining = s.bytes - offset;
      return {s.address + offset, bytes < remaining ? bytes : remaining, s.domain};
    }
    offset -= s.bytes;
  }
  return {};
}

inline constexpr operation_set with_source{
    operation::copy,         operation::exclusive_or, operation::compare,    operation::crc32c,
    operation::crc16_t10dif, operation::dif_insert,   operation::dif_verify, operation::dif_strip,
    operation::dif_update,   operation::dix_generate, operation::dix_verify, operation::encrypt,
    operation::decrypt,      operation::compress,     operation::decompress};

}  // namespace detail

// A copy onto itself does nothing. Precondition: source and destination of a copy name the same bytes
// at the same position of the streams.
struct drop_self_copy {
  static constexpr std::string_view name = "drop_self_copy";
  static constexpr operation_set on{operation::copy};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    typename Flow::cursor source{f.from(i)};
    typename Flow::cursor destination{f.to(i)};
    for (std::uint64_t at = 0; !source.ended();) {
      const domain_segment a = source.remaining();
      const domain_segment b = destination.remaining();
      const std::uint64_t n = a.bytes < b.bytes ? a.bytes : b.bytes;
      if (a.domain == b.domain && a.address == b.address) return f.drop_range(i, at, n);
      source.advance(n);
      destination.advance(n);
      at += n;
    }
    return false;
  }
};

// Copy elision forwards, and chains of copies: a step that reads copied bytes reads the original.
// Precondition: the last writer of the interval is a copy, and the original has not been written since;
// the engine, or a copy, reaches the original; the step's streams stay valid; and where the engine
// itself does not reach the original, the copy has no other reader, so that nothing is fetched twice.
struct forward_copy {
  static constexpr std::string_view name = "forward_copy";
  static constexpr operation_set on = detail::with_source;

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    for (std::size_t q = 0; q != f.from(i).size(); ++q) {
      const domain_segment whole = f.from(i)[q];
      for (std::uint64_t at = 0; at != whole.bytes;) {
        domain_segment seen{whole.address + at, whole.bytes - at, whole.domain};
        auto w = f.last_writer(i, seen);
        if (w.is == Flow::writer::kind::partial) {
          seen.bytes = w.cut;
          w = f.last_writer(i, seen);
        }
        if (w.is == Flow::writer::kind::covers && f.at(w.step).op == operation::copy) {
          const auto original = detail::origin(f.from(w.step), w.offset, seen.bytes);
          seen.bytes = original.bytes;
          if (holds(f, i, w.step, seen, original) && f.replace_source(i, q, at, original)) {
            return true;
          }
        }
        at += seen.bytes;
      }
    }
    return false;
  }

 private:
  template <class Flow>
  [[nodiscard]] static constexpr bool holds(Flow& f, std::size_t i, std::size_t copier,
                                            const domain_segment& seen,
                                            const domain_segment& original) noexcept {
    const std::span<const domain_segment> one{&original, 1};
    if (original == seen || !f.unwritten(copier, i, one)) return false;
    if (!f.apart(original, f.to(copier))) return false;
    if (f.where().reaches(original.domain)) {
      if (f.at(i).op == operation::copy) return copies(f, i, original);
      return true;
    }
    if (f.at(i).op != operation::copy || !copies(f, i, original)) return false;
    const std::span<const domain_segment> copied{&seen, 1};
    return f.unread(copier, i, copied) && f.dead_after(i, seen) && !read_twice(f, i, seen);
  }
  template <class Flow>
  [[nodiscard]] static constexpr bool copies(Flow& f, std::size_t i,
                                             const domain_segment& original) noexcept {
    for (const domain_segment& d : f.to(i)) {
      if (!f.where().copies(original.domain, d.domain)) return false;
    }
    return true;
  }
  template <class Flow>
  [[nodiscard]] static constexpr bool read_twice(Flow& f, std::size_t i,
                                                 const domain_segment& seen) noexcept {
    int readers = 0;
    for (const domain_segment& s : f.from(i)) readers += f.apart(s, seen) ? 0 : 1;
    return readers > 1;
  }
};

// A copy of filled bytes is a fill. Precondition: the last writer of an interval of a copy's source is
// a fill; the destination is reached by the engine, or is zeroed by its domain. The pattern keeps its
// phase.
struct copy_into_fill {
  static constexpr std::string_view name = "copy_into_fill";
  static constexpr operation_set on{operation::copy};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    typename Flow::cursor source{f.from(i)};
    for (std::uint64_t at = 0; !source.ended();) {
      domain_segment seen = source.remaining();
      auto w = f.last_writer(i, seen);
      if (w.is == Flow::writer::kind::partial) {
        seen.bytes = w.cut;
        w = f.last_writer(i, seen);
      }
      if (w.is == Flow::writer::kind::covers && f.at(w.step).op == operation::fill) {
        const std::uint64_t pattern = pattern_after(f.at(w.step).with.value, w.offset);
        if (fillable(f, i, pattern)) {
          if (at != 0) return f.split_step(i, at);
          if (seen.bytes != f.at(i).source.bytes) return f.split_step(i, seen.bytes);
          f.at(i).op = operation::fill;
          f.at(i).with = to_parameters(pattern);
          f.at(i).source = {0, 0, 0};
          return true;
        }
      }
      source.advance(seen.bytes);
      at += seen.bytes;
    }
    return false;
  }

 private:
  template <class Flow>
  [[nodiscard]] static constexpr bool fillable(Flow& f, std::size_t i,
                                               std::uint64_t pattern) noexcept {
    for (const domain_segment& d : f.to(i)) {
      const bool zeroed = pattern == 0 && (f.where().zeroes & target::bit(d.domain)) != 0;
      if (!f.where().reaches(d.domain) && !zeroed) return false;
    }
    return true;
  }
};

// A fill of bytes that already hold the pattern does nothing. Precondition: the last writer of a
// destination segment is a fill whose pattern, in phase, is the same.
struct drop_repeated_fill {
  static constexpr std::string_view name = "drop_repeated_fill";
  static constexpr operation_set on{operation::fill};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    std::uint64_t at = 0;
    for (const domain_segment& d : f.to(i)) {
      const auto w = f.last_writer(i, d);
      if (w.is == Flow::writer::kind::covers && f.at(w.step).op == operation::fill &&
          pattern_after(f.at(w.step).with.value, w.offset) ==
              pattern_after(f.at(i).with.value, at)) {
        return f.drop_range(i, at, d.bytes);
      }
      at += d.bytes;
    }
    return false;
  }
};

// A store that is never seen is left out. Precondition: the operation only writes, and all it writes
// is overwritten before it is read, or is scratch that is not read. Of a copy or fill also a part.
struct drop_dead_store {
  static constexpr std::string_view name = "drop_dead_store";
  static constexpr operation_set on = pure_operations;

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    if (f.dead_after(i, f.to(i))) {
      f.sequence().erase(i);
      return true;
    }
    if (f.at(i).op != operation::copy && f.at(i).op != operation::fill) return false;
    std::uint64_t at = 0;
    for (const domain_segment& d : f.to(i)) {
      for (std::uint64_t begin = 0; begin != d.bytes;) {
        const std::uint64_t end = next_boundary(f, i, d, begin);
        const domain_segment part{d.address + begin, end - begin, d.domain};
        if (part.bytes != f.at(i).destination.bytes && f.dead_after(i, part) &&
            f.drop_range(i, at + begin, part.bytes)) {
          return true;
        }
        begin = end;
      }
      at += d.bytes;
    }
    return false;
  }

 private:
  // The nearest edge, after `begin`, of anything that a later step reads or writes within `d`.
  template <class Flow>
  [[nodiscard]] static constexpr std::uint64_t next_boundary(Flow& f, std::size_t i,
                                                             const domain_segment& d,
                                                             std::uint64_t begin) noexcept {
    std::uint64_t best = d.bytes;
    for (std::size_t k = i + 1; k < f.size(); ++k) {
      for (const auto list : {f.from(k), f.to(k)}) {
        for (const domain_segment& s : list) {
          if (s.domain != d.domain) continue;
          for (const std::uint64_t edge : {s.address, s.end()}) {
            if (edge <= d.address + begin || edge >= d.end()) continue;
            if (edge - d.address < best) best = edge - d.address;
          }
        }
      }
    }
    return best;
  }
};

// Copy elision backwards, and intermediates in the destination: what a step reads from a buffer that is
// dead afterwards is produced where the step puts it. For a copy the copy becomes a self copy; for
// another in-place operation one temporary less is needed.
//
// Precondition: the source T is dead after the step, disjoint from the destination B, and written whole
// by one earlier step P that works on B as it did on T; between P and the step no other step writes T or B or
// reads B; readers of T between them can read B instead. No gate lies between unless B is scratch. For
// an operation other than a copy T must be scratch, and what B holds meanwhile must not be plain text
// in memory that others see: not for encrypt unless B is local or scratch.
struct write_in_place {
  static constexpr std::string_view name = "write_in_place";
  static constexpr operation_set on{operation::copy, operation::encrypt, operation::decrypt,
                                    operation::dif_update};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    const auto w = f.last_writer(i, f.from(i)[0]);
    if (w.is != Flow::writer::kind::covers) return false;
    const std::size_t p = w.step;
    if (!possible(f, p, i, f.from(i), f.to(i))) return false;
    if (!f.reserve(2U * f.to(i).size())) return false;
    redirect(f, p, i, f.from(i)[0], f.to(i)[0]);
    const operand target_list = f.at(i).destination;
    f.at(p).destination = f.subrange(target_list, 0, target_list.bytes);
    if (f.at(i).op == operation::copy) {
      f.sequence().erase(i);
    } else {
      f.at(i).source = f.subrange(target_list, 0, target_list.bytes);
    }
    return true;
  }

  // The precondition, for the part of step `i` that reads `source` and writes `destination`.
  template <class Flow>
  [[nodiscard]] static constexpr bool possible(
      Flow& f, std::size_t p, std::size_t i, std::span<const domain_segment> source,
      std::span<const domain_segment> destination) noexcept {
    if (!f.same_bytes(f.to(p), source) || !f.apart(source, destination)) return false;
    const bool copying = f.at(i).op == operation::copy;
    for (const domain_segment& t : source) {
      if (!copying && t.domain != scratch_domain) return false;
      if (f.last_writer(i, t).step != p) return false;
    }
    bool visible = false;
    for (const domain_segment& b : destination) {
      visible = visible || b.domain != scratch_domain;
      const bool open = b.domain != scratch_domain && b.domain != local_domain;
      if (f.at(i).op == operation::encrypt && open) return false;
      if (!writable(f, p, b.domain)) return false;
      if (!copying && !f.where().reaches(b.domain)) return false;
    }
    if (!f.dead_after(i, source)) return false;
    if (visible && f.gated(p, i)) return false;
    if (!f.unwritten(p, i, destination) || !f.unread(p, i, destination)) return false;
    if (!f.unwritten(p, i, source)) return false;
    if (!f.valid_streams(f.from(p), destination, in_place_operations.has(f.at(p).op))) return false;
    if (f.unread(p, i, source)) return true;
    return source.size() == 1 && destination.size() == 1 &&
           redirectable(f, p, i, source[0], destination[0]);
  }

 private:
  template <class Flow>
  [[nodiscard]] static constexpr bool writable(Flow& f, std::size_t p, domain_id to) noexcept {
    const step& s = f.at(p);
    if (s.op == operation::copy) {
      for (const domain_segment& from : f.from(p)) {
        if (!f.where().copies(from.domain, to)) return false;
      }
      return true;
    }
    if (f.where().reaches(to)) return true;
    return s.op == operation::fill && s.with.value == 0 &&
           (f.where().zeroes & target::bit(to)) != 0;
  }
  // Whether each reader of T between `p` and `i` reads bytes of T alone, and can read B.
  template <class Flow>
  [[nodiscard]] static constexpr bool redirectable(Flow& f, std::size_t p, std::size_t i,
                                                   const domain_segment& t,
                                                   const domain_segment& b) noexcept {
    for (std::size_t k = p + 1; k != i; ++k) {
      for (const domain_segment& s : f.from(k)) {
        if (f.apart(s, t)) continue;
        if (!phasebit::accel::detail::covers(t, s) || !f.where().reaches(b.domain)) return false;
      }
    }
    return true;
  }
  template <class Flow>
  static constexpr void redirect(Flow& f, std::size_t p, std::size_t i, const domain_segment& t,
                                 const domain_segment& b) noexcept {
    for (std::size_t k = p + 1; k != i; ++k) {
      for (std::size_t q = 0; q != f.from(k).size(); ++q) {
        domain_segment& s = f.sequence().segment_at(std::size_t{f.at(k).source.first} + q);
        if (f.apart(s, t)) continue;
        s = {b.address + (s.address - t.address), s.bytes, b.domain};
      }
    }
  }
};

// A copy from several producers is cut where they meet, so that each can write in place. Precondition:
// a part of the source is exactly what one step wrote, and write_in_place would hold for that part.
struct split_copy {
  static constexpr std::string_view name = "split_copy";
  static constexpr operation_set on{operation::copy};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    typename Flow::cursor source{f.from(i)};
    typename Flow::cursor destination{f.to(i)};
    const std::uint64_t all = f.at(i).source.bytes;
    for (std::uint64_t at = 0; !source.ended();) {
      domain_segment s = source.remaining();
      auto w = f.last_writer(i, s);
      if (w.is == Flow::writer::kind::partial) {
        s.bytes = w.cut;
        w = f.last_writer(i, s);
      }
      domain_segment d = destination.remaining();
      const std::span<const domain_segment> from{&s, 1};
      const std::span<const domain_segment> to{&d, 1};
      if (w.is == Flow::writer::kind::covers && s.bytes != all && d.bytes >= s.bytes) {
        d.bytes = s.bytes;
        if (write_in_place::possible(f, w.step, i, from, to)) {
          return f.split_step(i, at != 0 ? at : s.bytes);
        }
      }
      source.advance(s.bytes);
      destination.advance(s.bytes);
      at += s.bytes;
    }
    return false;
  }
};

}  // namespace phasebit::accel::rules
