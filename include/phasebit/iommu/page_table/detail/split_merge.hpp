// SPDX-License-Identifier: BSL-1.0
// Large pages made small, and small ones large, under walkers that continue walking.
#pragma once

#include <phasebit/core/bit_scan.hpp>
#include <phasebit/iommu/page_table/detail/editor.hpp>

#include <cstdint>

namespace phasebit::iommu::detail {

// If the format requires break-before-make, or a table with live entries is released, the
// invalidations are flushed in the middle; the caller has checked that they can be.
template <class Editor, class Format>
class resize_operation {
  using geometry = typename Editor::geometry;
  using space = address<typename Editor::from>;

 public:
  resize_operation(Editor& editor, typename Editor::changes_type& changes) noexcept
      : editor_(editor), format_(editor.format()), changes_(changes) {}

  // Makes a page boundary at `a`, if a page lies across it. Translations stay what they are.
  [[nodiscard]] edit split_at(std::uint64_t a) noexcept {
    for (unsigned turn = 0; turn != 2 * (format_.top_level() + 1); ++turn) {
      const auto here = editor_.find(a);
      if (here.page.status != walk_status::mapped) return edit::done;
      if ((a & ((std::uint64_t{1} << here.page.page_shift) - 1)) == 0) return edit::done;
      const unsigned level = here.page.level;
      const leaf_slots page = Editor::slots_of(here.table + editor_.index(a, level), a, level,
                                               here.page.page_shift, here.page.entry);
      const edit status = page.count > 1 ? ungroup(page) : split(page);
      if (status != edit::done) return status;
    }
    return edit::corrupt;
  }

  // Merges what can be merged in the part [first, last] of this table; counts the pages made.
  [[nodiscard]] edit merge(table_word* table, unsigned level, std::uint64_t first,
                           std::uint64_t last) noexcept {
    const std::uint64_t span = geometry::span(level);
    for (std::uint64_t a = first; level != 0;) {
      table_word* slot = table + editor_.index(a, level);
      const std::uint64_t e = load_entry(slot);
      const std::uint64_t end = a | (span - 1);
      if (Editor::present(e) && !format_.is_leaf(e, level)) {
        table_word* below = editor_.below_of(e, level);
        if (below == nullptr) return edit::corrupt;
        const edit status = merge(below, level - 1, a, end < last ? end : last);
        if (status != edit::done) return status;
        if ((a & (span - 1)) == 0 && end <= last && format_.leaf_allowed(level)) {
          merge_table(slot, below, level, a);
        }
      }
      if (end >= last) break;
      a = end + 1;
    }
    if constexpr (page_format<Format>::contiguous) group(table, level, first, last);
    return edit::done;
  }

  [[nodiscard]] std::uint64_t made() const noexcept { return made_; }

 private:
  struct run_of_pages {
    bool uniform = false;
    std::uint64_t target = 0;
    std::uint64_t bits = 0;
  };

  // Replaces a large leaf by a table of equivalent leaves.
  [[nodiscard]] edit split(const leaf_slots& page) noexcept {
    if (page.level == 0 || !format_.leaf_allowed(page.level - 1)) return edit::corrupt;
    const auto made = editor_.new_table();
    if (!made) return edit::exhausted;
    const std::uint64_t last = page.begin + (geometry::span(page.level) - 1);
    std::uint64_t e = page.entry;
    if (format_.break_before_make()) e = break_entry(page.words, page.begin, last, page.shift);
    const std::uint64_t target = format_.leaf_address(e, page.shift);
    do {
      const std::uint64_t bits = format_.state_bits(e);
      std::uint64_t value = format_.make_leaf(target, page.level - 1, 0, bits);
      for (unsigned i = 0; i != geometry::entries; ++i) {
        store_entry_relaxed(made->words + i, value);
        value += geometry::step(format_, page.level - 1);
      }
      editor_.written(made->words, geometry::entries);
      if (format_.break_before_make()) e = 0;
    } while (!exchange_entry(page.words, e, format_.make_table(made->at.value(), page.level)));
    editor_.written(page.words, 1);
    if (!format_.break_before_make()) {
      changes_.add(space{page.begin}, space{last}, std::uint64_t{1} << page.shift, true);
    }
    return edit::done;
  }

  // A page of several slots becomes a page per slot.
  [[nodiscard]] edit ungroup(const leaf_slots& page) noexcept {
    const std::uint64_t last = page.begin + ((std::uint64_t{1} << page.shift) - 1);
    rewrite(page, format_.leaf_address(page.entry, page.shift), 0, last);
    return edit::done;
  }

