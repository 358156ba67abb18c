// SPDX-License-Identifier: BSL-1.0
// Changes the attributes of pages but not their targets: permissions and dirty bits.
#pragma once

#include <phasebit/iommu/page_table/detail/editor.hpp>

#include <cstdint>

namespace phasebit::iommu::detail {

// Rewrites one slot with change(entry); what hardware sets meanwhile is taken along.
template <class Change>
inline std::uint64_t update_entry(table_word* slot, Change change) noexcept {
  std::uint64_t e = load_entry_relaxed(slot);
  while (!exchange_entry_relaxed(slot, e, change(e))) {
  }
  return e;
}

// The permissions in `bits` for all pages of [first, last], none of which reaches beyond it.
template <PageTableFormat Format, class Tables, class From>
[[nodiscard]] result<std::uint64_t> protect_pages(table_editor<Format, Tables, From> tables,
                                                  std::uint64_t first, std::uint64_t last,
                                                  std::uint64_t bits,
                                                  invalidations<From>& changes) noexcept {
  using editor = table_editor<Format, Tables, From>;
  const page_format<Format> format = tables.format();
  const unsigned top = format.top_level();
  // The slots of one page must agree at all times if the format requires break-before-make, so such
  // pages are absent meanwhile. Checked first, so that a refusal changes nothing.
  const bool whole = format.break_before_make() && page_format<Format>::contiguous;
  if (whole && !changes.can_flush()) {
    auto find_group = [](const leaf_slots& page) noexcept {
      return page.count > 1 ? edit::cut : edit::done;
    };
    if (tables.each_leaf(tables.root_words(), top, first, last, find_group) == edit::cut) {
      return failure(errc::not_supported,
                     "changing a page of several entries needs an invalidation half way", first);
    }
  }
  std::uint64_t bytes = 0;
  std::uint64_t sizes = 0;
  auto change = [&](const leaf_slots& page) noexcept {
    const std::uint64_t size = std::uint64_t{1} << page.shift;
    const bool broken = whole && page.count > 1;
    if (broken) {
      std::uint64_t old = 0;
      for (unsigned i = 0; i != page.count; ++i) {
        old |= format.state_bits(update_entry(page.words + i, [](std::uint64_t) { return 0U; }));
      }
      tables.written(page.words, page.count);
      changes.add(address<From>{page.begin}, address<From>{page.begin + (size - 1)}, size, false);
      changes.flush();
      const unsigned order = page.shift - editor::geometry::shift(page.level);
      std::uint64_t value = format.make_leaf(format.leaf_address(page.entry, page.shift),
                                             page.level, order, format.with_permissions(old, bits));
      for (unsigned i = 0; i != page.count; ++i) {
        store_entry_relaxed(page.words + i, value);
        if (page_format<Format>::items_differ) value += editor::geometry::step(format, page.level);
      }
    } else {
      for (unsigned i = 0; i != page.count; ++i) {
        update_entry(page.words + i,
                     [&](std::uint64_t e) { return format.with_permissions(e, bits); });
      }
      sizes |= size;
    }
    tables.written(page.words, page.count);
    bytes += size;
    return edit::done;
  };
  const edit status = tables.each_leaf(tables.root_words(), top, first, last, change);
  if (sizes != 0) changes.add(address<From>{first}, address<From>{last}, sizes, false);
  if (status != edit::done) {
    return failure(errc::protocol, "the tables hold an entry that was not written here", first);
  }
  return bytes;
}

template <PageTableFormat Format, class Tables, class From, class Visit>
[[nodiscard]] result<std::uint64_t> take_dirty_pages(table_editor<Format, Tables, From> tables,
                                                     std::uint64_t first, std::uint64_t last,
                                                     bool clear, invalidations<From>& changes,
                                                     Visit& visit) noexcept {
  const page_format<Format> format = tables.format();
  std::uint64_t pages = 0;
  std::uint64_t sizes = 0;
  std::uint64_t low = last;
  std::uint64_t high = first;
  auto take = [&](const leaf_slots& page) noexcept {
    bool dirty = false;
    for (unsigned i = 0; i != page.count; ++i) {
      if (!format.dirty(load_entry_relaxed(page.words + i))) continue;
      dirty = true;
      if (!clear) break;
      update_entry(page.words + i, [&](std::uint64_t e) { return format.cleaned(e); });
    }
    if (!dirty) return edit::done;
    ++pages;
    if (clear) {
      tables.written(page.words, page.count);
      // Pages come in ascending order.
      if (sizes == 0) low = page.begin;
      high = page.begin + ((std::uint64_t{1} << page.shift) - 1);
      sizes |= std::uint64_t{1} << page.shift;
    }
    visit(mapped_page<From, typename Tables::space>{
        address<From>{page.begin},
        address<typename Tables::space>{format.leaf_address(page.entry, page.shift)}, page.shift,
        format.attributes(page.entry), true});
    return edit::done;
  };
  const edit status = tables.each_leaf(tables.root_words(), format.top_level(), first, last, take);
  if (sizes != 0) changes.add(address<From>{low}, address<From>{high}, sizes, false);
  if (status != edit::done) {
    return failure(errc::protocol, "the tables hold an entry that was not written here", first);
  }
  return pages;
}

}  // namespace phasebit::iommu::detail
