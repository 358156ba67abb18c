// SPDX-License-Identifier: BSL-1.0
// The concept of a page-table format. The algorithm of page_table.hpp is written once, over it.
#pragma once

#include <phasebit/memory/translate.hpp>

#include <concepts>
#include <cstdint>
#include <optional>

namespace phasebit::iommu {

// How the target is cached. Formats that leave this to the device or to another stage have
// write_back alone.
enum class memory_type : std::uint8_t { write_back, uncached, device };

// The attributes of a mapping. A format refuses those that it cannot express.
struct page_attributes {
  access permission = access::read_write;
  bool execute = false;
  memory_type memory = memory_type::write_back;
  bool coherent = false;  // force the device's accesses to snoop caches (VT-d SNP, AMD FC)

  friend constexpr bool operator==(page_attributes, page_attributes) noexcept = default;
};

// A format is a small value: constants of the architecture, and implementation choices (width,
// optional features). Level 0 is the lowest; a table of level n has entries that cover 2^shift(n)
// bytes each. An entry with no bit of present_mask is absent whatever its other bits are, and all
// of present_mask lies in the low 12 bits.
//
//     granule_shift           log2 of a table's size, which is that of the smallest page
//     present_mask
//     top_level(), input_bits()
//     leaf_allowed(level)     map() makes leaves there
//     is_leaf(e, level)       e is present
//     leaf_shift(e, level)    log2 of the page that this leaf belongs to, or 0: the entry is malformed
//     table_valid(e, level)   false: reserved bits are set, or the next level is invalid
//     table_address(e)
//     permissions(e)          of a leaf: bit 0 read, bit 1 write
//     make_table(at, level)   the entry of a table of this level that points at a table
//     make_leaf(at, level, order, bits)   one of 2^order leaves that form a page at `at`
//     attribute_bits(a)       nullopt where the format cannot express it
//     attributes(e)
//     state_bits(e)           the bits that make_leaf needs to give another page the attributes,
//                             accessed and dirty state of e
//
// These are all that a format must have. page_format defines defaults for the others.
template <class F>
concept PageTableFormat = requires(const F f, std::uint64_t e, unsigned level, page_attributes a) {
  { F::granule_shift } -> std::convertible_to<unsigned>;
  { F::present_mask } -> std::convertible_to<std::uint64_t>;
  { f.top_level() } noexcept -> std::same_as<unsigned>;
  { f.input_bits() } noexcept -> std::same_as<unsigned>;
  { f.leaf_allowed(level) } noexcept -> std::same_as<bool>;
  { f.is_leaf(e, level) } noexcept -> std::same_as<bool>;
  { f.leaf_shift(e, level) } noexcept -> std::same_as<unsigned>;
  { f.table_valid(e, level) } noexcept -> std::same_as<bool>;
  { f.table_address(e) } noexcept -> std::same_as<std::uint64_t>;
  { f.permissions(e) } noexcept -> std::same_as<unsigned>;
  { f.make_table(e, level) } noexcept -> std::same_as<std::uint64_t>;
  { f.make_leaf(e, level, level, e) } noexcept -> std::same_as<std::uint64_t>;
  { f.attribute_bits(a) } noexcept -> std::same_as<std::optional<std::uint64_t>>;
  { f.attributes(e) } noexcept -> std::same_as<page_attributes>;
  { f.state_bits(e) } noexcept -> std::same_as<std::uint64_t>;
};

// A format with everything that the algorithm uses: what F has itself, and documented defaults.
template <PageTableFormat F>
struct page_format : F {
  constexpr page_format(const F& f) noexcept : F(f) {}

  // Several neighbouring leaves may form one page: F has orders(level), whose bit k stands for 2^k
  // leaves of this level.
  static constexpr bool contiguous = requires(const F& f) { f.orders(0U); };
  // Each of them holds its own address (Arm); by default all hold the same word.
  static constexpr bool items_differ = requires { requires F::items_differ; };
  // Addresses repeat their highest translated bit above it; by default these bits are zero.
  static constexpr bool sign_extended = requires { requires F::sign_extended; };

