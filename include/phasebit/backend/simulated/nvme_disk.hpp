// SPDX-License-Identifier: BSL-1.0
// An NVMe controller on the simulated bus: BAR 0, MSI-X and a PCI Express capability around the
// library's device side, with a fault plan between it and its completion queues.
#pragma once

#include <phasebit/backend/simulated/completion_faults.hpp>
#include <phasebit/backend/simulated/device_model.hpp>
#include <phasebit/backend/simulated/device_port.hpp>
#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/backend/simulated/function_description.hpp>
#include <phasebit/block/media.hpp>
#include <phasebit/nvme/device/controller.hpp>
#include <phasebit/nvme/device/namespaces.hpp>
#include <phasebit/nvme/spec/registers.hpp>

#include <bit>
#include <cstdint>
#include <type_traits>

namespace phasebit::backend::simulated {

// For fault_plan::stick: controllers that hang.
inline constexpr stuck_bits never_ready{nvme::csts::offset, 1, 0};            // CSTS.RDY stays 0
inline constexpr stuck_bits never_stopped{nvme::csts::offset, 1, 1};          // CSTS.RDY stays 1
inline constexpr stuck_bits never_shut_down{nvme::csts::offset, 3U << 2, 0};  // CSTS.SHST stays 0
inline constexpr stuck_bits fatal{nvme::csts::offset, 2, 2};                  // CSTS.CFS
static_assert(nvme::csts::rdy.mask<std::uint32_t> == 1 &&
              nvme::csts::cfs.mask<std::uint32_t> == 2 &&
              nvme::csts::shst.mask<std::uint32_t> == 3U << 2);

// Properties of simulated controllers; derive from it to change more.
struct nvme_policy : nvme::device::default_policy {
  using completion_filter = completion_faults;
};

// The DeviceModel. `Namespaces` is kept by value, or by reference where it is one.
template <class Namespaces, class Policy = nvme_policy>
  requires nvme::device::NamespaceSet<std::remove_reference_t<Namespaces>>
class nvme_model {
 public:
  using controller_type =
      nvme::device::controller<dma_port, interrupt_port, std::remove_reference_t<Namespaces>,
                               thread_order, Policy>;

  nvme_model(const device_port& port, Namespaces namespaces,
             const nvme::device::settings& settings) noexcept
      : port_(port),
        dma_(port.dma()),
        interrupts_(port.interrupts()),
        namespaces_(static_cast<Namespaces&&>(namespaces)),
        controller_(dma_, interrupts_, namespaces_, port.words(), settings,
                    completion_faults{port.faults()}),
        last_ms_(port.now() / nanoseconds_per_ms) {}
  nvme_model(const nvme_model&) = delete;
  nvme_model& operator=(const nvme_model&) = delete;

  [[nodiscard]] std::uint32_t read32(std::uint32_t offset) noexcept {
    return controller_.read32(offset);
  }
  void write32(std::uint32_t offset, std::uint32_t value) noexcept {
    controller_.write32(offset, value);
  }
  unsigned poll() noexcept {
    if (++polls_ % polls_per_look == 0) let_time_pass();
    return controller_.poll();
  }
  void reset() noexcept { controller_.reset(); }

  [[nodiscard]] controller_type& controller() noexcept { return controller_; }

 private:
  // Asking for real time in every round would cost more than an idle round does.
  static constexpr unsigned polls_per_look = 256;

  void let_time_pass() noexcept {
    const std::uint64_t now = port_.now() / nanoseconds_per_ms;
    // Simulated and real time have different origins: a jump is no time that passed.
    const std::uint64_t passed = now - last_ms_;
    last_ms_ = now;
    if (passed != 0 && passed < 3'600'000) controller_.advance(static_cast<std::uint32_t>(passed));
  }

  device_port port_;
  dma_port dma_;
  interrupt_port interrupts_;
  Namespaces namespaces_;
  controller_type controller_;
  std::uint64_t last_ms_;
  unsigned polls_ = 0;
};

struct nvme_options {
  std::uint8_t device = 4;  // where it sits on the bus
  std::uint8_t function = 0;
  nvme::device::settings controller{};
  bool enabled = true;  // see function_description
};

// How such a controller looks from outside: class code 01 08 02, doorbells as plain words of BAR 0,
// MSI-X in BAR 4.
[[nodiscard]] inline function_description describe_nvme(const nvme_options& options) noexcept {
  const auto& s = options.controller;
  const std::uint64_t least = nvme::register_bytes(s.io_queue_pairs, s.doorbell_stride);
  const std::uint64_t bar0 = std::bit_ceil(least < 0x4000 ? std::uint64_t{0x4000} : least);
  const std::uint32_t pba = std::bit_ceil(pcie::msix_table_bytes(s.interrupt_vectors));
  function_description d{.device = options.device,
                         .function = options.function,
                         .pci = {.vendor_id = 0x5042,
                                 .device_id = 0x0010,
                                 .class_code = 0x01'08'02,
                                 .revision_id = 1,
                                 .subsystem_vendor_id = 0x5042,
                                 .subsystem_id = 0x0001,
                                 .power_management = true,
                                 .msix = pcie::msix_description{.vectors = s.interrupt_vectors,
                                                                .table_bar = 4,
                                                                .pba_bar = 4,
                                                                .pba_offset = pba},
                                 .express = pcie::express_description{}},
                         .enabled = options.enabled};
  d.pci.bars[0] = {.kind = pcie::bar_kind::memory64, .size = bar0};
  d.pci.bars[4] = {.kind = pcie::bar_kind::memory32, .size = std::bit_ceil(pba + 0x1000U)};
  d.words[0] = {.offset = nvme::first_doorbell, .bytes = bar0 - nvme::first_doorbell};
  return d;
}

template <class Namespaces>
using nvme_device = device<nvme_model<Namespaces>>;
template <block::BlockMedia Media>
using nvme_disk = nvme_device<nvme::device::single_namespace<Media>>;

// A controller with these namespaces; keeps a reference to them. Errors: those of fabric::add.
template <nvme::device::NamespaceSet Namespaces>
[[nodiscard]] result<nvme_device<Namespaces&>> add_nvme_controller(
    fabric& on, Namespaces& namespaces, const nvme_options& options = {}) noexcept {
  return on.add(describe_nvme(options), [&](const device_port& port) noexcept {
    return nvme_model<Namespaces&>{port, namespaces, options.controller};
  });
}

// A controller with one namespace, number 1; keeps a reference to its media. Errors: as above.
template <block::BlockMedia Media>
[[nodiscard]] result<nvme_disk<Media>> add_nvme_disk(fabric& on, Media& media,
                                                     const nvme_options& options = {}) noexcept {
  using set = nvme::device::single_namespace<Media>;
  return on.add(describe_nvme(options), [&](const device_port& port) noexcept {
    return nvme_model<set>{port, set{media}, options.controller};
  });
}

}  // namespace phasebit::backend::simulated
