// SPDX-License-Identifier: BSL-1.0
// The messages between a device with an address translation cache and the IOMMU: PCIe 5.0, 10.2 and
// 10.3. Bodies are numbered as one 64-bit word, the address in bits 63:12.
#pragma once

#include <phasebit/core/field.hpp>
#include <phasebit/iommu/command_queue/address_block.hpp>
#include <phasebit/pcie/spec/requester_id.hpp>

#include <cstdint>

namespace phasebit::iommu {

// In whose address space, and how the access will be made (PASID TLP prefix, 6.20). Without a PASID
// there is neither execute nor privileged.
struct ats_space {
  bool with_pasid = false;
  bool execute = false;
  bool privileged = false;
  std::uint32_t pasid = 0;  // 20 bits

  friend constexpr bool operator==(ats_space, ats_space) noexcept = default;
};

// Translation Request, 10.2.2: one translation (a Length of two doublewords).
struct ats_request {
  pcie::requester_id requester{};
  std::uint16_t tag = 0;  // of the request TLP; the completion brings it back
  ats_space space{};
  std::uint64_t address = 0;
  bool no_write = false;  // NW: the device only requests read access
};

// Translation Completion Data Entry, 10.2.3. With S, the run of ones starting at bit 12 of the
// address and the zero that ends it encode the size of the translation.
struct ats_entry : register_value<ats_entry, std::uint64_t> {
  using register_value::register_value;

  static constexpr field<0> r{};
  static constexpr field<1> w{};
  static constexpr field<2> u{};       // untranslated requests only
  static constexpr field<3> exe{};     // with the request's PASID
  static constexpr field<4> priv{};    // these are the permissions of privileged accesses
  static constexpr field<5> global{};  // the same in all PASIDs of the device
  static constexpr field<10> n{};      // accesses do not set No Snoop
  static constexpr field<11> s{};

  // The translated block. Meaningful with R or W.
  [[nodiscard]] constexpr address_block block() const noexcept {
    const std::uint64_t at = raw & ~std::uint64_t{0xfff};
    return s.get(raw) ? block_from_ones(at) : address_block{at, 12};
  }
  // `block` is at least a page; permissions are bit 0 read, bit 1 write.
  [[nodiscard]] static constexpr ats_entry of(address_block block, unsigned permissions) noexcept {
    const bool large = block.shift > 12;
    return ats_entry{(large ? size_in_ones(block) : block.first) | s.of<std::uint64_t>(large) |
                     (permissions & 3U)};
  }
};

// How the request itself ended, 10.2.3.1. With unsupported, ATS is off for this device: it asks no
// more. With aborted, something is broken and nothing is known.
enum class ats_status : std::uint8_t { success, unsupported, aborted };

struct ats_completion {
  std::uint16_t tag = 0;
  ats_status status = ats_status::success;
  ats_entry entry{};  // with success; neither R nor W: not mapped
};

// Invalidate Request, 10.3.1.
struct ats_invalidate_body : register_value<ats_invalidate_body, std::uint64_t> {
  using register_value::register_value;

  static constexpr field<0> global{};  // with a PASID: in all of them
  static constexpr field<11> s{};

  [[nodiscard]] constexpr address_block block() const noexcept {
    const std::uint64_t at = raw & ~std::uint64_t{0xfff};
    return s.get(raw) ? block_from_ones(at) : address_block{at, 12};
  }
  [[nodiscard]] static constexpr ats_invalidate_body of(address_block block, bool in_all) noexcept {
    const bool large = block.shift > 12;
    return ats_invalidate_body{(large ? size_in_ones(block) : block.first) |
                               s.of<std::uint64_t>(large) | global.of<std::uint64_t>(in_all)};
  }
};
struct ats_invalidate {
  pcie::requester_id device{};
  std::uint8_t itag = 0;  // 0 to 31
  bool with_pasid = false;
  std::uint32_t pasid = 0;
  ats_invalidate_body body{};
};

// Invalidate Completion, 10.3.2: for each bit n of the vector, the invalidation with ITag n. The
// invalidation has ended when as many of these messages have arrived as each of them specifies (one
// per traffic class in use).
struct ats_invalidate_completion {
  pcie::requester_id device{};
  std::uint32_t itags = 0;
  std::uint8_t count = 1;  // 1 to 8; 3 bits on the wire, where 8 is 0
};

// The limit on invalidations in flight at one device (10.5.1.2).
inline constexpr unsigned ats_max_itags = 32;
// An invalidation that is not answered for so long has failed: 1 min, +50 % (10.3.1).
inline constexpr std::uint64_t ats_timeout_ns = 60'000'000'000;

}  // namespace phasebit::iommu
