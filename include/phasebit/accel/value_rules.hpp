// SPDX-License-Identifier: BSL-1.0
// The optimizer's rules about values: what is computed twice, cancels, or follows from earlier results.
// See rules.hpp for what a rule guarantees.
#pragma once

#include <phasebit/accel/detail/flow.hpp>
#include <phasebit/accel/operation.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace phasebit::accel::rules {

// Zero propagation: x ^ 0 = x, x ^ x = 0, and an exclusive-or of one source is a copy. Precondition: a
// source stream was last written by a fill with zeros, or two streams name the same bytes; what it
// becomes is a copy that some domain or the engine can do.
struct simplify_exclusive_or {
  static constexpr std::string_view name = "simplify_exclusive_or";
  static constexpr operation_set on{operation::exclusive_or};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    const std::uint64_t size = f.at(i).destination.bytes;
    const std::uint64_t count = f.at(i).with.value2;
    if (count == 1) {
      f.at(i).op = operation::copy;
      f.at(i).with = {};
      return true;
    }
    for (std::uint64_t k = 0; k != count; ++k) {
      if (zero(f, i, k * size, size)) return without(f, i, k, count, size);
      for (std::uint64_t m = k + 1; m != count; ++m) {
        if (!same(f, i, k * size, m * size, size)) continue;
        // The later one first, so that the earlier keeps its place.
        if (count == 2) {
          f.at(i).op = operation::fill;
          f.at(i).with = {};
          f.at(i).source = {0, 0, 0};
          return true;
        }
        if (!f.reserve(2U * f.at(i).source.count + 4U)) return false;
        return without(f, i, m, count, size) && without(f, i, k, count - 1, size);
      }
    }
    return false;
  }

 private:
  template <class Flow>
  [[nodiscard]] static constexpr bool zero(Flow& f, std::size_t i, std::uint64_t begin,
                                           std::uint64_t bytes) noexcept {
    typename Flow::cursor c{f.from(i)};
    c.advance(begin);
    while (bytes != 0) {
      domain_segment s = c.remaining();
      if (s.bytes > bytes) s.bytes = bytes;
      const auto w = f.last_writer(i, s);
      if (w.is == Flow::writer::kind::partial) {
        s.bytes = w.cut;
        const auto part = f.last_writer(i, s);
        if (!is_zero(f, part)) return false;
      } else if (!is_zero(f, w)) {
        return false;
      }
      bytes -= s.bytes;
      c.advance(s.bytes);
    }
    return true;
  }
  template <class Flow>
  [[nodiscard]] static constexpr bool is_zero(Flow& f, const typename Flow::writer& w) noexcept {
    return w.is == Flow::writer::kind::covers && f.at(w.step).op == operation::fill &&
           f.at(w.step).with.value == 0;
  }
  template <class Flow>
  [[nodiscard]] static constexpr bool same(Flow& f, std::size_t i, std::uint64_t a, std::uint64_t b,
                                           std::uint64_t bytes) noexcept {
    typename Flow::cursor x{f.from(i)};
    typename Flow::cursor y{f.from(i)};
    x.advance(a);
    y.advance(b);
    while (bytes != 0) {
      const domain_segment p = x.remaining();
      const domain_segment q = y.remaining();
      if (p.domain != q.domain || p.address != q.address) return false;
      std::uint64_t n = p.bytes < q.bytes ? p.bytes : q.bytes;
      if (n > bytes) n = bytes;
      x.advance(n);
      y.advance(n);
      bytes -= n;
    }
    return true;
  }
  template <class Flow>
  static constexpr bool without(Flow& f, std::size_t i, std::uint64_t k, std::uint64_t count,
                                std::uint64_t size) noexcept {
    const operand old = f.at(i).source;
    if (!f.reserve(old.count + 2U)) return false;
    const operand list = f.begin_list();
    f.copy_range(old, 0, k * size);
    f.copy_range(old, (k + 1) * size, (count - k - 1) * size);
    f.at(i).source = f.finish_list(list);
    f.at(i).with.value2 = count - 1;
    return true;
  }
};

// The same computation twice is done once. Precondition: an earlier step of the same operation and
// parameters read the same bytes, which have not been written since. If both write, what the first
// wrote is still there: then the second is left out where it writes the same place, or becomes a copy.
// A check or CRC takes the earlier result.
struct reuse_earlier {
  static constexpr std::string_view name = "reuse_earlier";
  static constexpr operation_set on{
      operation::copy,         operation::exclusive_or, operation::dif_insert,
      operation::dix_generate, operation::encrypt,      operation::decrypt,
      operation::crc32c,       operation::crc16_t10dif, operation::dif_verify,
      operation::dix_verify,   operation::compare};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    for (std::size_t j = i; j-- != 0;) {
      const step& earlier = f.at(j);
      const step& later = f.at(i);
      if (earlier.op != later.op || earlier.with != later.with) continue;
      if (earlier.seed_from != step::no_seed || later.seed_from != step::no_seed) continue;
      if (earlier.source.bytes != later.source.bytes) continue;
      if (!f.same_bytes(f.from(j), f.from(i)) || !f.unwritten(j, i, f.from(i))) continue;
      if (!f.apart(f.to(j), f.from(i))) continue;
      if (reading_operations.has(later.op)) {
        const std::uint8_t id = earlier.id;
        step& s = f.at(i);
        s.op = operation::reuse_result;
        s.with = to_parameters(std::uint64_t{id});
        s.source = {0, 0, 0};
        s.gate = false;  // the earlier step is as much of a gate, and has passed before
        return true;
      }
      if (!f.distinct_destination(j) || !f.unwritten(j, i, f.to(j))) continue;
      if (f.same_bytes(f.to(j), f.to(i))) {
        f.sequence().erase(i);
        return true;
      }
      if (later.op == operation::copy || later.destination.bytes > later.source.bytes) continue;
      if (!f.apart(f.to(j), f.to(i)) || !copyable(f, j, i)) continue;
      if (!f.reserve(earlier.destination.count)) return false;
      const operand list = f.subrange(earlier.destination, 0, earlier.destination.bytes);
      f.at(i).op = operation::copy;
      f.at(i).with = {};
      f.at(i).source = list;
      return true;
    }
    return false;
  }

 private:
  template <class Flow>
  [[nodiscard]] static constexpr bool copyable(Flow& f, std::size_t j, std::size_t i) noexcept {
    for (const domain_segment& a : f.to(j)) {
      for (const domain_segment& b : f.to(i)) {
        if (!f.where().copies(a.domain, b.domain)) return false;
      }
    }
    return true;
  }
};

