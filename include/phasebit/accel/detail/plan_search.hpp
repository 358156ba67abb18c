// SPDX-License-Identifier: BSL-1.0
// Finds the plan with the fewest bytes by branch and bound over values, where the rules, which make one
// local change each, cannot see it: steps in another order, or a value read from another buffer.
#pragma once

#include <phasebit/accel/operation.hpp>
#include <phasebit/accel/sequence.hpp>
#include <phasebit/accel/target.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace phasebit::accel::detail {

// Every step becomes a value: what memory held at first, or an operation on another value. A state is
// the value that each cell (a buffer that steps use whole) holds. The search goes from the first state to
// one in which all memory holds its last value and every checksum has been taken.
//
// Takes sequences whose steps each read at most one segment and write at most one, where two segments
// are the same or apart, of copy, fill, encrypt, decrypt, dif_insert, dix_generate and checksums without
// a seed from another step. load() returns false for anything else.
//
// Memory that is neither local nor scratch gets no value but those that the sequence itself puts there.
template <class Sequence>
class plan_search {
 public:
  static constexpr std::size_t most_cells = 8;
  static constexpr std::size_t most_values = 16;
  static constexpr std::size_t most_readers = 4;
  static constexpr std::size_t most_steps = 8;
  static constexpr std::uint32_t most_nodes = 4096;

  constexpr plan_search(const Sequence& s, const target& t) noexcept : t_(&t) {
    readable_ = load(s);
  }

  // Whether the sequence is one that can be searched.
  [[nodiscard]] constexpr bool readable() const noexcept { return readable_; }
  // Whether the sequence itself is minimal without a search: it moves no more bytes than any plan must,
  // and uses no scratch.
  [[nodiscard]] constexpr bool settled(std::uint64_t bytes) const noexcept {
    return !uses_scratch_ && bound(first_, 0) >= bytes;
  }

