// SPDX-License-Identifier: BSL-1.0
// A PCIe fabric in this process: a root, ports, functions made of device models, and memory that
// both sides reach. A driver for hardware runs over it.
#pragma once

#include <phasebit/backend/simulated/config_view.hpp>
#include <phasebit/backend/simulated/detail/bus_node.hpp>
#include <phasebit/backend/simulated/detail/fabric_state.hpp>
#include <phasebit/backend/simulated/detail/model_node.hpp>
#include <phasebit/backend/simulated/device_model.hpp>
#include <phasebit/backend/simulated/device_port.hpp>
#include <phasebit/backend/simulated/dma_memory.hpp>
#include <phasebit/backend/simulated/dma_path.hpp>
#include <phasebit/backend/simulated/fabric_clock.hpp>
#include <phasebit/backend/simulated/function.hpp>
#include <phasebit/backend/simulated/function_description.hpp>
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
#include <utility>
#include <vector>

namespace phasebit::backend::simulated {

// A root port that functions are put behind. Valid as long as the fabric.
class port {
 public:
  [[nodiscard]] pcie::requester_id id() const noexcept { return node_->id(); }

 private:
  friend class fabric;
  explicit port(detail::port_node& node) noexcept : node_(&node) {}

  detail::port_node* node_;
};

// Begins in single-step mode: everything happens in the caller's thread, when step() or the clock's
// relax() is called, and the same way in every run. start() begins the threaded mode: threads of its
// own poll the devices, and drivers run in any others. Each model is entered by one thread at a
// time, and models run concurrently. Functions, BARs, memory and clocks taken from it are valid as
// long as it is. Set-up (add, start, stop, set_dma_path) is one thread's.
// Models ConfigAccess: enumeration can walk it.
class fabric {
 public:
  explicit fabric(const fabric_options& options = {}) noexcept : state_(options) {}
  fabric(const fabric&) = delete;
  fabric& operator=(const fabric&) = delete;
  ~fabric() {
    stop();
    for (detail::bus_node* n = state_.first; n != nullptr;)
      delete std::exchange(n, n->next_.load());
  }

  // Puts a function onto the root bus. `make(const device_port&)` gives its model, which may be
  // immovable; what it keeps of the port is valid as long as the model. Errors: invalid_argument
  // (BARs that PCI cannot express), already_exists (the place is taken), exhausted (memory).
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
  // ... behind a port, with SR-IOV: setting VF Enable creates NumVFs virtual functions, and
  // clearing it takes them off the bus. `make_virtual(const device_port&, unsigned index)` creates
  // a virtual function's model when it first appears, and is kept by value. The BARs of
  // `virtual_description` are those of `description.pci.sriov`. Further error: overlap (a routing
  // ID of a virtual function belongs to another function).
  template <class Make, class MakeVirtual>
    requires std::is_nothrow_invocable_v<Make&, const device_port&> &&
             DeviceModel<std::invoke_result_t<Make&, const device_port&>> &&
             std::is_nothrow_invocable_v<MakeVirtual&, const device_port&, unsigned> &&
             DeviceModel<std::invoke_result_t<MakeVirtual&, const device_port&, unsigned>>
  [[nodiscard]] auto add(port behind, const function_description& description, Make&& make,
                         const function_description& virtual_description,
                         MakeVirtual make_virtual) noexcept {
    return add_physical(behind.node_, description, make, virtual_description,
                        std::move(make_virtual));
  }

  // A root port at this device number, its bus numbered as firmware would have done it (the
  // numbers may be reassigned by enumeration). Errors: already_exists, exhausted.
  [[nodiscard]] result<port> add_port(std::uint8_t device) noexcept {
    PHASEBIT_EXPECTS(device < 32, "device is below 32");
    auto* const node = new (std::nothrow) detail::port_node(device);
    if (node == nullptr) return no_memory();
    const auto prepared = node->prepare();
    const std::uint32_t bus = next_bus_;
    node->config_.write32(pcie::bridge_header::primary_bus, bus << 8 | bus << 16);
    const auto linked = prepared ? link(*node) : prepared;
    if (!linked) {
      delete node;
      return linked.error();
    }
    ++next_bus_;
    return port{*node};
  }

