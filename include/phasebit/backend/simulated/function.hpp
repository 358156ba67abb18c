// SPDX-License-Identifier: BSL-1.0
// A simulated function as its driver holds it.
#pragma once

#include <phasebit/backend/simulated/bar.hpp>
#include <phasebit/backend/simulated/config_view.hpp>
#include <phasebit/backend/simulated/detail/function_node.hpp>
#include <phasebit/backend/simulated/fabric_clock.hpp>
#include <phasebit/backend/simulated/fault_plan.hpp>
#include <phasebit/core/clock.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/memory/dma_region.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/msix.hpp>
#include <phasebit/pcie/spec/sriov_capability.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace phasebit::backend::simulated {

// A PcieBackend with interrupts and reset, like any other: a driver that runs over it runs over
// hardware. A view that can be copied; the fabric owns the function and must outlive it.
// Single-step mode: one thread. Threaded mode: registers, configuration, memory and interrupts by
// any thread, each vector by one at a time.
class function {
 public:
  using bar_type = simulated_bar;
  using ring_order = thread_order;

  [[nodiscard]] config_view config() const noexcept {
    return detail::factory::make<config_view>(node_->fabric(), node_);
  }
  [[nodiscard]] pcie::requester_id id() const noexcept { return node_->id(); }

  // Errors: not_found where there is no such BAR, or it is the upper half of one.
  [[nodiscard]] result<simulated_bar> map_bar(unsigned index) noexcept {
    if (index >= pcie::type0_bars || node_->bar_bytes(index) == 0) {
      return failure(errc::not_found, "the simulated function has no such BAR").at(index);
    }
    return simulated_bar{*node_, index};
  }

  // The plain words of a BAR as memory, and where peers reach them by DMA. Errors: not_found where
  // there are none, not_ready while the BAR has no address.
  [[nodiscard]] result<dma_region> bar_memory(unsigned index) noexcept {
    if (index >= pcie::type0_bars || node_->words(index).empty()) {
      return failure(errc::not_found, "the BAR has no plain memory").at(index);
    }
    const std::uint64_t address = node_->words_address(index);
    if (address == 0) return failure(errc::not_ready, "the BAR has no address yet").at(index);
    return dma_region{std::as_writable_bytes(node_->words(index)), bus_addr{address}};
  }

