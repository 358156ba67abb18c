// SPDX-License-Identifier: BSL-1.0
// The concept of the directories from a requester id to its entry, for walking and writing them.
// The architectures' layouts are in layouts/*.hpp.
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/page_table/page_lookup.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// The decoded entry of a directory above the leaves: mapped, absent or malformed; the address of
// the table below, and the number of its entries if it may be short.
struct directory_link {
  walk_status status = walk_status::absent;
  std::uint64_t table = 0;
  std::uint32_t entries = ~std::uint32_t{0};
};

// A small value. Level 0 holds the entries themselves, levels() - 1 is the root.
//   id_bits()               ids at or above 2^id_bits() have no entry
//   bits(level)             log2 of the entries of a table of this level
//   index(id, level)        below 2^bits(level)
//   words(level)            64-bit words of an entry of this level
//   link(at, level)         copies the link at `at` once, and judges it
//   set_link(at, l, table)  publishes an empty table below
template <class L>
concept DeviceTableLayout =
    requires(const L layout, std::uint32_t id, unsigned level, table_word* at, std::uint64_t a) {
      typename L::entry;
      { layout.levels() } noexcept -> std::same_as<unsigned>;
      { layout.id_bits() } noexcept -> std::same_as<unsigned>;
      { layout.bits(level) } noexcept -> std::same_as<unsigned>;
      { layout.index(id, level) } noexcept -> std::same_as<std::uint32_t>;
      { layout.words(level) } noexcept -> std::same_as<std::size_t>;
      { layout.link(at, level) } noexcept -> std::same_as<directory_link>;
      { layout.set_link(at, level, a) } noexcept;
    };

namespace detail {

// Links that have a present bit and a page's address.
template <class Link, class Field>
[[nodiscard]] directory_link page_link(const table_word* at, Field pointer) noexcept {
  const Link e = load_entry_words<Link>(at);
  if ((e.words[0].get() & Link::gate_mask) == 0) return {};
  if (e.has_other_bits(Link::known)) return {.status = walk_status::malformed};
  return {.status = walk_status::mapped, .table = e.address(pointer)};
}
template <class Entry>
void publish(table_word* at, const Entry& e) noexcept {
  replace_entry(at, e, []() noexcept {});
}

[[nodiscard]] constexpr std::uint32_t bits_at(std::uint32_t id, unsigned low,
                                              unsigned count) noexcept {
  return (id >> low) & ((std::uint32_t{1} << count) - 1);
}

}  // namespace detail

// One table that is indexed by the id: AMD's device table, SMMUv3's linear stream table. A size
// below 16 bits leaves the higher buses out.
template <class Entry>
struct linear_table {
  using entry = Entry;
  unsigned log2_entries = 16;

  [[nodiscard]] static constexpr unsigned levels() noexcept { return 1; }
  [[nodiscard]] constexpr unsigned id_bits() const noexcept { return log2_entries; }
  [[nodiscard]] constexpr unsigned bits(unsigned) const noexcept { return log2_entries; }
  [[nodiscard]] static constexpr std::uint32_t index(std::uint32_t id, unsigned) noexcept {
    return id;
  }
  [[nodiscard]] static constexpr std::size_t words(unsigned) noexcept { return Entry::word_count; }
  [[nodiscard]] static directory_link link(const table_word*, unsigned) noexcept { return {}; }
  static void set_link(table_word*, unsigned, std::uint64_t) noexcept {}
};

}  // namespace phasebit::iommu