  // The function at this routing ID, by the bus numbers that the ports have now.
  [[nodiscard]] config_view function(pcie::requester_id id) noexcept {
    return detail::factory::make<config_view>(state_, state_.find(id));
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

  // Starts device threads. No other thread uses the fabric during start() and stop(). Errors: io
  // where the system gives no thread.
  [[nodiscard]] result<> start(unsigned threads = 1) noexcept {
    PHASEBIT_EXPECTS(!state_.threaded, "the device threads run already");
    PHASEBIT_EXPECTS(threads != 0, "the threaded mode has at least one device thread");
    stopping_.store(false, std::memory_order_relaxed);
    state_.threaded = true;
    if (!launch(threads)) {
      stop();
      state_.threaded = false;
      return failure(errc::io, "the system gave no thread for the simulated devices");
    }
    return {};
  }
  // Back to single-step mode; devices stay as they are. Does nothing where no thread runs.
  void stop() noexcept {
    if (threads_.empty()) return;
    stopping_.store(true, std::memory_order_relaxed);
    for (std::thread& t : threads_) t.join();
    threads_.clear();
    state_.threaded = false;
  }
  [[nodiscard]] bool threaded() const noexcept { return state_.threaded; }
  [[nodiscard]] fabric_clock& clock() noexcept { return clock_; }

  [[nodiscard]] dma_memory& memory() noexcept { return state_.memory; }
  // Physical addresses to pointers: for a dma_path of one's own.
  [[nodiscard]] const class address_map& address_map() const noexcept { return state_.map; }
  // Where every DMA goes from now on; null is straight to physical addresses again. The path outlives
  // its use. Not from within a device.
  void set_dma_path(dma_path* path) noexcept {
    state_.replace(state_.path, path != nullptr ? path : &state_.direct);
  }
  // ... where DMA of the functions behind a port goes; null is the fabric's path.
  void set_dma_path(port of, dma_path* path) noexcept { state_.replace(of.node_->path_, path); }
  // Delivers an IOMMU's message to the function that it names; one to nowhere vanishes.
  void deliver(const iommu::ats_invalidate& message) noexcept {
    if (auto* const node = state_.find(message.device)) node->deliver(message);
  }
  void deliver(const iommu::pri_response& message) noexcept {
    if (auto* const node = state_.find(message.device)) node->deliver(message);
  }
  // DMA that failed, of all functions.
  [[nodiscard]] dma_fault_log& dma_faults() noexcept { return state_.faults; }

 private:
  template <class Make, class Model = std::invoke_result_t<Make&, const device_port&>>
  [[nodiscard]] result<device<Model>> add_below(detail::port_node* parent,
                                                const function_description& d,
                                                Make& make) noexcept {
    if (const auto sound = check(d, parent != nullptr); !sound) return sound.error();
    if (d.pci.sriov) {
      return failure(errc::invalid_argument,
                     "a function with SR-IOV is added with what makes its virtual functions");
    }
    return finish<Model>(parent, d, make,
                         new (std::nothrow) detail::model_node<Model>(state_, d, routing(d)));
  }
  template <class Make, class MakeVirtual,
            class Model = std::invoke_result_t<Make&, const device_port&>>
  [[nodiscard]] result<device<Model>> add_physical(detail::port_node* parent,
                                                   const function_description& d, Make& make,
                                                   const function_description& virtual_description,
                                                   MakeVirtual&& make_virtual) noexcept {
    if (const auto sound = check(d, true); !sound) return sound.error();
    if (!d.pci.sriov || d.pci.sriov->total_vfs == 0 || d.pci.sriov->first_vf_offset == 0) {
      return failure(errc::invalid_argument, "the description has no SR-IOV capability");
    }
    auto vf = virtual_description;
    vf.pci.bars = d.pci.sriov->vf_bars;
    if (const auto sound = check_words(vf); !sound) return sound.error();
    auto made =
        finish<Model>(parent, d, make,
                      new (std::nothrow) detail::physical_node<Model, MakeVirtual>(
                          state_, d, routing(d), vf, std::forward<MakeVirtual>(make_virtual)));
    // Firmware lets configuration requests for device numbers above 0 through.
    if (made && d.enabled) parent->forward_ari();
    return made;
  }
  template <class Model, class Make>
  [[nodiscard]] result<device<Model>> finish(detail::port_node* parent,
                                             const function_description& d, Make& make,
                                             detail::model_node<Model>* node) noexcept {
    if (node == nullptr) return no_memory();
    node->parent_ = parent;
    const auto prepared = node->prepare(d);
    if (!prepared) {
      delete node;
      return prepared.error();
    }
    node->make_model(make, detail::factory::make<device_port>(*node, unsigned{d.register_bar}));
    if (d.enabled) place(*node, d.pci);
    const auto linked = link(*node);
    if (!linked) {
      delete node;
      return linked.error();
    }
    return detail::factory::make<device<Model>>(
        detail::factory::make<backend::simulated::function>(*node, clock()), *node, node->model());
  }
  [[nodiscard]] static std::uint32_t routing(const function_description& d) noexcept {
    return (std::uint32_t{d.device} << 3) + d.function;
  }

  [[nodiscard]] static error no_memory() noexcept {
    return failure(errc::exhausted, "no memory for a simulated function");
  }

  [[nodiscard]] static result<> check(const function_description& d, bool behind_port) noexcept {
    const unsigned most = d.pci.ari_next_function ? 255 : 7;
    if (d.device > 31 || d.function > most || (d.function > 7 && d.device != 0) ||
        (behind_port && d.device != 0)) {
      return failure(
          errc::invalid_argument,
          "no function can be there: device below 32 (0 behind a port), function below 8 "
          "(256 with ARI, device 0)");
    }
    if (d.register_bar >= pcie::type0_bars || d.pci.virtual_function) {
      return failure(errc::invalid_argument,
                     "the registers are in BAR 0 to 5 of a physical function", d.register_bar);
    }
    return check_words(d);
  }
  [[nodiscard]] static result<> check_words(const function_description& d) noexcept {
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

  // The steps of firmware: an address for each BAR, then memory space and bus mastering on.
  void place(detail::function_node& node, const pcie::function_description& d) noexcept {
    place_bars(node, pcie::header::bar0, d.bars, 1);
    if (d.sriov) {
      place_bars(node, static_cast<std::uint16_t>(node.layout().sriov + pcie::sriov::vf_bar0),
                 d.sriov->vf_bars, d.sriov->total_vfs);
    }
    node.config_.write16(pcie::header::command,
                         pcie::command_register{}
                             .with(pcie::command_register::memory_space, true)
                             .with(pcie::command_register::bus_master, true)
                             .raw);
  }
  void place_bars(detail::function_node& node, std::uint16_t first,
                  const pcie::bar_descriptions& bars, unsigned count) noexcept {
    for (unsigned i = 0; i != bars.size(); ++i) {
      if (bars[i].kind != pcie::bar_kind::memory32 && bars[i].kind != pcie::bar_kind::memory64) {
        continue;
      }
      const bool wide = bars[i].kind == pcie::bar_kind::memory64;
      std::uint64_t& next = wide ? next_wide_ : next_narrow_;
      next = align_up(next, bars[i].size);
      const auto at = static_cast<std::uint16_t>(first + 4 * i);
      node.config_.write32(at, static_cast<std::uint32_t>(next));
      if (wide) {
        node.config_.write32(static_cast<std::uint16_t>(at + 4),
                             static_cast<std::uint32_t>(next >> 32));
      }
      next += bars[i].size * count;
    }
  }

  [[nodiscard]] result<> link(detail::bus_node& node) noexcept {
    const std::lock_guard guard{state_.list_lock};
    bool siblings = false;
    for (detail::bus_node* n = state_.first; n != nullptr; n = n->next_) {
      if (n->parent() != node.parent()) continue;
      if (n->reserves(node.routing())) {
        return failure(errc::already_exists, "there is a function at this place of the bus",
                       node.routing());
      }
      if (node.reserves(n->routing())) {
        return failure(errc::overlap, "a virtual function would be where another function is",
                       n->routing());
      }
      siblings = siblings || n->routing() >> 3 == node.routing() >> 3;
    }
    detail::append(state_.first, node);
    if (!siblings) return {};
    for (detail::bus_node* n = state_.first; n != nullptr; n = n->next_) {
      if (n->parent() != node.parent() || n->routing() >> 3 != node.routing() >> 3) continue;
      n->set_multi_function();
    }
    return {};
  }

  [[nodiscard]] bool launch(unsigned threads) noexcept {
    const auto all = [&] {
      threads_.reserve(threads);
      while (threads_.size() != threads) threads_.emplace_back([this]() noexcept { serve(); });
    };
#if defined(__cpp_exceptions)
    try {
      all();
    } catch (...) {
      return false;
    }
#else
    all();
#endif
    return true;
  }

  // A doorbell is a store and wakes no thread: the device threads keep polling, the less often the
  // longer nothing happened.
  void serve() noexcept {
    for (unsigned idle = 0; !stopping_.load(std::memory_order_relaxed);) {
      const unsigned work = state_.poll_all();
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
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  std::uint8_t next_bus_ = 1;
  std::uint64_t next_narrow_ = 0xc000'0000;
  std::uint64_t next_wide_ = 0x40'0000'0000;
};
static_assert(ConfigAccess<fabric>);

}  // namespace phasebit::backend::simulated