  // From the memory of the simulated machine, which all functions of a fabric share.
  [[nodiscard]] result<dma_region> allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return node_->fabric().memory.allocate(bytes, alignment);
  }
  void release(dma_region region) noexcept { node_->fabric().memory.release(region); }

  // In single-step mode each relax() is a step of the fabric, and time passes with steps.
  [[nodiscard]] fabric_clock& clock() noexcept { return clock_; }

  [[nodiscard]] unsigned interrupt_vectors() const noexcept { return node_->vectors(); }
  // Programs and unmasks vectors 0 to count - 1 and switches MSI-X on.
  [[nodiscard]] result<> enable_interrupts(unsigned count) noexcept {
    if (count == 0 || count > interrupt_vectors()) {
      return failure(errc::out_of_range,
                     "the function has fewer MSI-X vectors, or none is asked for", count);
    }
    auto config = this->config();
    const auto capability = pcie::read_msix(config);
    if (!capability) return capability.error();
    auto table = pcie::msix_table<simulated_bar>::attach(
        simulated_bar{*node_, capability->table_bar}, *capability);
    if (!table) return table.error();
    for (unsigned i = 0; i != count; ++i) {
      static_cast<void>(node_->event(i).poll());
      table->program(i, {interrupt_window, i});
      table->unmask(i);
    }
    pcie::set_msix_control(config, *capability, true);
    return {};
  }
  // The vector sends this message from now on, which an IOMMU may turn into another, or which is a
  // write to memory. Errors: out_of_range.
  [[nodiscard]] result<> set_message(unsigned vector, const pcie::msi_message& message) noexcept {
    if (vector >= interrupt_vectors()) {
      return failure(errc::out_of_range, "the function has fewer MSI-X vectors", vector);
    }
    auto config = this->config();
    const auto capability = pcie::read_msix(config);
    if (!capability) return capability.error();
    auto table = pcie::msix_table<simulated_bar>::attach(
        simulated_bar{*node_, capability->table_bar}, *capability);
    if (!table) return table.error();
    table->program(vector, message);
    table->unmask(vector);
    return {};
  }
  [[nodiscard]] result<> disable_interrupts() noexcept {
    auto config = this->config();
    const auto capability = pcie::read_msix(config);
    if (!capability) return capability.error();
    pcie::set_msix_control(config, *capability, false);
    return {};
  }
  [[nodiscard]] bool poll_interrupt(unsigned vector) noexcept { return event(vector).poll(); }
  // Single-step mode steps the fabric meanwhile.
  [[nodiscard]] bool wait_interrupt(unsigned vector, std::uint64_t nanoseconds) noexcept {
    interrupt_event& e = event(vector);
    if (node_->fabric().threaded) return e.wait(nanoseconds);
    return poll_until(clock_, nanoseconds, [&]() noexcept { return e.poll(); });
  }

  // Function-level reset. Command register and BAR addresses are kept, as drivers expect whose
  // kernel restores them; interrupts are disabled.
  [[nodiscard]] result<> reset() noexcept {
    const detail::exclusive guard{node_->fabric(), *node_};
    if (node_->removed()) return failure(errc::removed, "the function was pulled out");
    const std::uint16_t command = node_->config_.read16(pcie::header::command);
    std::uint32_t bars[6];
    for (unsigned i = 0; i != 6; ++i) bars[i] = node_->config_.read(pcie::header::bar0 + 4 * i, 4);
    node_->function_reset();
    for (unsigned i = 0; i != 6; ++i) {
      static_cast<void>(node_->config_.write(pcie::header::bar0 + 4 * i, 4, bars[i]));
    }
    node_->config_.write16(pcie::header::command, command);
    return {};
  }

  // SR-IOV. Each virtual function that is on is a function of the fabric.
  [[nodiscard]] std::uint16_t total_virtual_functions() const noexcept {
    return node_->total_virtual();
  }
  // Errors: those of pcie::enable_virtual_functions.
  [[nodiscard]] result<> set_virtual_functions(std::uint16_t count) noexcept {
    auto config = this->config();
    const auto done = pcie::enable_virtual_functions(config, id(), count, clock_);
    if (!done) return done.error();
    return {};
  }
  // Errors: not_found where it is not on.
  [[nodiscard]] result<function> virtual_function(unsigned index) noexcept {
    const detail::exclusive guard{node_->fabric(), *node_};
    detail::function_node* const node = node_->virtual_function(index);
    if (node == nullptr) {
      return failure(errc::not_found, "the virtual function is not on", index);
    }
    return function{*node, clock_};
  }

  // The following members do not model a bus: with them tests break the device.

  // Activates the plan, with all its counts at 0. An empty plan ends it.
  void inject(const fault_plan& plan) noexcept {
    const detail::exclusive guard{node_->fabric(), *node_};
    node_->inject(plan);
  }
  [[nodiscard]] fault_counts injected() noexcept {
    const detail::exclusive guard{node_->fabric(), *node_};
    return node_->injected();
  }
  // Pulled out without notice: registers and configuration read all ones, writes and doorbells
  // vanish, no DMA and no interrupt any more.
  void remove() noexcept {
    const detail::exclusive guard{node_->fabric(), *node_};
    node_->set_removed(true);
  }
  // Put back, as after power-on: not enabled, BARs not placed.
  void insert() noexcept {
    const detail::exclusive guard{node_->fabric(), *node_};
    node_->function_reset();
    node_->set_removed(false);
  }
  [[nodiscard]] bool removed() const noexcept { return node_->removed(); }

  // One driver at a time: nvme::attach() claims the function, and a second attach is refused (busy).
  [[nodiscard]] result<> claim() noexcept {
    if (!node_->claim()) {
      return failure(errc::busy, "a driver is attached to the function already: detach it first");
    }
    return {};
  }
  void unclaim() noexcept { node_->release_claim(); }

 private:
  friend struct detail::factory;
  function(detail::function_node& node, fabric_clock clock) noexcept
      : node_(&node), clock_(clock) {}

  [[nodiscard]] interrupt_event& event(unsigned vector) const noexcept {
    PHASEBIT_EXPECTS(vector < interrupt_vectors(), "the function has fewer vectors");
    return node_->event(vector);
  }

  detail::function_node* node_;
  fabric_clock clock_;
};
static_assert(PcieBackend<function>);
static_assert(InterruptSource<function>);
static_assert(ResettableFunction<function>);
static_assert(SriovCapable<function>);

// A function with access to its model, for what only a simulation can do.
template <class Model>
class device : public function {
 public:
  // Calls `use(model)` while no other thread is in the model.
  template <class Use>
  decltype(auto) with_model(Use&& use) noexcept {
    const detail::exclusive guard{node_->fabric(), *node_};
    return std::forward<Use>(use)(*model_);
  }

 private:
  friend struct detail::factory;
  device(const function& f, detail::function_node& node, Model& model) noexcept
      : function(f), node_(&node), model_(&model) {}

  detail::function_node* node_;
  Model* model_;
};

}  // namespace phasebit::backend::simulated
