// SPDX-License-Identifier: BSL-1.0
// An IOMMU without registers: it reads its tables in the simulated machine's memory, records faults
// in a sink that the program gives, and is invalidated by calls. With registers: emulated_iommu.hpp.
#pragma once

#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/iommu/device/system_memory.hpp>
#include <phasebit/iommu/fault/fault.hpp>
#include <phasebit/iommu/translation/remapper.hpp>
#include <phasebit/memory/dma_port.hpp>

#include <cstdint>

namespace phasebit::backend::simulated {

// Stands in front of a fabric's memory from its construction to its end: every DMA and every
// interrupt of every function goes through `Architecture`'s tables (vtd::remapping, amd::remapping,
// smmuv3::remapping, riscv::remapping of iommu/<architecture>/translation.hpp). Keeps references to
// the fabric, which outlives it, and to the faults. Drivers change and inspect it by with().
template <class Architecture, iommu::FaultSink Faults,
          iommu::remapper_caches Caches = iommu::remapper_caches{}>
class remapping_iommu {
 public:
  using memory_type = iommu::device::system_memory<translator_port<const class address_map>>;
  using remapper_type = iommu::remapper<Architecture, memory_type, Faults, Caches>;

  remapping_iommu(fabric& machine, Faults& faults, const Architecture& settings = {}) noexcept
      : fabric_(&machine),
        port_(machine.address_map()),
        memory_(port_),
        remapper_(memory_, faults, settings),
        path_(remapper_, machine.address_map()) {
    machine.set_dma_path(&path_);
  }
  remapping_iommu(const remapping_iommu&) = delete;
  remapping_iommu& operator=(const remapping_iommu&) = delete;
  ~remapping_iommu() { fabric_->set_dma_path(nullptr); }

  // Calls use(remapper) while no request is translated.
  template <class Use>
  decltype(auto) with(Use&& use) noexcept {
    return path_.with(static_cast<Use&&>(use));
  }

 private:
  fabric* fabric_;
  translator_port<const class address_map> port_;
  memory_type memory_;
  remapper_type remapper_;
  remapped_path<remapper_type> path_;
};

}  // namespace phasebit::backend::simulated
