// SPDX-License-Identifier: BSL-1.0
// Walking page tables: our own, a host's, or a guest's.
#pragma once

#include <phasebit/core/align.hpp>
#include <phasebit/core/bit_scan.hpp>
#include <phasebit/iommu/page_table/page_lookup.hpp>
#include <phasebit/iommu/page_table/page_table_fwd.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace phasebit::iommu {

// A page as a visitor gets it. `begin` is the page's own, even if the walk began in its middle.
template <class From, class To>
struct mapped_page {
  address<From> begin;
  address<To> target;
  unsigned page_shift = 0;
  page_attributes attributes;
  bool dirty = false;
};

// Tables of Format at `root`, read through Tables; a small value that owns nothing. Guarantees: a
// walk reads at most one entry per level, each once; it reads only memory that Tables returns,
// and ends, whatever the tables contain. Any number of threads may walk while one or several change
// the tables: they read each entry as it was or as it is.
template <PageTableFormat Format, TableReader Tables, class From>
class page_table_view {
 public:
  using from = From;
  using to = typename Tables::space;
  using geometry = table_geometry<Format>;

  page_table_view(const Format& format, Tables& tables, address<to> root) noexcept
      : format_(format),
        tables_(&tables),
        root_at_(root),
        root_(tables.find(root, geometry::root_bytes(format))),
        root_mask_(geometry::root_entries(format) - 1),
        top_(format.top_level()) {}

  [[nodiscard]] const Format& format() const noexcept { return format_; }
  [[nodiscard]] address<to> root() const noexcept { return root_at_; }

  // Where `a` is mapped, or why it is not. No error is built: this is for caches and for device
  // models, which report faults in the words of their hardware.
  [[nodiscard]] page_lookup<to> lookup(address<From> a) const noexcept {
    return find(a.value()).page;
  }

  // One question of lookup_many().
  struct question {
    const page_table_view* tables = nullptr;
    address<From> at{};
  };
  // lookup() of each question with overlapping walks: while one waits for memory, the others continue. For tables
  // that are not cached; a single question costs more than lookup(). `found` has a place for each.
  static void lookup_many(std::span<const question> questions,
                          std::span<page_lookup<to>> found) noexcept {
    PHASEBIT_EXPECTS(found.size() >= questions.size(), "each lookup has a place for its answer");
    for (std::size_t done = 0; done < questions.size(); done += lanes) {
      const std::size_t remaining = questions.size() - done;
      descend_together(questions.data() + done, found.data() + done,
                       remaining < lanes ? remaining : lanes);
    }
  }
  // The same for addresses of one table.
  void lookup_many(std::span<const address<From>> at,
                   std::span<page_lookup<to>> found) const noexcept {
    PHASEBIT_EXPECTS(found.size() >= at.size(), "each lookup has a place for its answer");
    question group[lanes];
    for (std::size_t done = 0; done < at.size(); done += lanes) {
      const std::size_t remaining = at.size() - done;
      const std::size_t count = remaining < lanes ? remaining : lanes;
      for (std::size_t i = 0; i != count; ++i) group[i] = {this, at[done + i]};
      descend_together(group, found.data() + done, count);
    }
  }

  // As a hardware walk: if the page permits `wanted`, the accessed and dirty bits are set as the
  // format defines. A page whose dirty bit is still clear is returned without write permission, so
  // that a cache that holds the result walks again before the first write. An entry that changes
  // too often meanwhile is reported as unreadable.
  [[nodiscard]] page_lookup<to> access_page(address<From> a, access wanted) const noexcept {
    const bool write = writes(wanted);
    for (unsigned turn = 0; turn != most_turns; ++turn) {
      position here = find(a.value());
      page_lookup<to>& page = here.page;
      if (page.status != walk_status::mapped) return page;
      if ((static_cast<unsigned>(wanted) & ~unsigned{page.permissions}) != 0) return page;
      if constexpr (page_format<Format>::marks_tables) {
        if (!mark_tables(a.value(), page.level)) continue;
      }
      const std::uint64_t marked = format_.after_access(page.entry, write);
      std::uint64_t found = page.entry;
      if (marked != found) {
        table_word* const slot = here.table + index(a.value(), page.level);
        if (!detail::exchange_entry(slot, found, marked)) continue;
        page.entry = marked;
      }
      if (format_.after_access(marked, true) != marked) page.permissions &= 1;
      return page;
    }
    page_lookup<to> busy;
    busy.status = walk_status::unreadable;
    return busy;
  }

