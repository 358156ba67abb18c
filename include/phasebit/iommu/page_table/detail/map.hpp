// SPDX-License-Identifier: BSL-1.0
// Mapping a range: one descent, leaves in runs, the largest page at every place.
#pragma once

#include <phasebit/core/bit_scan.hpp>
#include <phasebit/iommu/page_table/detail/editor.hpp>
#include <phasebit/iommu/page_table/detail/unmap.hpp>

#include <cstdint>

namespace phasebit::iommu::detail {

template <class Editor, class Format>
class fill_operation {
  using geometry = typename Editor::geometry;
  using space = address<typename Editor::from>;

 public:
  fill_operation(Editor& editor, typename Editor::changes_type& changes,
                 std::uint64_t bits) noexcept
      : editor_(editor), format_(editor.format()), changes_(changes), bits_(bits) {
    largest_ = highest_bit(editor.options().largest_page);
  }

  // How far it came: all that lies before is mapped.
  [[nodiscard]] std::uint64_t done() const noexcept { return done_; }
  [[nodiscard]] std::uint64_t failed_at() const noexcept { return failed_at_; }
  [[nodiscard]] std::uint64_t page_sizes() const noexcept { return page_sizes_; }
  // Whether absent entries of upper levels have become entries that point at tables.
  [[nodiscard]] bool made_tables() const noexcept { return made_tables_; }

  // Maps [va, va + bytes) to pa.
  [[nodiscard]] edit run(std::uint64_t va, std::uint64_t pa, std::uint64_t bytes) noexcept {
    if (bytes < geometry::span(1)) {
      if (table_word* table = editor_.lowest_of(va, va + (bytes - 1))) {
        const auto count = static_cast<unsigned>(bytes >> Format::granule_shift);
        return place(table + editor_.index(va, 0), count, 0, va, pa);
      }
    }
    return fill(editor_.root_words(), format_.top_level(), va, pa, bytes);
  }

 private:
  // Maps [va, va + bytes), which lies within this table, to pa. Stops at the first place that is
  // taken or has no memory for a table, with all tables that are still empty released.
  [[nodiscard]] edit fill(table_word* table, unsigned level, std::uint64_t va, std::uint64_t pa,
                          std::uint64_t bytes) noexcept {
    const unsigned shift = geometry::shift(level);
    const std::uint64_t span = geometry::span(level);
    const bool leaves = format_.leaf_allowed(level) && shift <= largest_;
    while (bytes != 0) {
      const unsigned slot = editor_.index(va, level);
      std::uint64_t part = 0;
      edit status = edit::done;
      if (level == 0 || (leaves && ((va | pa) & (span - 1)) == 0 && bytes >= span)) {
        const unsigned room = editor_.entries_of(level) - slot;
        const std::uint64_t wanted = bytes >> shift;
        const unsigned count = wanted < room ? static_cast<unsigned>(wanted) : room;
        status = place(table + slot, count, level, va, pa);
        part = std::uint64_t{count} << shift;
      } else {
        const std::uint64_t remaining = span - (va & (span - 1));
        part = bytes < remaining ? bytes : remaining;
        table_word* below = nullptr;
        status = editor_.enter(table + slot, level, below, made_tables_);
        if (status == edit::done) {
          status = fill(below, level - 1, va, pa, part);
          if (status != edit::done) give_up(table + slot, level, below, va, part == span);
        } else {
          failed_at_ = va;
        }
      }
      if (status != edit::done) return status;
      va += part;
      pa += part;
      bytes -= part;
    }
    return edit::done;
  }

  // After a failure below: a table that this call made, or emptied, does not stay.
  void give_up(table_word* slot, unsigned level, table_word* below, std::uint64_t va,
               bool whole) noexcept {
    if ((whole || editor_.options().who == mappers::one) && Editor::empty(below, 0)) {
      editor_.retire(slot, level, below, changes_);
      changes_.add(space{va}, space{va}, 0, true);
    }
  }

  [[nodiscard]] edit place(table_word* words, unsigned count, unsigned level, std::uint64_t va,
                           std::uint64_t pa) noexcept {
    std::uint64_t seen = 0;
    for (unsigned i = 0; i != count; ++i) seen |= load_entry_relaxed(words + i);
    if ((seen & Format::present_mask) != 0) [[unlikely]] {
      if (const edit status = make_way(words, count, level, va); status != edit::done) {
        return status;
      }
    }
    if constexpr (page_format<Format>::contiguous) {
      if (const std::uint32_t orders = usable_orders(level); orders != 0) {
        place_grouped(words, count, level, va, pa, orders);
      } else {
        place_run(words, count, level, pa, 0);
      }
    } else {
      place_run(words, count, level, pa, 0);
    }
    editor_.written(words, count);
    page_sizes_ |= geometry::span(level);
    done_ += std::uint64_t{count} << geometry::shift(level);
    return edit::done;
  }

