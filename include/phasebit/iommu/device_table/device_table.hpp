// SPDX-License-Identifier: BSL-1.0
// The directories that lead from a requester id to its entry: how each architecture lays them out,
// how an IOMMU finds its way through them, and how a driver writes them.
#pragma once

#include <phasebit/core/int_cast.hpp>
#include <phasebit/iommu/device_table/layout.hpp>
#include <phasebit/iommu/page_table/table_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace phasebit::iommu {

// The result of the walk to an entry. `mapped`: `entry` is valid, `words` long. Otherwise `status`
// is the error in the link of level `level`, which lies at `at`; beyond_width: the id has more bits
// than the directories, or is beyond the end of a short table.
struct entry_place {
  walk_status status = walk_status::unreadable;
  std::uint8_t level = 0;
  std::uint64_t at = 0;  // address of the entry, or of the link at fault
  const table_word* entry = nullptr;
};

namespace detail {

// `bytes` bytes at `at`, which lie inside one of Tables' pages: an object smaller than a page table
// is reached through the page that contains it if Tables can only find pages.
template <TableReader Tables>
[[nodiscard]] table_word* find_inside(Tables& tables, std::uint64_t at,
                                      std::size_t bytes) noexcept {
  using space = typename std::remove_cvref_t<Tables>::space;
  if constexpr (requires { std::remove_cvref_t<Tables>::granule; }) {
    constexpr std::size_t page = std::remove_cvref_t<Tables>::granule;
    const std::size_t offset = int_cast<std::size_t>(at & (page - 1));
    if (offset % 8 != 0 || bytes > page - offset) return nullptr;
    table_word* const words = tables.find(address<space>{at - offset}, page);
    return words == nullptr ? nullptr : words + offset / 8;
  } else {
    return tables.find(address<space>{at}, bytes);
  }
}

}  // namespace detail

// Reads at most one link per level, each once; ends whatever the directories hold.
template <DeviceTableLayout Layout, TableReader Tables>
[[nodiscard]] entry_place find_device_entry(const Layout& layout, const Tables& tables,
                                            address<typename Tables::space> root,
                                            std::uint32_t id) noexcept {
  entry_place place;
  std::uint64_t table = root.value();
  unsigned level = layout.levels() - 1;
  if (layout.id_bits() < 32 && id >> layout.id_bits() != 0) {
    place.status = walk_status::beyond_width;
    return place;
  }
  std::uint32_t limit = ~std::uint32_t{0};
  for (;;) {
    const std::uint32_t index = layout.index(id, level);
    const std::size_t words = layout.words(level);
    place.level = static_cast<std::uint8_t>(level);
    place.at = table + std::uint64_t{index} * words * 8;
    if (index >= limit) {
      place.status = walk_status::beyond_width;
      return place;
    }
    const table_word* const at = detail::find_inside(tables, place.at, words * 8);
    if (at == nullptr) {
      place.status = walk_status::unreadable;
      return place;
    }
    if (level == 0) {
      place.status = walk_status::mapped;
      place.entry = at;
      return place;
    }
    const directory_link link = layout.link(at, level);
    if (link.status != walk_status::mapped) {
      place.status = link.status;
      return place;
    }
    table = link.table;
    limit = link.entries;
    --level;
  }
}

// The driver's side: directories and entries in tables of our own, written so that hardware may
// walk them meanwhile. One writer. Move-only: owns its tables until release().
template <DeviceTableLayout Layout, TableMemory Tables>
class device_table {
 public:
  using entry = typename Layout::entry;
  using space = typename Tables::space;

  // Allocates the root. Errors: those of tables.allocate().
  [[nodiscard]] static result<device_table> create(const Layout& layout, Tables& tables) noexcept {
    const auto root = tables.allocate(bytes(layout, layout.levels() - 1));
    if (!root) return root.error();
    return device_table{layout, tables, *root};
  }
  device_table(device_table&& other) noexcept
      : layout_(other.layout_), tables_(other.tables_), root_(std::exchange(other.root_, {})) {}
  device_table& operator=(device_table&&) = delete;

