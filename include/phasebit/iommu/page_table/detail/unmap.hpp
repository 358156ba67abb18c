// SPDX-License-Identifier: BSL-1.0
// Unmapping a range: one descent; tables that the range covers whole are unlinked on the way back.
#pragma once

#include <phasebit/iommu/page_table/detail/editor.hpp>

#include <cstdint>
#include <type_traits>

namespace phasebit::iommu::detail {

// Called with the first and the last address of each page that was dirty when it was unmapped.
struct nothing_dirty {
  void operator()(std::uint64_t, std::uint64_t) const noexcept {}
};

template <class Editor, class Format, class Dirty = nothing_dirty>
class clear_operation {
  using geometry = typename Editor::geometry;
  using space = typename Editor::from;

 public:
  // [first, last] is the whole range: a page that reaches beyond it is cut. `emptied`: tables that
  // the range leaves without an entry are unlinked even where it does not cover them whole.
  clear_operation(Editor& editor, typename Editor::changes_type& changes, std::uint64_t first,
                  std::uint64_t last, bool emptied = false, const Dirty& dirty = {}) noexcept
      : editor_(editor),
        format_(editor.format()),
        changes_(changes),
        first_(first),
        last_(last),
        emptied_(emptied),
        dirty_(dirty) {}

  // Clears the whole range. A page that is cut at the beginning is found before anything was changed;
  // one that is cut at the end, if the range is no longer than a granule. Else the caller has looked.
  [[nodiscard]] edit run() noexcept {
    if (!emptied_ && last_ - first_ < geometry::span(1) - 1) {
      if (table_word* table = editor_.lowest_of(first_, last_)) {
        return run_lowest(table, first_, last_);
      }
    }
    return run(editor_.root_words(), format_.top_level(), first_, last_);
  }

  // Clears the part [first, last] that lies in this table.
  [[nodiscard]] edit run(table_word* table, unsigned level, std::uint64_t first,
                         std::uint64_t last) noexcept {
    if (level == 0) return run_lowest(table, first, last);
    const std::uint64_t span = geometry::span(level);
    for (std::uint64_t a = first;;) {
      table_word* slot = table + editor_.index(a, level);
      const std::uint64_t e = load_entry(slot);
      std::uint64_t end = a | (span - 1);
      if (!Editor::present(e)) {
        if (e != 0) store_entry_relaxed(slot, 0);
      } else if (format_.is_leaf(e, level)) {
        const unsigned shift = format_.leaf_shift(e, level);
        if (shift == 0) return failed(edit::corrupt, a);
        const leaf_slots page = Editor::slots_of(slot, a, level, shift, e);
        end = page.begin + ((std::uint64_t{1} << shift) - 1);
        if (page.begin < first_ || end > last_) return failed(edit::cut, page.begin);
        bool dirty = false;
        for (unsigned i = 0; i != page.count; ++i) dirty |= take_entry(page.words + i).dirty;
        if (dirty) dirty_(page.begin, end);
        editor_.written(page.words, page.count);
        cleared_ += std::uint64_t{1} << shift;
        note(page.begin, end, std::uint64_t{1} << shift);
      } else {
        const edit status = run_below(slot, e, level, a, end < last ? end : last);
        if (status != edit::done) return status;
      }
      if (end >= last) return edit::done;
      a = end + 1;
    }
  }

  // Hands what was touched to the invalidations. Once, at the end.
  void finish() noexcept {
    if (page_sizes_ == 0 && !tables_) return;
    changes_.add(address<space>{low_}, address<space>{high_}, page_sizes_, tables_);
  }

  [[nodiscard]] std::uint64_t cleared() const noexcept { return cleared_; }
  [[nodiscard]] std::uint64_t failed_at() const noexcept { return failed_at_; }

