// SPDX-License-Identifier: BSL-1.0
// The steps common to all changes of a page table: entering, emptying and retiring tables.
#pragma once

#include <phasebit/iommu/page_table/invalidation.hpp>
#include <phasebit/iommu/page_table/page_table_view.hpp>
#include <phasebit/iommu/page_table/reserved_region.hpp>

#include <cstdint>
#include <span>

namespace phasebit::iommu {

// The threads that may change a table at the same time.
//     one         one thread at a time
//     concurrent  any number of threads without a lock, each on address ranges of its own (no page of
//                 one thread's range is touched by another's call)
// Either way a table is released by a call whose range covers all that the table can map. A table
// that is emptied by several calls stays linked, to be used again, until trim(): mapping and
// unmapping in an otherwise empty region costs the same as in a full one. With `one`, a map() that
// finds no memory for another table calls trim() itself and tries again, if its invalidations can
// flush.
enum class mappers : std::uint8_t { one, concurrent };

// How unmap and protect treat a range that begins or ends within a large page.
enum class large_pages : std::uint8_t { refuse, split };

struct page_table_options {
  mappers who = mappers::one;
  large_pages cut = large_pages::refuse;
  std::uint64_t largest_page = std::uint64_t{1} << 63;  // bytes; map() uses none above it
  bool caching_mode =
      false;  // absent entries are cached too (VT-d caching mode): map() records changes
  std::span<const reserved_region>
      reserved{};  // map() refuses ranges that touch these; they outlive
                   // the table
};

namespace detail {

enum class edit : std::uint8_t { done, overlap, exhausted, corrupt, cut, unflushed };

// One page as its slots: `count` neighbouring words of one table.
struct leaf_slots {
  table_word* words;
  unsigned count;
  unsigned level;
  unsigned shift;  // of the whole page
  std::uint64_t begin;
  std::uint64_t entry;
};

template <PageTableFormat Format, TableMemory Tables, class From>
class table_editor : public page_table_view<Format, Tables, From> {
  using view = page_table_view<Format, Tables, From>;

 public:
  using typename view::geometry;
  using typename view::position;
  using typename view::to;
  using changes_type = invalidations<From>;
  using view::child;
  using view::entries_of;
  using view::fault;
  using view::find;
  using view::index;
  using view::present;

  table_editor(const view& tables, const page_table_options& options) noexcept
      : view(tables), options_(options) {}

  [[nodiscard]] const page_table_options& options() const noexcept { return options_; }
  [[nodiscard]] table_word* root_words() const noexcept { return this->root_; }

  void written(table_word* words, std::size_t count) const noexcept {
    if constexpr (NoncoherentTables<Tables>) this->tables_->written(words, count);
  }
  void put_table(table_word* slot, std::uint64_t entry) const noexcept {
    store_entry(slot, entry);
    written(slot, 1);
  }

  // Returns the table below a slot, and creates it if there is none (`made_one`). Two threads that
  // create the same table both use the first one stored.
  [[nodiscard]] edit enter(table_word* slot, unsigned level, table_word*& below,
                           bool& made_one) noexcept {
    std::uint64_t e = load_entry(slot);
    if (!present(e)) {
      const auto made = this->tables_->allocate(geometry::table_bytes);
      if (!made) return edit::exhausted;
      written(made->words, geometry::entries);
      if (exchange_entry(slot, e, this->format_.make_table(made->at.value(), level))) {
        written(slot, 1);
        below = made->words;
        made_one = true;
        return edit::done;
      }
      this->tables_->release(*made, geometry::table_bytes);
      if (!present(e)) return edit::corrupt;
    }
    if (this->format_.is_leaf(e, level)) return edit::overlap;
    below = below_of(e, level);
    return below != nullptr ? edit::done : edit::corrupt;
  }

  [[nodiscard]] result<table_page<to>> new_table() noexcept {
    return this->tables_->allocate(geometry::table_bytes);
  }
  // `words` are zero, and no walk reaches them.
  void release_table(table_word* words, std::uint64_t at) noexcept {
    this->tables_->release({words, address<to>{at}}, geometry::table_bytes);
  }

  // The table that an entry of ours points at, or nullptr.
  [[nodiscard]] table_word* below_of(std::uint64_t e, unsigned level) const noexcept {
    if (level == 0 || !this->format_.table_valid(e, level)) return nullptr;
    if (this->format_.next_level(e, level) + 1 != level) return nullptr;
    return child(e);
  }

  // The lowest table, if it is there and [first, last] lies within it: the short way for small
  // ranges. nullptr where the long way must be taken.
  [[nodiscard]] PHASEBIT_ALWAYS_INLINE table_word* lowest_of(std::uint64_t first,
                                                             std::uint64_t last) const noexcept {
    if (((first ^ last) >> geometry::shift(1)) != 0) return nullptr;
    table_word* table = this->root_;
    unsigned level = this->format_.top_level();
    if (level == 0) return table;
    const std::uint64_t mask = this->format_.plain_mask();
    unsigned slot = index(first, level);
    for (;;) {
      const std::uint64_t e = load_entry(table + slot);
      if ((e & mask) != this->format_.make_table(0, level)) [[unlikely]] {
        if (!present(e) || this->format_.is_leaf(e, level) || below_of(e, level) == nullptr) {
          return nullptr;
        }
      }
      table = child(e);
      if (--level == 0 || table == nullptr) return table;
      slot = static_cast<unsigned>(first >> geometry::shift(level)) & (geometry::entries - 1);
    }
  }

