// SPDX-License-Identifier: BSL-1.0
// Descriptors of VT-d's invalidation queue: VT-d 4.1, 6.5.2. Field numbers are those of the 64-bit
// words the figures print.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/core/wire.hpp>

#include <cstddef>
#include <cstdint>

namespace phasebit::iommu::vtd {

// The descriptor of 128 bits (IQA.DW = 0).
struct invalidation_descriptor {
  le<std::uint64_t> qw0;
  le<std::uint64_t> qw1;
};
static_assert(WireStruct<invalidation_descriptor> && sizeof(invalidation_descriptor) == 16 &&
              alignof(invalidation_descriptor) == 8);
static_assert(offsetof(invalidation_descriptor, qw0) == 0 &&
              offsetof(invalidation_descriptor, qw1) == 8);

// The descriptor of 256 bits (IQA.DW = 1, scalable mode). Words 2 and 3 are reserved in all types
// but the page group response.
struct wide_invalidation_descriptor {
  le<std::uint64_t> qw0;
  le<std::uint64_t> qw1;
  le<std::uint64_t> qw2;
  le<std::uint64_t> qw3;
};
static_assert(WireStruct<wide_invalidation_descriptor> &&
              sizeof(wide_invalidation_descriptor) == 32 &&
              alignof(wide_invalidation_descriptor) == 8);
static_assert(offsetof(wide_invalidation_descriptor, qw0) == 0 &&
              offsetof(wide_invalidation_descriptor, qw1) == 8 &&
              offsetof(wide_invalidation_descriptor, qw2) == 16 &&
              offsetof(wide_invalidation_descriptor, qw3) == 24);

// The type is 7 bits in two parts; all defined types have zeros in the upper one.
enum class descriptor_type : std::uint8_t {
  context_cache = 1,        // 6.5.2.1
  iotlb = 2,                // 6.5.2.3
  device_tlb = 3,           // 6.5.2.5
  interrupt_entry = 4,      // 6.5.2.7
  wait = 5,                 // 6.5.2.8
  pasid_iotlb = 6,          // 6.5.2.4
  pasid_cache = 7,          // 6.5.2.2
  pasid_device_tlb = 8,     // 6.5.2.6
  page_group_response = 9,  // 7.7.1
};
inline constexpr field<3, 0> type_low{};
inline constexpr field<11, 9> type_high{};

// 6.5.2.1. Granularity: 1 global, 2 domain, 3 device.
struct context_cache_descriptor {
  static constexpr field<5, 4> g{};
  static constexpr field<31, 16> did{};
  static constexpr field<47, 32> sid{};
  static constexpr field<49, 48> fm{};  // function mask: how many of SID[2:0] are ignored, see fm()
  static constexpr std::uint64_t reserved0 = 0xfffc'0000'0000'f1c0;
};

// 6.5.2.2. Granularity: 0 domain, 1 PASID within the domain, 3 global.
struct pasid_cache_descriptor {
  static constexpr field<5, 4> g{};
  static constexpr field<31, 16> did{};
  static constexpr field<51, 32> pasid{};
  static constexpr std::uint64_t reserved0 = 0xfff0'0000'0000'f1c0;
};

// 6.5.2.3. Granularity: 1 global, 2 domain, 3 pages within the domain.
struct iotlb_descriptor {
  static constexpr field<5, 4> g{};
  static constexpr field<6> dw{};  // drain writes
  static constexpr field<7> dr{};  // drain reads
  static constexpr field<31, 16> did{};
  static constexpr std::uint64_t reserved0 = 0xffff'ffff'0000'f100;
  // Word 1.
  static constexpr field<5, 0> am{};  // 2^AM pages of 4 KiB, naturally aligned
  static constexpr field<6> ih{};     // only leaves were changed
  static constexpr field<63, 12> address{};
  static constexpr std::uint64_t reserved1 = 0xf80;
};

// 6.5.2.4. Granularity: 2 a PASID, 3 pages within a PASID. Word 1 is that of the IOTLB descriptor.
struct pasid_iotlb_descriptor {
  static constexpr field<5, 4> g{};
  static constexpr field<31, 16> did{};
  static constexpr field<51, 32> pasid{};
  static constexpr std::uint64_t reserved0 = 0xfff0'0000'0000'f1c0;
};

// 6.5.2.5. Word 1: with S, the run of ones starting at bit 12 and the zero that ends it encode the
// size of the range, as in an ATS Invalidate Request.
struct device_tlb_descriptor {
  static constexpr field<15, 12> pfsid_low{};
  static constexpr field<20, 16> mip{};  // most invalidations the device takes at once; 0 is 32
  static constexpr field<47, 32> sid{};
  static constexpr field<63, 52> pfsid_high{};
  static constexpr std::uint64_t reserved0 = 0x000f'0000'ffe0'01f0;
  static constexpr field<0> s{};
  static constexpr field<63, 12> address{};
  static constexpr std::uint64_t reserved1 = 0xffe;
};

// 6.5.2.6.
struct pasid_device_tlb_descriptor {
  static constexpr field<8, 4> mip{};
  static constexpr field<15, 12> pfsid_low{};
  static constexpr field<31, 16> sid{};
  static constexpr field<51, 32> pasid{};
  static constexpr field<63, 52> pfsid_high{};
  static constexpr std::uint64_t reserved0 = 0;
  static constexpr field<0> g{};  // in all PASIDs
  static constexpr field<11> s{};
  static constexpr field<63, 12> address{};
  static constexpr std::uint64_t reserved1 = 0x7fe;
};

// 6.5.2.7.
struct interrupt_entry_descriptor {
  static constexpr field<4> g{};        // 0 all entries, 1 those of the index
  static constexpr field<31, 27> im{};  // 2^IM entries, naturally aligned
  static constexpr field<47, 32> iidx{};
  static constexpr std::uint64_t reserved0 = 0xffff'0000'07ff'f1e0;
};

// 6.5.2.8.
struct wait_descriptor {
  static constexpr field<4> interrupt{};  // IF
  static constexpr field<5> sw{};         // write the status
  static constexpr field<6> fn{};         // later descriptors wait, too
  static constexpr field<7> pd{};         // drain page requests
  static constexpr field<63, 32> status_data{};
  static constexpr std::uint64_t reserved0 = 0xffff'f100;
  static constexpr std::uint64_t reserved1 = 3;  // below the status address
};

// 7.7.1. Response code: 0 success, 1 invalid request, 15 failure.
struct page_group_response_descriptor {
  static constexpr field<4> pasid_present{};
  static constexpr field<5> private_data{};  // words 2 and 3 go back to the device
  static constexpr field<15, 12> response{};
  static constexpr field<31, 16> rid{};
  static constexpr field<51, 32> pasid{};
  static constexpr std::uint64_t reserved0 = 0xfff0'0000'0000'01c0;
  static constexpr field<2> lpig{};  // the request was the last of its group
  static constexpr field<11, 3> prg_index{};
  static constexpr std::uint64_t reserved1 = 0xffff'ffff'ffff'f003;
};

// Why the queue stopped: IQERCD.IQEI, 11.4.9.9.
enum class queue_error : std::uint8_t {
  none = 0,
  invalid_tail = 1,
  fetch_failed = 2,
  invalid_type = 3,
  reserved_set = 4,
  invalid_width = 5,  // a 256-bit type in a queue of 128-bit descriptors
  tail_misaligned = 6,
  invalid_ttm = 7,
};

}  // namespace phasebit::iommu::vtd