// Decrypting encrypted data, or the reverse, gives the original. If both work in place and no step
// reads the data between them, neither is needed. Precondition: the source was written whole by the
// inverse operation with the same key, data unit size and tweak, from bytes that have not been
// written since.
struct cancel_inverse {
  static constexpr std::string_view name = "cancel_inverse";
  static constexpr operation_set on{operation::encrypt, operation::decrypt};

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    const auto w = f.last_writer(i, f.from(i)[0]);
    if (w.is != Flow::writer::kind::covers) return false;
    const step& first = f.at(w.step);
    const step& second = f.at(i);
    const bool inverse = (first.op == operation::encrypt && second.op == operation::decrypt) ||
                         (first.op == operation::decrypt && second.op == operation::encrypt);
    if (!inverse || first.with != second.with || !f.same_bytes(f.to(w.step), f.from(i)))
      return false;
    for (const domain_segment& s : f.from(i)) {
      if (f.last_writer(i, s).step != w.step) return false;
    }
    const auto original = f.from(w.step);
    if (f.same_bytes(original, f.to(w.step)) && f.same_bytes(original, f.to(i)) &&
        f.unread(w.step, i, original) && f.unwritten(w.step, i, original) && !f.gated(w.step, i)) {
      f.sequence().erase(i);
      f.sequence().erase(w.step);
      return true;
    }
    if (!f.unwritten(w.step, i, original) || !f.apart(original, f.to(w.step))) return false;
    if (!f.valid_streams(original, f.to(i), true)) return false;
    if (!f.reserve(first.source.count)) return false;
    const operand list = f.subrange(first.source, 0, first.source.bytes);
    f.at(i).op = operation::copy;
    f.at(i).with = {};
    f.at(i).source = list;
    return true;
  }
};

// A CRC-32C over bytes whose parts have been summed is combined from the parts. Precondition: the
// source is the concatenation of the sources of at least two earlier CRC steps with seed 0, in any
// order of steps, and none of these bytes has been written since. Segment ends need not agree.
struct combine_checksums {
  static constexpr std::string_view name = "combine_checksums";
  static constexpr operation_set on{operation::crc32c};
  static constexpr std::size_t most_parts = 8;

  template <class Flow>
  static constexpr bool apply(Flow& f, std::size_t i) noexcept {
    if (f.at(i).with.value != 0 || f.at(i).seed_from != step::no_seed) return false;
    std::size_t parts[most_parts]{};
    std::size_t count = 0;
    std::uint64_t at = 0;
    const std::uint64_t all = f.at(i).source.bytes;
    while (at != all) {
      if (count == most_parts) return false;
      std::size_t found = i;
      for (std::size_t j = 0; j != i && found == i; ++j) {
        if (fits(f, i, j, at)) found = j;
      }
      if (found == i) return false;
      parts[count++] = found;
      at += f.at(found).source.bytes;
    }
    if (count < 2 || !f.reserve(count)) return false;
    const operand list = f.begin_list();
    for (std::size_t k = 0; k != count; ++k) {
      f.sequence().push_segment({f.at(parts[k]).id, f.at(parts[k]).source.bytes, result_domain});
    }
    f.at(i).source = f.finish_list(list);
    f.at(i).op = operation::combine_crc32c;
    return true;
  }

  // Where a combine's source segments lie: address = id of the part's result, bytes = its length.
  static constexpr domain_id result_domain{0xffff};

 private:
  template <class Flow>
  [[nodiscard]] static constexpr bool fits(Flow& f, std::size_t i, std::size_t j,
                                           std::uint64_t at) noexcept {
    const step& part = f.at(j);
    if (part.op != operation::crc32c || part.with.value != 0) return false;
    if (part.seed_from != step::no_seed || part.source.bytes > f.at(i).source.bytes - at) {
      return false;
    }
    typename Flow::cursor whole{f.from(i)};
    typename Flow::cursor reader{f.from(j)};
    whole.advance(at);
    while (!reader.ended()) {
      const domain_segment a = whole.remaining();
      const domain_segment b = reader.remaining();
      if (a.domain != b.domain || a.address != b.address) return false;
      const std::uint64_t n = a.bytes < b.bytes ? a.bytes : b.bytes;
      whole.advance(n);
      reader.advance(n);
    }
    return f.unwritten(j, i, f.from(j));
  }
};

}  // namespace phasebit::accel::rules
