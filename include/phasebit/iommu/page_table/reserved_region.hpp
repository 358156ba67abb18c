// SPDX-License-Identifier: BSL-1.0
// Ranges of device addresses that a page table must not map: interrupt windows, regions that firmware
// uses, and what lies outside of the aperture.
#pragma once

#include <phasebit/core/result.hpp>

#include <cstdint>
#include <span>

namespace phasebit::iommu {

enum class reserved_kind : std::uint8_t {
  // Writes there are interrupts and never reach a page table (FEEx_xxxxh on x86, an ITS page).
  msi_window,
  // Firmware or a device behind it uses the range through a mapping of its own: RMRR of DMAR, IVMD of
  // IVRS, RMR of IORT. It stays mapped one to one.
  firmware,
  // The bus or a bridge does not forward these addresses to the IOMMU.
  aperture_hole,
};

// Both ends are part of it.
struct reserved_region {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  reserved_kind kind = reserved_kind::msi_window;

  friend constexpr bool operator==(const reserved_region&,
                                   const reserved_region&) noexcept = default;
};

// The interrupt window of x86 processors (Intel SDM volume 3, 11.11).
inline constexpr reserved_region x86_msi_window{0xfee0'0000, 0xfeef'ffff,
                                                reserved_kind::msi_window};

// Whether [first, last] touches none of `regions`. Errors: access_denied, whose sentence names the
// kind and whose value is where the region begins.
[[nodiscard]] constexpr result<> check_reserved(std::span<const reserved_region> regions,
                                                std::uint64_t first, std::uint64_t last) noexcept {
  for (const reserved_region& r : regions) {
    if (last < r.first || first > r.last) continue;
    switch (r.kind) {
      case reserved_kind::msi_window:
        return failure(errc::access_denied, "the range touches the window of interrupts", r.first);
      case reserved_kind::firmware:
        return failure(errc::access_denied, "the range touches a region that firmware has reserved",
                       r.first);
      default:
        return failure(errc::access_denied,
                       "the range touches addresses that do not reach the IOMMU", r.first);
    }
  }
  return {};
}

}  // namespace phasebit::iommu