  // Rewrites `page.count` slots as pages of 2^order slots at `target`. If one is dirty, all become
  // dirty: the written part is unknown.
  void rewrite(const leaf_slots& page, std::uint64_t target, unsigned order,
               std::uint64_t last) noexcept {
    std::uint64_t bits = 0;
    for (unsigned i = 0; i != page.count; ++i) {
      bits |= format_.state_bits(load_entry(page.words + i));
    }
    const bool broken = format_.break_before_make();
    if (broken) {
      for (unsigned i = 0; i != page.count; ++i) store_entry_relaxed(page.words + i, 0);
      editor_.written(page.words, page.count);
      changes_.add(space{page.begin}, space{last}, std::uint64_t{1} << page.shift, false);
      changes_.flush();
    }
    const std::uint64_t step = geometry::span(page.level);
    const std::uint64_t each = page_format<Format>::items_differ || order == 0 ? step : 0;
    std::uint64_t at = target;
    for (unsigned i = 0; i != page.count; ++i, at += each) {
      std::uint64_t e = broken ? 0 : load_entry(page.words + i);
      std::uint64_t now = 0;
      do {
        now = format_.make_leaf(at, page.level, order, bits | (e == 0 ? 0 : format_.state_bits(e)));
      } while (!exchange_entry_relaxed(page.words + i, e, now));
    }
    editor_.written(page.words, page.count);
    if (!broken) {
      changes_.add(space{page.begin}, space{last}, std::uint64_t{1} << page.shift, false);
    }
  }

  [[nodiscard]] std::uint64_t break_entry(table_word* slot, std::uint64_t first, std::uint64_t last,
                                          unsigned shift) noexcept {
    std::uint64_t e = load_entry(slot);
    while (!exchange_entry_relaxed(slot, e, 0)) {
    }
    editor_.written(slot, 1);
    changes_.add(space{first}, space{last}, std::uint64_t{1} << shift, true);
    changes_.flush();
    return e;
  }

  // Returns whether `count` slots map one contiguous, aligned range with the same attributes.
  [[nodiscard]] run_of_pages look(const table_word* words, unsigned count, unsigned level,
                                  std::uint64_t begin) const noexcept {
    run_of_pages run;
    const std::uint64_t step = geometry::span(level);
    for (unsigned i = 0; i != count; ++i) {
      const std::uint64_t e = load_entry(words + i);
      if (!Editor::present(e) || !format_.is_leaf(e, level)) return {};
      const unsigned shift = format_.leaf_shift(e, level);
      if (shift == 0) return {};
      const std::uint64_t offset = (begin + i * step) & ((std::uint64_t{1} << shift) - 1);
      const std::uint64_t target = format_.leaf_address(e, shift) + offset;
      const std::uint64_t bits = format_.state_bits(e);
      if (i == 0) run = {true, target, bits};
      if (target != run.target + i * step) return {};
      if (format_.attributes(e) != format_.attributes(load_entry(words))) return {};
      run.bits |= bits;
    }
    if ((run.target & (count * step - 1)) != 0) return {};
    return run;
  }

  void merge_table(table_word* slot, table_word* below, unsigned level,
                   std::uint64_t begin) noexcept {
    const run_of_pages seen = look(below, geometry::entries, level - 1, begin);
    if (!seen.uniform) return;
    const std::uint64_t last = begin + (geometry::span(level) - 1);
    const std::uint64_t old = load_entry(slot);
    if (format_.break_before_make()) {
      static_cast<void>(break_entry(slot, begin, last, geometry::shift(level - 1)));
    } else {
      editor_.put_table(slot, format_.make_leaf(seen.target, level, 0, seen.bits));
      changes_.add(space{begin}, space{last}, geometry::span(level - 1), true);
      if (changes_.can_flush()) changes_.flush();
    }
    // No walker uses the old table any more; what was accessed until now is in it.
    std::uint64_t bits = seen.bits;
    for (unsigned i = 0; i != geometry::entries; ++i) {
      bits |= format_.state_bits(load_entry(below + i));
      store_entry_relaxed(below + i, 0);
    }
    std::uint64_t e = load_entry(slot);
    while (!exchange_entry_relaxed(
        slot, e,
        format_.make_leaf(seen.target, level, 0, bits | (e == 0 ? 0 : format_.state_bits(e))))) {
    }
    editor_.written(slot, 1);
    editor_.release_table(below, format_.table_address(old));
    ++made_;
  }

  // Joins neighbouring slots into the largest pages of several slots.
  void group(table_word* table, unsigned level, std::uint64_t first, std::uint64_t last) noexcept {
    if (!format_.leaf_allowed(level)) return;
    const unsigned shift = geometry::shift(level);
    std::uint32_t orders = format_.orders(level);
    while (orders != 0) {
      const auto order = highest_bit(orders);
      orders &= ~(1U << order);
      const std::uint64_t size = geometry::span(level) << order;
      std::uint64_t a = (first + (size - 1)) & ~(size - 1);
      for (; a >= first && a <= last && last - a >= size - 1; a += size) {
        table_word* words = table + editor_.index(a, level);
        const std::uint64_t e = load_entry(words);
        if (!Editor::present(e) || !format_.is_leaf(e, level)) continue;
        if (format_.leaf_shift(e, level) >= shift + order) continue;
        const run_of_pages seen = look(words, 1U << order, level, a);
        if (!seen.uniform) continue;
        const leaf_slots page{words, 1U << order, level, shift + order, a, e};
        rewrite(page, seen.target, order, a + (size - 1));
        ++made_;
      }
    }
  }

  Editor& editor_;
  page_format<Format> format_;
  typename Editor::changes_type& changes_;
  std::uint64_t made_ = 0;
};

}  // namespace phasebit::iommu::detail
