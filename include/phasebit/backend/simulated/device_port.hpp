// SPDX-License-Identifier: BSL-1.0
// A device model's access to its machine: DMA, interrupts, words and faults.
#pragma once

#include <phasebit/backend/simulated/detail/function_node.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/iommu/ats/pri_device.hpp>
#include <phasebit/memory/translate.hpp>
#include <phasebit/pcie/device/interrupt_sink.hpp>

#include <cstdint>
#include <optional>
#include <span>

namespace phasebit::backend::simulated {

// The function's DMA: bus addresses to pointers, through the IOMMU in front of the function. A
// function whose ATS capability is enabled caches translations by itself. A DmaTranslator;
// translator_port makes a DmaPort of it. Errors are those of the path, not_ready while bus
// mastering is off, removed after a surprise removal, and those of a fault plan; all but removed
// are recorded (fabric::dma_faults).
class dma_port {
 public:
  using from = bus_space;
  using to = local_space;

  [[nodiscard]] result<segment<local_space>> translate(bus_addr address, std::uint64_t bytes,
                                                       access wanted) noexcept {
    return node_->translate(attributes_, address, bytes, wanted);
  }

  // The same port for requests with a PASID. Error of its requests: not_ready while the function's
  // PASID capability is not enabled.
  [[nodiscard]] dma_port with_pasid(std::uint32_t pasid) const noexcept {
    dma_port other = *this;
    other.attributes_.pasid = pasid;
    return other;
  }
  // The same port for translated requests: addresses are physical ones that the model had from ATS.
  [[nodiscard]] dma_port translated() const noexcept {
    dma_port other = *this;
    other.attributes_.translated = true;
    return other;
  }

  // For models that use pointers after the call in which they were translated: brackets these uses.
  // An ATS invalidation is answered when the accesses that began before it have ended.
  [[nodiscard]] unsigned begin_access() noexcept { return node_->begin_access(); }
  void end_access(unsigned begun) noexcept { node_->end_access(begun); }

  // Asks the IOMMU's driver for a page, where translate() ended with not_mapped. The result is the
  // group of the request. Errors: not_ready (page requests are off), exhausted.
  [[nodiscard]] result<std::uint16_t> request_page(bus_addr address, access wanted) noexcept {
    return node_->request_page(attributes_, address, wanted);
  }
  [[nodiscard]] iommu::pri_outcome page_outcome(std::uint16_t group) const noexcept {
    return node_->page_outcome(group);
  }
  // After the outcome is known.
  void close_page_group(std::uint16_t group) noexcept { node_->close_page_group(group); }

 private:
  friend class device_port;
  explicit dma_port(detail::function_node& node) noexcept : node_(&node) {}

  detail::function_node* node_;
  dma_request attributes_{};
};
static_assert(DmaTranslator<dma_port>);

// Raises MSI-X vectors, with their masks and pending bits. Vectors that the function does not have
// are ignored.
class interrupt_port {
 public:
  void raise(std::uint16_t vector) noexcept { node_->raise(vector); }

 private:
  friend class device_port;
  explicit interrupt_port(detail::function_node& node) noexcept : node_(&node) {}

  detail::function_node* node_;
};
static_assert(InterruptSink<interrupt_port>);

// Asked by models that post completions, once for each: what a fault plan has for it.
class fault_port {
 public:
  [[nodiscard]] completion_action next_completion() noexcept { return node_->next_completion(); }

 private:
  friend class device_port;
  explicit fault_port(detail::function_node& node) noexcept : node_(&node) {}

  detail::function_node* node_;
};

// All of the above. Valid as long as the fabric; used by the model only, from inside its own
// read32, write32, poll and reset.
class device_port {
 public:
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
  friend struct detail::factory;
  device_port(detail::function_node& node, unsigned register_bar) noexcept
      : node_(&node), register_bar_(register_bar) {}

  detail::function_node* node_;
  unsigned register_bar_;
};

}  // namespace phasebit::backend::simulated