  // No entry in a table below the root; looks first where entries are likely.
  [[nodiscard]] static bool empty(const table_word* table, unsigned near) noexcept {
    if (load_entry_relaxed(table + near) != 0) return false;
    for (unsigned i = 0; i != geometry::entries; i += 8) {
      std::uint64_t seen = 0;
      for (unsigned j = 0; j != 8; ++j) seen |= load_entry_relaxed(table + i + j);
      if (seen != 0) return false;
    }
    return true;
  }

  // Unlinks the empty table `below` and hands it to `changes`. A slot that was made to
  // point elsewhere meanwhile is left alone.
  void retire(table_word* slot, unsigned level, table_word* below, changes_type& changes) noexcept {
    const std::uint64_t e = load_entry(slot);
    if (!present(e) || this->format_.is_leaf(e, level) || child(e) != below) return;
    store_entry_relaxed(slot, 0);  // the invalidation orders it
    written(slot, 1);
    changes.retire(below, this->format_.table_address(e));
  }

  // Releases what `changes` has retired. A list that was overwritten ends where it stops making
  // sense.
  void release_retired(changes_type& changes) noexcept {
    std::uint64_t at = changes.first_retired();
    for (std::size_t left = changes.retired_tables(); left != 0; --left) {
      table_word* words = this->tables_->find(address<to>{at}, geometry::table_bytes);
      if (words == nullptr) break;
      const std::uint64_t next = load_entry(words);
      store_entry_relaxed(words, 0);
      this->tables_->release({words, address<to>{at}}, geometry::table_bytes);
      at = next;
    }
    changes.forget();
  }

  // Releases a table and all below it at once.
  void release_tree(table_word* table, std::uint64_t at, unsigned level) noexcept {
    const unsigned count = entries_of(level);
    for (unsigned i = 0; i != count; ++i) {
      const std::uint64_t e = load_entry_relaxed(table + i);
      if (e == 0) continue;
      store_entry_relaxed(table + i, 0);
      if (level == 0 || !present(e) || this->format_.is_leaf(e, level)) continue;
      if (table_word* below = below_of(e, level)) {
        release_tree(below, this->format_.table_address(e), level - 1);
      }
    }
    const std::size_t bytes = level == this->format_.top_level()
                                  ? geometry::root_bytes(this->format_)
                                  : geometry::table_bytes;
    this->tables_->release({table, address<to>{at}}, bytes);
  }

  // Unlinks the tables below this one that map nothing; whether this one does.
  bool trim(table_word* table, unsigned level, std::uint64_t begin,
            changes_type& changes) noexcept {
    bool used = false;
    const unsigned count = entries_of(level);
    for (unsigned i = 0; i != count; ++i) {
      const std::uint64_t e = load_entry(table + i);
      if (e == 0) continue;
      table_word* below =
          present(e) && !this->format_.is_leaf(e, level) ? below_of(e, level) : nullptr;
      const std::uint64_t at = begin + (std::uint64_t{i} << geometry::shift(level));
      if (below == nullptr || trim(below, level - 1, at, changes)) {
        used = true;
      } else {
        retire(table + i, level, below, changes);
        const address<From> spelled{geometry::canonical(this->format_, at)};
        changes.add(spelled, spelled, 0, true);
      }
    }
    return used;
  }

  // Calls each(leaf_slots) for every page that has a byte in [first, last]; it may rewrite the
  // slots, and returns edit::done to continue.
  template <class Each>
  [[nodiscard]] edit each_leaf(table_word* table, unsigned level, std::uint64_t first,
                               std::uint64_t last, Each& each) const noexcept {
    const std::uint64_t span = geometry::span(level);
    for (std::uint64_t a = first;;) {
      table_word* slot = table + index(a, level);
      const std::uint64_t e = load_entry(slot);
      std::uint64_t end = a | (span - 1);
      if (present(e)) {
        edit status = edit::corrupt;
        if (this->format_.is_leaf(e, level)) {
          const unsigned shift = this->format_.leaf_shift(e, level);
          if (shift == 0) return edit::corrupt;
          const leaf_slots page = slots_of(slot, a, level, shift, e);
          end = page.begin | ((std::uint64_t{1} << shift) - 1);
          status = each(page);
        } else if (table_word* below = below_of(e, level)) {
          status = each_leaf(below, level - 1, a, end < last ? end : last, each);
        }
        if (status != edit::done) return status;
      }
      if (end >= last) return edit::done;
      a = end + 1;
    }
  }

  // The whole page that the leaf in `slot`, for address a, is an item of. A page lies within one
  // table, so its first slot is found from the index.
  [[nodiscard]] static leaf_slots slots_of(table_word* slot, std::uint64_t a, unsigned level,
                                           unsigned shift, std::uint64_t e) noexcept {
    const std::uint64_t begin = a & ~((std::uint64_t{1} << shift) - 1);
    const auto before =
        static_cast<unsigned>(((a >> geometry::shift(level)) - (begin >> geometry::shift(level))));
    return {slot - before, 1U << (shift - geometry::shift(level)), level, shift, begin, e};
  }

 protected:
  page_table_options options_;
};

}  // namespace detail

}  // namespace phasebit::iommu
