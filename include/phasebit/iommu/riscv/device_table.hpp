// SPDX-License-Identifier: BSL-1.0
// RISC-V's device directories, as layouts of a device table.
#pragma once

#include <phasebit/iommu/device_table/layout.hpp>
#include <phasebit/iommu/riscv/spec/tables.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::riscv {

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
    return geometry.bits[level < 3 ? level : 2];
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
    return (level > 0 ? geometry.bits[0] : 0) + (level > 1 ? geometry.bits[1] : 0) +
           (level > 2 ? geometry.bits[2] : 0);
  }
};
using base_directory = device_directory<base_device_context>;
using extended_directory = device_directory<device_context>;
static_assert(DeviceTableLayout<base_directory> && DeviceTableLayout<extended_directory>);

}  // namespace phasebit::iommu::riscv
