// SPDX-License-Identifier: BSL-1.0
// One machine per architecture: tables that a driver built, and a remapper that walks them.
#pragma once

#include <phasebit/iommu/amd/translation.hpp>
#include <phasebit/iommu/device_table/device_table.hpp>
#include <phasebit/iommu/page_table/page_table.hpp>
#include <phasebit/iommu/page_table/table_arena.hpp>
#include <phasebit/iommu/riscv/translation.hpp>
#include <phasebit/iommu/smmuv3/translation.hpp>
#include <phasebit/iommu/translation/remapper.hpp>
#include <phasebit/iommu/vtd/translation.hpp>

#include <cstdlib>
#include <memory>

namespace phasebit::remapper_cases {

using namespace iommu;

struct store {
  static constexpr std::size_t pages = 256;
  static constexpr std::uint64_t base = 0x12'0000'0000;
  using arena_type = table_arena<pages>;

  std::unique_ptr<std::byte, decltype(&std::free)> bytes{
      static_cast<std::byte*>(std::aligned_alloc(1 << 17, pages << 12)), &std::free};
  arena_type arena{{bytes.get(), pages << 12}, host_phys{base}};

  // Words by their address, to break them.
  [[nodiscard]] table_word* words(std::uint64_t at) noexcept {
    return reinterpret_cast<table_word*>(bytes.get() + (at - base));
  }
};

struct vtd_legacy {
  static constexpr auto too_wide = fault_reason::beyond_width;
  using architecture = vtd::remapping;
  using format = vtd_second_stage;
  using layout = vtd::legacy_tables;
  static constexpr format page_format{};
  static constexpr layout tables{};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return vtd::context_entry::translated(root, page_format.width, domain);
  }
  static layout::entry pass() noexcept {
    return vtd::context_entry::pass_through(vtd_width::bits_48, 9);
  }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a;
    a.enabled = true;
    a.root = root;
    return a;
  }
};

struct amd_linear {
  static constexpr auto too_wide = fault_reason::beyond_width;
  using architecture = amd::remapping;
  using format = amd_v1;
  using layout = amd::linear_device_table;
  static constexpr format page_format{};
  static constexpr layout tables{.log2_entries = 12};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return amd::device_table_entry::translated(root, page_format.mode, domain);
  }
  static layout::entry pass() noexcept { return amd::device_table_entry::pass_through(9); }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a;
    a.enabled = true;
    a.device_table = root;
    a.size_field = 31;  // 4096 entries
    return a;
  }
};

struct smmu_two_level {
  static constexpr auto too_wide = fault_reason::page_beyond;
  using architecture = smmuv3::remapping;
  using format = arm_stage2<12>;
  using layout = smmuv3::two_level_stream_table;
  static constexpr format page_format{.ipa_bits = 40, .address_bits = 44};
  static constexpr layout tables{};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return smmuv3::stream_table_entry::translated(smmuv3::stage2_of(page_format, root, domain));
  }
  static layout::entry pass() noexcept { return smmuv3::stream_table_entry::bypass(); }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a;
    a.enabled = true;
    a.stream_table = root;
    a.split = tables.split;
    return a;
  }
};

struct smmu_linear : smmu_two_level {
  using layout = smmuv3::linear_stream_table;
  static constexpr layout tables{.log2_entries = 11};
  static architecture settings(std::uint64_t root) noexcept {
    architecture a = smmu_two_level::settings(root);
    a.split = 0;
    a.log2_streams = tables.log2_entries;
    return a;
  }
};

struct riscv_extended {
  static constexpr auto too_wide = fault_reason::beyond_width;
  using architecture = riscv::remapping;
  using format = riscv_second_stage;
  using layout = riscv::extended_directory;
  static constexpr format page_format{};
  static constexpr layout tables{riscv::directory_mode::three_levels};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return riscv::device_context::translated(root, page_format.mode, domain);
  }
  static layout::entry pass() noexcept { return riscv::device_context::pass_through(); }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a;
    a.mode = tables.mode;
    a.directory = root;
    return a;
  }
};

struct riscv_base : riscv_extended {
  using layout = riscv::base_directory;
  static constexpr layout tables{riscv::directory_mode::two_levels};
  static layout::entry entry(std::uint64_t root, std::uint16_t domain) noexcept {
    return riscv::base_device_context::of(riscv_extended::entry(root, domain));
  }
  static layout::entry pass() noexcept {
    return riscv::base_device_context::of(riscv_extended::pass());
  }
  static architecture settings(std::uint64_t root) noexcept {
    architecture a = riscv_extended::settings(root);
    a.mode = tables.mode;
    a.msi_flat = false;
    return a;
  }
};

// Tables for one device, an IOMMU over them, and its last faults.
template <class Case>
struct machine {
  using arena = store::arena_type;
  using page_tables = page_table<typename Case::format, arena>;
  using devices = device_table<typename Case::layout, arena>;
  using iommu_type = remapper<typename Case::architecture, arena, fault_history<>>;

  static constexpr pcie::requester_id disk{4, 1, 2};  // 04:01.2
  static constexpr std::uint16_t domain = 77;

  store memory;
  page_tables pages = *page_tables::create(Case::page_format, memory.arena);
  devices table = *devices::create(Case::tables, memory.arena);
  fault_history<> faults;
  iommu_type iommu{memory.arena, faults, Case::settings(table.root().value())};

  machine() noexcept {
    PHASEBIT_EXPECTS(table.set(disk.raw(), Case::entry(pages.root().value(), domain)).has_value(),
                     "the entry fits");
  }
  [[nodiscard]] auto read(std::uint64_t a, std::uint64_t bytes = 64) noexcept {
    return iommu.translate(disk, bus_addr{a}, bytes, access::read);
  }
  [[nodiscard]] auto write(std::uint64_t a, std::uint64_t bytes = 64) noexcept {
    return iommu.translate(disk, bus_addr{a}, bytes, access::write);
  }
};

}  // namespace phasebit::remapper_cases
