// SPDX-License-Identifier: BSL-1.0
// VT-d in scalable mode: root, context and PASID tables, as layouts of a device table.
#pragma once

#include <phasebit/iommu/device_table/layout.hpp>
#include <phasebit/iommu/vtd/spec/scalable_tables.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::vtd {

// The same with two context tables per bus, selected by the device number's highest bit (9.2): a
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

}  // namespace phasebit::iommu::vtd
