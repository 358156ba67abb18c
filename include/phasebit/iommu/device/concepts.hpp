// SPDX-License-Identifier: BSL-1.0
// The clock and the link to functions of an emulated IOMMU. It also takes a DMA port
// (memory/dma_port.hpp) and an interrupt sink (pcie/device/interrupt_sink.hpp).
#pragma once

#include <phasebit/iommu/ats/messages.hpp>
#include <phasebit/iommu/ats/pri_messages.hpp>

#include <concepts>
#include <cstdint>

namespace phasebit::iommu::device {

// Monotonic time in nanoseconds from any origin: for the time-out of device TLB invalidations.
template <class T>
concept DeviceClock = requires(T& clock) {
  { clock.now() } noexcept -> std::same_as<std::uint64_t>;
};

// The way from the IOMMU to functions with an address translation cache. Both calls deliver a
// message to the function that it names and return without waiting for it; the answer to an
// invalidation is the device's complete(), later or from within the call's caller, never from
// within the call. A message to a function that is not there vanishes.
template <class T>
concept FunctionLink =
    requires(T& link, const ats_invalidate& invalidate, const pri_response& response) {
      { link.invalidate(invalidate) } noexcept;
      { link.respond(response) } noexcept;
    };

// There are no such functions: the IOMMU does not offer ATS and page requests.
struct no_functions {
  static constexpr void invalidate(const ats_invalidate&) noexcept {}
  static constexpr void respond(const pri_response&) noexcept {}
};
static_assert(FunctionLink<no_functions>);

// Numbers of the interrupts that an emulated IOMMU raises.
enum class interrupt_source : std::uint16_t { fault = 0, command = 1, page_request = 2 };
inline constexpr unsigned interrupt_sources = 3;

}  // namespace phasebit::iommu::device
