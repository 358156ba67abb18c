// SPDX-License-Identifier: BSL-1.0
// Page tables that IOMMU hardware walks: one algorithm, formats as policies (formats/*.hpp).
// docs/iommu.md has the guarantees for concurrent use, and the figures.
#pragma once

#include <phasebit/iommu/page_table/detail/editor.hpp>
#include <phasebit/iommu/page_table/detail/map.hpp>
#include <phasebit/iommu/page_table/detail/protect.hpp>
#include <phasebit/iommu/page_table/detail/split_merge.hpp>
#include <phasebit/iommu/page_table/detail/unmap.hpp>
#include <phasebit/iommu/page_table/dirty_bitmap.hpp>

#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

namespace phasebit::iommu {

// How reading dirty states changes them.
enum class dirty_state : std::uint8_t { clear, keep };

// Tables of Format, made of pages of Tables; owns them. Translates addresses of From into those of
// Tables::space.
//
// Every change is one descent per range; the ranges to invalidate are added to `changes`. The caller
// executes these invalidations and then calls complete(changes); several changes may share one.
// The overloads without `changes` are for tables that no IOMMU caches: they complete at once.
//
// Failures leave the tables as they were. They are: misaligned (to the granule), overflow,
// out_of_range (beyond the width of input or output), overlap, exhausted (no page for a table),
// not_supported (attributes that the format cannot express; a flush that is needed and not given),
// access_denied (a reserved region), protocol (the tables were written by someone else; here, what
// came before the damaged entry has been changed).
//
// Concurrent use: any number of walkers at any time, up to complete(). Changes: see `mappers`.
template <PageTableFormat Format, TableMemory Tables, class From = bus_space>
class page_table : public page_table_view<Format, Tables, From> {
  using view_type = page_table_view<Format, Tables, From>;
  using editor = detail::table_editor<Format, Tables, From>;
  using edit = detail::edit;

 public:
  using typename view_type::from;
  using typename view_type::geometry;
  using typename view_type::to;
  using changes_type = invalidations<From>;

  // Allocates the root. `tables` outlives the result.
  [[nodiscard]] static result<page_table> create(const Format& format, Tables& tables,
                                                 const page_table_options& options = {}) noexcept {
    PHASEBIT_EXPECTS(options.largest_page >= geometry::table_bytes,
                     "the largest page is at least the granule");
    auto root = tables.allocate(geometry::root_bytes(format));
    if (!root) return root.error();
    return page_table{format, tables, root->at, options};
  }

  page_table(page_table&& other) noexcept
      : view_type(other), options_(other.options_), owner_(std::exchange(other.owner_, false)) {}
  page_table& operator=(page_table&&) = delete;
  // Releases every table; no hardware walks them any more.
  ~page_table() {
    if (owner_) edit_tables().release_tree(this->root_, this->root_at_.value(), top());
  }

  [[nodiscard]] const page_table_options& options() const noexcept { return options_; }
  [[nodiscard]] view_type view() const noexcept { return static_cast<const view_type&>(*this); }

  // Maps [begin, begin + bytes) to `target` and on, with the largest pages that fit. Nothing of it
  // may be mapped already.
  result<> map(address<From> begin, address<to> target, std::uint64_t bytes,
               const page_attributes& attributes, changes_type& changes) noexcept {
    if (bytes == 0) return {};
    if (auto fit = check(begin.value(), bytes); !fit) return fit;
    if (!options_.reserved.empty()) [[unlikely]] {
      const std::uint64_t last = begin.value() + (bytes - 1);
      if (auto free = check_reserved(options_.reserved, begin.value(), last); !free) return free;
    }
    const std::uint64_t end = target.value() + (bytes - 1);
    if (target.value() % geometry::table_bytes != 0) {
      return failure(errc::misaligned, "the target is not aligned to the granule", target.value());
    }
    const unsigned width = this->format_.output_bits();
    if (end < target.value() || (width < 64 && end >> width != 0)) {
      return failure(errc::out_of_range, "the target is beyond the width of output addresses",
                     target.value());
    }
    const auto bits = this->format_.attribute_bits(attributes);
    if (!bits) {
      return failure(errc::not_supported, "the format cannot express these attributes",
                     begin.value());
    }
    // A single page in a table that is there: no operation object, no second look.
    if (bytes == geometry::table_bytes) {
      table_word* const slot = this->plain_slot(begin.value());
      if (slot != nullptr && !this->present(detail::load_entry_relaxed(slot))) [[likely]] {
        detail::store_entry_relaxed(slot, this->format_.make_leaf(target.value(), 0, 0, *bits));
        written(slot);
        if (options_.caching_mode) {
          changes.add(begin, begin + (bytes - 1), geometry::table_bytes, false);
        }
        return {};
      }
    }
    for (bool trimmed = false;;) {
      std::uint64_t failed_at = 0;
      const edit status =
          map_or_undo(begin.value(), target.value(), bytes, *bits, changes, failed_at);
      if (status == edit::done) [[likely]]
        return {};
      if (status != edit::exhausted || trimmed || !release_emptied(changes)) {
        return explain(status, failed_at);
      }
      trimmed = true;
    }
  }
  result<> map(address<From> begin, address<to> target, std::uint64_t bytes,
               const page_attributes& attributes = {}) noexcept {
    changes_type changes{&no_flush_needed, nullptr};
    auto done = map(begin, target, bytes, attributes, changes);
    complete(changes);
    return done;
  }

