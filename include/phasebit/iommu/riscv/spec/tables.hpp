// SPDX-License-Identifier: BSL-1.0
// RISC-V's device directory and MSI page tables (RISC-V IOMMU architecture specification 1.0,
// chapter 2; Advanced Interrupt Architecture 1.0, chapter 9).
#pragma once

#include <phasebit/iommu/device_table/entry.hpp>
#include <phasebit/iommu/page_table/formats/riscv.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::riscv {

// ddtp.iommu_mode (5.5).
enum class directory_mode : std::uint8_t {
  off = 0,   // nothing is let through
  bare = 1,  // nothing is translated
  one_level = 2,
  two_levels = 3,
  three_levels = 4,
};

// iohgatp.MODE (2.1.3.2).
enum class gatp_mode : std::uint8_t { bare = 0, sv39x4 = 8, sv48x4 = 9, sv57x4 = 10 };

// msiptp.MODE (2.1.3.5).
enum class msi_table_mode : std::uint8_t { off = 0, flat = 1 };

// How many bits of the device id the levels of the directory translate, lowest first (2.1): leaves
// of 32 bytes (base format) or 64 (extended, with capabilities.MSI_FLAT).
struct directory_geometry {
  unsigned bits[3] = {7, 9, 8};
  std::size_t leaf_words = 4;

  [[nodiscard]] static constexpr directory_geometry of(bool extended) noexcept {
    return extended ? directory_geometry{{6, 9, 9}, 8} : directory_geometry{};
  }
};

// 2.1.1: non-leaf entry of the directory.
struct directory_entry : table_entry<directory_entry, 1> {
  static constexpr entry_field<0> v{};
  static constexpr entry_field<53, 10> ppn{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[1] = {decltype(v)::mask | decltype(ppn)::mask};

  [[nodiscard]] static constexpr directory_entry at(std::uint64_t table) noexcept {
    PHASEBIT_EXPECTS((table & 0xfff) == 0, "a directory table is a page");
    return directory_entry{}.with(v, true).with(ppn, table >> 12);
  }
};
static_assert(WireStruct<directory_entry> && sizeof(directory_entry) == 8);

// 2.1.3: the device context. The base format is its first half.
struct device_context : table_entry<device_context, 8> {
  static constexpr entry_field<0> v{};
  static constexpr entry_field<1> en_ats{};
  static constexpr entry_field<2> en_pri{};
  static constexpr entry_field<3> t2gpa{};
  static constexpr entry_field<4> dtf{};   // faults of translation are not reported
  static constexpr entry_field<5> pdtv{};  // fsc points at a process directory
  static constexpr entry_field<6> prpr{};
  static constexpr entry_field<7> gade{};  // hardware sets A and D, second stage
  static constexpr entry_field<8> sade{};
  static constexpr entry_field<9> dpe{};
  static constexpr entry_field<10> sbe{};
  static constexpr entry_field<11> sxl{};
  static constexpr entry_field<31, 24> custom{};
  static constexpr entry_field<107, 64> iohgatp_ppn{};
  static constexpr entry_field<123, 108> gscid{};
  static constexpr entry_field<127, 124, gatp_mode> iohgatp_mode{};
  static constexpr entry_field<159, 140> pscid{};
  static constexpr entry_field<179, 168> rcid{};
  static constexpr entry_field<191, 180> mcid{};
  static constexpr entry_field<235, 192> fsc_ppn{};
  static constexpr entry_field<255, 252> fsc_mode{};
  static constexpr entry_field<299, 256> msiptp_ppn{};
  static constexpr entry_field<319, 316, msi_table_mode> msiptp_mode{};
  static constexpr entry_field<371, 320> msi_addr_mask{};
  static constexpr entry_field<435, 384> msi_addr_pattern{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  static constexpr std::uint64_t known[8] = {
      0xfff | decltype(custom)::mask,
      ~std::uint64_t{0},
      decltype(pscid)::mask | decltype(rcid)::mask | decltype(mcid)::mask,
      decltype(fsc_ppn)::mask | decltype(fsc_mode)::mask,
      decltype(msiptp_ppn)::mask | decltype(msiptp_mode)::mask,
      decltype(msi_addr_mask)::mask,
      decltype(msi_addr_pattern)::mask,
      0};

  // Second stage only. The root is 16 KiB, aligned so.
  [[nodiscard]] static constexpr device_context translated(std::uint64_t page_table,
                                                           riscv_mode mode,
                                                           std::uint16_t domain) noexcept {
    PHASEBIT_EXPECTS((page_table & 0x3fff) == 0, "a second-stage root is aligned to 16 KiB");
    return pass_through()
        .with(iohgatp_ppn, page_table >> 12)
        .with(gscid, domain)
        .with(iohgatp_mode, static_cast<gatp_mode>(static_cast<unsigned>(mode) + 6));
  }
  // Neither stage.
  [[nodiscard]] static constexpr device_context pass_through() noexcept {
    return device_context{}.with(v, true);
  }
  // The same with a flat MSI page table: addresses whose page number equals `pattern` outside
  // `mask` are interrupt files, numbered by their bits under it.
  [[nodiscard]] constexpr device_context with_msi_table(std::uint64_t table, std::uint64_t mask,
                                                        std::uint64_t pattern) const noexcept {
    PHASEBIT_EXPECTS((table & 0xfff) == 0, "an MSI page table is aligned to 4 KiB");
    return with(msiptp_ppn, table >> 12)
        .with(msiptp_mode, msi_table_mode::flat)
        .with(msi_addr_mask, mask)
        .with(msi_addr_pattern, pattern);
  }
};
static_assert(WireStruct<device_context> && sizeof(device_context) == 64);

// The first half, for IOMMUs without capabilities.MSI_FLAT.
struct base_device_context : table_entry<base_device_context, 4> {
  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;

  [[nodiscard]] static constexpr base_device_context of(const device_context& c) noexcept {
    return base_device_context{{{c.words[0], c.words[1], c.words[2], c.words[3]}}};
  }
  [[nodiscard]] constexpr device_context extended() const noexcept {
    return device_context{{{words[0], words[1], words[2], words[3], 0U, 0U, 0U, 0U}}};
  }
};
static_assert(WireStruct<base_device_context> && sizeof(base_device_context) == 32);

// AIA 9.5: an MSI page table entry, 16 bytes.
struct msi_entry : table_entry<msi_entry, 2> {
  static constexpr entry_field<0> v{};
  static constexpr entry_field<2, 1> m{};  // 3: to an interrupt file; 1: to one in memory (MRIF)
  static constexpr entry_field<53, 10> ppn{};
  static constexpr entry_field<63> c{};

  static constexpr std::size_t gate = 0;
  static constexpr bool closed_is_absent = true;
  static constexpr std::uint64_t closed = 0;
  static constexpr std::uint64_t gate_mask = 1;
  // Of the first word; the second is software's where M is 3.
  static constexpr std::uint64_t known_basic =
      decltype(v)::mask | decltype(m)::mask | decltype(ppn)::mask;
  static constexpr std::uint8_t basic = 3;
  static constexpr std::uint8_t mrif = 1;

  [[nodiscard]] static constexpr msi_entry to_file(std::uint64_t page) noexcept {
    PHASEBIT_EXPECTS((page & 0xfff) == 0, "an interrupt file is a page");
    return msi_entry{}.with(v, true).with(m, basic).with(ppn, page >> 12);
  }
};
static_assert(WireStruct<msi_entry> && sizeof(msi_entry) == 16);

}  // namespace phasebit::iommu::riscv