  void place_run(table_word* words, unsigned count, unsigned level, std::uint64_t pa,
                 unsigned order) noexcept {
    std::uint64_t value = format_.make_leaf(pa, level, order, bits_);
    const std::uint64_t step = geometry::step(format_, level);
    for (unsigned i = 0; i != count; ++i, value += step) store_entry_relaxed(words + i, value);
  }

  [[nodiscard]] std::uint32_t usable_orders(unsigned level) const noexcept {
    const unsigned room = largest_ - geometry::shift(level);
    const std::uint32_t orders = format_.orders(level);
    return room >= 31 ? orders : orders & ((2U << room) - 1);
  }

  // Pages of several slots where address, target and remaining range are aligned for them.
  void place_grouped(table_word* words, unsigned count, unsigned level, std::uint64_t va,
                     std::uint64_t pa, std::uint32_t orders) noexcept {
    const unsigned shift = geometry::shift(level);
    const auto least = lowest_bit(orders);
    while (count != 0) {
      const auto aligned = lowest_bit((va | pa) >> shift | 1ULL << 31);
      const auto fitting = highest_bit(count);
      const unsigned limit = aligned < fitting ? aligned : fitting;
      const auto order = highest_bit((orders | 1U) & ((2U << limit) - 1));
      unsigned items = 0;
      if (order == 0) {
        // Single slots until the next place where a group may begin, if there is one.
        const std::uint64_t group = (std::uint64_t{1} << least) - 1;
        const bool never = (((va ^ pa) >> shift) & group) != 0;
        const auto gap = static_cast<unsigned>((~(va >> shift) & group) + 1);
        items = never || gap > count ? count : gap;
        place_run(words, items, level, pa, 0);
      } else if (page_format<Format>::items_differ) {
        items = (orders >> order) == 1 ? count >> order << order : 1U << order;
        place_run(words, items, level, pa, order);
      } else {
        items = 1U << order;
        const std::uint64_t value = format_.make_leaf(pa, level, order, bits_);
        for (unsigned i = 0; i != items; ++i) store_entry_relaxed(words + i, value);
      }
      page_sizes_ |= std::uint64_t{1} << (shift + order);
      words += items;
      count -= items;
      va += std::uint64_t{items} << shift;
      pa += std::uint64_t{items} << shift;
    }
  }

  // The slot is in use. Only tables without a page are replaced by a large page: unmaps of parts
  // leave them behind, and this range covers them whole. A format that requires break-before-make
  // is flushed between the table's removal and the large page.
  [[nodiscard]] edit make_way(table_word* words, unsigned count, unsigned level,
                              std::uint64_t va) noexcept {
    const bool broken = format_.break_before_make();
    bool removed = false;
    for (unsigned i = 0; i != count; ++i) {
      const std::uint64_t e = load_entry_relaxed(words + i);
      if (!Editor::present(e)) continue;
      const std::uint64_t first = va + (std::uint64_t{i} << geometry::shift(level));
      const std::uint64_t last = first + (geometry::span(level) - 1);
      failed_at_ = first;
      if (level == 0 || format_.is_leaf(e, level)) return edit::overlap;
      table_word* below = editor_.below_of(e, level);
      if (below == nullptr) return edit::corrupt;
      auto any = [](const leaf_slots&) noexcept { return edit::overlap; };
      const edit status = editor_.each_leaf(below, level - 1, first, last, any);
      if (status != edit::done) return status;
      if (broken && !changes_.can_flush()) return edit::unflushed;
      clear_operation<Editor, Format> clear{editor_, changes_, first, last};
      if (const edit cleared = clear.run(below, level - 1, first, last); cleared != edit::done) {
        return cleared;
      }
      editor_.retire(words + i, level, below, changes_);
      changes_.add(space{first}, space{last}, 0, true);
      removed = true;
    }
    if (broken && removed) changes_.flush();
    return edit::done;
  }

  Editor& editor_;
  page_format<Format> format_;
  typename Editor::changes_type& changes_;
  std::uint64_t bits_;
  std::uint64_t done_ = 0;
  std::uint64_t failed_at_ = 0;
  std::uint64_t page_sizes_ = 0;
  unsigned largest_ = 63;
  bool made_tables_ = false;
};

}  // namespace phasebit::iommu::detail