  // Unmaps every mapping in [begin, begin + bytes) and returns the number of bytes unmapped. A page
  // that lies only partly in the range is split or refused (invalid_argument), depending on the
  // options.
  result<std::uint64_t> unmap(address<From> begin, std::uint64_t bytes,
                              changes_type& changes) noexcept {
    // Fast path: a single page that is not part of a larger one. Other cases are a separate call,
    // so that this one builds no frame for them.
    if (bytes == geometry::table_bytes) {
      if (table_word* const slot = this->plain_slot_of(begin.value())) [[likely]] {
        const std::uint64_t e = detail::load_entry_relaxed(slot);
        if (!this->present(e)) {
          if (e != 0) detail::store_entry_relaxed(slot, 0);
          return std::uint64_t{0};
        }
        if (!this->format_.joined(e)) [[likely]] {
          detail::store_entry_relaxed(slot, 0);
          written(slot);
          changes.add(begin, begin + (geometry::table_bytes - 1), geometry::table_bytes, false);
          return std::uint64_t{geometry::table_bytes};
        }
      }
    }
    return unmap_pages(begin, bytes, changes, detail::nothing_dirty{});
  }
  result<std::uint64_t> unmap(address<From> begin, std::uint64_t bytes) noexcept {
    changes_type changes{&no_flush_needed, nullptr};
    auto done = unmap(begin, bytes, changes);
    complete(changes);
    return done;
  }

  // Gives all pages in the range these permissions; holes stay holes. Returns the number of bytes
  // changed. Memory type and coherence stay. Hardware's accessed and dirty bits are not lost.
  result<std::uint64_t> protect(address<From> begin, std::uint64_t bytes, access permission,
                                bool execute, changes_type& changes) noexcept {
    if (bytes == 0) return std::uint64_t{0};
    if (auto fit = check(begin.value(), bytes); !fit) return fit.error();
    const auto bits = this->format_.attribute_bits({.permission = permission, .execute = execute});
    if (!bits) {
      return failure(errc::not_supported, "the format cannot express these permissions",
                     begin.value());
    }
    const std::uint64_t last = begin.value() + (bytes - 1);
    if (auto edges = prepare(begin.value(), last, changes); !edges) return edges.error();
    return detail::protect_pages(edit_tables(), begin.value(), last, *bits, changes);
  }
  result<std::uint64_t> protect(address<From> begin, std::uint64_t bytes, access permission,
                                bool execute = false) noexcept {
    changes_type changes{&no_flush_needed, nullptr};
    auto done = protect(begin, bytes, permission, execute, changes);
    complete(changes);
    return done;
  }

  // Calls visit(mapped_page) for every page with a byte in the range that was written to since its
  // dirty state was last cleared, and clears it, in all slots of the page. Whole pages are
  // reported, even where the range ends inside one. Returns the number of pages. Writes that
  // hardware makes through a cached translation are not recorded until `changes` has been applied:
  // read the pages after that. Errors: not_supported where nothing records writes in these tables.
  template <class Visit>
  result<std::uint64_t> take_dirty(address<From> begin, std::uint64_t bytes, changes_type& changes,
                                   Visit&& visit) noexcept {
    return dirty_pages(begin, bytes, dirty_state::clear, changes, visit);
  }
  // The same into a bitmap, which may cover another range. `state`: whether dirty states are cleared.
  result<std::uint64_t> read_dirty(address<From> begin, std::uint64_t bytes,
                                   dirty_bitmap<From>& bitmap, changes_type& changes,
                                   dirty_state state = dirty_state::clear) noexcept {
    auto visit = [&](const auto& page) noexcept {
      bitmap.set(page.begin, page.begin + ((std::uint64_t{1} << page.page_shift) - 1));
    };
    return dirty_pages(begin, bytes, state, changes, visit);
  }
  // Unmaps like unmap(), and sets the bits of the pages that were written to since their dirty state
  // was last cleared. No write is lost: hardware that still holds a translation with which it may
  // write has recorded that before.
  result<std::uint64_t> unmap(address<From> begin, std::uint64_t bytes, changes_type& changes,
                              dirty_bitmap<From>& bitmap) noexcept {
    if (!this->format_.tracks_dirty()) return untracked(begin.value());
    const auto visit = [&](std::uint64_t first, std::uint64_t last) noexcept {
      bitmap.set(address<From>{first}, address<From>{last});
    };
    return unmap_pages(begin, bytes, changes, visit);
  }

