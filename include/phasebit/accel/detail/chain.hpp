// SPDX-License-Identifier: BSL-1.0
// The common case of the optimizer, in one pass: steps that hand whole scratch buffers to one another.
#pragma once

#include <phasebit/accel/sequence.hpp>
#include <phasebit/accel/target.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::accel::detail {

template <class Sequence>
class chain {
 public:
  constexpr chain(Sequence& s, const target& t) noexcept : s_(&s), t_(&t) {}

  // Takes over the copies at both ends of each buffer that one step writes whole and the next step
  // reads whole. Returns false where a buffer is used in another way; what was joined until then stays.
  constexpr bool join(std::size_t& joined) noexcept {
    bool simple = true;
    for (std::size_t b = 0; b != s_->scratch_count(); ++b) {
      auto& buffer = s_->scratch_buffer(b);
      if ((buffer.writes | buffer.reads) == 0) continue;
      if (buffer.writes != 1 || buffer.reads != 1 || buffer.writer >= buffer.reader) {
        simple = false;
        continue;
      }
      const std::uint64_t between =
          (std::uint64_t{1} << buffer.reader) - (std::uint64_t{2} << buffer.writer);
      if ((between & ~removed_) != 0) return false;
      step& writer = (*s_)[buffer.writer];
      step& reader = (*s_)[buffer.reader];
      if (reader.source.count != 1 || writer.destination.count != 1) {
        simple = false;
        continue;
      }
      // One segment for another of as many bytes: only its place in the table changes.
      if (reader.op == operation::copy) {
        if (reader.destination.count != 1 || writer.source.count > 1) {
          simple = false;
          continue;
        }
        const domain_segment& to = at(reader.destination);
        if (writer.source.count == 1 && meets(at(writer.source), to)) return false;
        writer.destination.first = reader.destination.first;
        if (to.domain == scratch_domain) {
          s_->scratch_buffer(scratch_buffer_of(to.address)).writer = buffer.writer;
        }
        removed_ |= std::uint64_t{1} << buffer.reader;
      } else if (writer.op == operation::copy) {
        if (writer.source.count != 1 || reader.destination.count > 1) {
          simple = false;
          continue;
        }
        const domain_segment& from = at(writer.source);
        if (reader.destination.count == 1 && meets(from, at(reader.destination))) return false;
        reader.source.first = writer.source.first;
        if (from.domain == scratch_domain) {
          s_->scratch_buffer(scratch_buffer_of(from.address)).reader = buffer.reader;
        }
        removed_ |= std::uint64_t{1} << buffer.writer;
      } else {
        continue;
      }
      buffer.writes = buffer.reads = 0;
      ++joined;
    }
    return simple;
  }

  constexpr void compact() noexcept {
    if (removed_ != 0) s_->erase_all(removed_);
  }

  // Whether no rule can fire: the steps that are left have different operations, touch each other's
  // bytes nowhere but in a buffer that one hands to another, and none is a copy onto itself, an
  // exclusive-or, or an operation that could work in place on a scratch buffer.
  [[nodiscard]] constexpr bool settled() const noexcept {
    const std::size_t n = s_->size();
    std::uint32_t seen = 0;
    for (std::size_t i = 0; i != n; ++i) {
      const step& s = (*s_)[i];
      const std::uint32_t op = operation_set::bit(s.op);
      // encrypt and decrypt count as one, because they may cancel.
      const std::uint32_t group = (op & cipher_bits) != 0 ? cipher_bits : op;
      if ((seen & group) != 0 || s.op == operation::exclusive_or) return false;
      seen |= group;
      if (s.source.count > 1 || s.destination.count > 1) return false;
      const bool copies = s.op == operation::copy;
      if (s.source.count == 1 && at(s.source).domain == scratch_domain) {
        if (copies || (op & in_place_bits) != 0) return false;
      }
      if (s.destination.count == 1) {
        const domain_segment& d = at(s.destination);
        const bool scratch = d.domain == scratch_domain;
        if (scratch && (copies || s.op == operation::fill)) return false;
        if (scratch && s_->scratch_buffer(scratch_buffer_of(d.address)).reads == 0) return false;
        if (s.source.count == 1 && meets(at(s.source), d)) return false;
        for (std::size_t k = 0; k != n; ++k) {
          if (k == i || (scratch && k > i)) continue;
          const step& other = (*s_)[k];
          if (other.source.count == 1 && meets(at(other.source), d)) return false;
          if (other.destination.count == 1 && meets(at(other.destination), d)) return false;
        }
      }
    }
    return true;
  }

 private:
  static constexpr std::uint32_t cipher_bits =
      operation_set::bit(operation::encrypt) | operation_set::bit(operation::decrypt);
  static constexpr std::uint32_t in_place_bits = in_place_operations.bits;

  [[nodiscard]] constexpr const domain_segment& at(const operand& o) const noexcept {
    return s_->segment(o.first);
  }
  [[nodiscard]] constexpr bool meets(const domain_segment& a,
                                     const domain_segment& b) const noexcept {
    if (a.domain == b.domain) return a.address < b.end() && b.address < a.end();
    return t_->aliases.may_share(a.domain, b.domain);
  }
  Sequence* s_;
  const target* t_;
  std::uint64_t removed_ = 0;
};

// Joins chains. True where the sequence is then at the rules' fixpoint.
template <class Sequence>
[[nodiscard]] constexpr bool join_chain(Sequence& s, const target& where,
                                        std::size_t& joined) noexcept {
  if (where.reach != ~std::uint64_t{0} || !s.tracked()) return false;
  chain<Sequence> c{s, where};
  const bool simple = c.join(joined);
  c.compact();
  return simple && c.settled();
}

}  // namespace phasebit::accel::detail
