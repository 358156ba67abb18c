// SPDX-License-Identifier: BSL-1.0
// Which bits of a requester id each level of the directories translates, per architecture.
#pragma once

#include <phasebit/iommu/page_table_view.hpp>
#include <phasebit/iommu/spec/amd_tables.hpp>
#include <phasebit/iommu/spec/riscv_tables.hpp>
#include <phasebit/iommu/spec/smmuv3_tables.hpp>
#include <phasebit/iommu/spec/vtd_tables.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace phasebit::iommu {

// What an entry of a directory above the leaves says: mapped, absent or malformed; where the table
// below lies, and how many entries of it there are where it may be short.
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

namespace vtd {

// Root table by bus, context table by device and function (9.1, 9.3).
struct legacy_tables {
  using entry = context_entry;
  [[nodiscard]] static constexpr unsigned levels() noexcept { return 2; }
  [[nodiscard]] static constexpr unsigned id_bits() noexcept { return 16; }
  [[nodiscard]] static constexpr unsigned bits(unsigned) noexcept { return 8; }
  [[nodiscard]] static constexpr std::uint32_t index(std::uint32_t id, unsigned level) noexcept {
    return iommu::detail::bits_at(id, 8 * level, 8);
  }
  [[nodiscard]] static constexpr std::size_t words(unsigned) noexcept { return 2; }
  [[nodiscard]] static directory_link link(const table_word* at, unsigned) noexcept {
    return iommu::detail::page_link<root_entry>(at, root_entry::ctp);
  }
  static void set_link(table_word* at, unsigned, std::uint64_t table) noexcept {
    iommu::detail::publish(at, root_entry::at(table));
  }
};
static_assert(DeviceTableLayout<legacy_tables>);

// The same with two context tables per bus, told apart by the device number's highest bit (9.2): a
// table of 512 halves of root entries.
struct scalable_tables {
  using entry = scalable_context_entry;
  [[nodiscard]] static constexpr unsigned levels() noexcept { return 2; }
  [[nodiscard]] static constexpr unsigned id_bits() noexcept { return 16; }
  [[nodiscard]] static constexpr unsigned bits(unsigned level) noexcept {
    return level == 0 ? 7 : 9;
  }
  [[nodiscard]] static constexpr std::uint32_t index(std::uint32_t id, unsigned level) noexcept {
    return iommu::detail::bits_at(id, 7 * level, bits(level));
  }
  [[nodiscard]] static constexpr std::size_t words(unsigned level) noexcept {
    return level == 0 ? 4 : 1;
  }
  [[nodiscard]] static directory_link link(const table_word* at, unsigned) noexcept {
    return iommu::detail::page_link<scalable_root_half>(at, scalable_root_half::ctp);
  }
  static void set_link(table_word* at, unsigned, std::uint64_t table) noexcept {
    iommu::detail::publish(at, scalable_root_half::at(table));
  }
};
static_assert(DeviceTableLayout<scalable_tables>);

// PASID directory and PASID tables (9.5, 9.6), whose ids are PASIDs. `directory_bits` is PDTS + 7.
struct pasid_tables {
  using entry = pasid_entry;
  unsigned directory_bits = 7;

  [[nodiscard]] static constexpr unsigned levels() noexcept { return 2; }
  [[nodiscard]] constexpr unsigned id_bits() const noexcept { return 6 + directory_bits; }
  [[nodiscard]] constexpr unsigned bits(unsigned level) const noexcept {
    return level == 0 ? 6 : directory_bits;
  }
  [[nodiscard]] constexpr std::uint32_t index(std::uint32_t id, unsigned level) const noexcept {
    return iommu::detail::bits_at(id, 6 * level, bits(level));
  }
  [[nodiscard]] static constexpr std::size_t words(unsigned level) noexcept {
    return level == 0 ? 8 : 1;
  }
  [[nodiscard]] static directory_link link(const table_word* at, unsigned) noexcept {
    return iommu::detail::page_link<pasid_directory_entry>(at, pasid_directory_entry::smptblptr);
  }
  static void set_link(table_word* at, unsigned, std::uint64_t table) noexcept {
    iommu::detail::publish(at, pasid_directory_entry::at(table));
  }
};
static_assert(DeviceTableLayout<pasid_tables>);

}  // namespace vtd

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

