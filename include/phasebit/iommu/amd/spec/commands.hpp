// SPDX-License-Identifier: BSL-1.0
// Commands of the AMD IOMMU's command buffer: 48882, 2.4. Each is four 32-bit words in the figures;
// here two of 64 bits, and fields of the second and fourth word are 32 higher.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::amd {

struct command_entry {
  le<std::uint64_t> qw0;
  le<std::uint64_t> qw1;
};
static_assert(WireStruct<command_entry> && sizeof(command_entry) == 16 &&
              alignof(command_entry) == 8);
static_assert(offsetof(command_entry, qw0) == 0 && offsetof(command_entry, qw1) == 8);

enum class opcode : std::uint8_t {
  completion_wait = 1,             // 2.4.1
  invalidate_devtab_entry = 2,     // 2.4.2
  invalidate_iommu_pages = 3,      // 2.4.3
  invalidate_iotlb_pages = 4,      // 2.4.4
  invalidate_interrupt_table = 5,  // 2.4.5
  prefetch_iommu_pages = 6,        // 2.4.6
  complete_ppr_request = 7,        // 2.4.7
  invalidate_iommu_all = 8,        // 2.4.8
};
inline constexpr field<63, 60> opcode_bits{};

struct completion_wait {
  static constexpr field<0> s{};  // store the data
  static constexpr field<1> i{};  // interrupt
  static constexpr field<2> f{};  // later commands wait until this one is done
  static constexpr std::uint64_t store_address = 0x000f'ffff'ffff'fff8;
  static constexpr std::uint64_t reserved0 = 0x0ff0'0000'0000'0000;
  // Word 1 is the data.
};

struct invalidate_devtab_entry {
  static constexpr field<15, 0> device_id{};
  static constexpr std::uint64_t reserved0 = 0x0fff'ffff'ffff'0000;
};

// The size of the range: with S, the run of ones from bit 12 of the address up and the zero that ends
// it, as in an ATS Invalidate Request; without, one page of 4 KiB.
struct invalidate_iommu_pages {
  static constexpr field<19, 0> pasid{};  // with GN
  static constexpr field<47, 32> domain_id{};
  static constexpr std::uint64_t reserved0 = 0x0fff'0000'fff0'0000;
  static constexpr field<0> s{};
  static constexpr field<1> pde{};  // cached directory entries, too
  static constexpr field<2> gn{};   // guest (first-stage) translations of the PASID
  static constexpr field<63, 12> address{};
  static constexpr std::uint64_t reserved1 = 0xff8;
};
// With S: every page.
inline constexpr std::uint64_t all_pages = 0x7fff'ffff'ffff'f000;

struct invalidate_iotlb_pages {
  static constexpr field<15, 0> device_id{};
  static constexpr field<23, 16> pasid_15_8{};
  static constexpr field<31, 24> maxpend{};  // most invalidations the device takes at once
  static constexpr field<47, 32> queue_id{};
  static constexpr field<55, 48> pasid_7_0{};
  static constexpr field<59, 56> pasid_19_16{};
  static constexpr std::uint64_t reserved0 = 0;
  static constexpr field<0> s{};
  static constexpr field<2> gn{};
  static constexpr field<63, 12> address{};
  static constexpr std::uint64_t reserved1 = 0xffa;
};

struct invalidate_interrupt_table {
  static constexpr field<15, 0> device_id{};
  static constexpr std::uint64_t reserved0 = 0x0fff'ffff'ffff'0000;
};

// The IOMMU may ignore it.
struct prefetch_iommu_pages {
  static constexpr field<15, 0> device_id{};
  static constexpr field<31, 24> count{};
  static constexpr field<51, 32> pasid{};
};

// Response code: 0 success, 1 invalid request, 15 failure.
struct complete_ppr_request {
  static constexpr field<15, 0> device_id{};
  static constexpr field<51, 32> pasid{};
  static constexpr std::uint64_t reserved0 = 0x0ff0'0000'ffff'0000;
  static constexpr field<2> gn{};
  static constexpr field<40, 32> tag{};
  static constexpr field<47, 44> response{};
  static constexpr std::uint64_t reserved1 = 0xffff'0e00'ffff'fffb;
};

struct invalidate_iommu_all {
  static constexpr std::uint64_t reserved0 = 0x0fff'ffff'ffff'ffff;
};

}  // namespace phasebit::iommu::amd
