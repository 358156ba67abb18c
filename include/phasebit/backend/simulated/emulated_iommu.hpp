// SPDX-License-Identifier: BSL-1.0
// The library's emulated IOMMUs in front of a simulated machine's memory. The driver that programs
// a chipset's or QEMU's IOMMU programs these.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/backend/simulated/iommu_bar.hpp>
#include <phasebit/iommu/amd/device.hpp>
#include <phasebit/iommu/device/concepts.hpp>
#include <phasebit/iommu/riscv/device.hpp>
#include <phasebit/iommu/smmuv3/device.hpp>
#include <phasebit/iommu/vtd/device.hpp>
#include <phasebit/memory/dma_port.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>

#include <array>
#include <cstdint>

namespace phasebit::backend::simulated {

// The machine's physical memory for models that are no function of a bus.
using physical_port = translator_port<const address_map>;
static_assert(DmaPort<physical_port, host_space>);

// An IOMMU's own interrupts as events.
class iommu_interrupts {
 public:
  void raise(std::uint16_t source) noexcept {
    if (source < events_.size()) events_[source].signal();
  }
  // Messages to other addresses than the interrupt window are dropped.
  void send(std::uint16_t source, const pcie::msi_message& message) noexcept {
    if (message.address - interrupt_window < interrupt_window_bytes) raise(source);
  }
  [[nodiscard]] interrupt_event& event(iommu::device::interrupt_source source) noexcept {
    return events_[static_cast<unsigned>(source)];
  }

 private:
  std::array<interrupt_event, iommu::device::interrupt_sources> events_;
};
static_assert(InterruptSink<iommu_interrupts>);
static_assert(MessageSink<iommu_interrupts>);

// `Device` in front of a fabric's memory, from its construction to its end: every DMA and every
// interrupt of every function goes through it. Registers by bar(), which any thread may use; the
// fabric outlives it.
template <class Device>
class emulated_iommu final : private dma_path {
 public:
  using device_type = Device;
  using bar_type = iommu_bar<Device>;

  // `options` are those of the device: address bits, features.
  template <class... Options>
  explicit emulated_iommu(fabric& machine, const Options&... options) noexcept
      : fabric_(&machine),
        map_(machine.address_map()),
        port_(map_),
        device_(port_, interrupts_, machine.clock(), options...) {
    machine.set_dma_path(this);
  }
  emulated_iommu(const emulated_iommu&) = delete;
  emulated_iommu& operator=(const emulated_iommu&) = delete;
  ~emulated_iommu() { fabric_->set_dma_path(nullptr); }

  [[nodiscard]] bar_type bar() noexcept { return {*fabric_, device_}; }
  // Its interrupts, as far as the driver enabled them; those of VT-d are messages, which the driver
  // programs with addresses of the interrupt window.
  [[nodiscard]] interrupt_event& fault_event() noexcept {
    return interrupts_.event(iommu::device::interrupt_source::fault);
  }
  [[nodiscard]] interrupt_event& command_event() noexcept {
    return interrupts_.event(iommu::device::interrupt_source::command);
  }

 private:
  [[nodiscard]] result<segment<local_space>> translate(pcie::requester_id requester,
                                                       bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept override {
    const auto piece = device_.translate(
        {.requester = requester, .address = address.value(), .wanted = wanted}, bytes);
    if (!piece) return piece.error();
    return map_.translate(piece->begin, piece->bytes, wanted);
  }
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept override {
    return device_.remap_interrupt(requester, message);
  }

  fabric* fabric_;
  const address_map& map_;
  physical_port port_;
  iommu_interrupts interrupts_;
  Device device_;
};

using vtd_iommu = emulated_iommu<iommu::vtd::device<physical_port, iommu_interrupts, fabric_clock>>;
using amd_iommu = emulated_iommu<iommu::amd::device<physical_port, iommu_interrupts, fabric_clock>>;
using smmuv3_iommu =
    emulated_iommu<iommu::smmuv3::device<physical_port, iommu_interrupts, fabric_clock>>;
using riscv_iommu =
    emulated_iommu<iommu::riscv::device<physical_port, iommu_interrupts, fabric_clock>>;
static_assert(Mmio<vtd_iommu::bar_type>);

}  // namespace phasebit::backend::simulated