  // Width of output addresses. Default: the member address_bits.
  [[nodiscard]] constexpr unsigned output_bits() const noexcept {
    if constexpr (requires(const F& f) { f.output_bits(); }) {
      return F::output_bits();
    } else {
      return F::address_bits;
    }
  }
  [[nodiscard]] constexpr std::uint32_t orders(unsigned level) const noexcept {
    if constexpr (contiguous) {
      return F::orders(level);
    } else {
      static_cast<void>(level);
      return 0;
    }
  }
  // Whether a leaf of the lowest level is one of several that form a page. Default: by leaf_shift.
  [[nodiscard]] constexpr bool joined(std::uint64_t e) const noexcept {
    if constexpr (requires(const F& f) { f.joined(e); }) {
      return F::joined(e);
    } else if constexpr (contiguous) {
      return F::leaf_shift(e, 0) > F::granule_shift;
    } else {
      static_cast<void>(e);
      return false;
    }
  }
  // Address of a leaf whose page has 2^shift bytes. Default: table_address without the bits below.
  [[nodiscard]] constexpr std::uint64_t leaf_address(std::uint64_t e,
                                                     unsigned shift) const noexcept {
    if constexpr (requires(const F& f) { f.leaf_address(e, shift); }) {
      return F::leaf_address(e, shift);
    } else {
      return F::table_address(e) & ~((std::uint64_t{1} << shift) - 1);
    }
  }
  // Level of the table that an entry points at, below `level`. Default: the next one.
  [[nodiscard]] constexpr unsigned next_level(std::uint64_t e, unsigned level) const noexcept {
    if constexpr (requires(const F& f) { f.next_level(e, level); }) {
      return F::next_level(e, level);
    } else {
      static_cast<void>(e);
      return level - 1;
    }
  }
  // (e & plain_mask()) == make_table(0, level) for no e but valid table entries that permit
  // everything and whose next level is level - 1: walks take them with one comparison. Default: none.
  [[nodiscard]] constexpr std::uint64_t plain_mask() const noexcept {
    if constexpr (requires(const F& f) { f.plain_mask(); }) {
      return F::plain_mask();
    } else {
      return ~std::uint64_t{0};
    }
  }
  // The permissions that a table entry grants to the leaves below it. Default: everything.
  [[nodiscard]] constexpr unsigned passes(std::uint64_t e) const noexcept {
    if constexpr (requires(const F& f) { f.passes(e); }) {
      return F::passes(e);
    } else {
      static_cast<void>(e);
      return 3;
    }
  }
  // e with the permissions out of attribute bits `bits`, dirty state kept. Default: those under
  // permission_mask are replaced.
  [[nodiscard]] constexpr std::uint64_t with_permissions(std::uint64_t e,
                                                         std::uint64_t bits) const noexcept {
    if constexpr (requires(const F& f) { f.with_permissions(e, bits); }) {
      return F::with_permissions(e, bits);
    } else {
      return (e & ~F::permission_mask) | (bits & F::permission_mask);
    }
  }
  // Whether hardware records accesses and writes in these tables. Default: the member track_dirty.
  [[nodiscard]] constexpr bool tracks_dirty() const noexcept {
    if constexpr (requires(const F& f) { f.tracks_dirty(); }) {
      return F::tracks_dirty();
    } else {
      return F::track_dirty;
    }
  }
  // Default: the bit dirty_bit.
  [[nodiscard]] constexpr bool dirty(std::uint64_t e) const noexcept {
    if constexpr (requires(const F& f) { f.dirty(e); }) {
      return F::dirty(e);
    } else {
      return (e & F::dirty_bit) != 0;
    }
  }
  [[nodiscard]] constexpr std::uint64_t cleaned(std::uint64_t e) const noexcept {
    if constexpr (requires(const F& f) { f.cleaned(e); }) {
      return F::cleaned(e);
    } else {
      return e & ~F::dirty_bit;
    }
  }
  // A leaf after an access that it permits, as hardware leaves it. Default: accessed_bit and, after a
  // write, dirty_bit, where tracks_dirty().
  [[nodiscard]] constexpr std::uint64_t after_access(std::uint64_t e, bool written) const noexcept {
    if constexpr (requires(const F& f) { f.after_access(e, written); }) {
      return F::after_access(e, written);
    } else {
      if (!tracks_dirty()) return e;
      return e | F::accessed_bit | (written ? F::dirty_bit : 0);
    }
  }
  // The same of an entry that points at a table. Default: as it was.
  static constexpr bool marks_tables =
      requires(const F& f, std::uint64_t e) { f.table_after_access(e); };
  [[nodiscard]] constexpr std::uint64_t table_after_access(std::uint64_t e) const noexcept {
    if constexpr (marks_tables) {
      return F::table_after_access(e);
    } else {
      return e;
    }
  }
  // A live entry may not be replaced by one of another size or memory type without being absent,
  // and flushed, in between. Default: it may.
  [[nodiscard]] constexpr bool break_before_make() const noexcept {
    if constexpr (requires(const F& f) { f.break_before_make(); }) {
      return F::break_before_make();
    } else {
      return false;
    }
  }
};

// Where entries lie, for every format alike: a table is one granule of 8-byte words.
template <PageTableFormat F>
struct table_geometry {
  using format = page_format<F>;
  static constexpr unsigned index_bits = F::granule_shift - 3;
  static constexpr unsigned entries = 1U << index_bits;
  static constexpr std::size_t table_bytes = std::size_t{1} << F::granule_shift;

  [[nodiscard]] static constexpr unsigned shift(unsigned level) noexcept {
    return F::granule_shift + level * index_bits;
  }
  [[nodiscard]] static constexpr std::uint64_t span(unsigned level) noexcept {
    return std::uint64_t{1} << shift(level);
  }
  // The difference between the entries of neighbouring pages: the span, encoded as the format
  // encodes addresses.
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
    if constexpr (format::sign_extended) {
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
    if constexpr (format::sign_extended) {
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
      sizes |= (std::uint64_t{1} | format{f}.orders(level)) << shift(level);
    }
    return sizes;
  }
};

}  // namespace phasebit::iommu
