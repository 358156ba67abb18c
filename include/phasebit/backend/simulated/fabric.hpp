// SPDX-License-Identifier: BSL-1.0
// A PCIe fabric in this process: a root, ports, functions made of device models, and memory that
// both sides reach. What runs over it is the driver that runs over hardware.
#pragma once

#include <phasebit/backend/simulated/bus_node.hpp>
#include <phasebit/backend/simulated/config_view.hpp>
#include <phasebit/backend/simulated/device_model.hpp>
#include <phasebit/backend/simulated/device_port.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fabric_clock.hpp>
#include <phasebit/backend/simulated/fabric_state.hpp>
#include <phasebit/backend/simulated/function.hpp>
#include <phasebit/backend/simulated/function_description.hpp>
#include <phasebit/backend/simulated/model_node.hpp>
#include <phasebit/core/align.hpp>
#include <phasebit/core/ordering.hpp>
#include <phasebit/core/result.hpp>
#include <phasebit/pcie/concepts.hpp>
#include <phasebit/pcie/spec/header.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>

namespace phasebit::backend::simulated {

// A root port that functions are put behind. Valid as long as the fabric.
class port {
 public:
  explicit port(detail::bus_node& node) noexcept : node_(&node) {}

  [[nodiscard]] pcie::requester_id id() const noexcept { return node_->id(); }

 private:
  friend class fabric;
  detail::bus_node* node_;
};

// Begins in single-step mode: everything happens in the caller's thread, when step() or the clock's
// relax() says so, and the same way in every run. start() begins the threaded mode: one thread of
// its own polls the devices, and drivers run in any others. Functions, BARs, memory and clocks
// taken from it are valid as long as it is. Set-up (add, start, stop, set_dma_path) is one thread's.
// Models ConfigAccess: enumeration can walk it.
class fabric {
 public:
  explicit fabric(const fabric_options& options = {}) noexcept : state_(options) {}
  fabric(const fabric&) = delete;
  fabric& operator=(const fabric&) = delete;
  ~fabric() {
    stop();
    destroy(state_.first);
  }

  // Puts a function onto the root bus. `make(const device_port&)` gives its model, which may be
  // immovable; what it keeps of the port is valid as long as the model. Errors: invalid_argument
  // (BARs that PCI can not express), already_exists (the place is taken), exhausted (memory).
  template <class Make>
    requires std::is_nothrow_invocable_v<Make&, const device_port&> &&
             DeviceModel<std::invoke_result_t<Make&, const device_port&>>
  [[nodiscard]] auto add(const function_description& description, Make&& make) noexcept {
    return add_below(nullptr, description, make);
  }
  // ... behind a port.
  template <class Make>
    requires std::is_nothrow_invocable_v<Make&, const device_port&> &&
             DeviceModel<std::invoke_result_t<Make&, const device_port&>>
  [[nodiscard]] auto add(port behind, const function_description& description,
                         Make&& make) noexcept {
    return add_below(behind.node_, description, make);
  }

  // A root port at this device number, its bus numbered as firmware would have done it (the
  // numbers may be given anew by enumeration). Errors: already_exists, exhausted.
  [[nodiscard]] result<port> add_port(std::uint8_t device) noexcept {
    PHASEBIT_EXPECTS(device < 32, "device is below 32");
    auto* const node = new (std::nothrow) detail::port_node(device);
    if (node == nullptr) return no_memory();
    const auto prepared = node->prepare();
    const std::uint32_t bus = next_bus_;
    node->config_.write32(pcie::bridge_header::primary_bus, bus << 8 | bus << 16);
    const auto linked = prepared ? link(nullptr, *node) : prepared;
    if (!linked) {
      delete node;
      return linked.error();
    }
    ++next_bus_;
    return port{*node};
  }

  // Whatever is at this place of the bus, by the bus numbers that the ports have now.
  [[nodiscard]] config_view function(pcie::requester_id id) noexcept {
    const detail::exclusive guard{state_};
    return {state_, find(state_.first, 0, id)};
  }

  // Single-step mode: every device polls once, and step_ns of simulated time pass. Returns how much
  // the devices did.
  unsigned step() noexcept { return state_.step(); }
  // Steps until a step does nothing, at most `limit` times; returns how much was done.
  unsigned settle(unsigned limit = 1'000'000) noexcept {
    unsigned total = 0;
    for (unsigned i = 0; i != limit; ++i) {
      const unsigned work = step();
      if (work == 0) break;
      total += work;
    }
    return total;
  }