  // Looks for a plan of fewer than `bytes` bytes; or of `bytes` with less scratch than `scratch`, the
  // pool of the plan that exists. Returns whether there is one. Exhaustive unless gave_up().
  constexpr bool run(std::uint64_t bytes, std::uint64_t scratch) noexcept {
    if (!readable_) return false;
    const std::uint64_t least = bound(first_, 0);
    if (least >= bytes && scratch == 0) return false;
    best_bytes_ = bytes;
    // All subsets of the scratch cells, by the bytes that they need.
    std::uint64_t done = 0;
    std::size_t scratch_cells = 0;
    for (std::size_t c = 0; c != cell_count_; ++c) scratch_cells += is_scratch(c) ? 1U : 0U;
    const std::size_t subsets = std::size_t{1} << scratch_cells;
    for (std::size_t turn = 0; turn != subsets; ++turn) {
      std::size_t next = subsets;
      for (std::size_t k = 0; k != subsets; ++k) {
        if ((done >> k & 1U) == 0 && (next == subsets || pool(k) < pool(next))) next = k;
      }
      done |= std::uint64_t{1} << next;
      allow(next);
      // Equal bytes are an improvement while they need less scratch than what is there.
      strict_ = found_ || pool(next) >= scratch;
      if (least > best_bytes_ || (strict_ && least == best_bytes_)) break;
      depth_ = 0;
      descend(first_, 0, 0);
    }
    return found_;
  }
  [[nodiscard]] constexpr bool gave_up() const noexcept { return nodes_ > most_nodes; }
  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return best_bytes_; }

  // Writes the plan that run() found into the sequence. False where its tables are too small; the
  // sequence is then as it was.
  constexpr bool store(Sequence& s) const noexcept {
    if (best_depth_ > Sequence::step_capacity || 2 * best_depth_ > Sequence::segment_capacity) {
      return false;
    }
    s.erase_all(~std::uint64_t{0});
    s.truncate_segments(0);
    for (std::size_t k = 0; k != best_depth_; ++k) {
      const move_of& m = best_[k];
      step made{};
      made.seed_from = step::no_seed;
      if (m.reader != none) {
        const reader& r = readers_[m.reader];
        made.op = r.op;
        made.with = r.with;
        made.id = r.id;
      } else {
        const value& v = values_[m.makes];
        made.op = m.copies ? operation::copy : v.op;
        made.id = v.id;
        if (!m.copies) made.with = v.with;
      }
      if (m.from != none) made.source = push(s, cells_[m.from]);
      if (m.to != none) made.destination = push(s, cells_[m.to]);
      static_cast<void>(s.insert(k, made));
    }
    return true;
  }

 private:
  static constexpr std::uint8_t none = 0xff;
  using state = std::array<std::uint8_t, most_cells>;

  struct value {
    parameters with{};
    std::uint64_t bytes = 0;
    operation op = operation::none;  // none: what a cell held at first
    std::uint8_t source = none;
    std::uint8_t id = 0;
  };
  struct reader {
    parameters with{};
    operation op = operation::none;
    std::uint8_t source = none;
    std::uint8_t id = 0;
  };
  struct move_of {
    std::uint8_t from = none;
    std::uint8_t to = none;
    std::uint8_t makes = none;
    std::uint8_t reader = none;
    bool copies = false;
  };

  static constexpr operand push(Sequence& s, const domain_segment& d) noexcept {
    const operand o{d.bytes, s.segment_count(), 1};
    s.push_segment(d);
    return o;
  }
  [[nodiscard]] constexpr bool is_scratch(std::size_t c) const noexcept {
    return cells_[c].domain == scratch_domain;
  }
  [[nodiscard]] constexpr std::uint64_t pool(std::size_t subset) const noexcept {
    std::uint64_t bytes = 0;
    std::size_t k = 0;
    for (std::size_t c = 0; c != cell_count_; ++c) {
      if (!is_scratch(c)) continue;
      if ((subset >> k++ & 1U) != 0) bytes += cells_[c].bytes;
    }
    return bytes;
  }
  constexpr void allow(std::size_t subset) noexcept {
    std::size_t k = 0;
    for (std::size_t c = 0; c != cell_count_; ++c) {
      allowed_[c] = !is_scratch(c) || (subset >> k++ & 1U) != 0;
    }
  }

  // The cell that a segment is, made where it is new. none: it overlaps another, or the table is full.
  constexpr std::uint8_t cell(const domain_segment& d) noexcept {
    for (std::size_t c = 0; c != cell_count_; ++c) {
      if (cells_[c] == d) return static_cast<std::uint8_t>(c);
      const bool meet = cells_[c].domain == d.domain
                            ? overlaps(cells_[c], d)
                            : t_->aliases.may_share(cells_[c].domain, d.domain);
      if (meet) return none;
    }
    if (cell_count_ == most_cells) return none;
    const std::size_t c = cell_count_++;
    cells_[c] = d;
    first_[c] = none;
    if (d.domain != scratch_domain) first_[c] = add({{}, d.bytes, operation::none, none, 0});
    last_[c] = first_[c];
    return first_[c] == none && d.domain != scratch_domain ? none : static_cast<std::uint8_t>(c);
  }
  constexpr std::uint8_t add(const value& v) noexcept {
    if (v.op != operation::none) {
      for (std::size_t k = 0; k != value_count_; ++k) {
        const value& o = values_[k];
        if (o.op == v.op && o.source == v.source && o.bytes == v.bytes && o.with == v.with) {
          return static_cast<std::uint8_t>(k);
        }
      }
      if (v.source != none) {
        const value& o = values_[v.source];
        const bool inverse = (o.op == operation::encrypt && v.op == operation::decrypt) ||
                             (o.op == operation::decrypt && v.op == operation::encrypt);
        if (inverse && o.with == v.with) return o.source;
      }
    }
    if (value_count_ == most_values) return none;
    values_[value_count_] = v;
    return static_cast<std::uint8_t>(value_count_++);
  }

  constexpr bool load(const Sequence& s) noexcept {
    if (s.size() > most_steps) return false;
    for (std::size_t i = 0; i != s.size(); ++i) {
      const step& at = s[i];
      const bool reads = at.op == operation::crc32c || at.op == operation::crc16_t10dif;
      const bool makes = at.op != operation::exclusive_or && pure_operations.has(at.op);
      if ((!reads && !makes) || at.then != operation::none || at.gate) return false;
      if (at.seed_from != step::no_seed) return false;
      if (at.source.count > 1 || at.destination.count > 1) return false;
      std::uint8_t source = none;
      if (at.source.count == 1) {
        const std::uint8_t from = cell(s.sources(at)[0]);
        if (from == none || last_[from] == none) return false;
        source = last_[from];
      }
      if (reads) {
        if (reader_count_ == most_readers) return false;
        readers_[reader_count_++] = {at.with, at.op, source, at.id};
        continue;
      }
      const std::uint8_t to = cell(s.destinations(at)[0]);
      if (to == none) return false;
      const std::uint8_t v = at.op == operation::copy
                                 ? source
                                 : add({at.with, at.destination.bytes, at.op, source, at.id});
      if (v == none) return false;
      last_[to] = v;
      uses_scratch_ = uses_scratch_ || is_scratch(to);
      written_[to] |= std::uint32_t{1} << v;
    }
    // Scratch that the rules freed may hold a value again.
    for (std::size_t b = 0; b != s.scratch_count() && cell_count_ != most_cells; ++b) {
      const domain_segment whole{(std::uint64_t{b} + 1) << scratch_shift, s.scratch_buffer(b).bytes,
                                 scratch_domain};
      bool used = false;
      for (std::size_t c = 0; c != cell_count_; ++c) {
        used = used || (is_scratch(c) && scratch_buffer_of(cells_[c].address) == b);
      }
      if (!used) static_cast<void>(cell(whole));
    }
    return true;
  }

  [[nodiscard]] constexpr std::uint64_t cost(const value& v) const noexcept {
    return v.bytes + (v.source == none ? 0 : values_[v.source].bytes);
  }
  [[nodiscard]] constexpr bool holds(const state& now, std::uint8_t v) const noexcept {
    for (std::size_t c = 0; c != cell_count_; ++c) {
      if (now[c] == v && v != none) return true;
    }
    return false;
  }

  // Bytes that any way from the state must still move: each value that is needed and held nowhere is
  // made once, each further cell that must hold it costs a copy, and each checksum reads once.
  [[nodiscard]] constexpr std::uint64_t bound(const state& now, std::uint32_t read) const noexcept {
    std::uint64_t bytes = 0;
    std::uint32_t missing = 0;
    std::uint32_t wanted = 0;  // of these, the ones that a cell of memory waits for
    for (std::size_t r = 0; r != reader_count_; ++r) {
      if ((read >> r & 1U) != 0) continue;
      bytes += values_[readers_[r].source].bytes;
      missing |= std::uint32_t{1} << readers_[r].source;
    }
    for (std::size_t c = 0; c != cell_count_; ++c) {
      if (is_scratch(c) || now[c] == last_[c]) continue;
      const std::uint32_t bit = std::uint32_t{1} << last_[c];
      missing |= bit;
      const std::uint64_t made = cost(values_[last_[c]]);
      const std::uint64_t copied = 2 * values_[last_[c]].bytes;
      const bool first = values_[last_[c]].op == operation::none;
      // The first cell takes the making itself where the value is missing; counted below.
      if ((wanted & bit) != 0 || holds(now, last_[c])) {
        bytes += first || copied < made ? copied : made;
      }
      wanted |= bit;
    }
    // From the last value to the first: a source is needed where what is made of it is missing.
    for (std::size_t v = value_count_; v-- != 0;) {
      if ((missing >> v & 1U) == 0 || holds(now, static_cast<std::uint8_t>(v))) continue;
      if (values_[v].op == operation::none) return ~std::uint64_t{0} / 2;  // lost for good
      bytes += cost(values_[v]);
      if (values_[v].source != none) missing |= std::uint32_t{1} << values_[v].source;
    }
    return bytes;
  }

  [[nodiscard]] constexpr bool better(std::uint64_t bytes) const noexcept {
    return strict_ ? bytes < best_bytes_ : bytes <= best_bytes_;
  }

  constexpr void descend(state now, std::uint32_t read, std::uint64_t spent) noexcept {
    if (++nodes_ > most_nodes) return;
    const std::size_t depth_before = depth_;
    // A checksum costs the same from any cell: it is taken as soon as its value is there.
    for (std::size_t r = 0; r != reader_count_; ++r) {
      if ((read >> r & 1U) != 0 || depth_ == most_steps) continue;
      for (std::size_t c = 0; c != cell_count_; ++c) {
        if (now[c] != readers_[r].source || !t_->reaches(cells_[c].domain)) continue;
        path_[depth_++] = {static_cast<std::uint8_t>(c), none, none, static_cast<std::uint8_t>(r),
                           false};
        spent += cells_[c].bytes;
        read |= std::uint32_t{1} << r;
        break;
      }
    }
    const std::uint64_t left = bound(now, read);
    if (better(spent + left)) {
      if (left == 0) {
        best_bytes_ = spent;
        best_depth_ = depth_;
        best_ = path_;
        found_ = true;
        strict_ = true;
      } else if (depth_ != most_steps) {
        for (std::size_t v = 0; v != value_count_; ++v) {
          for (std::size_t to = 0; to != cell_count_; ++to) {
            try_move(now, read, spent, static_cast<std::uint8_t>(v), to);
          }
        }
      }
    }
    depth_ = depth_before;
  }
  // Makes value `v` in cell `to` in the cheapest way there is; nothing later depends on the way.
  constexpr void try_move(const state& now, std::uint32_t read, std::uint64_t spent, std::uint8_t v,
                          std::size_t to) noexcept {
    const value& made = values_[v];
    if (now[to] == v || cells_[to].bytes != made.bytes || !may_hold(to, v)) return;
    move_of m{none, static_cast<std::uint8_t>(to), v, none, false};
    std::uint64_t price = ~std::uint64_t{0};
    if (made.op == operation::fill) {
      const bool zeroed =
          made.with.value == 0 && (t_->zeroes & target::bit(cells_[to].domain)) != 0;
      if (t_->reaches(cells_[to].domain) || zeroed) price = made.bytes;
    } else {
      for (std::size_t c = 0; c != cell_count_; ++c) {
        const bool copied = now[c] == v && t_->copies(cells_[c].domain, cells_[to].domain);
        const bool worked = made.op != operation::none && now[c] == made.source &&
                            (c != to || in_place_operations.has(made.op)) &&
                            t_->reaches(cells_[c].domain) && t_->reaches(cells_[to].domain);
        if (copied && 2 * made.bytes < price) {
          price = 2 * made.bytes;
          m.from = static_cast<std::uint8_t>(c);
          m.copies = true;
        }
        if (worked && cost(made) < price) {
          price = cost(made);
          m.from = static_cast<std::uint8_t>(c);
          m.copies = false;
        }
      }
    }
    if (price == ~std::uint64_t{0} || !better(spent + price)) return;
    state then = now;
    then[to] = v;
    path_[depth_++] = m;
    descend(then, read, spent + price);
    --depth_;
  }
  [[nodiscard]] constexpr bool may_hold(std::size_t c, std::uint8_t v) const noexcept {
    if (!allowed_[c]) return false;
    if (is_scratch(c) || cells_[c].domain == local_domain) return true;
    return last_[c] == v || (written_[c] >> v & 1U) != 0;
  }

  const target* t_;
  std::array<domain_segment, most_cells> cells_{};
  std::array<value, most_values> values_{};
  std::array<reader, most_readers> readers_{};
  std::array<move_of, most_steps> path_{};
  std::array<move_of, most_steps> best_{};
  std::array<std::uint32_t, most_cells> written_{};
  state first_{};
  state last_{};
  std::array<bool, most_cells> allowed_{};
  std::size_t cell_count_ = 0;
  std::size_t value_count_ = 0;
  std::size_t reader_count_ = 0;
  std::size_t depth_ = 0;
  std::size_t best_depth_ = 0;
  std::uint64_t best_bytes_ = 0;
  std::uint32_t nodes_ = 0;
  bool readable_ = false;
  bool uses_scratch_ = false;
  bool strict_ = true;
  bool found_ = false;
};

}  // namespace phasebit::accel::detail
