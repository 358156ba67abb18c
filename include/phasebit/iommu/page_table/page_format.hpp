// SPDX-License-Identifier: BSL-1.0
// What distinguishes one page-table format from another. The algorithm of page_table.hpp is
// written once, against this.
#pragma once

#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// How the target is cached. Formats that leave this to the device or to another stage have
// write_back alone.
enum class memory_type : std::uint8_t { write_back, uncached, device };

// What a mapping says of its target besides the address. A format refuses what it can not express.
struct page_attributes {
  access permission = access::read_write;
  bool execute = false;
  memory_type memory = memory_type::write_back;
  bool coherent = false;  // force the device's accesses to snoop caches (VT-d SNP, AMD FC)

  friend constexpr bool operator==(page_attributes, page_attributes) noexcept = default;
};

// A format is a small value: constants of the architecture, and what a machine may choose (width,
// optional features). Level 0 is the lowest; a table of level n holds entries that cover
// 2^shift(n) bytes each. An entry with no bit of present_mask is absent whatever else it holds, and
// all of present_mask lies in the low 12 bits.
//
//   is_leaf(e, level)       e is present
//   leaf_shift(e, level)    log2 of the page that this leaf belongs to, or 0: the entry is malformed
//   table_valid(e, level)   false: reserved bits are set, or the next level makes no sense
//   next_level(e, level)    below `level`
//   plain_mask()            (e & plain_mask()) == make_table(0, level) for no e but valid table entries
//                           that permit everything and whose next level is level - 1
//   permissions(e)          of a leaf: bit 0 read, bit 1 write
//   passes(e)               the same of a table entry: what it lets the leaves below permit
//   orders(level)           bit k: 2^k neighbouring leaves of this level may form one page
//   items_differ            each of them holds its own address (Arm), or all hold the same word
//   attribute_bits(a)       nothing where the format can not express it
//   with_permissions(e, b)  e with the permissions out of attribute bits b, dirty state kept
//   state_bits(e)           what make_leaf needs as bits to say of another page what e says of its
//                           own: attributes, accessed and dirty
template <class F>
concept PageTableFormat = requires(const F f, std::uint64_t e, unsigned level, page_attributes a) {
  { F::granule_shift } -> std::convertible_to<unsigned>;
  { F::present_mask } -> std::convertible_to<std::uint64_t>;
  { F::items_differ } -> std::convertible_to<bool>;
  { F::sign_extended } -> std::convertible_to<bool>;
  { F::contiguous } -> std::convertible_to<bool>;
  { f.top_level() } noexcept -> std::same_as<unsigned>;
  { f.input_bits() } noexcept -> std::same_as<unsigned>;
  { f.output_bits() } noexcept -> std::same_as<unsigned>;
  { f.leaf_allowed(level) } noexcept -> std::same_as<bool>;
  { f.orders(level) } noexcept -> std::same_as<std::uint32_t>;
  { f.is_leaf(e, level) } noexcept -> std::same_as<bool>;
  { f.leaf_shift(e, level) } noexcept -> std::same_as<unsigned>;
  { f.leaf_address(e, level) } noexcept -> std::same_as<std::uint64_t>;  // of page 2^second
  { f.table_valid(e, level) } noexcept -> std::same_as<bool>;
  { f.next_level(e, level) } noexcept -> std::same_as<unsigned>;
  { f.plain_mask() } noexcept -> std::same_as<std::uint64_t>;
  { f.table_address(e) } noexcept -> std::same_as<std::uint64_t>;
  { f.permissions(e) } noexcept -> std::same_as<unsigned>;
  { f.passes(e) } noexcept -> std::same_as<unsigned>;
  { f.make_table(e, level) } noexcept -> std::same_as<std::uint64_t>;  // held by `level`
  { f.make_leaf(e, level, level, e) } noexcept -> std::same_as<std::uint64_t>;
  { f.attribute_bits(a) } noexcept -> std::same_as<std::optional<std::uint64_t>>;
  { f.attributes(e) } noexcept -> std::same_as<page_attributes>;
  { f.with_permissions(e, e) } noexcept -> std::same_as<std::uint64_t>;
  { f.state_bits(e) } noexcept -> std::same_as<std::uint64_t>;
  { f.dirty(e) } noexcept -> std::same_as<bool>;
  { f.cleaned(e) } noexcept -> std::same_as<std::uint64_t>;
  // A live entry may not be replaced by one of another size or memory type without being absent,
  // and flushed, in between.
  { f.break_before_make() } noexcept -> std::same_as<bool>;
};

// Where entries lie, for every format alike: a table is one granule of 8-byte words.
template <PageTableFormat F>
struct table_geometry {
  static constexpr unsigned index_bits = F::granule_shift - 3;
  static constexpr unsigned entries = 1U << index_bits;
  static constexpr std::size_t table_bytes = std::size_t{1} << F::granule_shift;

  [[nodiscard]] static constexpr unsigned shift(unsigned level) noexcept {
    return F::granule_shift + level * index_bits;
  }
  [[nodiscard]] static constexpr std::uint64_t span(unsigned level) noexcept {
    return std::uint64_t{1} << shift(level);
  }
  // What lies between the entries of neighbouring pages: the span as the format spells addresses.
  [[nodiscard]] static constexpr std::uint64_t step(const F& f, unsigned level) noexcept {
    return f.make_leaf(span(level), level, 0, 0) - f.make_leaf(0, level, 0, 0);
  }
  // The root alone may have fewer entries than a table, or more (concatenated tables).
  [[nodiscard]] static constexpr unsigned root_entries(const F& f) noexcept {
    return 1U << (f.input_bits() - shift(f.top_level()));
  }
  [[nodiscard]] static constexpr std::size_t root_bytes(const F& f) noexcept {
    const std::size_t bytes = std::size_t{8} * root_entries(f);
    return bytes < table_bytes ? table_bytes : bytes;
  }
  // Whether [first, last] lies within the format's input width.
  [[nodiscard]] static constexpr bool reaches(const F& f, std::uint64_t first,
                                              std::uint64_t last) noexcept {
    const unsigned bits = f.input_bits();
    if (bits == 64) return true;
    if constexpr (F::sign_extended) {
      // Bits 63 down to the highest translated one are all alike, and the same at both ends.
      const auto high = static_cast<std::int64_t>(first) >> (bits - 1);
      return high == static_cast<std::int64_t>(last) >> (bits - 1) && (high == 0 || high == -1);
    } else {
      return last >> bits == 0;
    }
  }
  // The address of which `a` holds the translated bits: bits above them repeat the highest one where
  // the format's addresses are sign-extended, and are zero otherwise.
  [[nodiscard]] static constexpr std::uint64_t canonical(const F& f, std::uint64_t a) noexcept {
    if constexpr (F::sign_extended) {
      const unsigned above = 64 - f.input_bits();
      return static_cast<std::uint64_t>(static_cast<std::int64_t>(a << above) >> above);
    } else {
      return a;
    }
  }
  // Bit n: pages of 2^n bytes exist.
  [[nodiscard]] static constexpr std::uint64_t page_sizes(const F& f) noexcept {
    std::uint64_t sizes = 0;
    for (unsigned level = 0; level <= f.top_level(); ++level) {
      if (!f.leaf_allowed(level)) continue;
      sizes |= (std::uint64_t{1} | f.orders(level)) << shift(level);
    }
    return sizes;
  }
};

}  // namespace phasebit::iommu
