// SPDX-License-Identifier: BSL-1.0
// The register sequences of the VT-d drivers of both modes.
#pragma once

#include <phasebit/core/result.hpp>
#include <phasebit/iommu/fault/fault.hpp>
#include <phasebit/iommu/vtd/fault_codec.hpp>
#include <phasebit/iommu/vtd/spec/registers.hpp>
#include <phasebit/pcie/concepts.hpp>

#include <cstdint>
#include <optional>

namespace phasebit::iommu::vtd::detail {

// 11.4.4: the lasting bits are repeated with each command; one command at a time. `wait_for(done, otherwise, value)`
// is the driver's.
template <Mmio Bar, class WaitFor>
[[nodiscard]] result<> global_command(Bar& bar, WaitFor&& wait_for, std::uint32_t set,
                                      std::uint32_t reset = 0) noexcept {
  const std::uint32_t now = bar.read32(gsts::offset);
  if (now == ~std::uint32_t{0}) return failure(errc::removed, "the VT-d IOMMU does not answer");
  bar.write32(gcmd::offset, ((now & gsts::lasting) | set) & ~reset);
  return wait_for(
      [&]() noexcept {
        const std::uint32_t s = bar.read32(gsts::offset);
        return (s & set) == set && (s & reset) == 0;
      },
      "the VT-d IOMMU does not carry out a global command", set | reset);
}

// The oldest fault that is recorded, whose register is free then.
template <Mmio Bar>
[[nodiscard]] std::optional<translation_fault> take_fault(Bar& bar, cap capabilities) noexcept {
  const fsts s{bar.read32(fsts::offset)};
  if (s.raw == ~std::uint32_t{0}) return std::nullopt;
  if (!s[fsts::ppf]) {
    if (s[fsts::pfo]) bar.write32(fsts::offset, fsts::pfo.of(true));
    return std::nullopt;
  }
  const std::uint32_t at = capabilities[cap::fro] * 16U + s[fsts::fri] * 16U;
  const fault_record record{frcd_low{bar.read64(at)}, frcd_high{bar.read64(at + 8)}};
  if (!record.high[frcd_high::f]) return std::nullopt;
  bar.write32(at + 12, 0x8000'0000);  // F
  return record.decode();
}

}  // namespace phasebit::iommu::vtd::detail
