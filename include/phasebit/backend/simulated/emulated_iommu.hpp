// SPDX-License-Identifier: BSL-1.0
// The library's emulated IOMMUs in front of a simulated machine's memory. The drivers of a
// chipset's or QEMU's IOMMU program these, too.
#pragma once

#include <phasebit/backend/simulated/address_map.hpp>
#include <phasebit/backend/simulated/detail/ticket_lock.hpp>
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
#include <mutex>
#include <optional>

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

// An IOMMU's way to the functions behind it.
class function_link {
 public:
  void invalidate(const iommu::ats_invalidate& message) noexcept { fabric_->deliver(message); }
  void respond(const iommu::pri_response& message) noexcept { fabric_->deliver(message); }

 private:
  template <class Device>
  friend class emulated_iommu;
  explicit function_link(fabric& machine) noexcept : fabric_(&machine) {}

  fabric* fabric_;
};
static_assert(iommu::device::FunctionLink<function_link>);

// `Device` in front of a fabric's memory, or of the functions behind one of its ports, from its
// construction to its end: every DMA and every interrupt of these functions goes through it.
// Registers by bar(), which any thread may use; the fabric outlives it.
template <class Device>
class emulated_iommu final : private dma_path {
 public:
  using device_type = Device;
  using bar_type = iommu_bar<Device>;

  // `options` are those of the device: address bits, features.
  template <class... Options>
  explicit emulated_iommu(fabric& machine, const Options&... options) noexcept
      : emulated_iommu(machine, std::optional<port>{}, options...) {}
  template <class... Options>
  emulated_iommu(fabric& machine, port behind, const Options&... options) noexcept
      : emulated_iommu(machine, std::optional<port>{behind}, options...) {}
  emulated_iommu(const emulated_iommu&) = delete;
  emulated_iommu& operator=(const emulated_iommu&) = delete;
  ~emulated_iommu() { put(nullptr); }

  [[nodiscard]] bar_type bar() noexcept { return detail::factory::make<bar_type>(lock_, device_); }
  // Its interrupts, as far as the driver enabled them; those of VT-d are messages, which the driver
  // programs with addresses of the interrupt window.
  [[nodiscard]] interrupt_event& fault_event() noexcept {
    return interrupts_.event(iommu::device::interrupt_source::fault);
  }
  [[nodiscard]] interrupt_event& command_event() noexcept {
    return interrupts_.event(iommu::device::interrupt_source::command);
  }
  [[nodiscard]] interrupt_event& page_request_event() noexcept {
    return interrupts_.event(iommu::device::interrupt_source::page_request);
  }

 private:
  template <class... Options>
  emulated_iommu(fabric& machine, std::optional<port> behind, const Options&... options) noexcept
      : fabric_(&machine),
        behind_(behind),
        map_(machine.address_map()),
        port_(map_),
        link_(machine),
        device_(make(machine, options...)) {
    put(this);
  }
  template <class... Options>
  [[nodiscard]] Device make(fabric& machine, const Options&... options) noexcept {
    if constexpr (Device::has_functions) {
      return Device{port_, interrupts_, machine.clock(), link_, options...};
    } else {
      return Device{port_, interrupts_, machine.clock(), options...};
    }
  }
  void put(dma_path* path) noexcept {
    if (behind_) {
      fabric_->set_dma_path(*behind_, path);
    } else {
      fabric_->set_dma_path(path);
    }
  }

  [[nodiscard]] result<segment<local_space>> translate(const dma_request& request,
                                                       std::uint64_t bytes) noexcept override {
    const iommu::dma_request asked{.requester = request.requester,
                                   .address = request.address.value(),
                                   .wanted = request.wanted,
                                   .has_pasid = request.pasid.has_value(),
                                   .pasid = request.pasid.value_or(0)};
    if (request.translated) {
      const std::lock_guard guard{lock_};
      if (const auto admitted = device_.admit_translated(asked); !admitted) {
        return admitted.error();
      }
      return map_.translate(host_phys{asked.address}, bytes, request.wanted);
    }
    const auto found = [&] {
      const std::lock_guard guard{lock_};
      return device_.translate(asked, bytes);
    }();
    if (!found) return found.error();
    return map_.translate(found->begin, found->bytes, request.wanted);
  }
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept override {
    const std::lock_guard guard{lock_};
    return device_.remap_interrupt(requester, message);
  }
  [[nodiscard]] iommu::ats_completion translate(
      const iommu::ats_request& request) noexcept override {
    const std::lock_guard guard{lock_};
    return device_.translate(request);
  }
  void complete(const iommu::ats_invalidate_completion& message) noexcept override {
    const std::lock_guard guard{lock_};
    device_.complete(message);
  }
  [[nodiscard]] bool request_page(const iommu::pri_request& request) noexcept override {
    const std::lock_guard guard{lock_};
    if constexpr (requires { device_.request_page(request); }) {
      return device_.request_page(request);
    } else {
      return false;
    }
  }
  unsigned poll() noexcept override {
    const std::lock_guard guard{lock_};
    return device_.poll();
  }

  fabric* fabric_;
  std::optional<port> behind_;
  const address_map& map_;
  physical_port port_;
  function_link link_;
  iommu_interrupts interrupts_;
  detail::ticket_lock lock_;
  Device device_;
};

using vtd_iommu = emulated_iommu<iommu::vtd::device<physical_port, iommu_interrupts, fabric_clock>>;
using amd_iommu = emulated_iommu<iommu::amd::device<physical_port, iommu_interrupts, fabric_clock>>;
using smmuv3_iommu = emulated_iommu<
    iommu::smmuv3::device<physical_port, iommu_interrupts, fabric_clock, function_link>>;
using riscv_iommu =
    emulated_iommu<iommu::riscv::device<physical_port, iommu_interrupts, fabric_clock>>;
static_assert(Mmio<vtd_iommu::bar_type>);

}  // namespace phasebit::backend::simulated