  // AddressTranslator. The segment ends at the latest where the leaf's table does.
  [[nodiscard]] result<segment<to>> translate(address<From> a, std::uint64_t bytes,
                                              access wanted) const noexcept {
    PHASEBIT_EXPECTS(bytes != 0, "a translation is asked for at least one byte");
    const position here = find(a.value());
    if (here.page.status != walk_status::mapped) [[unlikely]] {
      return fault(here.page.status, a.value());
    }
    if ((static_cast<unsigned>(wanted) & ~unsigned{here.page.permissions}) != 0) [[unlikely]] {
      return failure(errc::access_denied, "the page does not permit this access", a.value());
    }
    const std::uint64_t size = std::uint64_t{1} << here.page.page_shift;
    const std::uint64_t offset = a.value() & (size - 1);
    std::uint64_t length = size - offset;
    if (length < bytes) length = extend(here, a.value(), length, bytes, wanted);
    return segment<to>{here.page.page + offset, length < bytes ? length : bytes};
  }

  // Calls visit(mapped_page) for every page of [begin, begin + bytes), in order; where it returns
  // bool, false ends the walk. Fails where a table is malformed, at the place.
  template <class Visit>
  result<> walk(address<From> begin, std::uint64_t bytes, Visit&& visit) const noexcept {
    if (bytes == 0) return {};
    const std::uint64_t last = begin.value() + (bytes - 1);
    if (last < begin.value() || !geometry::reaches(format_, begin.value(), last)) {
      return failure(errc::out_of_range, "the range is beyond the width of the tables",
                     begin.value());
    }
    if (root_ == nullptr) return fault(walk_status::unreadable, begin.value());
    bool more = true;
    return visit_table(root_, top_, begin.value(), last, 3U, more, visit);
  }

 protected:
  struct position {
    page_lookup<to> page;
    table_word* table = nullptr;
    unsigned passed = 0;  // what the tables above the leaf's let pass
  };

  [[nodiscard]] unsigned index(std::uint64_t a, unsigned level) const noexcept {
    const std::uint64_t mask = level == top_ ? root_mask_ : std::uint64_t{geometry::entries - 1};
    return static_cast<unsigned>((a >> geometry::shift(level)) & mask);
  }
  [[nodiscard]] table_word* child(std::uint64_t e) const noexcept {
    return tables_->find(address<to>{format_.table_address(e)}, geometry::table_bytes);
  }
  // Entries from `i` to the table's end.
  [[nodiscard]] unsigned entries_of(unsigned level) const noexcept {
    return level == top_ ? root_mask_ + 1 : geometry::entries;
  }
  [[nodiscard]] static constexpr bool present(std::uint64_t e) noexcept {
    return (e & Format::present_mask) != 0;
  }

  [[nodiscard]] static error fault(walk_status status, std::uint64_t at) noexcept {
    switch (status) {
      case walk_status::beyond_width:
        return failure(errc::not_mapped, "the address is beyond the width of the tables", at);
      case walk_status::malformed:
        return failure(errc::protocol, "a page-table entry is malformed", at);
      case walk_status::unreadable:
        return failure(errc::protocol, "a page-table entry points at memory without tables", at);
      default:
        return failure(errc::not_mapped, "no page is mapped at this address", at);
    }
  }

  [[nodiscard]] PHASEBIT_ALWAYS_INLINE position find(std::uint64_t a) const noexcept {
    position p;
    unsigned level = top_;
    if (!geometry::reaches(format_, a, a)) [[unlikely]] {
      p.page.status = walk_status::beyond_width;
      return p;
    }
    table_word* table = root_;
    unsigned slot = static_cast<unsigned>((a >> geometry::shift(level)) & root_mask_);
    if (table == nullptr) [[unlikely]] {
      p.page.status = walk_status::unreadable;
      return p;
    }
    // Down the tables that permit everything, as long as entries point at the next level: one
    // comparison for each.
    const std::uint64_t mask = format_.plain_mask();
    std::uint64_t e = detail::load_entry(table + slot);
    while (level != 0 && (e & mask) == format_.make_table(0, level)) {
      table_word* const below = child(e);
      if (below == nullptr) [[unlikely]]
        break;  // reported below
      table = below;
      --level;
      slot = static_cast<unsigned>(a >> geometry::shift(level)) & (geometry::entries - 1);
      e = detail::load_entry(table + slot);
    }
    return finish(a, table, level, e);
  }