namespace amd {
using linear_device_table = linear_table<device_table_entry>;
static_assert(DeviceTableLayout<linear_device_table>);
}  // namespace amd

namespace smmuv3 {
using linear_stream_table = linear_table<stream_table_entry>;
static_assert(DeviceTableLayout<linear_stream_table>);

// STRTAB_BASE_CFG.FMT = 1 (5.1): descriptors of level 2 tables of up to 2^split entries, split 6, 8
// or 10.
struct two_level_stream_table {
  using entry = stream_table_entry;
  unsigned log2_entries = 16;
  unsigned split = 8;

  [[nodiscard]] static constexpr unsigned levels() noexcept { return 2; }
  [[nodiscard]] constexpr unsigned id_bits() const noexcept { return log2_entries; }
  [[nodiscard]] constexpr unsigned bits(unsigned level) const noexcept {
    return level == 0 ? split : log2_entries - split;
  }
  [[nodiscard]] constexpr std::uint32_t index(std::uint32_t id, unsigned level) const noexcept {
    return level == 0 ? id & ((1U << split) - 1) : id >> split;
  }
  [[nodiscard]] static constexpr std::size_t words(unsigned level) noexcept {
    return level == 0 ? stream_table_entry::word_count : 1;
  }
  [[nodiscard]] directory_link link(const table_word* at, unsigned) const noexcept {
    const auto e = load_entry_words<level1_descriptor>(at);
    const unsigned span = e[level1_descriptor::span];
    if (span == 0) return {};
    // A span beyond the split is reserved, and behaves as 0 does.
    if (span > split + 1) return {};
    // The address is aligned to the table by hardware: lower bits are not looked at.
    const std::uint64_t size = std::uint64_t{64} << (span - 1);
    return {.status = walk_status::mapped,
            .table = e.address(level1_descriptor::l2ptr) & ~(size - 1),
            .entries = 1U << (span - 1)};
  }
  void set_link(table_word* at, unsigned, std::uint64_t table) const noexcept {
    iommu::detail::publish(at, level1_descriptor::at(table, split));
  }
};
static_assert(DeviceTableLayout<two_level_stream_table>);
}  // namespace smmuv3

namespace riscv {

// The device directory (2.1), Context being device_context (extended format) or its first half.
template <class Context>
struct device_directory {
  using entry = Context;
  directory_mode mode = directory_mode::two_levels;

  static constexpr directory_geometry geometry =
      directory_geometry::of(Context::word_count == device_context::word_count);

  [[nodiscard]] constexpr unsigned levels() const noexcept {
    return static_cast<unsigned>(mode) - 1;
  }
  [[nodiscard]] constexpr unsigned id_bits() const noexcept { return low(levels()); }
  [[nodiscard]] static constexpr unsigned bits(unsigned level) noexcept {
    return geometry.bits[level];
  }
  [[nodiscard]] static constexpr std::uint32_t index(std::uint32_t id, unsigned level) noexcept {
    return iommu::detail::bits_at(id, low(level), bits(level));
  }
  [[nodiscard]] static constexpr std::size_t words(unsigned level) noexcept {
    return level == 0 ? Context::word_count : 1;
  }
  [[nodiscard]] static directory_link link(const table_word* at, unsigned) noexcept {
    const auto e = load_entry_words<directory_entry>(at);
    if (!e[directory_entry::v]) return {};
    if (e.has_other_bits(directory_entry::known)) return {.status = walk_status::malformed};
    return {.status = walk_status::mapped, .table = e[directory_entry::ppn] << 12};
  }
  static void set_link(table_word* at, unsigned, std::uint64_t table) noexcept {
    iommu::detail::publish(at, directory_entry::at(table));
  }

 private:
  [[nodiscard]] static constexpr unsigned low(unsigned level) noexcept {
    unsigned sum = 0;
    for (unsigned i = 0; i != level && i != 3; ++i) sum += geometry.bits[i];
    return sum;
  }
};
using base_directory = device_directory<base_device_context>;
using extended_directory = device_directory<device_context>;
static_assert(DeviceTableLayout<base_directory> && DeviceTableLayout<extended_directory>);

}  // namespace riscv

}  // namespace phasebit::iommu
