// SPDX-License-Identifier: BSL-1.0
// VT-d in legacy mode: root and context tables, as a layout of a device table.
#pragma once

#include <phasebit/iommu/device_table/layout.hpp>
#include <phasebit/iommu/vtd/spec/tables.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::vtd {

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

}  // namespace phasebit::iommu::vtd