  // Starts the device thread. Nobody else uses the fabric during start() and stop(). Errors: io
  // where the system gives no thread.
  [[nodiscard]] result<> start() noexcept {
    PHASEBIT_EXPECTS(!state_.threaded, "the device thread runs already");
    stopping_.store(false, std::memory_order_relaxed);
    state_.threaded = true;
    if (!launch()) {
      state_.threaded = false;
      return failure(errc::io, "the system gave no thread for the simulated devices");
    }
    return {};
  }
  // Back to single-step mode; devices stay as they are. Does nothing where no thread runs.
  void stop() noexcept {
    if (!thread_.joinable()) return;
    stopping_.store(true, std::memory_order_relaxed);
    thread_.join();
    state_.threaded = false;
  }
  [[nodiscard]] bool threaded() const noexcept { return state_.threaded; }
  [[nodiscard]] fabric_clock& clock() noexcept { return clock_; }

  [[nodiscard]] dma_memory& memory() noexcept { return state_.memory; }
  // Physical addresses to pointers: for a dma_path of one's own.
  [[nodiscard]] const class address_map& address_map() const noexcept { return state_.map; }
  // Where every DMA goes from now on; null is straight to physical addresses again. The path outlives its use.
  void set_dma_path(dma_path* path) noexcept {
    const detail::exclusive guard{state_};
    state_.path = path != nullptr ? path : &state_.direct;
  }
  // Calls use() while the device thread is kept out: for what stands beside the devices and is asked
  // by drivers, as an IOMMU's registers are. Not from within a device, nor from within itself.
  template <class Use>
  decltype(auto) with_devices_held(Use&& use) noexcept {
    const detail::exclusive guard{state_};
    return static_cast<Use&&>(use)();
  }
  // DMA that failed, of all functions.
  [[nodiscard]] dma_fault_log& dma_faults() noexcept { return state_.faults; }

 private:
  template <class Make, class Model = std::invoke_result_t<Make&, const device_port&>>
  [[nodiscard]] result<device<Model>> add_below(detail::bus_node* parent,
                                                const function_description& d,
                                                Make& make) noexcept {
    const auto sound = check(d, parent != nullptr);
    if (!sound) return sound.error();
    auto* const node = new (std::nothrow) detail::model_node<Model>(state_, d);
    if (node == nullptr) return no_memory();
    const auto prepared = node->prepare(d);
    if (!prepared) {
      delete node;
      return prepared.error();
    }
    node->make_model(make, device_port{*node, d.register_bar});
    if (d.enabled) place(*node, d.pci.bars);
    const auto linked = link(parent, *node);
    if (!linked) {
      delete node;
      return linked.error();
    }
    const backend::simulated::function driver{*node, clock()};
    return device<Model>{driver, *node, node->model()};
  }

  [[nodiscard]] static error no_memory() noexcept {
    return failure(errc::exhausted, "no memory for a simulated function");
  }

  [[nodiscard]] static result<> check(const function_description& d, bool behind_port) noexcept {
    if (d.device > 31 || d.function > 7 || (behind_port && d.device != 0)) {
      return failure(
          errc::invalid_argument,
          "no function can be there: device below 32 (0 behind a port), function below 8");
    }
    if (d.register_bar >= pcie::type0_bars || d.pci.virtual_function) {
      return failure(errc::invalid_argument,
                     "the registers are in BAR 0 to 5 of a physical function", d.register_bar);
    }
    for (std::uint32_t i = 0; i != pcie::type0_bars; ++i) {
      const plain_words& w = d.words[i];
      const std::uint64_t size = d.pci.bars[i].size;
      if (w.offset > size || w.bytes > size - w.offset || w.offset % 64 != 0 || w.bytes % 64 != 0) {
        return failure(errc::invalid_argument,
                       "plain words lie in their BAR, offset and size multiples of 64", w.offset)
            .at(i);
      }
    }
    return {};
  }