  [[nodiscard]] address<space> root() const noexcept { return root_.at; }
  [[nodiscard]] const Layout& layout() const noexcept { return layout_; }

  // Makes the entry of `id` become `value`. forget() invalidates what the hardware has cached of it
  // and returns when that is done; it is called where the old entry could have been cached (see
  // replace_entry). Errors: out_of_range, those of tables.allocate(), protocol where another writer
  // has damaged a directory.
  template <class Forget>
    requires std::is_nothrow_invocable_v<Forget&>
  result<> set(std::uint32_t id, const entry& value, Forget&& forget) noexcept {
    const auto at = reach(id);
    if (!at) return at.error();
    replace_entry(*at, value, forget);
    return {};
  }
  // For hardware that is not enabled yet, or that caches nothing.
  result<> set(std::uint32_t id, const entry& value) noexcept {
    return set(id, value, []() noexcept {});
  }
  // The current entry; all zeros if no directory leads to it.
  [[nodiscard]] entry get(std::uint32_t id) const noexcept {
    const entry_place place = find_device_entry(layout_, *tables_, root_.at, id);
    if (place.status != walk_status::mapped) return entry{};
    return load_entry_words<entry>(place.entry);
  }

  // Gives all tables back: the hardware uses them no more.
  void release() noexcept {
    if (root_.words == nullptr) return;
    const std::size_t size = bytes(layout_, layout_.levels() - 1);
    release_below(root_.words, layout_.levels() - 1);
    __builtin_memset(root_.words, 0, size);
    tables_->release(root_, size);
    root_ = {};
  }
  ~device_table() { release(); }

 private:
  device_table(const Layout& layout, Tables& tables, table_page<space> root) noexcept
      : layout_(layout), tables_(&tables), root_(root) {}

  [[nodiscard]] static std::size_t bytes(const Layout& layout, unsigned level) noexcept {
    const std::size_t size = (layout.words(level) * 8) << layout.bits(level);
    return size < 4096 ? 4096 : size;
  }

  [[nodiscard]] result<table_word*> reach(std::uint32_t id) noexcept {
    if (layout_.id_bits() < 32 && id >> layout_.id_bits() != 0) {
      return failure(errc::out_of_range, "the device table has no entry for this requester", id);
    }
    table_word* table = root_.words;
    for (unsigned level = layout_.levels() - 1;; --level) {
      table_word* const at = table + layout_.index(id, level) * layout_.words(level);
      if (level == 0) return at;
      const directory_link link = layout_.link(at, level);
      if (link.status == walk_status::absent) {
        const auto made = tables_->allocate(bytes(layout_, level - 1));
        if (!made) return made.error();
        layout_.set_link(at, level, made->at.value());
        table = made->words;
        continue;
      }
      table = link.status == walk_status::mapped
                  ? tables_->find(address<space>{link.table}, bytes(layout_, level - 1))
                  : nullptr;
      if (table == nullptr) {
        return failure(errc::protocol, "the device table holds an entry that was not written here",
                       id);
      }
    }
  }
  // The levels fall, so that this is three deep at most.
  void release_below(const table_word* table, unsigned level) noexcept {
    if (level == 0) return;
    for (std::uint32_t i = 0; i >> layout_.bits(level) == 0; ++i) {
      const directory_link link = layout_.link(table + i * layout_.words(level), level);
      if (link.status != walk_status::mapped) continue;
      const std::size_t size = bytes(layout_, level - 1);
      table_word* const below = tables_->find(address<space>{link.table}, size);
      if (below == nullptr) continue;
      release_below(below, level - 1);
      __builtin_memset(below, 0, size);
      tables_->release({below, address<space>{link.table}}, size);
    }
  }

  Layout layout_;
  Tables* tables_;
  table_page<space> root_;
};

}  // namespace phasebit::iommu
