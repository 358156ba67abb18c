// SPDX-License-Identifier: BSL-1.0
// What a device model is given to reach the machine that it sits in.
#pragma once

#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/backend/simulated/function_node.hpp>
#include <phasebit/memory/translate.hpp>

#include <cstdint>
#include <span>

namespace phasebit::backend::simulated {

// The function's DMA: bus addresses to pointers, through what the fabric has for an IOMMU. Errors
// are those of the path, not_ready while bus mastering is off, removed after a surprise removal,
// and what a fault plan orders; all but removed are recorded (fabric::dma_faults).
class dma_port {
 public:
  using from = bus_space;
  using to = local_space;

  explicit dma_port(detail::function_node& node) noexcept : node_(&node) {}

  [[nodiscard]] result<segment<local_space>> translate(bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept {
    return node_->translate(address, bytes, wanted);
  }

 private:
  detail::function_node* node_;
};
static_assert(DmaTranslator<dma_port>);

// Raises MSI-X vectors; masks and pending bits are looked after. Vectors that the function does not
// have are ignored.
class interrupt_port {
 public:
  explicit interrupt_port(detail::function_node& node) noexcept : node_(&node) {}

  void raise(std::uint16_t vector) noexcept { node_->raise(vector); }

 private:
  detail::function_node* node_;
};

// Asked by models that post completions, once for each: what a fault plan has for it.
class fault_port {
 public:
  explicit fault_port(detail::function_node& node) noexcept : node_(&node) {}

  [[nodiscard]] completion_action next_completion() noexcept { return node_->next_completion(); }

 private:
  detail::function_node* node_;
};

// All of the above. Valid as long as the fabric; used by the model only, from inside its own
// read32, write32, poll and reset.
class device_port {
 public:
  device_port(detail::function_node& node, unsigned register_bar) noexcept
      : node_(&node), register_bar_(register_bar) {}

  [[nodiscard]] dma_port dma() const noexcept { return dma_port{*node_}; }
  [[nodiscard]] interrupt_port interrupts() const noexcept { return interrupt_port{*node_}; }
  // Nanoseconds, simulated or real, as the driver's clock has them.
  [[nodiscard]] std::uint64_t now() const noexcept { return node_->fabric().now(); }
  [[nodiscard]] fault_port faults() const noexcept { return fault_port{*node_}; }
  // The plain words of the register BAR, or of any other, little-endian. Drivers write them at any
  // time: load them with thread_order.
  [[nodiscard]] std::span<std::uint32_t> words() const noexcept {
    return node_->words(register_bar_);
  }
  [[nodiscard]] std::span<std::uint32_t> words(unsigned bar) const noexcept {
    return node_->words(bar);
  }

 private:
  detail::function_node* node_;
  unsigned register_bar_;
};

}  // namespace phasebit::backend::simulated