  // Makes a page boundary at `at`, if a large page lies across it.
  result<> split(address<From> at, changes_type& changes) noexcept {
    if (auto fit = check(at.value(), geometry::table_bytes); !fit) return fit;
    return split_at(at.value(), changes);
  }
  // Merges the mappings within the range into the largest possible pages, and releases the tables
  // this saves. Returns the number of pages created. `changes` must be able to flush; without it,
  // no walker may be active.
  result<std::uint64_t> merge(address<From> begin, std::uint64_t bytes,
                              changes_type& changes) noexcept {
    PHASEBIT_EXPECTS(changes.can_flush(),
                     "merging releases tables in the middle: give a flush function");
    return merge_range(begin, bytes, changes);
  }
  result<std::uint64_t> merge(address<From> begin, std::uint64_t bytes) noexcept {
    changes_type changes{&no_flush_needed, nullptr};
    auto done = merge_range(begin, bytes, changes);
    complete(changes);
    return done;
  }

  // Unlinks every table that maps nothing; no other change runs.
  void trim(changes_type& changes) noexcept {
    editor tables = edit_tables();
    tables.trim(this->root_, top(), std::uint64_t{0}, changes);
  }
  void trim() noexcept {
    changes_type changes;
    trim(changes);
    complete(changes);
  }

  // The invalidations in `changes` have been carried out, by hardware and by software walkers:
  // releases the tables that were waiting for it, and empties `changes`.
  void complete(changes_type& changes) noexcept {
    if (changes.retired_tables() == 0) [[likely]] {
      changes.forget();
      return;
    }
    edit_tables().release_retired(changes);
  }

 private:
  page_table(const Format& format, Tables& tables, address<to> root,
             const page_table_options& options) noexcept
      : view_type(format, tables, root), options_(options), owner_(true) {
    PHASEBIT_EXPECTS(this->root_ != nullptr, "the table memory does not find what it allocated");
  }

  void written(table_word* slot) const noexcept {
    if constexpr (NoncoherentTables<Tables>) this->tables_->written(slot, 1);
  }
  static void no_flush_needed(void*, std::span<const invalidation_range<From>>) noexcept {}

  [[nodiscard]] unsigned top() const noexcept { return this->format_.top_level(); }
  [[nodiscard]] editor edit_tables() noexcept {
    return editor{static_cast<const view_type&>(*this), options_};
  }

  [[nodiscard]] result<> check(std::uint64_t begin, std::uint64_t bytes) const noexcept {
    if (((begin | bytes) & (geometry::table_bytes - 1)) != 0) {
      return failure(errc::misaligned, "the range is not aligned to the granule", begin);
    }
    const std::uint64_t last = begin + (bytes - 1);
    if (last < begin) return failure(errc::overflow, "the range wraps", begin);
    if (!geometry::reaches(this->format_, begin, last)) {
      return failure(errc::out_of_range, "the range is beyond the width of the tables", begin);
    }
    return {};
  }

  template <class Dirty>
  [[nodiscard, gnu::noinline]] result<std::uint64_t> unmap_pages(address<From> begin,
                                                                 std::uint64_t bytes,
                                                                 changes_type& changes,
                                                                 const Dirty& dirty) noexcept {
    if (bytes == 0) return std::uint64_t{0};
    if (auto fit = check(begin.value(), bytes); !fit) return fit.error();
    const std::uint64_t last = begin.value() + (bytes - 1);
    // The operation finds by itself what is cut at the beginning, or by a single granule.
    if (options_.cut == large_pages::split) {
      if (auto edges = prepare(begin.value(), last, changes); !edges) return edges.error();
    } else if (bytes != geometry::table_bytes && ends_at(last) && cuts(last + 1)) {
      return failure(errc::invalid_argument, "the range cuts a large page", last + 1);
    }
    editor tables = edit_tables();
    detail::clear_operation<editor, Format, Dirty> clear{tables, changes, begin.value(),
                                                         last,   false,   dirty};
    const edit status = clear.run();
    clear.finish();
    if (status != edit::done) return explain(status, clear.failed_at());
    return clear.cleared();
  }
  template <class Visit>
  [[nodiscard]] result<std::uint64_t> dirty_pages(address<From> begin, std::uint64_t bytes,
                                                  dirty_state state, changes_type& changes,
                                                  Visit& visit) noexcept {
    if (bytes == 0) return std::uint64_t{0};
    if (auto fit = check(begin.value(), bytes); !fit) return fit.error();
    if (!this->format_.tracks_dirty()) return untracked(begin.value());
    return detail::take_dirty_pages(edit_tables(), begin.value(), begin.value() + (bytes - 1),
                                    state == dirty_state::clear, changes, visit);
  }
  [[nodiscard]] static error untracked(std::uint64_t at) noexcept {
    return failure(errc::not_supported,
                   "hardware does not record writes in these tables: create them with track_dirty",
                   at);
  }