  // Continues a walk from an entry of a table; everything above it counts as permitted.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE position finish(std::uint64_t a, table_word* table,
                                                       unsigned level,
                                                       std::uint64_t e) const noexcept {
    position p;
    for (unsigned granted = 3;;) {
      p.page.level = static_cast<std::uint8_t>(level);
      p.page.entry = e;
      if (!present(e)) [[unlikely]] {
        p.page.status = walk_status::absent;
        return p;
      }
      if (format_.is_leaf(e, level)) [[likely]] {
        const unsigned shift = format_.leaf_shift(e, level);
        p.page.status = shift != 0 ? walk_status::mapped : walk_status::malformed;
        p.page.page_shift = static_cast<std::uint8_t>(shift);
        p.page.permissions = static_cast<std::uint8_t>(granted & format_.permissions(e));
        p.page.page = address<to>{format_.leaf_address(e, shift)};
        p.table = table;
        p.passed = granted;
        return p;
      }
      if (level == 0 || !format_.table_valid(e, level)) [[unlikely]] {
        p.page.status = walk_status::malformed;
        return p;
      }
      granted &= format_.passes(e);
      const unsigned next = format_.next_level(e, level);
      if (skips(a, level, next)) [[unlikely]] {
        p.page.status = walk_status::absent;
        return p;
      }
      table = child(e);
      if (table == nullptr) [[unlikely]] {
        p.page.status = walk_status::unreadable;
        return p;
      }
      level = next;
      const unsigned slot =
          static_cast<unsigned>(a >> geometry::shift(level)) & (geometry::entries - 1);
      e = detail::load_entry(table + slot);
    }
  }

  // As many walks as a processor has loads in flight.
  static constexpr std::size_t lanes = 16;

  // One step of each walk in turn, as in find(): an entry is prefetched, and read after the other walks'
  // steps.
  static void descend_together(const question* questions, page_lookup<to>* found,
                               std::size_t count) noexcept {
    struct walk_state {
      table_word* table;
      unsigned level;
      unsigned slot;
    };
    walk_state walks[lanes];
    unsigned waiting = 0;  // bit i: walk i continues
    for (std::size_t i = 0; i != count; ++i) {
      const page_table_view& v = *questions[i].tables;
      const std::uint64_t a = questions[i].at.value();
      if (v.root_ == nullptr || !geometry::reaches(v.format_, a, a)) [[unlikely]] {
        found[i] = v.find(a).page;
        continue;
      }
      const unsigned level = v.top_;
      walks[i] = {v.root_, level,
                  static_cast<unsigned>((a >> geometry::shift(level)) & v.root_mask_)};
      detail::prefetch_entry(walks[i].table + walks[i].slot);
      waiting |= 1U << i;
    }
    while (waiting != 0) {
      for (unsigned left = waiting; left != 0; left &= left - 1) {
        const unsigned i = lowest_bit(left);
        const page_table_view& v = *questions[i].tables;
        const std::uint64_t a = questions[i].at.value();
        walk_state& w = walks[i];
        const std::uint64_t e = detail::load_entry(w.table + w.slot);
        if (w.level != 0 && (e & v.format_.plain_mask()) == v.format_.make_table(0, w.level)) {
          if (table_word* const below = v.child(e)) [[likely]] {
            --w.level;
            w.table = below;
            w.slot = static_cast<unsigned>(a >> geometry::shift(w.level)) & (geometry::entries - 1);
            detail::prefetch_entry(w.table + w.slot);
            continue;
          }
        }
        found[i] = v.finish(a, w.table, w.level, e).page;
        waiting &= ~(1U << i);
      }
    }
  }

  static constexpr unsigned most_turns = 64;

  // Marks the entries of tables on the way to the leaf of `leaf` as accessed. False where they are no
  // longer what they were.
  [[nodiscard]] bool mark_tables(std::uint64_t a, unsigned leaf) const noexcept {
    table_word* table = root_;
    unsigned level = top_;
    while (level > leaf) {
      table_word* const slot = table + index(a, level);
      std::uint64_t e = detail::load_entry(slot);
      if (!present(e) || format_.is_leaf(e, level) || !format_.table_valid(e, level)) return false;
      const std::uint64_t marked = format_.table_after_access(e);
      if (marked != e && !detail::exchange_entry(slot, e, marked)) return false;
      level = format_.next_level(e, level);
      table = child(e);
      if (table == nullptr) return false;
    }
    return level == leaf;
  }

  // The slot of the lowest level for `a`, where the tables on the way are there and plain.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE table_word* plain_slot(std::uint64_t a) const noexcept {
    table_word* table = root_;
    unsigned level = top_;
    unsigned slot = static_cast<unsigned>((a >> geometry::shift(level)) & root_mask_);
    const std::uint64_t mask = format_.plain_mask();
    while (level != 0) {
      const std::uint64_t e = detail::load_entry(table + slot);
      if ((e & mask) != format_.make_table(0, level)) return nullptr;
      table = child(e);
      if (table == nullptr) [[unlikely]]
        return nullptr;
      --level;
      slot = static_cast<unsigned>(a >> geometry::shift(level)) & (geometry::entries - 1);
    }
    return table + slot;
  }

  // The same, or nullptr where `a` is not the begin of a granule that the tables can map.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE table_word* plain_slot_of(std::uint64_t a) const noexcept {
    if ((a & (geometry::table_bytes - 1)) != 0 || !geometry::reaches(format_, a, a)) return nullptr;
    return plain_slot(a);
  }

  // Where an entry skips levels, the address bits that these would have translated are zero.
  [[nodiscard]] static constexpr bool skips(std::uint64_t a, unsigned level,
                                            unsigned next) noexcept {
    if (next + 1 == level) return false;
    return ((a >> geometry::shift(next + 1)) &
            ((std::uint64_t{1} << (geometry::shift(level) - geometry::shift(next + 1))) - 1)) != 0;
  }

  // How far the pages that follow in the same table continue the range.
  [[nodiscard]] std::uint64_t extend(const position& here, std::uint64_t a, std::uint64_t length,
                                     std::uint64_t bytes, access wanted) const noexcept {
    const unsigned level = here.page.level;
    const std::uint64_t target =
        here.page.page.value() + (a & ((std::uint64_t{1} << here.page.page_shift) - 1));
    const unsigned count = entries_of(level);
    unsigned slot = index(a, level);
    while (length < bytes) {
      const unsigned next = index(a + length, level);
      if (next <= slot || next >= count) break;
      const std::uint64_t e = detail::load_entry_relaxed(here.table + next);
      if (!present(e) || !format_.is_leaf(e, level)) break;
      const unsigned shift = format_.leaf_shift(e, level);
      if (shift == 0 || format_.leaf_address(e, shift) != target + length) break;
      if ((static_cast<unsigned>(wanted) & ~(here.passed & format_.permissions(e))) != 0) break;
      if (((a + length) & ((std::uint64_t{1} << shift) - 1)) != 0) break;
      slot = next;
      length += std::uint64_t{1} << shift;
    }
    return length;
  }

  template <class Visit>
  [[nodiscard]] result<> visit_table(const table_word* table, unsigned level, std::uint64_t first,
                                     std::uint64_t last, unsigned granted, bool& more,
                                     Visit& visit) const noexcept {
    const std::uint64_t span = geometry::span(level);
    for (std::uint64_t a = first;;) {
      const std::uint64_t e = detail::load_entry(table + index(a, level));
      std::uint64_t end = a | (span - 1);  // the last byte that this turn deals with
      if (present(e)) {
        const bool leaf = format_.is_leaf(e, level);
        const unsigned shift = leaf ? format_.leaf_shift(e, level) : 0;
        if (leaf ? shift == 0 : (level == 0 || !format_.table_valid(e, level))) {
          return fault(walk_status::malformed, a);
        }
        if (leaf) {
          const std::uint64_t size = std::uint64_t{1} << shift;
          end = a | (size - 1);
          mapped_page<From, to> page{address<From>{a & ~(size - 1)},
                                     address<to>{format_.leaf_address(e, shift)}, shift,
                                     format_.attributes(e), format_.dirty(e)};
          page.attributes.permission = static_cast<access>(granted & format_.permissions(e));
          if constexpr (std::is_same_v<std::invoke_result_t<Visit&, mapped_page<From, to>>, bool>) {
            more = visit(page);
          } else {
            visit(page);
          }
        } else {
          const table_word* below = child(e);
          if (below == nullptr) return fault(walk_status::unreadable, a);
          const unsigned next = format_.next_level(e, level);
          // The part of the entry's span that a level-skipping entry translates.
          const std::uint64_t reach =
              next + 1 == level ? end : (a & ~(span - 1)) | (geometry::span(next + 1) - 1);
          if (a <= reach) {
            auto done = visit_table(below, next, a, reach < last ? reach : last,
                                    granted & format_.passes(e), more, visit);
            if (!done) return done;
          }
        }
      }
      if (!more || end >= last) return {};
      a = end + 1;
    }
  }

  page_format<Format> format_;
  Tables* tables_;
  address<to> root_at_;
  table_word* root_;
  unsigned root_mask_;
  unsigned top_;
};

}  // namespace phasebit::iommu