  // What firmware does: an address for each BAR, then memory space and bus mastering on.
  void place(detail::function_node& node, const pcie::bar_descriptions& bars) noexcept {
    for (unsigned i = 0; i != bars.size(); ++i) {
      if (bars[i].kind != pcie::bar_kind::memory32 && bars[i].kind != pcie::bar_kind::memory64) {
        continue;
      }
      const bool wide = bars[i].kind == pcie::bar_kind::memory64;
      std::uint64_t& next = wide ? next_wide_ : next_narrow_;
      next = align_up(next, bars[i].size);
      const auto at = static_cast<std::uint16_t>(pcie::header::bar0 + 4 * i);
      node.config_.write32(at, static_cast<std::uint32_t>(next));
      if (wide) {
        node.config_.write32(static_cast<std::uint16_t>(at + 4),
                             static_cast<std::uint32_t>(next >> 32));
      }
      next += bars[i].size;
    }
    node.config_.write16(pcie::header::command,
                         pcie::command_register{}
                             .with(pcie::command_register::memory_space, true)
                             .with(pcie::command_register::bus_master, true)
                             .raw);
  }

  [[nodiscard]] result<> link(detail::bus_node* parent, detail::bus_node& node) noexcept {
    const detail::exclusive guard{state_};
    detail::bus_node** at = parent != nullptr ? &parent->first_child_ : &state_.first;
    bool siblings = false;
    for (detail::bus_node* n = *at; n != nullptr; n = n->next_) {
      if (n->devfn() == node.devfn()) {
        return failure(errc::already_exists, "there is a function at this place of the bus",
                       node.devfn());
      }
      siblings = siblings || n->devfn() >> 3 == node.devfn() >> 3;
    }
    while (*at != nullptr) at = &(*at)->next_;
    *at = &node;
    node.parent_ = parent;
    if (siblings) {
      for (detail::bus_node* n = parent != nullptr ? parent->first_child_ : state_.first;
           n != nullptr; n = n->next_) {
        if (n->devfn() >> 3 == node.devfn() >> 3) n->set_multi_function();
      }
    }
    return {};
  }

  [[nodiscard]] static detail::bus_node* find(detail::bus_node* node, std::uint8_t bus,
                                              pcie::requester_id id) noexcept {
    for (; node != nullptr; node = node->next_) {
      if (bus == id.bus()) {
        if (node->devfn() == (id.raw() & 0xff)) return node;
      } else if (node->is_port()) {
        // A port passes on what lies in its range of buses; an unnumbered one leads nowhere.
        const std::uint8_t below = node->config_.read8(pcie::bridge_header::secondary_bus);
        const std::uint8_t last = node->config_.read8(pcie::bridge_header::subordinate_bus);
        if (below != 0 && below <= id.bus() && id.bus() <= last) {
          return find(node->first_child_, below, id);
        }
      }
    }
    return nullptr;
  }

  static void destroy(detail::bus_node* node) noexcept {
    while (node != nullptr) {
      detail::bus_node* const next = node->next_;
      destroy(node->first_child_);
      delete node;
      node = next;
    }
  }

  [[nodiscard]] bool launch() noexcept {
#if defined(__cpp_exceptions)
    try {
      thread_ = std::thread{[this]() noexcept { serve(); }};
    } catch (...) {
      return false;
    }
#else
    thread_ = std::thread{[this]() noexcept { serve(); }};
#endif
    return true;
  }

  // A doorbell is a store that wakes nobody, so the thread keeps looking; the longer nothing
  // happened, the less often.
  void serve() noexcept {
    for (unsigned idle = 0; !stopping_.load(std::memory_order_relaxed);) {
      unsigned work = 0;
      {
        const std::lock_guard guard{state_.lock};
        work = state_.poll_all();
      }
      idle = work != 0 ? 0 : idle + 1;
      if (idle > 20'000) {
        idle = 20'000;
        std::this_thread::sleep_for(std::chrono::microseconds{50});
      } else if (idle > 64) {
        std::this_thread::yield();
      } else {
        cpu_relax();
      }
    }
  }

  detail::fabric_state state_;
  fabric_clock clock_{state_};
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::uint8_t next_bus_ = 1;
  std::uint64_t next_narrow_ = 0xc000'0000;
  std::uint64_t next_wide_ = 0x40'0000'0000;
};
static_assert(ConfigAccess<fabric>);

}  // namespace phasebit::backend::simulated