 private:
  [[nodiscard]] edit run_lowest(table_word* table, std::uint64_t first,
                                std::uint64_t last) noexcept {
    const auto count = static_cast<unsigned>((last - first) >> Format::granule_shift) + 1;
    table_word* words = table + editor_.index(first, 0);
    std::uint64_t sizes = geometry::span(0);
    if constexpr (page_format<Format>::contiguous) {
      // Only the pages at the two ends can be cut, because a page lies within one table.
      if (cut_at(words, first)) return failed(edit::cut, first);
      if (cut_at(words + (count - 1), last)) return failed(edit::cut, last);
      sizes |= std::uint64_t{format_.orders(0)} << Format::granule_shift;
    }
    unsigned found = 0;
    for (unsigned i = 0; i != count; ++i) {
      const taken e = take_entry(words + i);
      found += e.present ? 1U : 0U;
      if constexpr (reports) {
        if (e.dirty) report(e.entry, first + (std::uint64_t{i} << Format::granule_shift));
      }
    }
    editor_.written(words, count);
    if (found != 0) {
      cleared_ += std::uint64_t{found} << Format::granule_shift;
      note(first, last, sizes);
    }
    return edit::done;
  }

  static constexpr bool reports = !std::is_same_v<Dirty, nothing_dirty>;
  struct taken {
    std::uint64_t entry;
    bool present;
    bool dirty;
  };
  // Clears a slot. A dirty bit that hardware sets meanwhile is not lost if it is needed.
  [[nodiscard]] taken take_entry(table_word* slot) const noexcept {
    std::uint64_t e = load_entry_relaxed(slot);
    if constexpr (reports) {
      while (e != 0 && !exchange_entry_relaxed(slot, e, 0)) {
      }
      return {e, Editor::present(e), Editor::present(e) && format_.dirty(e)};
    } else {
      store_entry_relaxed(slot, 0);
      return {e, Editor::present(e), false};
    }
  }
  // The lowest-level page of which an entry for `a` was dirty.
  void report(std::uint64_t e, std::uint64_t a) const noexcept {
    const unsigned shift = format_.leaf_shift(e, 0);
    const std::uint64_t size = std::uint64_t{1}
                               << (shift != 0 ? shift : unsigned{Format::granule_shift});
    dirty_(a & ~(size - 1), a | (size - 1));
  }

  // Whether the lowest-level page in `slot`, at address a, reaches beyond the whole range.
  [[nodiscard]] bool cut_at(const table_word* slot, std::uint64_t a) const noexcept {
    const std::uint64_t e = load_entry_relaxed(slot);
    if (!Editor::present(e) || !format_.is_leaf(e, 0)) return false;
    const unsigned shift = format_.leaf_shift(e, 0);
    if (shift == 0) return false;
    const std::uint64_t size = std::uint64_t{1} << shift;
    const std::uint64_t begin = a & ~(size - 1);
    return begin < first_ || begin + (size - 1) > last_;
  }

  [[nodiscard]] edit run_below(table_word* slot, std::uint64_t e, unsigned level,
                               std::uint64_t first, std::uint64_t last) noexcept {
    table_word* below = editor_.below_of(e, level);
    if (below == nullptr) return failed(edit::corrupt, first);
    const edit status = run(below, level - 1, first, last);
    if (status != edit::done) return status;
    const bool whole = last - first == geometry::span(level) - 1;
    if (!whole && !(emptied_ && Editor::empty(below, 0))) return edit::done;
    editor_.retire(slot, level, below, changes_);
    tables_ = true;
    note(first, last, 0);
    return edit::done;
  }

  void note(std::uint64_t first, std::uint64_t last, std::uint64_t size) noexcept {
    if (first < low_) low_ = first;
    if (last > high_) high_ = last;
    page_sizes_ |= size;
  }
  [[nodiscard]] edit failed(edit status, std::uint64_t at) noexcept {
    failed_at_ = at;
    return status;
  }

  Editor& editor_;
  page_format<Format> format_;
  typename Editor::changes_type& changes_;
  std::uint64_t first_;
  std::uint64_t last_;
  std::uint64_t low_ = ~std::uint64_t{0};
  std::uint64_t high_ = 0;
  std::uint64_t page_sizes_ = 0;
  std::uint64_t cleared_ = 0;
  std::uint64_t failed_at_ = 0;
  bool tables_ = false;
  bool emptied_;
  const Dirty& dirty_;
};

}  // namespace phasebit::iommu::detail