  [[nodiscard]] edit map_or_undo(std::uint64_t begin, std::uint64_t target, std::uint64_t bytes,
                                 std::uint64_t bits, changes_type& changes,
                                 std::uint64_t& failed_at) noexcept {
    editor tables = edit_tables();
    detail::fill_operation<editor, Format> fill{tables, changes, bits};
    const edit status = fill.run(begin, target, bytes);
    if (status == edit::done) [[likely]] {
      if (options_.caching_mode) {
        changes.add(address<From>{begin}, address<From>{begin + (bytes - 1)}, fill.page_sizes(),
                    fill.made_tables());
      }
      return status;
    }
    failed_at = fill.failed_at();
    if (fill.done() != 0) {
      detail::clear_operation<editor, Format> undo{
          tables, changes, begin, begin + (fill.done() - 1), options_.who == mappers::one};
      static_cast<void>(undo.run());
      undo.finish();
    }
    return status;
  }
  // After an allocation failed: releases the tables that piecewise unmaps have left without a page.
  // False where there are none, or where this may not be done here.
  [[nodiscard]] bool release_emptied(changes_type& changes) noexcept {
    if (options_.who != mappers::one || !changes.can_flush()) return false;
    trim(changes);
    if (changes.retired_tables() == 0) return false;
    changes.flush();
    complete(changes);
    return true;
  }

  // Sees to it that no page reaches over an end of the range.
  [[nodiscard]] result<> prepare(std::uint64_t first, std::uint64_t last,
                                 changes_type& changes) noexcept {
    if (options_.cut == large_pages::split) {
      if (auto done = split_at(first, changes); !done) return done;
      return ends_at(last) ? split_at(last + 1, changes) : result<>{};
    }
    if (cuts(first) || (ends_at(last) && cuts(last + 1))) {
      return failure(errc::invalid_argument, "the range cuts a large page", first);
    }
    return {};
  }
  [[nodiscard]] bool ends_at(std::uint64_t last) const noexcept {
    return last != ~std::uint64_t{0} && geometry::reaches(this->format_, last, last + 1);
  }
  [[nodiscard]] bool cuts(std::uint64_t a) const noexcept {
    const auto here = this->find(a).page;
    return here.status == walk_status::mapped &&
           (a & ((std::uint64_t{1} << here.page_shift) - 1)) != 0;
  }
  [[nodiscard]] result<> split_at(std::uint64_t a, changes_type& changes) noexcept {
    if (!cuts(a)) return {};
    if (this->format_.break_before_make() && !changes.can_flush()) {
      return failure(errc::not_supported,
                     "splitting a page of this format needs an invalidation half way", a);
    }
    editor tables = edit_tables();
    detail::resize_operation<editor, Format> resize{tables, changes};
    const edit status = resize.split_at(a);
    return status == edit::done ? result<>{} : explain(status, a);
  }
  [[nodiscard]] result<std::uint64_t> merge_range(address<From> begin, std::uint64_t bytes,
                                                  changes_type& changes) noexcept {
    if (bytes == 0) return std::uint64_t{0};
    if (auto fit = check(begin.value(), bytes); !fit) return fit.error();
    editor tables = edit_tables();
    detail::resize_operation<editor, Format> resize{tables, changes};
    const edit status =
        resize.merge(this->root_, top(), begin.value(), begin.value() + (bytes - 1));
    if (status != edit::done) return explain(status, begin.value());
    return resize.made();
  }

  [[nodiscard]] static error explain(edit status, std::uint64_t at) noexcept {
    switch (status) {
      case edit::overlap:
        return failure(errc::overlap, "a page is already mapped here", at);
      case edit::exhausted:
        return failure(errc::exhausted, "no memory for another table", at);
      case edit::cut:
        return failure(errc::invalid_argument, "the range cuts a large page", at);
      case edit::unflushed:
        return failure(errc::not_supported,
                       "replacing an emptied table by a large page of this format needs an "
                       "invalidation half way: give a flush function, or trim() first",
                       at);
      default:
        return failure(errc::protocol, "the tables hold an entry that was not written here", at);
    }
  }

  page_table_options options_;
  bool owner_;
};

}  // namespace phasebit::iommu
