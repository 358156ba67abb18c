// SPDX-License-Identifier: BSL-1.0
// The host concept of IOMMU drivers, and their options.
#pragma once

#include <phasebit/core/clock.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/dma_region.hpp>

#include <cstdint>

namespace phasebit::iommu::driver {

// Memory that an IOMMU reaches untranslated, how rings in it are ordered, and time: part of every
// PcieBackend.
template <class T>
concept DriverHost = DmaMemory<T> && requires(T& host) {
  requires RingOrder<typename T::ring_order>;
  { host.clock() } noexcept -> PollClock;
};

struct options {
  unsigned log2_commands = 8;       // entries of the command ring: 256 fill a page of 4 KiB
  unsigned log2_faults = 8;         // entries of the fault log, where it lies in memory
  unsigned log2_requesters = 12;    // of the device table where it is linear: 12 are 16 buses
  unsigned most_commands = 32;      // per flush; beyond, the domain is flushed whole
  std::uint32_t timeout_ms = 1000;  // for whatever the IOMMU is asked to do

  [[nodiscard]] constexpr std::uint64_t timeout_ns() const noexcept {
    return timeout_ms * nanoseconds_per_ms;
  }
};

}  // namespace phasebit::iommu::driver
