// SPDX-License-Identifier: BSL-1.0
// What the emulated IOMMUs of AMD, Arm and RISC-V have in common: tables, caches, a command ring and
// a ring of faults in the simulated machine's memory. Their registers are their own.
#pragma once

#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fabric.hpp>
#include <phasebit/backend/simulated/interrupts.hpp>
#include <phasebit/backend/simulated/iommu_memory.hpp>
#include <phasebit/backend/simulated/unit_bar.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/iommu/command_queue/consumer.hpp>
#include <phasebit/iommu/fault/fault_queue.hpp>
#include <phasebit/iommu/translation/remapper.hpp>

#include <cstdint>

namespace phasebit::backend::simulated {

// A register of 64 bits that is accessed in halves.
class split_register {
 public:
  std::uint64_t value = 0;

  [[nodiscard]] static constexpr std::uint32_t half(std::uint64_t v,
                                                    std::uint32_t offset) noexcept {
    return static_cast<std::uint32_t>((offset & 4) != 0 ? v >> 32 : v);
  }
  [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const noexcept {
    return half(value, offset);
  }
  constexpr void write(std::uint32_t offset, std::uint32_t v) noexcept {
    value = (offset & 4) != 0 ? (value & 0xffff'ffff) | std::uint64_t{v} << 32
                              : (value >> 32 << 32) | v;
  }
};

// Stands in front of a fabric's memory from its construction to its end. Commands are carried out
// when their tail is written. Self has register_bytes, read32(offset), write32(offset, value), and
// after_fault(), which is called when a fault may have been recorded. One bar() for all threads.
template <class Self, class Remapping, iommu::FaultFormat Format, iommu::CommandCodec Codec>
class iommu_unit : private dma_path {
  friend Self;

 public:
  using bar_type = unit_bar<Self>;

  iommu_unit(const iommu_unit&) = delete;
  iommu_unit& operator=(const iommu_unit&) = delete;

  [[nodiscard]] bar_type bar() noexcept { return {*fabric_, self()}; }
  // Faults were recorded while the driver had their interrupt enabled.
  [[nodiscard]] interrupt_event& fault_event() noexcept { return fault_event_; }

  // CommandHandler.
  [[nodiscard]] iommu::command_outcome apply(const iommu::command& c) noexcept {
    remapper_.apply(c);
    return iommu::command_outcome::done;
  }
  [[nodiscard]] bool store(std::uint64_t at, std::uint64_t data, unsigned bytes) noexcept {
    return iommu::store_completion<thread_order>(memory_, at, data, bytes);
  }
  void interrupt() noexcept { command_interrupt_ = true; }

 protected:
  ~iommu_unit() { fabric_->set_dma_path(nullptr); }

 private:
  using faults_type = iommu::fault_queue<Format, iommu_memory>;
  using remapper_type = iommu::remapper<Remapping, iommu_memory, faults_type>;

  iommu_unit(fabric& machine, const Remapping& settings, const Codec& codec) noexcept
      : fabric_(&machine),
        memory_(machine.address_map()),
        faults_(memory_),
        settings_(settings),
        remapper_(memory_, faults_, settings),
        commands_(codec, memory_),
        path_(remapper_, machine.address_map()) {
    machine.set_dma_path(this);
  }
  [[nodiscard]] result<segment<local_space>> translate(pcie::requester_id requester,
                                                       bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept override {
    const auto piece = path_.translate(requester, address, bytes, wanted);
    if (!piece) self().after_fault();
    return piece;
  }
  [[nodiscard]] result<pcie::msi_message> remap_interrupt(
      pcie::requester_id requester, const pcie::msi_message& message) noexcept override {
    const auto delivered = path_.remap_interrupt(requester, message);
    if (!delivered) self().after_fault();
    return delivered;
  }

  [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }
  void use_settings() noexcept { remapper_.set(settings_); }
  // Bounded by the ring: a poll ends when the head has met the tail.
  void work() noexcept { commands_.poll(*this, ~0U); }

  fabric* fabric_;
  iommu_memory memory_;
  faults_type faults_;
  Remapping settings_;
  remapper_type remapper_;
  iommu::command_consumer<Codec, thread_order, iommu_memory> commands_;
  remapped_path<remapper_type> path_;
  interrupt_event fault_event_;
  bool command_interrupt_ = false;
};

}  // namespace phasebit::backend::simulated
