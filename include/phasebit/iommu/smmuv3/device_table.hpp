// SPDX-License-Identifier: BSL-1.0
// SMMUv3's stream tables, as layouts of a device table.
#pragma once

#include <phasebit/iommu/device_table/layout.hpp>
#include <phasebit/iommu/smmuv3/spec/tables.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::smmuv3 {

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

}  // namespace phasebit::iommu::smmuv3
